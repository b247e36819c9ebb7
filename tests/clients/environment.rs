//! The options as variables, the kinds of state, and the files for clients, as programs read them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::server::{Server, program, state_directory};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const CONNECTION_STRING: &str = "COMMUNICATION_SERVICES_CONNECTION_STRING";

fn start(state: &Path, arguments: &[&str]) -> Server {
    Server::start(state, &[&["--algorithm", "ES256"], arguments].concat())
}

/// Runs the program with variables until it ends. Returns its status and its messages.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    let done = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn development_servers_share_the_resource_and_no_key() {
    let states = ["dev-one", "dev-two"].map(|name| state_directory(SCRATCH, name));
    let servers = states.each_ref().map(|state| start(state, &["--dev"]));
    let key =
        |server: &Server| server.value(CONNECTION_STRING).split_once("accesskey=").unwrap().1.to_owned();
    let [one, two] = &servers;
    assert_eq!((key(one), &one.ready.resource_id), (key(two), &two.ready.resource_id));
    assert_eq!(one.value("AZURE_CLIENT_SECRET"), two.value("AZURE_CLIENT_SECRET"));
    assert!(one.log().contains("DEVELOPMENT KEYS") && one.start_page.contains("DEVELOPMENT KEYS"));
    let [authority, other] = states.each_ref().map(|state| fs::read(state.join("ca.pem")).unwrap());
    assert_ne!(authority, other);
    let issue = |state: &Path| {
        let done = Command::new(program())
            .args(["token", "issue", "--scope", "chat", "-o", "json", "--data-dir"])
            .arg(state)
            .output()
            .unwrap();
        let issued: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        issued["token"].as_str().unwrap().to_owned()
    };
    let token = issue(&states[0]);
    for (state, verdict) in states.iter().zip(["yes", "no"]) {
        let directory = state.to_str().unwrap();
        let mut inspect = Command::new(program());
        let done =
            inspect.args(["token", "inspect", &token, "-o", "table", "--data-dir", directory]).output();
        let page = String::from_utf8(done.unwrap().stdout).unwrap();
        assert!(page.contains(&format!("active        {verdict}")), "{page}");
    }
    for state in &states {
        for file in ["resource.json", "secrets.json", "dynamodb.sqlite", "entra.json", "ca-key.pem"] {
            assert!(!state.join(file).exists(), "{file}");
        }
    }
}

#[test]
fn kinds_of_state_do_not_share_a_directory() {
    let (kept, memory) = (state_directory(SCRATCH, "kept"), state_directory(SCRATCH, "memory"));
    start(&kept, &[]).stop();
    start(&memory, &["--ephemeral"]).stop();
    for (state, option) in [(&kept, Some("--ephemeral")), (&kept, Some("--dev")), (&memory, None)] {
        let directory = state.to_str().unwrap();
        let mut arguments = vec!["--https-port", "0", "--http-port", "0", "--data-dir", directory];
        arguments.extend(option);
        let (status, message) = run(&arguments, &[]);
        assert!(status == Some(1) && message.contains("choose another --data-dir"), "{option:?}: {message}");
    }
    start(&memory, &["--ephemeral"]).stop();
}

#[test]
fn given_access_keys_are_used_and_not_shown() {
    let state = state_directory(SCRATCH, "given-keys");
    let (primary, secondary) =
        ("cHJpbWFyeS1wcmltYXJ5LXByaW1hcnktcHJpbWFyeS1wcg==", "c2Vjb25kYXJ5LXNlY29uZGFyeS1zZWNvbmRhcnktc2U=");
    let keys = format!("primary={primary},secondary={secondary}");
    let server = start(&state, &["--keys", &keys]);
    assert!(server.value(CONNECTION_STRING).ends_with(&format!("accesskey={primary}")));
    server.stop();
    let file = state.with_extension("keys");
    fs::write(&file, &keys).unwrap();
    start(&state, &["--keys", &format!("@{}", file.display())]).stop();
    let directory = state.to_str().unwrap();
    let ports = ["--https-port", "0", "--http-port", "0", "--data-dir", directory, "--keys"];
    for (given, status, part) in [
        (format!("primary={secondary},secondary={primary}"), 1, "regenerate"),
        (format!("primary={primary},secondary=c2hvcnQ="), 2, "32 bytes"),
        ("primary=%%%".to_owned(), 2, "primary=BASE64,secondary=BASE64"),
    ] {
        let (found, message) = run(&[&ports[..], &[given.as_str()]].concat(), &[]);
        assert!(found == Some(status) && message.contains(part), "{message}");
        assert!(!message.contains(primary) && !message.contains(secondary) && !message.contains("%%%"));
    }
}

#[test]
fn options_are_variables_and_beat_them() {
    let state = state_directory(SCRATCH, "variables");
    let directory = state.to_str().unwrap();
    let (status, message) = run(&[], &[("ACS_IDENTITY_HTTPS_PROT", "1")]);
    assert_eq!(status, Some(2));
    assert!(
        message.contains("ACS_IDENTITY_HTTPS_PROT") && message.contains("ACS_IDENTITY_HTTPS_PORT"),
        "{message}"
    );
    let variables = [
        ("ACS_IDENTITY_DATA_DIR", directory),
        ("ACS_IDENTITY_ALGORITHM", "HS256"),
        ("ACS_IDENTITY_LISTEN", ""),
    ];
    let (status, message) = run(&[], &variables);
    assert!(status == Some(2) && message.contains("RS256 or ES256"), "{message}");
    let ports = ["--algorithm", "ES256", "--https-port", "0", "--http-port", "0", "--location"];
    let (status, message) = run(&[&ports[..], &["NO"]].concat(), &variables);
    assert!(status == Some(2) && message.contains("not a location"), "an option beats a variable: {message}");
}

#[test]
fn options_beat_variables_that_exclude_them() {
    let ports = ["--https-port", "0", "--http-port", "0", "--algorithm", "ES256"];
    let keys = "primary=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=,secondary=QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
    for (number, (option, variable)) in [
        ("--ephemeral", ("ACS_IDENTITY_DEV", "false")),
        ("--ephemeral", ("ACS_IDENTITY_DEV", "1")),
        ("--dev", ("ACS_IDENTITY_EPHEMERAL", "0")),
        ("--dev", ("ACS_IDENTITY_EPHEMERAL", "yes")),
        ("--dev", ("ACS_IDENTITY_KEYS", keys)),
    ]
    .into_iter()
    .enumerate()
    {
        let state = state_directory(SCRATCH, &format!("excluded-{number}"));
        let server = Server::start_after(
            &format!("export {}={}", variable.0, variable.1),
            &state,
            &["--algorithm", "ES256", option],
        );
        assert_eq!(
            server.ready.resource_id == "00000000-de00-4000-8000-000000000000",
            option == "--dev",
            "{option} {variable:?}"
        );
    }
    for (options, variables) in [
        (&["--dev", "--ephemeral"][..], &[][..]),
        (&[], &[("ACS_IDENTITY_DEV", "1"), ("ACS_IDENTITY_EPHEMERAL", "1")]),
        (&["--dev", "--keys", keys], &[]),
    ] {
        let (status, message) = run(&[&ports[..], options].concat(), variables);
        assert!(status == Some(2) && message.contains("--dev cannot be used with --"), "{message}");
    }
}

#[test]
fn every_file_gives_the_same_values() {
    let state = state_directory(SCRATCH, "env-files");
    let server = start(&state, &[]);
    let plain = fs::read_to_string(state.join("docker.env")).unwrap();
    let parsed: HashMap<String, String> = plain
        .lines()
        .map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    assert_eq!(parsed, server.env);
    for name in [
        "AZURE_COMMUNICATION_CONNECTION_STRING",
        "COMMUNICATION_SAMPLES_CONNECTION_STRING",
        "ResourceConnectionString",
    ] {
        assert_eq!(server.value(name), server.value(CONNECTION_STRING), "{name}");
    }
    let script = "console.log(process.env.COMMUNICATION_SERVICES_CONNECTION_STRING)";
    let file = format!("--env-file={}", state.join("docker.env").display());
    let shown = Command::new("node").args([&file, "-e", script]).output().unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap().trim_end(), server.value(CONNECTION_STRING));
    let mut regenerate = Command::new(program());
    assert!(regenerate.args(["regenerate", "primary", "--data-dir"]).arg(&state).status().unwrap().success());
    for file in ["env", "docker.env", "env.ps1", "env.cmd"] {
        let text = fs::read_to_string(state.join(file)).unwrap();
        assert!(!text.contains(server.value(CONNECTION_STRING)), "{file} has the former key");
    }
}

#[test]
fn bundles_keep_public_roots_and_trust_the_server() {
    let state = state_directory(SCRATCH, "bundle");
    let server = start(&state, &[]);
    let count = |file: &str| {
        let text = fs::read_to_string(file).unwrap();
        text.matches("BEGIN CERTIFICATE").count()
    };
    let bundle = server.value("SSL_CERT_FILE");
    let url = format!("{}health", server.ready.endpoints["https"]);
    let asked = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", bundle, &url])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(asked.stdout).unwrap(), "200");
    let before = count(bundle);
    drop(server);
    // A shell that has loaded the file starts the server again.
    let mut again = Command::new(program());
    let mut child = again
        .args(["--https-port", "0", "--http-port", "0", "--data-dir"])
        .arg(&state)
        .env("SSL_CERT_FILE", state.join("ca-bundle.pem"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ready = e2e::server::Ready::wait(&state, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(ready.is_some());
    assert_eq!(count(state.join("ca-bundle.pem").to_str().unwrap()), before);
    if let Ok(listed) = Command::new("keytool")
        .args(["-list", "-storepass", "changeit", "-keystore"])
        .arg(state.join("truststore.p12"))
        .output()
    {
        let text = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(text.matches("trustedCertEntry").count(), before, "{text}");
    }
}
