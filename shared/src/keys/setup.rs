//! Setting a resource up: both secrets, then the pointer that names them. Safe to repeat, safe to crash in.

use super::KeyMaterialError;
use super::access::AccessKeys;
use super::cache::KeyLoadError;
use super::pointer::{Pointer, Published};
use super::rotation::{Cause, OrphanedPending, RotationError, Rotator, Trigger};
use super::signing::SigningKeys;
use crate::secrets::Secret;
use crate::secrets::VersionId;
use crate::secrets::{MoveOutcome, SecretName, SecretStoreError, StagingLabel};

/// Copies of the pointer a new resource gets. One DynamoDB partition serves 3,000 strong reads a second.
const POINTER_COPIES: u32 = 8;

impl Rotator<'_> {
    /// Makes what is missing, in an order that leaves nothing half-usable: secrets first, then the
    /// pointer, and last the labels that hold the versions it names. Returns the pointer in force.
    ///
    /// # Errors
    /// [`RotationError`]; what was made stays and is used by the next attempt.
    pub async fn set_up(&self) -> Result<Pointer, RotationError> {
        const CAUSE: Cause = Cause { operation: "set_up", trigger: Trigger::Deployment };
        if self.ports.pointers.pointer().await?.is_none() {
            self.write_first_pointer().await?;
        }
        self.synchronize(CAUSE, OrphanedPending::Keep).await
    }

    async fn write_first_pointer(&self) -> Result<(), RotationError> {
        let access_keys = self
            .ensure(SecretName::AccessKeys, || Ok(AccessKeys::generate(self.random).to_document()))
            .await?;
        let signing_keys = self
            .ensure(SecretName::SigningKeys, || Ok(SigningKeys::generate(1, self.generate)?.to_document()))
            .await?;
        let document = self.ports.secret_store.read(SecretName::AccessKeys, &access_keys).await?;
        let access = AccessKeys::parse(&document)?;
        let document = self.ports.secret_store.read(SecretName::SigningKeys, &signing_keys).await?;
        let keys = SigningKeys::parse(&document)?;
        let pointer = Pointer {
            generation: 1,
            copies: POINTER_COPIES,
            access_keys,
            access_keys_sequence: access.sequence(),
            signing_keys,
            signing_keys_sequence: keys.sequence(),
            published: Published::of(&keys, self.clock.now().unix_timestamp()),
        };
        // Somebody else may have been first: what the table holds is what counts.
        self.ports.pointers.write_pointer(&pointer).await?;
        Ok(())
    }

    /// The current version of a secret, made if there is none. A version that is announced already, as at the
    /// first step of a scheduled rotation, is the one that gets the first value: making another current beside
    /// it would have the secret store abandon that rotation. A version becomes current only where none is, so that a
    /// late delivery of this displaces nothing.
    async fn ensure(
        &self,
        secret: SecretName,
        make: impl FnOnce() -> Result<Secret, KeyMaterialError> + Send,
    ) -> Result<VersionId, RotationError> {
        let secret_store = self.ports.secret_store;
        let labels = secret_store.labels(secret).await?;
        if let Some(version) = labels.version_with(StagingLabel::Current) {
            return Ok(version.clone());
        }
        let announced = labels.version_with(StagingLabel::Pending);
        let version = announced.cloned().unwrap_or_else(|| VersionId::random(self.random));
        match secret_store.read(secret, &version).await {
            Ok(_) => {}
            Err(SecretStoreError::NoSuchVersion) => {
                secret_store
                    .store(secret, &version, &make().map_err(KeyLoadError::from)?, StagingLabel::Pending)
                    .await?;
            }
            Err(error) => return Err(error.into()),
        }
        if secret_store.move_label(secret, StagingLabel::Current, None, Some(&version)).await?
            == MoveOutcome::Stale
        {
            let current = secret_store.labels(secret).await?.version_with(StagingLabel::Current).cloned();
            return current.ok_or(RotationError::Conflict);
        }
        if announced.is_none() {
            // An announced one keeps the label: whoever announced it takes it off.
            secret_store.move_label(secret, StagingLabel::Pending, Some(&version), None).await?;
        }
        Ok(version)
    }
}
