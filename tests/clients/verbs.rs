//! The commands of the program, against the local server and against other endpoints.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use e2e::server::{Ready, Server, program, state_directory};
use serde_json::{Value, json};

use crate::local_server::in_python;
use crate::suites::python;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const PRIMARY: &str = "COMMUNICATION_SERVICES_CONNECTION_STRING";
const AZURE: &str = "AZURE_COMMUNICATION_CONNECTION_STRING";
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn start(test: &str) -> (Server, PathBuf) {
    let state = state_directory(SCRATCH, test);
    (Server::start(&state, &["--algorithm", "ES256"]), state)
}

/// The program without the variables of the caller.
fn verbs(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_remove(PRIMARY).env_remove(AZURE).stdin(Stdio::null());
    command
}

/// A command against the running server on a state directory.
fn local(state: &Path, arguments: &[&str]) -> Command {
    let mut command = verbs(&["--data-dir", state.to_str().unwrap()]);
    command.args(arguments);
    command
}

/// The standard output of a success.
fn text(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn object(command: &mut Command) -> Value {
    serde_json::from_str(&text(command)).unwrap()
}

/// The exit status and standard error of a failure. Standard output must be empty.
fn failure(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(String::from_utf8(stdout).unwrap(), "");
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Creates a user, issues and revokes tokens, and deletes the user.
fn live(command: impl Fn(&[&str]) -> Command, is_active: impl Fn(&str) -> bool) {
    let created = object(&mut command(&["user", "create"]));
    let user = created["rawId"].as_str().unwrap();
    assert_eq!(created, json!({"properties": {"id": user}, "rawId": user}));

    let issue = ["token", "issue", "--scope", "chat", "voip", "--minutes", "60"];
    let issued = object(command(&issue).args(["--user", user]));
    assert_eq!(members(&issued), ["expires_on", "token", "user_id"]);
    assert_eq!(issued["user_id"], user);
    let token = issued["token"].as_str().unwrap();
    assert!(is_active(token));
    let with_user = object(&mut command(&issue));
    assert_ne!(with_user["user_id"], user);
    assert!(is_active(with_user["token"].as_str().unwrap()));

    assert_eq!(text(&mut command(&["token", "revoke", "--user", user, "--yes"])), "");
    assert!(!is_active(token));
    assert_eq!(text(&mut command(&["user", "delete", "--user", user, "-y"])), "");
    let (status, message) = failure(command(&issue).args(["--user", user]));
    assert_eq!(status, 1, "{message}");
    assert!(message.starts_with("ERROR: (") && message.lines().count() == 1, "{message}");
}

#[test]
fn verbs_serve_the_whole_life_of_a_user_at_every_endpoint() {
    let (server, state) = start("verbs-life");
    let inspect = |token: &str| object(&mut local(&state, &["token", "inspect", token]));
    let is_active = |token: &str| inspect(token)["active"] == true;
    live(|arguments| local(&state, arguments), is_active);
    // The environment file trusts the authority of the server, as the roots of a system trust that of a deployment.
    let elsewhere = state.with_file_name("no-server");
    let at = |arguments: &[&str]| {
        let mut command = local(&elsewhere, arguments);
        command.env("SSL_CERT_FILE", state.join("ca.pem"));
        command
    };
    let string = server.value(PRIMARY);
    live(|arguments| at(&[arguments, &["--connection-string", string]].concat()), is_active);
    let with_variable = |name: &'static str, value: String| {
        move |arguments: &[&str]| {
            let mut command = at(arguments);
            command.env(name, &value);
            command
        }
    };
    live(with_variable(AZURE, format!("{}\r\n", string.replace("accesskey", "AccessKey"))), is_active);
    let http =
        string.replace(server.value("COMMUNICATION_SERVICES_ENDPOINT"), &server.ready.endpoints["http"]);
    assert!(http.starts_with("endpoint=http://"), "{http}");
    live(with_variable(PRIMARY, http), is_active);
    let untrusted = local(&elsewhere, &["user", "create", "--connection-string", string]);
    let (status, message) = failure(&mut { untrusted });
    assert_eq!(status, 3, "{message}");
    assert!(!message.contains("accesskey"), "{message}");
}

#[test]
fn outputs_have_the_chosen_form() {
    let (_server, state) = start("verbs-forms");
    let user = text(&mut local(&state, &["user", "create", "-o", "tsv"])).trim().to_owned();
    assert!(user.starts_with("8:acs:"), "{user}");
    let issue = |form: &str| {
        text(&mut local(&state, &["token", "issue", "--scope", "chat", "--user", &user, "-o", form]))
    };
    let line = issue("tsv");
    let values: Vec<&str> = line.trim_end().split('\t').collect();
    assert!(values.len() == 3 && values[0] == user && values[1].starts_with("eyJ"), "{values:?}");
    let table = issue("table");
    assert!(table.starts_with(&format!("user_id       {user}\ntoken         eyJ")), "{table}");
    let script = format!("{}printf '%s' \"$USER_ID $TOKEN\"", issue("env"));
    let printed = text(Command::new("sh").arg("-c").arg(script));
    assert!(printed.starts_with(&format!("{user} eyJ")), "{printed}");

    let newer = object(&mut local(&state, &["user", "create"]))["rawId"].clone();
    local(&state, &["user", "delete", "-y", "--user", &user]).output().unwrap();
    let listed = object(&mut local(&state, &["user", "list"]));
    let shown: Vec<_> = listed.as_array().unwrap().iter().map(|user| (&user["id"], &user["state"])).collect();
    assert_eq!(shown, [(&newer, &json!("live")), (&json!(user), &json!("deleted"))]);
    assert_eq!(object(&mut local(&state, &["user", "show", &user])), listed[1]);
    assert_eq!(members(&listed[0]), ["created", "id", "origin", "revision", "state"]);
    let table = text(&mut local(&state, &["user", "list", "-o", "table"]));
    assert!(table.starts_with("id ") && table.lines().count() == 3, "{table}");
    assert_eq!(failure(&mut local(&state, &["user", "show", "8:acs:nobody"])).0, 1);

    let keys = object(&mut local(&state, &["keys"]));
    assert_eq!(keys.as_array().unwrap().len(), 3);
    let inspected = object(&mut local(&state, &["token", "inspect", "nonsense"]));
    assert_eq!((&inspected["active"], &inspected["claims"]), (&json!(false), &Value::Null));
}

#[test]
fn new_connection_strings_are_printed_only_on_request() {
    let (_server, state) = start("verbs-regenerate");
    let quiet = text(&mut local(&state, &["regenerate", "primary"]));
    assert!(!quiet.contains("accesskey") && quiet.contains("publishedAt"), "{quiet}");
    let asked = text(&mut local(&state, &["regenerate", "secondary", "-o", "tsv"]));
    let env = std::fs::read_to_string(state.join("env")).unwrap();
    assert!(env.contains(&format!("SECONDARY_CONNECTION_STRING='{}'", asked.trim())), "{asked}");
    let json = object(&mut local(&state, &["regenerate", "primary", "-o", "json"]));
    assert_eq!(members(&json), ["connectionString", "keys"]);
    assert_eq!(text(&mut local(&state, &["env"])), std::fs::read_to_string(state.join("env")).unwrap());
}

/// Answers one request of plain HTTP with these bytes. Returns the request.
fn answer_once(answer: &str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let string = format!("endpoint=http://{}/;accesskey={KEY}", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut line) = (String::new(), String::new());
        while request.read_line(&mut line).unwrap() > 2 {
            head.push_str(&std::mem::take(&mut line));
        }
        stream.write_all(answer.as_bytes()).unwrap();
        head
    });
    (string, server)
}

#[test]
fn exit_statuses_separate_refusal_usage_and_unreachable_service() {
    let state = state_directory(SCRATCH, "verbs-statuses");
    let create = ["user", "create"];
    let at = |string: &str| local(&state, &["user", "create", "--connection-string", string]);
    let body = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    };
    for (answer, status, message) in [
        (
            body("401 Unauthorized", r#"{"error":{"code":"Denied","message":"No.\u001b[31m"}}"#),
            1,
            "ERROR: (Denied) No.\\u{1b}[31m",
        ),
        (body("429 Too Many", ""), 1, "ERROR: (429) the answer has no error object"),
        (body("200 OK", "<html>"), 1, "is not one of an identity service"),
        (body("201 Created", "{}"), 1, "is not that of an identity service"),
        (body("503 Unavailable", ""), 3, "is not available now"),
        (String::new(), 3, "cannot reach http://127.0.0.1:"),
    ] {
        let (string, server) = answer_once(&answer);
        let (code, error) = failure(&mut at(&string));
        assert_eq!(code, status, "{error}");
        assert!(error.contains(message) && !error.contains(KEY), "{error}");
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /identities?api-version=2023-10-01 HTTP/1.1"), "{request}");
    }
    for (command, status) in [
        (local(&state, &create), 3),
        (local(&state, &["keys"]), 3),
        (local(&state, &["env"]), 3),
        (local(&state, &["healthcheck"]), 1),
        (at("endpoint=https://localhost/"), 2),
        (at(&format!("endpoint=http://example.com/;accesskey={KEY}")), 2),
        (local(&state, &["token", "issue"]), 2),
        (local(&state, &["user", "list", "--user"]), 2),
        (local(&state, &["keys", "-o", "env"]), 2),
        (local(&state, &["exec"]), 2),
        (local(&state, &["user", "delete", "--user", "8:acs:a"]), 2),
        (local(&state, &["token", "revoke", "--user", "8:acs:a"]), 2),
    ] {
        let arguments = format!("{command:?}");
        let (code, error) = failure(&mut { command });
        assert_eq!(code, status, "{arguments}: {error}");
        assert!(error.starts_with("error: ") && !error.contains(KEY), "{arguments}: {error}");
    }
}

/// Prints the Entra token of the Teams user and the user's object id.
const TEAMS_TOKEN: &str = r#"
import json, sys
sys.path.insert(0, sys.argv[1])
from test_entra import TEAMS, user_token
print(json.dumps(user_token(f"{TEAMS}/Teams.ManageChats")))
"#;

#[test]
fn teams_tokens_are_exchanged_and_never_in_a_message() {
    let (server, state) = start("verbs-teams");
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let [token, user]: [String; 2] = in_python(&server, TEAMS_TOKEN, &[suite.to_str().unwrap()]);
    let exchange = |user: &str| {
        let app = server.value("COMMUNICATION_M365_APP_ID");
        let verb = ["token", "get-for-teams-user", "--aad-token", "-", "--client", app, "--aad-user", user];
        let mut command = local(&state, &verb);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{token}\n").as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let done = exchange(&user);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let issued: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(members(&issued), ["expires_on", "token"]);
    let refused = exchange("00000000-0000-0000-0000-000000000001");
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.starts_with("ERROR: (ValidationError) "), "{message}");
    let key = server.value(PRIMARY).split_once("accesskey=").unwrap().1;
    let log = server.log();
    for secret in [&token, issued["token"].as_str().unwrap(), key] {
        assert!(!message.contains(secret) && !log.contains(secret));
    }
}

#[test]
fn printed_curl_lines_do_the_calls() {
    let (_server, state) = start("verbs-curl");
    let curl = |arguments: &[&str]| {
        let output = local(&state, &[arguments, &["--curl"]].concat()).output().unwrap();
        let note = String::from_utf8(output.stderr).unwrap();
        assert!(note.contains("valid for some minutes"), "{note}");
        let line = String::from_utf8(output.stdout).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        text(Command::new("sh").arg("-ec").arg(line))
    };
    let created: Value = serde_json::from_str(&curl(&["user", "create"])).unwrap();
    let user = created["identity"]["id"].as_str().unwrap();
    let issued: Value =
        serde_json::from_str(&curl(&["token", "issue", "--scope", "chat", "--user", user])).unwrap();
    let inspect = ["token", "inspect", issued["token"].as_str().unwrap()];
    assert_eq!(object(&mut local(&state, &inspect))["active"], true);
    assert_eq!(curl(&["token", "revoke", "--user", user]), "");
    assert_eq!(object(&mut local(&state, &inspect))["active"], false);
    assert_eq!(curl(&["user", "delete", "--user", user]), "");
    assert_eq!(object(&mut local(&state, &["user", "show", user]))["state"], "deleted");
}

/// Runs a command on a terminal, with these keys. Prints the text on the terminal, and exits as the command does.
const ON_TERMINAL: &str = r#"
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"#;

#[test]
fn terminals_get_tables_and_questions() {
    let (_server, state) = start("verbs-terminal");
    let on_terminal = |arguments: &[&str], keys: &str| {
        let mut command = Command::new(python());
        command.args(["-c", ON_TERMINAL]).arg(program()).args(["--data-dir", state.to_str().unwrap()]);
        command.args(arguments).env_remove(PRIMARY).env_remove(AZURE);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, table) = on_terminal(&["user", "create"], "");
    assert_eq!(status, 0, "{table}");
    let user = table.strip_prefix("user_id       ").unwrap_or_else(|| panic!("{table}")).trim_end();
    let delete = ["user", "delete", "--user", user];
    let (status, screen) = on_terminal(&delete, "n\n");
    assert_eq!(status, 1, "{screen}");
    assert!(screen.contains(&format!("Do you want to delete the user {user}? (y/n): ")), "{screen}");
    assert_eq!(object(&mut local(&state, &["user", "show", user]))["state"], "live");
    assert_eq!(on_terminal(&delete, "y\n").0, 0);
    assert_eq!(object(&mut local(&state, &["user", "show", user]))["state"], "deleted");
    let (status, screen) = on_terminal(&["regenerate", "primary"], "");
    assert!(status == 0 && screen.contains("accesskey="), "{screen}");
}

#[test]
fn closed_and_full_outputs_are_errors() {
    let (_server, state) = start("verbs-outputs");
    let mut closed = local(&state, &["user", "create"]);
    let mut child = closed.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut outputs = vec![child.wait_with_output().unwrap()];
    if cfg!(target_os = "linux") {
        for verb in [&["user", "list"][..], &["rotate"]] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let command = &mut local(&state, verb);
            outputs.push(
                command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap(),
            );
        }
    }
    for output in outputs {
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("cannot write to standard output"), "{message}");
    }
}

fn exec(script: &str) -> Command {
    verbs(&["exec", "--algorithm", "ES256", "--", "sh", "-c", script])
}

/// The state directory of a server whose variables a command has printed.
fn state_of(printed: &str) -> PathBuf {
    Path::new(printed.lines().next().unwrap()).parent().unwrap().to_owned()
}

#[test]
fn exec_serves_one_command_and_removes_the_state() {
    let script =
        r#"echo "$SSL_CERT_FILE"; ls "${SSL_CERT_FILE%/*}" >&2; "$0" token issue --scope chat -o tsv"#;
    let output = exec(script).arg(program()).output().unwrap();
    let (printed, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(printed.contains("\teyJ") && errors.contains("ca.pem"), "{printed}{errors}");
    assert!(!errors.contains("\"operation\""), "the log of the server is only for failures: {errors}");
    assert!(!state_of(&printed).exists());

    let output = exec(&format!("{script}; exit 7")).arg(program()).output().unwrap();
    let (printed, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(7), "{errors}");
    assert!(errors.contains("\"operation\":\"create_identity\"") && !errors.contains("eyJ"), "{errors}");
    assert!(!state_of(&printed).exists());

    let output = exec("echo \"$SSL_CERT_FILE\"; kill -KILL $$").output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 9));
    assert!(!state_of(&String::from_utf8(output.stdout).unwrap()).exists());

    let missing = verbs(&["exec", "--algorithm", "ES256", "--", "/no/such/command"]).output().unwrap();
    let message = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(127), "{message}");
    assert!(message.starts_with("error: cannot run /no/such/command: "), "{message}");
}

#[test]
fn commands_beside_exec_use_its_server() {
    let (_outer, state) = start("verbs-beside-exec");
    let keys = text(&mut local(&state, &["keys"]));
    let seed = state.with_file_name("exec-seed.json");
    std::fs::write(&seed, r#"{"identities":{"bob":{"customId":"b-1"}}}"#).unwrap();
    let script = r#"set -e; "$0" rotate >/dev/null; "$0" healthcheck; "$0" user list -o tsv
        "$0" token inspect "$("$0" token issue --scope chat -o tsv | cut -f2)"; echo "$NO_PROXY" "$no_proxy""#;
    let mut command = verbs(&["exec", "--algorithm", "ES256", "--seed", seed.to_str().unwrap()]);
    command.args(["--", "sh", "-c", script]).arg(program()).current_dir(state.parent().unwrap());
    command
        .env("NO_PROXY", "internal.example")
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env_remove("no_proxy");
    let printed = text(&mut command);
    assert!(printed.starts_with("ready\n8:acs:") && printed.contains("\tcustomId\t"), "{printed}");
    assert!(printed.contains("\"active\": true"), "{printed}");
    let names = "internal.example,localhost,127.0.0.1,::1";
    assert!(printed.ends_with(&format!("{names} {names}\n")), "{printed}");
    assert_eq!(text(&mut local(&state, &["keys"])), keys, "the other server keeps its keys");
}

#[test]
fn options_without_effect_are_refused() {
    let state = state_directory(SCRATCH, "verbs-no-effect");
    for (arguments, message) in [
        (&["--dev", "exec", "--", "true"][..], "give --dev after exec"),
        (&["--dev", "user", "create"], "--dev is for the server"),
        (&["exec", "--data-dir", "d", "--", "true"], "leave out --data-dir"),
        (&["--data-dir", "d", "exec", "--", "true"], "leave out --data-dir"),
        (&["env", "-o", "json"], "env has --format"),
        (&["healthcheck", "-o", "json"], "-o is for"),
        (&["-o", "json"], "-o is for"),
        (&["exec", "--seed", "/no/such/file", "--", "true"], "no such file"),
    ] {
        let (status, found) = failure(verbs(arguments).current_dir(state.parent().unwrap()));
        assert!(matches!(status, 1 | 2) && found.contains(message), "{arguments:?}: {found}");
    }
}

#[test]
fn local_commands_reach_servers_with_other_public_names() {
    let state = state_directory(SCRATCH, "verbs-public-name");
    let options = ["--algorithm", "ES256", "--listen", "127.0.0.1", "--host", "no.such.name"];
    let server = Server::start(&state, &[&options[..], &["--public-authority", "localhost:1"]].concat());
    assert_eq!(server.value("COMMUNICATION_SERVICES_ENDPOINT"), "https://localhost:1/");
    assert_eq!(text(&mut local(&state, &["healthcheck"])), "ready\n");
    let created = object(&mut local(&state, &["user", "create"]));
    assert_eq!(object(&mut local(&state, &["user", "list"]))[0]["id"], created["rawId"]);
    let with_option = ["user", "create", "--connection-string", server.value(PRIMARY)];
    object(&mut local(&state, &with_option));
}

#[test]
fn variables_of_an_ended_server_are_not_printed() {
    let (server, state) = start("verbs-env-ended");
    assert!(text(&mut local(&state, &["env"])).contains("accesskey="));
    // This server is killed, so its files stay.
    drop(server);
    assert!(state.join("env").exists() && state.join("ready.json").exists());
    for verb in [&["env"][..], &["keys"], &["user", "create"]] {
        let (status, message) = failure(&mut local(&state, verb));
        assert!(status == 3 && message.contains("no server is running"), "{verb:?}: {message}");
    }
}

#[test]
fn variables_of_the_platform_for_functions_are_printed() {
    let state = state_directory(SCRATCH, "verbs-platform");
    let mut command = local(&state, &["--algorithm", "ES256", "platform", "--aws-port", "0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ready = Ready::wait(&state, &mut child).unwrap();
    assert!(ready.endpoints.contains_key("aws"));
    let variables = text(&mut local(&state, &["env"]));
    let health = failure(&mut local(&state, &["healthcheck"]));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(variables.contains("accesskey="), "{variables}");
    assert!(health.0 == 1 && health.1.contains("has no HTTP port"), "{health:?}");
}

/// Waits for a signal and exits with its number.
const WAIT: &str = r#"
import os, signal, sys
signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print(os.environ["SSL_CERT_FILE"], flush=True)
sys.exit(signal.sigwait(signals))
"#;

#[test]
fn exec_forwards_signals_to_a_hanging_command() {
    for (signal, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        let mut command = verbs(&["exec", "--algorithm", "ES256", "--"]);
        let mut child = command.arg(python()).args(["-c", WAIT]).stdout(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        printed.read_line(&mut line).unwrap();
        assert!(state_of(&line).exists());
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(number));
        assert!(!state_of(&line).exists());
        printed.read_to_string(&mut line).unwrap();
    }
    // This command has the default action for the signal.
    let script = r#"echo "$SSL_CERT_FILE"; kill -TERM $PPID; exec sleep 600"#;
    let output = exec(script).output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 15));
    assert!(!state_of(&String::from_utf8(output.stdout).unwrap()).exists());
}

#[test]
fn health_checks_follow_the_server() {
    let (server, state) = start("verbs-health");
    assert_eq!(text(&mut local(&state, &["healthcheck"])), "ready\n");
    server.stop();
    let (status, message) = failure(&mut local(&state, &["healthcheck"]));
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("no server is running"), "{message}");
}

#[test]
fn versions_name_commit_and_target() {
    let printed = text(&mut verbs(&["--version"]));
    let expected = format!("acs-identity {} (commit ", env!("CARGO_PKG_VERSION"));
    assert!(printed.starts_with(&expected) && printed.contains(std::env::consts::ARCH), "{printed}");
}
