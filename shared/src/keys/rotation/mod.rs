//! Replacing keys: rotation of the signing keys, regeneration of an access key.
//!
//! Decision record 0008 gives the protocol and its reasons. `tests/models` searches a model of each step. The steps,
//! in order:
//!
//! | step | effect |
//! |---|---|
//! | `publish` | repairs a pointer that lags behind the current versions; otherwise has no effect |
//! | `clean_labels` | moves the staging labels after the pointer, so that exactly the versions in force are kept |
//! | `store` | writes the new versions as pending versions; the pointer does not name them |
//! | `test` | reads the new versions back and proves the keys |
//! | `promote` | makes a new version current, if the version that it was made from still is |
//! | `publish` | makes the pointer name the new versions: the old keys are refused at once, everywhere |
//! | `clean_labels` | takes the last labels off the old versions |
//!
//! A regeneration promotes the access keys first and the signing keys second. The first promotion decides whether the
//! replacement happens. If another replacement overtakes the signing keys, they are made again.
//!
//! Each `clean_labels` uses the labels that its `publish` has read. If another replacement has moved them since, both
//! steps are repeated. After a crash at any point the pointer names keys that can be read, and the next replacement
//! repairs the rest.

mod event;
#[cfg(test)]
pub(in crate::keys) mod fake;
mod publish;
mod replace;
mod schedule;
mod steps;

use super::cache::KeyLoadError;
use super::signing::SigningKey;
use super::{AccessSlot, KeyMaterialError};
use crate::audit::Audit;
use crate::runtime::{Clock, Random};
use crate::secrets::{SecretStoreError, SecretStoreWriter};
use crate::store::{PointerWriter, StoreError};

pub(in crate::keys) use event::Cause;
pub use event::Trigger;
pub(in crate::keys) use publish::OrphanedPending;
pub(in crate::keys) use steps::overtaken;

/// The keys to replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new signing key in every slot. Every token is revoked.
    RotateSigningKeys,
    /// A new access key and the signing key of its slot. The tokens that were requested with the old access key are
    /// revoked.
    RegenerateAccessKey(AccessSlot),
}

/// Keys were not replaced, or the effect is unclear. A repetition is always safe, and it makes new keys.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Another replacement came first. No version of this one is or was current.
    #[error("another replacement came first; this one changed no key")]
    Conflict,
    /// A step of a scheduled rotation for a version that another replacement has overtaken.
    #[error("the version is not pending: another replacement has overtaken it")]
    NotPending,
    /// Other replacements overtook this one, or Secrets Manager reported its labels late.
    #[error("the effect is unclear ({0}); repeat the call")]
    Unclear(&'static str),
    #[error(transparent)]
    Key(#[from] KeyLoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SecretStoreError> for RotationError {
    fn from(error: SecretStoreError) -> Self {
        Self::Key(error.into())
    }
}

impl From<KeyMaterialError> for RotationError {
    fn from(fault: KeyMaterialError) -> Self {
        Self::Key(fault.into())
    }
}

/// The ports through which keys are replaced.
#[derive(Clone, Copy)]
pub struct KeyPorts<'a> {
    pub pointers: &'a dyn PointerWriter,
    pub secret_store: &'a dyn SecretStoreWriter,
}

/// Replaces keys, and sets them up.
#[derive(Clone, Copy)]
pub struct Rotator<'a> {
    pub ports: KeyPorts<'a>,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Random,
    /// Makes one signing key of the deployment's algorithm.
    pub generate: &'a (dyn Fn() -> Result<SigningKey, KeyMaterialError> + Sync),
    pub audit: &'a dyn Audit,
}

impl Change {
    /// The change's name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RotateSigningKeys => "rotate_signing_keys",
            Self::RegenerateAccessKey(AccessSlot::Primary) => "regenerate_primary",
            Self::RegenerateAccessKey(AccessSlot::Secondary) => "regenerate_secondary",
        }
    }
}
