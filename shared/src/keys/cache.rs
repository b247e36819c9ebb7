//! The key key cache: keys loaded by the version id the pointer names, kept parsed while it still names them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::KeyMaterialError;
use super::access::AccessKeys;
use super::pointer::{Pointer, PublishedCache};
use super::signing::SigningKeys;
use crate::lifetime::KEY_REFRESH_INTERVAL;
use crate::secrets::VersionId;
use crate::secrets::{SecretName, SecretStore, SecretStoreError};

/// Keys in memory, each with the version it was loaded from. Never asked without naming a version, save
/// for the first look at a signature, which costs no I/O.
pub struct KeyCache {
    secret_store: Arc<dyn SecretStore>,
    published: PublishedCache,
    cache: Mutex<Cache>,
    refreshing: async_lock::Mutex<()>,
}

#[derive(Default)]
struct Cache {
    access: Option<(VersionId, Arc<AccessKeys>)>,
    signing: Option<(VersionId, Arc<SigningKeys>)>,
    last_fruitless_refresh: Option<Duration>,
}

/// Keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyLoadError {
    /// A document is damaged, or private and public halves disagree: signing is refused.
    #[error("unusable key: {0}")]
    Unusable(#[from] KeyMaterialError),
    /// The secret store cannot give the version.
    #[error(transparent)]
    SecretStore(#[from] SecretStoreError),
}

impl KeyCache {
    /// An empty key cache over a secret store.
    #[must_use]
    pub fn new(secret_store: Arc<dyn SecretStore>) -> Self {
        Self {
            secret_store,
            published: PublishedCache::default(),
            cache: Mutex::default(),
            refreshing: async_lock::Mutex::new(()),
        }
    }

    /// The access keys last loaded, whatever the pointer says by now.
    #[must_use]
    pub fn cached_access(&self) -> Option<(VersionId, Arc<AccessKeys>)> {
        self.cache().access.clone()
    }

    /// The access keys the pointer names.
    ///
    /// # Errors
    /// [`KeyLoadError`] when the version cannot be read or used.
    pub async fn access(&self, pointer: &Pointer) -> Result<Arc<AccessKeys>, KeyLoadError> {
        if let Some((version, keys)) = &self.cache().access
            && *version == pointer.access_keys
        {
            return Ok(Arc::clone(keys));
        }
        let document = self.secret_store.read(SecretName::AccessKeys, &pointer.access_keys).await?;
        let keys = Arc::new(AccessKeys::parse(&document)?);
        self.cache().access = Some((pointer.access_keys.clone(), Arc::clone(&keys)));
        Ok(keys)
    }

    /// The signing keys the pointer names, their public halves compared with the published ones.
    ///
    /// # Errors
    /// [`KeyLoadError`] when the version cannot be read or used, or the halves disagree.
    pub async fn signing(&self, pointer: &Pointer) -> Result<Arc<SigningKeys>, KeyLoadError> {
        let published = self.published.of(pointer)?;
        let cached = self.cache().signing.clone();
        if let Some((version, keys)) = cached
            && version == pointer.signing_keys
            && published.belong_to(&keys)
        {
            return Ok(keys);
        }
        let document = self.secret_store.read(SecretName::SigningKeys, &pointer.signing_keys).await?;
        let keys = Arc::new(SigningKeys::parse(&document)?);
        if !published.belong_to(&keys) {
            return Err(KeyMaterialError("the signing keys are not those the pointer publishes").into());
        }
        self.cache().signing = Some((pointer.signing_keys.clone(), Arc::clone(&keys)));
        Ok(keys)
    }

    /// The public keys, of which no secret is read.
    #[must_use]
    pub fn published(&self) -> &PublishedCache {
        &self.published
    }

    /// Waits for the look at the pointer that is under way, if one is, and begins another.
    pub(crate) async fn begin_refresh(&self) -> async_lock::MutexGuard<'_, ()> {
        self.refreshing.lock().await
    }

    /// Whether a failed signature may cause a look now: not within [`KEY_REFRESH_INTERVAL`] of one that
    /// found nothing new.
    #[must_use]
    pub(crate) fn may_refresh(&self, uptime: Duration) -> bool {
        let vain = self.cache().last_fruitless_refresh;
        vain.is_none_or(|at| uptime.saturating_sub(at) >= KEY_REFRESH_INTERVAL)
    }

    /// A look found the keys unchanged.
    pub(crate) fn refreshed_without_change(&self, uptime: Duration) {
        self.cache().last_fruitless_refresh = Some(uptime);
    }

    // A panic elsewhere cannot leave the cache half-written: every write is one assignment.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
