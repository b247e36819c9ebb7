//! The operations: the members of each request, its effect, and the members of its answer.

use std::collections::BTreeMap;

use identity::runtime::Random;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::versions::{CURRENT, Secret, SecretText, no_secret};
use super::{EmbeddedSecretsManager, ServiceError, error, invalid_parameter, invalid_request, not_found};
use crate::embedded::REGION;

/// Limit of the bytes in one value.
const VALUE_LIMIT: usize = 65_536;
const ARN_ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Create {
    name: String,
    description: Option<String>,
    client_request_token: Option<String>,
    secret_string: Option<SecretText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Put {
    secret_id: String,
    client_request_token: Option<String>,
    secret_string: SecretText,
    version_stages: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Get {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Describe {
    secret_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ListVersions {
    secret_id: String,
    /// No effect, because no version is without a label.
    #[serde(rename = "IncludeDeprecated")]
    _include_deprecated: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct UpdateStage {
    secret_id: String,
    version_stage: String,
    remove_from_version_id: Option<String>,
    move_to_version_id: Option<String>,
}

/// Makes a secret, with a first version if a value is given.
pub(super) fn create(manager: &EmbeddedSecretsManager, request: Create) -> Result<String, ServiceError> {
    let Create { name, description, client_request_token, secret_string: value } = request;
    check_name(&name)?;
    value.as_ref().map_or(Ok(()), check_value)?;
    let token = version_id(manager, client_request_token)?;
    let suffix = arn_suffix(manager.random());
    let arn = format!("arn:aws:secretsmanager:{REGION}:000000000000:secret:{name}-{suffix}");
    let now = manager.now();
    manager.commit(|secrets| {
        if let Some(secret) = secrets.find(&name) {
            // A repeat of the call that made the secret gets the answer of that call.
            let made = secret.version(&token).and_then(|version| version.value.as_ref());
            if value.is_some() && made == value.as_ref() {
                return Ok(answer(secret, json!({"VersionId": token})));
            }
            let message = format!("The secret {name} exists already.");
            return Err(error("ResourceExistsException", message));
        }
        let mut secret = Secret::new(name, arn, description, now);
        let more = match value {
            Some(value) => {
                secret.put(&token, value, &[], now)?;
                json!({"VersionId": token})
            }
            None => Value::Null,
        };
        let created = answer(&secret, more);
        secrets.add(secret);
        Ok(created)
    })
}

/// Adds a version, or gives a value to the placeholder of a rotation.
pub(super) fn put(manager: &EmbeddedSecretsManager, request: Put) -> Result<String, ServiceError> {
    check_value(&request.secret_string)?;
    let labels = match request.version_stages {
        Some(labels) if labels.is_empty() => {
            return Err(validation("VersionStages must not be empty."));
        }
        labels => labels.unwrap_or_default(),
    };
    labels.iter().try_for_each(|label| check_label(label))?;
    let token = version_id(manager, request.client_request_token)?;
    let now = manager.now();
    manager.change(&request.secret_id, |secret| {
        secret.put(&token, request.secret_string, &labels, now)?;
        let stages = secret.labels_of(&token);
        let more = json!({"VersionId": token, "VersionStages": stages});
        Ok(answer(secret, more))
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GetAnswer<'a> {
    #[serde(rename = "ARN")]
    arn: &'a str,
    name: &'a str,
    version_id: &'a str,
    secret_string: &'a SecretText,
    version_stages: Vec<&'a str>,
    created_date: i64,
}

/// Reads the value of one version: by id, by label (`AWSCURRENT` by default), or by both.
pub(super) fn get(manager: &EmbeddedSecretsManager, request: &Get) -> Result<String, ServiceError> {
    let secrets = manager.secrets();
    let secret = secrets.find(&request.secret_id).ok_or_else(no_secret)?;
    let label = request.version_stage.as_deref();
    let (id, named) = match request.version_id.as_deref() {
        Some(id) => (Some(id), format!("VersionId: {id}")),
        None => {
            let label = label.unwrap_or(CURRENT);
            (secret.version_with(label), format!("staging label: {label}"))
        }
    };
    let absent = || not_found(format!("Secrets Manager can't find the specified secret value for {named}."));
    let version_id = id.ok_or_else(absent)?;
    let version = secret.version(version_id).ok_or_else(absent)?;
    let version_stages = secret.labels_of(version_id);
    if label.is_some_and(|label| !version_stages.contains(&label)) {
        let message = "VersionStage is not on the version that VersionId names.";
        return Err(invalid_request(message));
    }
    let body = serde_json::to_string(&GetAnswer {
        arn: &secret.arn,
        name: &secret.name,
        version_id,
        secret_string: version.value.as_ref().ok_or_else(absent)?,
        version_stages,
        created_date: version.created,
    });
    body.map_err(|failure| error("InternalServiceError", failure.to_string()))
}

/// Describes a secret without its values.
pub(super) fn describe(manager: &EmbeddedSecretsManager, request: &Describe) -> Result<String, ServiceError> {
    let secrets = manager.secrets();
    let secret = secrets.find(&request.secret_id).ok_or_else(no_secret)?;
    let stages: BTreeMap<_, _> = secret.versions().map(|(id, _)| (id, secret.labels_of(id))).collect();
    let more = json!({
        "Description": secret.description,
        "RotationEnabled": secret.rotation_enabled,
        "CreatedDate": secret.created,
        "LastChangedDate": secret.changed,
        "VersionIdsToStages": stages,
    });
    Ok(answer(secret, more))
}

/// Lists the versions of a secret, all on one page.
pub(super) fn list_versions(
    manager: &EmbeddedSecretsManager,
    request: &ListVersions,
) -> Result<String, ServiceError> {
    let secrets = manager.secrets();
    let secret = secrets.find(&request.secret_id).ok_or_else(no_secret)?;
    let versions: Vec<_> = secret
        .versions()
        .map(|(id, version)| {
            let stages = secret.labels_of(id);
            json!({"VersionId": id, "VersionStages": stages, "CreatedDate": version.created})
        })
        .collect();
    Ok(answer(secret, json!({"Versions": versions})))
}

/// Moves, adds or removes a label.
pub(super) fn update_stage(
    manager: &EmbeddedSecretsManager,
    request: &UpdateStage,
) -> Result<String, ServiceError> {
    let label = &request.version_stage;
    check_label(label)?;
    let from = request.remove_from_version_id.as_deref();
    let to = request.move_to_version_id.as_deref();
    let now = manager.now();
    manager.change(&request.secret_id, |secret| {
        secret.move_label(label, from, to, now)?;
        Ok(answer(secret, Value::Null))
    })
}

/// The answer about `secret`: its ARN, its name and the members of `more` that are not null.
fn answer(secret: &Secret, more: Value) -> String {
    let mut members = serde_json::Map::new();
    members.insert("ARN".to_owned(), secret.arn.as_str().into());
    members.insert("Name".to_owned(), secret.name.as_str().into());
    if let Value::Object(more) = more {
        members.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Value::Object(members).to_string()
}

/// The version id in a request, or a new one.
fn version_id(manager: &EmbeddedSecretsManager, token: Option<String>) -> Result<String, ServiceError> {
    let token = token.unwrap_or_else(|| manager.random().guid().to_string());
    check_token(&token)?;
    Ok(token)
}

fn arn_suffix(random: &dyn Random) -> String {
    let mut bytes = [0; 6];
    random.fill(&mut bytes);
    bytes
        .iter()
        .filter_map(|byte| ARN_ALPHABET.get(usize::from(*byte) % ARN_ALPHABET.len()))
        .map(|letter| char::from(*letter))
        .collect()
}

fn validation(message: impl Into<String>) -> ServiceError {
    error("ValidationException", message)
}

fn require(condition: bool, refusal: ServiceError) -> Result<(), ServiceError> {
    if condition { Ok(()) } else { Err(refusal) }
}

/// A version id in a request has 32 to 64 characters.
pub(super) fn check_token(token: &str) -> Result<(), ServiceError> {
    let message = "ClientRequestToken must have 32 to 64 characters.";
    require((32..=64).contains(&token.len()), invalid_parameter(message))
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    let legal = |letter: u8| letter.is_ascii_alphanumeric() || b"/_+=.@!-".contains(&letter);
    let message = "Name must have 1 to 512 letters, digits or characters of /_+=.@!-";
    require((1..=512).contains(&name.len()) && name.bytes().all(legal), validation(message))
}

fn check_label(label: &str) -> Result<(), ServiceError> {
    let message = "A staging label must have 1 to 256 characters.";
    require((1..=256).contains(&label.len()), validation(message))
}

fn check_value(value: &SecretText) -> Result<(), ServiceError> {
    let message = "SecretString must have 1 to 65536 bytes.";
    require((1..=VALUE_LIMIT).contains(&value.len()), validation(message))
}
