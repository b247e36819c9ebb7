//! The composition root of the local server: the production adapters over the embedded services.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
use identity::runtime::{Clock as _, Random as _};
use identity::secrets::{SecretName, SecretStore as _};
use identity::settings::{Location, Settings};
use identity::store::{PointerWriter as _, StoreError};
use identity::token::verify::{Expected, Verifier};
use zeroize::Zeroizing;

use crate::aws_endpoint::AwsEndpoint;
use crate::certificates::{self, CertificateError};
use crate::dynamodb::{self, EmbeddedDynamoDb};
use crate::embedded::{self, PrepareError};
use crate::files::FileError;
use crate::gateway::Router;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::names::ServerNames;
use crate::ready;
use crate::resource::{self, Choices, LocalResource, ResourceError};
use crate::secrets_manager::{self, EmbeddedSecretsManager, Environment};
use crate::trust::{self, EntraOptions, TrustError};

const SECRETS: &str = "secrets.json";
const DATABASE: &str = "dynamodb.sqlite";

/// The options of the local server.
pub struct Options {
    /// The state directory.
    pub data_dir: PathBuf,
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
    /// The accepted values of `Host`, the public one first.
    pub hosts: Hosts,
    /// The port of HTTPS.
    pub port: u16,
    /// Whether this start has replaced the certificate authority, so that clients must trust the new one.
    pub is_new_authority: bool,
    /// Verifies tokens for `token inspect`.
    pub verifier: Verifier,
    /// The function that replaces keys.
    pub rotate_keys: RotateKeys,
    /// The secrets, for scheduled rotations.
    pub secrets: EmbeddedSecretsManager,
    /// The table, for lists of identities.
    pub database: EmbeddedDynamoDb,
    /// The embedded services for other processes.
    pub aws_endpoint: AwsEndpoint,
    endpoint: String,
    http_endpoint: String,
}

/// The local server cannot start. Each message names the part, the file and the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the certificate: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the state directory: {0}")]
    Directory(#[from] FileError),
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
    #[error("cannot delete expired items from dynamodb.sqlite: {0}")]
    Sweep(#[source] DynoxideError),
}

impl Platform {
    /// Opens the state directory. The first start creates the state.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(options: Options, audit: Arc<dyn Audit>) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new(audit.clone()));
        let data_dir = state_directory(&options.data_dir)?;
        let system = Arc::new(System::new());
        // This step comes first, because its lock keeps a second server out of the directory.
        let secrets = EmbeddedSecretsManager::open(&data_dir.join(SECRETS), environment(&system))?;
        ready::withdraw(&data_dir)?;
        check_for_lost_files(&data_dir)?;
        let database = EmbeddedDynamoDb::open(&data_dir.join(DATABASE))?;
        let choices =
            Choices { algorithm: options.algorithm, location: options.location, region: options.region };
        let resource = resource::open(&data_dir, options.https_port, &choices, system.as_ref())?;
        let adapters = embedded::adapters(database.clone(), secrets.clone()).await?;
        // DynamoDB does this by itself. A database in which this fails would fail requests too.
        database.sweep_expired().map_err(StartError::Sweep)?;
        let rotate_keys = RotateKeys::new(&adapters, resource.algorithm, audit.clone(), None);
        let keys_error = |source| StartError::Keys { path: data_dir.clone(), source };
        rotate_keys.set_up().await.map_err(keys_error)?;
        let endpoint = format!("https://{}/", options.names.authority(options.https_port)?);
        let (entra, stand_in) = trust::open(&data_dir, &endpoint, options.entra, &adapters.system)?;
        let former_authority = certificates::authority_pem(&data_dir)?;
        let tls = certificates::server_config(&data_dir, &options.names.certified(), adapters.system.now())?;
        let is_new_authority =
            former_authority.is_some() && former_authority != certificates::authority_pem(&data_dir)?;
        let hosts = options.names.accepted(options.https_port, options.http_port)?;
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
        Ok(Self {
            hosts,
            port: options.https_port,
            is_new_authority,
            verifier: adapters.verifier(expected.clone()),
            router: Arc::new(Router {
                authorizer: Arc::new(adapters.authorizer(expected, rules, audit.clone())),
                service: Arc::new(adapters.service(settings, entra, Function::ALL, metrics.clone())),
                entra: stand_in,
                health: Health::new(&adapters, database.clone(), metrics),
            }),
            adapters,
            resource,
            tls: Arc::new(tls),
            data_dir,
            rotate_keys,
            aws_endpoint: AwsEndpoint::new(database.clone(), secrets.clone(), system.as_ref()),
            database,
            secrets,
            endpoint,
            http_endpoint: format!("http://{}:{}/", options.names.public(), options.http_port),
        })
    }

    /// The HTTPS endpoint, for SDK clients.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The HTTP endpoint.
    #[must_use]
    pub fn http_endpoint(&self) -> &str {
        &self.http_endpoint
    }

    /// The connection strings of the access keys in force.
    ///
    /// # Errors
    /// [`RotationError`] when they cannot be read.
    pub async fn connection_strings(&self) -> Result<ConnectionStrings, RotationError> {
        let pointer = self.adapters.table.pointer().await?.ok_or(StoreError::NotSetUp)?;
        let document = self.adapters.secrets.read(SecretName::AccessKeys, &pointer.access_keys).await?;
        let endpoint = self.endpoint();
        let [primary, secondary] = AccessKeys::parse(&document)?.each().map(|(_, key)| {
            Zeroizing::new(format!("endpoint={endpoint};accesskey={}", key.encoded().as_str()))
        });
        Ok(ConnectionStrings { primary, secondary })
    }
}

/// The connection strings for SDK clients. They are secret, because they hold the access keys.
pub struct ConnectionStrings {
    pub primary: Zeroizing<String>,
    pub secondary: Zeroizing<String>,
}

/// Creates the directory, private to its owner, and returns its absolute path. An existing directory keeps its mode,
/// which is its owner's choice. Each file that holds secrets is private by itself.
fn state_directory(path: &Path) -> Result<PathBuf, StartError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let absolute = created.and_then(|()| path.canonicalize());
    absolute.map_err(|source| FileError::new("create or open", path, source).into())
}

/// Refuses a state directory that has lost its resource or its table. The first start writes `secrets.json` after
/// both.
fn check_for_lost_files(data_dir: &Path) -> Result<(), StartError> {
    let is_missing = |path: &PathBuf| fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    if is_missing(&data_dir.join(SECRETS)) {
        return Ok(());
    }
    let lost = [resource::FILE, DATABASE].map(|file| data_dir.join(file)).into_iter().find(is_missing);
    lost.map_or(Ok(()), |path| Err(StartError::Lost(path)))
}

fn environment(system: &Arc<System>) -> Environment {
    let (clock, random) = (Arc::clone(system), Arc::clone(system));
    Environment {
        region: embedded::REGION.to_owned(),
        epoch_seconds: Arc::new(move || clock.now().unix_timestamp()),
        random_bytes: Arc::new(move |bytes| random.fill(bytes)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_credential_types::Credentials;
    use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
    use aws_sdk_dynamodb::types::AttributeValue;
    use aws_sdk_dynamodb::{Client, Config};

    use identity::testing::CapturedAudit;

    use super::*;

    /// A platform over the state in `dir`, or over a new state.
    pub(crate) async fn open(dir: &Path) -> Platform {
        try_open(dir).await.unwrap()
    }

    async fn try_open(dir: &Path) -> Result<Platform, StartError> {
        let options = Options {
            data_dir: dir.to_owned(),
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
        let client = Client::from_conf(
            Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::from_static(embedded::REGION))
                .credentials_provider(Credentials::new("local", "local", None, None, "test"))
                .http_client(database)
                .build(),
        );
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
        for file in [resource::FILE, DATABASE] {
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
    async fn lost_secrets_are_reported_with_a_next_step() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).await);
        fs::remove_file(dir.path().join(SECRETS)).unwrap();
        let refused = try_open(dir.path()).await.err().unwrap().to_string();
        assert!(refused.contains(dir.path().canonicalize().unwrap().to_str().unwrap()), "{refused}");
        assert!(refused.contains("restore the newest copies"), "{refused}");
    }
}
