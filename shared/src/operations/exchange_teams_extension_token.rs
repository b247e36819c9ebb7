//! `POST /access/teamsExtension/:exchangeAccessToken`: the token of a Teams user who acts for a resource
//! (Teams phone extensibility) for one of ours.

use super::Request;
use super::exchange_entra_token::exchange;
use crate::assignments::BookName;
use crate::audit::Notes;
use crate::body;
use crate::error::Error;
use crate::ids::{Cloud, RawId};
use crate::reply::Reply;
use crate::scope::{Scope, ScopeSet};

/// The delegated permission that is needed (docs/wire-contract.md#teams-exchange).
const PERMISSION: &str = "TeamsExtension.ManageCalls";

pub(super) async fn run(request: &Request<'_>, notes: &mut Notes) -> Result<Reply, Error> {
    let entra = request.entra_user()?;
    body::bind_empty(request.body)?;
    entra.require_one_of(&[PERMISSION]).map_err(Error::InvalidAccessToken)?;
    let identity = RawId::TeamsExtensionUser {
        cloud: Cloud::Public,
        resource: request.service.settings.resource.id,
        tenant: entra.tenant,
        object: entra.object,
    };
    let scopes = ScopeSet::of(&[Scope::Voip]).ok_or(Error::Internal("no scopes"))?;
    exchange(request, notes, BookName::TeamsExtension, &identity, &scopes).await
}
