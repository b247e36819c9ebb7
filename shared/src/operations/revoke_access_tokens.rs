//! `POST /identities/{id}/:revokeAccessTokens`: every token issued so far dies, at once.

use super::Request;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::store::{IdentityState, ReadRequest, Revocation};

/// One read, one conditional write. A body, if any, is not looked at.
pub(super) async fn run(request: &Request<'_>, notes: &mut AuditContext) -> Result<Reply, Error> {
    let identity = request.identity(notes)?;
    let session = request.service.open(request, ReadRequest::identity(&identity), false).await?;
    notes.slot(session.slot);
    let IdentityState::Live(revision) = session.identity else {
        return Err(Error::IdentityNotFound);
    };
    match request.service.store.revoke(&identity, revision).await? {
        Revocation::Revoked => Ok(Reply::Done),
        Revocation::Gone => Err(Error::IdentityNotFound),
    }
}
