//! `GET /.well-known/jwks.json` (RFC 7517) and `GET /.well-known/openid-configuration` (OpenID Connect Discovery
//! section 4): the public documents for the offline verification of tokens.
//!
//! Both come only from the pointer record and the settings. No secret is read, and the reply repeats no part of the
//! request.

use std::sync::Arc;

use super::OperationContext;
use crate::api::error::Error;
use crate::api::reply::{DiscoveryBody, Reply};
use crate::keys::pointer::PublishedKeys;
use crate::lifetime::KEY_SET_REUSE;
use crate::store::ReadRequest;

/// The public keys that are accepted now.
pub(super) async fn key_set(context: &OperationContext<'_>) -> Result<Reply, Error> {
    Ok(Reply::KeySet(published(context).await?))
}

/// The issuer, the address of the key set, and the algorithms of the keys.
pub(super) async fn discovery(context: &OperationContext<'_>) -> Result<Reply, Error> {
    let keys = published(context).await?;
    let settings = &context.service.settings;
    Ok(Reply::Discovery(DiscoveryBody::new(&settings.resource.issuer, settings.hosts.public(), &keys)))
}

/// The routes need no authentication, so the pointer is read at most once per [`KEY_SET_REUSE`].
async fn published(context: &OperationContext<'_>) -> Result<Arc<PublishedKeys>, Error> {
    let service = context.service;
    let (cache, uptime) = (service.key_cache.published(), service.clock.uptime());
    if let Some(keys) = cache.recent(uptime, KEY_SET_REUSE) {
        return Ok(keys);
    }
    let pointer = service.store.read(ReadRequest::POINTER).await?.pointer;
    Ok(cache.keep(&pointer, uptime)?)
}
