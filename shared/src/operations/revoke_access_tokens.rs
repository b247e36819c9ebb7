//! `POST /identities/{id}/:revokeAccessTokens`: revokes every token issued so far, immediately. In the version
//! 2020-07-20-preview2, the request is `PATCH /identities/{id}`.

use super::OperationContext;
use super::state::Purpose;
use crate::api::body;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::store::{IdentityState, ReadRequest, Revocation};

/// The body may name an instant. Every token is revoked, also a token that was issued after this instant, because a
/// revision cannot spare newer tokens. The clock of the caller may be ahead as far as the date of its signature.
pub(super) async fn update(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let service = context.service;
    let latest = service.clock.now().checked_add(service.settings.date_window.duration());
    body::check_update(context.body, latest.ok_or(Error::Internal("the clock is at the end of time"))?)?;
    run(context, audit).await
}

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
