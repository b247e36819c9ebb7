//! The pointer record: the version of each secret in force, and the public keys that are accepted now.
//!
//! Every mint and every verification reads it, together with the identity, in one strongly consistent read. So a change
//! of the pointer takes effect for every function at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
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
    /// The public keys: those that are accepted now, and the standby keys.
    pub published: Published,
}

/// The public keys as the record stores them: JSON texts, parsed only when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    in_force: String,
    /// `None` in a record that a former release wrote. It ignores this text, so it can read the records of this one.
    standby: Option<String>,
}

/// One public key in the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedKey {
    /// The slot whose tokens the key verifies.
    pub slot: Slot,
    /// The time at which the key came into force, in seconds since the epoch.
    pub published_at: i64,
    /// The key, with public members only.
    pub jwk: Jwk,
}

/// One standby key in the record: the next scheduled rotation puts it in force. Verifiers that keep the key set for some
/// hours know it by then. Until then it verifies no token (decision record 0018).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StandbyKey {
    slot: Slot,
    jwk: Jwk,
}

/// The parsed public keys.
pub struct PublishedKeys {
    keys: Vec<(Slot, VerifyingKey)>,
    standby: Vec<(Slot, KeyId)>,
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
    ///
    /// # Errors
    /// [`KeyMaterialError`] when a standby key is unusable.
    pub fn of(keys: &SigningKeys, published_at: i64) -> Result<Self, KeyMaterialError> {
        Self::with_dates(&[], keys, published_at)
    }

    /// The public halves of `keys`. A key that `previous` has in force too keeps its date.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when `previous` cannot be read, or when a standby key is unusable.
    pub fn after(previous: &Self, keys: &SigningKeys, published_at: i64) -> Result<Self, KeyMaterialError> {
        Self::with_dates(&previous.entries()?, keys, published_at)
    }

    fn with_dates(
        known: &[PublishedKey],
        keys: &SigningKeys,
        published_at: i64,
    ) -> Result<Self, KeyMaterialError> {
        let entries = Slot::ALL.map(|slot| {
            let jwk = keys.of(slot).jwk();
            let same = known.iter().find(|entry| entry.jwk.kid == jwk.kid);
            let published_at = same.map_or(published_at, |entry| entry.published_at);
            PublishedKey { slot, published_at, jwk: jwk.clone() }
        });
        let standby = keys.standby()?.map(|standby| {
            let keys = Slot::ALL.map(|slot| StandbyKey { slot, jwk: standby.of(slot).jwk().clone() });
            serde_json::to_string(&keys).unwrap_or_default()
        });
        Ok(Self { standby, ..Self::from_entries(&entries) })
    }

    /// The record's text for these entries, without standby keys.
    #[must_use]
    pub fn from_entries(entries: &[PublishedKey]) -> Self {
        Self { in_force: serde_json::to_string(entries).unwrap_or_default(), standby: None }
    }

    /// The texts as the table stored them. [`PublishedKeys::parse`] checks them.
    #[must_use]
    pub fn from_stored(in_force: String, standby: Option<String>) -> Self {
        Self { in_force, standby }
    }

    /// The text of the keys in force, to store.
    #[must_use]
    pub fn in_force(&self) -> &str {
        &self.in_force
    }

    /// The text of the standby keys, to store.
    #[must_use]
    pub fn standby(&self) -> Option<&str> {
        self.standby.as_deref()
    }

    /// The time at which the oldest key came into force, in seconds since the epoch.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn oldest(&self) -> Result<i64, KeyMaterialError> {
        Ok(self.entries()?.iter().map(|entry| entry.published_at).min().unwrap_or_default())
    }

    /// The entries of the keys in force.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the text is not a list of published keys, one for each slot.
    pub fn entries(&self) -> Result<Vec<PublishedKey>, KeyMaterialError> {
        list(&self.in_force, |entry: &PublishedKey| entry.slot)
    }

    fn standby_entries(&self) -> Result<Vec<StandbyKey>, KeyMaterialError> {
        self.standby.as_ref().map_or(Ok(Vec::new()), |text| list(text, |entry: &StandbyKey| entry.slot))
    }
}

/// Parses a list of keys, one for each slot.
fn list<T: DeserializeOwned>(text: &str, slot_of: impl Fn(&T) -> Slot) -> Result<Vec<T>, KeyMaterialError> {
    let keys: Vec<T> = serde_json::from_str(text)
        .map_err(|_| KeyMaterialError("the pointer's public keys are not the expected document"))?;
    if Slot::ALL.iter().all(|slot| keys.iter().filter(|key| slot_of(key) == *slot).count() == 1) {
        Ok(keys)
    } else {
        Err(KeyMaterialError("the pointer does not name one key for each slot"))
    }
}

impl PublishedKeys {
    /// Parses the record's keys.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when a key cannot be used, or two have one id.
    pub fn parse(published: &Published) -> Result<Self, KeyMaterialError> {
        let mut parsed = Self { keys: Vec::new(), standby: Vec::new(), set: JwkSet { keys: Vec::new() } };
        for PublishedKey { slot, jwk, .. } in published.entries()? {
            let key = parsed.add(jwk)?;
            parsed.keys.push((slot, key));
        }
        for StandbyKey { slot, jwk } in published.standby_entries()? {
            let key = parsed.add(jwk)?;
            parsed.standby.push((slot, key.id().clone()));
        }
        Ok(parsed)
    }

    /// Adds a key to the key set.
    fn add(&mut self, jwk: Jwk) -> Result<VerifyingKey, KeyMaterialError> {
        let key = VerifyingKey::from_jwk(&jwk)?;
        if self.has(key.id()) {
            return Err(KeyMaterialError("two published keys have one id"));
        }
        self.set.keys.push(jwk);
        Ok(key)
    }

    /// Whether a key in force or a standby key has this id.
    #[must_use]
    pub fn has(&self, id: &KeyId) -> bool {
        self.find(id).is_some() || self.standby.iter().any(|(_, known)| known == id)
    }

    /// The key in force with this id. A standby key is not in force, so no token is accepted by it.
    #[must_use]
    pub fn find(&self, id: &KeyId) -> Option<&VerifyingKey> {
        self.keys.iter().map(|(_, key)| key).find(|key| key.id() == id)
    }

    /// The ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.set.keys.iter().filter_map(|key| key.kid.as_deref())
    }

    /// The id of the standby key of a slot.
    #[must_use]
    pub fn standby(&self, slot: Slot) -> Option<&KeyId> {
        self.standby.iter().find(|(known, _)| *known == slot).map(|(_, id)| id)
    }

    /// Whether the keys in force are the public halves of `keys`, slot by slot.
    #[must_use]
    pub fn belong_to(&self, keys: &SigningKeys) -> bool {
        self.keys.iter().all(|(slot, key)| keys.of(*slot).id() == key.id())
    }

    /// The algorithms of the keys in force, each once.
    #[must_use]
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.keys.iter().map(|(_, key)| key.algorithm().as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The key set as RFC 7517 section 5 writes it: the keys in force, then the standby keys.
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
        let published = PublishedKeys::parse(&Published::of(&keys, 1).unwrap()).unwrap();
        for slot in Slot::ALL {
            assert!(published.find(keys.of(slot).id()).is_some());
        }
        assert!(published.belong_to(&keys));
        let others = testing::signing_keys(Algorithm::Es256, 3);
        assert!(!published.belong_to(&others));
        assert!(published.find(others.of(Slot::Entra).id()).is_none());
    }

    #[test]
    fn standby_keys_are_in_the_key_set_and_verify_nothing() {
        let mut next = 3;
        let generate = || {
            next += 1;
            Ok(testing::signing_key(Algorithm::Es256, next - 1))
        };
        let keys = testing::signing_keys(Algorithm::Es256, 0).with_standby(generate).unwrap();
        let published = Published::of(&keys, 1).unwrap();
        let parsed = PublishedKeys::parse(&published).unwrap();
        let standby = keys.standby().unwrap().unwrap();
        let set: Vec<_> = parsed.jwks().keys.iter().map(|key| key.kid.clone().unwrap()).collect();
        for (place, slot) in Slot::ALL.into_iter().enumerate() {
            let id = standby.of(slot).id();
            assert!(parsed.find(id).is_none() && parsed.has(id));
            assert_eq!(parsed.standby(slot), Some(id));
            assert_eq!(
                (set[place].as_str(), set[place + 3].as_str()),
                (keys.of(slot).id().as_str(), id.as_str())
            );
        }
        assert!(parsed.belong_to(&keys));

        let promoted = keys.rotated(|| Ok(testing::signing_key(Algorithm::Es256, 99))).unwrap();
        let later = Published::after(&published, &promoted, 2).unwrap();
        assert!(later.entries().unwrap().iter().all(|entry| entry.published_at == 2), "in force since then");

        let twice = testing::signing_keys(Algorithm::Es256, 0)
            .with_standby(|| Ok(testing::signing_key(Algorithm::Es256, 0)));
        assert!(PublishedKeys::parse(&Published::of(&twice.unwrap(), 1).unwrap()).is_err(), "one id twice");
        for text in ["[]", "{}", ""] {
            let damaged = Published::from_stored(published.in_force().to_owned(), Some(text.to_owned()));
            assert!(PublishedKeys::parse(&damaged).is_err(), "{text}");
        }
    }

    #[test]
    fn stored_texts_give_the_same_keys() {
        let keys = testing::signing_keys(Algorithm::Es256, 0);
        let keys = keys.with_standby(|| Ok(testing::signing_key(Algorithm::Es256, 99))).unwrap();
        let published = Published::of(&keys, 1).unwrap();
        let standby = published.standby().map(str::to_owned);
        assert!(standby.is_some());
        assert!(Published::from_stored(published.in_force().to_owned(), standby) == published);
    }

    #[test]
    fn a_key_keeps_the_date_since_which_it_is_in_force() {
        let keys = testing::signing_keys(Algorithm::Es256, 0);
        let first = Published::of(&keys, 5).unwrap();
        let keys =
            keys.regenerated(Slot::Secondary, || Ok(testing::signing_key(Algorithm::Es256, 99))).unwrap();
        let later = Published::after(&first, &keys, 9).unwrap();
        let dates: Vec<_> = later.entries().unwrap().iter().map(|entry| entry.published_at).collect();
        assert_eq!(dates, [5, 9, 5]);
        assert_eq!((first.oldest().unwrap(), later.oldest().unwrap()), (5, 5));
        let parsed = PublishedKeys::parse(&later).unwrap();
        assert_eq!(parsed.algorithms(), ["ES256"]);
        assert!(parsed.ids().take(3).eq(Slot::ALL.map(|slot| keys.of(slot).id().as_str())));
        assert!(parsed.ids().skip(3).eq(Slot::ALL.map(|slot| parsed.standby(slot).unwrap().as_str())));
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
            published: Published::of(&testing::signing_keys(Algorithm::Es256, first_key), 1).unwrap(),
        };
        let (old, new) = (pointer(1, 0), pointer(2, 3));
        let (second, cache) = (Duration::from_secs(1), PublishedCache::default());
        cache.keep(&old, second).unwrap();
        assert!(cache.recent(second, second).is_some());
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
        let mut entries = Published::of(&keys, 1).unwrap().entries().unwrap();
        entries[2].slot = Slot::Primary;
        assert!(PublishedKeys::parse(&Published::from_entries(&entries)).is_err());
        entries.pop();
        assert!(PublishedKeys::parse(&Published::from_entries(&entries)).is_err());
        assert!(PublishedKeys::parse(&Published::from_stored("{}".to_owned(), None)).is_err());
    }

    #[test]
    fn two_keys_with_one_id_are_refused() {
        let keys = testing::signing_keys(Algorithm::Es256, 0);
        let mut entries = Published::of(&keys, 1).unwrap().entries().unwrap();
        entries[1].jwk = entries[0].jwk.clone();
        assert!(PublishedKeys::parse(&Published::from_entries(&entries)).is_err());
    }
}
