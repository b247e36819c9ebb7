//! `POST /identities`: creates an identity and, on request, its first token. A custom id that names an identity gives
//! this identity again.

use super::state::{Purpose, RequestState};
use super::{OperationContext, TokenSpec};
use crate::api::body::CreateRequest;
use crate::api::error::Error;
use crate::api::reply::{CreatedBody, IdentityBody, Reply, TokenBody};
use crate::audit::AuditContext;
use crate::ids::{RawId, UserId};
use crate::lifetime::{Lifetime, TOMBSTONE};
use crate::store::custom_ids::{CustomId, CustomIdState, Profile};
use crate::store::{CreateOutcome, CreationId, IdentityState, NewIdentity, ReadRequest, Revision};
use crate::token::scope::ScopeSet;

/// How often a creation reads a custom id, if other requests create and delete identities with it in between.
const ATTEMPTS: usize = 4;

/// The token that the request asks for.
type Requested = Option<(ScopeSet, Lifetime)>;

pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let version = context.version()?;
    let body = if version.has_create_body() { context.body } else { &[] };
    let CreateRequest { custom_id, token } = CreateRequest::bind(body, version)?;
    if token.has_empty_scopes() {
        audit.no_token();
    }
    let requested = token.validate_optional()?;
    if let Some((scopes, _)) = &requested {
        audit.scopes(scopes);
    }
    if let Some(custom_id) = custom_id {
        return create_with_custom_id(context, audit, &custom_id, &requested).await;
    }
    let state = context.read_state(ReadRequest::POINTER, purpose(&requested)).await?;
    let profile = version.has_profile().then(Profile::default);
    match create(context, audit, &state, profile, &requested).await? {
        Some(reply) => Ok(reply),
        None => Err(Error::Internal("a minted identifier was taken")),
    }
}

/// Reads the custom id. Gives the identity that it names, or creates one if the custom id is free. Of several
/// creations at once, one creates the identity, and the others read the custom id again.
async fn create_with_custom_id(
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
    custom_id: &CustomId,
    requested: &Requested,
) -> Result<Reply, Error> {
    let key = custom_id.key(context.service.settings.resource.id);
    for _ in 0..ATTEMPTS {
        let state = context.read_state(ReadRequest::custom_id(key), purpose(requested)).await?;
        let reply = match &state.custom_id {
            CustomIdState::Names(identity) => {
                let reply = existing(context, audit, identity, requested).await?;
                if reply.is_none() {
                    let until = context.service.clock.now().saturating_add(TOMBSTONE);
                    context.service.store.free_custom_id(key, identity, until).await?;
                }
                reply
            }
            CustomIdState::Free(_) => {
                let profile = Profile { custom_id: Some(custom_id.clone()), last_token_issued_at: None };
                create(context, audit, &state, Some(profile), requested).await?
            }
        };
        if let Some(reply) = reply {
            return Ok(reply);
        }
    }
    Err(Error::Unavailable("other requests keep changing the custom id".into()))
}

/// The reply with an existing identity. `None` if it was deleted in the meantime.
async fn existing(
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
    identity: &RawId,
    requested: &Requested,
) -> Result<Option<Reply>, Error> {
    let state = context.read_state(ReadRequest::identity(identity), purpose(requested)).await?;
    audit.slot(state.slot);
    let IdentityState::Live(revision) = state.identity else { return Ok(None) };
    audit.identity(identity);
    let mut profile = state.profile.clone();
    let minted = mint(context, &state, identity, revision, requested)?;
    let token = match minted {
        Some((token, issued_at)) => {
            context.record_token(identity, profile.as_ref(), issued_at).await?;
            if let Some(profile) = &mut profile {
                profile.last_token_issued_at = profile.last_token_issued_at.max(Some(issued_at));
            }
            Some(token)
        }
        None => None,
    };
    Ok(Some(Reply::Created(CreatedBody::new(identity, profile.as_ref(), token))))
}

/// Creates an identity. The only write comes last, so that a refused token request leaves no identity. `None` if the
/// custom id has changed since the read, or the id was taken.
async fn create(
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
    state: &RequestState,
    profile: Option<Profile>,
    requested: &Requested,
) -> Result<Option<Reply>, Error> {
    audit.slot(state.slot);
    let mut new = new_identity(context);
    audit.identity(&new.id);
    let minted = mint(context, state, &new.id, Revision::FIRST, requested)?;
    let (token, issued_at) = minted.unzip();
    new.profile = profile.map(|profile| Profile { last_token_issued_at: issued_at, ..profile });
    if let CustomIdState::Free(last_creation) = state.custom_id {
        new.last_creation = last_creation;
    }
    match context.service.store.create(&new, context.service.clock.now()).await? {
        CreateOutcome::Created => {
            let reply = match context.version()?.has_create_body() {
                true => Reply::Created(CreatedBody::new(&new.id, new.profile.as_ref(), token)),
                false => Reply::Identity(IdentityBody::new(&new.id, None)),
            };
            Ok(Some(reply))
        }
        CreateOutcome::Taken => Ok(None),
    }
}

/// A new id and a new creation, without a profile.
fn new_identity(context: &OperationContext<'_>) -> NewIdentity {
    let (service, random) = (context.service, context.service.random.as_ref());
    let id = UserId::mint(service.settings.resource.id, service.clock.now(), random);
    NewIdentity::plain(id.into(), CreationId::random(random))
}

/// The requested token and its issue time.
fn mint(
    context: &OperationContext<'_>,
    state: &RequestState,
    identity: &RawId,
    revision: Revision,
    requested: &Requested,
) -> Result<Option<(TokenBody, i64)>, Error> {
    let Some((scopes, lifetime)) = requested else { return Ok(None) };
    let (issued_at, expires_at) = context.times_of(*lifetime);
    let spec = TokenSpec { scopes, issued_at, expires_at, teams: None };
    Ok(Some((context.mint(state, identity, revision, &spec)?, issued_at)))
}

fn purpose(requested: &Requested) -> Purpose {
    if requested.is_some() { Purpose::Mint } else { Purpose::Other }
}
