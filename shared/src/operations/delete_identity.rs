//! `DELETE /identities/{id}`: deletes an identity and revokes all its tokens.

use super::OperationContext;
use super::state::Purpose;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::ids::RawId;
use crate::lifetime::TOMBSTONE;
use crate::store::{IdentityState, ReadRequest};

/// Idempotent. The reply is the same for an identity that never existed, so it does not reveal which ids existed.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let service = context.service;
    let identity = context.identity(audit)?;
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Other).await?;
    audit.slot(state.slot);
    let IdentityState::Live(revision) = state.identity else { return Ok(Reply::Done) };
    match identity {
        // The id of a user is never reused.
        RawId::User(_) => {
            let custom_id = state.profile.as_ref().and_then(|profile| profile.custom_id.as_ref());
            service.store.delete(&identity, custom_id, service.clock.now().saturating_add(TOMBSTONE)).await?;
        }
        // An identity from Entra can be exchanged again. So its tokens are revoked, and its record keeps the revision.
        _ => {
            service.store.revoke(&identity, revision).await?;
        }
    }
    Ok(Reply::Done)
}
