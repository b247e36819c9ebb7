//! The local server as a user runs it: a process with a state directory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

/// A running server.
pub struct Server {
    child: Child,
    log: PathBuf,
    printed: PathBuf,
    /// The text that the server printed before it was ready.
    pub start_page: String,
    /// The values of the `env` file.
    pub env: HashMap<String, String>,
    /// The content of `ready.json`.
    pub ready: Ready,
}

/// The signal `ready.json` of a running server.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ready {
    pub version: String,
    pub pid: u32,
    pub endpoints: HashMap<String, String>,
    pub resource_id: String,
}

impl Ready {
    /// Waits until this process has written its signal into a state directory. `None` if the process ends before.
    /// The signal of an earlier process does not count.
    ///
    /// # Panics
    /// When the file cannot be read.
    pub fn wait(state: &Path, child: &mut Child) -> Option<Self> {
        let path = state.join("ready.json");
        loop {
            if let Ok(text) = fs::read(&path) {
                let ready: Self = serde_json::from_slice(&text).unwrap();
                if ready.pid == child.id() {
                    return Some(ready);
                }
            }
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Host and port of plain HTTP.
    ///
    /// # Panics
    /// When the server has no such endpoint.
    pub fn http_address(&self) -> &str {
        self.endpoints["http"].strip_prefix("http://").unwrap().trim_end_matches('/')
    }
}

/// The program, built from this source, because an older build would test something else.
///
/// # Panics
/// When the program does not build.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "--package", "acs-identity", "--bin", "acs-identity"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the local server does not build");
        profile.join("acs-identity")
    })
}

/// The path of a state directory that does not exist yet, for a test.
///
/// # Panics
/// When its parent directory cannot be created.
pub fn state_directory(scratch: &str, test: &str) -> PathBuf {
    let path = Path::new(scratch).join(test);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    path.join("state")
}

/// Sends a request in its bytes over a connection of its own, and returns the reply.
///
/// # Panics
/// When the server cannot be reached, or the reply is not text.
pub fn exchange(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// Runs the program until it ends.
///
/// # Panics
/// When the program cannot be run.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

impl Server {
    /// Starts a server over a state directory, on free ports unless the arguments name some.
    ///
    /// # Panics
    /// When the server ends before it is ready.
    pub fn start(state: &Path, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(program()), state, arguments)
    }

    /// As [`Self::start`], after a command of the shell, such as `umask 000` or `ulimit -n 256`.
    ///
    /// # Panics
    /// When the server ends before it is ready.
    pub fn start_after(setting: &str, state: &Path, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{setting}; exec \"$0\" \"$@\"")).arg(program());
        Self::spawn(shell, state, arguments)
    }

    fn spawn(mut command: Command, state: &Path, arguments: &[&str]) -> Self {
        let (log, printed) = (state.with_extension("log"), state.with_extension("out"));
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        for port in ["--https-port", "--http-port"].into_iter().filter(|port| !arguments.contains(port)) {
            command.args([port, "0"]);
        }
        let mut child = command
            .arg("--data-dir")
            .arg(state)
            .args(arguments)
            .stdout(File::create(&printed).unwrap())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let Some(ready) = Ready::wait(state, &mut child) else {
            panic!("the server ended: {}", fs::read_to_string(&log).unwrap());
        };
        let start_page = fs::read_to_string(&printed).unwrap();
        Self { child, log, printed, start_page, env: read_env(&state.join("env")), ready }
    }

    /// One value of the `env` file.
    ///
    /// # Panics
    /// When the value is missing.
    pub fn value(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("env lacks {name}"))
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.log.with_extension("")
    }

    /// The standard error of every server so far that used this state directory.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// A command with the values of the `env` file in its environment.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(&self.env);
        command
    }

    /// Stops the server as Ctrl-C does. Returns its exit status and the text it printed after the start page.
    ///
    /// # Panics
    /// When the server cannot be stopped.
    pub fn stop(mut self) -> (ExitStatus, String) {
        let killed = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let status = self.child.wait().unwrap();
        let printed = fs::read_to_string(&self.printed).unwrap();
        (status, printed.strip_prefix(&self.start_page).unwrap().to_owned())
    }
}

/// Ends the server with its test.
impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_env(path: &Path) -> HashMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let parse = |line: &str| {
        let (name, value) = line.split_once("='").unwrap();
        (name.to_owned(), value.strip_suffix('\'').unwrap().to_owned())
    };
    text.lines().map(parse).collect()
}
