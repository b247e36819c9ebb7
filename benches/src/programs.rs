//! The programs that are measured: built as they ship, started on another core than the client.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use e2e::server::Ready;
use e2e::signer::{Call, sign};
use functions::system::System;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Request};
use http_body_util::Full;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;

use crate::measure::{CpuClock, memory, spawn_on_other_core};

/// Builds with the release profile. Build one package at a time, because packages that are built together share
/// their features.
pub fn build(arguments: &[&str]) {
    let mut cargo = Command::new("cargo");
    let built = cargo.args(["build", "--quiet", "--release"]).args(arguments).status();
    assert!(built.unwrap().success(), "{arguments:?} does not build");
}

/// Builds the local server as a release has it: for the counts of its branches under a load.
pub fn build_released_server() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/packages/build");
    let built = Command::new(script).arg("program").stdout(Stdio::null()).status();
    assert!(built.unwrap().success(), "the local server does not build");
}

/// The local server as a release has it.
pub fn released_server() -> PathBuf {
    target_directory().join("packages/program/acs-identity")
}

/// A program of the release profile.
pub fn program(name: &str) -> PathBuf {
    target_directory().join("release").join(name)
}

/// The directory of a program's state.
pub fn state_directory(name: &str) -> PathBuf {
    target_directory().join("benches").join(name)
}

/// An empty directory for a program's state.
pub fn scratch(name: &str) -> PathBuf {
    let path = state_directory(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn target_directory() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// A server that is running.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub cpu: CpuClock,
    /// The access key that signs requests. The echo server does not check signatures.
    access_key: String,
}

impl Server {
    /// The local server of a release over a state directory.
    pub fn local(state: &Path, algorithm: Algorithm) -> Self {
        Self::local_of(Command::new(released_server()), state, algorithm)
    }

    /// The same, started by this command.
    pub fn local_of(mut command: Command, state: &Path, algorithm: Algorithm) -> Self {
        command.args(["--https-port", "0", "--http-port", "0", "--algorithm", algorithm.as_str()]);
        command.arg("--data-dir").arg(state).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn_on_other_core(&mut command);
        let ready = Ready::wait(state, &mut child).unwrap_or_else(|| panic!("{command:?} ended"));
        let port = ready.http_address().rsplit_once(':').unwrap().1.parse().unwrap();
        Self::new(child, port, access_key(&variables(state)))
    }

    /// The floor of a server, started by this command.
    pub fn echo(mut command: Command) -> Self {
        Self::floor(&mut command)
    }

    /// The floor of a server that reads the store, started by this command: one identity in the state of a local server
    /// that has ended. `crypto` is empty, or `sign` or `verify` and the algorithm.
    pub fn store_echo(mut command: Command, state: &Path, identity: &str, crypto: &[&str]) -> Self {
        Self::floor(command.arg(state).arg(identity).args(crypto))
    }

    /// A program that prints its port in its first line, and then prints no more.
    fn floor(command: &mut Command) -> Self {
        let mut child = spawn_on_other_core(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port =
            line.trim_end().strip_prefix("HTTP on http://localhost:").and_then(|rest| rest.strip_suffix('/'));
        let port = port.unwrap_or_else(|| panic!("{command:?} ended"));
        Self::new(child, port.parse().unwrap(), String::new())
    }

    /// A program that prints one line of JSON, and then becomes a server. Returns the JSON.
    ///
    /// # Errors
    /// The last line of standard error, when the program ends instead.
    pub fn peer(command: &mut Command) -> Result<(Self, serde_json::Value), String> {
        let mut child = spawn_on_other_core(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let mut line = String::new();
        let mut printed_lines = BufReader::new(child.stdout.take().unwrap());
        printed_lines.read_line(&mut line).unwrap();
        if let Ok(printed) = serde_json::from_str(&line) {
            let mut messages = child.stderr.take().unwrap();
            // A full or a closed pipe would stop the server.
            std::thread::spawn(move || std::io::copy(&mut messages, &mut std::io::sink()));
            std::thread::spawn(move || std::io::copy(&mut printed_lines, &mut std::io::sink()));
            return Ok((Self::new(child, 0, String::new()), printed));
        }
        let output = child.wait_with_output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(messages.lines().last().unwrap_or("it ended without a message").to_owned())
    }

    fn new(child: Child, port: u16, access_key: String) -> Self {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Self { cpu: CpuClock::of(&child), child, address, access_key }
    }

    /// A signed request with a body of JSON.
    pub fn signed(&self, target: &str, body: &str) -> Request<Full<Bytes>> {
        let host = format!("localhost:{}", self.address.port());
        let call = Call { method: "POST", target, body };
        let headers = sign(&call, &self.access_key, &host, System::new().now()).headers;
        request(target, headers, body)
    }

    /// The process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in MB.
    pub fn resident(&self) -> f64 {
        memory(&self.child, "VmRSS")
    }

    /// The peak of resident memory, in MB.
    pub fn peak(&self) -> f64 {
        memory(&self.child, "VmHWM")
    }
}

/// A request with a body of JSON, to `localhost` unless a header says otherwise.
pub fn request(target: &str, headers: HeaderMap, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(target).body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    *request.headers_mut() = headers;
    request.headers_mut().entry(HOST).or_insert(HeaderValue::from_static("localhost"));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// Ends the server with its measurement.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The variables that the local server writes for its clients.
pub fn variables(state: &Path) -> HashMap<String, String> {
    let text = fs::read_to_string(state.join("env")).unwrap();
    let values = text.lines().filter_map(|line| line.split_once('='));
    values.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect()
}

fn access_key(variables: &HashMap<String, String>) -> String {
    variables["COMMUNICATION_SERVICES_CONNECTION_STRING"].split_once("accesskey=").unwrap().1.to_owned()
}
