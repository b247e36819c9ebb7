//! Keys: the two access keys, the three signing keys, and the pointer to the versions that are in force.
//!
//! Decision record 0003 has the design. Secrets are read by the version id in the pointer, never by staging label. A
//! token is active only while the pointer publishes its key. Decision record 0008 has the replacement of keys.

pub mod access;
pub mod cache;
pub mod pointer;
pub mod rotation;
mod setup;
pub mod signing;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The credential that authenticated the request for a token: one of the access keys, or an Entra token. Each slot has
/// its own signing key, so the replacement of one slot's keys ends exactly the tokens that were minted for that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    Primary,
    Secondary,
    Entra,
}

/// A slot that has an access key. The events of operators contain `primary` or `secondary`.
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

/// The id of a signing key: the SHA-256 thumbprint (RFC 7638) of its public half, 43 base64url characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

/// A key or a secret's document cannot be used. The text states the fault and never contains key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyMaterialError(pub(crate) &'static str);

impl KeyMaterialError {
    /// The generation of a key failed.
    pub const GENERATION: Self = Self("a key could not be generated");
}

impl Slot {
    /// Every slot.
    pub const ALL: [Self; 3] = [Self::Primary, Self::Secondary, Self::Entra];

    /// The name of the slot in secrets, in the pointer record and in logs.
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
    /// The name of the algorithm in JOSE documents (RFC 7518 section 3.1).
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
            _ => Err(KeyMaterialError("the algorithm must be RS256 or ES256")),
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
            Err(KeyMaterialError("the key id is not an RFC 7638 thumbprint of 43 base64url characters"))
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
