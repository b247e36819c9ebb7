//! Verification outside this service: the programs of docs/verify.md, the example of a resource server, and the command
//! `token inspect`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use acs_identity::schedule;
use e2e::server::{Server, exchange, program, run, state_directory};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::local_server::{in_python, open};
use crate::suites::{clients, javascript, python};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const GUIDE: &str = include_str!("../../docs/verify.md");

/// Prints one token of each kind: one for each access key, one for a Teams user, and a revoked one.
const TOKENS: &str = r#"
import json, os, sys
sys.path.insert(0, sys.argv[1])
from azure.communication.identity import CommunicationIdentityClient
from test_entra import TEAMS, user_token
client = lambda name: CommunicationIdentityClient.from_connection_string(os.environ[f"COMMUNICATION_SERVICES_{name}"])
first, second = client("CONNECTION_STRING"), client("SECONDARY_CONNECTION_STRING")
entra, oid = user_token(f"{TEAMS}/Teams.ManageChats")
tokens = {
    "primary": first.create_user_and_token(scopes=["chat", "voip"])[1].token,
    "secondary": second.create_user_and_token(scopes=["chat.join"])[1].token,
    "teams": first.get_token_for_teams_user(entra, os.environ["COMMUNICATION_M365_APP_ID"], oid).token,
}
user, issued = first.create_user_and_token(scopes=["chat"])
tokens["revoked"] = issued.token
first.revoke_tokens(user)
print(json.dumps(tokens))
"#;

fn tokens(server: &Server) -> Value {
    in_python(server, TOKENS, &[clients().join("python").to_str().unwrap()])
}

/// The only program of this language in the guide.
fn guide(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).unwrap();
    let (program, after) = rest.split_once("```").unwrap();
    assert!(!after.contains(&format!("```{language}\n")), "the guide has several programs in {language}");
    program
}

fn string<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap()
}

/// Runs a program of the guide from standard input, with these settings in its environment.
fn run_guide(mut interpreter: Command, language: &str, settings: &[(&str, &str)]) -> Output {
    let pipe = Stdio::piped;
    interpreter.envs(settings.iter().copied()).stdin(pipe()).stdout(pipe()).stderr(pipe());
    let mut child = interpreter.spawn().unwrap();
    child.stdin.take().unwrap().write_all(guide(language).as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap())
        .unwrap()
}

fn each_guide_verifies(test: &str, algorithm: &str) {
    let state = state_directory(SCRATCH, test);
    let server = Server::start(&state, &["--algorithm", algorithm]);
    let tokens = tokens(&server);
    let claims = claims(string(&tokens, "primary"));
    let verdict = |language: &str, token: &str| {
        let settings =
            [("ISSUER", string(&claims, "iss")), ("RESOURCE_ID", string(&claims, "aud")), ("TOKEN", token)];
        let mut interpreter = server.command(if language == "python" { python() } else { "node".into() });
        match language {
            "python" => interpreter.arg("-"),
            _ => interpreter.args(["--input-type=module", "-"]).current_dir(javascript()),
        };
        let output = run_guide(interpreter, language, &settings);
        let printed = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(printed).ok_or_else(|| String::from_utf8(output.stderr).unwrap())
    };
    for language in ["python", "js"] {
        for (kind, scopes) in [("primary", "chat voip"), ("secondary", "chat.join"), ("teams", "voip chat")] {
            let token = string(&tokens, kind);
            let expected = format!("{} {scopes}\n", self::claims(token)["sub"].as_str().unwrap());
            assert_eq!(verdict(language, token), Ok(expected), "{language} {kind}");
        }
        let revoked = string(&tokens, "revoked");
        assert!(verdict(language, revoked).is_ok(), "{language} sees no revocation, as the guide states");
        let altered = format!("{}AAAA", &revoked[..revoked.len() - 4]);
        assert!(verdict(language, &altered).unwrap_err().contains("refused"), "{language}");
    }
    let state = state.to_str().unwrap();
    assert!(run(&["--data-dir", state, "rotate"]).status.success());
    let fresh = self::tokens(&server);
    for language in ["python", "js"] {
        assert!(verdict(language, string(&fresh, "primary")).is_ok(), "{language}");
        let error = verdict(language, string(&tokens, "primary")).unwrap_err();
        assert!(error.contains("refused"), "{language} sees a rotation when it fetches the keys: {error}");
    }
}

#[test]
fn the_guides_verify_rs256() {
    each_guide_verifies("guides-rs256", "RS256");
}

#[test]
fn the_guides_verify_es256() {
    each_guide_verifies("guides-es256", "ES256");
}

/// Verifiers that keep one key set, as API Gateway keeps it for two hours.
const KEPT_IN_PYTHON: &str = r#"
import json, os, jwt
keys, token = jwt.PyJWKSet.from_json(os.environ["KEY_SET"]), os.environ["TOKEN"]
key = keys[jwt.get_unverified_header(token)["kid"]]
jwt.decode(token, key, algorithms=["RS256", "ES256"], audience=os.environ["RESOURCE_ID"], issuer=os.environ["ISSUER"])
"#;
const KEPT_IN_NODE: &str = r#"
import { createLocalJWKSet, jwtVerify } from "jose";
const { KEY_SET, TOKEN, ISSUER: issuer, RESOURCE_ID: audience } = process.env;
await jwtVerify(TOKEN, createLocalJWKSet(JSON.parse(KEY_SET)), { issuer, audience });
"#;

#[tokio::test]
async fn pyjwt_and_jose_accept_fresh_tokens_by_the_key_set_from_before_a_scheduled_rotation() {
    for algorithm in ["RS256", "ES256"] {
        let state = state_directory(SCRATCH, &format!("kept-keys-{algorithm}"));
        let options = ["--algorithm", algorithm];
        let server = Server::start(&state, &options);
        let former = string(&tokens(&server), "primary").to_owned();
        let kept = exchange(
            server.ready.http_address(),
            "GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        );
        let (_, kept) = kept.split_once("\r\n\r\n").unwrap();
        assert!(server.stop().0.success());
        schedule::rotate(&open(&state).await).await.unwrap();

        let server = Server::start(&state, &options);
        let accepts = |token: &str| {
            let claims = claims(token);
            let settings = [
                ("KEY_SET", kept),
                ("TOKEN", token),
                ("ISSUER", string(&claims, "iss")),
                ("RESOURCE_ID", string(&claims, "aud")),
            ];
            let mut programs = [server.command(python()), server.command("node")];
            programs[0].args(["-c", KEPT_IN_PYTHON]);
            programs[1].args(["--input-type=module", "-e", KEPT_IN_NODE]).current_dir(javascript());
            programs.map(|mut program| program.envs(settings).output().unwrap().status.success())
        };
        let fresh = string(&tokens(&server), "primary").to_owned();
        assert_eq!(accepts(&fresh), [true, true], "{algorithm}");
        assert_eq!(accepts(&format!("{}AAAA", &fresh[..fresh.len() - 4])), [false, false], "a forged token");
        assert_eq!(accepts(&former), [true, true], "a kept key set does not show that a key was replaced");
        let directory = state.to_str().unwrap();
        assert!(run(&["--data-dir", directory, "rotate"]).status.success());
        let after_a_leak = string(&tokens(&server), "primary").to_owned();
        assert_eq!(accepts(&after_a_leak), [false, false], "an operator's rotation makes every key new");
    }
}

/// Runs the guide's Python program, which sends a signed introspection request.
#[test]
fn the_guide_introspects() {
    let server = Server::start(&state_directory(SCRATCH, "guide-introspection"), &[]);
    let tokens = tokens(&server);
    let (_, rest) = GUIDE.split_once("```py\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    let introspect = |token: &str| {
        let output = server.command(python()).args(["-c", program]).env("TOKEN", token).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(introspect(string(&tokens, "revoked")), serde_json::json!({"active": false}));
    let active = introspect(string(&tokens, "primary"));
    assert_eq!((&active["active"], &active["scope"]), (&true.into(), &"chat voip".into()));
}

#[test]
fn token_inspect_explains_a_token() {
    let state = state_directory(SCRATCH, "token-inspect");
    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let tokens = tokens(&server);
    let inspect = |token: &str| {
        let output = run(&["--data-dir", state.to_str().unwrap(), "token", "inspect", token, "-o", "table"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let active = inspect(string(&tokens, "primary"));
    for line in [
        "  alg                \"ES256\"",
        "scopes        chat",
        "permits       chat.create_thread",
        "by room role  voip.act_in_room_call",
    ] {
        assert!(active.lines().any(|found| found == line), "{line:?} is not in\n{active}");
    }
    assert!(active.contains("\nactive        yes, until 2"), "{active}");
    let revoked = inspect(string(&tokens, "revoked"));
    assert!(
        revoked.ends_with("\nactive        no: the token's revision is not the stored one: it was revoked\n")
    );
    assert!(inspect("nonsense").ends_with("\nactive        no: not a compact token\n"));

    let mut piped = Command::new(program());
    piped
        .args(["--data-dir", state.to_str().unwrap(), "-otable", "token", "inspect", "-"])
        .stdin(Stdio::piped());
    let mut child = piped.stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", string(&tokens, "primary")).as_bytes()).unwrap();
    assert_eq!(
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(),
        active,
        "the token comes from standard input"
    );
}

/// A running example, built from this source, on a free port.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start(mode: &str, settings: &[(&str, &str)]) -> Self {
        // With --workspace the dependencies have the same features as in the tests, so this builds nothing again.
        let built = Command::new("cargo")
            .args(["build", "--quiet", "--workspace", "--example", "resource_server"])
            .status();
        assert!(built.unwrap().success());
        let directory =
            program().parent().unwrap().ancestors().find(|path| path.ends_with("target")).unwrap();
        let mut child = Command::new(directory.join("debug/examples/resource_server"))
            .arg(mode)
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").expect("the example did not start").to_owned();
        Self { child, address }
    }

    /// Sends a request with a token, and returns the status.
    async fn request(&self, method: &str, token: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} /chat/threads HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let challenged = answer.to_lowercase().contains("\r\nwww-authenticate: bearer");
        assert_eq!(challenged, [401, 403].contains(&status), "{answer}");
        status
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both modes run over the same state.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_online_example_sees_a_revocation() {
    let resource = crate::gateway::Gateway::start("example", acs_identity::gateway::Limits::default()).await;
    let platform = Arc::clone(&resource.platform);
    let listener = acs_identity::aws_endpoint::AwsEndpoint::bind(0).unwrap();
    let aws = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(platform.aws_endpoint.clone().serve(listener));

    let (issuer, id) =
        (platform.resource.resource.issuer.to_string(), platform.resource.resource.id.to_string());
    let key_set = format!("{}.well-known/jwks.json", platform.endpoint);
    let authority = platform.data_dir.join("ca.pem");
    let common = [("ISSUER", issuer.as_str()), ("RESOURCE_ID", &id)];
    let online = [
        ("TABLE_NAME", "communication-identity"),
        ("AWS_ENDPOINT_URL", &aws),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", &platform.aws_endpoint.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ];
    let offline = [("JWKS_URI", key_set.as_str()), ("SSL_CERT_FILE", authority.to_str().unwrap())];
    let online = tokio::task::block_in_place(|| Example::start("online", &[&common[..], &online].concat()));
    let offline =
        tokio::task::block_in_place(|| Example::start("offline", &[&common[..], &offline].concat()));

    the_aws_port_refuses_unknown_callers(&aws, &platform.aws_endpoint.access_key_id).await;

    let (user, token) = resource.user_with_token("chat.join").await;
    for example in [&online, &offline] {
        assert_eq!(example.request("GET", &token).await, 200);
        assert_eq!(example.request("POST", &token).await, 403, "the scope does not permit the request");
        assert_eq!(example.request("GET", "a.b.c").await, 401);
    }
    resource.revoke(&user).await;
    assert_eq!(online.request("GET", &token).await, 401, "the revocation works at once");
    assert_eq!(offline.request("GET", &token).await, 200, "the token is valid until it expires");
}

/// The port must refuse a wrong access key id, a missing one, and another host name, because a page in a browser can
/// send requests to the port under a name of its choice.
async fn the_aws_port_refuses_unknown_callers(aws: &str, access_key_id: &str) {
    let address = aws.strip_prefix("http://").unwrap();
    let credential = format!("Credential={access_key_id}/");
    assert!(get_secret_value(address, address, &credential).await.starts_with("HTTP/1.1 200"));
    for (host, credential) in
        [(address, "Credential=local/"), (address, ""), ("evil.example", credential.as_str())]
    {
        let answer = get_secret_value(address, host, credential).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("access key id"), "{answer}");
    }
}

async fn get_secret_value(address: &str, host: &str, credential: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = r#"{"SecretId":"signing-keys"}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\nauthorization: AWS4-HMAC-SHA256 {credential}\r\n\
         x-amz-target: secretsmanager.GetSecretValue\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
