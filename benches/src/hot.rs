//! The hot paths of the core, each beside the minimum work of any implementation.
//!
//! The rounds are run here and not by a benchmark library. A row is the ratio of two operations that take turns, in CPU
//! time. Criterion measures one operation after the other, in wall time.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use benches::raw::{RawHmacKey, RawKey};
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
use identity::authn::hmac::SignedHead;
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
use identity::token::verify::{Expected, Verifier};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::measure::{median, own_cpu_of};
use crate::report::{Section, Table, at_least, figure};

const HOST: &str = "localhost:8443";
const CREATE: &str = "/identities?api-version=2023-10-01";
const BODY: &str = r#"{"scopes":["chat","voip"],"expiresInMinutes":60}"#;

/// Turns of each operation and its floor.
const ROUNDS: usize = 9;
/// CPU time of one turn, in microseconds.
const TURN: f64 = 60_000.0;

type Operation<'a> = Box<dyn FnMut() + 'a>;

/// An operation beside its floor.
struct Pair<'a> {
    operation: String,
    ours: Operation<'a>,
    floor: &'static str,
    least: Operation<'a>,
    /// The least share of the floor in the cost of the operation.
    target: Option<f64>,
}

fn pair<'a, A, B>(
    operation: impl Into<String>,
    mut ours: impl FnMut() -> A + 'a,
    floor: &'static str,
    mut least: impl FnMut() -> B + 'a,
) -> Pair<'a> {
    Pair {
        operation: operation.into(),
        ours: Box::new(move || drop(black_box(ours()))),
        floor,
        least: Box::new(move || drop(black_box(least()))),
        target: None,
    }
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut section = Section::begin("core");
    let mut table = Table::new(&["operation", "CPU µs", "floor", "CPU µs", "floor ÷ ours", "target"]);
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let resource = runtime.block_on(Resource::new(algorithm));
        // A request sets a timer for its deadline.
        let _entered = runtime.enter();
        for pair in resource.pairs() {
            table.row(measured(pair));
        }
    }
    section.add(&table);
    section
}

fn measured(mut pair: Pair<'_>) -> [String; 6] {
    let (ours, least) = (count_for_a_turn(&mut pair.ours), count_for_a_turn(&mut pair.least));
    let rounds: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| (cost(&mut pair.ours, ours), cost(&mut pair.least, least))).collect();
    let of = |figure: fn(&(f64, f64)) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let share = of(|(ours, least)| least / ours);
    let target = pair.target.map(|target| at_least(share, target)).unwrap_or_default();
    let (ours, least) = (of(|(ours, _)| *ours), of(|(_, least)| *least));
    [pair.operation, figure(ours), pair.floor.to_owned(), figure(least), figure(share), target]
}

fn cost(operation: &mut Operation<'_>, count: u32) -> f64 {
    own_cpu_of(count, || (0..count).for_each(|_| operation()))
}

fn count_for_a_turn(operation: &mut Operation<'_>) -> u32 {
    let rough = cost(operation, 64);
    let count = (TURN / rough) as u32;
    count.max(16)
}

/// A resource in memory with one identity and one token, and a key of the cryptographic library.
struct Resource {
    algorithm: Algorithm,
    service: Service,
    verifier: Verifier,
    access_key: String,
    access_keys: AccessKeys,
    signing_keys: SigningKeys,
    raw: RawKey,
    claims: Claims,
    token: String,
    system: Arc<System>,
}

impl Resource {
    async fn new(algorithm: Algorithm) -> Self {
        let fixture = TestService::new(Ports::memory().0, algorithm, 1).await;
        let (secret_store, store) = (fixture.ports.secret_store.clone(), fixture.ports.store.clone());
        let pointer = fixture.ports.pointers.pointer().await.unwrap().unwrap();
        let access_keys = secret_store.read(SecretName::AccessKeys, &pointer.access_keys).await.unwrap();
        let signing_keys = secret_store.read(SecretName::SigningKeys, &pointer.signing_keys).await.unwrap();
        let signing_keys = SigningKeys::parse(&signing_keys).unwrap();
        let system = Arc::new(System::new());
        let service = Service {
            settings: settings(),
            store: store.clone(),
            feed: fixture.ports.feed.clone(),
            key_cache: Arc::new(KeyCache::new(secret_store)),
            entra: Arc::new(no_entra()),
            clock: system.clone(),
            token_clock: system.clone(),
            random: system.clone(),
            audit: Arc::new(Discarded),
            functions: Function::ALL,
        };
        let identity = fixture.create().await.parse().unwrap();
        let claims = claims(&identity, system.now().unix_timestamp());
        let token = mint(&claims, signing_keys.of(Slot::Primary)).unwrap().expose().to_owned();
        let expected = Expected::from(&settings().resource);
        Self {
            algorithm,
            service,
            verifier: Verifier::new(expected, store, system.clone()),
            access_key: fixture.primary.clone(),
            access_keys: AccessKeys::parse(&access_keys).unwrap(),
            raw: RawKey::generate(algorithm),
            signing_keys,
            claims,
            token,
            system,
        }
    }

    fn pairs(&self) -> Vec<Pair<'_>> {
        let mut pairs = vec![self.mint(), self.verify(), self.issue()];
        if self.algorithm == Algorithm::Es256 {
            pairs.extend([self.authenticate(), self.refuse("refuse a create", CREATE)]);
            let issue = format!("/identities/{}/:issueAccessToken?api-version=2023-10-01", self.claims.sub);
            pairs.extend([self.refuse("refuse an issue", &issue), parse(), self.render()]);
        }
        pairs
    }

    fn mint(&self) -> Pair<'_> {
        let ours = || mint(&self.claims, self.signing_keys.of(Slot::Primary)).unwrap();
        let target = Some(if self.algorithm == Algorithm::Es256 { 0.70 } else { 0.95 });
        Pair { target, ..pair(self.named("mint"), ours, "signature", || self.raw.sign(self.signed_text())) }
    }

    fn verify(&self) -> Pair<'_> {
        let signature = self.raw.sign(self.signed_text());
        let ours = || at_once(self.verifier.verify(&self.token)).unwrap();
        let least = move || assert!(self.raw.verifies(self.signed_text(), &signature));
        pair(self.named("verify"), ours, "verification", least)
    }

    /// A whole request, from the signature to the reply and the audit line.
    fn issue(&self) -> Pair<'_> {
        let target = format!("/identities/{}/:issueAccessToken?api-version=2023-10-01", self.claims.sub);
        let request = self.request(&target);
        let ours = move || {
            let response = at_once(self.service.handle(copy(&request)));
            assert_eq!(response.status(), 200);
            response
        };
        let least = || self.raw.sign(self.signed_text());
        pair(self.named("issue, whole request"), ours, "signature", least)
    }

    fn authenticate(&self) -> Pair<'_> {
        let request = self.request(CREATE);
        let (settings, now) = (settings(), self.system.now());
        let ours = move || {
            let Request { method, target, headers, .. } = &request;
            let head = SignedHead::parse(method, target, headers, &settings, now).unwrap();
            head.with_body(BODY.as_bytes()).unwrap().verify(&self.access_keys).unwrap()
        };
        pair("check a request's signature", ours, "SHA-256 and HMAC", hash_and_hmac())
    }

    /// A wrong signature is compared with every candidate under both keys.
    fn refuse(&self, name: &str, target: &str) -> Pair<'_> {
        let mut request = self.request(target);
        let authorization = request.headers.get_mut("authorization").unwrap();
        let (names, _) = authorization.to_str().unwrap().split_once("Signature=").unwrap();
        *authorization = format!("{names}Signature={}", STANDARD.encode([0; 32])).parse().unwrap();
        let (settings, now) = (settings(), self.system.now());
        let ours = move || {
            let Request { method, target, headers, .. } = &request;
            let head = SignedHead::parse(method, target, headers, &settings, now).unwrap();
            let signed = head.with_body(BODY.as_bytes()).unwrap();
            assert!(signed.verify(&self.access_keys).is_err());
        };
        pair(name, ours, "SHA-256 and HMAC", hash_and_hmac())
    }

    /// An introspection is the longest reply.
    fn render(&self) -> Pair<'_> {
        let verified = at_once(self.verifier.verify(&self.token)).unwrap();
        let reply = Reply::Introspected(Some(Box::new(verified)));
        let ours = move || {
            let context = ResponseContext {
                versions: None,
                client_request_id: None,
                request_id: "0123456789abcdefghijkl",
                latency: Duration::from_millis(1),
                is_loopback: false,
            };
            context.into_response(Ok(&reply))
        };
        let least = || serde_json::to_vec(&self.claims).unwrap();
        pair("render an introspection", ours, "serde_json, the claims", least)
    }

    fn named(&self, operation: &str) -> String {
        format!("{operation}, {}", self.algorithm.as_str())
    }

    fn signed_text(&self) -> &[u8] {
        self.token.rsplit_once('.').unwrap().0.as_bytes()
    }

    fn request(&self, target: &str) -> Request {
        let call = Call { method: "POST", target, body: BODY };
        sign(&call, &self.access_key, HOST, self.system.now())
    }
}

fn parse() -> Pair<'static> {
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bare {
        scopes: Vec<String>,
        expires_in_minutes: Option<i32>,
    }
    let ours = || {
        let request = TokenRequest::bind_issue(BODY.as_bytes(), ApiVersion::V2023_10_01).unwrap();
        request.validate().unwrap()
    };
    let least = || serde_json::from_slice::<Bare>(BODY.as_bytes()).unwrap();
    pair("read a token request", ours, "serde_json, the same members", least)
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

/// The hash of a body, and one HMAC over a text of the usual length.
fn hash_and_hmac() -> impl Fn() -> bool {
    let (key, text) = (RawHmacKey::new(&[b'x'; 64]), [b'x'; 150]);
    move || key.verifies(&text, &Sha256::digest(BODY).into())
}

/// The request as a host passes it to the core once more.
fn copy(request: &Request) -> Request {
    Request {
        method: request.method.clone(),
        target: request.target.clone(),
        headers: request.headers.clone(),
        body: Body::Complete(Bytes::from_static(BODY.as_bytes())),
    }
}

/// The outcome of a future that never waits, because all ports are in memory.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => unreachable!("the ports in memory never wait"),
    }
}

/// Audit lines are serialized and discarded.
struct Discarded;

impl Audit for Discarded {
    fn request(&self, event: &Arc<AuditEvent>) {
        black_box(serde_json::to_vec(event).unwrap());
    }

    fn keys(&self, event: &KeyEvent) {
        black_box(serde_json::to_vec(event).unwrap());
    }
}
