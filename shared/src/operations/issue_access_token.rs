//! `POST /identities/{id}/:issueAccessToken`: issues a token for an existing identity.

use super::state::Purpose;
use super::{OperationContext, TokenSpec};
use crate::api::body::TokenRequest;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::ids::RawId;
use crate::store::{IdentityState, ReadRequest};

/// One read and no write. The token carries the revision from the read.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let bound = TokenRequest::bind_issue(context.body, context.version()?)?;
    let identity = context.identity(audit)?;
    if matches!(identity, RawId::TeamsUser { .. }) {
        // A Teams user gets a token only in exchange for an Entra token.
        return Err(Error::IdentityNotFound);
    }
    let (scopes, lifetime) = bound.validate()?;
    audit.scopes(&scopes);
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Mint).await?;
    audit.slot(state.slot);
    let IdentityState::Live(revision) = state.identity else { return Err(Error::IdentityNotFound) };
    let (issued_at, expires_at) = context.times_of(lifetime);
    let spec = TokenSpec { scopes: &scopes, issued_at, expires_at, teams: None };
    context.mint(&state, &identity, revision, &spec).map(Reply::Issued)
}
