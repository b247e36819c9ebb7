//! Setting a resource up: both secrets, then the pointer that names them. Safe to repeat, safe to crash in.

use uuid::Uuid;

use super::access::AccessKeys;
use super::pointer::{Pointer, Published};
use super::ring::KeyError;
use super::signing::{SigningKey, SigningKeys};
use super::{KeyFault, VersionId};
use crate::context::{Clock, Random};
use crate::secret::Secret;
use crate::store::{PointerWriter, StoreError};
use crate::vault::{SecretName, VaultWriter};

/// Copies of the pointer a new resource gets. One DynamoDB partition serves 3,000 strong reads a second.
pub const POINTER_COPIES: u32 = 8;

/// Setting up failed; repeating it is safe.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What setting up needs.
pub struct Setup<'a> {
    pub store: &'a dyn PointerWriter,
    pub vault: &'a dyn VaultWriter,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Random,
    /// Makes one signing key of the deployment's algorithm.
    pub generate: &'a (dyn Fn() -> Result<SigningKey, KeyFault> + Sync),
}

impl Setup<'_> {
    /// Makes what is missing, in an order that leaves nothing half-usable: secrets first, then the
    /// pointer, and last the label that holds the versions it names. Returns the pointer in force.
    ///
    /// # Errors
    /// [`SetupError`]; what was made stays and is used by the next attempt.
    pub async fn run(&self) -> Result<Pointer, SetupError> {
        let pointer = match self.store.pointer().await? {
            Some(pointer) => pointer,
            None => self.first_pointer().await?,
        };
        self.vault
            .hold(SecretName::AccessKeys, &pointer.access_keys)
            .await
            .map_err(KeyError::from)?;
        self.vault
            .hold(SecretName::SigningKeys, &pointer.signing_keys)
            .await
            .map_err(KeyError::from)?;
        Ok(pointer)
    }

    async fn first_pointer(&self) -> Result<Pointer, SetupError> {
        let access_keys = self
            .ensure(SecretName::AccessKeys, || {
                Ok(AccessKeys::generate(self.random).to_document())
            })
            .await?;
        let signing_keys = self
            .ensure(SecretName::SigningKeys, || {
                Ok(SigningKeys::generate(self.generate)?.to_document())
            })
            .await?;
        let document = self
            .vault
            .read(SecretName::SigningKeys, &signing_keys)
            .await
            .map_err(KeyError::from)?;
        let keys = SigningKeys::parse(&document).map_err(KeyError::from)?;
        let pointer = Pointer {
            generation: 1,
            copies: POINTER_COPIES,
            access_keys,
            signing_keys,
            published: Published::of(&keys, self.clock.now().unix_timestamp()),
        };
        self.store.write_pointer(&pointer).await?;
        // Somebody else may have been first: what the table holds is what counts.
        self.store
            .pointer()
            .await?
            .ok_or(SetupError::Store(StoreError::NotSetUp))
    }

    async fn ensure(
        &self,
        secret: SecretName,
        make: impl FnOnce() -> Result<Secret, KeyFault> + Send,
    ) -> Result<VersionId, SetupError> {
        if let Some(version) = self.vault.current(secret).await.map_err(KeyError::from)? {
            return Ok(version);
        }
        let value = make().map_err(KeyError::from)?;
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        let version = VersionId::new(Uuid::from_bytes(bytes).hyphenated().to_string());
        self.vault
            .put_current(secret, &version, &value)
            .await
            .map_err(KeyError::from)?;
        let current = self.vault.current(secret).await.map_err(KeyError::from)?;
        Ok(current.unwrap_or(version))
    }
}
