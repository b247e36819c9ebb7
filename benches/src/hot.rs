//! The hot paths of the core, each beside the least that any implementation must do.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use e2e::signer::{Call, sign};
use e2e::test_service::{Ports, TestService};
use functions::system::System;
use identity::api::body::TokenRequest;
use identity::api::functions::Function;
use identity::api::pipeline::{Body, Request};
use identity::api::reply::{Reply, ResponseContext};
use identity::api::service::Service;
use identity::api::version::ApiVersion;
use identity::audit::{Audit, AuditEvent, KeyEvent};
use identity::authn::hmac::{HmacInput, SignedRequest};
use identity::ids::RawId;
use identity::keys::access::AccessKeys;
use identity::keys::cache::KeyCache;
use identity::keys::signing::SigningKeys;
use identity::keys::{Algorithm, Slot};
use identity::runtime::Clock as _;
use identity::secrets::SecretName;
use identity::store::Revision;
use identity::testing::{no_entra, settings};
use identity::token::claims::{Claims, Grant};
use identity::token::mint::mint;
use identity::token::scope::ScopeSet;
use identity::token::verify::{Expected, Verified, Verifier};
use serde::{Deserialize, Serialize};

use crate::measure::{median, own_cpu_of};
use crate::raw::RawKey;
use crate::report::{Section, Table, at_least, figure};

const HOST: &str = "localhost:8443";
const BODY: &str = r#"{"scopes":["chat","voip"],"expiresInMinutes":60}"#;

/// Operation and floor take turns so often.
const ROUNDS: usize = 9;
/// CPU time of one turn, in microseconds.
const TURN: f64 = 60_000.0;

type Operation = Box<dyn FnMut()>;

/// An operation beside its floor.
struct Pair {
    operation: String,
    ours: Operation,
    floor: &'static str,
    least: Operation,
    /// How many of our operations there should be for one of the floor's, at least.
    target: Option<f64>,
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut section = Section::begin("core");
    let mut table = Table::new(&["operation", "CPU µs", "floor", "CPU µs", "floor ÷ ours", "target"]);
    let pairs: Vec<Pair> = [Algorithm::Es256, Algorithm::Rs256]
        .into_iter()
        .flat_map(|algorithm| runtime.block_on(World::new(algorithm)).pairs())
        .collect();
    // A request sets a timer for its deadline.
    let _entered = runtime.enter();
    for pair in pairs {
        table.row(measured(pair));
    }
    section.add(&table);
    section
}

fn measured(mut pair: Pair) -> [String; 6] {
    let (ours, least) = (count_for_a_turn(&mut pair.ours), count_for_a_turn(&mut pair.least));
    let rounds: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| (cost(&mut pair.ours, ours), cost(&mut pair.least, least))).collect();
    let of = |figure: fn(&(f64, f64)) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let share = of(|(ours, least)| least / ours);
    let target = pair.target.map(|target| at_least(share, target)).unwrap_or_default();
    let (ours, least) = (of(|(ours, _)| *ours), of(|(_, least)| *least));
    [pair.operation, figure(ours), pair.floor.to_owned(), figure(least), figure(share), target]
}

fn cost(operation: &mut Operation, count: u32) -> f64 {
    own_cpu_of(count, || (0..count).for_each(|_| operation()))
}

fn count_for_a_turn(operation: &mut Operation) -> u32 {
    let rough = cost(operation, 64);
    let count = (TURN / rough) as u32;
    count.max(16)
}

/// A resource in memory with one identity and one token, and the same keys as the library has them.
struct World {
    algorithm: Algorithm,
    service: Arc<Service>,
    verifier: Arc<Verifier>,
    access_key: String,
    access_keys: Arc<AccessKeys>,
    signing_keys: Arc<SigningKeys>,
    raw: Arc<RawKey>,
    claims: Claims,
    token: String,
    system: Arc<System>,
}

impl World {
    async fn new(algorithm: Algorithm) -> Self {
        let bench = TestService::new(Ports::memory().0, algorithm, 1).await;
        let (secret_store, store) = (bench.ports.secret_store.clone(), bench.ports.store.clone());
        let pointer = bench.ports.pointers.pointer().await.unwrap().unwrap();
        let access_keys = secret_store.read(SecretName::AccessKeys, &pointer.access_keys).await.unwrap();
        let signing_keys = secret_store.read(SecretName::SigningKeys, &pointer.signing_keys).await.unwrap();
        let signing_keys = Arc::new(SigningKeys::parse(&signing_keys).unwrap());
        let system = Arc::new(System::new());
        let service = Arc::new(Service {
            settings: settings(),
            store: store.clone(),
            key_cache: Arc::new(KeyCache::new(secret_store)),
            entra: Arc::new(no_entra()),
            clock: system.clone(),
            random: system.clone(),
            audit: Arc::new(Discarded),
            functions: Function::ALL,
        });
        let identity = bench.create().await.parse().unwrap();
        let claims = claims(&identity, system.now().unix_timestamp());
        let token = mint(&claims, signing_keys.of(Slot::Primary)).unwrap().expose().to_owned();
        let expected = Expected::from(&settings().resource);
        Self {
            algorithm,
            verifier: Arc::new(Verifier::new(expected, store, system.clone())),
            service,
            access_key: bench.primary.clone(),
            access_keys: Arc::new(AccessKeys::parse(&access_keys).unwrap()),
            raw: Arc::new(RawKey::of(&signing_keys, algorithm)),
            signing_keys,
            claims,
            token,
            system,
        }
    }

    fn pairs(&self) -> Vec<Pair> {
        let mut pairs = vec![self.mint(), self.verify(), self.issue()];
        if self.algorithm == Algorithm::Es256 {
            pairs.extend([self.authenticate(), parse(), self.render()]);
        }
        pairs
    }

    fn mint(&self) -> Pair {
        let (keys, claims, raw) = (self.signing_keys.clone(), self.claims.clone(), self.raw.clone());
        let signed = self.signed_text();
        Pair {
            operation: format!("mint, {}", self.algorithm.as_str()),
            ours: Box::new(move || {
                black_box(mint(&claims, keys.of(Slot::Primary)).unwrap());
            }),
            floor: "signature",
            least: Box::new(move || {
                black_box(raw.sign(signed.as_bytes()));
            }),
            target: Some(if self.algorithm == Algorithm::Es256 { 0.70 } else { 0.95 }),
        }
    }

    fn verify(&self) -> Pair {
        let (verifier, token, raw) = (self.verifier.clone(), self.token.clone(), self.raw.clone());
        let signed = self.signed_text();
        let signature = raw.sign(signed.as_bytes());
        Pair {
            operation: format!("verify, {}", self.algorithm.as_str()),
            ours: Box::new(move || {
                let _: Verified = black_box(at_once(verifier.verify(&token)).unwrap());
            }),
            floor: "verification",
            least: Box::new(move || assert!(raw.verifies(signed.as_bytes(), &signature))),
            target: None,
        }
    }

    /// The whole of a request, from the signature to the reply and the audit line.
    fn issue(&self) -> Pair {
        let target = format!("/identities/{}/:issueAccessToken?api-version=2023-10-01", self.claims.sub);
        let request = self.request(&target);
        let (service, raw, signed) = (self.service.clone(), self.raw.clone(), self.signed_text());
        Pair {
            operation: format!("issue, whole request, {}", self.algorithm.as_str()),
            ours: Box::new(move || {
                let response = at_once(service.handle(again(&request)));
                assert_eq!(black_box(response).status(), 200);
            }),
            floor: "signature",
            least: Box::new(move || {
                black_box(raw.sign(signed.as_bytes()));
            }),
            target: None,
        }
    }

    fn authenticate(&self) -> Pair {
        let request = self.request("/identities?api-version=2023-10-01");
        let (keys, settings, now) = (self.access_keys.clone(), settings(), self.system.now());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&self.access_key).unwrap());
        let text = "x".repeat(150);
        Pair {
            operation: "check a request's signature".to_owned(),
            ours: Box::new(move || {
                let Request { method, target, headers, .. } = &request;
                let input = HmacInput { method, target, headers, body: BODY.as_bytes() };
                let signed = SignedRequest::parse(&input, &settings, now).unwrap();
                black_box(signed.verify(&keys).unwrap());
            }),
            floor: "SHA-256 and HMAC",
            least: Box::new(move || {
                black_box(digest::digest(&digest::SHA256, BODY.as_bytes()));
                black_box(hmac::sign(&key, text.as_bytes()));
            }),
            target: None,
        }
    }

    /// The longest reply there is.
    fn render(&self) -> Pair {
        let verified = at_once(self.verifier.verify(&self.token)).unwrap();
        let (reply, claims) = (Reply::Introspected(Some(Box::new(verified))), self.claims.clone());
        Pair {
            operation: "render an introspection".to_owned(),
            ours: Box::new(move || {
                let envelope = ResponseContext {
                    versions: None,
                    client_request_id: None,
                    request_id: "0123456789abcdefghijkl",
                    latency: std::time::Duration::from_millis(1),
                };
                black_box(envelope.into_response(Ok(&reply)));
            }),
            floor: "serde_json, the claims",
            least: Box::new(move || {
                black_box(serde_json::to_vec(&claims).unwrap());
            }),
            target: None,
        }
    }

    fn signed_text(&self) -> String {
        self.token.rsplit_once('.').unwrap().0.to_owned()
    }

    fn request(&self, target: &str) -> Request {
        let call = Call { method: "POST", target, body: BODY };
        sign(&call, &self.access_key, HOST, self.system.now())
    }
}

fn parse() -> Pair {
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bare {
        scopes: Vec<String>,
        expires_in_minutes: Option<i32>,
    }
    Pair {
        operation: "read a token request".to_owned(),
        ours: Box::new(|| {
            let request = TokenRequest::bind_issue(BODY.as_bytes(), ApiVersion::STABLE[0]).unwrap();
            black_box(request.validate().unwrap());
        }),
        floor: "serde_json, the same members",
        least: Box::new(|| {
            black_box(serde_json::from_slice::<Bare>(BODY.as_bytes()).unwrap());
        }),
        target: None,
    }
}

fn claims(identity: &RawId, now: i64) -> Claims {
    let grant = Grant {
        identity,
        scopes: &ScopeSet::parse(["chat", "voip"]).unwrap(),
        revision: Revision::FIRST,
        issued_at: now,
        expires_at: now + 3_600,
        token_id: [7; 16],
        teams: None,
    };
    Claims::of(&settings().resource, &grant)
}

/// The request as a host hands it over a second time.
fn again(request: &Request) -> Request {
    Request {
        method: request.method.clone(),
        target: request.target.clone(),
        headers: request.headers.clone(),
        body: Body::Complete(Bytes::from_static(BODY.as_bytes())),
    }
}

/// The outcome of a future that never waits, as nothing in memory does.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("memory answers at once"),
    }
}

/// Audit lines are written, and go nowhere.
struct Discarded;

impl Audit for Discarded {
    fn request(&self, event: &AuditEvent) {
        black_box(serde_json::to_vec(event).unwrap());
    }

    fn keys(&self, event: &KeyEvent) {
        black_box(serde_json::to_vec(event).unwrap());
    }
}
