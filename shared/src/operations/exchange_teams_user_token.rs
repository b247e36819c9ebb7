//! `POST /teamsUser/:exchangeAccessToken`: exchanges a Teams user's Entra token for a token of this service.

use super::state::Purpose;
use super::{OperationContext, TokenSpec, under};
use crate::api::body::TeamsUserExchange;
use crate::api::error::{Error, Field};
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::authn::entra::Audience;
use crate::ids::{Cloud, RawId};
use crate::store::ReadRequest;
use crate::token::scope::{Scope, ScopeSet};

/// The delegated permissions. The Entra token needs one of them (docs/wire-contract.md#teams-exchange).
const PERMISSIONS: [&str; 2] = ["Teams.ManageCalls", "Teams.ManageChats"];

/// The checks have the recorded order: the token is present, the token is valid, the members are present, the members
/// are well formed, the members equal the claims (docs/wire-contract.md#validation-order). Versions before 2022-06-01
/// have no member but the token (docs/wire-contract.md#old-previews).
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let names_user = context.version()?.exchange_names_user();
    exchange(context, audit, names_user).await.map_err(|error| match error {
        Error::InvalidAccessToken(fault) if !names_user => Error::InvalidAccessTokenWithoutBody(fault),
        error => error,
    })
}

async fn exchange(
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
    names_user: bool,
) -> Result<Reply, Error> {
    let service = context.service;
    let exchange = TeamsUserExchange::bind(context.body)?;
    let entra = service.entra_user(exchange.token()?, Audience::Teams, audit).await?;
    entra.require_one_of(&PERMISSIONS).map_err(Error::InvalidAccessToken)?;
    if names_user {
        let (app, user) = exchange.expected()?;
        if app != entra.app {
            return Err(Error::FieldMismatch(Field::AppId));
        }
        if user != entra.object {
            return Err(Error::FieldMismatch(Field::UserId));
        }
    }
    let identity = RawId::TeamsUser { cloud: Cloud::Public, object: entra.object };
    let scopes = ScopeSet::of(&[Scope::Voip, Scope::Chat]).ok_or(Error::Internal("no scopes"))?;
    audit.identity(&identity);
    audit.scopes(&scopes);
    let state = context.read_state(ReadRequest::identity(&identity), Purpose::Mint).await?;
    audit.slot(state.slot);
    let revision = context.revision_of(&state, &identity).await?;
    let (issued_at, expires_at) = under(&entra, service.token_clock.now().unix_timestamp())?;
    let spec = TokenSpec { scopes: &scopes, issued_at, expires_at, teams: Some(&entra) };
    context.mint(&state, &identity, revision, &spec).map(Reply::Issued)
}
