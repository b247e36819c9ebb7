//! The composition root of the local server: embedded services under the production adapters.

use std::fs;
use std::io;
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
use crate::gateway::Router;
use crate::health::Health;
use crate::names::Names;
use crate::resource::{self, Choices, LocalResource, ResourceError};
use crate::secrets_manager::{self, EmbeddedSecretsManager, Environment};
use crate::trust::{self, EntraOptions, TrustError};

/// How the local server is started.
pub struct Options {
    pub data_dir: PathBuf,
    /// By which names clients may know the server.
    pub names: Names,
    pub https_port: u16,
    pub http_port: u16,
    /// Web origins whose pages may call the server, in addition to those of this machine.
    pub allowed_origins: Vec<Origin>,
    pub algorithm: Option<Algorithm>,
    pub location: Option<Location>,
    pub region: Option<Location>,
    /// Whom to trust in Entra besides the stand-in; with an authority, instead of it.
    pub entra: EntraOptions,
    /// Further route rules for the authorizer.
    pub route_rules: Option<PathBuf>,
}

/// The local server, ready to be served.
pub struct Platform {
    pub router: Arc<Router>,
    pub adapters: Adapters,
    pub resource: LocalResource,
    pub tls: Arc<rustls::ServerConfig>,
    /// Where state is kept, absolute.
    pub data_dir: PathBuf,
    /// The hosts clients may address, the public one first.
    pub hosts: Hosts,
    /// Of HTTPS.
    pub port: u16,
    /// For who asks about a token on the terminal.
    pub verifier: Verifier,
    /// The function that replaces keys.
    pub rotate_keys: RotateKeys,
    /// For the driver of scheduled rotations.
    pub secrets: EmbeddedSecretsManager,
    /// For processes of their own.
    pub aws_endpoint: AwsEndpoint,
    endpoint: String,
    http_endpoint: String,
}

/// The local server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the certificate: {0}")]
    Certificate(#[from] CertificateError),
    #[error("{}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the embedded DynamoDB: {0}")]
    DynamoDb(#[from] dynamodb::OpenError),
    #[error("the names of this server: {0}")]
    Names(#[from] MalformedAuthorityError),
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
    #[error("setting up the resource: {0}")]
    Setup(#[from] RotationError),
    #[error("deleting what has expired: {0}")]
    Sweep(#[source] DynoxideError),
}

impl Platform {
    /// Opens the state directory, making on the first start whatever is not there.
    ///
    /// # Errors
    /// [`StartError`] with what is wrong and where.
    pub async fn open(options: Options, audit: Arc<dyn Audit>) -> Result<Self, StartError> {
        let data_dir = state_directory(&options.data_dir)?;
        let system = Arc::new(System::new());
        // First, for it keeps a second server away from the directory.
        let secrets = EmbeddedSecretsManager::open(&data_dir.join("secrets.json"), surroundings(&system))?;
        let database = EmbeddedDynamoDb::open(&data_dir.join("dynamodb.sqlite"))?;
        let choices =
            Choices { algorithm: options.algorithm, location: options.location, region: options.region };
        let resource = resource::open(&data_dir, options.https_port, &choices, system.as_ref())?;
        let adapters = embedded::adapters(database.clone(), secrets.clone()).await?;
        // DynamoDB does it by itself. A database in which this fails would fail requests too.
        database.sweep_expired().map_err(StartError::Sweep)?;
        let rotate_keys = RotateKeys::new(&adapters, resource.algorithm, audit.clone());
        rotate_keys.set_up().await?;
        let endpoint = format!("https://{}:{}/", options.names.public(), options.https_port);
        let (entra, stand_in) = trust::open(&data_dir, &endpoint, options.entra, &adapters.system)?;
        let tls = certificates::server_config(&data_dir, &options.names.certified(), adapters.system.now())?;
        let hosts = options.names.accepted(options.https_port, options.http_port)?;
        let origins = AllowedOrigins::with_loopback(options.allowed_origins);
        let settings = Settings {
            resource: resource.resource.clone(),
            hosts: hosts.clone(),
            date_window: DateWindow::default(),
            cors: CorsSettings { users: origins.clone(), services: origins },
        };
        let expected = Expected::from(&resource.resource);
        let rules = boot::route_rules(options.route_rules.as_deref())?;
        Ok(Self {
            hosts,
            port: options.https_port,
            verifier: adapters.verifier(expected.clone()),
            router: Arc::new(Router {
                authorizer: Arc::new(adapters.authorizer(expected, rules, audit.clone())),
                service: Arc::new(adapters.service(settings, entra, Function::ALL, audit)),
                entra: stand_in,
                health: Health::new(&adapters, database.clone()),
            }),
            adapters,
            resource,
            tls: Arc::new(tls),
            data_dir,
            rotate_keys,
            aws_endpoint: AwsEndpoint::new(database, secrets.clone(), system.as_ref()),
            secrets,
            endpoint,
            http_endpoint: format!("http://{}:{}/", options.names.public(), options.http_port),
        })
    }

    /// Where SDK clients connect.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where plain HTTP is served.
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

/// What SDK clients are given. Secret: they hold the access keys.
pub struct ConnectionStrings {
    pub primary: Zeroizing<String>,
    pub secondary: Zeroizing<String>,
}

/// Makes the directory, private to its owner, and returns its absolute path. One that is there keeps its
/// mode: it is its owner's choice, and the files that hold secrets are private by themselves.
fn state_directory(path: &Path) -> Result<PathBuf, StartError> {
    let fault = |source| StartError::Directory { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
    path.canonicalize().map_err(fault)
}

fn surroundings(system: &Arc<System>) -> Environment {
    let (clock, random) = (Arc::clone(system), Arc::clone(system));
    Environment {
        region: embedded::REGION.to_owned(),
        epoch_seconds: Arc::new(move || clock.now().unix_timestamp()),
        random_bytes: Arc::new(move |bytes| random.fill(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
    use aws_sdk_dynamodb::types::AttributeValue;
    use aws_sdk_dynamodb::{Client, Config};

    use super::*;
    use crate::console;

    async fn open(dir: &Path) -> Platform {
        let options = Options {
            data_dir: dir.to_owned(),
            names: Names::default(),
            https_port: 8443,
            http_port: 8080,
            allowed_origins: Vec::new(),
            algorithm: Some(Algorithm::Es256),
            location: None,
            region: None,
            entra: EntraOptions::default(),
            route_rules: None,
        };
        Platform::open(options, console::audit()).await.unwrap()
    }

    #[tokio::test]
    async fn what_has_expired_is_gone_after_a_start() {
        let dir = std::env::temp_dir().join(format!("platform-{}-expired", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        drop(open(&dir).await);
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
        drop(open(&dir).await);
        for (key, is_there) in [("past", false), ("future", true)] {
            let item =
                client.get_item().table_name(embedded::TABLE).key("pk", text(key)).send().await.unwrap();
            assert_eq!(item.item().is_some(), is_there, "{key}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }
}
