//! Tokens verified by others: the guides' programs as the document has them, the example of a resource server, and
//! the command that explains a token.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use e2e::server::{Server, program, run, state_directory};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::local_server::in_python;
use crate::suites::{clients, javascript, python};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const GUIDE: &str = include_str!("../../docs/verify.md");

/// One token of each kind: through either access key, and for a Teams user; then one that was revoked.
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
gone, tokens["revoked"] = first.create_user_and_token(scopes=["chat"])
tokens["revoked"] = tokens["revoked"].token
first.revoke_tokens(gone)
print(json.dumps(tokens))
"#;

fn tokens(server: &Server) -> Value {
    in_python(server, TOKENS, &[clients().join("python").to_str().unwrap()])
}

/// The one program of this language in the guide.
fn guide(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).unwrap();
    let (program, after) = rest.split_once("```").unwrap();
    assert!(!after.contains(&format!("```{language}\n")), "the guide has several programs in {language}");
    program
}

fn of_text<'a>(text: &'a Value, member: &str) -> &'a str {
    text[member].as_str().unwrap()
}

/// Runs a guide's program from standard input, with these settings.
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
    let claims = claims(of_text(&tokens, "primary"));
    let verdict = |language: &str, token: &str| {
        let settings =
            [("ISSUER", of_text(&claims, "iss")), ("RESOURCE_ID", of_text(&claims, "aud")), ("TOKEN", token)];
        let mut interpreter = server.command(if language == "python" { python() } else { "node".into() });
        match language {
            "python" => interpreter.arg("-"),
            _ => interpreter.args(["--input-type=module", "-"]).current_dir(javascript()),
        };
        let output = run_guide(interpreter, language, &settings);
        let told = String::from_utf8(output.stdout).unwrap();
        output.status.success().then_some(told).ok_or_else(|| String::from_utf8(output.stderr).unwrap())
    };
    for language in ["python", "js"] {
        for (kind, scopes) in [("primary", "chat voip"), ("secondary", "chat.join"), ("teams", "voip chat")] {
            let token = of_text(&tokens, kind);
            let expected = format!("{} {scopes}\n", self::claims(token)["sub"].as_str().unwrap());
            assert_eq!(verdict(language, token), Ok(expected), "{language} {kind}");
        }
        let revoked = of_text(&tokens, "revoked");
        assert!(verdict(language, revoked).is_ok(), "{language} cannot see a revocation; the guide says so");
        let altered = format!("{}AAAA", &revoked[..revoked.len() - 4]);
        assert!(verdict(language, &altered).unwrap_err().contains("refused"), "{language}");
    }
    let state = state.to_str().unwrap();
    assert!(run(&["--data-dir", state, "rotate"]).status.success());
    let fresh = self::tokens(&server);
    for language in ["python", "js"] {
        assert!(verdict(language, of_text(&fresh, "primary")).is_ok(), "{language}");
        let told = verdict(language, of_text(&tokens, "primary")).unwrap_err();
        assert!(told.contains("refused"), "{language} sees a rotation when it fetches the keys: {told}");
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

/// The signed request of the guide, from a service in Python.
#[test]
fn the_guide_introspects() {
    let server = Server::start(&state_directory(SCRATCH, "guide-introspection"), &[]);
    let tokens = tokens(&server);
    let (_, rest) = GUIDE.split_once("```py\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    let ask = |token: &str| {
        let output = server.command(python()).args(["-c", program]).env("TOKEN", token).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(ask(of_text(&tokens, "revoked")), serde_json::json!({"active": false}));
    let active = ask(of_text(&tokens, "primary"));
    assert_eq!((&active["active"], &active["scope"]), (&true.into(), &"chat voip".into()));
}

#[test]
fn the_terminal_explains_a_token() {
    let state = state_directory(SCRATCH, "token-inspect");
    let server = Server::start(&state, &["--algorithm", "ES256"]);
    let tokens = tokens(&server);
    let inspect = |token: &str| {
        let output = run(&["--data-dir", state.to_str().unwrap(), "token", "inspect", token]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let active = inspect(of_text(&tokens, "primary"));
    for line in [
        "  alg                \"ES256\"",
        "scopes        chat",
        "permits       chat.create_thread",
        "by room role  voip.act_in_room_call",
    ] {
        assert!(active.lines().any(|found| found == line), "{line:?} is not in\n{active}");
    }
    assert!(active.contains("\nalive         yes, until 2"), "{active}");
    let revoked = inspect(of_text(&tokens, "revoked"));
    assert!(
        revoked.ends_with("active         no: the token's revision is not the stored one: it was revoked\n")
    );
    assert!(inspect("nonsense").ends_with("active         no: not a compact token\n"));

    let mut piped = Command::new(program());
    piped.args(["--data-dir", state.to_str().unwrap(), "token", "inspect", "-"]).stdin(Stdio::piped());
    let mut child = piped.stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", of_text(&tokens, "primary")).as_bytes()).unwrap();
    assert_eq!(
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(),
        active,
        "from standard input"
    );
}

/// The example, built from this very source, on a port of its own.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    fn start(mode: &str, settings: &[(&str, &str)]) -> Self {
        let built = Command::new("cargo")
            .args(["build", "--quiet", "--package", "functions", "--example", "resource_server"])
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

    /// The status of its answer.
    async fn ask(&self, method: &str, token: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} /chat/threads HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Both modes over one state: what each sees of a revocation and of a rotation.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_sees_what_its_mode_says() {
    let resource = crate::gateway::Gateway::start("example", acs_identity::gateway::Limits::default()).await;
    let platform = Arc::clone(&resource.platform);
    let listener = acs_identity::aws_endpoint::AwsEndpoint::bind(0).await.unwrap();
    let aws = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(platform.aws_endpoint.clone().serve(listener));

    let (issuer, id) =
        (platform.resource.resource.issuer.to_string(), platform.resource.resource.id.to_string());
    let key_set = format!("{}.well-known/jwks.json", platform.endpoint());
    let authority = platform.data_dir.join("ca.pem");
    let common = [("ISSUER", issuer.as_str()), ("RESOURCE_ID", &id)];
    let online = [
        ("TABLE_NAME", "communication-identity"),
        ("AWS_ENDPOINT_URL", &aws),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", platform.aws_endpoint.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ];
    let offline = [("JWKS_URI", key_set.as_str()), ("SSL_CERT_FILE", authority.to_str().unwrap())];
    let online = tokio::task::block_in_place(|| Example::start("online", &[&common[..], &online].concat()));
    let offline =
        tokio::task::block_in_place(|| Example::start("offline", &[&common[..], &offline].concat()));

    a_stranger_gets_nothing(&aws).await;

    let (user, token) = resource.user_with_token("chat.join").await;
    for example in [&online, &offline] {
        assert_eq!(example.ask("GET", &token).await, 200);
        assert_eq!(example.ask("POST", &token).await, 403, "its scope does not permit it");
        assert_eq!(example.ask("GET", "a.b.c").await, 401);
    }
    resource.revoke(&user).await;
    assert_eq!(online.ask("GET", &token).await, 401, "at once");
    assert_eq!(offline.ask("GET", &token).await, 200, "until it expires");
}

/// Whoever reaches the port without the access key id, or by another name, as a browser's page could.
async fn a_stranger_gets_nothing(aws: &str) {
    let address = aws.strip_prefix("http://").unwrap();
    for (host, credential) in
        [(address, "Credential=local/"), ("evil.example", "Credential=local/"), (address, "")]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\nauthorization: AWS4-HMAC-SHA256 {credential}\r\n\
             x-amz-target: secretsmanager.GetSecretValue\r\ncontent-length: 29\r\nconnection: close\r\n\r\n\
             {{\"SecretId\":\"signing-keys\"}} "
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("access key id"), "{answer}");
    }
}
