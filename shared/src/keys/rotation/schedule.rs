//! The four steps in which Secrets Manager drives a scheduled rotation of the signing keys. Each step may be repeated
//! with its version. The version decides, so a repetition never makes other keys.

use std::time::Duration;

use super::publish::Promoted;
use super::steps::{Candidate, KeySource, overtaken};
use super::{Cause, Change, OrphanedPending, RotationError, Rotator, Trigger};
use crate::keys::pointer::Pointer;
use crate::keys::signing::SigningKeys;
use crate::secrets::{SecretName, SecretStoreError, StagingLabel, VersionId};
use crate::store::StoreError;

/// The cause of every scheduled step.
const SCHEDULED: Cause = Cause { operation: Change::RotateSigningKeys.as_str(), trigger: Trigger::Schedule };

/// Attempts to read a value that may not be visible yet, and the pause between two attempts.
const VALUE_ATTEMPTS: u32 = 3;
const VALUE_PAUSE: Duration = Duration::from_millis(500);

/// The progress of a scheduled rotation's version.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Current,
    Pending,
}

impl Rotator<'_> {
    /// `createSecret`: repairs the pointer, then stores the standby keys and new standby keys under the version, unless the
    /// version has a value. The first rotation of a new resource makes its first keys instead.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn create(&self, version: &VersionId) -> Result<(), RotationError> {
        let outcome = async {
            if self.ports.pointers.pointer().await?.is_none() {
                self.set_up().await?;
            }
            if self.stage(version).await? == Stage::Current {
                return Ok(());
            }
            let base = self.synchronize(SCHEDULED, OrphanedPending::Keep).await?;
            match self.ports.secret_store.read(SecretName::SigningKeys, version).await {
                Ok(_) => Ok(()),
                // The secret store announces the version before it has a value.
                Err(SecretStoreError::NoSuchVersion) => {
                    let candidate = Candidate::signing_keys(&base, version.clone());
                    self.store_signing_keys(KeySource::Standby, &candidate).await
                }
                Err(error) => Err(error.into()),
            }
        };
        self.noted(SCHEDULED, "store", outcome.await)
    }

    /// `setSecret`: has no effect, because no service outside the secret store holds the keys yet.
    ///
    /// # Errors
    /// [`RotationError::NotPending`], or a failed read.
    pub async fn set(&self, version: &VersionId) -> Result<(), RotationError> {
        self.stage(version).await.map(|_| ())
    }

    /// `testSecret`: proves the stored keys. A change of the schedule without an immediate rotation sends this step alone,
    /// with a pending version that has no value. Then there is nothing to test, also in a resource without keys.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn try_out(&self, version: &VersionId) -> Result<(), RotationError> {
        let outcome = async {
            if self.stage(version).await? == Stage::Current || !self.has_value(version).await? {
                return Ok(());
            }
            let base = self.ports.pointers.pointer().await?.ok_or(StoreError::NotSetUp)?;
            let candidate = Candidate::signing_keys(&base, version.clone());
            self.test_signing_keys(KeySource::Standby, &base, &candidate).await
        };
        self.noted(SCHEDULED, "test", outcome.await)
    }

    /// Whether a version has a value. A value that was stored just before may not be visible yet, so a missing one is read
    /// again.
    async fn has_value(&self, version: &VersionId) -> Result<bool, RotationError> {
        for attempt in 1..=VALUE_ATTEMPTS {
            match self.ports.secret_store.read(SecretName::SigningKeys, version).await {
                Ok(_) => return Ok(true),
                Err(SecretStoreError::NoSuchVersion) if attempt < VALUE_ATTEMPTS => {
                    self.clock.sleep(VALUE_PAUSE).await;
                }
                Err(SecretStoreError::NoSuchVersion) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// `finishSecret`: puts the keys in force. When it returns, every older token is revoked.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn finish(&self, version: &VersionId) -> Result<Pointer, RotationError> {
        let outcome = self.put_in_force(version).await;
        self.note(SCHEDULED, "done", outcome.as_ref());
        outcome
    }

    async fn put_in_force(&self, version: &VersionId) -> Result<Pointer, RotationError> {
        let base = self.synchronize(SCHEDULED, OrphanedPending::Keep).await?;
        let stage = self.stage(version).await?;
        let document = self.ports.secret_store.read(SecretName::SigningKeys, version).await;
        let keys = SigningKeys::parse(&document.map_err(overtaken)?)?;
        if stage == Stage::Pending {
            let candidate = Candidate::signing_keys(&base, version.clone());
            let promoted = if keys.sequence() == candidate.sequence {
                self.promote(SCHEDULED, &candidate).await
            } else {
                // An operator's replacement came after the keys were made. Their sequence number is used.
                Err(RotationError::NotPending)
            };
            if let Err(error @ (RotationError::Conflict | RotationError::NotPending)) = promoted {
                // Secrets Manager starts no other rotation while this version is pending.
                self.abandon(&candidate).await;
                return Err(error);
            }
            promoted?;
        }
        let promoted = Promoted { access_keys: base.access_keys_sequence, signing_keys: keys.sequence() };
        // A pending version that an operator left would keep the schedule from starting again.
        self.publish_promoted(SCHEDULED, OrphanedPending::Remove, promoted).await
    }

    async fn stage(&self, version: &VersionId) -> Result<Stage, RotationError> {
        let labels = self.ports.secret_store.labels(SecretName::SigningKeys).await?;
        if labels.is_on(StagingLabel::Current, version) {
            Ok(Stage::Current)
        } else if labels.is_on(StagingLabel::Pending, version) {
            Ok(Stage::Pending)
        } else {
            Err(RotationError::NotPending)
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::keys::rotation::fake::Parts;

    #[tokio::test]
    async fn every_step_refuses_a_version_that_is_not_pending() {
        let parts = Parts::new();
        let rotator = parts.rotator();
        rotator.set_up().await.unwrap();
        let version = VersionId::new("11111111-2222-4333-8444-000000000000".to_owned());
        for refused in [
            rotator.create(&version).await,
            rotator.set(&version).await,
            rotator.try_out(&version).await,
            rotator.finish(&version).await.map(|_| ()),
        ] {
            assert!(matches!(refused, Err(RotationError::NotPending)), "{refused:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_value_is_read_three_times() {
        let parts = Parts::new();
        let rotator = parts.rotator();
        let pointer = rotator.set_up().await.unwrap();
        let start = Instant::now();
        assert!(rotator.has_value(&pointer.signing_keys).await.unwrap());
        assert_eq!(start.elapsed(), Duration::ZERO);
        let version = VersionId::new("11111111-2222-4333-8444-000000000000".to_owned());
        assert!(!rotator.has_value(&version).await.unwrap());
        assert_eq!(start.elapsed(), 2 * VALUE_PAUSE);
    }
}
