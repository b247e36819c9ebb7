//! Web pages, probes and unusual methods at the local server, over real sockets. The rules of the core are in
//! `tests/promises/browsers.rs`.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use e2e::server::{Server, exchange, state_directory};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const EXCHANGE: &str = "/access/entra/:exchangeAccessToken?api-version=2025-03-02-preview";
const KEY_SET: &str = "/.well-known/jwks.json";
const PAGE: &str = "http://localhost:3000";

/// A reply as it was on the wire.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn is_readable(&self) -> bool {
        self.head.to_ascii_lowercase().contains("\r\naccess-control-")
    }
}

/// Sends a request over a connection of its own.
fn send(server: &Server, method: &str, target: &str, lines: &[&str]) -> Answer {
    send_as(server, method, target, "localhost", lines)
}

fn send_as(server: &Server, method: &str, target: &str, host: &str, lines: &[&str]) -> Answer {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for line in lines {
        head += &format!("{line}\r\n");
    }
    let text = exchange(server.ready.http_address(), &format!("{head}\r\n"));
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn start(test: &str, arguments: &[&str]) -> Server {
    let state = state_directory(SCRATCH, test);
    Server::start(Path::new(&state), &[&["--algorithm", "ES256"], arguments].concat())
}

/// The lines of requests in the log.
fn request_lines(server: &Server) -> usize {
    server.log().lines().filter(|line| line.contains("latencyUs")).count()
}

#[test]
fn pages_of_loopback_and_listed_origins_may_read_replies() {
    let server = start("browsers-origins", &["--allow-origin", "https://app.example.com"]);
    let tenant = server.value("COMMUNICATION_ENTRA_TENANT_ID");
    let metadata = format!("/entra/{tenant}/v2.0/.well-known/openid-configuration");
    let token = format!("/entra/{tenant}/oauth2/v2.0/token");
    for (origin, allowed) in [
        (PAGE, true),
        ("https://localhost", true),
        ("http://127.0.0.1:5173", true),
        ("http://[::1]:4200", true),
        ("https://app.example.com", true),
        ("http://app.example.com", false),
        ("https://evil.example", false),
        ("null", false),
    ] {
        let origin_line = format!("Origin: {origin}");
        let requested = [
            &origin_line,
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,content-type,x-ms-client-request-id,x-ms-useragent",
        ];
        for target in [EXCHANGE, "/identities?api-version=2023-10-01", &token] {
            let preflight = send(&server, "OPTIONS", target, &requested);
            assert_eq!((preflight.status, preflight.body.as_str()), (204, ""), "{origin} {target}");
            assert_eq!(preflight.is_readable(), allowed, "{origin} {target}: {}", preflight.head);
            let methods = preflight.header("access-control-allow-methods");
            assert_eq!(methods, allowed.then_some("POST"), "{origin} {target}");
        }
        for (method, target, status) in [
            ("POST", EXCHANGE, 401),
            ("POST", "/identities?api-version=2023-10-01", 401),
            ("GET", &metadata, 200),
            ("POST", &token, 400),
        ] {
            let answer = send(&server, method, target, &[&origin_line, "Content-Length: 0"]);
            assert_eq!(answer.status, status, "{origin} {target}: {}", answer.body);
            let readable = answer.header("access-control-allow-origin");
            assert_eq!(readable, allowed.then_some(origin), "{target}");
            assert_eq!(answer.header("vary"), Some("Origin"), "{target}");
            assert_eq!(answer.is_readable(), allowed, "{origin} {target}: {}", answer.head);
        }
        let keys = send(&server, "GET", KEY_SET, &[&origin_line]);
        let readable = keys.header("access-control-allow-origin");
        assert!(keys.status == 200 && (readable == Some(origin) || readable == Some("*")), "{origin}");
    }
}

#[test]
fn head_and_wrong_methods_need_no_credential() {
    let server = start("browsers-methods", &[]);
    let metadata = format!(
        "/entra/{}/v2.0/.well-known/openid-configuration",
        server.value("COMMUNICATION_ENTRA_TENANT_ID")
    );
    for target in [KEY_SET, "/.well-known/openid-configuration", "/Health/", &metadata] {
        let get = send(&server, "GET", target, &[]);
        let head = send(&server, "HEAD", target, &[]);
        assert_eq!((get.status, head.status, head.body.as_str()), (200, 200, ""), "{target}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
    }
    for target in [KEY_SET, "/health"] {
        let post = send(&server, "POST", target, &["Content-Length: 0"]);
        assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")), "{target}");
        let options = send(&server, "OPTIONS", target, &[]);
        assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD")), "{target}");
    }
    assert_eq!(send(&server, "OPTIONS", "*", &[]).status, 204);
    let answer = send(&server, "GET", KEY_SET, &[]);
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[test]
fn probes_write_no_audit_line() {
    let server = start("browsers-health", &[]);
    let before = request_lines(&server);
    let health = send(&server, "GET", "/health", &[]);
    assert_eq!(health.status, 200);
    let body: serde_json::Value = serde_json::from_str(&health.body).unwrap();
    assert_eq!(body["status"], "ready");
    assert_eq!(body["endpoint"], server.value("COMMUNICATION_SERVICES_ENDPOINT"));
    assert!(body["version"].is_string() && body["resourceId"].is_string());
    assert_eq!(body.as_object().unwrap().len(), 4);
    let by_address = send_as(&server, "GET", "/health", "192.0.2.7:8080", &[]);
    assert_eq!((by_address.status, by_address.body.as_str()), (200, ""));
    let of_a_page = send(&server, "GET", "/health", &[&format!("Origin: {PAGE}")]);
    assert!(!of_a_page.is_readable(), "{}", of_a_page.head);
    assert_eq!(request_lines(&server), before);
    send(&server, "GET", "/favicon.ico", &[]);
    assert_eq!(request_lines(&server), before + 1, "other requests have a line");
}

#[test]
fn malformed_origins_are_refused_at_the_start() {
    let state = state_directory(SCRATCH, "browsers-malformed");
    for origin in ["https://app.example.com/", "*", "app.example.com"] {
        let refused = e2e::server::run(&["--data-dir", state.to_str().unwrap(), "--allow-origin", origin]);
        let message = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{message}");
        assert!(message.contains(origin) && message.contains("https://app.example.com"), "{message}");
    }
}

/// Finds the browser in the search path.
fn chromium() -> Option<String> {
    let find = "command -v chromium || command -v chromium-browser || command -v google-chrome";
    let found = Command::new("sh").args(["-c", find]).output().unwrap();
    found.status.success().then(|| String::from_utf8(found.stdout).unwrap().trim().to_owned())
}

#[test]
fn pages_of_a_real_browser_use_sdk_and_console() {
    let Some(chromium) = chromium() else {
        // The test harness captures what `println!` prints.
        let notice = "SKIPPED: no Chromium; install the package `chromium`, or run .ci/run as root";
        writeln!(std::io::stderr(), "{notice}").unwrap();
        return;
    };
    let server = start("browsers-chromium", &[]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/browser");
    let mut suite = server.command("node");
    suite.arg("--test").current_dir(folder).env("CHROMIUM", chromium);
    let output = suite.env("SERVER_PROGRAM", e2e::server::program()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
}
