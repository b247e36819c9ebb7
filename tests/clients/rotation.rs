//! Keys replaced under continuous load from the real Python SDK, by the commands an operator uses.

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
    /// When the clients of a regenerated slot had the new key.
    told: u64,
}

impl Replacement {
    fn reaches(&self, slot: &str) -> bool {
        self.name == "rotate" || self.refuses(slot)
    }

    fn refuses(&self, slot: &str) -> bool {
        self.name == format!("regenerate {slot}")
    }
}

#[tokio::test]
async fn keys_are_replaced_under_load_without_failing_anyone() {
    let state = state_directory(SCRATCH, "rotation");
    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/rotation_load.py");
    let output = server.command(python()).arg(script).arg(program()).arg(&state).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let load: Load = serde_json::from_slice(&output.stdout).unwrap();
    assert!(load.issues.len() >= 150);

    // The SDK tries again by itself on a 5xx, so the server's own log is asked.
    assert!(!server.log().contains("\"status\":5"), "a request failed in the server");
    for issue in &load.issues {
        // Only a key that was replaced while the request ran, or before its client was told, is refused.
        let excused = |command: &&Replacement| {
            command.refuses(&issue.slot) && issue.ended > command.began && issue.began < command.told
        };
        let excuse = load.commands.iter().find(excused);
        assert!(issue.error.is_none() || (issue.error == Some(401) && excuse.is_some()), "{:?}", issue.error);
    }
    assert!(server.stop().0.success());
    check_tokens(&state, &load).await;
}

async fn check_tokens(state: &Path, load: &Load) {
    let platform = open(state).await;
    let verifier = verifier(&platform);
    let (mut dead, mut active) = (0, 0);
    for issue in &load.issues {
        let Some(token) = &issue.token else { continue };
        let is_alive = verifier.verify(token).await.is_ok();
        let reaching = || load.commands.iter().filter(|command| command.reaches(&issue.slot));
        if reaching().any(|command| command.began > issue.ended) {
            assert!(!is_alive, "S1: a token issued before a replacement is active");
            dead += 1;
        }
        if reaching().all(|command| command.ended < issue.began) {
            assert!(is_alive, "S2: a token issued after every replacement is dead");
            active += 1;
        }
    }
    assert!(dead > 50 && active > 10, "{dead} dead, {active} active");
}

#[test]
fn commands_list_keys_and_say_what_changed() {
    let state = state_directory(SCRATCH, "commands");
    let directory = state.to_str().unwrap();
    let said = |arguments: &[&str]| {
        let output = run(&[&["--data-dir", directory], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let unheard = run(&["--data-dir", directory, "rotate"]);
    assert!(!unheard.status.success());
    assert!(String::from_utf8(unheard.stderr).unwrap().contains("no server is running"));

    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let before = said(&["keys"]);
    assert_eq!(before.lines().count(), 4, "{before}");
    for slot in ["primary", "secondary", "entra"] {
        assert!(before.lines().any(|line| line.starts_with(slot) && line.contains("ES256")), "{before}");
    }
    let after = said(&["regenerate", "secondary"]);
    let env = std::fs::read_to_string(state.join("env")).unwrap();
    let key = |env: &str| env.lines().nth(1).unwrap().split('\'').nth(1).unwrap().to_owned();
    assert!(after.contains(&key(&env)), "the new connection string is printed: {after}");
    let former = server.value("COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING");
    assert!(!after.contains(former) && !env.contains(former));
    let same = |page: &str, slot: &str| page.lines().find(|line| line.starts_with(slot)).unwrap().to_owned();
    assert_eq!(same(&before, "primary"), same(&after, "primary"));
    assert_ne!(same(&before, "secondary"), same(&after, "secondary"));
    let rotated = said(&["rotate"]);
    assert!(rotated.contains("revoked"));
    assert_ne!(same(&before, "primary"), same(&rotated, "primary"));
}

#[test]
fn a_schedule_rotates_by_itself() {
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
    let done =
        |line: String| line.contains("\"schedule\"") && line.contains("\"done\",\"outcome\":\"success\"");
    // A rotation writes a line for each of its steps, a failed one too.
    let rotated = log.by_ref().take(50).any(done);
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(rotated);
}
