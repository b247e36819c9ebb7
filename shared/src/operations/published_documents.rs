//! `GET /.well-known/jwks.json` (RFC 7517) and `GET /.well-known/openid-configuration` (OpenID Connect Discovery
//! section 4): what anyone needs to verify a token offline. Both come from the pointer record and the
//! settings alone: no secret is read, and nothing of the request is repeated.

use std::sync::Arc;

use super::OperationContext;
use crate::api::error::Error;
use crate::api::reply::{DiscoveryBody, Reply};
use crate::keys::pointer::PublishedKeys;
use crate::lifetime::KEY_SET_REUSE;
use crate::store::ReadRequest;

/// The public keys accepted now.
pub(super) async fn key_set(context: &OperationContext<'_>) -> Result<Reply, Error> {
    Ok(Reply::KeySet(published(context).await?))
}

/// Who issues, where the keys are, and which algorithms they have.
pub(super) async fn discovery(context: &OperationContext<'_>) -> Result<Reply, Error> {
    let keys = published(context).await?;
    let settings = &context.service.settings;
    Ok(Reply::Discovery(DiscoveryBody::new(&settings.resource.issuer, settings.hosts.public(), &keys)))
}

/// Anyone may ask, as often as they like: the pointer is read for it at most once in [`KEY_SET_REUSE`].
async fn published(context: &OperationContext<'_>) -> Result<Arc<PublishedKeys>, Error> {
    let service = context.service;
    let (cache, uptime) = (service.key_cache.published(), service.clock.uptime());
    if let Some(keys) = cache.recent(uptime, KEY_SET_REUSE) {
        return Ok(keys);
    }
    let pointer = service.store.read(ReadRequest::POINTER).await?.pointer;
    Ok(cache.keep(&pointer, uptime)?)
}
