//! Credentials of resource servers. A resource server asks whether tokens are active, and may do nothing else.
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
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::StoreError;
use crate::audit::{Audit, KeyEvent, Outcome};
use crate::error_chain::error_chain;
use crate::keys::rotation::Trigger;
use crate::runtime::{Clock, Random};

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

/// The SHA-256 of a secret. Nobody can find a secret of 256 random bits from its hash, so the hash needs no salt.
#[derive(Clone)]
pub struct SecretHash([u8; 32]);

/// One secret of a credential, as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    pub sha256: SecretHash,
    /// Seconds since the epoch.
    pub created_at: i64,
}

/// The secrets of one resource server, oldest first: one, or two during a roll-over. None after a removal.
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

/// Attempts of a change while other changes come first.
const CHANGE_ATTEMPTS: usize = 5;

/// Changes credentials on the call of an operator.
#[derive(Clone, Copy)]
pub struct ResourceServerOperator<'a> {
    pub writer: &'a dyn ResourceServerWriter,
    pub clock: &'a dyn Clock,
    pub random: &'a dyn Random,
    pub audit: &'a dyn Audit,
}

impl ResourceServerOperator<'_> {
    /// Makes a change, and writes its audit line. Returns the new secret of [`ResourceServerChange::Add`] and
    /// [`ResourceServerChange::Rotate`].
    ///
    /// # Errors
    /// [`ResourceServerError`].
    pub async fn run(
        &self,
        id: &ResourceServerId,
        change: ResourceServerChange,
    ) -> Result<Option<ResourceServerSecret>, ResourceServerError> {
        let changed = self.change(id, change).await;
        let outcome = match &changed {
            Ok(_) => Outcome::Success,
            Err(ResourceServerError::Store(_)) => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        self.audit.keys(&KeyEvent {
            time: self.clock.now().format(&Rfc3339).unwrap_or_default(),
            level: outcome.level(),
            operation: change.as_str(),
            trigger: Trigger::Operator.as_str(),
            step: "done",
            resource_server: Some(id.to_string()),
            outcome,
            reason: changed.as_ref().err().map(|error| error_chain(error)),
        });
        changed
    }

    async fn change(
        &self,
        id: &ResourceServerId,
        change: ResourceServerChange,
    ) -> Result<Option<ResourceServerSecret>, ResourceServerError> {
        let (secret, now) = (ResourceServerSecret::generate(self.random), self.clock.now());
        let fresh = StoredSecret { sha256: secret.hash(), created_at: now.unix_timestamp() };
        let mut stored = self.writer.resource_servers().await?;
        for _ in 0..CHANGE_ATTEMPTS {
            let next = stored.after(id, change, &fresh)?;
            let outcome = self.writer.write_resource_servers(&next, id, now).await?;
            if outcome == ResourceServersWriteOutcome::Conflict {
                stored = self.writer.resource_servers().await?;
                // An attempt whose answer was lost is recognised by its own effect.
                if stored.credentials.get(id) != next.credentials.get(id) {
                    continue;
                }
            }
            let shows = matches!(change, ResourceServerChange::Add | ResourceServerChange::Rotate);
            return Ok(shows.then_some(secret));
        }
        Err(ResourceServerError::Conflict)
    }
}

impl ResourceServers {
    /// The credentials after a change. `fresh` is the new secret of an addition or a rotation.
    fn after(
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
    fn generate(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut());
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
    }

    /// The text, for the operator.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> SecretHash {
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
    use crate::memory::{Fault, Memory};
    use crate::testing::{CapturedAudit, FrozenClock, SeededRandom};

    fn id(text: &str) -> ResourceServerId {
        text.parse().unwrap()
    }

    async fn run(
        memory: &Memory,
        name: &str,
        kind: ResourceServerChange,
        seed: u64,
    ) -> Result<Option<SecretHash>, ResourceServerError> {
        let (clock, random) = (FrozenClock::at_noon(), SeededRandom::new(seed));
        let audit = CapturedAudit::default();
        let operator =
            ResourceServerOperator { writer: memory, clock: clock.as_ref(), random: &random, audit: &audit };
        let secret = operator.run(&id(name), kind).await;
        let line = audit.lines().remove(0);
        assert!(line.contains(&format!(r#""resourceServer":"{name}""#)), "{line}");
        let secret = secret?;
        assert!(secret.as_ref().is_none_or(|secret| !line.contains(secret.expose())));
        Ok(secret.map(|secret| secret.hash()))
    }

    async fn credential(memory: &Memory, name: &str) -> Credential {
        memory.resource_servers().await.unwrap().credentials.remove(&id(name)).unwrap_or_default()
    }

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

    #[tokio::test]
    async fn roll_over_keeps_the_secret_in_use_until_it_is_finished() {
        use ResourceServerChange::{Add, FinishRotation, Remove, Rotate};
        let memory = Memory::default();
        let first = run(&memory, "a", Add, 1).await.unwrap().unwrap();
        let lost = run(&memory, "a", Rotate, 2).await.unwrap().unwrap();
        let second = run(&memory, "a", Rotate, 3).await.unwrap().unwrap();
        let during = credential(&memory, "a").await;
        assert_eq!([&first, &lost, &second].map(|hash| during.admits(hash)), [true, false, true]);
        for _ in 0..2 {
            assert!(run(&memory, "a", FinishRotation, 4).await.unwrap().is_none());
            let after = credential(&memory, "a").await;
            assert_eq!([&first, &lost, &second].map(|hash| after.admits(hash)), [false, false, true]);
        }
        assert!(run(&memory, "a", Remove, 5).await.unwrap().is_none());
        assert!(!credential(&memory, "a").await.admits(&second));
        for kind in [Remove, Rotate, FinishRotation] {
            assert!(matches!(run(&memory, "a", kind, 6).await, Err(ResourceServerError::Unknown(_))));
        }
    }

    #[tokio::test]
    async fn twenty_first_resource_server_is_refused() {
        use ResourceServerChange::{Add, Remove};
        let memory = Memory::default();
        for n in 0..20 {
            run(&memory, &format!("api-{n}"), Add, n).await.unwrap();
        }
        assert!(matches!(run(&memory, "one-more", Add, 20).await, Err(ResourceServerError::TooMany)));
        assert!(matches!(run(&memory, "api-7", Add, 21).await, Err(ResourceServerError::Exists(_))));
        run(&memory, "api-7", Remove, 22).await.unwrap();
        run(&memory, "one-more", Add, 23).await.unwrap();
    }

    #[tokio::test]
    async fn unclear_write_is_reported_and_its_repetition_is_safe() {
        use ResourceServerChange::{Add, FinishRotation, Rotate};
        let memory = Memory::default();
        let first = run(&memory, "a", Add, 1).await.unwrap().unwrap();
        memory.plan([None, Some(Fault::After)]);
        assert!(matches!(run(&memory, "a", Rotate, 2).await, Err(ResourceServerError::Store(_))));
        let second = run(&memory, "a", Rotate, 3).await.unwrap().unwrap();
        let during = credential(&memory, "a").await;
        assert!(during.admits(&first) && during.admits(&second) && during.secrets().len() == 2);
        run(&memory, "a", FinishRotation, 4).await.unwrap();
        assert!(!credential(&memory, "a").await.admits(&first));
    }
}
