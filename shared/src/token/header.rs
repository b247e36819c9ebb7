//! The header of a token: three members, and no other (decision record 0004).

use serde::de::IntoDeserializer as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::keys::{Algorithm, KeyId};

/// A closed set. A token with a further member (`crit`, `jwk`, `jku`, `x5u`, `zip`, `b64`, ...) is refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenHeader {
    #[serde(deserialize_with = "from_name")]
    pub(super) alg: Algorithm,
    pub(super) kid: KeyId,
    #[serde(deserialize_with = "from_name")]
    pub(super) typ: TokenType,
}

/// The only value of `typ`.
#[derive(Serialize, Deserialize)]
pub(super) enum TokenType {
    #[serde(rename = "JWT")]
    Jwt,
}

/// Reads a variant from its name. Serde alone would also accept `{"name":null}`.
fn from_name<'de, D: Deserializer<'de>, T: Deserialize<'de>>(name: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(name)?.into_deserializer())
}
