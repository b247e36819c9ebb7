//! Publishing the pointer, and cleaning the labels after it.

use super::{Cause, RotationError, Rotator};
use crate::keys::KeyMaterialError;
use crate::keys::access::AccessKeys;
use crate::keys::cache::KeyLoadError;
use crate::keys::pointer::{Pointer, Published};
use crate::keys::signing::SigningKeys;
use crate::secrets::{MoveOutcome, SecretName, SecretStoreError, StagingLabel, StagingLabels};
use crate::store::{PointerWriteOutcome, StoreError};

/// The pointer, and the labels that were read after it and before anything was moved.
struct Observation {
    pointer: Pointer,
    access_keys: StagingLabels,
    signing_keys: StagingLabels,
}

/// What is done with a version that somebody else left pending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::keys) enum OrphanedPending {
    Keep,
    Remove,
}

/// How often labels are settled again when others move them.
const SYNCHRONIZE_ATTEMPTS: usize = 8;

/// How often a flip looks again when the pointer or the current versions move under it.
const PUBLISH_ATTEMPTS: usize = 8;

impl Rotator<'_> {
    /// `flip`, then `settle` by the labels that the flip has seen; both again if others moved meanwhile.
    pub(in crate::keys) async fn synchronize(
        &self,
        cause: Cause,
        orphans: OrphanedPending,
    ) -> Result<Pointer, RotationError> {
        let mut last = RotationError::Conflict;
        for _ in 0..SYNCHRONIZE_ATTEMPTS {
            let observed = self.noted(cause, "publish", self.publish().await)?;
            match self.noted(cause, "clean_labels", self.clean_labels(&observed, orphans).await) {
                Ok(MoveOutcome::Moved) => return Ok(observed.pointer),
                Ok(MoveOutcome::Stale) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Has the pointer name the current version of each secret. A lost answer is recognised by reading
    /// again: then the pointer names them already. The pointer only ever moves to a document with a higher
    /// sequence number: labels that are shown late could otherwise lead it back to dead keys.
    async fn publish(&self) -> Result<Observation, RotationError> {
        let mut last = RotationError::Conflict;
        for _ in 0..PUBLISH_ATTEMPTS {
            let pointer = self.ports.pointers.pointer().await?.ok_or(StoreError::NotSetUp)?;
            let access_keys = self.ports.secret_store.labels(SecretName::AccessKeys).await?;
            let signing_keys = self.ports.secret_store.labels(SecretName::SigningKeys).await?;
            let next = match self.next(&pointer, &access_keys, &signing_keys).await {
                Ok(next) => next,
                // Replaced since it was read as current.
                Err(RotationError::Key(KeyLoadError::SecretStore(SecretStoreError::NoSuchVersion))) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(next) = next else { return Ok(Observation { pointer, access_keys, signing_keys }) };
            match self.ports.pointers.write_pointer(&next).await {
                Ok(PointerWriteOutcome::Changed) => {
                    return Ok(Observation { pointer: next, access_keys, signing_keys });
                }
                Ok(PointerWriteOutcome::Conflict) => {}
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    /// The pointer that names the current versions; nothing if this one does.
    async fn next(
        &self,
        pointer: &Pointer,
        access_keys: &StagingLabels,
        signing_keys: &StagingLabels,
    ) -> Result<Option<Pointer>, RotationError> {
        const LATE: KeyMaterialError =
            KeyMaterialError("the labels are not yet those of the last replacement");
        let secret_store = self.ports.secret_store;
        let access_keys =
            access_keys.version_with(StagingLabel::Current).ok_or(SecretStoreError::NoSuchVersion)?;
        let signing_keys =
            signing_keys.version_with(StagingLabel::Current).ok_or(SecretStoreError::NoSuchVersion)?;
        if pointer.access_keys == *access_keys && pointer.signing_keys == *signing_keys {
            return Ok(None);
        }
        let mut next = Pointer { generation: pointer.generation + 1, ..pointer.clone() };
        if pointer.access_keys != *access_keys {
            let keys = AccessKeys::parse(&secret_store.read(SecretName::AccessKeys, access_keys).await?)?;
            if keys.sequence() <= pointer.access_keys_sequence {
                return Err(LATE.into());
            }
            next.access_keys = access_keys.clone();
            next.access_keys_sequence = keys.sequence();
        }
        if pointer.signing_keys != *signing_keys {
            let keys = SigningKeys::parse(&secret_store.read(SecretName::SigningKeys, signing_keys).await?)?;
            if keys.sequence() <= pointer.signing_keys_sequence {
                return Err(LATE.into());
            }
            next.signing_keys = signing_keys.clone();
            next.signing_keys_sequence = keys.sequence();
            let now = self.clock.now().unix_timestamp();
            next.published = Published::after(&pointer.published, &keys, now)?;
        }
        Ok(Some(next))
    }

    /// Moves the labels after the pointer: `IN_FORCE` to what it names, `AWSPREVIOUS` off what it does not.
    /// By the labels the flip saw, never by newer ones: those may be after another replacement, and this
    /// pointer would take the labels off the versions then in force.
    async fn clean_labels(
        &self,
        observed: &Observation,
        orphans: OrphanedPending,
    ) -> Result<MoveOutcome, RotationError> {
        let Observation { pointer, access_keys, signing_keys } = observed;
        let mut outcome = MoveOutcome::Moved;
        for (secret, named, seen) in [
            (SecretName::AccessKeys, &pointer.access_keys, access_keys),
            (SecretName::SigningKeys, &pointer.signing_keys, signing_keys),
        ] {
            let holder = |label| seen.version_with(label).filter(|holder| *holder != named);
            let orphan = holder(StagingLabel::Pending).filter(|_| orphans == OrphanedPending::Remove);
            let mut moves = Vec::new();
            if !seen.is_on(StagingLabel::InForce, named) {
                moves.push((StagingLabel::InForce, holder(StagingLabel::InForce), Some(named)));
            }
            moves.extend(
                holder(StagingLabel::Previous).map(|holder| (StagingLabel::Previous, Some(holder), None)),
            );
            moves.extend(orphan.map(|holder| (StagingLabel::Pending, Some(holder), None)));
            for (label, from, to) in moves {
                if self.ports.secret_store.move_label(secret, label, from, to).await? == MoveOutcome::Stale {
                    outcome = MoveOutcome::Stale;
                }
            }
        }
        Ok(outcome)
    }
}
