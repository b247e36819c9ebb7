//! The local server as a user runs it: a process with a state directory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

/// A running server.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    /// What was printed before it was ready.
    pub start_page: String,
    /// The values of the `env` file.
    pub env: HashMap<String, String>,
}

/// The program, built by this very source: a stale one would test something else.
///
/// # Panics
/// When it cannot be built.
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

/// A fresh state directory for a test.
///
/// # Panics
/// When it cannot be made.
pub fn state_directory(scratch: &str, test: &str) -> PathBuf {
    let path = Path::new(scratch).join(test);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    path.join("state")
}

/// Runs the program to its end.
///
/// # Panics
/// When it cannot be run.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

impl Server {
    /// Starts a server over a state directory, on free ports unless the arguments name some.
    ///
    /// # Panics
    /// When it ends instead of becoming ready.
    pub fn start(state: &Path, arguments: &[&str]) -> Self {
        let log = state.with_extension("log");
        let stderr = File::options().create(true).append(true).open(&log).unwrap();
        let mut child = Command::new(program())
            .args(["--https-port", "0", "--http-port", "0", "--data-dir"])
            .arg(state)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut start_page = String::new();
        while !start_page.contains("Ctrl-C") {
            if stdout.read_line(&mut start_page).unwrap() == 0 {
                panic!("the server ended: {}", fs::read_to_string(&log).unwrap());
            }
        }
        Self { child, stdout, start_page, env: read_env(&state.join("env")), log }
    }

    /// One value of the `env` file.
    ///
    /// # Panics
    /// When it is not there.
    pub fn value(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("env lacks {name}"))
    }

    /// Host and port of plain HTTP, as the start page tells.
    ///
    /// # Panics
    /// When it is not there.
    pub fn http_address(&self) -> String {
        let (_, rest) = self.start_page.split_once("(HTTP on http://").unwrap();
        rest.split_once('/').unwrap().0.to_owned()
    }

    /// Everything written to standard error so far, by every server of this state directory.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// A command that has the `env` file's values, and nothing else of the kind.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(&self.env);
        command
    }

    /// Stops it as Ctrl-C does. Returns how it ended and what it printed at last.
    ///
    /// # Panics
    /// When it cannot be stopped.
    pub fn stop(mut self) -> (ExitStatus, String) {
        let killed = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap(), rest)
    }
}

/// No server outlives its test.
impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already after `stop`.
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
