//! The names, ports and addresses of the local server, over real sockets, and the place where a refusal is explained.

use std::net::TcpStream;
use std::path::Path;

use e2e::server::{Server, exchange as send, state_directory};
use e2e::signer::{Call, sign};
use functions::system::System;
use identity::runtime::Clock as _;

use crate::local_server::in_python;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const CREATE: &str = "/identities?api-version=2023-10-01";
const REASON: &str = "x-acs-identity-reason: ";

fn start(test: &str, arguments: &[&str]) -> Server {
    let state = state_directory(SCRATCH, test);
    Server::start(Path::new(&state), &[&["--algorithm", "ES256"], arguments].concat())
}

fn unsigned(address: &str, host: &str) -> String {
    send(address, &format!("POST {CREATE} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// A create that is signed with the primary key for this host.
fn create(server: &Server, address: &str, host: &str) -> String {
    let (_, key) =
        server.value("COMMUNICATION_SERVICES_CONNECTION_STRING").split_once(";accesskey=").unwrap();
    let signed = sign(&Call { method: "POST", target: CREATE, body: "{}" }, key, host, System::new().now());
    let header = |name: &str| format!("{name}: {}\r\n", signed.headers[name].to_str().unwrap());
    let headers = ["host", "x-ms-date", "x-ms-content-sha256", "authorization"].map(header).concat();
    let head = format!("POST {CREATE} HTTP/1.1\r\n{headers}Content-Length: 2\r\nConnection: close\r\n\r\n");
    send(address, &format!("{head}{{}}"))
}

#[test]
fn known_names_are_accepted_at_any_port_and_in_any_letter_case() {
    let server = start("names-ports", &["--host", "MyBox"]);
    let address = server.ready.http_address();
    for host in
        ["localhost:32768", "LocalHost:32768", "LOCALHOST", "127.0.0.1:1", "[::1]:443", "mybox:8443", "MYBOX"]
    {
        let reply = create(&server, address, host);
        assert!(reply.starts_with("HTTP/1.1 201 "), "{host}: {reply}");
    }
    let reply = create(&server, address, "Host.Docker.Internal:8443");
    assert!(reply.starts_with("HTTP/1.1 401 ") && !reply.contains("docker"), "{reply}");
    assert!(
        server.log().lines().last().unwrap().contains("--host host.docker.internal "),
        "{}",
        server.log()
    );
    let reply = create(&server, address, "-x;\u{22}:8443");
    assert!(reply.starts_with("HTTP/1.1 40"), "{reply}");
    assert!(!server.log().contains("-x;"), "{}", server.log());
}

#[test]
fn reasons_are_shown_to_this_machine_only() {
    let server = start("names-reasons", &[]);
    let address = server.ready.http_address();
    let reply = unsigned(address, "localhost");
    let shown = reply.lines().find_map(|line| line.strip_prefix(REASON)).unwrap_or_else(|| panic!("{reply}"));
    assert!(server.log().contains(shown), "the audit line has the same reason");
    assert!(!unsigned(address, "identity.example.com").contains(REASON), "a proxy may pass this on");
    for head in [
        format!("POST {CREATE} HTTP/1.0"),
        format!("POST http://localhost{CREATE} HTTP/1.1\r\nHost: identity.example.com"),
        format!("POST {CREATE} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1"),
    ] {
        let reply = send(address, &format!("{head}\r\nConnection: close\r\n\r\n"));
        assert!(reply.contains(" 401 ") && !reply.contains(REASON), "{head}: {reply}");
    }
    let page = format!(
        "POST {CREATE} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\nConnection: close\r\n\r\n"
    );
    let reply = send(address, &page);
    assert!(reply.contains(", x-acs-identity-reason\r\n"), "{reply}");
    let found =
        send(address, "GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(found.starts_with("HTTP/1.1 200 ") && !found.contains(REASON), "{found}");
    assert!(server.start_page.contains("ends with the reason"), "{}", server.start_page);
}

#[test]
fn public_authority_is_published_and_the_issuer_stays() {
    const DOCUMENT: &str =
        "GET /.well-known/openid-configuration HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let state = state_directory(SCRATCH, "names-public");
    let first = Server::start(&state, &["--algorithm", "ES256"]);
    let issuer = |server: &Server| -> String {
        let reply = send(server.ready.http_address(), DOCUMENT);
        let (_, rest) = reply.split_once(r#""issuer":""#).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let kept = issuer(&first);
    assert!(first.stop().0.success());
    let server = Server::start(&state, &["--public-authority", "localhost:32768"]);
    assert_eq!(server.value("COMMUNICATION_SERVICES_ENDPOINT"), "https://localhost:32768/");
    for name in
        ["COMMUNICATION_SERVICES_CONNECTION_STRING", "COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING"]
    {
        assert!(server.value(name).starts_with("endpoint=https://localhost:32768/;"));
    }
    assert!(server.value("AZURE_AUTHORITY_HOST").starts_with("https://localhost:32768"));
    let address = server.ready.http_address();
    let document = send(address, DOCUMENT);
    assert!(document.contains(r#""jwks_uri":"https://localhost:32768/.well-known/jwks.json""#), "{document}");
    assert_eq!(issuer(&server), kept);
    let tenant = server.value("COMMUNICATION_ENTRA_TENANT_ID");
    let metadata = format!(
        "GET /Entra/{tenant}/V2.0/.well-known/openid-configuration/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    let metadata = send(address, &metadata);
    assert!(metadata.contains("https://localhost:32768/entra/"), "{metadata}");
    assert!(create(&server, address, "localhost:32768").starts_with("HTTP/1.1 201 "));
}

#[test]
fn unspecified_address_serves_both_families() {
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    for listen in ["0.0.0.0", "::"] {
        let server = start("names-families", &["--listen", listen]);
        for endpoint in ["http", "https"] {
            let port = server.ready.endpoints[endpoint].trim_end_matches('/').rsplit(':').next().unwrap();
            TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
            if has_ipv6 {
                TcpStream::connect(format!("[::1]:{port}")).unwrap();
            }
        }
    }
}

#[test]
fn further_host_at_a_later_start_needs_no_deleted_file() {
    let state = state_directory(SCRATCH, "names-later");
    let first = Server::start(&state, &["--algorithm", "ES256"]);
    assert!(!first.start_page.contains("certificate authority is new"));
    assert!(first.stop().0.success());
    let second = Server::start(&state, &["--host", "acs.internal"]);
    for part in [
        "certificate authority is new",
        state.canonicalize().unwrap().join("ca.pem").to_str().unwrap(),
        "Java",
    ] {
        assert!(second.start_page.contains(part), "{part:?} is not in {}", second.start_page);
    }
    let id: String = in_python(
        &second,
        r#"
import json, os
from azure.communication.identity import CommunicationIdentityClient
client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
print(json.dumps(client.create_user().raw_id))
"#,
        &[],
    );
    assert!(id.starts_with("8:acs:"));
    assert!(second.stop().0.success());
    let third = Server::start(&state, &["--host", "acs.internal"]);
    assert!(!third.start_page.contains("certificate authority is new"));
}
