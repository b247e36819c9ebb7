//! `DELETE /identities/{id}`: the end of an identity and of every token it has.

use super::OperationContext;
use super::state::Purpose;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::ids::RawId;
use crate::lifetime::TOMBSTONE;
use crate::store::{IdentityState, ReadRequest};

/// Idempotent: what does not exist is already deleted, and tells nobody whether it ever existed.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let service = context.service;
    let identity = context.identity(audit)?;
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Other).await?;
    audit.slot(state.slot);
    let IdentityState::Live(revision) = state.identity else { return Ok(Reply::Done) };
    match identity {
        // An id of ours is never used again.
        RawId::User(_) => service.store.delete(&identity, service.clock.now() + TOMBSTONE).await?,
        // One that comes from Entra may be exchanged again: its tokens die, its record goes on counting.
        _ => {
            service.store.revoke(&identity, revision).await?;
        }
    }
    Ok(Reply::Done)
}
