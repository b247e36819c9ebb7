//! An operator's replacement of keys.

use super::steps::Replacement;
use super::{Cause, Change, OrphanedPending, RotationError, Rotator, Trigger};
use crate::keys::pointer::Pointer;

impl Rotator<'_> {
    /// Replaces keys now, with fresh ones whatever went before. When it returns, the old keys are dead.
    ///
    /// # Errors
    /// [`RotationError`]. After [`RotationError::Conflict`] somebody else's keys are in force; after the
    /// others it is unclear whose. Repeating settles it.
    pub async fn run(&self, change: Change) -> Result<Pointer, RotationError> {
        let cause = Cause { operation: change.as_str(), trigger: Trigger::Operator };
        let outcome = self.replace(cause, change).await;
        self.note(cause, "done", outcome.as_ref());
        outcome
    }

    async fn replace(&self, cause: Cause, change: Change) -> Result<Pointer, RotationError> {
        let base = self.synchronize(cause, OrphanedPending::Keep).await?;
        let replacement = self.noted(cause, "store", self.store_fresh(change, base).await)?;
        let outcome = self.put_in_force(cause, &replacement).await;
        if outcome.is_err() {
            // Only what never became current: the rest is settled by whoever comes next.
            self.abandon(&replacement).await;
        }
        outcome
    }

    async fn put_in_force(&self, cause: Cause, replacement: &Replacement) -> Result<Pointer, RotationError> {
        self.noted(cause, "test", self.test(replacement).await)?;
        self.noted(cause, "promote", self.promote(replacement).await)?;
        let pointer = self.synchronize(cause, OrphanedPending::Keep).await?;
        if replacement.is_named_by(&pointer) { Ok(pointer) } else { Err(RotationError::Conflict) }
    }
}
