//! The composition root of every function: the environment is read here, once, and nowhere else.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_credential_types::provider::SharedCredentialsProvider;
use identity::api::functions::Function;
use identity::api::service::Service;
use identity::authn::entra::{Entra, EntraSettings};
use identity::authorization::route_rules::{RouteRules, RuleErrors};
use identity::keys::Algorithm;
use identity::secrets::SecretName;
use identity::settings::{Reader, Settings, SettingsErrors};
use identity::token::verify::{Expected, Verifier};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::task::yield_now;

use crate::adapters::{Adapters, StateNames};
use crate::authorizer;
use crate::aws;
use crate::entra_http::HttpsFetch;
use crate::gateway::{self, PathForm};
use crate::rotate_keys::RotateKeys;
use crate::telemetry::JsonLines;

/// Turns of the event loop within which the runtime asks for its first request, and some to spare.
const TURNS_TO_ASK: usize = 16;

/// Runs one function on Lambda until its environment is taken down.
///
/// # Errors
/// All faults of the settings at once, or what the runtime reports.
pub async fn serve(functions: &'static [Function]) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let secrets: Vec<_> = functions.iter().flat_map(|function| function.secrets()).copied().collect();
    let mut reader = Reader::new(&environment);
    let settings = Settings::read(&mut reader);
    let path_form = reader.optional("GATEWAY_PATH", "decoded or wire").unwrap_or(PathForm::Decoded);
    let entra = EntraSettings::read(&mut reader);
    let adapters = adapters(&mut reader, &secrets);
    let (settings, (entra, adapters)) = reader.finish(settings.zip(entra.zip(adapters)))?;
    let entra = Entra::new(entra, Arc::new(HttpsFetch::new()), adapters.system.clone());
    let service = Arc::new(adapters.service(settings, entra, functions, Arc::new(JsonLines)));
    tokio::spawn(warm(Arc::clone(&service)));
    let service = &service;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        Ok::<_, Infallible>(gateway::handle(service, path_form, event.payload).await)
    }))
    .await
}

/// Loads what the first request will need, while the runtime waits for that request.
async fn warm(service: Arc<Service>) {
    // Setting up the first call to AWS computes for a millisecond. The runtime asks for a request first: a few
    // turns of the event loop until it has connected and sent.
    for _ in 0..TURNS_TO_ASK {
        yield_now().await;
    }
    service.warm().await;
}

/// Runs the function that replaces keys, on Lambda, until its environment is taken down.
///
/// # Errors
/// All faults of the settings at once, or what the runtime reports.
pub async fn serve_rotation() -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut reader = Reader::new(&environment);
    let algorithm = reader.optional("SIGNING_ALGORITHM", "RS256 or ES256").unwrap_or(Algorithm::Rs256);
    let adapters = adapters(&mut reader, &SecretName::ALL);
    let adapters = reader.finish(adapters)?;
    let rotate_keys = &RotateKeys::new(&adapters, algorithm, Arc::new(JsonLines));
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let outcome = rotate_keys.handle(event.payload).await;
        outcome.map_err(|error| Diagnostic {
            error_type: error.code().to_owned(),
            error_message: error.to_string(),
        })
    }))
    .await
}

/// Whose tokens are accepted, as the environment says.
///
/// # Errors
/// All faults of the settings at once.
pub fn expected() -> Result<Expected, SettingsErrors> {
    let mut reader = Reader::new(&environment);
    let expected = Expected::read(&mut reader);
    reader.finish(expected)
}

/// A verifier over the table that the environment names, for resource servers. It reads no secret.
///
/// # Errors
/// All faults of the settings at once.
pub fn verifier() -> Result<Verifier, SettingsErrors> {
    let mut reader = Reader::new(&environment);
    let expected = Expected::read(&mut reader);
    let adapters = adapters(&mut reader, &[]);
    let (expected, adapters) = reader.finish(expected.zip(adapters))?;
    Ok(adapters.verifier(expected))
}

/// Runs the authorizer on Lambda until its environment is taken down.
///
/// # Errors
/// All faults of the settings at once, or what the runtime reports.
pub async fn serve_authorizer() -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut reader = Reader::new(&environment);
    let expected = Expected::read(&mut reader);
    let own_rules: Option<PathBuf> = reader.optional("ROUTE_RULES_FILE", "a path");
    let own_rules = own_rules.filter(|path| !path.as_os_str().is_empty());
    let adapters = adapters(&mut reader, &[]);
    let (expected, adapters) = reader.finish(expected.zip(adapters))?;
    let authorizer = &adapters.authorizer(expected, route_rules(own_rules.as_deref())?, Arc::new(JsonLines));
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let answer = authorizer::handle(authorizer, event.payload).await;
        answer.map_err(|error| Diagnostic {
            error_type: error.code().to_owned(),
            error_message: error.to_string(),
        })
    }))
    .await
}

/// The chat routes, and those of a deployment's file.
///
/// # Errors
/// [`RulesError`].
pub fn route_rules(file: Option<&Path>) -> Result<RouteRules, RulesError> {
    let chat = RouteRules::chat()?;
    let Some(path) = file else { return Ok(chat) };
    let text =
        fs::read_to_string(path).map_err(|source| RulesError::File { path: path.to_owned(), source })?;
    Ok(chat.and(&path.display().to_string(), &text)?)
}

/// The route rules cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Rules(#[from] RuleErrors),
}

/// A function is told where those secrets lie that it reads, and no others.
fn adapters(reader: &mut Reader<'_>, secrets: &[SecretName]) -> Option<Adapters> {
    let region = reader.required("AWS_REGION", "an AWS Region");
    let table = reader.required("TABLE_NAME", "the table's name");
    let mut secret = |secret, name| {
        let is_read = secrets.contains(&secret);
        if is_read { reader.required(name, "a secret's name or ARN") } else { Some(String::new()) }
    };
    let access_keys = secret(SecretName::AccessKeys, "ACCESS_KEYS_SECRET");
    let signing_keys = secret(SecretName::SigningKeys, "SIGNING_KEYS_SECRET");
    let endpoint = reader.optional("AWS_ENDPOINT_URL", "a URL");
    let config = config(region?, endpoint);
    let names = StateNames { table: table?, access_keys: access_keys?, signing_keys: signing_keys? };
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    Some(Adapters::new(dynamodb, move || aws_sdk_secretsmanager::Client::new(&config), names))
}

fn config(region: String, endpoint: Option<String>) -> SdkConfig {
    let http = aws::http_client(endpoint.as_deref());
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    aws::sdk_config(http, region, credentials, endpoint)
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment enters")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
