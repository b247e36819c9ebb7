//! The control API of the running program, over raw sockets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use acs_identity::control_api::ROUTES;
use e2e::server::{Server, exchange as send, state_directory};
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
    /// The primary access key.
    key: String,
}

/// A reply: its status and its body as JSON, or `null`.
type Reply = (u16, Value);

fn start(test: &str, arguments: &[&str]) -> Controlled {
    let state = state_directory(SCRATCH, test);
    let server = Server::start(&state, &[&["--algorithm", "ES256"], arguments].concat());
    let token = std::fs::read_to_string(state.join("control-token")).unwrap();
    let string = server.value("COMMUNICATION_SERVICES_CONNECTION_STRING");
    let key = string.split_once(";accesskey=").unwrap().1.to_owned();
    Controlled { server, state, token, key }
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
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.signed(method, &format!("{path}?{VERSION}"), &body)
    }

    fn signed(&self, method: &str, target: &str, body: &str) -> Reply {
        let call = Call { method, target, body };
        let signed = sign(&call, &self.key, self.address(), System::new().now());
        let header = |name: &str| format!("{name}: {}\r\n", signed.headers[name].to_str().unwrap());
        let headers = ["x-ms-date", "x-ms-content-sha256", "authorization"].map(header).concat();
        read(&self.request(&format!("{method} {target}"), &headers, body))
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
        let (status, answer) = self.signed("POST", "/introspect", &format!("token={token}"));
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
    let invoked = json!({"type": "REQUEST", "httpMethod": "GET", "path": "/chat/threads",
        "headers": {"Authorization": format!("Bearer {token}")},
        "methodArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef/prod/GET/chat/threads"});
    let (_, later) =
        read(&server.request("POST /2015-03-31/functions/authorizer/invocations", "", &invoked.to_string()));
    server.done("DELETE", "clock", &Value::Null);
    assert!(server.is_active(&token), "real time has not come so far");
    let (_, now) =
        read(&server.request("POST /2015-03-31/functions/authorizer/invocations", "", &invoked.to_string()));
    let effect = |answer: &Value| answer.pointer("/policyDocument/Statement/0/Effect").cloned();
    assert_eq!((effect(&later), effect(&now)), (None, Some("Allow".into())), "{later} {now}");
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

/// A stream of events over a connection of its own.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Controlled, last: &str) -> Self {
        let (address, token) = (server.address(), &server.token);
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!(
            "GET /_local/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{last}\r\n"
        );
        (&stream).write_all(head.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    fn status(&mut self) -> u16 {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The next line that begins with one of these fields.
    fn next(&mut self, fields: &[&str]) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            if fields.iter().any(|field| line.starts_with(field)) {
                return line.trim_end().to_owned();
            }
        }
    }
}

#[test]
fn events_show_requests_and_changes_and_resume() {
    let server = start("control-events", &[]);
    let mut events = Events::open(&server, "");
    assert_eq!(events.status(), 200);
    assert_eq!(events.next(&["content-type"]), "content-type: text/event-stream");
    events.next(&[": heartbeat"]);
    let (user, _) = server.user_and_token();
    let id = events.next(&["id: "]);
    assert_eq!(events.next(&["event: "]), "event: request");
    assert!(events.next(&["data: "]).contains(&user));
    server.done("PUT", "clock", &json!({"offset": "10m"}));
    assert_eq!(events.next(&["event: "]), "event: clock");
    server.done("POST", "keys/rotate", &Value::Null);
    assert_eq!(events.next(&["event: "]), "event: keys");
    drop(events);
    let last = format!("Last-Event-ID: {}\r\n", id.trim_start_matches("id: "));
    let mut resumed = Events::open(&server, &last);
    assert_eq!(resumed.next(&["event: "]), "event: keys", "the line after the last one");
    server.done("POST", "reset", &Value::Null);
    while resumed.next(&["event: "]) != "event: reset" {}
}

#[test]
fn streams_of_closed_pages_make_room() {
    let server = start("control-closed-pages", &[]);
    for _ in 0..3 {
        let mut streams: Vec<Events> = (0..4).map(|_| Events::open(&server, "")).collect();
        assert!(streams.iter_mut().all(|stream| stream.status() == 200));
    }
}

#[test]
fn fifth_stream_is_refused_and_unread_streams_slow_nobody() {
    let server = start("control-streams", &[]);
    let mut streams: Vec<Events> = (0..4).map(|_| Events::open(&server, "")).collect();
    assert!(streams.iter_mut().all(|stream| stream.status() == 200));
    assert_eq!(Events::open(&server, "").status(), 429);
    // Nobody reads these lines. They are more than the buffers of four sockets hold.
    let text = "x".repeat(60_000);
    for _ in 0..300 {
        let headers = format!("x-ms-client-request-id: {text}\r\n");
        server.request("GET /identities", &headers, "");
    }
    server.user_and_token();
    assert!(server.server.stop().0.success(), "the open streams end with the server");
}

#[test]
fn console_files_need_no_token_and_have_the_policy() {
    let server = start("control-console", &[]);
    for (path, media_type) in [
        ("/_local/", "text/html"),
        ("/_local/style.css", "text/css"),
        ("/_local/console.js", "text/javascript"),
        ("/_local/icon.svg", "image/svg+xml"),
    ] {
        let reply = server.request(&format!("GET {path}"), "", "").to_ascii_lowercase();
        assert!(reply.starts_with("http/1.1 200") && reply.contains(media_type), "{path}");
        assert!(reply.contains("require-trusted-types-for 'script'"), "{path}");
        assert!(!reply.contains(&server.token.to_ascii_lowercase()), "{path}");
    }
    assert!(server.request("GET /", "Accept: text/html\r\n", "").contains("location: /_local/"));
    assert!(server.request("GET /", "Accept: application/json\r\n", "").starts_with("HTTP/1.1 401"));
    let forwarded = server.request("GET /_local/", "X-Forwarded-For: 192.0.2.1\r\n", "");
    assert!(forwarded.starts_with("HTTP/1.1 404"), "{forwarded}");
    let open = start("control-console-open", &["--console"]);
    let forwarded = open.request("GET /_local/", "X-Forwarded-For: 192.0.2.1\r\n", "");
    assert!(forwarded.starts_with("HTTP/1.1 200"), "{forwarded}");
    let off = Server::start(&state_directory(SCRATCH, "control-console-off"), &["--no-control"]);
    let address = off.ready.http_address();
    let head = format!("GET /_local/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    assert!(send(address, &head).starts_with("HTTP/1.1 404"));
}

#[test]
fn connection_people_and_assignments_are_shown() {
    let server = start("control-connection", &[]);
    let connection = server.done("GET", "connection", &Value::Null);
    let string = server.server.value("COMMUNICATION_SERVICES_CONNECTION_STRING");
    assert_eq!(connection["connectionStrings"]["primary"], string);
    assert_eq!(connection["entra"]["applications"].as_array().unwrap().len(), 2);
    let ann = json!({"name": "ann@local.test", "kind": "guest"});
    server.done("POST", "entra/people", &ann);
    let people = server.done("GET", "entra/people", &Value::Null);
    assert_eq!(people["people"][4]["name"], "ann@local.test");
    let (status, refused) = server.call("POST", "entra/people", &json!({"name": "a b", "kind": "member"}));
    assert!(status == 400 && refused.to_string().contains("white space"), "{refused}");
    let assignment = json!({"kind": "entra", "objectId": "11111111-1111-4111-8111-111111111111",
        "principalType": "user", "clientIds": ["22222222-2222-4222-8222-222222222222"]});
    server.done("PUT", "seed", &json!({"assignments": [assignment]}));
    let listed = server.done("GET", "assignments", &Value::Null);
    assert_eq!(listed["assignments"][0]["list"], "entra");
    assert_eq!(listed["assignments"][0]["objectId"], assignment["objectId"]);
}

fn seed() -> Value {
    json!({
        "identities": {
            "alice": {"tokens": [{"scopes": ["chat"], "minutes": 60}, {"scopes": ["voip"]}]},
            "bob": {"customId": "b-1"},
        },
        "people": [{"name": "carol@local.test", "kind": "guest", "password": "p"}],
        "assignments": [{"kind": "entra", "objectId": "11111111-1111-4111-8111-111111111111",
            "principalType": "user", "clientIds": ["22222222-2222-4222-8222-222222222222"]}],
    })
}

#[test]
fn seeds_give_the_same_identities_until_a_reset() {
    let server = start("control-seed", &[]);
    let first = server.done("PUT", "seed", &seed());
    let again = server.done("PUT", "seed", &seed());
    assert_eq!((&first["alice"]["id"], &first["bob"]["id"]), (&again["alice"]["id"], &again["bob"]["id"]));
    let token = |answer: &Value| answer["alice"]["tokens"][0]["token"].as_str().unwrap().to_owned();
    assert_ne!(token(&first), token(&again));
    assert!(server.is_active(&token(&first)) && server.is_active(&token(&again)));
    server.done("POST", "reset", &Value::Null);
    let later = server.done("PUT", "seed", &seed());
    assert_ne!(first["alice"]["id"], later["alice"]["id"]);
    assert!(!server.is_active(&token(&first)) && server.is_active(&token(&later)));
    for (document, named) in [
        (json!({"identities": {"a": {"tokens": [{"scopes": ["pstn"]}]}}}), "identities.a.tokens[0]"),
        (
            json!({"identities": {"a": {"tokens": [{"scopes": ["chat"], "minutes": 59}]}}}),
            "identities.a.tokens[0]",
        ),
        (json!({"identities": {"a": {"token": []}}}), "identities.a"),
        (json!({"people": [{"name": "a b", "kind": "guest"}]}), "people a b"),
        (json!({"people": [{"name": "a", "kind": "king"}]}), "people[0].kind"),
        (json!({"user": {}}), "user"),
    ] {
        let (status, answer) = server.call("PUT", "seed", &document);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(named), "{document}: {message}");
    }
}

#[test]
fn seed_files_are_applied_at_the_start() {
    let folder = state_directory(SCRATCH, "control-seed-file").with_file_name("seed-input.json");
    std::fs::write(&folder, seed().to_string()).unwrap();
    let server = start("control-seed-start", &["--seed", folder.to_str().unwrap()]);
    let answer: Value =
        serde_json::from_slice(&std::fs::read(server.state.join("seed.json")).unwrap()).unwrap();
    assert!(server.is_active(answer["alice"]["tokens"][1]["token"].as_str().unwrap()));
}

#[test]
fn loaded_states_have_the_identities_and_no_former_token() {
    let server = start("control-state", &[]);
    let (user, token) = server.user_and_token();
    let state = server.done("GET", "state", &Value::Null);
    let text = state.to_string();
    assert!(!text.contains(&server.key) && !text.contains(&token) && !text.contains("kty"));
    server.service("POST", &format!("/identities/{user}/:revokeAccessTokens"), &Value::Null);
    assert!(!server.is_active(&token));
    let (_, newer) = server.user_and_token();
    server.done("PUT", "state", &state);
    assert!(!server.is_active(&token), "a revoked token stays revoked");
    assert!(!server.is_active(&newer));
    let issue = format!("/identities/{user}/:issueAccessToken");
    assert_eq!(server.service("POST", &issue, &json!({"scopes": ["chat"]})).0, 200);
    for (member, value) in [("format", json!(2)), ("resourceId", json!("other"))] {
        let mut other = state.clone();
        other[member] = value;
        let (status, answer) = server.call("PUT", "state", &other);
        assert!(
            status == 409 && answer["error"]["message"].as_str().unwrap().starts_with(member),
            "{answer}"
        );
    }
    let mut pointer = state;
    pointer["records"] = json!([{"pk": {"S": "pointer#0"}}]);
    assert_eq!(server.call("PUT", "state", &pointer).0, 400);
}

#[test]
fn unusable_snapshots_change_nothing() {
    let server = start("control-unusable-state", &[]);
    let (_, token) = server.user_and_token();
    server.done("PUT", "seed", &seed());
    let state = server.done("GET", "state", &Value::Null);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut changed = state.clone();
        change(&mut changed);
        changed
    };
    let add = |list: &'static str, record: Value| {
        changed(&move |state| state[list].as_array_mut().unwrap().push(record.clone()))
    };
    let (first, assignment) = (state["records"][0].clone(), state["assignments"][0].clone());
    let with = |record: &Value, member: &str, value: Value| {
        let mut record = record.clone();
        record[member] = value;
        record
    };
    let listed = server.done("GET", "identities", &Value::Null);
    for (snapshot, named) in [
        (add("records", first.clone()), "records"),
        (add("records", json!({"pk": {"S": "identity#x"}})), "records"),
        (add("records", json!({"pk": {"S": "identity#8:acs:x"}, "state": {"S": 1}})), "records"),
        (add("records", json!({"pk": {"S": "custom-id#x"}, "n": {"N": "no number"}})), "records["),
        (add("records", json!({"pk": {"S": "custom-id#x"}, "creation": {"S": "x"}})), "records["),
        (add("records", json!(1)), "records["),
        (add("assignments", json!({"pk": {"S": "entra#1"}})), "assignments["),
        (add("assignments", assignment.clone()), "assignments"),
        (
            changed(&|state| state["assignments"][0] = with(&assignment, "assignments", json!({"S": "{}"}))),
            "assignments[",
        ),
        (changed(&|state| state["records"] = json!({})), "records"),
    ] {
        let (status, answer) = server.call("PUT", "state", &snapshot);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(named), "{named}: {status} {message}");
        assert_eq!(server.done("GET", "identities", &Value::Null), listed, "{named}");
    }
    assert!(server.is_active(&token), "no snapshot has replaced the keys");
    server.done("PUT", "state", &state);
    assert_eq!(server.done("GET", "identities", &Value::Null), listed);
}

#[test]
fn replacements_at_once_leave_the_keys_in_force_in_every_file() {
    let server = start("control-replacements", &[]);
    let regenerate = || server.done("POST", "keys/regenerate", &json!({"slot": "primary"}));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(regenerate);
            scope.spawn(|| server.done("POST", "reset", &json!({"keys": true})));
        }
    });
    let connection = server.done("GET", "connection", &Value::Null);
    let string = connection["connectionStrings"]["primary"].as_str().unwrap();
    for file in ["env", "docker.env", "env.ps1", "env.cmd"] {
        let text = std::fs::read_to_string(server.state.join(file)).unwrap();
        assert!(text.contains(string), "{file} has a key that is not in force");
    }
}

#[test]
fn new_keys_are_good_at_once_after_a_wrong_signature() {
    let mut server = start("control-new-keys", &[]);
    for _ in 0..3 {
        server.key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned();
        assert_eq!(server.service("POST", "/identities", &Value::Null).0, 401);
        server.done("POST", "keys/regenerate", &json!({"slot": "primary"}));
        let connection = server.done("GET", "connection", &Value::Null);
        let string = connection["connectionStrings"]["primary"].as_str().unwrap();
        server.key = string.split_once(";accesskey=").unwrap().1.to_owned();
        assert_eq!(server.service("POST", "/identities", &Value::Null).0, 201);
    }
}

#[test]
fn identities_keys_and_verdicts_are_shown() {
    let server = start("control-views", &[]);
    let (user, token) = server.user_and_token();
    let (newer, _) = server.user_and_token();
    let page = server.done("GET", "identities?limit=1", &Value::Null);
    assert_eq!((&page["identities"][0]["id"], &page["total"]), (&json!(newer), &json!(2)));
    let next = format!("identities?after={}", page["next"].as_str().unwrap());
    assert_eq!(server.done("GET", &next, &Value::Null)["identities"][0]["id"], user.as_str());
    assert_eq!(server.done("GET", &format!("identities/{user}"), &Value::Null)["revision"], 1);
    assert_eq!(server.call("GET", "identities/8:acs:none", &Value::Null).0, 404);
    let verdicts = server.done("POST", "tokens/inspect", &json!({"tokens": [token, "a.b.c"]}));
    assert_eq!(verdicts["verdicts"][0]["active"], true);
    assert_eq!(verdicts["verdicts"][1]["active"], false);
    let before = server.done("GET", "keys", &Value::Null);
    server.done("POST", "keys/rotate", &Value::Null);
    assert_ne!(before, server.done("GET", "keys", &Value::Null));
    assert!(!server.is_active(&token));
    server.done("POST", "keys/regenerate", &json!({"slot": "secondary"}));
    assert_eq!(server.call("POST", "keys/regenerate", &json!({"slot": "third"})).0, 400);
}

/// Random histories: a token that was revoked, deleted with its identity, or ended by new keys stays refused, whatever
/// the control API does after it.
#[test]
fn refused_tokens_stay_refused_after_every_control_call() {
    let server = start("control-history", &[]);
    let mut state = 7_u64;
    let mut choose = |count: u64| {
        // xorshift: a fixed history that is not regular.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % count
    };
    let (mut dead, mut users): (Vec<String>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let mut saved = server.done("GET", "state", &Value::Null);
    for step in 0..120 {
        let kill_all = |users: &mut Vec<(String, String)>, dead: &mut Vec<String>| {
            dead.extend(users.drain(..).map(|(_, token)| token));
        };
        match choose(10) {
            0..=2 => users.push(server.user_and_token()),
            3 if !users.is_empty() => {
                let (user, token) = users.swap_remove(usize::try_from(choose(users.len() as u64)).unwrap());
                server.service("POST", &format!("/identities/{user}/:revokeAccessTokens"), &Value::Null);
                dead.push(token);
            }
            4 if !users.is_empty() => {
                let (user, token) = users.swap_remove(0);
                server.service("DELETE", &format!("/identities/{user}"), &Value::Null);
                dead.push(token);
            }
            5 => {
                server.done("POST", "reset", &Value::Null);
                kill_all(&mut users, &mut dead);
            }
            6 => {
                server.done("POST", "keys/rotate", &Value::Null);
                kill_all(&mut users, &mut dead);
            }
            7 => saved = server.done("GET", "state", &Value::Null),
            8 => {
                server.done("PUT", "state", &saved);
                kill_all(&mut users, &mut dead);
            }
            _ => {
                let offset = ["0s", "-59m", "30m", "25h"][usize::try_from(choose(4)).unwrap()];
                server.done("PUT", "clock", &json!({"offset": offset}));
                server.done("PUT", "seed", &json!({"identities": {"a": {}}}));
            }
        }
        for token in &dead {
            assert!(!server.is_active(token), "after step {step}");
        }
    }
    server.done("DELETE", "clock", &Value::Null);
    assert!(dead.len() > 10);
    assert!(dead.iter().all(|token| !server.is_active(token)));
}

#[test]
fn clients_work_during_resets_and_seeds() {
    let server = start("control-crowd", &[]);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let (user, _) = server.user_and_token();
                    let path = format!("/identities/{user}/:issueAccessToken");
                    let (status, answer) = server.service("POST", &path, &json!({"scopes": ["chat"]}));
                    assert!(matches!(status, 200 | 404), "{status} {answer}");
                }
            });
        }
        for _ in 0..5 {
            server.done("POST", "reset", &Value::Null);
            server.done("PUT", "seed", &seed());
        }
    });
    assert!(
        server
            .is_active(server.done("PUT", "seed", &seed())["alice"]["tokens"][0]["token"].as_str().unwrap())
    );
}

/// Every path below `/_local`, with a method that it has.
fn own_routes() -> Vec<(String, String)> {
    let probes = ["alive", "ready", "ca.pem"].map(|probe| ("GET".to_owned(), format!("/_local/{probe}")));
    let calls = ROUTES.iter().map(|route| {
        (route.method.to_string(), format!("/_local/v1/{}", route.path.replace("{id}", "8:acs:a")))
    });
    probes.into_iter().chain(calls).collect()
}

#[test]
fn requests_of_foreign_pages_reach_no_route() {
    let server = start("control-pages", &[]);
    let port = server.address().rsplit_once(':').unwrap().1;
    let own = format!("Host: localhost:{port}\r\n");
    let token = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", server.token);
    for (method, path) in own_routes() {
        let send = |headers: &str| {
            let request = format!(
                "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: 0\r\n\r\n"
            );
            let reply = send(server.address(), &request);
            assert!(!reply.to_ascii_lowercase().contains("\r\naccess-control-"), "{reply}");
            (reply.split(' ').nth(1).unwrap().parse::<u16>().unwrap(), reply)
        };
        let is_probe = path.ends_with("alive") || path.ends_with("ready");
        for (headers, refused) in [
            (format!("{token}Host: evil.example\r\n"), 421),
            (format!("{token}Host: localhost.evil.example:{port}\r\n"), 421),
            (token.clone(), 400),
            (format!("{token}{own}{own}"), 400),
            (format!("{token}{own}Origin: http://evil.example\r\n"), 403),
            (format!("{token}{own}Origin: null\r\n"), 403),
            (format!("{token}{own}Origin: https://localhost:{port}\r\n"), 403),
            (format!("{token}{own}Sec-Fetch-Site: cross-site\r\n"), 403),
            (format!("{token}{own}Sec-Fetch-Site: same-site\r\n"), 403),
        ] {
            let (status, reply) = send(&headers);
            let is_admitted_probe = is_probe && refused == 421;
            assert!(
                status == refused || (is_admitted_probe && status == 200),
                "{method} {path} {headers:?}: {reply}"
            );
            assert!(reply.ends_with("\r\n\r\n"), "the reply has no body: {reply}");
        }
        let (status, reply) =
            send(&format!("{own}Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:{port}\r\n"));
        assert_eq!(status, if path.contains("/v1/") { 401 } else { 200 }, "{method} {path}: {reply}");
        for header in
            ["content-security-policy", "x-content-type-options: nosniff", "cache-control: no-store"]
        {
            assert!(reply.to_ascii_lowercase().contains(header), "{path} lacks {header}");
        }
        if path.contains("/v1/") {
            let wrong = token.replace(&server.token, &"x".repeat(server.token.len()));
            assert_eq!(send(&format!("{own}{wrong}")).0, 401, "{method} {path}");
            let other = format!("TRACE {path} HTTP/1.1\r\n{own}{token}Connection: close\r\n\r\n");
            assert!(self::send(server.address(), &other).starts_with("HTTP/1.1 405 "), "{path}");
            if method != "GET" {
                let text = token.replace("application/json", "text/plain");
                assert_eq!(send(&format!("{own}{text}")).0, 415, "{method} {path}");
            }
        }
    }
}

#[test]
fn pages_confirm_destructive_calls() {
    let server = start("control-confirm", &[]);
    let (_, token) = server.user_and_token();
    let own = format!("Origin: http://{}\r\n", server.address());
    let headers =
        format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n{own}", server.token);
    for path in ["reset", "keys/rotate"] {
        let reply = read(&server.request(&format!("POST /_local/v1/{path}"), &headers, "{}"));
        assert_eq!(reply.0, 400, "{path}");
    }
    assert!(server.is_active(&token));
    let confirmed = json!({"confirm": server.server.ready.resource_id}).to_string();
    let reply = read(&server.request("POST /_local/v1/reset", &headers, &confirmed));
    assert_eq!(reply.0, 204);
    assert!(!server.is_active(&token));
}

#[test]
fn control_api_can_be_switched_off() {
    let state = state_directory(SCRATCH, "control-off");
    let server = Server::start(&state, &["--algorithm", "ES256", "--no-control"]);
    let request = "GET /_local/v1/clock HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(send(server.ready.http_address(), request).starts_with("HTTP/1.1 404 "));
    assert!(!state.join("control-token").exists());
}
