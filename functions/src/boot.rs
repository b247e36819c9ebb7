//! The composition root of every function: the environment is read here, once, and nowhere else.

use std::error::Error as StdError;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use identity::audit::Audit;
use identity::keys::KeyFault;
use identity::keys::ring::KeyRing;
use identity::routes::Function;
use identity::service::Service;
use identity::settings::{Settings, SettingsFaults};
use lambda_http::service_fn;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::Value;

use crate::aws::secrets_manager::SecretsManager;
use crate::aws::table::Table;
use crate::rotate_keys::RotateKeys;
use crate::system::System;
use crate::telemetry::JsonLines;
use crate::{aws, gateway};

/// Where a deployment keeps its state.
#[derive(Clone)]
pub struct Places {
    /// The table's name.
    pub table: String,
    /// Name or ARN of the secret `access-keys`.
    pub access_keys: String,
    /// Name or ARN of the secret `signing-keys`.
    pub signing_keys: String,
}

/// The adapters over one AWS configuration.
pub struct Adapters {
    pub system: Arc<System>,
    pub table: Arc<Table>,
    pub secrets: Arc<SecretsManager>,
}

impl Adapters {
    /// The adapters over these clients, for these places.
    #[must_use]
    pub fn new(
        dynamodb: aws_sdk_dynamodb::Client,
        secrets_manager: aws_sdk_secretsmanager::Client,
        places: Places,
    ) -> Self {
        let system = Arc::new(System::new());
        let table = Table::new(dynamodb, places.table, system.clone());
        let secrets = SecretsManager::new(secrets_manager, places.access_keys, places.signing_keys);
        Self { system, table: Arc::new(table), secrets: Arc::new(secrets) }
    }

    /// The service of some functions over these adapters.
    #[must_use]
    pub fn service(
        &self,
        settings: Settings,
        functions: &'static [Function],
        audit: Arc<dyn Audit>,
    ) -> Service {
        Service {
            settings,
            store: self.table.clone(),
            ring: Arc::new(KeyRing::new(self.secrets.clone())),
            clock: self.system.clone(),
            random: self.system.clone(),
            audit,
            functions,
        }
    }
}

/// Runs one function on Lambda until its environment is taken down.
///
/// # Errors
/// All faults of the settings at once, or what the runtime reports.
pub async fn serve(functions: &'static [Function]) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let settings = Settings::read(&environment)?;
    let adapters = adapters()?;
    let service = adapters.service(settings, functions, Arc::new(JsonLines));
    lambda_http::run(service_fn(|event| gateway::handle(&service, event))).await
}

/// Runs the function that replaces keys, on Lambda, until its environment is taken down.
///
/// # Errors
/// All faults of the settings at once, or what the runtime reports.
pub async fn serve_rotation() -> Result<(), Box<dyn StdError + Send + Sync>> {
    let algorithm = environment("SIGNING_ALGORITHM").unwrap_or_else(|| "RS256".to_owned());
    let algorithm = algorithm
        .parse()
        .map_err(|fault: KeyFault| SettingsFaults(vec![format!("SIGNING_ALGORITHM: {fault}")]))?;
    let rotate_keys = RotateKeys::new(&adapters()?, algorithm, Arc::new(JsonLines));
    let rotate_keys = &rotate_keys;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let outcome = rotate_keys.handle(event.payload).await;
        outcome.map_err(|error| Diagnostic {
            error_type: error.code().to_owned(),
            error_message: error.to_string(),
        })
    }))
    .await
}

fn adapters() -> Result<Adapters, SettingsFaults> {
    let config = config()?;
    let (dynamodb, secrets) =
        (aws_sdk_dynamodb::Client::new(&config), aws_sdk_secretsmanager::Client::new(&config));
    Ok(Adapters::new(dynamodb, secrets, places()?))
}

/// The one HTTPS client all SDK clients share.
fn config() -> Result<SdkConfig, SettingsFaults> {
    let region = environment("AWS_REGION");
    let region = region.ok_or_else(|| SettingsFaults(vec!["AWS_REGION is missing".to_owned()]))?;
    let http = Builder::new().tls_provider(Provider::rustls(CryptoMode::AwsLc)).build_https();
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    Ok(aws::sdk_config(http, region, credentials, environment("AWS_ENDPOINT_URL")))
}

fn places() -> Result<Places, SettingsFaults> {
    let required =
        |name: &str| environment(name).ok_or_else(|| SettingsFaults(vec![format!("{name} is missing")]));
    Ok(Places {
        table: required("TABLE_NAME")?,
        access_keys: required("ACCESS_KEYS_SECRET")?,
        // Functions that do not mint are not told where the signing keys lie.
        signing_keys: environment("SIGNING_KEYS_SECRET").unwrap_or_default(),
    })
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment enters")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
