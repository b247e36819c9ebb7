//! The local server as a program: start page, ready signal, restart, ports, shutdown.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use acs_identity::platform::{Options, Platform};
use acs_identity::state::StateKind;
use acs_identity::trust::EntraOptions;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::server::{Ready, Server, program, run, state_directory};
use identity::token::verify::{Expected, TokenError, Verifier, VerifyError};

use crate::suites::{javascript, python};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// Creates a user with a token, revokes it, and issues another. Creates and deletes a second user. Prints the first
/// user's id and all tokens.
const LIFE: &str = r#"
import json, os
from azure.communication.identity import CommunicationIdentityClient
client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
user, revoked = client.create_user_and_token(scopes=["chat"])
client.revoke_tokens(user)
active = client.get_token(user, scopes=["voip"])
gone, orphaned = client.create_user_and_token(scopes=["chat"])
client.delete_user(gone)
print(json.dumps([user.raw_id, revoked.token, active.token, orphaned.token]))
"#;

/// Issues another token for the user of an earlier server process.
const NEXT_LIFE: &str = r#"
import json, os, sys
from azure.communication.identity import CommunicationIdentityClient, CommunicationUserIdentifier
client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
print(json.dumps(client.get_token(CommunicationUserIdentifier(sys.argv[1]), scopes=["chat"]).token))
"#;

/// The output of a Python program, read as JSON.
pub(crate) fn in_python<T: serde::de::DeserializeOwned>(
    server: &Server,
    program: &str,
    arguments: &[&str],
) -> T {
    let output = server.command(python()).args(["-c", program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn users_tokens_and_revocations_survive_a_restart() {
    let state = state_directory(SCRATCH, "restart");
    let first = Server::start(&state, &[]);
    let [user, revoked, active, orphaned]: [String; 4] = in_python(&first, LIFE, &[]);
    assert!(first.stop().0.success());
    let second = Server::start(&state, &[]);
    let fresh: String = in_python(&second, NEXT_LIFE, &[&user]);
    assert!(second.stop().0.success());

    let platform = open(&state).await;
    let verifier = verifier(&platform);
    for token in [&active, &fresh] {
        assert_eq!(verifier.verify(token).await.unwrap().identity.to_string(), user);
    }
    let refused = |token: &str| {
        let token = token.to_owned();
        let verifier = &verifier;
        async move { verifier.verify(&token).await }
    };
    assert!(matches!(refused(&revoked).await, Err(VerifyError::Refused(TokenError::Revoked))));
    assert!(matches!(refused(&orphaned).await, Err(VerifyError::Refused(TokenError::IdentityGone))));
}

/// Exchanges the Teams user's token, revokes, and exchanges again. Prints the user's id and both tokens.
const TEAMS_LIFE: &str = r#"
import json, os, sys
sys.path.insert(0, sys.argv[1])
from azure.communication.identity import CommunicationIdentityClient, CommunicationUserIdentifier
from test_entra import TEAMS, user_token
client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
token, oid = user_token(f"{TEAMS}/Teams.ManageChats")
exchange = lambda: client.get_token_for_teams_user(token, os.environ["COMMUNICATION_M365_APP_ID"], oid).token
revoked = exchange()
client.revoke_tokens(CommunicationUserIdentifier(f"8:orgid:{oid}"))
print(json.dumps([f"8:orgid:{oid}", revoked, exchange()]))
"#;

#[tokio::test]
async fn teams_tokens_are_revoked_and_new_ones_work() {
    let state = state_directory(SCRATCH, "teams");
    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let [user, revoked, fresh]: [String; 3] = in_python(&server, TEAMS_LIFE, &[suite.to_str().unwrap()]);
    assert!(server.stop().0.success());
    let platform = open(&state).await;
    let verifier = verifier(&platform);
    let refused = verifier.verify(&revoked).await;
    assert!(matches!(refused, Err(VerifyError::Refused(TokenError::Revoked))), "{refused:?}");
    assert_eq!(verifier.verify(&fresh).await.unwrap().identity.to_string(), user);
}

/// The verifier of a server that has stopped.
pub(crate) fn verifier(platform: &Platform) -> Verifier {
    platform.adapters.verifier(Expected::from(&platform.resource.resource))
}

/// Opens the state of a server that has stopped.
pub(crate) async fn open(state: &Path) -> Platform {
    let options = Options {
        data_dir: state.to_owned(),
        state: StateKind::Kept,
        access_keys: None,
        names: acs_identity::names::ServerNames::default(),
        https_port: 8443,
        http_port: 8080,
        allowed_origins: Vec::new(),
        algorithm: None,
        location: None,
        region: None,
        entra: EntraOptions::default(),
        route_rules: None,
    };
    Platform::open(options, acs_identity::console::audit()).await.unwrap()
}

/// The lines under a heading of the start page, up to the next blank line.
fn example<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let from = page.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    from.take_while(|line| !line.is_empty()).map(str::trim_start).collect()
}

#[test]
fn start_page_examples_work_when_pasted() {
    let server = Server::start(&state_directory(SCRATCH, "start-page"), &["--algorithm", "ES256"]);
    let page = &server.start_page;
    assert!(page.contains(server.value("COMMUNICATION_SERVICES_CONNECTION_STRING")));
    assert!(page.contains(server.value("COMMUNICATION_SERVICES_ENDPOINT")));
    let (in_python, in_javascript) = (example(page, "Python"), example(page, "JavaScript"));
    assert_eq!((in_python.len(), in_javascript.len()), (3, 3));
    let mut commands = [server.command(python()), server.command("node")];
    commands[0].args(["-c", &in_python.join("\n")]);
    commands[1].args(["-e", &in_javascript.join("\n")]).current_dir(javascript());
    for command in &mut commands {
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let token = text.split(['\'', '"']).find(|part| part.starts_with("eyJ")).unwrap();
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        assert!(String::from_utf8(header).unwrap().contains("ES256"), "the chosen algorithm signs");
    }
}

#[test]
fn errors_name_a_port_or_directory_in_use() {
    let state = state_directory(SCRATCH, "taken");
    let server = Server::start(&state, &[]);
    let endpoint = server.value("COMMUNICATION_SERVICES_ENDPOINT");
    let port = endpoint.trim_end_matches('/').rsplit_once(':').unwrap().1.to_owned();
    let other = state_directory(SCRATCH, "taken-other");
    let refused = run(&["--https-port", &port, "--http-port", "0", "--data-dir", other.to_str().unwrap()]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(message.contains(&port) && message.contains("--https-port"), "{message}");

    let refused = run(&["--https-port", "0", "--http-port", "0", "--data-dir", state.to_str().unwrap()]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(message.contains(state.to_str().unwrap()), "{message}");
    assert!(state.join("ready.json").exists(), "the refused server leaves the signal of the running one");
}

#[test]
fn ready_signal_exists_while_the_server_runs() {
    let state = state_directory(SCRATCH, "ready");
    // This server is killed, so its signal stays.
    drop(Server::start(&state, &["--algorithm", "ES256"]));
    assert!(state.join("ready.json").exists());

    let server = Server::start(&state, &[]);
    let Ready { version, endpoints, resource_id, .. } = &server.ready;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(endpoints["https"], server.value("COMMUNICATION_SERVICES_ENDPOINT"));
    assert!(server.start_page.contains(resource_id));
    for endpoint in endpoints.values() {
        let authority = endpoint.split_once("://").unwrap().1.trim_end_matches('/');
        assert!(TcpStream::connect(authority).is_ok(), "{endpoint}");
        assert!(server.start_page.contains(endpoint), "{endpoint}");
    }
    let text = std::fs::read_to_string(state.join("ready.json")).unwrap();
    assert!(!text.contains("accesskey"), "{text}");

    let (status, last) = server.stop();
    assert!(status.success());
    assert_eq!(last.trim(), "Stopped.");
    assert!(!state.join("ready.json").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn unwritable_output_is_an_error() {
    let state = state_directory(SCRATCH, "full");
    let mut server = Command::new(program());
    server.args(["--https-port", "0", "--http-port", "0", "--algorithm", "ES256", "--data-dir"]).arg(&state);
    server.stdout(File::options().write(true).open("/dev/full").unwrap());
    let output = server.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: cannot write to standard output"), "{message}");
}

/// Only Linux has the address 127.0.0.2 without configuration.
#[cfg(target_os = "linux")]
#[test]
fn endpoint_has_the_listening_address() {
    let state = state_directory(SCRATCH, "listen");
    let server = Server::start(&state, &["--listen", "127.0.0.2", "--algorithm", "ES256"]);
    assert!(server.value("COMMUNICATION_SERVICES_ENDPOINT").starts_with("https://127.0.0.2:"));
    assert!(server.ready.http_address().starts_with("127.0.0.2:"));
    assert!(server.start_page.contains(server.ready.http_address()));
    let [_, _, token, _]: [String; 4] = in_python(&server, LIFE, &[]);
    assert!(token.starts_with("eyJ"));
    // The certificate has the names of loopback too.
    let port = server.ready.http_address().rsplit(':').next().unwrap();
    TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
}

#[test]
fn endpoint_has_the_first_host_on_all_addresses() {
    let state = state_directory(SCRATCH, "listen-everywhere");
    let server = Server::start(&state, &["--listen", "0.0.0.0", "--host", "2001:DB8::7", "--host", "b"]);
    let endpoint = server.value("COMMUNICATION_SERVICES_ENDPOINT");
    assert!(endpoint.starts_with("https://[2001:db8::7]:"), "{endpoint}");
    assert!(server.value("COMMUNICATION_SERVICES_CONNECTION_STRING").contains(endpoint));
}

#[test]
fn start_errors_are_one_line_with_the_cause() {
    let state = state_directory(SCRATCH, "cause");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("dynamodb.sqlite"), "not a database, but long enough to be looked at").unwrap();
    let arguments = ["--https-port", "0", "--http-port", "0", "--data-dir", state.to_str().unwrap()];
    let message = String::from_utf8(run(&arguments).stderr).unwrap();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(message.matches("the embedded DynamoDB: ").count(), 1, "{message}");
    assert!(message.contains("dynamodb.sqlite is not an SQLite database; "), "{message}");
}

#[test]
fn state_files_are_private_in_an_open_directory() {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = state_directory(SCRATCH, "modes");
    Server::start_after("umask 000", &state, &["--algorithm", "ES256"]).stop();
    assert_eq!(mode(&state), 0o700);

    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&state, open).unwrap();
    let _server = Server::start_after("umask 000", &state, &[]);
    assert_eq!(mode(&state), 0o755, "the mode of an existing directory stays");
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        let is_public = ["ca.pem", "ca-bundle.pem", "truststore.p12", "ready.json"]
            .iter()
            .any(|file| path.ends_with(file));
        let expected = if is_public { 0o644 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{} {:o}", path.display(), mode(&path));
    }
    assert!(state.join("control.sock").exists());
}

#[test]
fn another_algorithm_is_refused_after_a_restart() {
    let state = state_directory(SCRATCH, "stop");
    Server::start(&state, &["--algorithm", "ES256"]).stop();
    let directory = state.to_str().unwrap();
    let refused =
        run(&["--https-port", "0", "--http-port", "0", "--data-dir", directory, "--algorithm", "RS256"]);
    assert!(!refused.status.success());
    let message = String::from_utf8(refused.stderr).unwrap();
    for part in ["resource.json", "ES256", "RS256", "--algorithm"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
}

/// API Gateway refuses the head of a request with a token of many groups.
#[test]
fn a_head_above_the_limit_of_the_gateway_is_answered_with_a_warning() {
    let server = Server::start(&state_directory(SCRATCH, "large-head"), &[]);
    let ask = |length: usize| {
        let address = server.ready.http_address();
        let mut stream = TcpStream::connect(address).unwrap();
        let token = "x".repeat(length);
        let head = format!(
            "POST /identities?api-version=2023-10-01 HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Length: 0\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        let lines = server.log();
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let lines = lines.filter(|line| line.get("message").is_some());
        lines.map(|line| (line["level"].clone(), line["message"].to_string())).collect::<Vec<_>>()
    };
    assert!(ask(9_000).is_empty());
    let warnings = ask(11_000);
    let [(level, message)] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(level, "WARN");
    assert!(message.contains("a POST request") && message.contains("10240"), "{message}");
    assert!(!message.contains("xxx"), "{message}");
}

#[test]
fn metrics_count_requests_by_reason_and_name_no_identity() {
    let server = Server::start(&state_directory(SCRATCH, "metrics"), &[]);
    let ask = |request: &str| {
        let address = server.ready.http_address();
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("POST /identities?api-version=2023-10-01").starts_with("HTTP/1.1 401"));
    assert!(ask("DELETE /identities/8:acs:alice?api-version=2023-10-01").starts_with("HTTP/1.1 401"));
    let metrics = ask("GET /metrics");
    assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
    for line in [
        r#"APIRequestAuthentication_total{Operation="CreateIdentity",StatusCode="401",StatusCodeClass="4xx"} 1"#,
        r#"APIRequestAuthentication_total{Operation="DeleteIdentity",StatusCode="401",StatusCodeClass="4xx"} 1"#,
        r#"Refusals_total{Reason="Authorization"} 2"#,
        "TokensIssued_total 0",
        "SigningKeysAge ",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("alice") && metrics.trim_end().ends_with("# EOF"), "{metrics}");
}
