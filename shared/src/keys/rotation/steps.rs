//! The steps that operators' and scheduled replacements share: store, test, promote, abandon.

use super::{Cause, RotationError, Rotator};
use crate::keys::access::AccessKeys;
use crate::keys::cache::KeyLoadError;
use crate::keys::pointer::{Pointer, Published, PublishedKeys};
use crate::keys::signing::SigningKeys;
use crate::keys::{AccessSlot, KeyId, KeyMaterialError, Slot};
use crate::secrets::{MoveOutcome, SecretName, SecretStoreError, StagingLabel, VersionId};
use crate::store::StoreError;

/// A new version of a secret that is to become current.
pub(super) struct Candidate {
    secret: SecretName,
    /// The version that it was made from, and that it replaces.
    base: VersionId,
    version: VersionId,
    /// The sequence number of its document: one more than the number of the base.
    pub(super) sequence: u64,
}

/// The origin of the signing keys of a new version.
#[derive(Clone, Copy)]
pub(super) enum KeySource {
    /// New keys and new standby keys in every slot, because the former ones may be known.
    Fresh,
    /// A new key and a new standby key in one slot.
    FreshSlot(AccessSlot),
    /// The standby keys, which verifiers know already.
    Standby,
}

impl Rotator<'_> {
    /// Stores and tests a new access key for `slot`.
    ///
    /// # Errors
    /// [`RotationError::Conflict`] when another replacement has displaced or overtaken the new version.
    pub(super) async fn prepare_access_keys(
        &self,
        cause: Cause,
        slot: AccessSlot,
        base: &Pointer,
    ) -> Result<Candidate, RotationError> {
        let candidate = Candidate::access_keys(base, VersionId::random(self.random));
        self.noted(cause, "store", self.store_access_keys(slot, &candidate).await)?;
        let tested = self.noted(cause, "test", self.test_access_keys(&candidate).await);
        self.abandon_on_error(&candidate, tested).await?;
        Ok(candidate)
    }

    /// Stores and tests new signing keys.
    ///
    /// # Errors
    /// [`RotationError::Conflict`] when another replacement has displaced or overtaken the new version.
    pub(super) async fn prepare_signing_keys(
        &self,
        cause: Cause,
        source: KeySource,
        base: &Pointer,
    ) -> Result<Candidate, RotationError> {
        let candidate = Candidate::signing_keys(base, VersionId::random(self.random));
        self.noted(cause, "store", self.store_signing_keys(source, &candidate).await)?;
        let tested = self.noted(cause, "test", self.test_signing_keys(source, base, &candidate).await);
        self.abandon_on_error(&candidate, tested).await?;
        Ok(candidate)
    }

    async fn store_access_keys(&self, slot: AccessSlot, candidate: &Candidate) -> Result<(), RotationError> {
        let base = self.ports.secret_store.read(candidate.secret, &candidate.base).await;
        let keys = AccessKeys::parse(&base.map_err(overtaken)?)?;
        let document = keys.regenerated(slot, self.random).to_document();
        let Candidate { secret, version, .. } = candidate;
        self.ports.secret_store.store(*secret, version, &document, StagingLabel::Pending).await?;
        Ok(())
    }

    pub(super) async fn store_signing_keys(
        &self,
        source: KeySource,
        candidate: &Candidate,
    ) -> Result<(), RotationError> {
        let Candidate { secret, base, version, sequence } = candidate;
        let former = async || {
            let document = self.ports.secret_store.read(*secret, base).await;
            Ok::<_, RotationError>(SigningKeys::parse(&document.map_err(overtaken)?)?)
        };
        let keys = match source {
            KeySource::Fresh => {
                SigningKeys::generate(*sequence, self.generate)?.with_standby(self.generate)?
            }
            KeySource::FreshSlot(slot) => former().await?.regenerated(slot.into(), self.generate)?,
            KeySource::Standby => former().await?.rotated(self.generate)?,
        };
        self.ports.secret_store.store(*secret, version, &keys.to_document(), StagingLabel::Pending).await?;
        Ok(())
    }

    async fn test_access_keys(&self, candidate: &Candidate) -> Result<(), RotationError> {
        let document = self.ports.secret_store.read(candidate.secret, &candidate.version).await;
        AccessKeys::parse(&document.map_err(overtaken)?)?;
        Ok(())
    }

    /// Reads the stored keys back. They parse, each key signs a text that its public half verifies, and each is the key
    /// that its source promises.
    pub(super) async fn test_signing_keys(
        &self,
        source: KeySource,
        base: &Pointer,
        candidate: &Candidate,
    ) -> Result<(), RotationError> {
        let document = self.ports.secret_store.read(candidate.secret, &candidate.version).await;
        let keys = SigningKeys::parse(&document.map_err(overtaken)?)?;
        if keys.sequence() != candidate.sequence {
            return Err(RotationError::Conflict);
        }
        let former = PublishedKeys::parse(&base.published)?;
        let new = PublishedKeys::parse(&Published::of(&keys, 0)?)?;
        for slot in Slot::ALL {
            if !source.agrees(slot, keys.of(slot).id(), &new, &former) {
                return Err(
                    KeyMaterialError("a stored signing key is not the one that was to be stored").into()
                );
            }
        }
        Ok(())
    }

    /// Makes the new version current, if its base still is.
    ///
    /// # Errors
    /// [`RotationError::Conflict`] means that the new version was never current. The move may also be refused because
    /// an earlier attempt made it and the answer was lost. Only one version is ever promoted from a base, and a later
    /// replacement publishes the version that it replaces before it promotes its own. So the pointer decides: while it
    /// names the base, or another version with the candidate's sequence number, the candidate was never current. A
    /// higher sequence number leaves that open, and the error is [`RotationError::Unclear`].
    pub(super) async fn promote(&self, cause: Cause, candidate: &Candidate) -> Result<(), RotationError> {
        self.noted(cause, "promote", self.make_current(candidate).await)
    }

    async fn make_current(&self, candidate: &Candidate) -> Result<(), RotationError> {
        let Candidate { secret, base, version, sequence } = candidate;
        let moved =
            self.ports.secret_store.move_label(*secret, StagingLabel::Current, Some(base), Some(version));
        if moved.await? == MoveOutcome::Moved {
            return Ok(());
        }
        let pointer = self.ports.pointers.pointer().await?.ok_or(StoreError::NotSetUp)?;
        let (named, named_sequence) = match secret {
            SecretName::AccessKeys => (&pointer.access_keys, pointer.access_keys_sequence),
            SecretName::SigningKeys => (&pointer.signing_keys, pointer.signing_keys_sequence),
        };
        if named == version {
            Ok(())
        } else if named_sequence <= *sequence {
            Err(RotationError::Conflict)
        } else {
            Err(RotationError::Unclear("several replacements have overtaken this one"))
        }
    }

    /// Takes the pending label off a version that will not become current, so that it disappears.
    pub(super) async fn abandon(&self, candidate: &Candidate) {
        let Candidate { secret, version, .. } = candidate;
        // If this fails, the next version that is stored displaces it.
        let _ = self.ports.secret_store.move_label(*secret, StagingLabel::Pending, Some(version), None).await;
    }

    pub(super) async fn abandon_on_error<T>(
        &self,
        candidate: &Candidate,
        outcome: Result<T, RotationError>,
    ) -> Result<T, RotationError> {
        if outcome.is_err() {
            self.abandon(candidate).await;
        }
        outcome
    }
}

impl KeySource {
    /// Whether a slot's new keys are the former ones, the former standby keys, or unknown to the former pointer, as this
    /// source has them.
    fn agrees(self, slot: Slot, key: &KeyId, new: &PublishedKeys, former: &PublishedKeys) -> bool {
        let (standby, waited) = (new.standby(slot), former.standby(slot));
        let is_new_standby = standby.is_some_and(|id| !former.has(id));
        match self {
            Self::FreshSlot(changed) if slot != changed.into() => {
                former.find(key).is_some()
                    && if waited.is_some() { standby == waited } else { is_new_standby }
            }
            Self::Standby if waited.is_some() => waited == Some(key) && is_new_standby,
            Self::Fresh | Self::FreshSlot(_) | Self::Standby => !former.has(key) && is_new_standby,
        }
    }
}

impl Candidate {
    fn access_keys(base: &Pointer, version: VersionId) -> Self {
        Self {
            secret: SecretName::AccessKeys,
            base: base.access_keys.clone(),
            version,
            sequence: base.access_keys_sequence + 1,
        }
    }

    pub(super) fn signing_keys(base: &Pointer, version: VersionId) -> Self {
        Self {
            secret: SecretName::SigningKeys,
            base: base.signing_keys.clone(),
            version,
            sequence: base.signing_keys_sequence + 1,
        }
    }
}

/// A version that this replacement stored, or found current, can only disappear because another replacement has
/// displaced or replaced it.
pub(in crate::keys) fn overtaken(error: SecretStoreError) -> RotationError {
    match error {
        SecretStoreError::NoSuchVersion => RotationError::Conflict,
        error => KeyLoadError::from(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Algorithm;
    use crate::keys::rotation::fake::Parts;
    use crate::secrets::SecretStoreWriter as _;
    use crate::testing::{signing_key, signing_keys};

    /// The public keys of a document whose keys and standby keys are the test keys with these numbers.
    fn published(keys: [usize; 3], standby: [usize; 3]) -> (SigningKeys, PublishedKeys) {
        let mut numbers = keys.into_iter().chain(standby);
        let mut next = || Ok(signing_key(Algorithm::Es256, numbers.next().unwrap()));
        let keys = SigningKeys::generate(1, &mut next).unwrap().with_standby(&mut next).unwrap();
        let published = PublishedKeys::parse(&Published::of(&keys, 0).unwrap()).unwrap();
        (keys, published)
    }

    #[test]
    fn stored_keys_are_those_of_their_source() {
        let (_, former) = published([0, 1, 2], [3, 4, 5]);
        let agrees = |source: KeySource, keys, standby| {
            let (keys, new) = published(keys, standby);
            Slot::ALL.into_iter().all(|slot| source.agrees(slot, keys.of(slot).id(), &new, &former))
        };
        for (source, keys, standby, expected) in [
            (KeySource::Fresh, [6, 7, 8], [9, 10, 11], true),
            (KeySource::Fresh, [6, 7, 0], [9, 10, 11], false),
            (KeySource::Fresh, [6, 7, 8], [9, 10, 3], false),
            (KeySource::Standby, [3, 4, 5], [9, 10, 11], true),
            (KeySource::Standby, [3, 4, 8], [9, 10, 11], false),
            (KeySource::Standby, [3, 4, 5], [9, 10, 0], false),
            (KeySource::FreshSlot(AccessSlot::Primary), [6, 1, 2], [9, 4, 5], true),
            (KeySource::FreshSlot(AccessSlot::Primary), [6, 7, 2], [9, 4, 5], false),
            (KeySource::FreshSlot(AccessSlot::Primary), [6, 1, 2], [9, 10, 5], false),
            (KeySource::FreshSlot(AccessSlot::Primary), [0, 1, 2], [9, 4, 5], false),
            (KeySource::FreshSlot(AccessSlot::Primary), [6, 1, 2], [3, 4, 5], false),
        ] {
            assert_eq!(agrees(source, keys, standby), expected, "{keys:?} {standby:?}");
        }
    }

    #[test]
    fn without_standby_keys_a_scheduled_rotation_stores_new_keys() {
        let former = Published::of(&signing_keys(Algorithm::Es256, 0), 0).unwrap();
        let former = PublishedKeys::parse(&former).unwrap();
        for (keys, expected) in [([6, 7, 8], true), ([6, 7, 2], false)] {
            let (keys, new) = published(keys, [9, 10, 11]);
            let agrees = |slot| KeySource::Standby.agrees(slot, keys.of(slot).id(), &new, &former);
            assert_eq!(Slot::ALL.into_iter().all(agrees), expected);
        }
    }

    fn version(last: u8) -> VersionId {
        VersionId::new(format!("11111111-2222-4333-8444-00000000000{last}"))
    }

    #[tokio::test]
    async fn keys_that_are_no_longer_stored_do_not_pass_their_test() {
        let parts = Parts::new();
        let rotator = parts.rotator();
        let base = rotator.set_up().await.unwrap();
        let access_keys = rotator.test_access_keys(&Candidate::access_keys(&base, version(1))).await;
        let candidate = Candidate::signing_keys(&base, version(1));
        let signing_keys = rotator.test_signing_keys(KeySource::Fresh, &base, &candidate).await;
        for tested in [access_keys, signing_keys] {
            assert!(matches!(tested, Err(RotationError::Conflict)), "{tested:?}");
        }
    }

    #[tokio::test]
    async fn the_pointer_tells_whether_a_refused_promotion_took_place() {
        let parts = Parts::new();
        let rotator = parts.rotator();
        let pointer = rotator.set_up().await.unwrap();
        let next = Candidate::signing_keys(&pointer, version(1));
        rotator.store_signing_keys(KeySource::Fresh, &next).await.unwrap();
        rotator.make_current(&next).await.unwrap();
        // The base is not current, so each move is refused.
        let refused = async |version: VersionId, sequence: u64| {
            let base = self::version(2);
            rotator
                .make_current(&Candidate { secret: SecretName::SigningKeys, base, version, sequence })
                .await
        };
        let sequence = pointer.signing_keys_sequence;
        assert!(refused(pointer.signing_keys.clone(), sequence).await.is_ok());
        assert!(matches!(refused(version(3), sequence).await, Err(RotationError::Conflict)));
        assert!(matches!(refused(version(3), sequence - 1).await, Err(RotationError::Unclear(_))));
    }

    #[tokio::test]
    async fn an_abandoned_version_is_no_longer_pending() {
        let parts = Parts::new();
        let rotator = parts.rotator();
        let base = rotator.set_up().await.unwrap();
        let candidate = Candidate::signing_keys(&base, version(1));
        rotator.store_signing_keys(KeySource::Fresh, &candidate).await.unwrap();
        let pending = async || {
            let labels = parts.memory.labels(SecretName::SigningKeys).await.unwrap();
            labels.version_with(StagingLabel::Pending).cloned()
        };
        assert_eq!(pending().await, Some(version(1)));
        rotator.abandon(&candidate).await;
        assert_eq!(pending().await, None);
    }
}
