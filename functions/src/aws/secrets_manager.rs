//! The vault over Secrets Manager. Values are read by version id, never by label; labels only keep
//! versions from being deleted and tell what an operator sees.

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use identity::keys::VersionId;
use identity::secret::Secret;
use identity::vault::{IN_FORCE, SecretName, Vault, VaultError, VaultWriter};

use super::AwsFault;

const CURRENT: &str = "AWSCURRENT";

/// The vault over Secrets Manager.
pub struct SecretsManager {
    client: Client,
    access_keys: String,
    signing_keys: String,
}

impl SecretsManager {
    /// The vault over two secrets, each named by name or ARN.
    #[must_use]
    pub fn new(client: Client, access_keys: String, signing_keys: String) -> Self {
        Self {
            client,
            access_keys,
            signing_keys,
        }
    }

    fn id(&self, secret: SecretName) -> &str {
        match secret {
            SecretName::AccessKeys => &self.access_keys,
            SecretName::SigningKeys => &self.signing_keys,
        }
    }

    /// The version that bears a label, if any does.
    async fn labelled(&self, secret: SecretName, label: &str) -> Result<Option<VersionId>, VaultError> {
        let described = self
            .client
            .describe_secret()
            .secret_id(self.id(secret))
            .send()
            .await;
        let described =
            described.map_err(|error| VaultError::Unavailable(AwsFault::of("DescribeSecret", &error)))?;
        let versions = described.version_ids_to_stages.unwrap_or_default();
        let bearer = versions
            .into_iter()
            .find(|(_, labels)| labels.iter().any(|borne| borne == label));
        Ok(bearer.map(|(version, _)| VersionId::new(version)))
    }
}

#[async_trait]
impl Vault for SecretsManager {
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, VaultError> {
        let request = self
            .client
            .get_secret_value()
            .secret_id(self.id(secret))
            .version_id(version.as_str());
        match request.send().await {
            Ok(answer) => answer
                .secret_string
                .map(Secret::from)
                .ok_or(VaultError::NoSuchVersion),
            Err(error) => {
                let fault = AwsFault::of("GetSecretValue", &error);
                match error.into_service_error() {
                    GetSecretValueError::ResourceNotFoundException(_) => Err(VaultError::NoSuchVersion),
                    _ => Err(VaultError::Unavailable(fault)),
                }
            }
        }
    }
}

#[async_trait]
impl VaultWriter for SecretsManager {
    async fn current(&self, secret: SecretName) -> Result<Option<VersionId>, VaultError> {
        self.labelled(secret, CURRENT).await
    }

    async fn put_current(
        &self,
        secret: SecretName,
        version: &VersionId,
        value: &Secret,
    ) -> Result<(), VaultError> {
        const CALL: &str = "PutSecretValue";
        let text = std::str::from_utf8(value.expose());
        let text =
            text.map_err(|_| VaultError::Unavailable(AwsFault::boxed(CALL, "the value is no text")))?;
        let put = self
            .client
            .put_secret_value()
            .secret_id(self.id(secret))
            .client_request_token(version.as_str())
            .secret_string(text)
            .version_stages(CURRENT);
        put.send()
            .await
            .map_err(|error| VaultError::Unavailable(AwsFault::of(CALL, &error)))?;
        Ok(())
    }

    async fn hold(&self, secret: SecretName, version: &VersionId) -> Result<(), VaultError> {
        let bearer = self.labelled(secret, IN_FORCE).await?;
        if bearer.as_ref() == Some(version) {
            return Ok(());
        }
        let update = self
            .client
            .update_secret_version_stage()
            .secret_id(self.id(secret))
            .version_stage(IN_FORCE)
            .move_to_version_id(version.as_str())
            .set_remove_from_version_id(bearer.map(|version| version.to_string()));
        let moved = update.send().await;
        moved.map_err(|error| VaultError::Unavailable(AwsFault::of("UpdateSecretVersionStage", &error)))?;
        Ok(())
    }
}
