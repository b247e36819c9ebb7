//! The composition root of the local server: embedded services under the production adapters.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
};
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient};
use functions::aws::sdk_config;
use functions::boot::{Adapters, Places};
use functions::system::{self, System};
use identity::audit::Audit;
use identity::authn::host::{Authority, MalformedAuthority};
use identity::context::{Clock as _, Random as _};
use identity::keys::access::AccessKeys;
use identity::keys::setup::{Setup, SetupError};
use identity::keys::{Algorithm, KeyFault};
use identity::routes::Function;
use identity::service::Service;
use identity::settings::{Hosts, Place, Settings};
use identity::vault::{SecretName, Vault as _, VaultError};
use zeroize::Zeroizing;

use crate::certificates::{self, CertificateError};
use crate::dynamodb::{self, EmbeddedDynamoDb};
use crate::resource::{self, Choices, LocalResource, ResourceError};
use crate::secrets_manager::{self, EmbeddedSecretsManager, Surroundings};

/// How the local server is started.
pub struct Options {
    pub data_dir: PathBuf,
    /// Further host names clients may use.
    pub hosts: Vec<String>,
    pub https_port: u16,
    pub http_port: u16,
    pub algorithm: Option<Algorithm>,
    pub location: Option<Place>,
    pub region: Option<Place>,
}

/// The local server, ready to be served.
pub struct Platform {
    pub service: Arc<Service>,
    pub adapters: Adapters,
    pub resource: LocalResource,
    pub tls: Arc<rustls::ServerConfig>,
    /// Where state is kept, absolute.
    pub data_dir: PathBuf,
    access_keys: AccessKeys,
    https_port: u16,
    http_port: u16,
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
    #[error("--host {0}: not a host name")]
    Host(String),
    #[error("a key: {0}")]
    Key(#[from] KeyFault),
    #[error("the resource: {0}")]
    Resource(#[from] ResourceError),
    #[error("the embedded Secrets Manager: {0}")]
    SecretsManager(#[from] secrets_manager::OpenError),
    #[error("setting up the resource: {0}")]
    Setup(#[from] SetupError),
    #[error("setting up {what}: {cause}")]
    Prepare { what: &'static str, cause: String },
    #[error("reading the access keys: {0}")]
    Vault(#[from] VaultError),
}

const TABLE: &str = "communication-identity";

/// Names that always lead to this machine.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Every function is served here.
const FUNCTIONS: &[Function] = &[Function::User, Function::Token, Function::Revoke];

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
        let choices = Choices {
            algorithm: options.algorithm,
            location: options.location,
            region: options.region,
        };
        let resource = resource::open(&data_dir, options.https_port, &choices, system.as_ref())?;
        let adapters = adapters(database, secrets).await?;
        let access_keys = set_up(&adapters, resource.algorithm).await?;
        let names: Vec<String> = LOOPBACK_NAMES
            .into_iter()
            .map(str::to_owned)
            .chain(options.hosts.clone())
            .collect();
        let tls = certificates::server_config(&data_dir, &names, adapters.system.now())?;
        let hosts = accepted_hosts(&options.hosts, options.https_port, options.http_port)?;
        let settings = Settings {
            resource: resource.resource.clone(),
            hosts,
        };
        Ok(Self {
            service: Arc::new(adapters.service(settings, FUNCTIONS, audit)),
            adapters,
            resource,
            tls: Arc::new(tls),
            data_dir,
            access_keys,
            https_port: options.https_port,
            http_port: options.http_port,
        })
    }

    /// Where SDK clients connect.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}/", self.https_port)
    }

    /// Where plain HTTP is served.
    #[must_use]
    pub fn http_endpoint(&self) -> String {
        format!("http://localhost:{}/", self.http_port)
    }

    /// The connection strings of the primary and the secondary access key.
    #[must_use]
    pub fn connection_strings(&self) -> [Zeroizing<String>; 2] {
        let endpoint = self.endpoint();
        self.access_keys.each().map(|(_, key)| {
            Zeroizing::new(format!(
                "endpoint={endpoint};accesskey={}",
                key.encoded().as_str()
            ))
        })
    }
}

/// Makes the directory, private to its owner, and returns its absolute path.
fn state_directory(path: &Path) -> Result<PathBuf, StartError> {
    let fault = |source| StartError::Directory {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fault)?;
    path.canonicalize().map_err(fault)
}

fn surroundings(system: &Arc<System>) -> Surroundings {
    let (clock, random) = (Arc::clone(system), Arc::clone(system));
    Surroundings {
        region: "us-east-1".to_owned(),
        epoch_seconds: Arc::new(move || clock.now().unix_timestamp()),
        random_bytes: Arc::new(move |bytes| random.fill(bytes)),
    }
}

/// The production adapters, their clients' HTTP replaced by the embedded services.
///
/// # Errors
/// [`StartError::Prepare`] when the table or the secrets cannot be made.
pub async fn adapters(
    database: impl HttpClient + 'static,
    secrets: impl HttpClient + 'static,
) -> Result<Adapters, StartError> {
    let credentials =
        || SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "local"));
    let config = |http| sdk_config(http, "us-east-1".to_owned(), credentials(), None);
    let database = aws_sdk_dynamodb::Client::new(&config(SharedHttpClient::new(database)));
    let secrets = aws_sdk_secretsmanager::Client::new(&config(SharedHttpClient::new(secrets)));
    prepare_table(&database).await?;
    prepare_secrets(&secrets).await?;
    let name = |secret: SecretName| secret.as_str().to_owned();
    let places = Places {
        table: TABLE.to_owned(),
        access_keys: name(SecretName::AccessKeys),
        signing_keys: name(SecretName::SigningKeys),
    };
    Ok(Adapters::new(database, secrets, places))
}

/// Makes the table a deployment's template makes.
async fn prepare_table(client: &aws_sdk_dynamodb::Client) -> Result<(), StartError> {
    let fault = |cause: String| StartError::Prepare {
        what: "the table",
        cause,
    };
    if client.describe_table().table_name(TABLE).send().await.is_ok() {
        return Ok(());
    }
    let attribute = AttributeDefinition::builder()
        .attribute_name("pk")
        .attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder()
        .attribute_name("pk")
        .key_type(KeyType::Hash);
    let ttl = TimeToLiveSpecification::builder()
        .attribute_name("expires_at")
        .enabled(true);
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute.build().map_err(|error| fault(error.to_string()))?)
        .key_schema(key.build().map_err(|error| fault(error.to_string()))?)
        .send()
        .await
        .map_err(|error| fault(error.to_string()))?;
    client
        .update_time_to_live()
        .table_name(TABLE)
        .time_to_live_specification(ttl.build().map_err(|error| fault(error.to_string()))?)
        .send()
        .await
        .map_err(|error| fault(error.to_string()))?;
    Ok(())
}

/// Makes the two secrets, empty, as a deployment's template does.
async fn prepare_secrets(client: &aws_sdk_secretsmanager::Client) -> Result<(), StartError> {
    for secret in [SecretName::AccessKeys, SecretName::SigningKeys] {
        match client.create_secret().name(secret.as_str()).send().await {
            Ok(_) => {}
            Err(error) if error.code() == Some("ResourceExistsException") => {}
            Err(error) => {
                return Err(StartError::Prepare {
                    what: "the secrets",
                    cause: error.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// Sets the resource up if it is not, and reads the access keys in force.
///
/// # Errors
/// [`StartError`].
pub async fn set_up(adapters: &Adapters, algorithm: Algorithm) -> Result<AccessKeys, StartError> {
    let setup = Setup {
        store: adapters.table.as_ref(),
        vault: adapters.secrets.as_ref(),
        clock: adapters.system.as_ref(),
        random: adapters.system.as_ref(),
        generate: &|| system::generate(algorithm),
    };
    let pointer = setup.run().await?;
    let document = adapters
        .secrets
        .read(SecretName::AccessKeys, &pointer.access_keys)
        .await?;
    Ok(AccessKeys::parse(&document)?)
}

/// Loopback names and the further ones, at both ports; `localhost` over HTTPS is the public one.
fn accepted_hosts(further: &[String], https_port: u16, http_port: u16) -> Result<Hosts, StartError> {
    let names = ["localhost", "127.0.0.1", "[::1]"]
        .into_iter()
        .chain(further.iter().map(String::as_str));
    let mut hosts = Vec::new();
    for name in names {
        for port in [https_port, http_port] {
            let host = Authority::new(name, port);
            hosts.push(host.map_err(|MalformedAuthority| StartError::Host(name.to_owned()))?);
        }
    }
    let others = hosts.split_off(1);
    let public = hosts
        .pop()
        .ok_or_else(|| StartError::Host("localhost".to_owned()))?;
    Ok(Hosts::new(public, others))
}
