//! The secret store port. A reader names the version of a secret. Only the set-up and the replacement of keys write.

#[cfg(any(test, feature = "testing"))]
pub mod contract;
mod secret;
mod version_id;

pub use secret::Secret;
pub use version_id::VersionId;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::hash::BuildHasher;

use async_trait::async_trait;

/// The two secrets of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretName {
    AccessKeys,
    SigningKeys,
}

/// A staging label of a secret. It is on at most one version. The secret store may delete a version without a label at
/// any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StagingLabel {
    /// `AWSCURRENT`: the newest version that passed its test.
    Current,
    /// `IN_FORCE`: the version that the pointer names. AWS does not use this label. It moves only after the pointer is
    /// published.
    InForce,
    /// `AWSPENDING`: the version that a replacement of keys is preparing.
    Pending,
    /// `AWSPREVIOUS`: the former current version. The secret store itself attaches this label.
    Previous,
}

/// The holder of each staging label of a secret: the version that has the label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagingLabels(HashMap<StagingLabel, VersionId>);

/// The outcome of storing a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The version already has another value, which is unchanged.
    AlreadyThere,
    /// The version has the value.
    Stored,
}

/// The outcome of moving a staging label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// The label is on the target version, or is removed if no target was given.
    Moved,
    /// The named version is not the holder, or the target does not exist. The label is unchanged.
    Stale,
}

/// A secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretStoreError {
    /// The version cannot be read. A reader whose pointer may be out of date reads the pointer again.
    #[error("the secret version does not exist")]
    NoSuchVersion,
    /// The secret store did not answer, or refused the call. The outcome of a write is unclear.
    #[error("the secret store is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Reads secrets by version id, never by label.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The value of exactly this version of the secret.
    ///
    /// # Errors
    /// [`SecretStoreError::NoSuchVersion`] or [`SecretStoreError::Unavailable`].
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, SecretStoreError>;
}

/// Writes secrets and moves staging labels, for the set-up of a resource and the replacement of its keys.
#[async_trait]
pub trait SecretStoreWriter: SecretStore {
    /// The current holder of each staging label.
    ///
    /// # Errors
    /// [`SecretStoreError::Unavailable`].
    async fn labels(&self, secret: SecretName) -> Result<StagingLabels, SecretStoreError>;

    /// Stores a value as a new version with one staging label. A version is written once: a repeat with the same value
    /// succeeds, and a repeat with another value changes nothing.
    ///
    /// # Errors
    /// [`SecretStoreError::Unavailable`].
    async fn store(
        &self,
        secret: SecretName,
        version: &VersionId,
        value: &Secret,
        label: StagingLabel,
    ) -> Result<PutOutcome, SecretStoreError>;

    /// Moves a staging label from its holder `from` to the version `to`. Without `from`, the label must have no holder.
    /// Without `to`, the label is removed. The move is a compare and swap: if `from` is not the holder, the label stays
    /// where it is. The move also succeeds if the label is on `to` already.
    ///
    /// # Errors
    /// [`SecretStoreError::Unavailable`].
    async fn move_label(
        &self,
        secret: SecretName,
        label: StagingLabel,
        from: Option<&VersionId>,
        to: Option<&VersionId>,
    ) -> Result<MoveOutcome, SecretStoreError>;
}

impl SecretName {
    /// Both secrets.
    pub const ALL: [Self; 2] = [Self::AccessKeys, Self::SigningKeys];

    /// The secret's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessKeys => "access-keys",
            Self::SigningKeys => "signing-keys",
        }
    }
}

impl StagingLabel {
    const ALL: [Self; 4] = [Self::Current, Self::InForce, Self::Pending, Self::Previous];

    /// The label's name in Secrets Manager.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::InForce => "IN_FORCE",
            Self::Pending => "AWSPENDING",
            Self::Previous => "AWSPREVIOUS",
        }
    }
}

impl StagingLabels {
    /// Reads the secret store's list: each version id with the names of its labels. Other labels than those of
    /// [`StagingLabel`] are ignored.
    #[must_use]
    pub fn from_versions<S: BuildHasher>(versions: &HashMap<String, Vec<String>, S>) -> Self {
        let holder = |label: StagingLabel| {
            let found = versions.iter().find(|(_, names)| names.iter().any(|name| name == label.as_str()));
            found.map(|(version, _)| (label, VersionId::new(version.clone())))
        };
        Self(StagingLabel::ALL.into_iter().filter_map(holder).collect())
    }

    /// The holder of a staging label.
    #[must_use]
    pub fn version_with(&self, label: StagingLabel) -> Option<&VersionId> {
        self.0.get(&label)
    }

    /// Whether `version` is the holder of `label`.
    #[must_use]
    pub fn is_on(&self, label: StagingLabel, version: &VersionId) -> bool {
        self.version_with(label) == Some(version)
    }
}
