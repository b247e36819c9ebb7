//! The client suites. Each runs against its own server, and the log of the server must hold no secret.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::server::{Server, run, state_directory};

pub(crate) fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// The Python interpreter with the pinned packages.
pub(crate) fn python() -> PathBuf {
    clients().join("python/.venv/bin/python")
}

/// The folder of the JavaScript client with its packages.
pub(crate) fn javascript() -> PathBuf {
    clients().join("javascript")
}

/// Adds the credential of a resource server, and returns its id and its secret with a colon between them.
pub(crate) fn resource_server(server: &Server, name: &str) -> String {
    let output = run(&["--data-dir", server.state().to_str().unwrap(), "resource-server", "add", name]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let added: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    format!("{}:{}", added["client_id"].as_str().unwrap(), added["client_secret"].as_str().unwrap())
}

fn passes(test: &str, prepare: impl FnOnce(&Server) -> Command) {
    let server = Server::start(&state_directory(env!("CARGO_TARGET_TMPDIR"), test), &[]);
    let mut suite = prepare(&server);
    let output =
        suite.output().unwrap_or_else(|error| panic!("{suite:?}: {error}; tests/run installs the packages"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    no_secret_in_the_log(&server);
}

pub(crate) fn no_secret_in_the_log(server: &Server) {
    let log = server.log();
    assert!(log.lines().count() > 5, "the log has too few lines for a search:\n{log}");
    // Request ids are removed, because a random one may contain the beginning of a token by chance.
    let searched = log.lines().map(|line| match serde_json::from_str(line) {
        Ok(serde_json::Value::Object(mut members)) => {
            assert_eq!(
                members.remove("requestId").and_then(|id| id.as_str().map(str::len)).unwrap_or(22),
                22
            );
            serde_json::Value::Object(members).to_string()
        }
        _ => panic!("not a JSON line: {line}"),
    });
    let searched: Vec<_> = searched.collect();
    let key = |name: &str| server.value(name).split_once("accesskey=").unwrap().1.to_owned();
    for secret in [
        key("COMMUNICATION_SERVICES_CONNECTION_STRING"),
        key("COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING"),
        server.value("AZURE_CLIENT_SECRET").to_owned(),
        server.value("COMMUNICATION_MSAL_PASSWORD").to_owned(),
        // The beginning of every token, and the text before every signature.
        "eyJ".to_owned(),
        "Signature=".to_owned(),
    ] {
        assert!(!searched.iter().any(|line| line.contains(&secret)), "{secret} was logged");
    }
}

#[test]
fn python_sync_aio_and_raw() {
    passes("python", |server| {
        let mut suite = server.command(python());
        suite.env("RESOURCE_SERVER_CREDENTIAL", resource_server(server, "openapi"));
        suite.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(clients().join("python"));
        suite
    });
}

/// The samples in the source distribution of the SDK, with the environment file alone.
#[test]
fn python_sdk_samples_run_unchanged() {
    for sample in ["identity_samples.py", "identity_samples_async.py"] {
        let server = Server::start(&state_directory(env!("CARGO_TARGET_TMPDIR"), sample), &[]);
        let mut command = server.command(python());
        let name = "COMMUNICATION_SAMPLES_CONNECTION_STRING";
        let primary = server.value("COMMUNICATION_SERVICES_CONNECTION_STRING");
        command.env(name, server.env.get(name).map_or(primary, String::as_str));
        let output =
            command.arg(clients().join("python/.venv/samples/samples").join(sample)).output().unwrap();
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{sample}: {stdout}\n{stderr}; tests/run downloads the samples");
        // The last step of each sample is the Teams exchange.
        let last = stdout.lines().last().unwrap_or_default();
        assert!(last.contains("Token issued with value: "), "{sample}: {stdout}\n{stderr}");
        no_secret_in_the_log(&server);
    }
}

#[test]
fn javascript_latest() {
    passes("javascript", |server| {
        let mut suite = server.command("node");
        suite.arg("--test").current_dir(javascript());
        suite
    });
}

#[test]
fn javascript_with_the_old_signer() {
    passes("javascript-common-2.3.1", |server| {
        let mut suite = server.command("node");
        suite.arg("--test").current_dir(clients().join("javascript-common-2.3.1"));
        suite
    });
}
