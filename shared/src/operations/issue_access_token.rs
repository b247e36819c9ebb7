//! `POST /identities/{id}/:issueAccessToken`: a token for an identity that exists.

use super::{Request, TokenSpec};
use crate::api::body::TokenRequest;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::ids::RawId;
use crate::store::{IdentityState, ReadRequest};

/// One read, no write: the token carries the revision that was read.
pub(super) async fn run(request: &Request<'_>, notes: &mut AuditContext) -> Result<Reply, Error> {
    let bound = TokenRequest::bind_issue(request.body, request.version()?)?;
    let identity = request.identity(notes)?;
    if matches!(identity, RawId::TeamsUser { .. }) {
        // A Teams user's token is only given for an Entra token.
        return Err(Error::IdentityNotFound);
    }
    let (scopes, lifetime) = bound.judge()?;
    notes.scopes(&scopes);
    let session = request.service.open(request, ReadRequest::identity(&identity), true).await?;
    notes.slot(session.slot);
    let IdentityState::Live(revision) = session.identity else { return Err(Error::IdentityNotFound) };
    let (issued_at, expires_at) = request.times_of(lifetime);
    let spec = TokenSpec { scopes: &scopes, issued_at, expires_at, teams: None };
    request.mint(&session, &identity, revision, &spec).map(Reply::Issued)
}
