//! `POST /teamsUser/:exchangeAccessToken`: a Teams user's Entra token for one of ours.

use super::{Request, TokenSpec, under};
use crate::audit::Notes;
use crate::authn::entra::{Audience, EntraError, EntraToken};
use crate::body::TeamsUserExchange;
use crate::error::{Error, Field};
use crate::ids::{Cloud, RawId};
use crate::reply::Reply;
use crate::scope::{Scope, ScopeSet};
use crate::store::Wanted;

/// The delegated permissions of which one is needed (docs/wire-contract.md#teams-exchange).
const PERMISSIONS: [&str; 2] = ["Teams.ManageCalls", "Teams.ManageChats"];

/// The order of the checks is the recorded one: token present, token good, members there, members well
/// formed, members agreeing with the token (docs/wire-contract.md#validation-order).
pub(super) async fn run(request: &Request<'_>, notes: &mut Notes) -> Result<Reply, Error> {
    let service = request.service;
    let exchange = TeamsUserExchange::bind(request.body)?;
    let entra = verified(request, exchange.token()?).await?;
    let (app, user) = exchange.expected()?;
    if app != entra.app {
        return Err(Error::FieldMismatch(Field::AppId));
    }
    if user != entra.object {
        return Err(Error::FieldMismatch(Field::UserId));
    }
    let identity = RawId::TeamsUser { cloud: Cloud::Public, object: entra.object };
    let scopes = ScopeSet::of(&[Scope::Voip, Scope::Chat]).ok_or(Error::Internal("no scopes"))?;
    notes.identity(&identity);
    notes.scopes(&scopes);
    let session = service.open(request, Wanted::identity(&identity), true).await?;
    notes.slot(session.slot);
    let revision = request.revision_of(&session, &identity).await?;
    let (issued_at, expires_at) = under(&entra, service.clock.now().unix_timestamp())?;
    let spec = TokenSpec { scopes: &scopes, issued_at, expires_at, teams: Some(&entra) };
    request.mint(&session, &identity, revision, &spec).map(Reply::Issued)
}

async fn verified(request: &Request<'_>, token: &str) -> Result<EntraToken, Error> {
    let token = request.service.entra.verify(token, Audience::Teams).await.map_err(|error| match error {
        EntraError::Refused(fault) => Error::InvalidAccessToken(fault),
        error => error.into(),
    })?;
    token.require_one_of(&PERMISSIONS).map_err(Error::InvalidAccessToken)?;
    Ok(token)
}
