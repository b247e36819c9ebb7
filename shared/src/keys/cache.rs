//! The key cache: keys are loaded by the version id that the pointer names, and kept parsed while it names them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::KeyMaterialError;
use super::access::AccessKeys;
use super::pointer::{Pointer, PublishedCache};
use super::signing::SigningKeys;
use crate::lifetime::KEY_REFRESH_INTERVAL;
use crate::secrets::{SecretName, SecretStore, SecretStoreError, VersionId};

/// Keys in memory, each with the version from which it was loaded. A caller names the version that it needs. The
/// exception is the first check of a signature, which uses the cached access keys and costs no I/O.
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

/// Keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyLoadError {
    /// A document is damaged, or the private and public halves differ. No token is signed with such keys.
    #[error("unusable key: {0}")]
    Unusable(#[from] KeyMaterialError),
    /// The secret store did not return the version.
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

    /// The access keys that were loaded last. The pointer may name others by now.
    #[must_use]
    pub fn cached_access(&self) -> Option<(VersionId, Arc<AccessKeys>)> {
        self.cache().access.clone()
    }

    /// The access keys that the pointer names.
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

    /// The signing keys that the pointer names. Their public halves are the published ones.
    ///
    /// # Errors
    /// [`KeyLoadError`] when the version cannot be read or used, or the halves differ.
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

    /// The public keys. They need no secret.
    #[must_use]
    pub fn published(&self) -> &PublishedCache {
        &self.published
    }

    /// Waits for the refresh that is under way, if any, and begins another one.
    pub(crate) async fn begin_refresh(&self) -> async_lock::MutexGuard<'_, ()> {
        self.refreshing.lock().await
    }

    /// Whether a failed signature may cause a refresh now. It may not within [`KEY_REFRESH_INTERVAL`] of a refresh that
    /// found the same keys.
    #[must_use]
    pub(crate) fn may_refresh(&self, uptime: Duration) -> bool {
        let last = self.cache().last_fruitless_refresh;
        last.is_none_or(|at| uptime.saturating_sub(at) >= KEY_REFRESH_INTERVAL)
    }

    /// A refresh found the same keys.
    pub(crate) fn refreshed_without_change(&self, uptime: Duration) {
        self.cache().last_fruitless_refresh = Some(uptime);
    }

    // A panic elsewhere cannot leave the cache half-written: every write is one assignment.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
