//! The vault port: where secrets lie. A reader names the version; only who sets up or rotates may write.

use std::error::Error as StdError;

use async_trait::async_trait;

use crate::keys::VersionId;
use crate::secret::Secret;

/// The label of the version that the pointer names. Secrets Manager may delete a version without any.
pub const IN_FORCE: &str = "IN_FORCE";

/// The two secrets of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretName {
    AccessKeys,
    SigningKeys,
}

/// A secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No such version can be read. To a reader holding an older pointer it says: read the pointer again.
    #[error("the secret version does not exist")]
    NoSuchVersion,
    /// The vault did not answer, or refused; the outcome of a write is unclear.
    #[error("the vault is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Reads secrets by version id, never by label.
#[async_trait]
pub trait Vault: Send + Sync {
    /// The secret's value at exactly this version.
    ///
    /// # Errors
    /// [`VaultError`]: no such version, or unavailable.
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, VaultError>;
}

/// Writes secrets, for who sets a resource up.
#[async_trait]
pub trait VaultWriter: Vault {
    /// The version labelled current, if the secret has one.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`].
    async fn current(&self, secret: SecretName) -> Result<Option<VersionId>, VaultError>;

    /// Stores a value as the version `version` and labels it current.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`].
    async fn put_current(
        &self,
        secret: SecretName,
        version: &VersionId,
        value: &Secret,
    ) -> Result<(), VaultError>;

    /// Moves the label of the version in force ([`IN_FORCE`]) to `version`, so that no labels of others
    /// moving on can have the vault delete the version the pointer names.
    ///
    /// # Errors
    /// [`VaultError`].
    async fn hold(&self, secret: SecretName, version: &VersionId) -> Result<(), VaultError>;
}

impl SecretName {
    /// The secret's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessKeys => "access-keys",
            Self::SigningKeys => "signing-keys",
        }
    }
}
