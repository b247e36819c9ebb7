//! Keys: the two access keys, the three signing keys, and the pointer that names the versions in force.
//!
//! Decision record 0003 gives the design: secrets are read by the version id that the pointer names, never by label, and
//! a token is active only while the pointer publishes its key. Decision record 0008 describes the replacement of keys.

pub mod access;
pub mod cache;
pub mod pointer;
pub mod rotation;
mod setup;
pub mod signing;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The credential with which a token was requested: an access key, or an Entra token. Each slot signs with its own key,
/// so a replacement of the keys of one slot revokes exactly the tokens that were requested through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    Primary,
    Secondary,
    Entra,
}

/// The slots that have an access key. In operators' events they are `primary` and `secondary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessSlot {
    Primary,
    Secondary,
}

/// The signature algorithm of a key (RFC 7518 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048-bit keys.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    #[serde(rename = "ES256")]
    Es256,
}

/// A signing key's id: the RFC 7638 SHA-256 thumbprint of its public half, 43 base64url characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// A key or the document of a secret cannot be used. The text names the fault and holds no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyMaterialError(pub(crate) &'static str);

impl KeyMaterialError {
    /// A key could not be generated.
    pub const GENERATION: Self = Self("a key could not be generated");
}

impl Slot {
    /// Every slot.
    pub const ALL: [Self; 3] = [Self::Primary, Self::Secondary, Self::Entra];

    /// The slot's name in secrets, pointer and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
            Self::Entra => "entra",
        }
    }
}

impl Algorithm {
    /// The JOSE name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

impl FromStr for Algorithm {
    type Err = KeyMaterialError;

    fn from_str(name: &str) -> Result<Self, KeyMaterialError> {
        match name {
            "RS256" => Ok(Self::Rs256),
            "ES256" => Ok(Self::Es256),
            _ => Err(KeyMaterialError("the algorithm is neither RS256 nor ES256")),
        }
    }
}

impl KeyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyMaterialError;

    fn try_from(text: String) -> Result<Self, KeyMaterialError> {
        let closed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if text.len() == 43 && text.bytes().all(closed) {
            Ok(Self(text))
        } else {
            Err(KeyMaterialError("the key id is no RFC 7638 thumbprint"))
        }
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<AccessSlot> for Slot {
    fn from(slot: AccessSlot) -> Self {
        match slot {
            AccessSlot::Primary => Self::Primary,
            AccessSlot::Secondary => Self::Secondary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_has_43_characters_of_base64url() {
        let id = format!("-_aZ9{}", "a".repeat(38));
        assert_eq!(KeyId::try_from(id.clone()).map(String::from).ok(), Some(id.clone()));
        for text in ["", &id[1..], &format!("{id}a"), &id.replace('-', "+"), &id.replace('-', " ")] {
            assert!(KeyId::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn slots_have_the_names_of_the_log() {
        assert_eq!(Slot::ALL.map(Slot::as_str), ["primary", "secondary", "entra"]);
    }
}
