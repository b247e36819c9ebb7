//! Key replacement by the commands of the local server, also under continuous load from the real Python SDK.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::server::{Server, program, run, state_directory};
use serde::Deserialize;

use crate::local_server::{open, verifier};
use crate::suites::python;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[derive(Deserialize)]
struct Load {
    issues: Vec<Issue>,
    commands: Vec<Replacement>,
}

#[derive(Deserialize)]
struct Issue {
    slot: String,
    began: u64,
    ended: u64,
    token: Option<String>,
    error: Option<u16>,
}

#[derive(Deserialize)]
struct Replacement {
    name: String,
    began: u64,
    ended: u64,
    /// The moment at which the clients of a regenerated slot had the new key.
    client_updated: u64,
}

impl Replacement {
    /// Whether the command revokes tokens that were issued through the slot.
    fn revokes(&self, slot: &str) -> bool {
        self.name == "rotate" || self.replaces_access_key(slot)
    }

    fn replaces_access_key(&self, slot: &str) -> bool {
        self.name == format!("regenerate {slot}")
    }
}

#[tokio::test]
async fn replacing_keys_under_load_keeps_both_promises() {
    let state = state_directory(SCRATCH, "rotation");
    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/rotation_load.py");
    let output = server.command(python()).arg(script).arg(program()).arg(&state).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let load: Load = serde_json::from_slice(&output.stdout).unwrap();
    assert!(load.issues.len() >= 150);

    // The SDK retries a 5xx without a trace, so the log of the server is searched.
    assert!(!server.log().contains("\"status\":5"), "a request failed in the server");
    for issue in &load.issues {
        // A 401 is correct only if the key was replaced before the client had the new one.
        let is_cause = |command: &&Replacement| {
            command.replaces_access_key(&issue.slot)
                && issue.ended > command.began
                && issue.began < command.client_updated
        };
        let was_replaced = load.commands.iter().any(|command| is_cause(&command));
        assert!(issue.error.is_none() || (issue.error == Some(401) && was_replaced), "{:?}", issue.error);
    }
    assert!(server.stop().0.success());
    check_tokens(&state, &load).await;
}

async fn check_tokens(state: &Path, load: &Load) {
    let platform = open(state).await;
    let verifier = verifier(&platform);
    let (mut refused, mut accepted) = (0, 0);
    for issue in &load.issues {
        let Some(token) = &issue.token else { continue };
        let is_active = verifier.verify(token).await.is_ok();
        let revocations = || load.commands.iter().filter(|command| command.revokes(&issue.slot));
        if revocations().any(|command| command.began > issue.ended) {
            assert!(!is_active, "S1: a token from before a replacement is accepted");
            refused += 1;
        }
        if revocations().all(|command| command.ended < issue.began) {
            assert!(is_active, "S2: a token from after every replacement is refused");
            accepted += 1;
        }
    }
    assert!(refused > 50 && accepted > 10, "{refused} refused, {accepted} accepted");
}

#[test]
fn key_commands_print_the_current_keys() {
    let state = state_directory(SCRATCH, "commands");
    let directory = state.to_str().unwrap();
    let page = |arguments: &[&str]| {
        let output = run(&[&["--data-dir", directory, "-o", "table"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let without_server = run(&["--data-dir", directory, "rotate"]);
    assert!(!without_server.status.success());
    assert!(String::from_utf8(without_server.stderr).unwrap().contains("no server is running"));

    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let before = page(&["keys"]);
    assert_eq!(before.lines().count(), 4, "{before}");
    for slot in ["primary", "secondary", "entra"] {
        assert!(before.lines().any(|line| line.starts_with(slot) && line.contains("ES256")), "{before}");
    }
    let after = page(&["regenerate", "secondary"]);
    let env = std::fs::read_to_string(state.join("env")).unwrap();
    let key = |env: &str| env.lines().nth(1).unwrap().split('\'').nth(1).unwrap().to_owned();
    assert!(after.contains(&key(&env)), "the new connection string is printed: {after}");
    let former = server.value("COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING");
    assert!(!after.contains(former) && !env.contains(former));
    let line = |page: &str, slot: &str| page.lines().find(|line| line.starts_with(slot)).unwrap().to_owned();
    assert_eq!(line(&before, "primary"), line(&after, "primary"));
    assert_ne!(line(&before, "secondary"), line(&after, "secondary"));
    let rotated = page(&["rotate"]);
    assert!(rotated.starts_with("Every token issued before now is "), "{rotated}");
    assert_ne!(line(&before, "primary"), line(&rotated, "primary"));
}

#[test]
fn a_schedule_rotates_the_keys() {
    let state = state_directory(SCRATCH, "schedule");
    let mut server = Command::new(program())
        .args(["--https-port", "0", "--http-port", "0", "--algorithm", "ES256", "--rotate-every", "1s"])
        .arg("--data-dir")
        .arg(state)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let is_success =
        |line: String| line.contains("\"schedule\"") && line.contains("\"done\",\"outcome\":\"success\"");
    // A rotation writes one line for each step, also when it fails, so 50 lines hold several rotations.
    let rotated = log.by_ref().take(50).any(is_success);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(rotated);
}
