//! `POST /identities/{id}/:revokeAccessTokens`: revokes every token issued so far, immediately.

use super::OperationContext;
use super::state::Purpose;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::store::{IdentityState, ReadRequest, Revocation};

/// One read and one conditional write. The body is ignored.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let identity = context.identity(audit)?;
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Other).await?;
    audit.slot(state.slot);
    let IdentityState::Live(revision) = state.identity else {
        return Err(Error::IdentityNotFound);
    };
    match context.service.store.revoke(&identity, revision).await? {
        Revocation::Revoked => Ok(Reply::Done),
        Revocation::Gone => Err(Error::IdentityNotFound),
    }
}
