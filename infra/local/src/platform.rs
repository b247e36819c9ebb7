//! The composition root of the local server: the production adapters over the embedded services.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use dynoxide::DynoxideError;
use functions::adapters::Adapters;
use functions::boot::{self, RulesError};
use functions::rotate_keys::RotateKeys;
use functions::system::System;
use identity::api::cors::{AllowedOrigins, CorsSettings, Origin};
use identity::api::functions::Function;
use identity::audit::Audit;
use identity::host::{Hosts, MalformedAuthorityError};
use identity::keys::Algorithm;
use identity::keys::access::AccessKeys;
use identity::keys::rotation::RotationError;
use identity::lifetime::DateWindow;
use identity::runtime::Clock as _;
use identity::secrets::{
    SecretName, SecretStore as _, SecretStoreError, SecretStoreWriter as _, StagingLabel, VersionId,
};
use identity::settings::{Location, Settings};
use identity::store::{PointerWriter as _, StoreError};
use identity::token::verify::{Expected, Verifier};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::aws_endpoint::AwsEndpoint;
use crate::certificates::{self, CertificateError};
use crate::control_api::calls::{Controlled, Gate};
use crate::control_api::journal::Journal;
use crate::control_api::token_clock::TokenClock;
use crate::dynamodb::{self, EmbeddedDynamoDb};
use crate::embedded::{self, PrepareError};
use crate::files::FileError;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::names::ServerNames;
use crate::ready;
use crate::resource::{self, Choices, LocalResource, ResourceError};
use crate::router::Router;
use crate::secrets_manager::{self, EmbeddedSecretsManager, Environment};
use crate::state::{self, DATABASE, RESOURCE, SECRETS, StateKind, StateKindError};
use crate::trust::{self, EntraOptions, TrustError};
use crate::trust_files;

/// The options of the local server.
pub struct Options {
    /// The state directory.
    pub data_dir: PathBuf,
    /// Whether the state is kept there.
    pub state: StateKind,
    /// The access keys of a new resource. A kept resource must have these keys already.
    pub access_keys: Option<Arc<AccessKeys>>,
    /// The names and addresses of the server.
    pub names: ServerNames,
    pub https_port: u16,
    pub http_port: u16,
    /// Web origins whose pages may call the server, in addition to those of this machine.
    pub allowed_origins: Vec<Origin>,
    pub algorithm: Option<Algorithm>,
    pub location: Option<Location>,
    pub region: Option<Location>,
    /// The accepted tokens of Entra.
    pub entra: EntraOptions,
    /// A file with further route rules for the authorizer.
    pub route_rules: Option<PathBuf>,
}

/// The local server, ready to be served.
pub struct Platform {
    pub router: Arc<Router>,
    pub adapters: Adapters,
    pub resource: LocalResource,
    pub tls: Arc<rustls::ServerConfig>,
    /// The state directory, as an absolute path.
    pub data_dir: PathBuf,
    /// Whether the state is kept there.
    pub state: StateKind,
    /// The accepted values of `Host`, the public one first.
    pub hosts: Hosts,
    /// The port of HTTPS.
    pub port: u16,
    /// The port of HTTP.
    pub(crate) http_port: u16,
    /// Whether this start has replaced the certificate authority, so that clients must trust the new one.
    pub is_new_authority: bool,
    /// Verifies tokens for `token inspect`.
    pub verifier: Verifier,
    /// The function that replaces keys.
    pub rotate_keys: RotateKeys,
    /// Held during a replacement of keys.
    pub(crate) replacing: Mutex<()>,
    /// The secrets, for scheduled rotations.
    pub secrets: EmbeddedSecretsManager,
    /// The table, for lists of identities.
    pub database: EmbeddedDynamoDb,
    /// The parts that the control API changes.
    pub controlled: Controlled,
    /// The embedded services for other processes.
    pub aws_endpoint: AwsEndpoint,
    /// The HTTPS endpoint, for SDK clients.
    pub endpoint: String,
    /// The HTTP endpoint.
    pub http_endpoint: String,
}

/// The local server cannot start. Each message names the part, the file and the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the certificate: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the state directory: {0}")]
    Directory(#[from] FileError),
    #[error("the state directory: {0}")]
    StateKind(#[from] StateKindError),
    #[error("the resource in {} has other access keys than --keys; leave out --keys, or use `regenerate`", .0.display())]
    OtherAccessKeys(PathBuf),
    #[error("cannot store the access keys: {0}")]
    StoreAccessKeys(#[from] SecretStoreError),
    /// The state is not that of a first start, so a new file would hide the loss.
    #[error(
        "{} is missing or empty, but other files of the same state exist; restore the file, or remove the \
         directory to start with a new resource",
        .0.display()
    )]
    Lost(PathBuf),
    #[error("the embedded DynamoDB: {0}")]
    DynamoDb(#[from] dynamodb::OpenDatabaseError),
    #[error("the names of this server: {0}")]
    ServerNames(#[from] MalformedAuthorityError),
    #[error("the route rules: {0}")]
    RouteRules(#[from] RulesError),
    #[error("the resource: {0}")]
    Resource(#[from] ResourceError),
    #[error("Entra: {0}")]
    Entra(#[from] TrustError),
    #[error("the embedded Secrets Manager: {0}")]
    SecretsManager(#[from] secrets_manager::OpenError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(
        "cannot set up the keys in {}: {source}; if secrets.json or dynamodb.sqlite there was replaced by an older \
         copy, restore the newest copies, or remove the directory to start with a new resource",
        path.display()
    )]
    Keys { path: PathBuf, source: RotationError },
    #[error(
        "cannot delete expired items from {}: {source}; restore the file, or remove its directory to start with a new \
         resource",
        path.display()
    )]
    Sweep { path: PathBuf, source: DynoxideError },
}

impl Platform {
    /// Opens the state directory. The first start creates the state.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(options: Options, audit: Arc<dyn Audit>) -> Result<Self, StartError> {
        let journal = Arc::new(Journal::new(audit));
        let audit: Arc<dyn Audit> = journal.clone();
        let metrics = Arc::new(Metrics::new(audit.clone()));
        let data_dir = state::directory(&options.data_dir)?;
        let system = Arc::new(System::new());
        let environment = Environment { clock: system.clone(), random: system.clone() };
        // This step comes first, because its lock keeps a second server out of the directory.
        let (secrets, database) = open_services(options.state, &data_dir, environment)?;
        let choices =
            Choices { algorithm: options.algorithm, location: options.location, region: options.region };
        let port = options.https_port;
        let resource = resource::open(&data_dir, options.state, port, &choices, system.as_ref())?;
        secrets.bind(&resource.resource.id.to_string())?;
        let adapters = embedded::adapters(database.clone(), secrets.clone()).await?;
        let token_clock = Arc::new(TokenClock::new(adapters.system.clone()));
        let adapters = Adapters { token_clock: token_clock.clone(), ..adapters };
        // DynamoDB does this by itself. A database in which this fails would fail requests too.
        if state::deletes_expired_records(&data_dir) {
            let sweep_error = |source| StartError::Sweep { path: data_dir.join(DATABASE), source };
            database.sweep_expired().map_err(sweep_error)?;
        }
        let rotate_keys = RotateKeys::new(&adapters, resource.algorithm, audit.clone(), None);
        let keys_error = |source| StartError::Keys { path: data_dir.clone(), source };
        if let Some(keys) = &options.access_keys {
            store_access_keys(&adapters, keys, &data_dir).await?;
        }
        rotate_keys.set_up().await.map_err(keys_error)?;
        let endpoint = format!("https://{}/", options.names.authority(options.https_port)?);
        let hosts = options.names.accepted(options.https_port, options.http_port)?;
        let (entra, stand_in) =
            trust::open(options.state, &data_dir, &endpoint, hosts.clone(), options.entra, &adapters)?;
        let former_authority = certificates::authority_pem(&data_dir)?;
        let (names, now) = (options.names.certified(), adapters.system.now());
        let tls = match options.state {
            StateKind::Kept => certificates::server_config(&data_dir, &names, now)?,
            _ => certificates::ephemeral_server_config(&data_dir, &names, now)?,
        };
        let authority = certificates::authority_pem(&data_dir)?;
        trust_files::write(&data_dir, authority.as_deref().unwrap_or_default())?;
        let is_new_authority = former_authority.is_some() && former_authority != authority;
        let origins = AllowedOrigins::with_loopback(options.allowed_origins);
        let settings = Settings {
            resource: resource.resource.clone(),
            hosts: hosts.clone(),
            date_window: DateWindow::default(),
            cors: CorsSettings { users: origins.clone(), services: origins },
            gateway_path: None,
        };
        let expected = Expected::from(&resource.resource);
        let rules = boot::route_rules(options.route_rules.as_deref())?;
        let gate = Gate::default();
        Ok(Self {
            hosts,
            port: options.https_port,
            http_port: options.http_port,
            is_new_authority,
            verifier: adapters.verifier(expected.clone()),
            router: Arc::new(Router {
                authorizer: Arc::new(adapters.authorizer(expected, rules, audit.clone())),
                service: Arc::new(adapters.service(settings, entra, Function::ALL, metrics.clone())),
                entra: stand_in,
                health: Health {
                    adapters: adapters.clone(),
                    database: database.clone(),
                    metrics,
                    authority: authority.unwrap_or_default().into(),
                },
                gate: gate.clone(),
                control: OnceLock::new(),
            }),
            adapters,
            resource,
            tls: Arc::new(tls),
            data_dir,
            state: options.state,
            rotate_keys,
            replacing: Mutex::default(),
            aws_endpoint: AwsEndpoint::new(database.clone(), secrets.clone(), system.as_ref()),
            database,
            controlled: Controlled { gate, journal, token_clock, notices: Arc::default() },
            secrets,
            endpoint,
            http_endpoint: format!("http://{}:{}/", options.names.public(), options.http_port),
        })
    }

    /// The connection strings of the access keys in force.
    ///
    /// # Errors
    /// [`RotationError`] when they cannot be read.
    pub async fn connection_strings(&self) -> Result<ConnectionStrings, RotationError> {
        let endpoint = &self.endpoint;
        let [primary, secondary] = self.access_keys().await?.each().map(|(_, key)| {
            Zeroizing::new(format!("endpoint={endpoint};accesskey={}", key.encoded().as_str()))
        });
        Ok(ConnectionStrings { primary, secondary })
    }

    /// The access keys in force.
    ///
    /// # Errors
    /// [`RotationError`] when they cannot be read.
    pub(crate) async fn access_keys(&self) -> Result<AccessKeys, RotationError> {
        let pointer = self.adapters.table.pointer().await?.ok_or(StoreError::NotSetUp)?;
        let document = self.adapters.secrets.read(SecretName::AccessKeys, &pointer.access_keys).await?;
        Ok(AccessKeys::parse(&document)?)
    }
}

/// The connection strings for SDK clients. They are secret, because they hold the access keys.
pub struct ConnectionStrings {
    pub primary: Zeroizing<String>,
    pub secondary: Zeroizing<String>,
}

/// The embedded services. Their lock comes first, because it keeps a second server out of the directory.
fn open_services(
    state: StateKind,
    data_dir: &Path,
    environment: Environment,
) -> Result<(EmbeddedSecretsManager, EmbeddedDynamoDb), StartError> {
    let path = data_dir.join(SECRETS);
    if state.is_in_memory() {
        let secrets = EmbeddedSecretsManager::in_memory_with_lock(&path, environment)?;
        state.claim(data_dir)?;
        ready::withdraw(data_dir)?;
        return Ok((secrets, EmbeddedDynamoDb::in_memory()?));
    }
    let secrets = EmbeddedSecretsManager::open(&path, environment)?;
    state.claim(data_dir)?;
    ready::withdraw(data_dir)?;
    check_for_lost_files(data_dir)?;
    Ok((secrets, EmbeddedDynamoDb::open(&data_dir.join(DATABASE))?))
}

/// Stores the access keys that the operator chose, before the set-up would make some. A resource that has keys must have
/// these.
async fn store_access_keys(
    adapters: &Adapters,
    keys: &AccessKeys,
    data_dir: &Path,
) -> Result<(), StartError> {
    let labels = adapters.secrets.labels(SecretName::AccessKeys).await?;
    let Some(version) = labels.version_with(StagingLabel::Current) else {
        let version = VersionId::random(adapters.system.as_ref());
        let document = keys.to_document();
        adapters.secrets.store(SecretName::AccessKeys, &version, &document, StagingLabel::Current).await?;
        return Ok(());
    };
    let current = adapters.secrets.read(SecretName::AccessKeys, version).await?;
    let is_same = |current: AccessKeys| {
        let mut pairs = current.each().into_iter().zip(keys.each());
        pairs.all(|((_, one), (_, other))| *one.encoded() == *other.encoded())
    };
    if AccessKeys::parse(&current).is_ok_and(is_same) {
        Ok(())
    } else {
        Err(StartError::OtherAccessKeys(data_dir.to_owned()))
    }
}

/// Refuses a state directory that has lost its resource or its table. The first start writes `secrets.json` after
/// both.
fn check_for_lost_files(data_dir: &Path) -> Result<(), StartError> {
    let is_missing = |path: &PathBuf| fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    if is_missing(&data_dir.join(SECRETS)) {
        return Ok(());
    }
    let lost = [RESOURCE, DATABASE].map(|file| data_dir.join(file)).into_iter().find(is_missing);
    lost.map_or(Ok(()), |path| Err(StartError::Lost(path)))
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;
    use identity::testing::CapturedAudit;

    use super::*;

    /// A platform over the state in `dir`, or over a new state.
    pub(crate) async fn open(dir: &Path) -> Platform {
        try_open(dir).await.unwrap()
    }

    async fn try_open(dir: &Path) -> Result<Platform, StartError> {
        let options = Options {
            data_dir: dir.to_owned(),
            state: StateKind::Kept,
            access_keys: None,
            names: ServerNames::default(),
            https_port: 8443,
            http_port: 8080,
            allowed_origins: Vec::new(),
            algorithm: Some(Algorithm::Es256),
            location: None,
            region: None,
            entra: EntraOptions::default(),
            route_rules: None,
        };
        Platform::open(options, Arc::new(CapturedAudit::default())).await
    }

    #[tokio::test]
    async fn expired_items_are_deleted_at_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        drop(open(dir).await);
        let database = EmbeddedDynamoDb::open(&dir.join("dynamodb.sqlite")).unwrap();
        let client = embedded::database_client(database);
        let text = |text: &str| AttributeValue::S(text.to_owned());
        for (key, expires_at) in [("past", "1600000000"), ("future", "32000000000")] {
            let item = client.put_item().table_name(embedded::TABLE).item("pk", text(key));
            item.item("expires_at", AttributeValue::N(expires_at.to_owned())).send().await.unwrap();
        }
        drop(open(dir).await);
        for (key, is_there) in [("past", false), ("future", true)] {
            let item =
                client.get_item().table_name(embedded::TABLE).key("pk", text(key)).send().await.unwrap();
            assert_eq!(item.item().is_some(), is_there, "{key}");
        }
    }

    #[tokio::test]
    async fn lost_files_are_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let platform = open(dir.path()).await;
        // A process that is killed does not move the log into the table file.
        assert!(fs::metadata(dir.path().join(DATABASE)).unwrap().len() > 0);
        drop(platform);
        for file in [RESOURCE, DATABASE] {
            let (path, kept) = (dir.path().join(file), dir.path().join("kept"));
            fs::rename(&path, &kept).unwrap();
            let refused = try_open(dir.path()).await.err().unwrap();
            assert!(matches!(&refused, StartError::Lost(lost) if lost.ends_with(file)), "{refused}");
            assert!(!path.exists());
            fs::write(&path, "").unwrap();
            assert!(matches!(try_open(dir.path()).await, Err(StartError::Lost(_))), "an empty {file}");
            fs::rename(&kept, &path).unwrap();
        }
        open(dir.path()).await;
    }

    #[tokio::test]
    async fn state_files_of_another_resource_are_refused() {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        drop((open(dir.path()).await, open(other.path()).await));
        for file in [RESOURCE, SECRETS, DATABASE] {
            let (path, kept) = (dir.path().join(file), dir.path().join("kept"));
            fs::rename(&path, &kept).unwrap();
            fs::copy(other.path().join(file), &path).unwrap();
            let refused = try_open(dir.path()).await.err().unwrap().to_string();
            assert!(refused.contains("restore"), "{file}: {refused}");
            fs::rename(&kept, &path).unwrap();
        }
        open(dir.path()).await;
    }

    #[tokio::test]
    async fn lost_secrets_are_reported_with_a_next_step() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).await);
        fs::remove_file(dir.path().join(SECRETS)).unwrap();
        let refused = try_open(dir.path()).await.err().unwrap().to_string();
        assert!(refused.contains(dir.path().canonicalize().unwrap().to_str().unwrap()), "{refused}");
        assert!(refused.contains("restore the newest copies"), "{refused}");
    }
}
