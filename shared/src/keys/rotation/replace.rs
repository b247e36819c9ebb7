//! An operator's replacement of keys.

use super::publish::Promoted;
use super::steps::{Candidate, KeySource};
use super::{Cause, Change, OrphanedPending, RotationError, Rotator, Trigger};
use crate::keys::AccessSlot;
use crate::keys::pointer::Pointer;

/// Limit for making the signing keys of a regeneration again while other replacements overtake them.
const FINISH_ATTEMPTS: usize = 8;

impl Rotator<'_> {
    /// Replaces keys now, always with new ones. When it returns, the old keys are refused.
    ///
    /// # Errors
    /// [`RotationError::Conflict`] means that this call has changed no key: another replacement came first. After the
    /// other errors the effect is unclear, and a repetition is safe.
    pub async fn run(&self, change: Change) -> Result<Pointer, RotationError> {
        let cause = Cause { operation: change.as_str(), trigger: Trigger::Operator };
        let outcome = match change {
            Change::RotateSigningKeys => self.rotate(cause).await,
            Change::RegenerateAccessKey(slot) => self.regenerate(cause, slot).await,
        };
        self.note(cause, "done", outcome.as_ref());
        outcome
    }

    async fn rotate(&self, cause: Cause) -> Result<Pointer, RotationError> {
        let base = self.synchronize(cause, OrphanedPending::Keep).await?;
        let candidate = self.prepare_signing_keys(cause, KeySource::Fresh, &base).await?;
        self.abandon_on_error(&candidate, self.promote(cause, &candidate).await).await?;
        let promoted = Promoted { access_keys: base.access_keys_sequence, signing_keys: candidate.sequence };
        self.publish_promoted(cause, OrphanedPending::Keep, promoted).await
    }

    /// The promotion of the access keys decides. Before it, no key has changed, so a replacement that came first is a
    /// conflict. After it, the signing keys follow: if another replacement has overtaken them, they are made again from
    /// the keys of that replacement.
    async fn regenerate(&self, cause: Cause, slot: AccessSlot) -> Result<Pointer, RotationError> {
        let source = KeySource::FreshSlot(slot);
        let base = self.synchronize(cause, OrphanedPending::Keep).await?;
        let access_keys = self.prepare_access_keys(cause, slot, &base).await?;
        let signing_keys = unless_overtaken(self.prepare_signing_keys(cause, source, &base).await);
        let signing_keys = self.abandon_on_error(&access_keys, signing_keys).await?;
        if let Err(error) = self.promote(cause, &access_keys).await {
            self.abandon(&access_keys).await;
            if let Some(signing_keys) = &signing_keys {
                self.abandon(signing_keys).await;
            }
            return Err(error);
        }
        let promoted = Promoted {
            access_keys: access_keys.sequence,
            signing_keys: self.finish_signing_keys(cause, source, signing_keys).await?,
        };
        self.publish_promoted(cause, OrphanedPending::Keep, promoted).await
    }

    /// Makes signing keys current, and makes them again while other replacements overtake them. Returns their sequence
    /// number.
    async fn finish_signing_keys(
        &self,
        cause: Cause,
        source: KeySource,
        mut candidate: Option<Candidate>,
    ) -> Result<u64, RotationError> {
        for _ in 0..FINISH_ATTEMPTS {
            if let Some(candidate) = &candidate {
                match self.abandon_on_error(candidate, self.promote(cause, candidate).await).await {
                    Ok(()) => return Ok(candidate.sequence),
                    Err(RotationError::Conflict | RotationError::Unclear(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let base = self.synchronize(cause, OrphanedPending::Keep).await?;
            candidate = unless_overtaken(self.prepare_signing_keys(cause, source, &base).await)?;
        }
        Err(RotationError::Unclear("other replacements kept overtaking the signing keys"))
    }
}

/// `None` if another replacement has overtaken this step.
fn unless_overtaken<T>(outcome: Result<T, RotationError>) -> Result<Option<T>, RotationError> {
    match outcome {
        Ok(done) => Ok(Some(done)),
        Err(RotationError::Conflict) => Ok(None),
        Err(error) => Err(error),
    }
}
