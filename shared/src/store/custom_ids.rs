//! Custom ids: names that the caller gives to identities. One custom id names at most one identity.
//!
//! Each custom id has one record. It is written in the transaction that makes the identity, and it becomes free in the
//! transaction that deletes the identity. Decision record 0015 gives the reasons.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

use super::CreationId;
use crate::ids::{RawId, ResourceId};

/// A custom id: 1 to 256 characters. It may be an e-mail address, so it is personal data: it has no `Display`, and
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomId(String);

/// The key of a custom id's record: a SHA-256 hash of the resource and the custom id. A person that can guess a custom
/// id can compute its hash, so `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CustomIdKey([u8; 32]);

/// The stored state of a custom id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomIdState {
    /// The custom id names no identity. The creation of its last identity is there until the record expires.
    Free(Option<CreationId>),
    /// The custom id names this identity.
    Names(RawId),
}

/// The members that an identity of the version 2025-03-02-preview has in addition to its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub custom_id: Option<CustomId>,
    /// Seconds since the epoch. `None` if the identity never had a token.
    pub last_token_issued_at: Option<i64>,
}

/// The text does not have 1 to 256 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a custom id has 1 to {} characters", CustomId::MAX_CHARACTERS)]
pub struct CustomIdLengthError;

impl CustomId {
    /// Most characters, counted as Unicode scalar values.
    pub const MAX_CHARACTERS: usize = 256;

    /// The text, for the store and for a reply to the caller.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The key of the record in this resource.
    #[must_use]
    pub fn key(&self, resource: ResourceId) -> CustomIdKey {
        let mut hash = digest::Context::new(&digest::SHA256);
        // A GUID has a fixed length, so no two pairs give the same bytes.
        hash.update(resource.to_string().as_bytes());
        hash.update(self.0.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        CustomIdKey(key)
    }
}

impl FromStr for CustomId {
    type Err = CustomIdLengthError;

    fn from_str(text: &str) -> Result<Self, CustomIdLengthError> {
        let is_valid = (1..=Self::MAX_CHARACTERS).contains(&text.chars().count());
        if is_valid { Ok(Self(text.to_owned())) } else { Err(CustomIdLengthError) }
    }
}

impl fmt::Debug for CustomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomId")
    }
}

impl fmt::Debug for CustomIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomIdKey")
    }
}

impl CustomIdKey {
    /// 64 hexadecimal digits, for the store.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn custom_id_has_1_to_256_characters() {
        for text in ["a".to_owned(), " ".to_owned(), "x".repeat(256), "\u{1f600}".repeat(256)] {
            assert_eq!(text.parse::<CustomId>().map(|id| id.expose().to_owned()), Ok(text));
        }
        for text in [String::new(), "x".repeat(257), "\u{e9}".repeat(257)] {
            assert_eq!(text.parse::<CustomId>(), Err(CustomIdLengthError));
        }
    }

    #[test]
    fn key_depends_on_resource_and_every_character() {
        let [one, two] = [1, 2].map(|n| ResourceId::new(Uuid::from_u128(n)));
        let key = |text: &str, resource| text.parse::<CustomId>().unwrap().key(resource);
        assert!(key("alice", one) == key("alice", one));
        for (text, resource) in [("alice", two), ("Alice", one), ("alice ", one), ("alic\u{e9}", one)] {
            assert!(key(text, resource) != key("alice", one), "{text}");
        }
        assert_eq!(key("alice", one).to_hex().len(), 64);
    }

    #[test]
    fn debug_output_shows_no_custom_id() {
        let custom_id: CustomId = "alice@contoso.com".parse().unwrap();
        let key = custom_id.key(ResourceId::new(Uuid::nil()));
        let profile = Profile { custom_id: Some(custom_id), last_token_issued_at: None };
        let shown = format!("{profile:?} {key:?}");
        assert!(!shown.contains("alice") && !shown.contains(&key.to_hex()[..6]), "{shown}");
    }
}
