//! The local server as a program: start page, restart, ports, shutdown.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use acs_identity::platform::{Options, Platform};
use acs_identity::trust::EntraOptions;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::server::{Server, run, state_directory};
use identity::token::verify::{Expected, TokenError, Verifier, VerifyError};

use crate::suites::{javascript, python};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// Creates a user with a token, revokes, issues another; prints id and tokens.
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

/// Issues another token for the user of an earlier life.
const NEXT_LIFE: &str = r#"
import json, os, sys
from azure.communication.identity import CommunicationIdentityClient, CommunicationUserIdentifier
client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
print(json.dumps(client.get_token(CommunicationUserIdentifier(sys.argv[1]), scopes=["chat"]).token))
"#;

/// What a Python program prints, as JSON.
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

/// Exchanges the Teams user's token, revokes, exchanges again; prints both tokens.
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
async fn a_revoked_teams_user_is_dead_at_once_and_a_fresh_exchange_alive() {
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
        names: acs_identity::names::Names::default(),
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
fn the_examples_of_the_start_page_work_when_pasted() {
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
fn a_taken_port_or_directory_is_named() {
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
}

/// 127.0.0.2 is there without being set up on Linux alone.
#[cfg(target_os = "linux")]
#[test]
fn clients_are_told_the_address_that_is_listened_on() {
    let state = state_directory(SCRATCH, "listen");
    let server = Server::start(&state, &["--listen", "127.0.0.2", "--algorithm", "ES256"]);
    assert!(server.value("COMMUNICATION_SERVICES_ENDPOINT").starts_with("https://127.0.0.2:"));
    assert!(server.start_page.contains("http://127.0.0.2:"));
    let [_, _, token, _]: [String; 4] = in_python(&server, LIFE, &[]);
    assert!(token.starts_with("eyJ"));
    assert!(server.stop().0.success());

    // The authority of the first start signs for that address, but not for this name.
    let arguments =
        ["--https-port", "0", "--http-port", "0", "--listen", "0.0.0.0", "--host", "acs.internal"];
    let refused = run(&[&arguments[..], &["--data-dir", state.to_str().unwrap()]].concat());
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    let state = state.canonicalize().unwrap();
    let expected = format!(
        "error: the certificate: {}/ca.pem may sign only for the names it was made for, not for all of \
         acs.internal, localhost, 127.0.0.1, ::1; delete ca.pem and ca-key.pem in its directory to have a \
         new authority made, then let clients trust the new ca.pem",
        state.display()
    );
    assert_eq!(message.lines().last(), Some(expected.as_str()));
}

#[test]
fn clients_are_told_the_first_name_when_every_address_is_listened_on() {
    let state = state_directory(SCRATCH, "listen-everywhere");
    let server = Server::start(&state, &["--listen", "0.0.0.0", "--host", "2001:DB8::7", "--host", "b"]);
    let endpoint = server.value("COMMUNICATION_SERVICES_ENDPOINT");
    assert!(endpoint.starts_with("https://[2001:db8::7]:"), "{endpoint}");
    assert!(server.value("COMMUNICATION_SERVICES_CONNECTION_STRING").contains(endpoint));
}

#[test]
fn what_failed_is_told_with_its_cause_in_one_line() {
    let state = state_directory(SCRATCH, "cause");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("dynamodb.sqlite"), "not a database, but long enough to be looked at").unwrap();
    let arguments = ["--https-port", "0", "--http-port", "0", "--data-dir", state.to_str().unwrap()];
    let message = String::from_utf8(run(&arguments).stderr).unwrap();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(message.matches("cannot use the table file").count(), 1, "{message}");
    assert!(message.contains("not a valid SQLite database"), "{message}");
}

#[test]
fn state_is_for_its_owner_even_in_an_open_directory() {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let state = state_directory(SCRATCH, "modes");
    Server::start(&state, &["--algorithm", "ES256"]).stop();
    assert_eq!(mode(&state), 0o700);

    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&state, open).unwrap();
    let _server = Server::start(&state, &[]);
    assert_eq!(mode(&state), 0o755, "its owner's choice");
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        // What clients are shown anyway.
        let public = ["ca.pem", "resource.json"].iter().any(|file| path.ends_with(file));
        assert!(public || mode(&path) == 0o600, "{} {:o}", path.display(), mode(&path));
    }
    assert!(state.join("control.sock").exists());
}

#[test]
fn ctrl_c_ends_it_well_and_another_choice_on_restart_is_refused() {
    let state = state_directory(SCRATCH, "stop");
    let (status, last) = Server::start(&state, &["--algorithm", "ES256"]).stop();
    assert!(status.success());
    assert_eq!(last.trim(), "Stopped.");
    let refused = run(&[
        "--https-port",
        "0",
        "--http-port",
        "0",
        "--data-dir",
        state.to_str().unwrap(),
        "--algorithm",
        "RS256",
    ]);
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("algorithm"));
}
