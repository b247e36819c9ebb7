//! The key cache: parsed keys, each loaded by the version id in the pointer and used while the pointer names that
//! version.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::KeyMaterialError;
use super::access::AccessKeys;
use super::pointer::{Pointer, PublishedCache};
use super::signing::SigningKeys;
use crate::lifetime::KEY_REFRESH_INTERVAL;
use crate::secrets::VersionId;
use crate::secrets::{SecretName, SecretStore, SecretStoreError};

/// Keys in memory, each with the version that it was loaded from. Every read names a version, with one exception:
/// [`KeyCache::cached_access`] serves the first check of a signature, which costs no I/O.
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

/// The keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyLoadError {
    /// A document is damaged, or the private and public halves differ. Signing is refused.
    #[error("a key is unusable: {0}")]
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

    /// The access keys that were loaded last, without a comparison with the current pointer.
    #[must_use]
    pub fn cached_access(&self) -> Option<(VersionId, Arc<AccessKeys>)> {
        self.cache().access.clone()
    }

    /// The access keys of the version in the pointer.
    ///
    /// # Errors
    /// [`KeyLoadError`] when the version cannot be read or its keys cannot be used.
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

    /// The signing keys of the version in the pointer. Their public halves are compared with the published keys.
    ///
    /// # Errors
    /// [`KeyLoadError`] when the version cannot be read, its keys cannot be used, or the halves differ.
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
            return Err(KeyMaterialError(
                "the signing keys do not match the public keys in the pointer record",
            )
            .into());
        }
        self.cache().signing = Some((pointer.signing_keys.clone(), Arc::clone(&keys)));
        Ok(keys)
    }

    /// The cache of the public keys. It reads no secret.
    #[must_use]
    pub fn published(&self) -> &PublishedCache {
        &self.published
    }

    /// Begins a refresh of the keys. Waits for a refresh in progress, because one refresh runs at a time.
    pub(crate) async fn begin_refresh(&self) -> async_lock::MutexGuard<'_, ()> {
        self.refreshing.lock().await
    }

    /// Whether a failed signature may cause a refresh now. It may not within [`KEY_REFRESH_INTERVAL`] after a refresh
    /// without a change.
    #[must_use]
    pub(crate) fn may_refresh(&self, uptime: Duration) -> bool {
        let last = self.cache().last_fruitless_refresh;
        last.is_none_or(|at| uptime.saturating_sub(at) >= KEY_REFRESH_INTERVAL)
    }

    /// Records that a refresh at `uptime` found the keys unchanged.
    pub(crate) fn refreshed_without_change(&self, uptime: Duration) {
        self.cache().last_fruitless_refresh = Some(uptime);
    }

    // A poisoned lock is safe to use: every write is one assignment, so a panic leaves no partial value.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
