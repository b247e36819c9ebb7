//! Publishing the pointer, and cleaning the staging labels after it.

use super::{Cause, RotationError, Rotator};
use crate::keys::access::AccessKeys;
use crate::keys::cache::KeyLoadError;
use crate::keys::pointer::{Pointer, Published};
use crate::keys::signing::SigningKeys;
use crate::secrets::{MoveOutcome, SecretName, SecretStoreError, StagingLabel, StagingLabels};
use crate::store::{PointerWriteOutcome, StoreError};

/// The pointer, and the labels that were read after it and before any label was moved.
struct Observation {
    pointer: Pointer,
    access_keys: StagingLabels,
    signing_keys: StagingLabels,
}

/// The treatment of a pending version that another replacement has left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::keys) enum OrphanedPending {
    Keep,
    Remove,
}

/// Sequence numbers of documents that were made current.
#[derive(Clone, Copy)]
pub(super) struct Promoted {
    pub(super) access_keys: u64,
    pub(super) signing_keys: u64,
}

/// Limit for publishing and cleaning again while other replacements move the labels.
const SYNCHRONIZE_ATTEMPTS: usize = 8;

/// Limit for reading again while the pointer or the current versions change.
const PUBLISH_ATTEMPTS: usize = 8;

const CONTENTION: RotationError = RotationError::Unclear("the pointer and the labels kept changing");
const LATE_LABELS: RotationError =
    RotationError::Unclear("the labels are not yet those of the last replacement");

impl Rotator<'_> {
    /// Publishes versions that were made current. A later replacement may have overtaken them. Then the pointer names
    /// its versions, which were made from these.
    ///
    /// # Errors
    /// [`RotationError::Unclear`] while the labels are reported late: the pointer would stay behind.
    pub(super) async fn publish_promoted(
        &self,
        cause: Cause,
        orphans: OrphanedPending,
        promoted: Promoted,
    ) -> Result<Pointer, RotationError> {
        for _ in 0..SYNCHRONIZE_ATTEMPTS {
            let pointer = self.synchronize(cause, orphans).await?;
            if promoted.is_published_by(&pointer) {
                return Ok(pointer);
            }
        }
        Err(LATE_LABELS)
    }

    /// `publish`, then `clean_labels` with the labels that `publish` has read. Both are repeated if another replacement
    /// has moved the labels since.
    pub(in crate::keys) async fn synchronize(
        &self,
        cause: Cause,
        orphans: OrphanedPending,
    ) -> Result<Pointer, RotationError> {
        let mut last = CONTENTION;
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

    /// Makes the pointer name the current version of each secret. After a lost answer, the next read shows whether the
    /// pointer names them already.
    async fn publish(&self) -> Result<Observation, RotationError> {
        let mut last = CONTENTION;
        for _ in 0..PUBLISH_ATTEMPTS {
            let pointer = self.ports.pointers.pointer().await?.ok_or(StoreError::NotSetUp)?;
            // A regeneration promotes its access keys first. Read in the opposite order, new signing keys come with the
            // new access keys. So they never sign for the holder of the former access key.
            let signing_keys = self.ports.secret_store.labels(SecretName::SigningKeys).await?;
            let access_keys = self.ports.secret_store.labels(SecretName::AccessKeys).await?;
            let next = match self.next(&pointer, &access_keys, &signing_keys).await {
                Ok(next) => next,
                // Another replacement has replaced the version since the labels were read.
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

    /// The pointer that names the current versions, or `None` if `pointer` names them already. The sequence numbers
    /// only go up. Otherwise labels that are reported late could bring revoked keys back.
    async fn next(
        &self,
        pointer: &Pointer,
        access_keys: &StagingLabels,
        signing_keys: &StagingLabels,
    ) -> Result<Option<Pointer>, RotationError> {
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
                return Err(LATE_LABELS);
            }
            next.access_keys = access_keys.clone();
            next.access_keys_sequence = keys.sequence();
        }
        if pointer.signing_keys != *signing_keys {
            let keys = SigningKeys::parse(&secret_store.read(SecretName::SigningKeys, signing_keys).await?)?;
            if keys.sequence() <= pointer.signing_keys_sequence {
                return Err(LATE_LABELS);
            }
            next.signing_keys = signing_keys.clone();
            next.signing_keys_sequence = keys.sequence();
            let now = self.clock.now().unix_timestamp();
            next.published = Published::after(&pointer.published, &keys, now)?;
        }
        Ok(Some(next))
    }

    /// Moves the labels after the pointer: `IN_FORCE` to the version that it names, `AWSPREVIOUS` off any other.
    ///
    /// Uses the labels that `publish` has read, never later ones. Later labels may belong to another replacement, and
    /// this pointer would take the labels off the versions that are in force by then.
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

impl Promoted {
    fn is_published_by(self, pointer: &Pointer) -> bool {
        pointer.access_keys_sequence >= self.access_keys && pointer.signing_keys_sequence >= self.signing_keys
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::keys::rotation::fake::{Overtaken, Parts};
    use crate::keys::rotation::{KeyPorts, Trigger};
    use crate::secrets::SecretStoreWriter as _;
    use crate::store::PointerWriter as _;

    #[tokio::test]
    async fn labels_that_another_replacement_has_moved_are_cleaned_again() {
        let store = Overtaken { stale_moves: 20.into(), ..Overtaken::default() };
        let parts = Parts::new();
        let rotator = parts.rotator();
        let rotator = Rotator { ports: KeyPorts { secret_store: &store, ..rotator.ports }, ..rotator };
        let contention = rotator.set_up().await.unwrap_err();
        assert!(matches!(contention, RotationError::Unclear(_)), "{contention}");
        store.stale_moves.store(1, Ordering::SeqCst);
        let cause = Cause { operation: "set_up", trigger: Trigger::Deployment };
        let pointer = rotator.synchronize(cause, OrphanedPending::Keep).await.unwrap();
        assert_eq!(parts.memory.pointer().await.unwrap(), Some(pointer.clone()));
        for (secret, version) in
            [(SecretName::AccessKeys, &pointer.access_keys), (SecretName::SigningKeys, &pointer.signing_keys)]
        {
            assert!(store.labels(secret).await.unwrap().is_on(StagingLabel::InForce, version));
        }
    }

    #[tokio::test]
    async fn a_pointer_with_lower_sequence_numbers_does_not_publish_new_keys() {
        let parts = Parts::new();
        let pointer = parts.rotator().set_up().await.unwrap();
        assert_eq!((pointer.access_keys_sequence, pointer.signing_keys_sequence), (1, 1));
        for (access_keys, signing_keys, is_published) in [(1, 1, true), (2, 1, false), (1, 2, false)] {
            let promoted = Promoted { access_keys, signing_keys };
            assert_eq!(promoted.is_published_by(&pointer), is_published);
        }
    }
}
