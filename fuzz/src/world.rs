//! A resource in memory, with an identity, a token, and an Entra issuer whose documents an input may replace.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::api::functions::Function;
use identity::api::service::Service;
use identity::audit::{Audit, AuditEvent, KeyEvent};
use identity::authn::entra::{Audience, Entra, EntraAuthority, EntraSettings, Fetch, FetchError};
use identity::authn::target::Target;
use identity::authorization::authorizer::Authorizer;
use identity::authorization::route_rules::{AmbiguousPathError, RequestPath, RouteRules};
use identity::ids::UserId;
use identity::keys::access::{AccessKey, AccessKeys};
use identity::keys::cache::KeyCache;
use identity::keys::rotation::{KeyPorts, Rotator};
use identity::keys::signing::VerifyingKeys;
use identity::keys::{Algorithm, Slot};
use identity::memory::Memory;
use identity::secrets::{SecretName, SecretStore};
use identity::store::{CreationId, NewIdentity, Revision, Store as _};
use identity::testing::{FrozenClock, NOON, SeededRandom, settings, signing_key};
use identity::token::claims::{Claims, Grant};
use identity::token::mint::mint;
use identity::token::scope::ScopeSet;
use identity::token::verify::{Expected, OfflineVerifier, Verifier};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

pub const HOST: &str = "localhost:8443";

const TENANT: Uuid = Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0001);

/// The application id of the exchange of a Teams user's token.
const TEAMS: &str = "1fd5118e-2576-4263-8130-9503064c837a";

pub struct World {
    pub service: Service,
    pub authorizer: Authorizer,
    pub id: String,
    pub token: String,
    pub entra_token: String,
    /// `n` of the key that signed the Entra token.
    pub modulus: String,
    runtime: Runtime,
    offline: OfflineVerifier,
    entra: Entra,
    access_key: String,
    /// A key set or a metadata document in place of the issuer's, and the clock of a verifier that has no keys yet.
    documents: Arc<Documents>,
    clock: Arc<FrozenClock>,
}

/// The documents of the issuer.
#[derive(Default)]
struct Documents {
    metadata: Mutex<Option<Vec<u8>>>,
    keys: Mutex<Option<Vec<u8>>>,
}

/// Drops audit lines, which would fill the memory.
struct NoAudit;

impl Audit for NoAudit {
    fn request(&self, _: &Arc<AuditEvent>) {}

    fn keys(&self, _: &KeyEvent) {}
}

#[async_trait]
impl Fetch for Documents {
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let keys_url = format!("{}/{TENANT}/discovery/v2.0/keys", EntraAuthority::default());
        let (other, usual) = if url.ends_with("openid-configuration") {
            (&self.metadata, json!({ "issuer": issuer(), "jwks_uri": keys_url }))
        } else {
            let mut key = serde_json::to_value(signing_key(Algorithm::Rs256, 0).jwk()).unwrap_or_default();
            key["alg"] = "RS256".into();
            (&self.keys, json!({ "keys": [key] }))
        };
        let other = other.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(other.unwrap_or_else(|| usual.to_string().into_bytes()))
    }
}

fn issuer() -> String {
    format!("{}/{TENANT}/v2.0", EntraAuthority::default())
}

fn entra_token() -> String {
    let key = signing_key(Algorithm::Rs256, 0);
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": key.id().as_str() });
    let now = NOON.unix_timestamp();
    let claims = json!({
        "aud": TEAMS, "iss": issuer(), "tid": TENANT, "oid": Uuid::from_u128(1), "azp": Uuid::from_u128(2),
        "ver": "2.0", "scp": "Teams.ManageCalls", "iat": now, "nbf": now, "exp": now + 3_600,
    });
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = key.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The world of this process.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

/// The segments of a path, as the authorizer reads them.
pub fn request_path(path: &str) -> Result<RequestPath, AmbiguousPathError> {
    RequestPath::of(Target::from_wire(path).segments().map_err(|_| AmbiguousPathError)?.to_vec())
}

impl World {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (memory, clock) = (Arc::new(Memory::default()), FrozenClock::at_noon());
        let (random, audit) = (Arc::new(SeededRandom::new(1)), Arc::new(NoAudit));
        let ports = KeyPorts { pointers: memory.as_ref(), secret_store: memory.as_ref() };
        let next = AtomicUsize::new(0);
        let generate = || Ok(signing_key(Algorithm::Es256, next.fetch_add(1, Ordering::SeqCst)));
        let rotator = Rotator {
            ports,
            clock: clock.as_ref(),
            random: random.as_ref(),
            generate: &generate,
            audit: audit.as_ref(),
        };
        let pointer = runtime.block_on(rotator.set_up()).expect("the first keys");
        let secrets = Arc::new(KeyCache::new(memory.clone()));
        let document = runtime.block_on(SecretStore::read(
            memory.as_ref(),
            SecretName::AccessKeys,
            &pointer.access_keys,
        ));
        let keys = AccessKeys::parse(&document.expect("access keys")).expect("access keys");
        let [access_key, _] = keys.each().map(|(_, key)| key.encoded().to_string());
        let settings = settings();
        let identity = UserId::mint(settings.resource.id, NOON, random.as_ref()).into();
        let new = NewIdentity::plain(identity, CreationId::random(random.as_ref()));
        runtime.block_on(memory.create(&new, NOON)).expect("an identity");
        let grant = Grant {
            identity: &new.id,
            scopes: &ScopeSet::parse(["chat"]).expect("a scope"),
            revision: Revision::FIRST,
            issued_at: NOON.unix_timestamp(),
            expires_at: NOON.unix_timestamp() + 3_600,
            token_id: [7; 16],
            teams: None,
        };
        let signing = runtime.block_on(secrets.signing(&pointer)).expect("signing keys");
        let token = mint(&Claims::of(&settings.resource, &grant), signing.of(Slot::Primary));
        let token = token.expect("a token").expose().to_owned();
        let expected = Expected::from(&settings.resource);
        let published = secrets.published().of(&pointer).expect("published keys");
        let jwks = serde_json::to_vec(published.jwks()).expect("a key set");
        let verifying = VerifyingKeys::from_jwks(&jwks).expect("verifying keys");
        let verifier = || Verifier::new(expected.clone(), memory.clone(), clock.clone());
        let documents = Arc::new(Documents::default());
        let entra = || entra(&documents, &clock);
        let authorizer = Authorizer {
            verifier: verifier(),
            rules: RouteRules::chat().expect("rules"),
            clock: clock.clone(),
            random: random.clone(),
            audit: audit.clone(),
        };
        let service = Service {
            settings,
            store: memory.clone(),
            feed: memory.clone(),
            key_cache: secrets,
            entra: Arc::new(entra()),
            clock: clock.clone(),
            token_clock: clock.clone(),
            random,
            audit,
            functions: Function::ALL,
        };
        let modulus = signing_key(Algorithm::Rs256, 0).jwk().n.clone().expect("an RSA key");
        let offline = OfflineVerifier::new(expected.clone(), verifying, clock.clone());
        let (entra, id, entra_token) = (entra(), new.id.to_string(), entra_token());
        Self {
            service,
            authorizer,
            id,
            token,
            entra_token,
            modulus,
            runtime,
            offline,
            entra,
            access_key,
            documents,
            clock,
        }
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn key(&self) -> AccessKey {
        AccessKey::parse(&self.access_key).expect("an access key")
    }

    pub fn is_active(&self, token: &str) -> bool {
        self.block_on(self.authorizer.verifier.verify(token)).is_ok()
    }

    pub fn is_active_offline(&self, token: &str) -> bool {
        self.offline.verify(token).is_ok()
    }

    /// Whether a text is an Entra token of the issuer, whose documents are the usual ones.
    pub fn verifies_as_entra(&self, token: &str) -> bool {
        self.block_on(self.entra.verify(token, Audience::Teams)).is_ok()
    }

    /// Whether the Entra token verifies with this key set, or with this metadata document.
    pub fn verifies_with(&self, is_key_set: bool, document: &[u8]) -> bool {
        let set = |place: &Mutex<Option<Vec<u8>>>, document| {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = document;
        };
        let document = document.to_vec();
        set(&self.documents.keys, is_key_set.then(|| document.clone()));
        set(&self.documents.metadata, (!is_key_set).then_some(document));
        let entra = entra(&self.documents, &self.clock);
        self.block_on(entra.verify(&self.entra_token, Audience::Teams)).is_ok()
    }
}

fn entra(documents: &Arc<Documents>, clock: &Arc<FrozenClock>) -> Entra {
    let settings = EntraSettings { tenants: vec![TENANT], ..EntraSettings::default() };
    Entra::new(settings, documents.clone(), clock.clone())
}
