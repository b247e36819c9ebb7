//! The four steps in which Secrets Manager drives a scheduled rotation.

use super::steps::Replacement;
use super::{Cause, Change, OrphanedPending, RotationError, Rotator, Trigger};
use crate::keys::pointer::Pointer;
use crate::secrets::{SecretName, SecretStoreError, StagingLabel, VersionId};
use crate::store::StoreError;

/// The cause of every scheduled step.
const SCHEDULED: Cause = Cause { operation: Change::RotateSigningKeys.as_str(), trigger: Trigger::Schedule };

/// The four steps in which Secrets Manager drives a scheduled rotation of the signing keys. Each may be
/// repeated with its version; the version decides, so a repetition never makes another key.
impl Rotator<'_> {
    /// `createSecret`: heals, then stores fresh keys under the version, unless it has some already. The first
    /// rotation of a new resource sets it up, and has done with that.
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
                    self.store(&Replacement::scheduled(base, version)).await
                }
                Err(error) => Err(error.into()),
            }
        };
        self.noted(SCHEDULED, "store", outcome.await)
    }

    /// `setSecret`: nothing outside the secret store has to learn of the keys yet.
    ///
    /// # Errors
    /// [`RotationError::NotPending`], or that it cannot be known.
    pub async fn set(&self, version: &VersionId) -> Result<(), RotationError> {
        self.stage(version).await.map(|_| ())
    }

    /// `testSecret`: proves the stored keys.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn try_out(&self, version: &VersionId) -> Result<(), RotationError> {
        let outcome = async {
            if self.stage(version).await? == Stage::Current {
                return Ok(());
            }
            let base = self.ports.pointers.pointer().await?.ok_or(StoreError::NotSetUp)?;
            self.test(&Replacement::scheduled(base, version)).await
        };
        self.noted(SCHEDULED, "test", outcome.await)
    }

    /// `finishSecret`: puts the keys in force. When it returns, every older token is dead.
    ///
    /// # Errors
    /// [`RotationError`].
    pub async fn finish(&self, version: &VersionId) -> Result<Pointer, RotationError> {
        let outcome = async {
            let base = self.synchronize(SCHEDULED, OrphanedPending::Keep).await?;
            let replacement = Replacement::scheduled(base, version);
            if self.stage(version).await? == Stage::Pending {
                self.noted(SCHEDULED, "promote", self.promote(&replacement).await)?;
            }
            // A version that an operator left pending would keep the schedule from ever beginning again.
            let pointer = self.synchronize(SCHEDULED, OrphanedPending::Remove).await?;
            if replacement.is_named_by(&pointer) { Ok(pointer) } else { Err(RotationError::Conflict) }
        };
        let outcome = outcome.await;
        self.note(SCHEDULED, "done", outcome.as_ref());
        outcome
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

/// How far a scheduled rotation's version has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Current,
    Pending,
}
