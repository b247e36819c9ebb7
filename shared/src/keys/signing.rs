//! Signing keys. Private keys are kept parsed for speed. Public keys are published as JSON Web Keys.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, ParsedPublicKey, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Algorithm, KeyId, KeyMaterialError, Slot};
use crate::jose::{Jwk, JwkSet};
use crate::secrets::Secret;

/// A private signing key, parsed once.
pub struct SigningKey {
    id: KeyId,
    algorithm: Algorithm,
    pair: Pair,
    pkcs8: Secret,
    jwk: Jwk,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A public key that verifies tokens, parsed once.
#[derive(Clone)]
pub struct VerifyingKey {
    id: KeyId,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

/// The public keys of a key set.
pub struct VerifyingKeys(Vec<VerifyingKey>);

/// The signing key of each slot, and the standby keys.
pub struct SigningKeys {
    sequence: u64,
    keys: BySlot<SigningKey>,
    /// Parsed only while keys are replaced: no token is signed with them. Documents of former releases have none.
    standby: Option<BySlot<KeyDocument>>,
}

/// One value for each slot.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BySlot<T> {
    primary: T,
    secondary: T,
    entra: T,
}

/// The document of the secret: its sequence number, one key for each slot, `{"alg":"RS256","pkcs8":"<base64>"}`, and the
/// standby key of each slot. The public key and the key id are derived, so they cannot contradict the private key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    sequence: u64,
    primary: KeyDocument,
    secondary: KeyDocument,
    entra: KeyDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standby: Option<BySlot<KeyDocument>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyDocument {
    alg: Algorithm,
    pkcs8: Zeroizing<String>,
}

/// The length of an RSA modulus, in bits.
const RSA_BITS: usize = 2048;

impl SigningKey {
    /// Parses a private key and checks that its public key verifies its signatures.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the key is not a PKCS#8 key of this algorithm, when it is an RSA key without 2048 bits, or
    /// when the check fails.
    pub fn from_pkcs8(algorithm: Algorithm, pkcs8: Secret) -> Result<Self, KeyMaterialError> {
        let (pair, mut jwk) = match algorithm {
            Algorithm::Rs256 => rsa(pkcs8.expose())?,
            Algorithm::Es256 => ecdsa(pkcs8.expose())?,
        };
        let id = thumbprint(&jwk)?;
        jwk.kid = Some(id.as_str().to_owned());
        let key = Self { id, algorithm, pair, pkcs8, jwk };
        key.check_pair()?;
        Ok(key)
    }

    /// Signs a text and verifies the signature. So a private key with a wrong public key never signs a token.
    fn check_pair(&self) -> Result<(), KeyMaterialError> {
        const TEXT: &[u8] = b"sign, then verify";
        let signature = self.sign(TEXT)?;
        if VerifyingKey::from_jwk(&self.jwk)?.verifies(TEXT, &signature) {
            Ok(())
        } else {
            Err(KeyMaterialError("the signing key does not match its public half"))
        }
    }

    /// The raw signature over `message`, in the form of RFC 7518 section 3.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the cryptographic library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyMaterialError> {
        const FAILED: KeyMaterialError = KeyMaterialError("signing failed");
        let digest = digest::digest(&digest::SHA256, message);
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign_digest(&digest).map_err(|_| FAILED)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign_digest(&signature::RSA_PKCS1_SHA256, &digest, &mut signature)
                    .map_err(|_| FAILED)?;
                Ok(signature)
            }
        }
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The key's algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key (RFC 7517), with `kid`, `alg` and `use`.
    #[must_use]
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    fn to_document(&self) -> KeyDocument {
        KeyDocument { alg: self.algorithm, pkcs8: Zeroizing::new(STANDARD.encode(self.pkcs8.expose())) }
    }

    fn from_document(document: &KeyDocument) -> Result<Self, KeyMaterialError> {
        let pkcs8 = STANDARD.decode(document.pkcs8.as_bytes());
        let pkcs8 = pkcs8.map_err(|_| KeyMaterialError("a signing key is not padded standard base64"))?;
        Self::from_pkcs8(document.alg, Secret::new(pkcs8))
    }
}

impl<T> BySlot<T> {
    /// Makes the value of each slot, in the order of [`Slot::ALL`].
    fn try_make<E>(mut make: impl FnMut(Slot) -> Result<T, E>) -> Result<Self, E> {
        Ok(Self {
            primary: make(Slot::Primary)?,
            secondary: make(Slot::Secondary)?,
            entra: make(Slot::Entra)?,
        })
    }

    /// The value of a slot.
    #[must_use]
    pub fn of(&self, slot: Slot) -> &T {
        match slot {
            Slot::Primary => &self.primary,
            Slot::Secondary => &self.secondary,
            Slot::Entra => &self.entra,
        }
    }

    fn set(&mut self, slot: Slot, value: T) {
        match slot {
            Slot::Primary => self.primary = value,
            Slot::Secondary => self.secondary = value,
            Slot::Entra => self.entra = value,
        }
    }
}

impl BySlot<SigningKey> {
    fn generate(
        mut generate: impl FnMut() -> Result<SigningKey, KeyMaterialError>,
    ) -> Result<Self, KeyMaterialError> {
        Self::try_make(|_| generate())
    }

    fn to_document(&self) -> BySlot<KeyDocument> {
        let Self { primary, secondary, entra } = self;
        BySlot {
            primary: primary.to_document(),
            secondary: secondary.to_document(),
            entra: entra.to_document(),
        }
    }

    fn from_document(document: &BySlot<KeyDocument>) -> Result<Self, KeyMaterialError> {
        Self::try_make(|slot| SigningKey::from_document(document.of(slot)))
    }
}

impl SigningKeys {
    /// One key for each slot, made by `generate`, and no standby key. `sequence` is 1 for the first document, and then one
    /// more than in the replaced document.
    ///
    /// # Errors
    /// The error of `generate`.
    pub fn generate(
        sequence: u64,
        generate: impl FnMut() -> Result<SigningKey, KeyMaterialError>,
    ) -> Result<Self, KeyMaterialError> {
        Ok(Self { sequence, keys: BySlot::generate(generate)?, standby: None })
    }

    /// These keys, with new standby keys.
    ///
    /// # Errors
    /// The error of `generate`.
    pub fn with_standby(
        self,
        generate: impl FnMut() -> Result<SigningKey, KeyMaterialError>,
    ) -> Result<Self, KeyMaterialError> {
        Ok(Self { standby: Some(BySlot::generate(generate)?.to_document()), ..self })
    }

    /// The keys after a scheduled rotation: the standby keys, or new keys if there are none, and new standby keys.
    ///
    /// # Errors
    /// The error of `generate`, or [`KeyMaterialError`] when a standby key is unusable.
    pub fn rotated(
        self,
        mut generate: impl FnMut() -> Result<SigningKey, KeyMaterialError>,
    ) -> Result<Self, KeyMaterialError> {
        let keys = match self.standby()? {
            Some(standby) => standby,
            None => BySlot::generate(&mut generate)?,
        };
        Self { sequence: self.sequence + 1, keys, standby: None }.with_standby(generate)
    }

    /// The keys after a regeneration: a new key and a new standby key in one slot. If there were no standby keys, each slot
    /// gets one.
    ///
    /// # Errors
    /// The error of `generate`.
    pub fn regenerated(
        mut self,
        slot: Slot,
        mut generate: impl FnMut() -> Result<SigningKey, KeyMaterialError>,
    ) -> Result<Self, KeyMaterialError> {
        self.sequence += 1;
        self.keys.set(slot, generate()?);
        match &mut self.standby {
            Some(standby) => standby.set(slot, generate()?.to_document()),
            None => return self.with_standby(generate),
        }
        Ok(self)
    }

    /// Parses the document of the secret.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the text is not the document, or when one of its keys is unusable. The standby keys are not
    /// parsed.
    pub fn parse(document: &Secret) -> Result<Self, KeyMaterialError> {
        let document: Document = serde_json::from_slice(document.expose())
            .map_err(|_| KeyMaterialError("the signing-keys secret is not the expected document"))?;
        let Document { sequence, primary, secondary, entra, standby } = document;
        let keys = BySlot::from_document(&BySlot { primary, secondary, entra })?;
        Ok(Self { sequence, keys, standby })
    }

    /// The document of the secret.
    #[must_use]
    pub fn to_document(&self) -> Secret {
        let BySlot { primary, secondary, entra } = self.keys.to_document();
        let document =
            Document { sequence: self.sequence, primary, secondary, entra, standby: self.standby.clone() };
        Secret::new(serde_json::to_vec(&document).unwrap_or_default())
    }

    /// The sequence number of the document, which starts at 1 and counts the replacements.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The key of a slot.
    #[must_use]
    pub fn of(&self, slot: Slot) -> &SigningKey {
        self.keys.of(slot)
    }

    /// The keys that the next scheduled rotation puts in force. A document of a former release has none.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when one of them is unusable.
    pub fn standby(&self) -> Result<Option<BySlot<SigningKey>>, KeyMaterialError> {
        self.standby.as_ref().map(BySlot::from_document).transpose()
    }
}

impl VerifyingKey {
    /// Parses a public key.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the key is not an RSA-2048 or P-256 key, when `use`, `alg` or `key_ops` excludes signatures
    /// with its algorithm, when `use` or `alg` is missing, or when `kid` is not the thumbprint.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyMaterialError> {
        const UNUSABLE: KeyMaterialError = KeyMaterialError("a published key is not a usable public key");
        let id = thumbprint(jwk)?;
        if jwk.kid.as_deref() != Some(id.as_str()) {
            return Err(KeyMaterialError("a published key's id is not its thumbprint"));
        }
        let (Some(_), Some(name)) = (&jwk.public_key_use, &jwk.alg) else { return Err(UNUSABLE) };
        let algorithm = name.parse().map_err(|_| UNUSABLE)?;
        let key = jwk.verifying_key(algorithm, RSA_BITS..=RSA_BITS).ok_or(UNUSABLE)?;
        Ok(Self { id, algorithm, key })
    }

    /// Whether `signature` is a signature by this key over exactly these bytes.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }

    /// The key's id.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// The only algorithm of this key.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl VerifyingKeys {
    /// The usable keys of a JSON Web Key Set (RFC 7517 section 5). Other keys are left out.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when the text is not a key set, when two keys have the same id, or when no key is usable.
    pub fn from_jwks(document: &[u8]) -> Result<Self, KeyMaterialError> {
        let set = JwkSet::parse(document)
            .map_err(|_| KeyMaterialError("the document is not a JSON Web Key Set"))?;
        let mut keys: Vec<VerifyingKey> = Vec::new();
        for key in set.keys.iter().filter_map(|jwk| VerifyingKey::from_jwk(jwk).ok()) {
            if keys.iter().any(|known| known.id() == key.id()) {
                return Err(KeyMaterialError("two keys of the key set have one id"));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyMaterialError("the key set has no usable key")) } else { Ok(Self(keys)) }
    }

    /// The key with this id.
    #[must_use]
    pub fn find(&self, id: &KeyId) -> Option<&VerifyingKey> {
        self.0.iter().find(|key| key.id() == id)
    }
}

fn rsa(pkcs8: &[u8]) -> Result<(Pair, Jwk), KeyMaterialError> {
    let pair =
        RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| KeyMaterialError("a signing key is not an RSA key"))?;
    if pair.public_modulus_len() * 8 != RSA_BITS {
        return Err(KeyMaterialError("an RSA signing key is not of 2048 bits"));
    }
    let public = pair.public_key();
    let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
    let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
    let jwk = Jwk { n: Some(n), e: Some(e), ..published("RSA", Algorithm::Rs256) };
    Ok((Pair::Rsa(pair), jwk))
}

fn ecdsa(pkcs8: &[u8]) -> Result<(Pair, Jwk), KeyMaterialError> {
    let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
        .map_err(|_| KeyMaterialError("a signing key is not a P-256 key"))?;
    // An uncompressed point: 0x04, then x and y of 32 bytes each (SEC 1 section 2.3.3).
    let [4, point @ ..] = pair.public_key().as_ref() else {
        return Err(KeyMaterialError("a P-256 public key is not an uncompressed point"));
    };
    let (x, y) = point.split_at(point.len() / 2);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    let crv = Some("P-256".to_owned());
    let jwk = Jwk { crv, x: Some(x), y: Some(y), ..published("EC", Algorithm::Es256) };
    Ok((Pair::Ecdsa(pair), jwk))
}

/// A public key without its id and its numbers.
fn published(kty: &str, algorithm: Algorithm) -> Jwk {
    Jwk {
        public_key_use: Some("sig".to_owned()),
        alg: Some(algorithm.as_str().to_owned()),
        kty: kty.to_owned(),
        ..Jwk::default()
    }
}

fn thumbprint(jwk: &Jwk) -> Result<KeyId, KeyMaterialError> {
    jwk.thumbprint().ok_or(KeyMaterialError("a key has no thumbprint"))?.try_into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn a_key_id_is_the_thumbprint() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let other = testing::signing_key(algorithm, 1).id().as_str().to_owned();
            for kid in [None, Some(String::new()), Some("2011-04-29".to_owned()), Some(other)] {
                let jwk = Jwk { kid, ..testing::signing_key(algorithm, 0).jwk().clone() };
                assert!(VerifyingKey::from_jwk(&jwk).is_err(), "{:?}", jwk.kid);
            }
        }
    }

    #[test]
    fn a_private_key_with_the_public_key_of_another_is_refused() {
        let [own, other] = [0, 1].map(|index| testing::signing_key(Algorithm::Es256, index));
        let [own, other] = [own, other].map(|key| key.pkcs8.expose().to_vec());
        let at = own.len() - 65;
        let mixed = [&own[..at], &other[at..]].concat();
        assert!(SigningKey::from_pkcs8(Algorithm::Es256, Secret::new(own)).is_ok());
        assert!(SigningKey::from_pkcs8(Algorithm::Es256, Secret::new(mixed)).is_err());
    }

    #[test]
    fn a_published_key_verifies_only_its_own_signatures() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let key = testing::signing_key(algorithm, 0);
            let public = VerifyingKey::from_jwk(key.jwk()).unwrap();
            let signature = key.sign(b"message").unwrap();
            assert!(public.verifies(b"message", &signature));
            assert!(!public.verifies(b"massage", &signature));
            assert_eq!(public.id(), key.id());
            let other = VerifyingKey::from_jwk(testing::signing_key(algorithm, 1).jwk()).unwrap();
            assert!(!other.verifies(b"message", &signature));
        }
    }

    #[test]
    fn published_keys_have_no_private_member() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let jwk = serde_json::to_value(testing::signing_key(algorithm, 0).jwk()).unwrap();
            let mut members: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
            members.sort_unstable();
            let expected: &[&str] = match algorithm {
                Algorithm::Rs256 => &["alg", "e", "kid", "kty", "n", "use"],
                Algorithm::Es256 => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            };
            assert_eq!(members, expected);
        }
    }

    #[test]
    fn published_keys_for_other_purposes_are_refused() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let published = serde_json::to_value(testing::signing_key(algorithm, 0).jwk()).unwrap();
            let usable = |jwk: &serde_json::Value| {
                let jwk = serde_json::from_value::<Jwk>(jwk.clone());
                jwk.is_ok_and(|jwk| VerifyingKey::from_jwk(&jwk).is_ok())
            };
            assert!(usable(&published));
            for (member, value) in [
                ("use", Some(json!("enc"))),
                ("use", Some(json!(null))),
                ("use", None),
                ("alg", Some(json!("PS256"))),
                ("alg", Some(json!(null))),
                ("alg", None),
                ("key_ops", Some(json!(["encrypt"]))),
                ("key_ops", Some(json!([]))),
            ] {
                let mut other = published.clone();
                let members = other.as_object_mut().unwrap();
                members.remove(member);
                members.extend(value.map(|value| (member.to_owned(), value)));
                assert!(!usable(&other), "{member} of {other}");
            }
        }
    }

    #[test]
    fn ambiguous_and_unusable_key_sets_are_refused() {
        let jwk = |index| serde_json::to_value(testing::signing_key(Algorithm::Es256, index).jwk()).unwrap();
        let read =
            |keys: serde_json::Value| VerifyingKeys::from_jwks(json!({"keys": keys}).to_string().as_bytes());
        let foreign =
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let keys = read(json!([jwk(0), foreign, jwk(1)])).unwrap();
        for index in [0, 1] {
            assert!(keys.find(testing::signing_key(Algorithm::Es256, index).id()).is_some());
        }
        assert!(keys.find(testing::signing_key(Algorithm::Es256, 2).id()).is_none());
        assert!(read(json!([jwk(0), jwk(0)])).is_err(), "two keys with one id");
        assert!(read(json!([])).is_err() && read(json!([foreign])).is_err(), "no usable key");
        for document in ["", "[]", "null", "<html>", r#"{"keys":{}}"#] {
            assert!(VerifyingKeys::from_jwks(document.as_bytes()).is_err(), "{document}");
        }
    }

    /// The private key of RFC 7515 appendix A.3, encoded as PKCS#8 by another program.
    #[test]
    fn the_document_has_the_documented_text() {
        const PKCS8: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjpsQnnGQmL+YBIffH1136cspYG6+0iY7X1fCE9+E9LKhRANCAAR/zc4n\
            cPbEXUGDy+5v20t7WAczNXvp7xO6z248e9FURcfxRM0bvZt+hyzf7bnuufSzaV1uqQskrYpGIyiFiOWt";
        const JWK: &str = concat!(
            r#"{"use":"sig","alg":"ES256","kid":"oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U","kty":"EC","crv":"P-256","#,
            r#""x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
        );
        let key = format!(r#"{{"alg":"ES256","pkcs8":"{PKCS8}"}}"#);
        let text = format!(r#"{{"sequence":7,"primary":{key},"secondary":{key},"entra":{key}}}"#);
        let keys = SigningKeys::parse(&Secret::from(text.clone())).unwrap();
        assert_eq!(keys.sequence(), 7);
        for slot in Slot::ALL {
            assert_eq!(serde_json::to_string(keys.of(slot).jwk()).unwrap(), JWK);
        }
        assert_eq!(keys.to_document().expose(), text.as_bytes());
        let ready = keys.with_standby(|| Ok(testing::signing_key(Algorithm::Es256, 1))).unwrap();
        let document: serde_json::Value = serde_json::from_slice(ready.to_document().expose()).unwrap();
        let members = |value: &serde_json::Value| {
            let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            names.sort_unstable();
            names.join(" ")
        };
        assert_eq!(members(&document), "entra primary secondary sequence standby");
        assert_eq!(members(&document["standby"]), "entra primary secondary");
        assert_eq!(members(&document["standby"]["entra"]), "alg pkcs8");
        let read = SigningKeys::parse(&ready.to_document()).unwrap();
        assert_eq!(read.to_document().expose(), ready.to_document().expose());
    }

    /// The key ids of a document: in force, then standby, in the order of the slots.
    fn ids(keys: &SigningKeys) -> Vec<Option<String>> {
        let standby = keys.standby().unwrap();
        let in_force = Slot::ALL.map(|slot| Some(keys.of(slot).id().to_string()));
        let waiting = Slot::ALL.map(|slot| Some(standby.as_ref()?.of(slot).id().to_string()));
        in_force.into_iter().chain(waiting).collect()
    }

    #[test]
    fn schedule_promotes_standby_keys_and_regeneration_replaces_both_keys_of_its_slot() {
        let mut next = 0;
        let mut generate = || {
            next += 1;
            Ok(testing::signing_key(Algorithm::Es256, next - 1))
        };
        let former = testing::signing_keys(Algorithm::Es256, 20);
        let [a, b, c] = Slot::ALL.map(|slot| Some(former.of(slot).id().to_string()));
        assert_eq!(ids(&former), [a.clone(), b, c.clone(), None, None, None]);

        let regenerated = former.regenerated(Slot::Secondary, &mut generate).unwrap();
        let made = ids(&regenerated);
        assert_eq!((&made[0], &made[2], regenerated.sequence()), (&a, &c, 2));
        assert!(made.iter().all(Option::is_some), "each slot has a standby key");

        let rotated = regenerated.rotated(&mut generate).unwrap();
        let promoted = ids(&rotated);
        assert_eq!((&promoted[..3], rotated.sequence()), (&made[3..], 3));
        assert!(promoted[3..].iter().all(|id| !made.contains(id)), "the standby keys are new");

        let replaced = ids(&rotated.regenerated(Slot::Primary, &mut generate).unwrap());
        let changed: Vec<usize> = (0..6).filter(|at| replaced[*at] != promoted[*at]).collect();
        assert_eq!(changed, [0, 3]);
        assert!(!promoted.contains(&replaced[0]) && !promoted.contains(&replaced[3]));

        let fresh = testing::signing_keys(Algorithm::Es256, 20).rotated(&mut generate).unwrap();
        assert!(!ids(&fresh).contains(&a), "without standby keys, a rotation makes new keys");
    }

    #[test]
    fn keys_of_another_type_are_refused() {
        let rsa = testing::signing_key(Algorithm::Rs256, 0);
        assert!(SigningKey::from_pkcs8(Algorithm::Es256, rsa.pkcs8.clone()).is_err());
        let ec = testing::signing_key(Algorithm::Es256, 0);
        assert!(SigningKey::from_pkcs8(Algorithm::Rs256, ec.pkcs8.clone()).is_err());
        let truncated = Secret::new(rsa.pkcs8.expose()[..100].to_vec());
        assert!(SigningKey::from_pkcs8(Algorithm::Rs256, truncated).is_err());
    }
}
