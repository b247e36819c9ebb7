//! The programs that are measured: built as they ship, started on a core of their own.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;
use e2e::signer::{Call, sign};
use functions::system::System;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request};
use http_body_util::Full;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;

use crate::measure::{CpuClock, memory, spawn_on_other_core};

/// Builds with the release profile. Call this for one package at a time, because packages in one build share features.
pub fn build(arguments: &[&str]) {
    let mut cargo = Command::new("cargo");
    let built = cargo.args(["build", "--quiet", "--release"]).args(arguments).status();
    assert!(built.unwrap().success(), "{arguments:?} does not build");
}

/// A program of the release profile.
pub fn program(name: &str) -> PathBuf {
    target_directory().join("release").join(name)
}

/// An empty directory for a program's state.
pub fn scratch(name: &str) -> PathBuf {
    let path = target_directory().join("benches").join(name);
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
    // What it prints at its end needs a reader.
    _stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
    pub cpu: CpuClock,
    /// The access key that requests are signed with; the echo server does not look.
    access_key: String,
}

impl Server {
    /// The local server over a state directory.
    pub fn local(state: &Path, algorithm: Algorithm) -> Self {
        let mut command = Command::new(program("acs-identity"));
        command.args(["--https-port", "0", "--http-port", "0", "--algorithm", algorithm.as_str()]);
        let mut server = Self::start(command.arg("--data-dir").arg(state));
        server.access_key = access_key(&state.join("env"));
        server
    }

    /// The floor of a server.
    pub fn echo() -> Self {
        Self::start(&mut Command::new(program("echo")))
    }

    /// The floor of a server with one read of the store. It reads an identity in the state of a local server that has ended.
    pub fn store_echo(state: &Path, identity: &str) -> Self {
        Self::start(Command::new(program("store-echo")).arg(state).arg(identity))
    }

    fn start(command: &mut Command) -> Self {
        const BEFORE_PORT: &str = "HTTP on http://localhost:";
        let mut child = spawn_on_other_core(command.stdout(Stdio::piped()).stderr(Stdio::null()));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(BEFORE_PORT) {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "{command:?} ended");
        }
        let digits = line.split_once(BEFORE_PORT).unwrap().1.split_once('/').unwrap().0;
        Self {
            cpu: CpuClock::of(&child),
            child,
            _stdout: stdout,
            address: (Ipv4Addr::LOCALHOST, digits.parse().unwrap()).into(),
            access_key: String::new(),
        }
    }

    /// A signed request with a body of JSON.
    pub fn signed(&self, target: &str, body: &str) -> Request<Full<Bytes>> {
        let host = format!("localhost:{}", self.address.port());
        let call = Call { method: "POST", target, body };
        let headers = sign(&call, &self.access_key, &host, System::new().now()).headers;
        request(target, headers, body)
    }

    /// Resident memory, in MB.
    pub fn resident(&self) -> f64 {
        memory(&self.child, "VmRSS")
    }

    /// The most resident memory so far, in MB.
    pub fn peak(&self) -> f64 {
        memory(&self.child, "VmHWM")
    }
}

/// A request with a body of JSON.
pub fn request(target: &str, headers: HeaderMap, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::post(target).body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    *request.headers_mut() = headers;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request
}

/// No server outlives its measurement.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn access_key(env: &Path) -> String {
    let text = fs::read_to_string(env).unwrap();
    let values: HashMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let connection_string = values["COMMUNICATION_SERVICES_CONNECTION_STRING"].trim_matches('\'');
    connection_string.split_once("accesskey=").unwrap().1.to_owned()
}
