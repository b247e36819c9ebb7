//! `DELETE /identities/{id}`: the end of an identity and of every token it has.

use super::Request;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::ids::RawId;
use crate::lifetime::TOMBSTONE;
use crate::store::{IdentityState, ReadRequest};

/// Idempotent: what does not exist is already deleted, and tells nobody whether it ever existed.
pub(super) async fn run(request: &Request<'_>, notes: &mut AuditContext) -> Result<Reply, Error> {
    let service = request.service;
    let identity = request.identity(notes)?;
    let session = service.open(request, ReadRequest::identity(&identity), false).await?;
    notes.slot(session.slot);
    let IdentityState::Live(revision) = session.identity else { return Ok(Reply::Done) };
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
