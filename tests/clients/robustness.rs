//! The local server under clients that hold its connections, its memory and its files.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::Duration;

use bytes::Bytes;
use e2e::server::{Server, exchange, program, state_directory};
use e2e::signer::{Call, sign};
use functions::system::System;
use http::Request;
use http_body_util::channel::Channel;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::runtime::Clock as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

const CREATE: &str = "/identities?api-version=2023-10-01";
const PROBE: &str = "GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n";

/// A longer wait means that an answer never comes.
const NEVER: Duration = Duration::from_secs(60);

/// Longest wait of another client.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

fn start(test: &str) -> Server {
    Server::start(&state_directory(env!("CARGO_TARGET_TMPDIR"), test), &["--algorithm", "ES256"])
}

fn address(server: &Server) -> SocketAddr {
    let port = server.ready.http_address().rsplit(':').next().unwrap().parse().unwrap();
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Many connections of one client. Each sends its start, and then some bytes in each period.
struct Attack {
    name: &'static str,
    connections: usize,
    start: String,
    period: Duration,
    next: String,
}

impl Attack {
    fn begin(&self, address: SocketAddr) -> JoinSet<()> {
        let mut held = JoinSet::new();
        for _ in 0..self.connections {
            let (start, period, next) = (self.start.clone(), self.period, self.next.clone());
            held.spawn(async move {
                // A closed connection is opened again.
                loop {
                    let _ = hold(address, &start, period, &next).await;
                }
            });
        }
        held
    }
}

/// Returns when the server has closed the connection.
async fn hold(address: SocketAddr, start: &str, period: Duration, next: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(start.as_bytes()).await?;
    loop {
        sleep(period).await;
        stream.write_all(next.as_bytes()).await?;
    }
}

/// Asks on a new connection, as often as it takes to get the answer.
async fn probe(address: SocketAddr) {
    let ask = async || {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("{PROBE}Connection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    while !ask().await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {}
}

/// The longest wait of new clients that ask during this time.
async fn longest_wait(address: SocketAddr, time: Duration) -> Duration {
    let end = Instant::now() + time;
    let (mut longest, mut pace) = (Duration::ZERO, interval(Duration::from_millis(50)));
    while Instant::now() < end {
        pace.tick().await;
        let began = Instant::now();
        let _ = timeout(NEVER, probe(address)).await;
        longest = longest.max(began.elapsed());
    }
    longest
}

#[tokio::test]
async fn held_connections_keep_nobody_waiting() {
    let server = start("robust-connections");
    let address = address(&server);
    let request = format!("{PROBE}\r\n");
    let body = "POST /identities HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    let (second, pause) = (Duration::from_secs(1), Duration::from_secs(8));
    let attacks = [
        ("idle", 5_000, String::new(), NEVER, ""),
        ("slow heads", 1_000, format!("{PROBE}X-Slow: "), second, "x"),
        ("slow bodies", 1_000, body.to_owned(), second, "x"),
        ("one request in 8 seconds", 600, request.clone(), pause, &request),
    ];
    let mut waits = Vec::new();
    for (name, connections, start, period, next) in attacks {
        let attack = Attack { name, connections, start, period, next: next.to_owned() };
        let held = attack.begin(address);
        waits.push((attack.name, longest_wait(address, Duration::from_secs(10)).await));
        drop(held);
    }
    println!("longest waits: {waits:?}");
    assert!(waits.iter().all(|(_, wait)| *wait < LONGEST_WAIT), "{waits:?}");
}

/// Resident memory of a process, in MB.
#[cfg(target_os = "linux")]
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.ready.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Opens an HTTP/2 connection with many requests. Each sends 60 kB of a body that never ends. The signature has the right
/// form, and it is wrong.
async fn send_endless_bodies(address: SocketAddr, headers: http::HeaderMap) {
    const STREAMS: usize = 190;
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut sent = JoinSet::new();
    for _ in 0..STREAMS {
        let (mut sender, headers) = (sender.clone(), headers.clone());
        sent.spawn(async move {
            let (mut data, body) = Channel::<Bytes>::new(1);
            data.send_data(Bytes::from(vec![b' '; 60_000])).await.unwrap();
            let mut request = Request::post(format!("http://{address}{CREATE}")).body(body).unwrap();
            request.headers_mut().extend(headers);
            let _ = sender.send_request(request).await;
        });
    }
    let _ = connection.await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn endless_bodies_occupy_little_memory() {
    let server = start("robust-bodies");
    let (address, before) = (address(&server), memory(&server));
    let host = address.to_string();
    let wrong_key = "d3Jvbmcga2V5d3Jvbmcga2V5";
    let call = Call { method: "POST", target: CREATE, body: "" };
    let mut headers = sign(&call, wrong_key, &host, System::new().now()).headers;
    headers.remove("host");
    let mut attack = JoinSet::new();
    for _ in 0..60 {
        attack.spawn(send_endless_bodies(address, headers.clone()));
    }
    let (mut most, mut longest) = (0, Duration::ZERO);
    for _ in 0..10 {
        longest = longest.max(longest_wait(address, Duration::from_secs(1)).await);
        most = most.max(memory(&server) - before);
    }
    println!("growth {most} MB, longest wait {longest:?}");
    assert!(most < 64, "{most} MB");
    assert!(longest < LONGEST_WAIT, "{longest:?}");
    let user = run(&server, &["user", "create"]);
    assert!(user.status.success(), "{user:?}");
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    Command::new(program()).arg("--data-dir").arg(server.state()).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_answered_while_every_connection_is_in_use() {
    let state = state_directory(env!("CARGO_TARGET_TMPDIR"), "robust-descriptors");
    let server = Server::start_after("ulimit -n 256", &state, &["--algorithm", "ES256"]);
    let address = address(&server);
    let mut held = Vec::new();
    for _ in 0..360 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    for command in [&["keys"][..], &["rotate"], &["user", "create"]] {
        let began = Instant::now();
        let output = run(&server, command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        println!("{command:?}: {:?}", began.elapsed());
        assert!(began.elapsed() < LONGEST_WAIT * 2, "{command:?}: {:?}", began.elapsed());
    }
    assert!(longest_wait(address, Duration::from_secs(1)).await < LONGEST_WAIT);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_of_the_control_socket_delay_no_command() {
    let server = start("robust-control");
    let socket = server.state().join("control.sock");
    let silent: Vec<_> = (0..5).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let began = Instant::now();
    let keys = run(&server, &["keys"]);
    assert!(keys.status.success(), "{keys:?}");
    assert!(began.elapsed() < LONGEST_WAIT, "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn too_long_tokens_are_refused_before_they_are_sent() {
    let server = start("robust-inspect");
    let output = run(&server, &["token", "inspect", &"x".repeat(20_000)]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("check the text of the token"), "{message}");
}

/// The reply to a signed request for a new user.
fn create_user(server: &Server) -> String {
    let host = server.ready.http_address();
    let call = Call { method: "POST", target: CREATE, body: "" };
    let key = server.value("COMMUNICATION_SERVICES_ACCESSKEY");
    let mut request = format!("POST {CREATE} HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n");
    for (name, value) in &sign(&call, key, host, System::new().now()).headers {
        request += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    exchange(host, &(request + "\r\n"))
}

#[test]
fn a_second_server_is_refused_without_the_lock_file() {
    let server = start("robust-lock");
    let state = server.state();
    fs::remove_file(state.join("secrets.json.lock")).unwrap();
    let second = run(&server, &["--https-port", "0", "--http-port", "0"]);
    let message = String::from_utf8(second.stderr).unwrap();
    assert!(message.contains("is in use by another process"), "{message}");
    assert!(create_user(&server).starts_with("HTTP/1.1 201 "));
}

#[test]
fn a_deleted_state_directory_is_noticed_before_a_reply() {
    let server = start("robust-deleted");
    assert!(create_user(&server).starts_with("HTTP/1.1 201 "));
    fs::remove_dir_all(server.state()).unwrap();
    for _ in 0..3 {
        let reply = create_user(&server);
        assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    }
    let log = server.log();
    assert_eq!(log.matches("was deleted or replaced under the running server").count(), 1, "{log}");
}

#[test]
fn errors_at_the_start_name_the_cause_and_the_next_step() {
    let root = state_directory(env!("CARGO_TARGET_TMPDIR"), "robust-start");
    let used = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = used.local_addr().unwrap().port().to_string();
    let damaged = |file: &str, content: &str| {
        let dir = root.join(format!("damaged-{file}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), content).unwrap();
        dir
    };
    let locked = root.join("locked");
    fs::create_dir_all(locked.join("secrets.json.lock")).unwrap();
    let rows: [(&[&str], std::path::PathBuf, [&str; 2]); 5] = [
        (
            &["platform", "--aws-port", &port],
            root.join("port"),
            [&port, "choose another port with --aws-port"],
        ),
        (&[], root.join("x".repeat(120)), ["control.sock", "choose a --data-dir with a shorter path"]),
        (&[], locked, ["secrets.json.lock", "check its owner and its permissions"]),
        (&[], damaged("secrets.json", "{"), ["secrets.json", "restore the file, or remove its directory"]),
        (
            &[],
            damaged("dynamodb.sqlite", "x"),
            ["dynamodb.sqlite", "restore the file, or remove its directory"],
        ),
    ];
    for (arguments, dir, expected) in rows {
        let mut command = Command::new(program());
        command.args(["--https-port", "0", "--http-port", "0", "--data-dir"]).arg(dir).args(arguments);
        let output = command.output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && expected.iter().all(|text| message.contains(text)), "{message}");
    }
}

#[test]
fn a_limit_of_file_sizes_does_not_end_the_server() {
    let state = state_directory(env!("CARGO_TARGET_TMPDIR"), "robust-file-size");
    // 1 MB.
    let server = Server::start_after("ulimit -f 2048", &state, &["--algorithm", "ES256"]);
    let refused = (0..500).map(|_| create_user(&server)).find(|reply| !reply.starts_with("HTTP/1.1 201 "));
    let refused = refused.expect("the limit is never reached");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(server.log().contains("disk"), "{}", server.log());
    let probe = exchange(server.ready.http_address(), &format!("{PROBE}Connection: close\r\n\r\n"));
    assert!(probe.starts_with("HTTP/1.1 200 "), "{probe}");
}

#[tokio::test]
async fn half_closed_clients_get_their_answer() {
    let server = start("robust-half-closed");
    let address = address(&server);
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{PROBE}\r\n").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(NEVER, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
}
