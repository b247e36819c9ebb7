//! What servers are asked, and what it costs them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::Full;
use identity::keys::Algorithm;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::generator::{Until, Work, ask_all, drive};
use crate::measure::micros;
use crate::programs::{Server, request, scratch};

const CREATE: &str = "/identities?api-version=2023-10-01";
const CREATE_BODY: &str = r#"{"createTokenWithScopes":["chat","voip"]}"#;
const ISSUE_BODY: &str = r#"{"scopes":["chat","voip"]}"#;
const AUTHORIZER: &str = "/2015-03-31/functions/authorizer/invocations";

const WARM_UP: Duration = Duration::from_millis(100);
/// How many identities take turns.
const IDENTITIES: usize = 64;

/// What is asked of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Echo,
    /// An echo after one call to the store.
    StoreEcho,
    Issue,
    CreateWithToken,
    Introspect,
    Authorize,
    Revoke,
    Refused,
    Garbage,
}

impl Scenario {
    pub const OF_BOTH: [Self; 4] = [Self::Issue, Self::CreateWithToken, Self::Introspect, Self::Authorize];
    /// Nothing is signed or verified, so one algorithm stands for both.
    pub const OF_ONE: [Self; 3] = [Self::Revoke, Self::Refused, Self::Garbage];

    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::StoreEcho => "BatchGetItem and echo",
            Self::Issue => "issue",
            Self::CreateWithToken => "create with token",
            Self::Introspect => "introspect",
            Self::Authorize => "authorize",
            Self::Revoke => "revoke",
            Self::Refused => "refused: signature",
            Self::Garbage => "refused: garbage",
        }
    }

    /// The requests, all different, and how they are answered.
    pub fn work(self, site: &Site) -> Work {
        let server = &site.server;
        let each = |ids: &[String], target: &str, body: &str| -> Vec<_> {
            let target = |id: &String| format!("/identities/{id}/{target}?api-version=2023-10-01");
            ids.iter().map(|id| server.signed(&target(id), body)).collect()
        };
        let (requests, status) = match self {
            Self::Echo | Self::StoreEcho | Self::Issue => {
                (each(&site.issued, ":issueAccessToken", ISSUE_BODY), StatusCode::OK)
            }
            Self::CreateWithToken => (vec![server.signed(CREATE, CREATE_BODY)], StatusCode::CREATED),
            Self::Introspect => {
                let form = |token: &String| server.signed("/introspect", &format!("token={token}"));
                (site.tokens.iter().map(form).collect(), StatusCode::OK)
            }
            Self::Authorize => (site.tokens.iter().map(|token| authorize(token)).collect(), StatusCode::OK),
            Self::Revoke => (each(&site.revoked, ":revokeAccessTokens", ""), StatusCode::NO_CONTENT),
            Self::Refused => {
                let mut requests = each(&site.issued, ":issueAccessToken", ISSUE_BODY);
                requests.iter_mut().for_each(spoil);
                (requests, StatusCode::UNAUTHORIZED)
            }
            Self::Garbage => (vec![request("/%00", HeaderMap::new(), "{")], StatusCode::UNAUTHORIZED),
        };
        Work { requests, status }
    }
}

/// Leaves the signature in good form, and wrong.
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

/// A server with identities to ask about.
pub struct Site {
    pub server: Server,
    /// They have tokens that stay active.
    pub issued: Vec<String>,
    pub tokens: Vec<String>,
    /// Their tokens are revoked.
    pub revoked: Vec<String>,
}

impl Site {
    /// Creates the identities through the server itself.
    pub async fn settle(server: Server) -> Self {
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

    /// Whether what is answered with 200 is a yes: otherwise a refusal would be measured.
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

    /// Warms the server up and measures it.
    pub async fn measure(&self, scenario: Scenario, connections: usize, duration: Duration) -> Figures {
        let (server, work) = (&self.server, || scenario.work(self));
        drive(server.address, work(), connections, Until::Elapsed(WARM_UP)).await;
        let before = server.cpu.read();
        let seen = drive(server.address, work(), connections, Until::Elapsed(duration)).await;
        let cpu = micros(server.cpu.read() - before) / seen.requests();
        Figures { cpu, per_second: seen.per_second(), p50: seen.latency(0.5), p99: seen.latency(0.99) }
    }
}

async fn ask(server: &Server, request: Request<Full<Bytes>>, status: StatusCode) -> Value {
    let answers = ask_all(server.address, vec![request], status).await;
    serde_json::from_slice(&answers[0]).unwrap()
}

/// A local server with a state directory of its own, and its identities.
pub fn site(runtime: &Runtime, name: &str, algorithm: Algorithm) -> Site {
    runtime.block_on(Site::settle(Server::local(&scratch(name), algorithm)))
}

/// What a scenario cost and took.
#[derive(Clone, Copy)]
pub struct Figures {
    /// CPU time of the server for one request, in microseconds.
    pub cpu: f64,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
}
