//! `POST /introspect` (RFC 7662): tells a service whether a token is active, and which capabilities it has.

use super::OperationContext;
use super::state::Purpose;
use crate::api::body;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::authn::Caller;
use crate::store::ReadRequest;
use crate::token::verify::{Expected, UnconfirmedToken};

/// One read confirms both the caller and the token. The reply for an inactive token does not contain the cause
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
    let unconfirmed =
        UnconfirmedToken::of(&token, &expected, last_seen.as_deref(), service.token_clock.now());
    let identity = unconfirmed.as_ref().ok().map(UnconfirmedToken::identity);
    let state = context.read_state(ReadRequest { identity, ..ReadRequest::POINTER }, Purpose::Other).await?;
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
