//! The kits for resource servers (infra/kits): one table of requests and answers for every kit, in both modes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::server::{Server, exchange, run, state_directory};
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

#[test]
fn express_kit_answers_as_the_authorizer_does() {
    answers_as_the_authorizer_does("kit-express", |server| {
        let mut example = server.command("node");
        example.arg("example.js").current_dir(kits().join("express"));
        example
    });
}

#[test]
fn fastapi_kit_answers_as_the_authorizer_does() {
    answers_as_the_authorizer_does("kit-fastapi", |server| {
        let folder = kits().join("fastapi");
        let mut example = server.command(folder.join(".venv/bin/python"));
        example.args(["-B", "example.py"]).current_dir(folder);
        example
    });
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
