//! `GET /identities/{id}`: the profile of an identity.

use super::OperationContext;
use super::state::Purpose;
use crate::api::error::Error;
use crate::api::reply::{IdentityBody, Reply};
use crate::audit::AuditContext;
use crate::store::{IdentityState, ReadRequest};

/// One read. Identities that never existed or were deleted answer as in an issue.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let identity = context.tokenable_identity(audit)?;
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Other).await?;
    audit.slot(state.slot);
    match state.identity {
        IdentityState::Live(_) => Ok(Reply::Identity(IdentityBody::new(&identity, state.profile.as_ref()))),
        IdentityState::Absent | IdentityState::Deleted => Err(Error::IdentityNotFound),
    }
}
