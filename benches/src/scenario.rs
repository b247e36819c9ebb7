//! The requests that the servers receive, and their cost.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use identity::keys::Algorithm;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::generator::{Until, Work, ask_all, drive};
use crate::measure::{median, micros};
use crate::programs::{Server, program, request, scratch, state_directory};
use crate::report::figure;

const CREATE: &str = "/identities?api-version=2023-10-01";
const CREATE_BODY: &str = r#"{"createTokenWithScopes":["chat","voip"]}"#;
const ISSUE_BODY: &str = r#"{"scopes":["chat","voip"]}"#;
const FORM: &str = "application/x-www-form-urlencoded";
const AUTHORIZER: &str = "/2015-03-31/functions/authorizer/invocations";

const WARM_UP: Duration = Duration::from_millis(100);
/// Identities that take turns.
const IDENTITIES: usize = 64;

/// The kinds of request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Echo,
    /// An echo after one read of the store.
    StoreEcho,
    /// The same with one signature.
    StoreSign,
    /// The same with one verification.
    StoreVerify,
    Issue,
    CreateWithToken,
    Introspect,
    Authorize,
    Revoke,
    /// A create.
    Refused,
    /// An issue, which has the most candidates for the signed target.
    RefusedIssue,
    Garbage,
}

impl Scenario {
    pub const FLOORS_OF_BOTH: [Self; 2] = [Self::StoreSign, Self::StoreVerify];
    pub const OF_BOTH: [Self; 4] = [Self::Issue, Self::CreateWithToken, Self::Introspect, Self::Authorize];
    /// Scenarios with one read of the store and one signature or verification, as their floors have.
    pub const WITH_FLOOR: [Self; 3] = [Self::Issue, Self::Introspect, Self::Authorize];
    /// Scenarios without a signature and a verification. One algorithm stands for both.
    pub const OF_ONE: [Self; 4] = [Self::Revoke, Self::Refused, Self::RefusedIssue, Self::Garbage];

    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::StoreEcho => "BatchGetItem and echo",
            Self::StoreSign => "BatchGetItem, signature and echo",
            Self::StoreVerify => "BatchGetItem, verification and echo",
            Self::Issue => "issue",
            Self::CreateWithToken => "create with token",
            Self::Introspect => "introspect",
            Self::Authorize => "authorize",
            Self::Revoke => "revoke",
            Self::Refused => "refused: signature of a create",
            Self::RefusedIssue => "refused: signature of an issue",
            Self::Garbage => "refused: garbage",
        }
    }

    /// The requests, all different, and the status of the replies.
    pub fn work(self, site: &Site) -> Work {
        let server = &site.server;
        let each = |ids: &[String], target: &str, body: &str| -> Vec<_> {
            let target = |id: &String| format!("/identities/{id}/{target}?api-version=2023-10-01");
            ids.iter().map(|id| server.signed(&target(id), body)).collect()
        };
        let (requests, status) = match self {
            Self::Echo | Self::StoreEcho | Self::StoreSign | Self::StoreVerify | Self::Issue => {
                (each(&site.issued, ":issueAccessToken", ISSUE_BODY), StatusCode::OK)
            }
            Self::CreateWithToken => (vec![server.signed(CREATE, CREATE_BODY)], StatusCode::CREATED),
            Self::Introspect => {
                let form = |token: &String| {
                    let mut request = server.signed("/introspect", &format!("token={token}"));
                    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
                    request
                };
                (site.tokens.iter().map(form).collect(), StatusCode::OK)
            }
            Self::Authorize => (site.tokens.iter().map(|token| authorize(token)).collect(), StatusCode::OK),
            Self::Revoke => (each(&site.revoked, ":revokeAccessTokens", ""), StatusCode::NO_CONTENT),
            Self::Refused => {
                let mut refused = server.signed(CREATE, CREATE_BODY);
                spoil(&mut refused);
                (vec![refused], StatusCode::UNAUTHORIZED)
            }
            Self::RefusedIssue => {
                let mut requests = each(&site.issued, ":issueAccessToken", ISSUE_BODY);
                requests.iter_mut().for_each(spoil);
                (requests, StatusCode::UNAUTHORIZED)
            }
            Self::Garbage => (vec![request("/%00", HeaderMap::new(), "{")], StatusCode::UNAUTHORIZED),
        };
        Work { requests, status }
    }
}

/// Makes the signature wrong and leaves it well-formed.
fn spoil(request: &mut Request<Full<Bytes>>) {
    let value = request.headers()["authorization"].to_str().unwrap();
    let (names, signature) = value.split_once("Signature=").unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let spoilt = format!("{names}Signature={first}{}", &signature[1..]);
    request.headers_mut().insert("authorization", spoilt.parse().unwrap());
}

fn authorize(token: &str) -> Request<Full<Bytes>> {
    let event = json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeKey": "GET /chat/threads",
        "rawPath": "/chat/threads",
        "rawQueryString": "",
        "headers": {"authorization": format!("Bearer {token}"), "host": "chat.example"},
        "requestContext": {"http": {"method": "GET", "path": "/chat/threads"}},
    });
    request(AUTHORIZER, HeaderMap::new(), &event.to_string())
}

/// A server and its identities.
pub struct Site {
    pub server: Server,
    /// Identities with tokens that stay active.
    pub issued: Vec<String>,
    /// One token of each identity in `issued`.
    pub tokens: Vec<String>,
    /// Identities whose tokens are revoked.
    pub revoked: Vec<String>,
}

impl Site {
    /// Creates the identities through the server itself.
    pub async fn new(server: Server) -> Self {
        let mut site = Self { server, issued: Vec::new(), tokens: Vec::new(), revoked: Vec::new() };
        for _ in 0..IDENTITIES {
            let (id, token) = site.create().await;
            site.issued.push(id);
            site.tokens.push(token);
            site.revoked.push(site.create().await.0);
        }
        site.check().await;
        site
    }

    async fn create(&self) -> (String, String) {
        let request = self.server.signed(CREATE, CREATE_BODY);
        let body = ask(&self.server, request, StatusCode::CREATED).await;
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        (text("/identity/id"), text("/accessToken/token"))
    }

    /// Panics when a reply with 200 is a negative answer, because then a refusal would be measured.
    pub async fn check(&self) {
        for (scenario, yes) in [
            (Scenario::Introspect, json!({"active": true})),
            (Scenario::Authorize, json!({"isAuthorized": true})),
        ] {
            let work = scenario.work(self);
            let request = work.requests.into_iter().next().unwrap();
            let body = ask(&self.server, request, work.status).await;
            let (name, value) = yes.as_object().unwrap().iter().next().unwrap();
            assert_eq!(body.get(name), Some(value), "{body}");
        }
    }

    /// The cost of a scenario.
    pub async fn measure(&self, scenario: Scenario, connections: usize, duration: Duration) -> Figures {
        self.server.measure(|| scenario.work(self), connections, duration).await
    }
}

impl Server {
    /// Warms the server up and measures it.
    pub async fn measure(&self, work: impl Fn() -> Work, connections: usize, duration: Duration) -> Figures {
        drive(self.address, work(), connections, Until::Elapsed(WARM_UP)).await;
        let before = self.cpu.read();
        let seen = drive(self.address, work(), connections, Until::Elapsed(duration)).await;
        let cpu = micros(self.cpu.read() - before) / seen.requests();
        Figures { cpu, per_second: seen.per_second(), p50: seen.latency(0.5), p99: seen.latency(0.99) }
    }
}

async fn ask(server: &Server, request: Request<Full<Bytes>>, status: StatusCode) -> Value {
    let answers = ask_all(server.address, vec![request], status).await;
    serde_json::from_slice(&answers[0]).unwrap()
}

/// A local server with its own state directory, and its identities.
pub fn site(runtime: &Runtime, name: &str, algorithm: Algorithm) -> Site {
    runtime.block_on(Site::new(Server::local(&scratch(name), algorithm)))
}

/// As [`site`], with the program of a plain build.
pub fn plain_site(runtime: &Runtime, name: &str, algorithm: Algorithm) -> Site {
    let server = Server::local_of(Command::new(program("acs-identity")), &scratch(name), algorithm);
    runtime.block_on(Site::new(server))
}

/// The state of a local server that has ended, and an identity in that state.
pub fn ended(runtime: &Runtime, name: &str) -> (PathBuf, String) {
    let site = site(runtime, name, Algorithm::Es256);
    (state_directory(name), site.issued[0].clone())
}

/// A server that receives the requests of another server.
pub fn without_identities(server: Server, other: &Site) -> Site {
    Site { server, issued: other.issued.clone(), tokens: Vec::new(), revoked: Vec::new() }
}

/// The cost and the latency of a scenario.
#[derive(Clone, Copy)]
pub struct Figures {
    /// CPU time of the server for one request, in microseconds.
    pub cpu: f64,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
}

/// The figures of several rounds.
#[derive(Default)]
pub struct Rounds(Vec<Figures>);

impl Rounds {
    /// The columns of [`Self::cells`].
    pub const COLUMNS: [&'static str; 4] = ["CPU µs", "requests/s", "p50 ms", "p99 ms"];

    pub fn push(&mut self, figures: Figures) {
        self.0.push(figures);
    }

    /// The CPU time of one request in a round.
    pub fn cpu_of(&self, round: usize) -> f64 {
        self.0[round].cpu
    }

    pub fn median(&self, of: fn(&Figures) -> f64) -> f64 {
        median(&self.0.iter().map(of).collect::<Vec<_>>())
    }

    /// The ratio of the CPU time to a floor: the median of the ratios of the rounds.
    pub fn ratio(&self, floor: impl Fn(usize) -> f64) -> f64 {
        let ratios = self.0.iter().enumerate().map(|(round, figures)| figures.cpu / floor(round));
        median(&ratios.collect::<Vec<_>>())
    }

    pub fn cells(&self) -> [String; 4] {
        let of: [fn(&Figures) -> f64; 4] = [|it| it.cpu, |it| it.per_second, |it| it.p50, |it| it.p99];
        of.map(|of| figure(self.median(of)))
    }
}
