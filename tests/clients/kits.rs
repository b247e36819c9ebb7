//! The kits for resource servers (infra/kits): one table of requests and answers for every kit, in both modes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::server::{Server, exchange, run, state_directory};
use identity::store::{Revision, Store as _};
use serde_json::Value;

use crate::languages::is_missing;
use crate::suites::{no_secret_in_the_log, resource_server};

fn kits() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/kits")
}

/// The running example of a kit.
struct Kit {
    child: Child,
    address: String,
}

impl Kit {
    fn start(mut example: Command, settings: &[(&str, &str)]) -> Self {
        let mut child = example
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{example:?}: {error}; tests/run installs the packages"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("the example did not start").to_owned();
        Self { child, address }
    }

    /// Sends a request with this line of `Authorization`. Returns the whole answer.
    fn post(&self, path: &str, authorization: &str) -> String {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{authorization}content-length: 0\r\nconnection: close\r\n\r\n"
        );
        exchange(&self.address, &request)
    }

    fn check(&self, path: &str, token: &str, status: &str, header: &str) {
        self.check_line(path, &format!("authorization: Bearer {token}\r\n"), status, header);
    }

    fn check_line(&self, path: &str, line: &str, status: &str, header: &str) {
        let answer = self.post(path, line);
        let found = answer.split(' ').nth(1).unwrap();
        assert_eq!(found, status, "{path} {line}");
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        assert!(head.lines().any(|line| line == header) || header.is_empty(), "{header} is not in {head}");
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A verb of the program, for the server of this state directory.
fn verb(server: &Server, arguments: &[&str]) -> Value {
    let state = server.state();
    let output = run(&[&["--data-dir", state.to_str().unwrap(), "-o", "json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn issue(server: &Server, scopes: &[&str]) -> (String, String) {
    let issued = verb(server, &[&["token", "issue", "--scope"], scopes].concat());
    let text = |member: &str| issued[member].as_str().unwrap().to_owned();
    (text("user_id"), text("token"))
}

/// The token's `jti`.
fn id_of(token: &str) -> String {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["jti"].as_str().unwrap().to_owned()
}

const INVALID: &str = r#"www-authenticate: bearer error="invalid_token""#;
const SCOPE: &str = r#"www-authenticate: bearer error="insufficient_scope""#;

/// Checks a kit. `example` makes the command of its example.
fn answers_as_the_authorizer_does(name: &str, example: impl Fn(&Server) -> Command) {
    let server = Server::start(&state_directory(env!("CARGO_TARGET_TMPDIR"), name), &[]);
    let credential = resource_server(&server, "kit");
    let (id, secret) = credential.split_once(':').unwrap();
    let (user, chat) = issue(&server, &["chat", "voip"]);
    let (_, joining) = issue(&server, &["chat.join"]);
    let (_, listed) = issue(&server, &["chat"]);
    let resource: Value =
        serde_json::from_slice(&std::fs::read(server.state().join("resource.json")).unwrap()).unwrap();
    let text = |member: &str| resource[member].as_str().unwrap();
    let listed_id = id_of(&listed);
    let active = [("MODE", "active"), ("CLIENT_ID", id), ("CLIENT_SECRET", secret)];
    let offline = [
        ("MODE", "offline"),
        ("ISSUER", text("issuer")),
        ("RESOURCE_ID", text("id")),
        ("REVOKED", &listed_id),
    ];
    let other_issuer = [offline[0], ("ISSUER", "https://localhost"), offline[2]];
    let wrong_secret = [active[0], active[1], ("CLIENT_SECRET", "wrong")];
    let start = |settings: &[(&str, &str)]| Kit::start(example(&server), settings);
    let kits = [start(&active), start(&offline)];
    for kit in &kits {
        for line in ["", "authorization: Basic YTpi\r\n", "authorization: Bearer\r\n"] {
            kit.check_line("/messages", line, "401", "www-authenticate: bearer");
        }
        let altered = format!("{}AAAA", &chat[..chat.len() - 4]);
        for token in ["x", "a.b.c", &altered] {
            kit.check("/messages", token, "401", INVALID);
        }
        kit.check("/messages", &chat, "200", "");
        kit.check("/messages", &joining, "200", "");
        kit.check("/threads", &joining, "403", SCOPE);
        kit.check("/room-calls", &joining, "403", SCOPE);
        let answer = kit.post("/room-calls", &format!("authorization: Bearer {chat}\r\n"));
        let body: Value = answer[answer.find('{').unwrap()..=answer.rfind('}').unwrap()].parse().unwrap();
        let expected =
            serde_json::json!({"identity": user, "capabilitiesByRoomRole": ["voip.act_in_room_call"]});
        assert_eq!(body, expected);
    }
    let [active_kit, offline_kit] = &kits;
    active_kit.check("/messages", &listed, "200", "");
    offline_kit.check("/messages", &listed, "401", INVALID);
    start(&other_issuer).check("/messages", &chat, "401", INVALID);
    start(&wrong_secret).check("/messages", &chat, "503", "retry-after: 1");
    verb(&server, &["token", "revoke", "--user", &user, "--yes"]);
    active_kit.check("/messages", &chat, "401", INVALID);
    offline_kit.check("/messages", &chat, "200", "");

    no_secret_in_the_log(&server);
    let fresh = start(&offline);
    server.stop();
    for kit in [active_kit, &fresh] {
        kit.check("/messages", &joining, "503", "retry-after: 1");
        kit.check_line("/messages", "", "401", "www-authenticate: bearer");
    }
}

/// Reads from an open connection until the server ends it.
fn rest_of(mut connection: TcpStream) -> String {
    let mut text = String::new();
    connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    connection.read_to_string(&mut text).unwrap();
    text
}

/// Opens a connection that stays open while its token is good, and waits for its first line.
fn opened(kit: &Kit, token: &str) -> TcpStream {
    let mut connection = TcpStream::connect(&kit.address).unwrap();
    let request = format!(
        "POST /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).unwrap();
    let (mut seen, mut byte) = (String::new(), [0]);
    // The line is a chunk of its own.
    while !seen.ends_with("open\n\r\n") {
        connection.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {seen}"));
        seen.push(char::from(byte[0]));
    }
    connection
}

/// Checks a kit that follows the revocation feed. `example` makes the command of its example.
async fn watcher_ends_tokens_and_connections(name: &str, example: impl Fn(&Server) -> Command) {
    let state = state_directory(env!("CARGO_TARGET_TMPDIR"), name);
    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let credential = resource_server(&server, "watched");
    let (id, secret) = credential.split_once(':').unwrap();
    let (revoked_user, revoked) = issue(&server, &["chat"]);
    verb(&server, &["token", "revoke", "--user", &revoked_user, "--yes"]);
    let (user, first) = issue(&server, &["chat"]);
    let (other, kept) = issue(&server, &["chat"]);
    let resource: Value =
        serde_json::from_slice(&std::fs::read(server.state().join("resource.json")).unwrap()).unwrap();
    let text = |member: &str| resource[member].as_str().unwrap();
    let settings = [
        ("MODE", "watched"),
        ("CLIENT_ID", id),
        ("CLIENT_SECRET", secret),
        ("ISSUER", text("issuer")),
        ("RESOURCE_ID", text("id")),
    ];
    let kit = Kit::start(example(&server), &settings);
    // The watcher has no answer yet, or it has begun.
    while kit.post("/messages", &format!("authorization: Bearer {kept}\r\n")).contains(" 503 ") {}
    kit.check("/messages", &revoked, "401", INVALID);
    let connections = [opened(&kit, &first), opened(&kit, &kept)];

    verb(&server, &["token", "revoke", "--user", &user, "--yes"]);
    let [ended, mut open] = connections;
    rest_of(ended);
    kit.check("/messages", &first, "401", INVALID);
    kit.check("/messages", &kept, "200", "");
    open.set_nonblocking(true).unwrap();
    let still_open = open.read(&mut [0; 1]).unwrap_err();
    assert_eq!(still_open.kind(), std::io::ErrorKind::WouldBlock, "the other connection stays open");
    open.set_nonblocking(false).unwrap();
    verb(&server, &["user", "delete", "--user", &other, "--yes"]);
    rest_of(open);
    kit.check("/messages", &kept, "401", INVALID);

    let (_, by_former_key) = issue(&server, &["chat"]);
    let open = opened(&kit, &by_former_key);
    verb(&server, &["rotate"]);
    rest_of(open);
    kit.check("/messages", &by_former_key, "401", INVALID);
    no_secret_in_the_log(&server);

    // A revocation while the watcher is disconnected, and a feed that begins again.
    let (user, unseen) = issue(&server, &["chat"]);
    // The kit fetches the key set again at most once a second.
    while kit.post("/messages", &format!("authorization: Bearer {unseen}\r\n")).contains(" 401 ") {}
    let open = opened(&kit, &unseen);
    let ports = ["https", "http"].map(|scheme| {
        let endpoint = server.ready.endpoints[scheme].trim_end_matches('/');
        endpoint.rsplit_once(':').unwrap().1.to_owned()
    });
    assert!(server.stop().0.success());
    let platform = crate::local_server::open(&state).await;
    platform.adapters.table.revoke(&user.parse().unwrap(), Revision::FIRST).await.unwrap();
    drop(platform);
    let _server = Server::start(&state, &["--https-port", &ports[0], "--http-port", &ports[1]]);
    rest_of(open);
}

#[test]
fn express_kit_answers_as_the_authorizer_does() {
    answers_as_the_authorizer_does("kit-express", express);
}

#[tokio::test]
async fn express_kit_follows_the_feed() {
    watcher_ends_tokens_and_connections("watcher-express", express).await;
}

fn express(server: &Server) -> Command {
    let mut example = server.command("node");
    example.arg("example.js").current_dir(kits().join("express"));
    example
}

#[test]
fn fastapi_kit_answers_as_the_authorizer_does() {
    answers_as_the_authorizer_does("kit-fastapi", fastapi);
}

#[tokio::test]
async fn fastapi_kit_follows_the_feed() {
    watcher_ends_tokens_and_connections("watcher-fastapi", fastapi).await;
}

fn fastapi(server: &Server) -> Command {
    let folder = kits().join("fastapi");
    let mut example = server.command(folder.join(".venv/bin/python"));
    example.args(["-B", "example.py"]).current_dir(folder);
    example
}

#[test]
fn go_kit_answers_as_the_authorizer_does() {
    if is_missing("Go", &["go"]) {
        return;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kit-go-example");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg("./example").current_dir(kits().join("go"));
    assert!(build.status().unwrap().success(), "the example in Go does not build");
    answers_as_the_authorizer_does("kit-go", |server| {
        let mut example = server.command(&program);
        example.current_dir(kits().join("go"));
        example
    });
}
