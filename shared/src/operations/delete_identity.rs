//! `DELETE /identities/{id}`: the end of an identity and of every token it has.

use super::Request;
use crate::audit::Notes;
use crate::error::Error;
use crate::lifetime::TOMBSTONE;
use crate::reply::Reply;
use crate::store::IdentityState;

/// Idempotent: what does not exist is already deleted, and tells nobody whether it ever existed.
pub(super) async fn run(request: &Request<'_>, notes: &mut Notes) -> Result<Reply, Error> {
    let service = request.service;
    let identity = request.identity(notes)?;
    let session = service.open(request, Some(&identity), false).await?;
    notes.slot(session.slot);
    if let IdentityState::Live(_) = session.identity {
        service.store.delete(&identity, service.clock.now() + TOMBSTONE).await?;
    }
    Ok(Reply::Done)
}
