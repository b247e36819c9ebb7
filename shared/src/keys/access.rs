//! Access keys: the two shared secrets of a resource, as ACS connection strings carry them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{HmacReset, KeyInit as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{AccessSlot, KeyMaterialError, Slot};
use crate::runtime::Random;
use crate::secrets::Secret;

/// Length of a generated key, in bytes.
const GENERATED_LENGTH: usize = 64;

/// One access key, ready to compute signatures with.
pub struct AccessKey {
    bytes: Secret,
    hmac: HmacReset<Sha256>,
}

/// Both access keys.
pub struct AccessKeys {
    sequence: u64,
    primary: AccessKey,
    secondary: AccessKey,
}

/// The secret's document: `{"sequence":1,"primary":"<base64>","secondary":"<base64>"}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    sequence: u64,
    primary: Zeroizing<String>,
    secondary: Zeroizing<String>,
}

impl AccessKey {
    #[expect(clippy::expect_used, reason = "a key of HMAC has any length (RFC 2104 section 2)")]
    fn new(bytes: Secret) -> Self {
        let hmac = HmacReset::new_from_slice(bytes.expose()).expect("a key of any length");
        Self { bytes, hmac }
    }

    /// Reads a key as a connection string carries it.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the text is not padded standard base64, or has fewer than 32 bytes.
    pub fn parse(text: &str) -> Result<Self, KeyMaterialError> {
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| KeyMaterialError("an access key is not padded standard base64"))?;
        if bytes.len() < 32 {
            return Err(KeyMaterialError("an access key is shorter than 32 bytes"));
        }
        Ok(Self::new(Secret::new(bytes)))
    }

    fn generate(random: &dyn Random) -> Self {
        let mut bytes = vec![0_u8; GENERATED_LENGTH];
        random.fill(&mut bytes);
        Self::new(Secret::new(bytes))
    }

    /// The HMAC-SHA256 of this key, before any text.
    pub(crate) fn hmac(&self) -> HmacReset<Sha256> {
        self.hmac.clone()
    }

    /// The key as a connection string carries it: padded standard base64.
    #[must_use]
    pub fn encoded(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.bytes.expose()))
    }
}

impl AccessKeys {
    /// Two fresh keys.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let [primary, secondary] = [(); 2].map(|()| AccessKey::generate(random));
        Self { sequence: 1, primary, secondary }
    }

    /// First keys that an operator has chosen, each as a connection string carries it.
    ///
    /// # Errors
    /// As [`AccessKey::parse`].
    pub fn from_encoded(primary: &str, secondary: &str) -> Result<Self, KeyMaterialError> {
        Ok(Self { sequence: 1, primary: AccessKey::parse(primary)?, secondary: AccessKey::parse(secondary)? })
    }

    /// These keys, with a new key for `slot`.
    #[must_use]
    pub fn regenerated(self, slot: AccessSlot, random: &dyn Random) -> Self {
        let (fresh, sequence) = (AccessKey::generate(random), self.sequence + 1);
        match slot {
            AccessSlot::Primary => Self { sequence, primary: fresh, ..self },
            AccessSlot::Secondary => Self { sequence, secondary: fresh, ..self },
        }
    }

    /// Reads the secret's document.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when it is not the document, or a key is not base64 or shorter than 32 bytes.
    pub fn parse(document: &Secret) -> Result<Self, KeyMaterialError> {
        let document: Document = serde_json::from_slice(document.expose())
            .map_err(|_| KeyMaterialError("the access-keys secret is not the expected document"))?;
        Ok(Self {
            sequence: document.sequence,
            primary: AccessKey::parse(&document.primary)?,
            secondary: AccessKey::parse(&document.secondary)?,
        })
    }

    /// The secret's document.
    #[must_use]
    pub fn to_document(&self) -> Secret {
        let document = Document {
            sequence: self.sequence,
            primary: self.primary.encoded(),
            secondary: self.secondary.encoded(),
        };
        Secret::new(serde_json::to_vec(&document).unwrap_or_default())
    }

    /// Counts the replacements of the document, from 1.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Both keys with their slots. An authentication always compares both.
    pub fn each(&self) -> [(Slot, &AccessKey); 2] {
        [(Slot::Primary, &self.primary), (Slot::Secondary, &self.secondary)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;

    /// The states of HMAC hold the key.
    #[test]
    fn states_of_the_hash_are_erased() {
        fn is_erased<T: zeroize::ZeroizeOnDrop>() {}
        is_erased::<Sha256>();
    }

    #[test]
    fn the_document_survives_a_round_trip() {
        let keys = AccessKeys::generate(&SeededRandom::new(3));
        let again = AccessKeys::parse(&keys.to_document()).unwrap();
        for ((slot, key), (_, same)) in keys.each().into_iter().zip(again.each()) {
            assert_eq!(*key.encoded(), *same.encoded(), "{slot:?}");
            assert_eq!(key.encoded().len(), 88);
        }
        assert_ne!(*keys.primary.encoded(), *keys.secondary.encoded());
    }

    #[test]
    fn an_invalid_document_is_refused_without_quoting_it() {
        for text in [
            "",
            "{}",
            r#"{"sequence":1,"primary":"canary","secondary":"canary"}"#,
            r#"{"sequence":1,"primary":"AAAA","secondary":"AAAA"}"#,
            r#"{"sequence":1,"primary":"canary=","secondary":"","third":""}"#,
        ] {
            let fault = AccessKeys::parse(&Secret::from(text.to_owned())).err().unwrap();
            assert!(!fault.to_string().contains("canary"), "{fault}");
        }
    }

    #[test]
    fn a_key_has_at_least_32_bytes() {
        for (bytes, is_key) in [(31, false), (32, true), (64, true)] {
            assert_eq!(AccessKey::parse(&STANDARD.encode(vec![7; bytes])).is_ok(), is_key, "{bytes} bytes");
        }
    }

    #[test]
    fn a_regeneration_replaces_one_key_and_counts() {
        let random = SeededRandom::new(3);
        let texts = |keys: &AccessKeys| (keys.primary.encoded().clone(), keys.secondary.encoded().clone());
        let keys = AccessKeys::generate(&random);
        let (primary, secondary) = texts(&keys);
        let keys = keys.regenerated(AccessSlot::Primary, &random);
        assert_eq!(
            (keys.sequence(), texts(&keys).0 == primary, texts(&keys).1 == secondary),
            (2, false, true)
        );
        let primary = texts(&keys).0;
        let keys = keys.regenerated(AccessSlot::Secondary, &random);
        assert_eq!(
            (keys.sequence(), texts(&keys).0 == primary, texts(&keys).1 == secondary),
            (3, true, false)
        );
    }
}
