//! Credentials of resource servers. A resource server asks whether tokens are active and reads the revocation feed. It may do
//! nothing else.
//!
//! A credential is a name, which is also its id, and one secret of 256 random bits. During a roll-over it has two
//! secrets. The store holds the SHA-256 of a secret, and never the secret. Decision record 0019 gives the reasons.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::StoreError;
use crate::runtime::Random;

/// Most credentials of one resource.
pub const MAX_RESOURCE_SERVERS: usize = 20;

/// The name of a resource server: 1 to 32 lower-case letters, digits and inner hyphens. It is the client id of HTTP Basic,
/// and it is not secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ResourceServerId(String);

/// The text is not the name of a resource server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name of a resource server has 1 to 32 lower-case letters, digits and inner hyphens, like chat-api"
)]
pub struct MalformedResourceServerIdError;

/// A secret in clear text: 43 characters of base64url. It exists only between its generation and the answer to the
/// operator.
pub struct ResourceServerSecret(Zeroizing<String>);

/// The SHA-256 of a secret. A secret has 256 random bits, so no search finds it from its hash. The hash needs no
/// salt.
#[derive(Clone)]
pub struct SecretHash([u8; 32]);

/// One secret of a credential, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    pub sha256: SecretHash,
    /// Seconds since the epoch.
    pub created_at: i64,
}

/// The secrets of one resource server, oldest first. A server has one secret, two during a roll-over, and no secret after
/// its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credential(Vec<StoredSecret>);

/// Every credential of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceServers {
    /// Counts the changes, from 1. 0 before the first change.
    pub version: u64,
    pub credentials: BTreeMap<ResourceServerId, Credential>,
}

/// A change by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceServerChange {
    /// Adds a credential with one secret.
    Add,
    /// Adds a second secret. A repetition replaces the second one, so the first one stays until the roll-over ends.
    Rotate,
    /// Ends a roll-over: only the newest secret stays.
    FinishRotation,
    /// Removes the credential.
    Remove,
}

/// A change that was refused, or whose effect is unclear.
#[derive(Debug, thiserror::Error)]
pub enum ResourceServerError {
    #[error("the resource server {0} has a credential already; rotate its secret, or remove it first")]
    Exists(ResourceServerId),
    #[error("there is no resource server {0}; list them, or add it")]
    Unknown(ResourceServerId),
    #[error("there are {MAX_RESOURCE_SERVERS} resource servers already; remove one first")]
    TooMany,
    #[error("other changes kept coming first; this one changed nothing, so repeat it")]
    Conflict,
    #[error("the effect is unclear; list the resource servers, and repeat the call")]
    Store(#[from] StoreError),
}

/// The outcome of a write of the credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceServersWriteOutcome {
    Changed,
    /// The stored version is not the one before.
    Conflict,
}

/// Changes the credentials of resource servers, for operators.
#[async_trait]
pub trait ResourceServerWriter: Send + Sync {
    /// All credentials, strongly consistent.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn resource_servers(&self) -> Result<ResourceServers, StoreError>;

    /// Writes `next` and the record of the resource server that it changes, both or none, if the stored version is the
    /// one before `next.version`. So an attempt that arrives late changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn write_resource_servers(
        &self,
        next: &ResourceServers,
        changed: &ResourceServerId,
        now: OffsetDateTime,
    ) -> Result<ResourceServersWriteOutcome, StoreError>;
}

impl ResourceServers {
    /// The credentials after a change. `fresh` is the new secret of an addition or a rotation.
    pub(crate) fn after(
        &self,
        id: &ResourceServerId,
        change: ResourceServerChange,
        fresh: &StoredSecret,
    ) -> Result<Self, ResourceServerError> {
        let mut credentials = self.credentials.clone();
        let unknown = || ResourceServerError::Unknown(id.clone());
        match change {
            ResourceServerChange::Add => {
                if credentials.contains_key(id) {
                    return Err(ResourceServerError::Exists(id.clone()));
                }
                if credentials.len() >= MAX_RESOURCE_SERVERS {
                    return Err(ResourceServerError::TooMany);
                }
                credentials.insert(id.clone(), Credential(vec![fresh.clone()]));
            }
            ResourceServerChange::Rotate => {
                let Credential(secrets) = credentials.get_mut(id).ok_or_else(unknown)?;
                secrets.truncate(1);
                secrets.push(fresh.clone());
            }
            ResourceServerChange::FinishRotation => {
                let Credential(secrets) = credentials.get_mut(id).ok_or_else(unknown)?;
                secrets.drain(..secrets.len().saturating_sub(1));
            }
            ResourceServerChange::Remove => drop(credentials.remove(id).ok_or_else(unknown)?),
        }
        Ok(Self { version: self.version.saturating_add(1), credentials })
    }
}

impl ResourceServerChange {
    /// The change's name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add_resource_server",
            Self::Rotate => "rotate_resource_server",
            Self::FinishRotation => "finish_resource_server_rotation",
            Self::Remove => "remove_resource_server",
        }
    }
}

impl Credential {
    /// Whether a presented secret has the hash of one of the secrets. Every secret is compared, each in constant time.
    #[must_use]
    pub fn admits(&self, presented: &SecretHash) -> bool {
        self.0.iter().fold(false, |admitted, secret| admitted | (secret.sha256 == *presented))
    }

    /// The secrets, oldest first.
    #[must_use]
    pub fn secrets(&self) -> &[StoredSecret] {
        &self.0
    }
}

impl ResourceServerId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ResourceServerId {
    type Err = MalformedResourceServerIdError;

    fn from_str(text: &str) -> Result<Self, MalformedResourceServerIdError> {
        let closed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_inner = !text.starts_with('-') && !text.ends_with('-');
        let is_valid = (1..=32).contains(&text.len()) && is_inner && text.bytes().all(closed);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(MalformedResourceServerIdError) }
    }
}

impl<'de> Deserialize<'de> for ResourceServerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ResourceServerSecret {
    pub(crate) fn generate(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut());
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
    }

    /// The text, for the operator.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash::of(&self.0)
    }
}

impl SecretHash {
    /// Bytes of a secret's text.
    pub const SECRET_LENGTH: usize = 43;

    /// The hash of a secret's text.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
        Self(hash)
    }
}

/// In constant time.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("not a SHA-256"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;

    #[test]
    fn names_are_short_and_closed() {
        for text in ["a", "chat-api", "0", "a--b", &"x".repeat(32)] {
            assert_eq!(text.parse::<ResourceServerId>().unwrap().as_str(), text);
        }
        for text in ["", "-a", "a-", "A", "a_b", "a:b", "a b", "a#b", "\u{e9}", &"x".repeat(33)] {
            assert_eq!(text.parse::<ResourceServerId>(), Err(MalformedResourceServerIdError), "{text}");
        }
    }

    #[test]
    fn secret_has_256_bits_and_its_hash_is_stored() {
        let secret = ResourceServerSecret::generate(&SeededRandom::new(1));
        assert_eq!(secret.expose().len(), SecretHash::SECRET_LENGTH);
        assert_eq!(URL_SAFE_NO_PAD.decode(secret.expose()).unwrap().len(), 32);
        let stored = Credential(vec![StoredSecret { sha256: secret.hash(), created_at: 7 }]);
        let text = serde_json::to_string(&stored).unwrap();
        assert!(!text.contains(secret.expose()) && !format!("{stored:?}").contains(&text[12..20]), "{text}");
        assert_eq!(serde_json::from_str::<Credential>(&text).unwrap(), stored);
        for text in [r#"[{"sha256":"AAAA","created_at":7}]"#, r#"[{"created_at":7}]"#, r#"[{"sha256":7}]"#] {
            assert!(serde_json::from_str::<Credential>(text).is_err(), "{text}");
        }
    }
}
