//! A whole resource in one process: the service over either store, a frozen clock, seeded randomness.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use acs_identity::dynamodb::EmbeddedDynamoDb;
use acs_identity::embedded;
use acs_identity::secrets_manager::{EmbeddedSecretsManager, Environment};
use bytes::Bytes;
use http::Response;
use identity::api::functions::Function;
use identity::api::service::Service;
use identity::authorization::authorizer::Authorizer;
use identity::authorization::route_rules::RouteRules;
use identity::keys::access::AccessKeys;
use identity::keys::cache::KeyCache;
use identity::keys::pointer::PublishedKeys;
use identity::keys::rotation::{Change, KeyPorts, RotationError, Rotator};
use identity::keys::signing::SigningKey;
use identity::keys::{Algorithm, KeyId, Slot};
use identity::memory::Memory;
use identity::resource_servers::ResourceServerOperator;
use identity::runtime::Clock as _;
use identity::secrets::{SecretName, SecretStore, SecretStoreWriter, VersionId};
use identity::settings::Settings;
use identity::store::feed::Feed;
use identity::store::resource_servers::{
    ResourceServerChange, ResourceServerError, ResourceServerSecret, ResourceServerWriter,
};
use identity::store::{PointerWriter, Store};
use identity::testing::{CapturedAudit, FrozenClock, SeededRandom, no_entra, settings, signing_key};
use identity::token::verify::{Expected, Verified, Verifier, VerifyError};

use crate::faults::FaultyClient;
use crate::signer::{Call, sign};

/// The host in the signature of every request.
pub const HOST: &str = "localhost:8443";

/// The ports that a resource uses.
#[derive(Clone)]
pub struct Ports {
    pub store: Arc<dyn Store>,
    pub pointers: Arc<dyn PointerWriter>,
    pub resource_servers: Arc<dyn ResourceServerWriter>,
    pub feed: Arc<dyn Feed>,
    pub secret_store: Arc<dyn SecretStore>,
    pub secret_store_writer: Arc<dyn SecretStoreWriter>,
}

/// A resource under test.
pub struct TestService {
    pub service: Arc<Service>,
    pub verifier: Arc<Verifier>,
    pub authorizer: Arc<Authorizer>,
    pub clock: Arc<FrozenClock>,
    pub audit: Arc<CapturedAudit>,
    /// The access keys in base64, as connection strings hold them.
    pub primary: String,
    pub secondary: String,
    pub ports: Ports,
    keys: Arc<KeySource>,
    random: Arc<SeededRandom>,
}

/// The embedded services, each behind a client with planned faults.
pub struct Embedded {
    pub dynamodb: FaultyClient,
    pub secrets: FaultyClient,
    secrets_manager: EmbeddedSecretsManager,
}

impl Embedded {
    /// Creates the pending version of a secret, as Secrets Manager does before the first step of a scheduled
    /// rotation.
    ///
    /// # Panics
    /// When another rotation is in progress.
    pub fn begin_rotation(&self, secret: &str, version: &str) {
        self.secrets_manager.begin_rotation(secret, version).unwrap();
    }
}

/// The four steps of a scheduled rotation, as Secrets Manager calls them.
///
/// # Errors
/// The error of the first step that fails.
pub async fn run_schedule(rotator: Rotator<'_>, version: &VersionId) -> Result<(), RotationError> {
    rotator.create(version).await?;
    rotator.set(version).await?;
    rotator.try_out(version).await?;
    rotator.finish(version).await.map(|_| ())
}

/// Signing keys for tests. They are generated once for each process and handed out in order.
struct KeySource {
    algorithm: Algorithm,
    next: AtomicUsize,
}

impl KeySource {
    fn make(&self) -> SigningKey {
        signing_key(self.algorithm, self.next.fetch_add(1, Ordering::SeqCst))
    }
}

impl Ports {
    fn keys(&self) -> KeyPorts<'_> {
        KeyPorts { pointers: self.pointers.as_ref(), secret_store: self.secret_store_writer.as_ref() }
    }

    /// The current access keys in base64: primary, secondary.
    ///
    /// # Panics
    /// When they cannot be read.
    pub async fn access_keys(&self) -> (String, String) {
        let pointer = self.pointers.pointer().await.unwrap().unwrap();
        let document = self.secret_store.read(SecretName::AccessKeys, &pointer.access_keys).await.unwrap();
        let keys = AccessKeys::parse(&document).unwrap();
        let [primary, secondary] = keys.each().map(|(_, key)| key.encoded().to_string());
        (primary, secondary)
    }

    /// Ports in memory.
    #[must_use]
    pub fn memory() -> (Self, Arc<Memory>) {
        let memory = Arc::new(Memory::default());
        let ports = Self {
            store: memory.clone(),
            pointers: memory.clone(),
            resource_servers: memory.clone(),
            feed: memory.clone(),
            secret_store: memory.clone(),
            secret_store_writer: memory.clone(),
        };
        (ports, memory)
    }

    /// The production adapters over the AWS SDK clients and the embedded services.
    ///
    /// # Panics
    /// When the embedded services cannot be set up.
    pub async fn embedded(seed: u64) -> (Self, Embedded) {
        let environment =
            Environment { clock: FrozenClock::at_noon(), random: Arc::new(SeededRandom::new(seed)) };
        let secrets_manager = EmbeddedSecretsManager::in_memory(environment);
        let services = Embedded {
            dynamodb: FaultyClient::over(EmbeddedDynamoDb::in_memory().unwrap(), seed),
            secrets: FaultyClient::over(secrets_manager.clone(), !seed),
            secrets_manager,
        };
        let adapters = embedded::adapters(services.dynamodb.clone(), services.secrets.clone()).await.unwrap();
        let ports = Self {
            store: adapters.table.clone(),
            pointers: adapters.table.clone(),
            resource_servers: adapters.table.clone(),
            feed: adapters.table,
            secret_store: adapters.secrets.clone(),
            secret_store_writer: adapters.secrets,
        };
        (ports, services)
    }
}

impl TestService {
    /// A new resource with its first keys.
    ///
    /// # Panics
    /// When the first keys cannot be made.
    pub async fn new(ports: Ports, algorithm: Algorithm, seed: u64) -> Self {
        let clock = FrozenClock::at_noon();
        let random = Arc::new(SeededRandom::new(seed));
        let audit = Arc::new(CapturedAudit::default());
        let keys = Arc::new(KeySource { algorithm, next: AtomicUsize::new(0) });
        let rotator = Rotator {
            ports: ports.keys(),
            clock: clock.as_ref(),
            random: random.as_ref(),
            generate: &|| Ok(keys.make()),
            audit: audit.as_ref(),
        };
        rotator.set_up().await.unwrap();
        let (primary, secondary) = ports.access_keys().await;
        let Hosts { service, verifier, authorizer } = host(&ports, &clock, &random, &audit);
        Self { service, verifier, authorizer, clock, audit, primary, secondary, ports, keys, random }
    }

    /// Another instance over the same state: its clock, its caches and its randomness are its own.
    #[must_use]
    pub fn another(&self, seed: u64) -> Self {
        let (clock, random) = (FrozenClock::at_noon(), Arc::new(SeededRandom::new(seed)));
        let audit = Arc::new(CapturedAudit::default());
        let ports = self.ports.clone();
        let Hosts { service, verifier, authorizer } = host(&ports, &clock, &random, &audit);
        let (primary, secondary) = (self.primary.clone(), self.secondary.clone());
        let keys = self.keys.clone();
        Self { service, verifier, authorizer, clock, audit, primary, secondary, ports, keys, random }
    }

    /// The service with other settings, over the same state.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Service {
        let all = &self.service;
        Service {
            settings,
            store: all.store.clone(),
            feed: all.feed.clone(),
            key_cache: all.key_cache.clone(),
            entra: all.entra.clone(),
            clock: all.clock.clone(),
            token_clock: all.token_clock.clone(),
            random: all.random.clone(),
            audit: all.audit.clone(),
            functions: all.functions,
        }
    }

    /// Replaces keys, as the function `rotate-keys` does.
    ///
    /// # Errors
    /// The errors of [`Rotator::run`].
    pub async fn replace_keys(&self, change: Change) -> Result<(), RotationError> {
        self.rotate(async |rotator| rotator.run(change).await.map(|_| ())).await
    }

    /// The ids of each slot's key in force and standby key.
    ///
    /// # Panics
    /// When the pointer cannot be read, or has no standby keys.
    pub async fn key_ids(&self) -> Vec<(Slot, KeyId, KeyId)> {
        let published = self.ports.pointers.pointer().await.unwrap().unwrap().published;
        let parsed = PublishedKeys::parse(&published).unwrap();
        let in_force = published.entries().unwrap().into_iter();
        in_force
            .map(|entry| {
                let id = KeyId::try_from(entry.jwk.kid.unwrap()).unwrap();
                (entry.slot, id, parsed.standby(entry.slot).unwrap().clone())
            })
            .collect()
    }

    /// Runs a whole scheduled rotation. Each one needs another number.
    ///
    /// # Panics
    /// When the rotation fails.
    pub async fn rotate_on_schedule(&self, embedded: &Embedded, number: u32) {
        let version = VersionId::new(format!("11111111-2222-4333-8444-{number:012}"));
        embedded.begin_rotation(SecretName::SigningKeys.as_str(), version.as_str());
        self.rotate(async |rotator| run_schedule(rotator, &version).await).await.unwrap();
    }

    /// Runs single steps of a rotator.
    ///
    /// # Errors
    /// The errors of the steps.
    pub async fn rotate<T>(
        &self,
        steps: impl AsyncFnOnce(Rotator<'_>) -> Result<T, RotationError>,
    ) -> Result<T, RotationError> {
        let generate = || Ok(self.keys.make());
        let rotator = Rotator {
            ports: self.ports.keys(),
            clock: self.clock.as_ref(),
            random: self.random.as_ref(),
            generate: &generate,
            audit: self.audit.as_ref(),
        };
        steps(rotator).await
    }

    /// Changes the credential of a resource server, as an operator does, and returns its new secret.
    ///
    /// # Errors
    /// [`ResourceServerError`].
    ///
    /// # Panics
    /// When the name is malformed.
    pub async fn change_resource_server(
        &self,
        name: &str,
        change: ResourceServerChange,
    ) -> Result<Option<ResourceServerSecret>, ResourceServerError> {
        let operator = ResourceServerOperator {
            writer: self.ports.resource_servers.as_ref(),
            clock: self.clock.as_ref(),
            random: self.random.as_ref(),
            audit: self.audit.as_ref(),
        };
        operator.run(&name.parse().unwrap(), change).await
    }

    /// Reads the current access keys, as an operator does after a regeneration.
    pub async fn learn_access_keys(&mut self) {
        (self.primary, self.secondary) = self.ports.access_keys().await;
    }

    /// Replaces the service by a new one over the same state, with empty caches.
    pub fn restart(&mut self) {
        let Hosts { service, verifier, authorizer } =
            host(&self.ports, &self.clock, &self.random, &self.audit);
        (self.service, self.verifier, self.authorizer) = (service, verifier, authorizer);
    }

    /// The access key of a slot.
    #[must_use]
    pub fn key(&self, slot: Slot) -> &str {
        if slot == Slot::Secondary { &self.secondary } else { &self.primary }
    }

    /// Sends a request signed with the primary key.
    pub async fn send(&self, method: &str, target: &str, body: &str) -> Reply {
        self.send_as(&self.primary, method, target, body).await
    }

    /// Sends a request signed with the given key.
    pub async fn send_as(&self, key: &str, method: &str, target: &str, body: &str) -> Reply {
        let call = Call { method, target, body };
        Reply::of(self.service.handle(sign(&call, key, HOST, self.clock.now())).await)
    }

    /// Creates an identity and returns its id.
    ///
    /// # Panics
    /// When the service refuses.
    pub async fn create(&self) -> String {
        let reply = self.send("POST", "/identities?api-version=2023-10-01", "").await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.id().unwrap()
    }

    /// `POST /identities/{id}/:issueAccessToken` for scope `chat`.
    pub async fn issue(&self, key: &str, id: &str) -> Reply {
        let target = format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01");
        self.send_as(key, "POST", &target, r#"{"scopes":["chat"]}"#).await
    }

    /// `POST /identities/{id}/:revokeAccessTokens`.
    pub async fn revoke(&self, id: &str) -> Reply {
        let target = format!("/identities/{id}/:revokeAccessTokens?api-version=2023-10-01");
        self.send("POST", &target, "").await
    }

    /// `DELETE /identities/{id}`.
    pub async fn delete(&self, id: &str) -> Reply {
        self.send("DELETE", &format!("/identities/{id}?api-version=2023-10-01"), "").await
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// The errors of [`Verifier::verify`].
    pub async fn verify(&self, token: &str) -> Result<Verified, VerifyError> {
        self.verifier.verify(token).await
    }
}

/// The three entry points over the same ports.
struct Hosts {
    service: Arc<Service>,
    verifier: Arc<Verifier>,
    authorizer: Arc<Authorizer>,
}

/// Routes of an invented calling API and an invented WebSocket API. The product ships rules for the chat API only.
const CALL_ROUTES: &str = "
    CONNECT $connect                   chat.list_threads
    POST /calls                        voip.start_call
    POST /rooms/{room}/calls           voip.start_room_call
    POST /calls/{call}/:join           voip.join_call
    POST /rooms/{room}/calls/{call}/:join voip.join_room_call
    POST /calls/{call}/:mute           voip.act_in_call
    POST /rooms/{room}/calls/{call}/:mute voip.act_in_room_call
";

fn host(
    ports: &Ports,
    clock: &Arc<FrozenClock>,
    random: &Arc<SeededRandom>,
    audit: &Arc<CapturedAudit>,
) -> Hosts {
    let service = Service {
        settings: settings(),
        store: ports.store.clone(),
        feed: ports.feed.clone(),
        key_cache: Arc::new(KeyCache::new(ports.secret_store.clone())),
        entra: Arc::new(no_entra()),
        clock: clock.clone(),
        token_clock: clock.clone(),
        random: random.clone(),
        audit: audit.clone(),
        functions: Function::ALL,
    };
    let expected = Expected::from(&settings().resource);
    let verifier = || Verifier::new(expected.clone(), ports.store.clone(), clock.clone());
    let authorizer = Authorizer {
        verifier: verifier(),
        rules: RouteRules::chat().unwrap().and("the invented APIs", CALL_ROUTES).unwrap(),
        clock: clock.clone(),
        random: random.clone(),
        audit: audit.clone(),
    };
    Hosts { service: Arc::new(service), verifier: Arc::new(verifier()), authorizer: Arc::new(authorizer) }
}

/// A reply with its parsed body. `json` is null when the body is not JSON.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
    pub json: serde_json::Value,
}

impl Reply {
    /// Converts a response.
    #[must_use]
    pub fn of(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        let text = String::from_utf8_lossy(&body).into_owned();
        let json = serde_json::from_str(&text).unwrap_or_default();
        Self { status: parts.status.as_u16(), headers: parts.headers, text, json }
    }

    fn text_at(&self, pointer: &str) -> Option<String> {
        self.json.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned)
    }

    /// The id of the identity, in the reply of a creation.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.text_at("/identity/id")
    }

    /// The token, in the reply of an issue or of a creation with a token.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        self.text_at("/token").or_else(|| self.text_at("/accessToken/token"))
    }

    /// The code of an error reply.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        self.text_at("/error/code")
    }
}
