//! The real chat clients against a simulated chat service behind the authorizer, in both shapes of gateway.

use std::path::Path;
use std::process::Command;

use e2e::chat_api::ChatApi;
use e2e::router::Shape;
use e2e::server::{Server, state_directory};

use crate::suites::{clients, javascript, no_secret_in_the_log, python};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// Starts both services, and runs a suite with their addresses in its environment.
async fn passes(test: &str, shape: Shape, suite: impl FnOnce(&Server) -> Command) {
    let state = state_directory(SCRATCH, test);
    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let chat = ChatApi::start(shape, &state, server.ready.http_address()).await;
    let refused = if shape == Shape::Http { "403" } else { "401" };
    let mut suite = suite(&server);
    suite.env("CHAT_ENDPOINT", &chat.endpoint).env("CHAT_REFUSED_TOKEN_STATUS", refused);
    let output = tokio::task::spawn_blocking(move || suite.output()).await.unwrap().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    no_secret_in_the_log(&server);
}

fn in_python(server: &Server) -> Command {
    let mut suite = server.command(python());
    suite.args(["-m", "pytest", "-q"]).arg(clients().join("python/chat"));
    suite
}

fn in_javascript(server: &Server) -> Command {
    let mut suite = server.command("node");
    suite.args(["--test", "chat/chat_matrix.js"]).current_dir(javascript());
    suite
}

#[tokio::test(flavor = "multi_thread")]
async fn python_behind_an_http_api() {
    passes("chat-python-http", Shape::Http, in_python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_behind_a_rest_api() {
    passes("chat-python-rest", Shape::Rest, in_python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_behind_an_http_api() {
    passes("chat-javascript-http", Shape::Http, in_javascript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_behind_a_rest_api() {
    passes("chat-javascript-rest", Shape::Rest, in_javascript).await;
}

#[test]
fn faulty_route_rules_are_refused_with_their_lines() {
    let state = state_directory(SCRATCH, "route-rules");
    let rules = Path::new(SCRATCH).join("route-rules/rules.txt");
    std::fs::write(&rules, "POST /calls voip.fly\nGET /chat/threads chat.get_thread\n").unwrap();
    let (state, rules) = (state.to_str().unwrap(), rules.to_str().unwrap());
    // Another server may have the default ports.
    let ports = ["--https-port", "0", "--http-port", "0"];
    let refused = e2e::server::run(&[&["--data-dir", state, "--route-rules", rules], &ports[..]].concat());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("line 1: voip.fly is not a capability"), "{told}");
    assert!(told.contains("line 2: GET /chat/threads has a rule already"), "{told}");
}
