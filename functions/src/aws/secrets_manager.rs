//! The secret store over Secrets Manager. Values are read by version id, never by label. Labels keep versions from being
//! deleted and inform operators.

use std::sync::LazyLock;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use aws_sdk_secretsmanager::operation::put_secret_value::PutSecretValueError;
use aws_sdk_secretsmanager::operation::update_secret_version_stage::UpdateSecretVersionStageError as UpdateError;
use identity::secrets::{
    MoveOutcome, PutOutcome, Secret, SecretName, SecretStore, SecretStoreError, SecretStoreWriter,
    StagingLabel, StagingLabels, VersionId,
};

use super::AwsFault;
use super::published_keys::PublishedKeys;

type MakeClient = Box<dyn FnOnce() -> Client + Send>;

/// The secret store over Secrets Manager.
pub struct SecretsManager {
    /// Made for the first secret that is read, because some functions read no secret.
    client: LazyLock<Client, MakeClient>,
    access_keys: String,
    signing_keys: String,
    published_keys: PublishedKeys,
}

impl SecretsManager {
    /// The secret store over two secrets, each named by name or ARN.
    #[must_use]
    pub fn new(
        client: MakeClient,
        access_keys: String,
        signing_keys: String,
        published_keys: PublishedKeys,
    ) -> Self {
        Self { client: LazyLock::new(client), access_keys, signing_keys, published_keys }
    }

    fn id(&self, secret: SecretName) -> &str {
        match secret {
            SecretName::AccessKeys => &self.access_keys,
            SecretName::SigningKeys => &self.signing_keys,
        }
    }

    /// The secret's ARN.
    ///
    /// # Errors
    /// [`SecretStoreError::Unavailable`].
    pub async fn arn(&self, secret: SecretName) -> Result<String, SecretStoreError> {
        Ok(self.describe(secret).await?.arn.unwrap_or_default())
    }

    async fn describe(&self, secret: SecretName) -> Result<DescribeSecretOutput, SecretStoreError> {
        let described = self.client.describe_secret().secret_id(self.id(secret)).send().await;
        described.map_err(|error| SecretStoreError::Unavailable(AwsFault::of("DescribeSecret", &error)))
    }
}

#[async_trait]
impl SecretStore for SecretsManager {
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, SecretStoreError> {
        let request = self.client.get_secret_value().secret_id(self.id(secret)).version_id(version.as_str());
        match request.send().await {
            Ok(answer) => {
                let value = answer.secret_string.map(Secret::from).ok_or(SecretStoreError::NoSuchVersion)?;
                let checked = self.published_keys.check(&value);
                checked.map(|()| value).map_err(|error| SecretStoreError::Unavailable(Box::new(error)))
            }
            Err(error) => {
                let fault = AwsFault::of("GetSecretValue", &error);
                match error.into_service_error() {
                    GetSecretValueError::ResourceNotFoundException(_) => Err(SecretStoreError::NoSuchVersion),
                    _ => Err(SecretStoreError::Unavailable(fault)),
                }
            }
        }
    }
}

#[async_trait]
impl SecretStoreWriter for SecretsManager {
    async fn labels(&self, secret: SecretName) -> Result<StagingLabels, SecretStoreError> {
        let described = self.describe(secret).await?;
        Ok(StagingLabels::from_versions(&described.version_ids_to_stages.unwrap_or_default()))
    }

    async fn store(
        &self,
        secret: SecretName,
        version: &VersionId,
        value: &Secret,
        label: StagingLabel,
    ) -> Result<PutOutcome, SecretStoreError> {
        const CALL: &str = "PutSecretValue";
        let text = std::str::from_utf8(value.expose());
        let text = text.map_err(|_| {
            SecretStoreError::Unavailable(AwsFault::boxed(CALL, "the value of the secret is not UTF-8 text"))
        })?;
        let put = self
            .client
            .put_secret_value()
            .secret_id(self.id(secret))
            .client_request_token(version.as_str())
            .secret_string(text)
            .version_stages(label.as_str());
        let Err(error) = put.send().await else { return Ok(PutOutcome::Stored) };
        let fault = AwsFault::of(CALL, &error);
        match error.into_service_error() {
            PutSecretValueError::ResourceExistsException(_) => Ok(PutOutcome::AlreadyThere),
            _ => Err(SecretStoreError::Unavailable(fault)),
        }
    }

    async fn move_label(
        &self,
        secret: SecretName,
        label: StagingLabel,
        from: Option<&VersionId>,
        to: Option<&VersionId>,
    ) -> Result<MoveOutcome, SecretStoreError> {
        let update = self
            .client
            .update_secret_version_stage()
            .secret_id(self.id(secret))
            .version_stage(label.as_str())
            .set_remove_from_version_id(from.map(ToString::to_string))
            .set_move_to_version_id(to.map(ToString::to_string));
        let Err(error) = update.send().await else { return Ok(MoveOutcome::Moved) };
        let fault = AwsFault::of("UpdateSecretVersionStage", &error);
        match error.into_service_error() {
            UpdateError::InvalidParameterException(_)
            | UpdateError::InvalidRequestException(_)
            | UpdateError::ResourceNotFoundException(_) => {
                // Refused. An earlier attempt may have moved the label, and its answer was lost.
                let moved = self.labels(secret).await?.version_with(label) == to;
                Ok(if moved { MoveOutcome::Moved } else { MoveOutcome::Stale })
            }
            _ => Err(SecretStoreError::Unavailable(fault)),
        }
    }
}
