//! `POST /access/entra/:exchangeAccessToken`: an Entra user's token for one of ours.

use super::{Request, TokenSpec, under};
use crate::assignments::BookName;
use crate::audit::Notes;
use crate::authn::Denial;
use crate::authn::entra::{EntraFault, EntraToken};
use crate::body;
use crate::error::Error;
use crate::ids::{Cloud, RawId};
use crate::reply::{CreatedBody, Reply};
use crate::scope::{Scope, ScopeSet};
use crate::store::Wanted;

/// The Entra permission that gives each scope (docs/wire-contract.md#scopes).
const PERMISSIONS: [(&str, Scope); 5] = [
    ("Chat", Scope::Chat),
    ("VoIP", Scope::Voip),
    ("Chat.Join", Scope::ChatJoin),
    ("Chat.Join.Limited", Scope::ChatJoinLimited),
    ("VoIP.Join", Scope::VoipJoin),
];

pub(super) async fn run(request: &Request<'_>, notes: &mut Notes) -> Result<Reply, Error> {
    let entra = request.entra_user()?;
    body::bind_empty(request.body)?;
    let identity = RawId::EntraUser {
        cloud: Cloud::Public,
        resource: request.service.settings.resource.id,
        tenant: entra.tenant,
        object: entra.object,
    };
    entra
        .require_one_of(&PERMISSIONS.map(|(permission, _)| permission))
        .map_err(Error::InvalidAccessToken)?;
    let scopes = scopes_of(entra).ok_or(Error::InvalidAccessToken(EntraFault::Permission))?;
    exchange(request, notes, BookName::Entra, &identity, &scopes).await
}

fn scopes_of(entra: &EntraToken) -> Option<ScopeSet> {
    let given =
        PERMISSIONS.iter().filter(|(permission, _)| entra.permissions.iter().any(|held| held == permission));
    ScopeSet::of(&given.map(|(_, scope)| *scope).collect::<Vec<_>>())
}

/// Gives the caller, if assigned, a token for the identity that is theirs: the same one every time.
pub(super) async fn exchange(
    request: &Request<'_>,
    notes: &mut Notes,
    book: BookName,
    identity: &RawId,
    scopes: &ScopeSet,
) -> Result<Reply, Error> {
    let entra = request.entra_user()?;
    notes.identity(identity);
    notes.scopes(scopes);
    let wanted = Wanted { identity: Some(identity), book: Some(book) };
    let session = request.service.open(request, wanted, true).await?;
    if !session.book.admits(entra) {
        return Err(Denial::Unassigned.into());
    }
    let revision = request.revision_of(&session, identity).await?;
    let (issued_at, expires_at) = under(entra, request.service.clock.now().unix_timestamp())?;
    let spec = TokenSpec { scopes, issued_at, expires_at, teams: None };
    let token = request.mint(&session, identity, revision, &spec)?;
    Ok(Reply::Exchanged(CreatedBody::new(identity, Some(token))))
}
