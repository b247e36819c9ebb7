//! `POST /access/entra/:exchangeAccessToken`: exchanges an Entra user's token for a token of this service.

use super::state::Purpose;
use super::{OperationContext, TokenSpec, under};
use crate::api::body;
use crate::api::error::Error;
use crate::api::reply::{CreatedBody, Reply};
use crate::audit::AuditContext;
use crate::authn::Denial;
use crate::authn::entra::{EntraToken, EntraTokenError};
use crate::ids::{Cloud, RawId};
use crate::store::ReadRequest;
use crate::store::assignments::AssignmentKind;
use crate::token::scope::{Scope, ScopeSet};

/// The Entra permission that gives each scope (docs/wire-contract.md#scopes).
const PERMISSIONS: [(&str, Scope); 5] = [
    ("Chat", Scope::Chat),
    ("VoIP", Scope::Voip),
    ("Chat.Join", Scope::ChatJoin),
    ("Chat.Join.Limited", Scope::ChatJoinLimited),
    ("VoIP.Join", Scope::VoipJoin),
];

pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let entra = context.entra_user()?;
    body::bind_empty(context.body)?;
    let identity = RawId::EntraUser {
        cloud: Cloud::Public,
        resource: context.service.settings.resource.id,
        tenant: entra.tenant,
        object: entra.object,
    };
    entra
        .require_one_of(&PERMISSIONS.map(|(permission, _)| permission))
        .map_err(Error::InvalidAccessToken)?;
    let scopes = scopes_of(entra).ok_or(Error::InvalidAccessToken(EntraTokenError::Permission))?;
    exchange(context, audit, AssignmentKind::Entra, &identity, &scopes).await
}

fn scopes_of(entra: &EntraToken) -> Option<ScopeSet> {
    let given =
        PERMISSIONS.iter().filter(|(permission, _)| entra.permissions.iter().any(|held| held == permission));
    ScopeSet::of(&given.map(|(_, scope)| *scope).collect::<Vec<_>>())
}

/// Gives an assigned caller a token. The identity is the same in every exchange of the caller.
pub(super) async fn exchange(
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
    kind: AssignmentKind,
    identity: &RawId,
    scopes: &ScopeSet,
) -> Result<Reply, Error> {
    let entra = context.entra_user()?;
    audit.identity(identity);
    audit.scopes(scopes);
    let keys = kind.keys_of(entra);
    let read = ReadRequest { assignments: &keys, ..ReadRequest::identity(identity) };
    let state = context.read_state(read, Purpose::Mint).await?;
    let mut assignments = state.assignments.iter().flat_map(|record| &record.assignments);
    if !assignments.any(|assignment| assignment.admits(entra)) {
        return Err(Denial::Unassigned.into());
    }
    let revision = context.revision_of(&state, identity).await?;
    let (issued_at, expires_at) = under(entra, context.service.token_clock.now().unix_timestamp())?;
    let spec = TokenSpec { scopes, issued_at, expires_at, teams: None };
    let token = context.mint(&state, identity, revision, &spec)?;
    Ok(Reply::Exchanged(CreatedBody::new(identity, None, Some(token))))
}
