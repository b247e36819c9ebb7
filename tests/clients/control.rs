//! The control API of the running program, over raw sockets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use e2e::server::{Server, state_directory};
use e2e::signer::{Call, sign};
use functions::system::System;
use identity::runtime::Clock as _;
use serde_json::{Value, json};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const VERSION: &str = "api-version=2023-10-01";

/// A server with the token of its control API.
struct Controlled {
    server: Server,
    state: PathBuf,
    token: String,
}

/// A reply: its status and its body as JSON, or `null`.
type Reply = (u16, Value);

fn start(test: &str, arguments: &[&str]) -> Controlled {
    let state = state_directory(SCRATCH, test);
    let server = Server::start(&state, &[&["--algorithm", "ES256"], arguments].concat());
    let token = std::fs::read_to_string(state.join("control-token")).unwrap();
    Controlled { server, state, token }
}

/// Sends a request in its bytes and returns the reply.
fn send(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn read(reply: &str) -> Reply {
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    let body = reply.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap_or_default())
}

impl Controlled {
    fn address(&self) -> &str {
        self.server.ready.http_address()
    }

    fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let (address, length) = (self.address(), body.len());
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        send(address, &(head + body))
    }

    /// A call of the control API, as a script sends it.
    fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", self.token);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        read(&self.request(&format!("{method} /_local/v1/{path}"), &headers, &body))
    }

    fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!(matches!(status, 200 | 204), "{method} {path}: {status} {answer}");
        answer
    }

    /// A request of a client with the primary key.
    fn service(&self, method: &str, path: &str, body: &Value) -> Reply {
        let (_, key) =
            self.server.value("COMMUNICATION_SERVICES_CONNECTION_STRING").split_once(";accesskey=").unwrap();
        let target = format!("{path}?{VERSION}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let call = Call { method, target: &target, body: &body };
        let signed = sign(&call, key, self.address(), System::new().now());
        let header = |name: &str| format!("{name}: {}\r\n", signed.headers[name].to_str().unwrap());
        let headers = ["x-ms-date", "x-ms-content-sha256", "authorization"].map(header).concat();
        read(&self.request(&format!("{method} {target}"), &headers, &body))
    }

    /// A new identity with a token of 60 minutes.
    fn user_and_token(&self) -> (String, String) {
        let body = json!({"createTokenWithScopes": ["chat"], "expiresInMinutes": 60});
        let (status, created) = self.service("POST", "/identities", &body);
        assert_eq!(status, 201, "{created}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&created["identity"]["id"]), text(&created["accessToken"]["token"]))
    }

    fn is_active(&self, token: &str) -> bool {
        let (status, answer) = self.service("POST", "/introspect", &json!({"token": token}));
        assert_eq!(status, 200, "{answer}");
        answer["active"].as_bool().unwrap()
    }
}

#[test]
fn tokens_of_an_hour_are_refused_61_minutes_later() {
    let server = start("control-expiry", &[]);
    let (_, token) = server.user_and_token();
    assert!(server.is_active(&token));
    let clock = server.done("PUT", "clock", &json!({"offset": "61m"}));
    assert_eq!((&clock["offsetSeconds"], &clock["frozen"]), (&json!(3660.0), &json!(false)));
    assert!(!server.is_active(&token));
    let invoked = json!({"type": "TOKEN", "authorizationToken": format!("Bearer {token}"),
        "methodArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef/prod/GET/chat/threads"});
    let (_, later) =
        read(&server.request("POST /2015-03-31/functions/authorizer/invocations", "", &invoked.to_string()));
    server.done("DELETE", "clock", &Value::Null);
    assert!(server.is_active(&token), "real time has not come so far");
    let (_, now) =
        read(&server.request("POST /2015-03-31/functions/authorizer/invocations", "", &invoked.to_string()));
    assert_ne!(later, now, "the authorizer follows the clock of tokens");
}

#[test]
fn tokens_of_a_shifted_clock_end_within_a_minute() {
    let server = start("control-shift", &[]);
    server.done("PUT", "clock", &json!({"offset": "-59m"}));
    let (_, token) = server.user_and_token();
    assert!(server.is_active(&token));
    server.done("DELETE", "clock", &Value::Null);
    assert!(server.is_active(&token));
    server.done("PUT", "clock", &json!({"offset": "+90s"}));
    assert!(!server.is_active(&token));
    let clock = server.done("PUT", "clock", &json!({"at": "2031-01-01T00:00:00Z", "frozen": true}));
    assert_eq!((&clock["now"], &clock["frozen"]), (&json!("2031-01-01T00:00:00Z"), &json!(true)));
    assert_eq!(server.done("GET", "clock", &Value::Null)["now"], "2031-01-01T00:00:00Z");
}

#[test]
fn reset_removes_identities_and_the_shift() {
    let server = start("control-reset", &[]);
    let (user, token) = server.user_and_token();
    server.done("PUT", "clock", &json!({"offset": "10m"}));
    assert_eq!(server.call("POST", "reset", &Value::Null), (204, Value::Null));
    assert!(!server.is_active(&token));
    let issued = server.service(
        "POST",
        &format!("/identities/{user}/:issueAccessToken"),
        &json!({"scopes": ["chat"]}),
    );
    assert_eq!(issued.0, 404);
    assert_eq!(server.done("GET", "clock", &Value::Null)["offsetSeconds"].as_f64().unwrap().abs(), 0.0);
    let (_, token) = server.user_and_token();
    assert!(server.is_active(&token), "the access keys stay");
    server.done("POST", "reset", &json!({"keys": true}));
    let (status, _) = server.service("POST", "/identities", &json!({}));
    assert_eq!(status, 401, "the access keys are new");
    let env = std::fs::read_to_string(server.state.join("env")).unwrap();
    assert!(!env.contains(server.server.value("COMMUNICATION_SERVICES_CONNECTION_STRING")));
}

#[test]
fn journal_has_the_lines_of_one_user_in_order() {
    let server = start("control-journal", &[]);
    let (user, _) = server.user_and_token();
    let (other, _) = server.user_and_token();
    let from = server.done("GET", "requests", &Value::Null)["next"].clone();
    for id in [&user, &other] {
        server.service("POST", &format!("/identities/{id}/:revokeAccessTokens"), &Value::Null);
    }
    let path =
        format!("requests?since={from}&operation=revoke_access_tokens&outcome=success&identity={user}");
    let lines = server.done("GET", &path, &Value::Null);
    assert_eq!(lines["requests"].as_array().unwrap().len(), 1, "{lines}");
    assert_eq!(lines["requests"][0]["identity"], user.as_str());
    assert_eq!(lines["dropped"], 0);
    let all = server.done("GET", "requests", &Value::Null);
    let numbers: Vec<_> =
        all["requests"].as_array().unwrap().iter().map(|line| line["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.len() >= 4, "{numbers:?}");
}

#[test]
fn long_poll_ends_with_the_next_line() {
    let server = start("control-poll", &[]);
    let from = server.done("GET", "requests", &Value::Null)["next"].clone();
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| server.done("GET", &format!("requests?since={from}&wait=20"), &Value::Null));
        server.user_and_token();
        let lines = waiting.join().unwrap();
        assert_eq!(lines["requests"][0]["operation"], "create_identity", "{lines}");
    });
    let empty = server.done("GET", "requests?since=1000000&wait=1", &Value::Null);
    assert_eq!(empty["requests"], json!([]));
}
