//! The Lambda functions from their start on, beside the least function there can be.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use acs_identity::dynamodb::EmbeddedDynamoDb;
use acs_identity::embedded;
use acs_identity::secrets_manager::{EmbeddedSecretsManager, Environment};
use benches::store_call::TABLE;
use bytes::Bytes;
use e2e::signer::{Call, sign};
use functions::adapters::Adapters;
use functions::rotate_keys::RotateKeys;
use functions::system::System;
use identity::api::functions::Function;
use identity::api::pipeline::Request;
use identity::api::service::Service;
use identity::keys::Algorithm;
use identity::keys::access::AccessKeys;
use identity::runtime::{Clock as _, Random as _};
use identity::secrets::{SecretName, SecretStore as _};
use identity::store::PointerWriter as _;
use identity::testing::{CapturedAudit, no_entra, settings};
use serde_json::{Value, json};

use crate::measure::{CpuClock, median, memory, millis, spawn_on_other_core};
use crate::programs::{build, program};
use crate::report::{Section, Table, at_most, figure};
use crate::stubs::{Aws, RuntimeApi};

const HOST: &str = "localhost:8443";
const HELLO: &str = "hello";

/// How often each function is started.
const STARTS: usize = 21;
/// After so many events a function is warm for good.
const EVENTS: usize = 10_000;
/// Events of which the calls to AWS are counted.
const COUNTED: usize = 100;

/// A binary, what it is asked first, and what else its calls are counted of.
struct Subject {
    binary: &'static str,
    first: AuthorizeRequest,
    /// With the number of calls each may make.
    counted: &'static [(AuthorizeRequest, usize)],
}

const SUBJECTS: [Subject; 8] = [
    Subject {
        binary: "user",
        first: AuthorizeRequest::Create,
        counted: &[
            (AuthorizeRequest::Create, 2),
            (AuthorizeRequest::CreateWithToken, 2),
            (AuthorizeRequest::Delete, 2),
        ],
    },
    Subject {
        binary: "token",
        first: AuthorizeRequest::Issue,
        counted: &[(AuthorizeRequest::Issue, 1), (AuthorizeRequest::Refused, 0)],
    },
    Subject { binary: "revoke", first: AuthorizeRequest::Revoke, counted: &[(AuthorizeRequest::Revoke, 2)] },
    Subject { binary: "teams-exchange", first: AuthorizeRequest::Exchange, counted: &[] },
    Subject {
        binary: "introspect",
        first: AuthorizeRequest::Introspect,
        counted: &[(AuthorizeRequest::Introspect, 1)],
    },
    Subject { binary: "keys", first: AuthorizeRequest::KeySet, counted: &[(AuthorizeRequest::KeySet, 0)] },
    Subject {
        binary: "authorizer",
        first: AuthorizeRequest::Authorize,
        counted: &[(AuthorizeRequest::Authorize, 1)],
    },
    Subject { binary: "rotate-keys", first: AuthorizeRequest::Regenerate, counted: &[] },
];

/// What a function is asked.
#[derive(Clone, Copy)]
enum AuthorizeRequest {
    Authorize,
    Create,
    CreateWithToken,
    Delete,
    Exchange,
    Introspect,
    Issue,
    KeySet,
    Refused,
    Regenerate,
    Revoke,
}

impl AuthorizeRequest {
    fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Create => "create",
            Self::CreateWithToken => "create with token",
            Self::Delete => "delete",
            Self::Exchange => "exchange",
            Self::Introspect => "introspect",
            Self::Issue => "issue",
            Self::KeySet => "key set",
            Self::Refused => "refused: signature",
            Self::Regenerate => "regenerate a key",
            Self::Revoke => "revoke",
        }
    }

    fn status(self) -> Option<u64> {
        match self {
            Self::Authorize | Self::Regenerate => None,
            Self::Create | Self::CreateWithToken => Some(201),
            Self::Delete | Self::Revoke => Some(204),
            Self::Exchange | Self::Refused => Some(401),
            Self::Introspect | Self::Issue | Self::KeySet => Some(200),
        }
    }

    fn check(self, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        let status = answer.get("statusCode").and_then(Value::as_u64);
        assert_eq!(status, self.status(), "{}: {answer}", self.name());
    }
}

/// A resource whose state the functions share.
struct World {
    aws: Aws,
    service: Service,
    system: Arc<System>,
    access_key: String,
    /// With a token that stays active.
    identity: String,
    token: String,
    /// Its tokens are revoked.
    revoked: String,
}

impl World {
    async fn new() -> Self {
        let database = EmbeddedDynamoDb::in_memory().unwrap();
        let secrets = EmbeddedSecretsManager::in_memory(surroundings());
        let adapters = embedded::adapters(database.clone(), secrets.clone()).await.unwrap();
        let audit = Arc::new(CapturedAudit::default());
        RotateKeys::new(&adapters, Algorithm::Rs256, audit.clone()).set_up().await.unwrap();
        let mut world = Self {
            aws: Aws::start(database, secrets).await,
            service: adapters.service(settings(), no_entra(), Function::ALL, audit),
            system: adapters.system.clone(),
            access_key: access_key(&adapters).await,
            identity: String::new(),
            token: String::new(),
            revoked: String::new(),
        };
        (world.identity, world.token) = world.create().await;
        world.revoked = world.create().await.0;
        world
    }

    async fn create(&self) -> (String, String) {
        let body = r#"{"createTokenWithScopes":["chat"]}"#;
        let response = self.service.handle(self.signed("/identities?api-version=2023-10-01", "POST", body));
        let body: Value = serde_json::from_slice(response.await.body()).unwrap();
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
        (text("/identity/id"), text("/accessToken/token"))
    }

    fn signed(&self, target: &str, method: &str, body: &str) -> Request {
        sign(&Call { method, target, body }, &self.access_key, HOST, self.system.now())
    }

    async fn event(&self, asked: AuthorizeRequest) -> Bytes {
        let issue = format!("/identities/{}/:issueAccessToken", self.identity);
        let scopes = r#"{"scopes":["chat"]}"#;
        let event = match asked {
            AuthorizeRequest::Authorize => self.authorizer_event(),
            AuthorizeRequest::Create => self.gateway_event("POST", "/identities", ""),
            AuthorizeRequest::CreateWithToken => {
                self.gateway_event("POST", "/identities", r#"{"createTokenWithScopes":["chat"]}"#)
            }
            AuthorizeRequest::Delete => {
                let (identity, _) = self.create().await;
                self.gateway_event("DELETE", &format!("/identities/{identity}"), "")
            }
            AuthorizeRequest::Exchange => {
                let guid = "1b5cc06b-f352-4571-b1e6-d9b259b7c776";
                let body = format!(r#"{{"token":"a.b.c","appId":"{guid}","userId":"{guid}"}}"#);
                self.gateway_event("POST", "/teamsUser/:exchangeAccessToken", &body)
            }
            AuthorizeRequest::Introspect => {
                self.gateway_event("POST", "/introspect", &format!("token={}", self.token))
            }
            AuthorizeRequest::Issue => self.gateway_event("POST", &issue, scopes),
            AuthorizeRequest::KeySet => self.gateway_event("GET", "/.well-known/jwks.json", ""),
            AuthorizeRequest::Refused => {
                let mut event = self.gateway_event("POST", &issue, scopes);
                let other = self.signed("/another", "POST", scopes);
                event["headers"]["authorization"] = other.headers["authorization"].to_str().unwrap().into();
                event
            }
            AuthorizeRequest::Regenerate => json!({"regenerate": "secondary"}),
            AuthorizeRequest::Revoke => {
                let path = format!("/identities/{}/:revokeAccessTokens", self.revoked);
                self.gateway_event("POST", &path, "")
            }
        };
        event.to_string().into()
    }

    /// A signed request as an HTTP API hands it over.
    fn gateway_event(&self, method: &str, path: &str, body: &str) -> Value {
        let query = "api-version=2023-10-01";
        let request = self.signed(&format!("{path}?{query}"), method, body);
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = request.headers.iter().map(|(name, value)| (name.to_string(), text(value).into()));
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers.collect::<serde_json::Map<_, Value>>(),
            "requestContext": {"http": {"method": method, "path": path}},
            "body": body,
            "isBase64Encoded": false,
        })
    }

    fn authorizer_event(&self) -> Value {
        json!({
            "version": "2.0",
            "type": "REQUEST",
            "rawPath": "/chat/threads",
            "rawQueryString": "",
            "headers": {"authorization": format!("Bearer {}", self.token)},
            "requestContext": {"http": {"method": "GET", "path": "/chat/threads"}},
        })
    }
}

async fn access_key(adapters: &Adapters) -> String {
    let pointer = adapters.table.pointer().await.unwrap().unwrap();
    let document = adapters.secrets.read(SecretName::AccessKeys, &pointer.access_keys).await.unwrap();
    let keys = AccessKeys::parse(&document).unwrap();
    let [(_, primary), _] = keys.each();
    primary.encoded().to_string()
}

fn surroundings() -> Environment {
    let system = Arc::new(System::new());
    let clock = Arc::clone(&system);
    Environment {
        region: "us-east-1".to_owned(),
        epoch_seconds: Arc::new(move || clock.now().unix_timestamp()),
        random_bytes: Arc::new(move |bytes| system.fill(bytes)),
    }
}

/// A process of a function.
struct Started {
    child: Child,
    cpu: CpuClock,
    api: RuntimeApi,
    /// From the start to the first poll.
    to_poll: Duration,
}

impl Started {
    async fn new(binary: &str, aws: &Aws) -> Self {
        let mut api = RuntimeApi::start().await;
        let mut command = Command::new(program(binary));
        command.env_clear().envs(environment(aws, &api)).stdout(Stdio::null());
        let begun = Instant::now();
        let child = spawn_on_other_core(&mut command);
        let to_poll = api.polled().await - begun;
        Self { cpu: CpuClock::of(&child), child, api, to_poll }
    }

    /// Returns how long the answer took.
    async fn invoke(&mut self, asked: Option<AuthorizeRequest>, event: Bytes) -> Duration {
        let sent = Instant::now();
        let (answered, answer) = self.api.invoke(event).await;
        if let Some(asked) = asked {
            asked.check(&answer);
        }
        self.api.polled().await;
        answered - sent
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn environment(aws: &Aws, api: &RuntimeApi) -> Vec<(&'static str, String)> {
    let text = |name, value: &str| (name, value.to_owned());
    vec![
        ("AWS_LAMBDA_RUNTIME_API", api.address.to_string()),
        text("AWS_LAMBDA_FUNCTION_NAME", "f"),
        text("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        text("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        text("AWS_LAMBDA_LOG_GROUP_NAME", "g"),
        text("AWS_LAMBDA_LOG_STREAM_NAME", "s"),
        text("AWS_REGION", "us-east-1"),
        text("AWS_ACCESS_KEY_ID", "local"),
        text("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_ENDPOINT_URL", format!("http://{}", aws.address)),
        ("RESOURCE_ID", settings().resource.id.to_string()),
        text("RESOURCE_LOCATION", settings().resource.location.as_str()),
        text("RESOURCE_REGION", settings().resource.region.as_str()),
        text("ISSUER", settings().resource.issuer.as_str()),
        text("ACCEPTED_HOSTS", HOST),
        text("TABLE_NAME", TABLE),
        text("ACCESS_KEYS_SECRET", SecretName::AccessKeys.as_str()),
        text("SIGNING_KEYS_SECRET", SecretName::SigningKeys.as_str()),
    ]
}

/// The figures of one binary.
#[derive(Default)]
struct Starts {
    to_poll: Vec<f64>,
    to_answer: Vec<f64>,
    cpu: Vec<f64>,
}

impl Starts {
    async fn once_more(&mut self, binary: &str, asked: Option<AuthorizeRequest>, world: &World) {
        let event = event(asked, world).await;
        let mut started = Started::new(binary, &world.aws).await;
        self.to_poll.push(millis(started.to_poll));
        self.to_answer.push(millis(started.invoke(asked, event).await));
        self.cpu.push(millis(started.cpu.read()));
    }
}

/// The least function returns what it is given.
async fn event(asked: Option<AuthorizeRequest>, world: &World) -> Bytes {
    match asked {
        Some(asked) => world.event(asked).await,
        None => Bytes::from_static(b"{}"),
    }
}

pub fn build_programs() {
    build(&["--package", "functions"]);
    build(&["--package", "benches", "--bin", HELLO]);
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut section = Section::begin("cold");
        let world = World::new().await;
        section.add(&starts(&world).await);
        let mut calls = Table::new(&["operation", "function", "calls to AWS, warm", "which", "target"]);
        section.add(&warm(&world, &mut calls).await);
        section.add(&calls);
        section
    })
}

async fn starts(world: &World) -> Table {
    let mut all: [Starts; SUBJECTS.len()] = Default::default();
    let mut hello = Starts::default();
    for _ in 0..STARTS {
        hello.once_more(HELLO, None, world).await;
        for (subject, starts) in SUBJECTS.iter().zip(&mut all) {
            starts.once_more(subject.binary, Some(subject.first), world).await;
        }
    }
    let mut table = Table::new(&[
        "function",
        "start to first poll, ms",
        "÷ hello",
        "target",
        "first event",
        "to its answer, ms",
        "CPU ms by then",
        "binary, MB",
        "target",
    ]);
    let least = median(&hello.to_poll);
    let mut row = |binary: &str, asked: &str, starts: &Starts| {
        let ratio = median(&starts.to_poll) / least;
        let size = program(binary).metadata().unwrap().len() as f64 / 1e6;
        let is_floor = binary == HELLO;
        table.row([
            binary.to_owned(),
            figure(median(&starts.to_poll)),
            figure(ratio),
            if is_floor { String::new() } else { at_most(ratio, 1.6) },
            asked.to_owned(),
            figure(median(&starts.to_answer)),
            figure(median(&starts.cpu)),
            figure(size),
            if is_floor { String::new() } else { at_most(size, 12.0) },
        ]);
    };
    row(HELLO, "echo", &hello);
    for (subject, starts) in SUBJECTS.iter().zip(&all) {
        row(subject.binary, subject.first.name(), starts);
    }
    table
}

/// Memory after many events, and the calls that an event makes then.
async fn warm(world: &World, calls: &mut Table) -> Table {
    let mut table = Table::new(&["function", "memory after 10 000 events, MB", "target"]);
    for Subject { binary, first, counted } in &SUBJECTS {
        // Replacing keys is no request, and half a second of work.
        let events = if matches!(first, AuthorizeRequest::Regenerate) { 10 } else { EVENTS };
        let mut started = Started::new(binary, &world.aws).await;
        for _ in 0..events {
            started.invoke(Some(*first), world.event(*first).await).await;
        }
        let resident = memory(&started.child, "VmRSS");
        if events == EVENTS {
            table.row([(*binary).to_owned(), figure(resident), at_most(resident, 40.0)]);
        }
        for (asked, target) in *counted {
            calls.row(count(world, &mut started, binary, *asked, *target).await);
        }
    }
    table
}

async fn count(
    world: &World,
    started: &mut Started,
    binary: &str,
    asked: AuthorizeRequest,
    target: usize,
) -> [String; 5] {
    // The events are made first: making one may call, too.
    let mut events = Vec::new();
    for _ in 0..=COUNTED {
        events.push(world.event(asked).await);
    }
    let mut events = events.into_iter();
    started.invoke(Some(asked), events.next().unwrap()).await;
    world.aws.take_calls();
    for event in events {
        started.invoke(Some(asked), event).await;
    }
    let calls = world.aws.take_calls();
    let names: Vec<_> = calls.iter().map(|(name, count)| format!("{name} {}", per_event(*count))).collect();
    let number = calls.values().sum::<usize>() as f64 / COUNTED as f64;
    let verdict = at_most(number.round(), target as f64);
    [asked.name().to_owned(), binary.to_owned(), figure(number), names.join(", "), verdict]
}

fn per_event(count: usize) -> String {
    figure(count as f64 / COUNTED as f64)
}
