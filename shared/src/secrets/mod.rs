//! The secret store port: where secrets lie. A reader names the version; only who sets up or rotates may write.

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

/// The staging labels of a secret's versions. Each is on at most one version; a version without any may
/// be deleted at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StagingLabel {
    /// `AWSCURRENT`: the newest version that passed its test.
    Current,
    /// `IN_FORCE`: the version the pointer names; ours alone, moved only after the pointer.
    InForce,
    /// `AWSPENDING`: a version being made.
    Pending,
    /// `AWSPREVIOUS`: put on the former current version by the secret store itself.
    Previous,
}

/// Which version bears which label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagingLabels(HashMap<StagingLabel, VersionId>);

/// What storing a version met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The version has another value already, which stays.
    AlreadyThere,
    Stored,
}

/// What moving a label met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// The label is where it was to be.
    Moved,
    /// Another version bore the label than the one named: nothing moved.
    Stale,
}

/// A secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretStoreError {
    /// No such version can be read. To a reader holding an older pointer it says: read the pointer again.
    #[error("the secret version does not exist")]
    NoSuchVersion,
    /// The secret store did not answer, or refused; the outcome of a write is unclear.
    #[error("the secret store is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Reads secrets by version id, never by label.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The secret's value at exactly this version.
    ///
    /// # Errors
    /// [`SecretStoreError`]: no such version, or unavailable.
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, SecretStoreError>;
}

/// Writes secrets and moves labels, for who sets a resource up or replaces its keys.
#[async_trait]
pub trait SecretStoreWriter: SecretStore {
    /// Which version bears which label now.
    ///
    /// # Errors
    /// [`SecretStoreError::Unavailable`].
    async fn labels(&self, secret: SecretName) -> Result<StagingLabels, SecretStoreError>;

    /// Stores a value as a version of its own with one label. A version is written once: repeated with
    /// another value it stays as it is.
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

    /// Moves a label from the version that bears it (none, if nobody does) to another (none, to take it
    /// off). Compare and swap: if another version bears it by then, nothing moves.
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
    /// Both.
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
    /// The labels as the secret store lists them: each version with the names it bears. Names that are none of
    /// ours are passed over.
    #[must_use]
    pub fn from_versions<S: BuildHasher>(versions: &HashMap<String, Vec<String>, S>) -> Self {
        let holder = |label: StagingLabel| {
            let found = versions.iter().find(|(_, names)| names.iter().any(|name| name == label.as_str()));
            found.map(|(version, _)| (label, VersionId::new(version.clone())))
        };
        Self(StagingLabel::ALL.into_iter().filter_map(holder).collect())
    }

    /// The version that bears a label.
    #[must_use]
    pub fn version_with(&self, label: StagingLabel) -> Option<&VersionId> {
        self.0.get(&label)
    }

    /// Whether a version bears a label.
    #[must_use]
    pub fn is_on(&self, label: StagingLabel, version: &VersionId) -> bool {
        self.version_with(label) == Some(version)
    }
}
