//! Set-up of a resource: both secrets, then the pointer that names them. A repetition and a crash are safe.

use super::KeyMaterialError;
use super::access::AccessKeys;
use super::cache::KeyLoadError;
use super::pointer::{Pointer, Published};
use super::rotation::{Cause, OrphanedPending, RotationError, Rotator, Trigger, overtaken};
use super::signing::SigningKeys;
use crate::secrets::Secret;
use crate::secrets::VersionId;
use crate::secrets::{MoveOutcome, SecretName, SecretStoreError, StagingLabel};

/// Copies of the pointer of a new resource. One DynamoDB partition serves 3,000 strong reads a second.
const POINTER_COPIES: u32 = 8;

impl Rotator<'_> {
    /// Makes the missing parts: first the secrets, then the pointer, and last the labels that keep the versions that the
    /// pointer names. In this order no part is usable before it is complete. Returns the pointer in force.
    ///
    /// # Errors
    /// [`RotationError`]. The parts that were made stay, and the next attempt uses them.
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
            .ensure(SecretName::SigningKeys, || {
                Ok(SigningKeys::generate(1, self.generate)?.with_standby(self.generate)?.to_document())
            })
            .await?;
        let document = self.ports.secret_store.read(SecretName::AccessKeys, &access_keys).await;
        let access = AccessKeys::parse(&document.map_err(overtaken)?)?;
        let document = self.ports.secret_store.read(SecretName::SigningKeys, &signing_keys).await;
        let keys = SigningKeys::parse(&document.map_err(overtaken)?)?;
        let pointer = Pointer {
            generation: 1,
            copies: POINTER_COPIES,
            access_keys,
            access_keys_sequence: access.sequence(),
            signing_keys,
            signing_keys_sequence: keys.sequence(),
            published: Published::of(&keys, self.clock.now().unix_timestamp())?,
        };
        // Another set-up may have been first. The pointer in the table counts.
        self.ports.pointers.write_pointer(&pointer).await?;
        Ok(())
    }

    /// The current version of a secret. Makes one if the secret has none.
    ///
    /// The first step of a scheduled rotation finds a version that Secrets Manager has announced. That version gets the
    /// first value, because another current version would make Secrets Manager abandon the rotation. A version becomes
    /// current only in a secret without a current version, so a late delivery of this write displaces no version.
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
        let moved = secret_store.move_label(secret, StagingLabel::Current, None, Some(&version)).await?;
        if announced.is_none() {
            // A version that stayed pending would keep the schedule from starting. Secrets Manager takes the label off an
            // announced one.
            secret_store.move_label(secret, StagingLabel::Pending, Some(&version), None).await?;
        }
        if moved == MoveOutcome::Stale {
            let current = secret_store.labels(secret).await?.version_with(StagingLabel::Current).cloned();
            return current.ok_or(RotationError::Conflict);
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::keys::rotation::KeyPorts;
    use crate::keys::rotation::fake::{Overtaken, Parts};
    use crate::secrets::SecretStoreWriter as _;

    #[tokio::test]
    async fn first_keys_are_current_and_not_pending() {
        let parts = Parts::new();
        let pointer = parts.rotator().set_up().await.unwrap();
        for (secret, version) in
            [(SecretName::AccessKeys, &pointer.access_keys), (SecretName::SigningKeys, &pointer.signing_keys)]
        {
            let labels = parts.memory.labels(secret).await.unwrap();
            assert!(labels.is_on(StagingLabel::Current, version));
            assert_eq!(labels.version_with(StagingLabel::Pending), None);
        }
    }

    #[tokio::test]
    async fn the_keys_of_a_set_up_that_came_first_are_used() {
        let store = Overtaken::default();
        let (first, second) = (Parts::seeded(1), Parts::seeded(2));
        let set_up = async |parts: &Parts| {
            let rotator = parts.rotator();
            let ports = KeyPorts { secret_store: &store, ..rotator.ports };
            Rotator { ports, ..rotator }.set_up().await.unwrap()
        };
        let pointer = set_up(&first).await;
        // Each set-up has a table of its own here, so the second one makes a pointer too.
        store.outdated_labels.store(1, Ordering::SeqCst);
        assert_eq!(set_up(&second).await, pointer);
        assert_eq!(
            store.labels(SecretName::AccessKeys).await.unwrap().version_with(StagingLabel::Pending),
            None
        );
    }
}
