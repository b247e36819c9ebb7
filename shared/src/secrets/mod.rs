//! The secret store port. A reader names the version. Only the set-up and the replacement of keys write.

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

/// The [staging labels](https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html) of the
/// versions of a secret. Each label is on at most one version. A version without a label may be deleted at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StagingLabel {
    /// `AWSCURRENT`: the newest version that passed its test.
    Current,
    /// `IN_FORCE`: the version that the pointer names. Only this service uses the label, and moves it only after the
    /// pointer.
    InForce,
    /// `AWSPENDING`: a version being made.
    Pending,
    /// `AWSPREVIOUS`: the secret store puts it on the former current version.
    Previous,
}

/// The holder of each label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagingLabels(HashMap<StagingLabel, VersionId>);

/// The outcome of storing a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The version has another value already. That value stays.
    AlreadyThere,
    Stored,
}

/// The outcome of moving a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// The label is on the requested version.
    Moved,
    /// The label was not on the named version, or the new holder does not exist. No label moved.
    Stale,
}

/// A secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretStoreError {
    /// No such version can be read. A reader with an older pointer reads the pointer again.
    #[error("the secret version does not exist")]
    NoSuchVersion,
    /// The secret store did not answer, or refused. The outcome of a write is unclear.
    #[error("the secret store is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Reads secrets by version id, never by label.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The value of exactly this version.
    ///
    /// # Errors
    /// [`SecretStoreError`]: no such version, or unavailable.
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, SecretStoreError>;
}

/// Writes secrets and moves labels, for the set-up of a resource and the replacement of its keys.
#[async_trait]
pub trait SecretStoreWriter: SecretStore {
    /// The holder of each label now.
    ///
    /// # Errors
    /// [`SecretStoreError::Unavailable`].
    async fn labels(&self, secret: SecretName) -> Result<StagingLabels, SecretStoreError>;

    /// Stores a value as a new version with one label. A version is written once: a second value for it changes
    /// nothing.
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

    /// Moves a label from its holder (`None` if no version holds it) to another version (`None` to take it off). This is
    /// a compare-and-swap: if the holder is another version by then, the label does not move.
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
    /// The labels as the secret store lists them: each version with the names of its labels. Other names than those of
    /// [`StagingLabel`] are ignored.
    #[must_use]
    pub fn from_versions<S: BuildHasher>(versions: &HashMap<String, Vec<String>, S>) -> Self {
        let holder = |label: StagingLabel| {
            let found = versions.iter().find(|(_, names)| names.iter().any(|name| name == label.as_str()));
            found.map(|(version, _)| (label, VersionId::new(version.clone())))
        };
        Self(StagingLabel::ALL.into_iter().filter_map(holder).collect())
    }

    /// The holder of a label.
    #[must_use]
    pub fn version_with(&self, label: StagingLabel) -> Option<&VersionId> {
        self.0.get(&label)
    }

    /// Whether a version holds a label.
    #[must_use]
    pub fn is_on(&self, label: StagingLabel, version: &VersionId) -> bool {
        self.version_with(label) == Some(version)
    }
}
