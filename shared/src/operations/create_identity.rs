//! `POST /identities`: creates an identity and, on request, its first token.

use super::state::Purpose;
use super::{OperationContext, TokenSpec};
use crate::api::body::TokenRequest;
use crate::api::error::Error;
use crate::api::reply::{CreatedBody, Reply};
use crate::audit::AuditContext;
use crate::ids::{RawId, UserId};
use crate::store::{CreateOutcome, CreationId, ReadRequest, Revision};

/// The only write comes last, so that a refused token request leaves no identity.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let service = context.service;
    let request = TokenRequest::bind_create(context.body, context.version()?)?;
    if request.has_empty_scopes() {
        audit.no_token();
    }
    let token = request.validate_optional()?;
    if let Some((scopes, _)) = &token {
        audit.scopes(scopes);
    }
    let purpose = if token.is_some() { Purpose::Mint } else { Purpose::Other };
    let state = context.read_state(ReadRequest::POINTER, purpose).await?;
    audit.slot(state.slot);
    let now = service.clock.now();
    let identity: RawId = UserId::mint(service.settings.resource.id, now, service.random.as_ref()).into();
    audit.identity(&identity);
    let access_token = match &token {
        Some((scopes, lifetime)) => {
            let (issued_at, expires_at) = context.times_of(*lifetime);
            let spec = TokenSpec { scopes, issued_at, expires_at, teams: None };
            Some(context.mint(&state, &identity, Revision::FIRST, &spec)?)
        }
        None => None,
    };
    let creation = CreationId::random(service.random.as_ref());
    match service.store.create(&identity, creation, now).await? {
        CreateOutcome::Created => Ok(Reply::Created(CreatedBody::new(&identity, access_token))),
        CreateOutcome::Taken => Err(Error::Internal("a minted identifier was taken")),
    }
}
