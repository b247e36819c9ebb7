//! The steps that an operator's and a scheduled replacement share: store, test, promote, abandon.

use super::{Change, RotationError, Rotator};
use crate::keys::access::AccessKeys;
use crate::keys::pointer::{Pointer, PublishedKeys};
use crate::keys::signing::SigningKeys;
use crate::keys::{KeyMaterialError, Slot};
use crate::secrets::{MoveOutcome, SecretName, SecretStoreError, StagingLabel, VersionId};

/// The versions that are to be put in force, and those they replace.
pub(super) struct Replacement {
    pub(super) change: Change,
    pub(super) base: Pointer,
    pub(super) signing_keys: VersionId,
    /// Only a regeneration has one.
    pub(super) access_keys: Option<VersionId>,
}

impl Replacement {
    pub(super) fn scheduled(base: Pointer, version: &VersionId) -> Self {
        Self { change: Change::RotateSigningKeys, base, signing_keys: version.clone(), access_keys: None }
    }

    pub(super) fn is_named_by(&self, pointer: &Pointer) -> bool {
        pointer.signing_keys == self.signing_keys
            && self.access_keys.as_ref().is_none_or(|version| pointer.access_keys == *version)
    }
}

impl Rotator<'_> {
    /// Makes the new keys and stores them as pending versions, the signing keys first.
    pub(super) async fn store_fresh(
        &self,
        change: Change,
        base: Pointer,
    ) -> Result<Replacement, RotationError> {
        let signing_keys = VersionId::random(self.random);
        let access_keys = match change {
            Change::RotateSigningKeys => None,
            Change::RegenerateAccessKey(_) => Some(VersionId::random(self.random)),
        };
        let replacement = Replacement { change, base, signing_keys, access_keys };
        self.store(&replacement).await?;
        Ok(replacement)
    }

    pub(super) async fn store(&self, replacement: &Replacement) -> Result<(), RotationError> {
        let secret_store = self.ports.secret_store;
        let base = &replacement.base;
        let fresh = match replacement.change {
            Change::RotateSigningKeys => {
                SigningKeys::generate(base.signing_keys_sequence + 1, self.generate)?
            }
            Change::RegenerateAccessKey(slot) => {
                let keys = SigningKeys::parse(
                    &secret_store.read(SecretName::SigningKeys, &base.signing_keys).await?,
                )?;
                keys.with(slot.into(), (self.generate)()?)
            }
        };
        let document = fresh.to_document();
        secret_store
            .store(SecretName::SigningKeys, &replacement.signing_keys, &document, StagingLabel::Pending)
            .await?;
        if let (Change::RegenerateAccessKey(slot), Some(version)) =
            (replacement.change, &replacement.access_keys)
        {
            let keys =
                AccessKeys::parse(&secret_store.read(SecretName::AccessKeys, &base.access_keys).await?)?;
            let document = keys.regenerated(slot, self.random).to_document();
            secret_store.store(SecretName::AccessKeys, version, &document, StagingLabel::Pending).await?;
        }
        Ok(())
    }

    /// Reads the stored versions back: they parse, each key signs what its public half verifies, the
    /// slots that were to change have new keys, and the others have not changed.
    pub(super) async fn test(&self, replacement: &Replacement) -> Result<(), RotationError> {
        let secret_store = self.ports.secret_store;
        let gone = |error| match error {
            SecretStoreError::NoSuchVersion => RotationError::Conflict,
            error => error.into(),
        };
        let document =
            secret_store.read(SecretName::SigningKeys, &replacement.signing_keys).await.map_err(gone)?;
        let keys = SigningKeys::parse(&document)?;
        let published = PublishedKeys::parse(&replacement.base.published)?;
        for slot in Slot::ALL {
            let changes = match replacement.change {
                Change::RotateSigningKeys => true,
                Change::RegenerateAccessKey(regenerated) => slot == regenerated.into(),
            };
            if published.find(keys.of(slot).id()).is_none() != changes {
                return Err(
                    KeyMaterialError("a stored signing key is not the one that was to be stored").into()
                );
            }
        }
        if let Some(version) = &replacement.access_keys {
            AccessKeys::parse(&secret_store.read(SecretName::AccessKeys, version).await.map_err(gone)?)?;
        }
        Ok(())
    }

    /// Makes the new versions current. The signing keys first: a crash in between then ends tokens, which
    /// clients can get again, and not an access key that nobody was told the successor of.
    pub(super) async fn promote(&self, replacement: &Replacement) -> Result<(), RotationError> {
        let base = &replacement.base;
        self.make_current(SecretName::SigningKeys, &base.signing_keys, &replacement.signing_keys).await?;
        if let Some(version) = &replacement.access_keys {
            self.make_current(SecretName::AccessKeys, &base.access_keys, version).await?;
        }
        Ok(())
    }

    async fn make_current(
        &self,
        secret: SecretName,
        from: &VersionId,
        to: &VersionId,
    ) -> Result<(), RotationError> {
        match self.ports.secret_store.move_label(secret, StagingLabel::Current, Some(from), Some(to)).await? {
            MoveOutcome::Moved => Ok(()),
            MoveOutcome::Stale => Err(RotationError::Conflict),
        }
    }

    /// Takes the pending label off versions that will not be put in force, so that they vanish.
    pub(super) async fn abandon(&self, replacement: &Replacement) {
        let versions = [
            (SecretName::SigningKeys, Some(&replacement.signing_keys)),
            (SecretName::AccessKeys, replacement.access_keys.as_ref()),
        ];
        for (secret, version) in versions {
            if let Some(version) = version {
                // What cannot be cleaned up now is displaced by the next version that is stored.
                let _ = self
                    .ports
                    .secret_store
                    .move_label(secret, StagingLabel::Pending, Some(version), None)
                    .await;
            }
        }
    }
}
