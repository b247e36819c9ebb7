//! The events of the operator's function. It makes and replaces keys, and changes the credentials of resource servers.
//! The members of an event distinguish four kinds:
//!
//! * Secrets Manager's four steps for the secret `signing-keys`:
//!   `{"Step":"createSecret","SecretId":"<ARN>","ClientRequestToken":"<version id>"}`
//! * the event of a deployment: `{"setUp":true}` makes the first keys, or repairs the state after a crash. The answer is
//!   the state in force.
//! * the call of an operator: `{"rotate":"signing-keys"}` or `{"regenerate":"primary"}` (or `"secondary"`). The answer is
//!   the state that is now in force. It holds no key: the answer of a regeneration names the secret and the version that
//!   hold the new key.
//! * the call of an operator about a resource server: `{"addResourceServer":"<name>"}`, `{"rotateResourceServer":"<name>"}`,
//!   `{"finishResourceServerRotation":"<name>"}`, `{"removeResourceServer":"<name>"}` or `{"listResourceServers":true}`. The
//!   answer holds the secret of an addition or a rotation. No other answer can show it again.

use std::sync::Arc;

use identity::audit::Audit;
use identity::ids::ResourceId;
use identity::keys::AccessSlot;
use identity::keys::pointer::Pointer;
use identity::keys::rotation::{Change, KeyPorts, RotationError, Rotator};
use identity::keys::signing::SigningKey;
use identity::keys::{Algorithm, KeyMaterialError};
use identity::resource_servers::ResourceServerOperator;
use identity::runtime::Clock as _;
use identity::secrets::{SecretName, SecretStoreError, VersionId};
use identity::store::resource_servers::{
    ResourceServerChange, ResourceServerError, ResourceServerId, ResourceServerWriter as _,
};
use identity::store::{PointerWriter as _, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::adapters::Adapters;
use crate::aws::secrets_manager::SecretsManager;
use crate::aws::table::Table;
use crate::system::{self, System};
use crate::telemetry;

/// The function `rotate-keys`.
pub struct RotateKeys {
    table: Arc<Table>,
    secrets: Arc<SecretsManager>,
    system: Arc<System>,
    algorithm: Algorithm,
    audit: Arc<dyn Audit>,
    /// The resource under which the age of the keys is reported as a metric.
    metrics: Option<ResourceId>,
}

/// An event that had no effect, or whose effect is unclear.
#[derive(Debug, thiserror::Error)]
pub enum RotateKeysError {
    #[error(
        "not an event of this function: it takes Secrets Manager's rotation steps, {{\"setUp\":true}}, \
         {{\"rotate\":\"signing-keys\"}}, {{\"regenerate\":\"primary\"|\"secondary\"}}, \
         {{\"listResourceServers\":true}}, or one of addResourceServer, rotateResourceServer, \
         finishResourceServerRotation and removeResourceServer with a name, like \
         {{\"addResourceServer\":\"chat-api\"}}"
    )]
    Event,
    #[error(
        "the event names another secret than signing-keys: attach the rotation schedule to signing-keys only"
    )]
    OtherSecret,
    #[error(transparent)]
    ResourceServer(#[from] ResourceServerError),
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

impl RotateKeysError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Event => "InvalidEvent",
            Self::OtherSecret => "OtherSecret",
            Self::ResourceServer(ResourceServerError::Exists(_)) => "ResourceServerExists",
            Self::ResourceServer(ResourceServerError::TooMany) => "TooManyResourceServers",
            Self::ResourceServer(ResourceServerError::Unknown(_)) => "ResourceServerNotFound",
            Self::ResourceServer(ResourceServerError::Conflict) | Self::Rotation(RotationError::Conflict) => {
                "Conflict"
            }
            Self::ResourceServer(ResourceServerError::Store(_)) => "Unavailable",
            Self::Rotation(RotationError::NotPending) => "NotPending",
            Self::Rotation(RotationError::Unclear(_) | RotationError::Key(_) | RotationError::Store(_)) => {
                "Unavailable"
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    ResourceServer(ResourceServerEvent),
    Regenerate(RegenerateEvent),
    Rotate(RotateEvent),
    SetUp(SetUpEvent),
    Step(StepEvent),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum ResourceServerEvent {
    AddResourceServer(ResourceServerId),
    FinishResourceServerRotation(ResourceServerId),
    ListResourceServers(bool),
    RemoveResourceServer(ResourceServerId),
    RotateResourceServer(ResourceServerId),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SetUpEvent {
    set_up: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegenerateEvent {
    regenerate: AccessSlot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateEvent {
    #[serde(rename = "rotate")]
    _rotate: SigningKeysName,
}

/// Secrets Manager adds a member for callers in other accounts, so further members are accepted.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StepEvent {
    step: Step,
    secret_id: String,
    client_request_token: String,
}

#[derive(Clone, Copy, Deserialize)]
enum Step {
    #[serde(rename = "createSecret")]
    Create,
    #[serde(rename = "setSecret")]
    Set,
    #[serde(rename = "testSecret")]
    Test,
    #[serde(rename = "finishSecret")]
    Finish,
}

#[derive(Deserialize)]
enum SigningKeysName {
    #[serde(rename = "signing-keys")]
    SigningKeys,
}

impl RotateKeys {
    /// The function over these adapters. It makes keys of one algorithm.
    #[must_use]
    pub fn new(
        adapters: &Adapters,
        algorithm: Algorithm,
        audit: Arc<dyn Audit>,
        metrics: Option<ResourceId>,
    ) -> Self {
        Self {
            table: adapters.table.clone(),
            secrets: adapters.secrets.clone(),
            system: adapters.system.clone(),
            algorithm,
            audit,
            metrics,
        }
    }

    /// Executes one event. The answer to an operator's call is the new state. The answer to a step is `null`.
    ///
    /// # Errors
    /// [`RotateKeysError`]. Its text names the next step.
    pub async fn handle(&self, event: Value) -> Result<Value, RotateKeysError> {
        match serde_json::from_value(event).map_err(|_| RotateKeysError::Event)? {
            Event::ResourceServer(event) => self.resource_server(event).await,
            Event::Rotate(_) => self.replace(Change::RotateSigningKeys).await,
            Event::Regenerate(RegenerateEvent { regenerate: slot }) => {
                self.replace(Change::RegenerateAccessKey(slot)).await
            }
            Event::SetUp(SetUpEvent { set_up: true }) => {
                let pointer = self.set_up().await?;
                self.report_age(&pointer)?;
                Ok(self.state(&pointer)?)
            }
            Event::SetUp(SetUpEvent { set_up: false }) => Err(RotateKeysError::Event),
            Event::Step(step) => self.step(&step).await.map(|()| Value::Null),
        }
    }

    /// The keys in force: ids, slots, algorithms and start dates. No secret is read.
    ///
    /// # Errors
    /// [`RotationError`] when the pointer cannot be read.
    pub async fn keys(&self) -> Result<Value, RotationError> {
        let pointer = self.table.pointer().await?.ok_or(StoreError::NotSetUp)?;
        self.state(&pointer)
    }

    /// Makes the first keys, if the resource has none.
    ///
    /// # Errors
    /// [`RotationError`]. A repetition is safe.
    pub async fn set_up(&self) -> Result<Pointer, RotationError> {
        self.rotator(&self.generate()).set_up().await
    }

    async fn resource_server(&self, event: ResourceServerEvent) -> Result<Value, RotateKeysError> {
        let (id, change) = match event {
            ResourceServerEvent::AddResourceServer(id) => (id, ResourceServerChange::Add),
            ResourceServerEvent::FinishResourceServerRotation(id) => {
                (id, ResourceServerChange::FinishRotation)
            }
            ResourceServerEvent::ListResourceServers(true) => return self.resource_servers().await,
            ResourceServerEvent::ListResourceServers(false) => return Err(RotateKeysError::Event),
            ResourceServerEvent::RemoveResourceServer(id) => (id, ResourceServerChange::Remove),
            ResourceServerEvent::RotateResourceServer(id) => (id, ResourceServerChange::Rotate),
        };
        let operator = ResourceServerOperator {
            writer: self.table.as_ref(),
            clock: self.system.as_ref(),
            random: self.system.as_ref(),
            audit: self.audit.as_ref(),
        };
        match operator.run(&id, change).await? {
            Some(secret) => Ok(json!({ "clientId": id, "clientSecret": secret.expose() })),
            None => self.resource_servers().await,
        }
    }

    /// The resource servers, with the start of each of their secrets, oldest first.
    async fn resource_servers(&self) -> Result<Value, RotateKeysError> {
        let stored = self.table.resource_servers().await.map_err(ResourceServerError::from)?;
        let listed: Vec<Value> = stored
            .credentials
            .iter()
            .map(|(id, credential)| {
                let dates = credential.secrets().iter().map(|secret| rfc3339(secret.created_at));
                json!({ "clientId": id, "secretsCreatedAt": dates.collect::<Vec<_>>() })
            })
            .collect();
        Ok(json!({ "resourceServers": listed }))
    }

    async fn replace(&self, change: Change) -> Result<Value, RotateKeysError> {
        let pointer = self.rotator(&self.generate()).run(change).await?;
        let mut state = self.state(&pointer)?;
        if let (Change::RegenerateAccessKey(_), Value::Object(members)) = (change, &mut state) {
            let arn = self.secrets.arn(SecretName::AccessKeys).await.map_err(RotationError::from)?;
            members.insert(
                "accessKeys".to_owned(),
                json!({
                    "secret": arn,
                    "version": pointer.access_keys.as_str(),
                }),
            );
        }
        Ok(state)
    }

    async fn step(&self, event: &StepEvent) -> Result<(), RotateKeysError> {
        let arn = self.secrets.arn(SecretName::SigningKeys).await.map_err(RotationError::from)?;
        if event.secret_id != arn && event.secret_id != SecretName::SigningKeys.as_str() {
            return Err(RotateKeysError::OtherSecret);
        }
        let version = VersionId::new(event.client_request_token.clone());
        let generate = self.generate();
        let rotator = self.rotator(&generate);
        match event.step {
            Step::Create => rotator.create(&version).await?,
            Step::Set => rotator.set(&version).await?,
            Step::Test => rotator.try_out(&version).await?,
            Step::Finish => {
                rotator.finish(&version).await?;
            }
        }
        Ok(())
    }

    /// Reports the age of the keys. The schedule `ensure-keys` calls this often, so an alarm can watch the age.
    fn report_age(&self, pointer: &Pointer) -> Result<(), RotationError> {
        let Some(resource) = self.metrics else { return Ok(()) };
        let (now, since) = (self.system.now(), pointer.published.oldest()?);
        telemetry::write_key_age(resource, now.unix_timestamp() - since, now);
        Ok(())
    }

    fn generate(&self) -> impl Fn() -> Result<SigningKey, KeyMaterialError> + Sync + use<> {
        let algorithm = self.algorithm;
        move || system::generate(algorithm)
    }

    fn rotator<'a>(
        &'a self,
        generate: &'a (dyn Fn() -> Result<SigningKey, KeyMaterialError> + Sync),
    ) -> Rotator<'a> {
        Rotator {
            ports: KeyPorts { pointers: self.table.as_ref(), secret_store: self.secrets.as_ref() },
            clock: self.system.as_ref(),
            random: self.system.as_ref(),
            generate,
            audit: self.audit.as_ref(),
        }
    }

    fn state(&self, pointer: &Pointer) -> Result<Value, RotationError> {
        let keys: Vec<Value> = pointer
            .published
            .entries()?
            .iter()
            .map(|entry| {
                json!({
                    "slot": entry.slot.as_str(),
                    "keyId": entry.jwk.kid,
                    "algorithm": entry.jwk.alg,
                    "publishedAt": rfc3339(entry.published_at),
                })
            })
            .collect();
        Ok(json!({
            "generation": pointer.generation,
            "at": self.system.now().format(&Rfc3339).unwrap_or_default(),
            "signingKeys": { "version": pointer.signing_keys.as_str(), "keys": keys },
        }))
    }
}

fn rfc3339(epoch_seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(epoch_seconds).ok()?.format(&Rfc3339).ok()
}

impl From<SecretStoreError> for RotateKeysError {
    fn from(error: SecretStoreError) -> Self {
        Self::Rotation(error.into())
    }
}
