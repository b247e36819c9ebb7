//! The pointer record: the version of each secret in force, and the public keys that are accepted now.
//!
//! Every mint and every verification reads it, together with the identity, in one strongly consistent read. So a change
//! of the pointer takes effect for every function at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::signing::{SigningKeys, VerifyingKey};
use super::{KeyId, KeyMaterialError, Slot};
use crate::jose::{Jwk, JwkSet};
use crate::secrets::VersionId;

/// The pointer record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Counts the changes of this record, from 1. A write is conditional on the generation before it.
    pub generation: u64,
    /// The number of identical copies of the record in the table.
    pub copies: u32,
    /// The version of the secret `access-keys` in force, and its document's sequence number.
    pub access_keys: VersionId,
    pub access_keys_sequence: u64,
    /// The version of the secret `signing-keys` in force, and its document's sequence number.
    pub signing_keys: VersionId,
    pub signing_keys_sequence: u64,
    /// The public keys that are accepted now.
    pub published: Published,
}

/// The public keys as the record stores them: JSON text, parsed only when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published(String);

/// One public key in the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedKey {
    /// The slot whose tokens the key verifies.
    pub slot: Slot,
    /// Time of the publication, in seconds since the epoch.
    pub published_at: i64,
    /// The key, with public members only.
    pub jwk: Jwk,
}

/// The parsed public keys.
pub struct PublishedKeys {
    keys: Vec<(Slot, VerifyingKey)>,
    set: JwkSet,
}

/// The published keys, kept parsed while the pointer publishes them. The cache needs no secret.
#[derive(Default)]
pub struct PublishedCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The keys of the newest generation seen.
    keys: Option<(u64, Published, Arc<PublishedKeys>)>,
    /// Uptime of the pointer read that produced `keys`, if that read was for the key set.
    read_at: Option<Duration>,
}

impl Published {
    /// The public halves of `keys`.
    #[must_use]
    pub fn of(keys: &SigningKeys, published_at: i64) -> Self {
        let entries =
            Slot::ALL.map(|slot| PublishedKey { slot, published_at, jwk: keys.of(slot).jwk().clone() });
        Self::from_entries(&entries)
    }

    /// The public halves of `keys`. A key that `previous` has too keeps its date.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when `previous` cannot be read.
    pub fn after(previous: &Self, keys: &SigningKeys, published_at: i64) -> Result<Self, KeyMaterialError> {
        let known = previous.entries()?;
        let entries = Slot::ALL.map(|slot| {
            let jwk = keys.of(slot).jwk();
            let same = known.iter().find(|entry| entry.jwk.kid == jwk.kid);
            let published_at = same.map_or(published_at, |entry| entry.published_at);
            PublishedKey { slot, published_at, jwk: jwk.clone() }
        });
        Ok(Self::from_entries(&entries))
    }

    /// The record's text for these entries.
    #[must_use]
    pub fn from_entries(entries: &[PublishedKey]) -> Self {
        Self(serde_json::to_string(entries).unwrap_or_default())
    }

    /// The text as the table stored it. [`Self::entries`] checks it.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text to store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The time of the oldest publication, in seconds since the epoch.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn oldest(&self) -> Result<i64, KeyMaterialError> {
        Ok(self.entries()?.iter().map(|entry| entry.published_at).min().unwrap_or_default())
    }

    /// The entries.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the text is not a list of published keys, one for each slot.
    pub fn entries(&self) -> Result<Vec<PublishedKey>, KeyMaterialError> {
        let entries: Vec<PublishedKey> = serde_json::from_str(&self.0)
            .map_err(|_| KeyMaterialError("the pointer's public keys are not the expected document"))?;
        let complete = Slot::ALL.iter().all(|slot| entries.iter().filter(|e| e.slot == *slot).count() == 1);
        if complete {
            Ok(entries)
        } else {
            Err(KeyMaterialError("the pointer does not name one key for each slot"))
        }
    }
}

impl PublishedKeys {
    /// Parses the record's keys.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when a key cannot be used, or two have one id.
    pub fn parse(published: &Published) -> Result<Self, KeyMaterialError> {
        let mut keys: Vec<(Slot, VerifyingKey)> = Vec::new();
        let mut set = JwkSet { keys: Vec::new() };
        for entry in published.entries()? {
            let key = VerifyingKey::from_jwk(&entry.jwk)?;
            if keys.iter().any(|(_, known)| known.id() == key.id()) {
                return Err(KeyMaterialError("two published keys have one id"));
            }
            keys.push((entry.slot, key));
            set.keys.push(entry.jwk);
        }
        Ok(Self { keys, set })
    }

    /// The key with this id.
    #[must_use]
    pub fn find(&self, id: &KeyId) -> Option<&VerifyingKey> {
        self.keys.iter().map(|(_, key)| key).find(|key| key.id() == id)
    }

    /// Whether the published keys are the public halves of `keys`, slot by slot.
    #[must_use]
    pub fn belong_to(&self, keys: &SigningKeys) -> bool {
        self.keys.iter().all(|(slot, key)| keys.of(*slot).id() == key.id())
    }

    /// The algorithms of the keys, each once.
    #[must_use]
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.keys.iter().map(|(_, key)| key.algorithm().as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The key set as RFC 7517 section 5 writes it.
    #[must_use]
    pub fn jwks(&self) -> &JwkSet {
        &self.set
    }
}

impl PublishedCache {
    /// The public keys that the pointer publishes.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the record cannot be used.
    pub fn of(&self, pointer: &Pointer) -> Result<Arc<PublishedKeys>, KeyMaterialError> {
        let mut kept = self.kept();
        if let Some((_, published, keys)) = &kept.keys
            && *published == pointer.published
        {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(PublishedKeys::parse(&pointer.published)?);
        // The pointer of a slow reader may be older than the cached one.
        if kept.keys.as_ref().is_none_or(|(generation, ..)| *generation < pointer.generation) {
            let keys = Arc::clone(&keys);
            *kept = Kept { keys: Some((pointer.generation, pointer.published.clone(), keys)), read_at: None };
        }
        Ok(keys)
    }

    /// The public keys that were seen last. The pointer may publish others by now, so they suffice to refuse a token, but
    /// not to accept one.
    #[must_use]
    pub fn last_seen(&self) -> Option<Arc<PublishedKeys>> {
        self.kept().keys.as_ref().map(|(.., keys)| Arc::clone(keys))
    }

    /// The public keys, if the pointer was read for the key set less than `age` before `uptime`.
    #[must_use]
    pub fn recent(&self, uptime: Duration, age: Duration) -> Option<Arc<PublishedKeys>> {
        let kept = self.kept();
        let is_recent = kept.read_at.is_some_and(|at| uptime.saturating_sub(at) < age);
        kept.keys.as_ref().filter(|_| is_recent).map(|(.., keys)| Arc::clone(keys))
    }

    /// The keys of a pointer that was read for the key set at `uptime`, kept for [`Self::recent`].
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the record cannot be used.
    pub fn keep(&self, pointer: &Pointer, uptime: Duration) -> Result<Arc<PublishedKeys>, KeyMaterialError> {
        let keys = self.of(pointer)?;
        let mut kept = self.kept();
        if kept.keys.as_ref().is_some_and(|(_, published, _)| *published == pointer.published) {
            kept.read_at = Some(uptime);
        }
        Ok(keys)
    }

    // A panic elsewhere cannot leave it half-written: every write is one assignment.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Algorithm;
    use crate::testing;

    #[test]
    fn published_keys_have_ids_and_match_private_keys() {
        let keys = testing::signing_keys(Algorithm::Es256, 0);
        let published = PublishedKeys::parse(&Published::of(&keys, 1)).unwrap();
        for slot in Slot::ALL {
            assert!(published.find(keys.of(slot).id()).is_some());
        }
        assert!(published.belong_to(&keys));
        let others = testing::signing_keys(Algorithm::Es256, 3);
        assert!(!published.belong_to(&others));
        assert!(published.find(others.of(Slot::Entra).id()).is_none());
    }

    #[test]
    fn a_slow_read_displaces_no_newer_keys() {
        let pointer = |generation: u64, first_key| Pointer {
            generation,
            copies: 1,
            access_keys: VersionId::new("a"),
            access_keys_sequence: 1,
            signing_keys: VersionId::new("s"),
            signing_keys_sequence: generation,
            published: Published::of(&testing::signing_keys(Algorithm::Es256, first_key), 1),
        };
        let (old, new) = (pointer(1, 0), pointer(2, 3));
        let (second, cache) = (Duration::from_secs(1), PublishedCache::default());
        cache.keep(&old, second).unwrap();
        let fresh = cache.keep(&new, second).unwrap();
        let stale = cache.keep(&old, second).unwrap();
        assert!(!Arc::ptr_eq(&stale, &fresh), "the slow reader gets the keys that it read");
        assert!(Arc::ptr_eq(&cache.recent(second, second).unwrap(), &fresh));
        assert!(Arc::ptr_eq(&cache.last_seen().unwrap(), &fresh));
        assert!(cache.recent(second * 2, second).is_none());
        cache.of(&pointer(3, 6)).unwrap();
        assert!(
            cache.recent(second, second).is_none(),
            "the read was not for the key set, so its time is unknown"
        );
    }

    #[test]
    fn a_record_without_one_key_for_each_slot_is_refused() {
        let keys = testing::signing_keys(Algorithm::Es256, 0);
        let mut entries = Published::of(&keys, 1).entries().unwrap();
        entries[2].slot = Slot::Primary;
        assert!(PublishedKeys::parse(&Published::from_entries(&entries)).is_err());
        entries.pop();
        assert!(PublishedKeys::parse(&Published::from_entries(&entries)).is_err());
        assert!(PublishedKeys::parse(&Published::from_stored("{}".to_owned())).is_err());
    }

    #[test]
    fn two_keys_with_one_id_are_refused() {
        let keys = testing::signing_keys(Algorithm::Es256, 0);
        let mut entries = Published::of(&keys, 1).entries().unwrap();
        entries[1].jwk = entries[0].jwk.clone();
        assert!(PublishedKeys::parse(&Published::from_entries(&entries)).is_err());
    }
}
