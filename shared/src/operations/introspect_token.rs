//! `POST /introspect` (RFC 7662): whether a token is good now, and what it permits. For services, who sign the
//! request as any other.

use super::Request;
use crate::api::body;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::store::ReadRequest;
use crate::token::verify::{Expected, UnconfirmedToken};

/// One read, which judges the caller and the token. A token that is not good is told from a good one, and not
/// why (RFC 7662 section 2.2); why is in the audit line.
pub(super) async fn run(request: &Request<'_>, notes: &mut AuditContext) -> Result<Reply, Error> {
    let service = request.service;
    let token = body::introspected_token(request.body)?;
    let last_seen = service.key_cache.published().last_seen();
    let expected = Expected::from(&service.settings.resource);
    let unconfirmed = UnconfirmedToken::of(&token, &expected, last_seen.as_deref(), service.clock.now());
    let identity = unconfirmed.as_ref().ok().map(UnconfirmedToken::identity);
    let session = service.open(request, ReadRequest { identity, book: None }, false).await?;
    notes.slot(session.slot);
    let published = service.key_cache.published().of(&session.pointer)?;
    let verified =
        unconfirmed.and_then(|unconfirmed| unconfirmed.confirm(&published, session.identity, service.clock.now()));
    match verified {
        Ok(token) => {
            notes.identity(&token.identity);
            notes.scopes(&token.scopes);
            Ok(Reply::Introspected(Some(Box::new(token))))
        }
        Err(fault) => {
            notes.inactive(fault);
            Ok(Reply::Introspected(None))
        }
    }
}
