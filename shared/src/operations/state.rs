//! The state that decides a request, read once: the pointer, the identity, the assignments, the caller's slot or
//! credential and, for minting, the signing keys.

use std::sync::Arc;

use super::OperationContext;
use crate::api::error::Error;
use crate::api::limits::KEY_READ_ATTEMPTS;
use crate::authn::{Caller, Denial};
use crate::keys::Slot;
use crate::keys::cache::KeyLoadError;
use crate::keys::pointer::Pointer;
use crate::keys::signing::SigningKeys;
use crate::secrets::SecretStoreError;
use crate::store::assignments::AssignmentRecord;
use crate::store::custom_ids::{CustomIdState, Profile};
use crate::store::{IdentityState, ReadRequest, Snapshot};

/// State from one strongly consistent read, which also confirmed the caller's keys.
pub(super) struct RequestState {
    /// `None` for a resource server.
    pub(super) slot: Option<Slot>,
    pub(super) pointer: Pointer,
    pub(super) identity: IdentityState,
    pub(super) profile: Option<Profile>,
    pub(super) custom_id: CustomIdState,
    /// One record for each requested key, in the order of the request.
    pub(super) assignments: Vec<AssignmentRecord>,
    /// Loaded for [`Purpose::Mint`].
    pub(super) signing: Option<Arc<SigningKeys>>,
}

/// The purpose of a read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The operation mints a token, so it needs the signing keys in force.
    Mint,
    Other,
}

impl OperationContext<'_> {
    /// Reads pointer, identity and assignments in one strongly consistent read. If the pointer names other access keys than
    /// those the caller was authenticated with, loads them and authenticates the caller again. The credential of a resource
    /// server comes in the same read, and no secret is loaded for it.
    ///
    /// Keys may be replaced between the read and the load. Their version is then gone, and the read is repeated, so
    /// that a rotation never fails a request with a valid signature.
    pub(super) async fn read_state(
        &self,
        read: ReadRequest<'_>,
        purpose: Purpose,
    ) -> Result<RequestState, Error> {
        let resource_server = match self.caller {
            Caller::ResourceServer(presented) => Some(&presented.id),
            _ => None,
        };
        let read = ReadRequest { resource_server, ..read };
        let mut attempt = 1;
        loop {
            let snapshot = self.service.store.read(read).await?;
            match self.confirm(&snapshot, purpose).await {
                Err(ConfirmError::KeysReplaced) if attempt < KEY_READ_ATTEMPTS => attempt += 1,
                Err(ConfirmError::KeysReplaced) => {
                    return Err(KeyLoadError::SecretStore(SecretStoreError::NoSuchVersion).into());
                }
                Err(ConfirmError::Denied(denial)) => return Err(denial.into()),
                Err(ConfirmError::Failed(error)) => return Err(error.into()),
                Ok((slot, signing)) => {
                    let Snapshot { pointer, identity, profile, custom_id, assignments, .. } = snapshot;
                    let state =
                        RequestState { slot, pointer, identity, profile, custom_id, assignments, signing };
                    return Ok(state);
                }
            }
        }
    }

    async fn confirm(
        &self,
        snapshot: &Snapshot,
        purpose: Purpose,
    ) -> Result<(Option<Slot>, Option<Arc<SigningKeys>>), ConfirmError> {
        let keys = &self.service.key_cache;
        let slot = match self.caller {
            Caller::AccessKey { access_keys, signed, .. } if *access_keys != snapshot.pointer.access_keys => {
                Some(signed.verify(&*keys.access(&snapshot.pointer).await?)?)
            }
            Caller::ResourceServer(presented) if snapshot.credential.admits(&presented.secret) => None,
            Caller::ResourceServer(_) => return Err(Denial::Credential.into()),
            caller => Some(caller.slot().ok_or(Denial::Authorization)?),
        };
        let signing = match purpose {
            Purpose::Mint => Some(keys.signing(&snapshot.pointer).await?),
            Purpose::Other => None,
        };
        Ok((slot, signing))
    }
}

enum ConfirmError {
    Denied(Denial),
    Failed(KeyLoadError),
    KeysReplaced,
}

impl From<KeyLoadError> for ConfirmError {
    fn from(error: KeyLoadError) -> Self {
        match error {
            KeyLoadError::SecretStore(SecretStoreError::NoSuchVersion) => Self::KeysReplaced,
            error => Self::Failed(error),
        }
    }
}

impl From<Denial> for ConfirmError {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}
