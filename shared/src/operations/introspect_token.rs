//! `POST /introspect` (RFC 7662): tells a service whether a token is active, and which capabilities it has.

use super::OperationContext;
use super::state::{Purpose, RequestState};
use crate::api::body;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::authn::Caller;
use crate::store::ReadRequest;
use crate::token::verify::{Expected, TokenError, UnconfirmedToken};

/// One read confirms both the caller and the token. A token of a key that was not seen yet costs a read more, because the
/// first one names no identity. The reply for an inactive token does not contain the cause
/// (RFC 7662 section 2.2). The audit line does.
pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let service = context.service;
    let form = body::check_form(context.headers).and_then(|()| body::introspected_token(context.body));
    let token = match form {
        Ok(token) => token,
        Err(error) => return Err(service.after_credential(context.caller, error, audit).await),
    };
    let last_seen = service.key_cache.published().last_seen();
    let expected = Expected::from(&service.settings.resource);
    let mut unconfirmed =
        UnconfirmedToken::of(&token, &expected, last_seen.as_deref(), service.token_clock.now());
    let mut state = read_for(context, &unconfirmed).await?;
    if let Ok(token) = &mut unconfirmed
        && token.signed_identity().is_none()
    {
        let published = service.key_cache.published().of(&state.pointer)?;
        match token.check_signature(&published) {
            Ok(()) => state = read_for(context, &unconfirmed).await?,
            Err(cause) => unconfirmed = Err(cause),
        }
    }
    audit.slot(state.slot);
    if let Caller::ResourceServer(presented) = context.caller {
        audit.resource_server(&presented.id);
    }
    let published = service.key_cache.published().of(&state.pointer)?;
    let verified = unconfirmed
        .and_then(|unconfirmed| unconfirmed.confirm(&published, state.identity, service.token_clock.now()));
    match verified {
        Ok(token) => {
            audit.identity(&token.identity);
            audit.scopes(&token.claims.scopes);
            Ok(Reply::Introspected(Some(Box::new(token))))
        }
        Err(cause) => {
            audit.inactive(cause);
            Ok(Reply::Introspected(None))
        }
    }
}

/// Reads the state of a token's identity, if the signature is verified, and confirms the caller.
async fn read_for(
    context: &OperationContext<'_>,
    token: &Result<UnconfirmedToken<'_>, TokenError>,
) -> Result<RequestState, Error> {
    let identity = token.as_ref().ok().and_then(UnconfirmedToken::signed_identity);
    context.read_state(ReadRequest { identity, ..ReadRequest::POINTER }, Purpose::Other).await
}
