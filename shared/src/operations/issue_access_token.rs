//! `POST /identities/{id}/:issueAccessToken`: issues a token for an existing identity. In the version
//! 2020-07-20-preview2, the path is `/identities/{id}/token`.

use super::state::Purpose;
use super::{OperationContext, TokenSpec};
use crate::api::body::TokenRequest;
use crate::api::error::Error;
use crate::api::reply::{IdentityTokenBody, Reply, TokenBody};
use crate::audit::AuditContext;
use crate::ids::RawId;
use crate::store::{IdentityState, ReadRequest};

pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    issue(context, audit).await.map(|(_, token)| Reply::Issued(token))
}

/// The same with the identity in the reply.
pub(super) async fn run_with_identity(
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
) -> Result<Reply, Error> {
    let (identity, token) = issue(context, audit).await?;
    Ok(Reply::IdentityToken(IdentityTokenBody::new(&identity, token)))
}

/// One read. Only an identity with a profile costs a write. The token carries the revision from the read.
async fn issue(
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
) -> Result<(RawId, TokenBody), Error> {
    let bound = TokenRequest::bind_issue(context.body, context.version()?)?;
    let identity = context.tokenable_identity(audit)?;
    let (scopes, lifetime) = bound.validate()?;
    audit.scopes(&scopes);
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Mint).await?;
    audit.slot(state.slot);
    let IdentityState::Live(revision) = state.identity else { return Err(Error::IdentityNotFound) };
    let (issued_at, expires_at) = context.times_of(lifetime);
    let spec = TokenSpec { scopes: &scopes, issued_at, expires_at, teams: None };
    let token = context.mint(&state, &identity, revision, &spec)?;
    context.record_token(&identity, state.profile.as_ref(), issued_at).await?;
    Ok((identity, token))
}
