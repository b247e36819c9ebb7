//! Clients in further languages and versions: the pages of docs/clients as they stand there, and old SDK versions.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::server::{Server, state_directory};
use serde_json::Value;

use crate::suites::{clients, no_secret_in_the_log, python, resource_server};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const ALGORITHMS: [&str; 2] = ["RS256", "ES256"];

/// Runs a command. Returns its standard output, or its standard error if it fails.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    output.status.success().then_some(text(output.stdout)).ok_or_else(|| text(output.stderr))
}

/// Whether a program of a toolchain is missing. Reports it past the test harness, which hides the output of a pass.
pub(crate) fn is_missing(toolchain: &str, programs: &[&str]) -> bool {
    let is_installed =
        |program: &&str| run(Command::new("sh").args(["-c", "command -v \"$0\"", program])).is_ok();
    let missing = !programs.iter().all(is_installed);
    if missing {
        let report = format!("SKIPPED: {toolchain} is not installed\n");
        std::io::stderr().write_all(report.as_bytes()).unwrap();
    }
    missing
}

/// A page, and a folder with its programs as a reader of the page would save them.
struct Page {
    text: &'static str,
    folder: PathBuf,
}

impl Page {
    fn new(text: &'static str, folder: &str) -> Self {
        let folder = Path::new(SCRATCH).join(folder);
        fs::create_dir_all(&folder).unwrap();
        Self { text, folder }
    }

    /// The code blocks of a language, in their order.
    fn blocks<const N: usize>(&self, language: &str) -> [&'static str; N] {
        let begin = format!("\n```{language}\n");
        let blocks: Vec<_> =
            self.text.split(&begin).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
        blocks.try_into().unwrap_or_else(|found| panic!("other blocks than expected: {found:?}"))
    }

    /// Writes a file. Returns whether its content is new.
    fn write(&self, name: &str, content: &str) -> bool {
        let path = self.folder.join(name);
        let is_new = fs::read_to_string(&path).ok().as_deref() != Some(content);
        fs::write(path, content).unwrap();
        is_new
    }

    /// Runs a command of the page as a reader does: in the folder, beside the state directory as `.local`.
    fn sh(&self, server: &Server, command: &str, settings: &[(&str, &str)]) -> Result<String, String> {
        let mut shell = server.command("sh");
        // Halves the time of a short Java program. Other programs ignore it.
        shell.env("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC");
        run(shell.args(["-c", command]).envs(settings.iter().copied()).current_dir(&self.folder))
    }

    /// Starts a server whose state directory is `.local` of the folder.
    fn server(&self, algorithm: &str) -> (Server, Value) {
        let test = format!("{}-{algorithm}", self.folder.file_name().unwrap().to_str().unwrap());
        let state = state_directory(SCRATCH, &test);
        let server = Server::start(&state, &["--algorithm", algorithm]);
        let link = self.folder.join(".local");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&state, link).unwrap();
        (server, serde_json::from_slice(&fs::read(state.join("resource.json")).unwrap()).unwrap())
    }

    /// Checks the two programs: `users` prints an identity and its token, `verify` accepts this token and no other.
    fn check(&self, server: &Server, resource: &Value, users: &str, verify: &str) {
        let printed = self.sh(server, users, &[]).unwrap();
        let [user, token] = printed.lines().collect::<Vec<_>>().try_into().unwrap();
        let verdict = |token: &str, issuer: &str| {
            let resource_id = resource["id"].as_str().unwrap();
            self.sh(server, verify, &[("TOKEN", token), ("ISSUER", issuer), ("RESOURCE_ID", resource_id)])
        };
        let issuer = resource["issuer"].as_str().unwrap();
        assert_eq!(verdict(token, issuer), Ok(format!("{user} chat voip\n")));
        let altered = format!("{}AAAA", &token[..token.len() - 4]);
        for refusal in [verdict(&altered, issuer), verdict(token, "https://localhost")] {
            assert!(refusal.unwrap_err().contains("refused: "));
        }
        no_secret_in_the_log(server);
    }
}

#[test]
fn java_page_programs_run() {
    if is_missing("Java", &["java", "mvn"]) {
        return;
    }
    let page = Page::new(include_str!("../../docs/clients/java.md"), "java-page");
    let [pom] = page.blocks("xml");
    let [users, entra, verify] = page.blocks("java");
    let [packages, start] = page.blocks("sh");
    let dependencies = page.folder.join("target/dependency");
    if page.write("pom.xml", pom) && dependencies.exists() {
        fs::remove_dir_all(&dependencies).unwrap();
    }
    page.write("Users.java", users);
    page.write("Entra.java", entra);
    page.write("Verify.java", verify);
    for algorithm in ALGORITHMS {
        let (server, resource) = page.server(algorithm);
        if !dependencies.exists() {
            page.sh(&server, packages, &[]).unwrap();
        }
        for users in [start, &start.replace("Users", "Entra")] {
            page.check(&server, &resource, users, &start.replace("Users", "Verify"));
        }
    }
}

#[test]
fn spring_page_program_asks_with_its_credential() {
    if is_missing("Java", &["java", "mvn"]) {
        return;
    }
    let page = Page::new(include_str!("../../docs/clients/spring.md"), "spring-page");
    let [pom] = page.blocks("xml");
    let [program] = page.blocks("java");
    let [packages, start] = page.blocks("sh");
    let dependencies = page.folder.join("target/dependency");
    if page.write("pom.xml", pom) && dependencies.exists() {
        fs::remove_dir_all(&dependencies).unwrap();
    }
    page.write("Introspect.java", program);
    let (server, _) = page.server("RS256");
    if !dependencies.exists() {
        page.sh(&server, packages, &[]).unwrap();
    }
    let credential = resource_server(&server, "spring-api");
    let (id, secret) = credential.split_once(':').unwrap();
    let issued = run(server
        .command(e2e::server::program())
        .arg("--data-dir")
        .arg(server.state())
        .args(["-o", "json", "token", "issue", "--scope", "chat", "voip"]));
    let issued: Value = serde_json::from_str(&issued.unwrap()).unwrap();
    let [user, token] = ["user_id", "token"].map(|member| issued[member].as_str().unwrap());
    let ask = |secret: &str, token: &str| {
        page.sh(&server, start, &[("CLIENT_ID", id), ("CLIENT_SECRET", secret), ("TOKEN", token)])
    };
    assert_eq!(ask(secret, token), Ok(format!("{user} chat voip\n")));
    assert!(ask(secret, &format!("{}AAAA", &token[..token.len() - 4])).unwrap_err().contains("refused: "));
    assert!(ask(&"A".repeat(43), token).unwrap_err().contains("unknown: "));
    no_secret_in_the_log(&server);
}

/// `curl -u`, over HTTPS and over HTTP on this machine, through every change of the credential.
#[test]
fn curl_asks_with_the_credential_of_a_resource_server() {
    let server = Server::start(&state_directory(SCRATCH, "curl-introspection"), &[]);
    let verb = |arguments: &[&str]| {
        let mut command = server.command(e2e::server::program());
        run(command.arg("--data-dir").arg(server.state()).args(["-o", "json"]).args(arguments))
    };
    let json = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let issued = json(verb(&["token", "issue", "--scope", "chat"]).unwrap());
    let form = format!("token={}", issued["token"].as_str().unwrap());
    let http = server.ready.endpoints["http"].clone();
    let ask = |credential: &str, endpoint: &str| {
        let mut curl = server.command("curl");
        let ca = server.state().join("ca.pem");
        curl.args(["-s", "-w", "%{http_code}", "-u", credential, "-d", &form, "--cacert"]).arg(ca);
        run(curl.arg(format!("{endpoint}introspect"))).unwrap()
    };
    let https = server.value("COMMUNICATION_SERVICES_ENDPOINT");
    let first = resource_server(&server, "chat-api");
    for endpoint in [https, &http] {
        let answer = ask(&first, endpoint);
        assert!(answer.starts_with(r#"{"active":true,"token_type":"Bearer""#) && answer.ends_with("200"));
    }
    assert!(ask("chat-api:wrong", https).ends_with("401"));
    let rotated = json(verb(&["resource-server", "rotate", "chat-api"]).unwrap());
    let second = format!("chat-api:{}", rotated["client_secret"].as_str().unwrap());
    assert!(ask(&first, https).ends_with("200") && ask(&second, https).ends_with("200"));
    verb(&["resource-server", "rotate", "--finish", "chat-api"]).unwrap();
    assert!(ask(&first, https).ends_with("401") && ask(&second, https).ends_with("200"));
    let listed = json(verb(&["resource-server", "list"]).unwrap());
    assert_eq!(
        (&listed[0]["client_id"], &listed[0]["next_secret_since"]),
        (&"chat-api".into(), &Value::Null)
    );
    assert!(listed[0]["secret_since"].is_string());
    assert!(verb(&["resource-server", "add", "chat-api"]).unwrap_err().contains("has a credential already"));
    assert!(verb(&["resource-server", "add", "Chat_API"]).unwrap_err().contains("lower-case"));
    verb(&["resource-server", "remove", "chat-api"]).unwrap();
    assert!(ask(&second, https).ends_with("401"));
    assert!(verb(&["resource-server", "remove", "chat-api"]).unwrap_err().contains("no resource server"));
    assert!(server.log().contains(r#""principal":"resource-server/chat-api""#));
    let secrets = [&first, &second].map(|credential| credential.split_once(':').unwrap().1);
    assert!(!secrets.iter().any(|secret| server.log().contains(secret)));
    no_secret_in_the_log(&server);
}

#[test]
fn go_page_programs_run() {
    if is_missing("Go", &["go"]) {
        return;
    }
    let page = Page::new(include_str!("../../docs/clients/go.md"), "go-page");
    let [users, verify] = page.blocks("go");
    let [start] = page.blocks("sh");
    // The checksums of the packages are those of the repository.
    let [packages] = page.blocks("bash");
    let module = include_str!("go/go.mod");
    for package in packages.split_whitespace().filter(|word| word.contains('@')) {
        assert!(module.contains(&package.replace('@', " ")), "{package} is not the version of go.mod");
    }
    page.write("go.mod", module);
    page.write("go.sum", include_str!("go/go.sum"));
    page.write("users.go", users);
    page.write("verify.go", verify);
    run(Command::new("go").args(["mod", "download"]).current_dir(&page.folder)).unwrap();
    for algorithm in ALGORITHMS {
        let (server, resource) = page.server(algorithm);
        page.check(&server, &resource, start, &start.replace("users", "verify"));
    }
}

/// Old versions of the JavaScript SDK, and the script of the Postman collection.
#[test]
fn old_javascript_sdks_and_postman_are_accepted() {
    let server = Server::start(&state_directory(SCRATCH, "old-javascript"), &[]);
    run(server.command("node").arg("--test").current_dir(clients().join("old_sdks/javascript"))).unwrap();
    no_secret_in_the_log(&server);
}

/// Runs a program with an old version of the Python SDK. The other packages are those of the current version.
fn in_old_python(server: &Server, version: &str, program: &str) -> Result<String, String> {
    let folder = clients().join("old_sdks/python").join(version);
    assert!(folder.exists(), "{} is not installed; run tests/clients/old_sdks/install", folder.display());
    let path = std::env::join_paths([folder, clients().join("python")]).unwrap();
    run(server.command(python()).env("PYTHONPATH", path).args(["-c", program]))
}

const OLD_PYTHON: [&str; 4] = ["1.0.1", "1.1.0b1", "1.3.1", "1.4.0"];

#[test]
fn old_python_sdks_are_accepted() {
    const LIFE: &str = r#"
import os
from importlib.metadata import version
from life import check_life_cycle
check_life_cycle(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
print(version("azure-communication-identity"))
"#;
    let server = Server::start(&state_directory(SCRATCH, "old-python"), &[]);
    for version in OLD_PYTHON {
        assert_eq!(in_old_python(&server, version, LIFE), Ok(format!("{version}\n")));
    }
    no_secret_in_the_log(&server);
}

/// The package before `azure-communication-identity`, whose API version has its own routes.
#[test]
fn oldest_python_package_is_accepted() {
    const LIFE: &str = r#"
import os
from azure.communication.administration import CommunicationIdentityClient
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from life import introspecting
connection_string = os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"]
client, is_active = CommunicationIdentityClient.from_connection_string(connection_string), introspecting(connection_string)
user = client.create_user()
for arguments in [], [__import__("datetime").datetime(2021, 1, 1)]:
    issued = client.issue_token(user, scopes=["chat", "voip"])
    assert issued.id == user.identifier and is_active(issued.token)
    client.revoke_tokens(user, *arguments)
    assert not is_active(issued.token)
try:
    client.issue_token(user, scopes=["pstn"])
except HttpResponseError as error:
    assert "'pstn' is not a scope. Scopes are: chat, voip" in str(error), error
token = client.issue_token(user, scopes=["chat"]).token
client.delete_user(user)
assert not is_active(token)
try:
    client.issue_token(user, scopes=["chat"])
except ResourceNotFoundError:
    print("gone")
"#;
    let server = Server::start(&state_directory(SCRATCH, "oldest-python"), &[]);
    assert_eq!(in_old_python(&server, "administration-1.0.0b4", LIFE), Ok("gone\n".to_owned()));
    no_secret_in_the_log(&server);
}

/// Versions before 1.4.0 sign the target without its first slash for such an endpoint. The rule is in
/// docs/wire-contract.md#path-and-query.
#[test]
fn old_python_endpoints_with_slash_or_http_are_accepted() {
    const CREATE: &str = r#"
import os
from azure.communication.identity import CommunicationIdentityClient
key = os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"].split(";accesskey=")[1]
http = os.environ["HTTP_ENDPOINT"]
for endpoint in os.environ["COMMUNICATION_SERVICES_ENDPOINT"], http, http + "/":
    client = CommunicationIdentityClient(endpoint, key)
    user = client.create_user()
    client.get_token(user, ["chat"])
    client.revoke_tokens(user)
    client.delete_user(user)
"#;
    let mut server = Server::start(&state_directory(SCRATCH, "old-python-endpoints"), &[]);
    let http = format!("http://{}", server.ready.http_address());
    server.env.insert("HTTP_ENDPOINT".to_owned(), http);
    for version in OLD_PYTHON {
        assert_eq!(in_old_python(&server, version, CREATE), Ok(String::new()), "{version}");
    }
}
