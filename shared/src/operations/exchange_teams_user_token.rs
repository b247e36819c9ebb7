//! `POST /teamsUser/:exchangeAccessToken`: a Teams user's Entra token for one of ours.

use super::state::Purpose;
use super::{OperationContext, TokenSpec, under};
use crate::api::body::TeamsUserExchange;
use crate::api::error::{Error, Field};
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::authn::entra::{Audience, EntraError, EntraToken};
use crate::ids::{Cloud, RawId};
use crate::store::ReadRequest;
use crate::token::scope::{Scope, ScopeSet};

/// The delegated permissions of which one is needed (docs/wire-contract.md#teams-exchange).
const PERMISSIONS: [&str; 2] = ["Teams.ManageCalls", "Teams.ManageChats"];

/// The order of the checks is the recorded one: token present, token good, members there, members well
/// formed, members agreeing with the token (docs/wire-contract.md#validation-order).
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let service = context.service;
    let exchange = TeamsUserExchange::bind(context.body)?;
    let entra = verified(context, exchange.token()?).await?;
    let (app, user) = exchange.expected()?;
    if app != entra.app {
        return Err(Error::FieldMismatch(Field::AppId));
    }
    if user != entra.object {
        return Err(Error::FieldMismatch(Field::UserId));
    }
    let identity = RawId::TeamsUser { cloud: Cloud::Public, object: entra.object };
    let scopes = ScopeSet::of(&[Scope::Voip, Scope::Chat]).ok_or(Error::Internal("no scopes"))?;
    audit.identity(&identity);
    audit.scopes(&scopes);
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Mint).await?;
    audit.slot(state.slot);
    let revision = context.revision_of(&state, &identity).await?;
    let (issued_at, expires_at) = under(&entra, service.clock.now().unix_timestamp())?;
    let spec = TokenSpec { scopes: &scopes, issued_at, expires_at, teams: Some(&entra) };
    context.mint(&state, &identity, revision, &spec).map(Reply::Issued)
}

async fn verified(context: &OperationContext<'_>, token: &str) -> Result<EntraToken, Error> {
    let token = context.service.entra.verify(token, Audience::Teams).await.map_err(|error| match error {
        EntraError::Refused(fault) => Error::InvalidAccessToken(fault),
        error => error.into(),
    })?;
    token.require_one_of(&PERMISSIONS).map_err(Error::InvalidAccessToken)?;
    Ok(token)
}
