//! The composition root of every function. Only this module reads the environment, once per process.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::HttpClientError;
use identity::api::functions::Function;
use identity::authn::entra::{Entra, EntraSettings};
use identity::authorization::route_rules::{RouteRules, RuleErrors};
use identity::keys::Algorithm;
use identity::secrets::SecretName;
use identity::settings::{Reader, Settings, SettingsErrors};
use identity::token::verify::{Expected, Verifier};
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tokio::time::timeout;

use crate::adapters::{Adapters, StateNames};
use crate::authorizer;
use crate::aws;
use crate::aws::published_keys::PublishedKeys;
use crate::entra_http::HttpsFetch;
use crate::gateway;
use crate::invocation::Invocation;
use crate::record_ends::RecordEnds;
use crate::rotate_keys::RotateKeys;
use crate::telemetry::JsonLines;

/// The longest time for the load of the keys before the first poll. Lambda gives a starting environment 10 seconds.
const WARM_UP_DEADLINE: Duration = Duration::from_millis(1500);

/// Runs one function on Lambda until Lambda stops its environment.
///
/// # Errors
/// All faults of the settings at once, a failure to set up TLS, or an error of the runtime.
pub async fn serve(functions: &'static [Function]) -> Result<(), Box<dyn StdError + Send + Sync>> {
    let secrets: Vec<_> = functions.iter().flat_map(|function| function.secrets()).copied().collect();
    let mut reader = Reader::new(&environment);
    let settings = Settings::read(&mut reader);
    let audits_source = audits_source(&mut reader);
    let entra = EntraSettings::read(&mut reader);
    let metrics = reader.optional("REQUEST_METRICS", "true or false").unwrap_or(false);
    let uses_assignments =
        functions.iter().any(|function| matches!(function, Function::TeamsExchange | Function::Revocations));
    let adapters = AdapterSettings::read(&mut reader, &secrets, uses_assignments);
    let (settings, (entra, adapters)) = reader.finish(settings.zip(entra.zip(adapters)))?;
    let audit = JsonLines { metrics: metrics.then_some(settings.resource.id) };
    let adapters = adapters.connect()?;
    let entra = Entra::new(entra, Arc::new(HttpsFetch::new()), adapters.system.clone());
    let path_form = settings.gateway_path.unwrap_or_default();
    let service = Arc::new(adapters.service(settings, entra, functions, Arc::new(audit)));
    warm_up(service.warm()).await;
    let service = &service;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let invocation = Invocation { request_id: Some(event.context.request_id), audits_source };
        Ok::<_, Infallible>(gateway::handle(service, path_form, event.payload, &invocation).await)
    }))
    .await
}

/// Does the work of the first request that does not depend on the request: it opens connections and loads keys.
///
/// Lambda limits the processor of an environment from its first poll on. It stops an environment that it started in
/// advance at that poll, and then the connections of unfinished work are lost (decision record 0011).
async fn warm_up(work: impl Future<Output = ()>) {
    // The first request repeats unfinished work.
    let _ = timeout(WARM_UP_DEADLINE, work).await;
}

/// Runs the function `rotate-keys` on Lambda until Lambda stops its environment.
///
/// # Errors
/// All faults of the settings at once, a failure to set up TLS, or an error of the runtime.
pub async fn serve_rotation() -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut reader = Reader::new(&environment);
    let algorithm = reader.optional("SIGNING_ALGORITHM", "RS256 or ES256").unwrap_or(Algorithm::Rs256);
    let resource = reader.optional("RESOURCE_ID", "a GUID");
    let adapters = AdapterSettings::read(&mut reader, &SecretName::ALL, false);
    let adapters = reader.finish(adapters)?.connect()?;
    let audit = Arc::new(JsonLines { metrics: None });
    let rotate_keys = &RotateKeys::new(&adapters, algorithm, audit, resource);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        rotate_keys.handle(event.payload).await.map_err(|error| diagnostic(error.code(), &error))
    }))
    .await
}

/// Runs the function `record-ends` on Lambda until Lambda stops its environment.
///
/// # Errors
/// All faults of the settings at once, a failure to set up TLS, or an error of the runtime.
pub async fn serve_recording() -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut reader = Reader::new(&environment);
    let adapters = AdapterSettings::read(&mut reader, &[], true);
    let function = &RecordEnds::new(&reader.finish(adapters)?.connect()?);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        function.handle(event.payload).await.map_err(|error| diagnostic(error.code(), &error))
    }))
    .await
}

/// The issuer and the resource of accepted tokens, from the environment.
///
/// # Errors
/// All faults of the settings at once.
pub fn expected() -> Result<Expected, SettingsErrors> {
    let mut reader = Reader::new(&environment);
    let expected = Expected::read(&mut reader);
    reader.finish(expected)
}

/// A verifier for resource servers, over the table that the environment names. It reads no secret.
///
/// # Errors
/// All faults of the settings at once, or a failure to set up TLS.
pub fn verifier() -> Result<Verifier, Box<dyn StdError + Send + Sync>> {
    let mut reader = Reader::new(&environment);
    let expected = Expected::read(&mut reader);
    let adapters = AdapterSettings::read(&mut reader, &[], false);
    let (expected, adapters) = reader.finish(expected.zip(adapters))?;
    Ok(adapters.connect()?.verifier(expected))
}

/// Runs the authorizer on Lambda until Lambda stops its environment.
///
/// # Errors
/// All faults of the settings at once, [`RulesError`], a failure to set up TLS, or an error of the runtime.
pub async fn serve_authorizer() -> Result<(), Box<dyn StdError + Send + Sync>> {
    let mut reader = Reader::new(&environment);
    let expected = Expected::read(&mut reader);
    let own_rules: Option<PathBuf> = reader.optional("ROUTE_RULES_FILE", "a path");
    let own_rules = own_rules.filter(|path| !path.as_os_str().is_empty());
    let audits_source = audits_source(&mut reader);
    let adapters = AdapterSettings::read(&mut reader, &[], false);
    let (expected, adapters) = reader.finish(expected.zip(adapters))?;
    let rules = route_rules(own_rules.as_deref())?;
    let authorizer = &adapters.connect()?.authorizer(expected, rules, Arc::new(JsonLines { metrics: None }));
    warm_up(authorizer.verifier.warm()).await;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let invocation = Invocation { request_id: Some(event.context.request_id), audits_source };
        let answer = authorizer::handle_invocation(authorizer, event.payload, &invocation).await;
        answer.map_err(|error| diagnostic(error.code(), &error))
    }))
    .await
}

/// Whether audit lines name the sender of a request.
fn audits_source(reader: &mut Reader<'_>) -> bool {
    reader.optional("AUDIT_SOURCE_ADDRESS", "true or false").unwrap_or(false)
}

fn diagnostic(code: &str, error: &impl Display) -> Diagnostic {
    Diagnostic { error_type: code.to_owned(), error_message: error.to_string() }
}

/// The chat routes, and the routes of a deployment's file.
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

/// The route rules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Rules(#[from] RuleErrors),
}

/// The settings of the adapters. A function reads the names of its own tables and secrets only.
struct AdapterSettings {
    region: String,
    endpoint: Option<String>,
    names: StateNames,
}

impl AdapterSettings {
    fn read(reader: &mut Reader<'_>, secrets: &[SecretName], uses_assignments: bool) -> Option<Self> {
        let region = reader.required("AWS_REGION", "an AWS Region");
        let table = reader.required("TABLE_NAME", "the table's name");
        let assignments_table = if uses_assignments {
            reader.required("ASSIGNMENTS_TABLE_NAME", "the table's name")
        } else {
            Some(String::new())
        };
        let mut secret = |secret, name| {
            let is_read = secrets.contains(&secret);
            if is_read { reader.required(name, "a secret's name or ARN") } else { Some(String::new()) }
        };
        let access_keys = secret(SecretName::AccessKeys, "ACCESS_KEYS_SECRET");
        let signing_keys = secret(SecretName::SigningKeys, "SIGNING_KEYS_SECRET");
        let endpoint = reader.optional("AWS_ENDPOINT_URL", "a URL");
        let names = StateNames {
            table: table?,
            assignments_table: assignments_table?,
            access_keys: access_keys?,
            signing_keys: signing_keys?,
        };
        Some(Self { region: region?, endpoint, names })
    }

    /// The adapters. The first calls open the connections.
    fn connect(self) -> Result<Adapters, HttpClientError> {
        let http = aws::http_client(&self.region, self.endpoint.as_deref())?;
        let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
        let config = aws::sdk_config(http, self.region, Some(credentials), self.endpoint);
        let dynamodb = aws::dynamodb(&config);
        let secrets = move || aws::secrets_manager(&config);
        Ok(Adapters::new(dynamodb, secrets, self.names, PublishedKeys::Refused))
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment enters here")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
