//! Compact JWS (RFC 7515) and JSON Web Keys (RFC 7517): one strict reader for this service's tokens and for Entra's.
//!
//! A token reaches [`UnverifiedJws`] only if it has exactly three parts of canonical base64url and both JSON parts are
//! objects. The types of header and claims decide whether further members are accepted.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::ThumbprintHash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::json::{Object, not_null, object};
use crate::keys::Algorithm;

/// A compact JWS (RFC 7515 section 3.1), decoded. Its signature is not verified.
pub(crate) struct UnverifiedJws<'a, H, C> {
    pub(crate) header: H,
    pub(crate) claims: C,
    /// The bytes that the signature covers: the first two parts as received.
    pub(crate) signing_input: &'a [u8],
    pub(crate) signature: Vec<u8>,
}

/// The part of a text that makes it no compact JWS of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwsError {
    #[error("{0}")]
    Text(TokenTextError),
    #[error("not a compact JWS")]
    Structure,
    #[error("the header is not the expected JSON object")]
    Header,
    #[error("the claims are not the expected JSON object")]
    Claims,
}

/// A text that has more than the token. A client must remove the rest, because no JWT contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTextError {
    #[error("the token is in quotation marks; send only the token")]
    Quotes,
    #[error("the text begins with Bearer; send only the token")]
    Scheme,
    #[error("the token has white space inside it")]
    WhiteSpace,
}

/// A public JSON Web Key (RFC 7517 section 4). Further members, such as `x5c`, are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `sig` for a key that verifies signatures.
    #[serde(rename = "use", default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub public_key_use: Option<String>,
    /// The permitted operations, such as `verify`.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub key_ops: Option<Vec<String>>,
    /// The only algorithm that the key may be used with.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// The key id.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The key type: `RSA` or `EC`.
    pub kty: String,
    /// RSA modulus and exponent (RFC 7518 section 6.3.1), base64url.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    /// Curve and coordinates of an elliptic curve key (RFC 7518 section 6.2.1), base64url.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    /// Entra only: the issuer whose tokens the key signs.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
}

/// A JSON Web Key Set (RFC 7517 section 5).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JwkSet {
    #[serde(deserialize_with = "objects")]
    pub keys: Vec<Jwk>,
}

impl<'a, H: DeserializeOwned, C: DeserializeOwned> UnverifiedJws<'a, H, C> {
    /// Decodes a token. White space at its ends is dropped, wherever a client sent the token: files and shells add line
    /// breaks, and no JWT contains white space. A token of more than `max_length` bytes is refused before anything is
    /// decoded.
    pub(crate) fn parse(token: &'a str, max_length: usize) -> Result<Self, JwsError> {
        let token = token.trim();
        if token.len() > max_length {
            return Err(JwsError::Structure);
        }
        TokenTextError::check(token).map_err(JwsError::Text)?;
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwsError::Structure)?;
        let (header, claims) = signing_input.split_once('.').ok_or(JwsError::Structure)?;
        if claims.contains('.') {
            return Err(JwsError::Structure);
        }
        let decode = |part| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Structure);
        Ok(Self {
            header: object(&decode(header)?).map_err(|_| JwsError::Header)?,
            signing_input: signing_input.as_bytes(),
            signature: decode(signature)?,
            claims: object(&decode(claims)?).map_err(|_| JwsError::Claims)?,
        })
    }
}

impl TokenTextError {
    /// Checks a text without white space at its ends.
    fn check(token: &str) -> Result<(), Self> {
        let quotes = ['"', '\''];
        if token.starts_with(quotes) && token.ends_with(quotes) {
            return Err(Self::Quotes);
        }
        match token.split_once(char::is_whitespace) {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("Bearer") => Err(Self::Scheme),
            Some(_) => Err(Self::WhiteSpace),
            None => Ok(()),
        }
    }
}

impl JwkSet {
    /// Reads a key set. Keys of every type are in it, but each must be a JSON object.
    ///
    /// # Errors
    /// The text is not a key set, or a member of a key occurs twice or has another type than RFC 7517 says.
    pub fn parse(document: &[u8]) -> serde_json::Result<Self> {
        object(document)
    }
}

impl Jwk {
    /// The key that verifies signatures of this algorithm. `None` when the key is of another type, states a purpose
    /// that does not include such signatures, is malformed, or is an RSA key with another number of bits.
    pub(crate) fn verifying_key(
        &self,
        algorithm: Algorithm,
        rsa_bits: RangeInclusive<usize>,
    ) -> Option<ParsedPublicKey> {
        if !self.may_verify(algorithm) {
            return None;
        }
        match algorithm {
            Algorithm::Rs256 if self.kty == "RSA" => self.rsa(rsa_bits),
            Algorithm::Es256 if self.kty == "EC" => self.p256(),
            _ => None,
        }
    }

    /// Whether every purpose that the key states includes verifying signatures of this algorithm (RFC 7517 sections
    /// 4.2 to 4.4). An operation may not be listed twice.
    fn may_verify(&self, algorithm: Algorithm) -> bool {
        let is_for_signatures = self.public_key_use.as_deref().is_none_or(|purpose| purpose == "sig");
        let is_for_algorithm = self.alg.as_deref().is_none_or(|name| name == algorithm.as_str());
        let is_for_verifying = self.key_ops.as_ref().is_none_or(|operations| {
            let distinct: HashSet<_> = operations.iter().map(String::as_str).collect();
            distinct.contains("verify") && distinct.len() == operations.len()
        });
        is_for_signatures && is_for_algorithm && is_for_verifying
    }

    /// An RSA key with an odd modulus, and with an odd exponent from 3 on. An exponent of more than 33 bits is refused
    /// because it only slows verification down. The cryptographic library sees no other numbers.
    fn rsa(&self, bits: RangeInclusive<usize>) -> Option<ParsedPublicKey> {
        let (n, e) = (decode(self.n.as_ref())?, decode(self.e.as_ref())?);
        let length = |number: &[u8]| {
            let first = number.first().filter(|byte| **byte != 0)?;
            Some(number.len() * 8 - first.leading_zeros() as usize)
        };
        let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
        let is_modulus = bits.contains(&length(&n)?) && is_odd(&n);
        let is_exponent = (2..=33).contains(&length(&e)?) && is_odd(&e);
        if !is_modulus || !is_exponent {
            return None;
        }
        RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()
    }

    /// A point of P-256 with coordinates of 32 bytes each.
    fn p256(&self) -> Option<ParsedPublicKey> {
        let (x, y) = (decode(self.x.as_ref())?, decode(self.y.as_ref())?);
        if self.crv.as_deref() != Some("P-256") || x.len() != 32 || y.len() != 32 {
            return None;
        }
        // The form of an uncompressed point: 0x04, x, y (SEC 1 section 2.3.3).
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [vec![4], x, y].concat()).parse().ok()
    }

    /// The SHA-256 thumbprint (RFC 7638), base64url. `None` for a key that is neither RSA nor EC.
    pub(crate) fn thumbprint(&self) -> Option<String> {
        if !matches!(self.kty.as_str(), "RSA" | "EC") {
            return None;
        }
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(serde_json::to_value(self).ok()?).ok()?;
        jwk.thumbprint(ThumbprintHash::SHA256).ok()
    }
}

fn decode(number: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(number?).ok()
}

fn objects<'de, D: Deserializer<'de>>(keys: D) -> Result<Vec<Jwk>, D::Error> {
    Vec::deserialize(keys).map(|keys: Vec<Object<Jwk>>| keys.into_iter().map(|Object(key)| key).collect())
}

/// Texts that are not a compact JWS, made from a token that is one.
#[cfg(test)]
pub(crate) fn malformed_tokens(token: &str) -> Vec<String> {
    let (signing_input, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signing_input.split_once('.').unwrap();
    let mut texts: Vec<_> = ["", ".", "...", "....", "{}"].map(str::to_owned).into();
    texts.extend([
        header.to_owned(),
        signing_input.to_owned(),
        format!("{token}."),
        format!(".{token}"),
        format!("{header}..{claims}.{signature}"),
        format!("{token}.{signature}"),
        format!("{token}.{signature}.{signature}"),
        format!("{token},{token}"),
        token.replace('.', ","),
        token.replace('.', "\u{ff0e}"),
        format!(r#"{{"protected":"{header}","payload":"{claims}","signature":"{signature}"}}"#),
    ]);
    for junk in ["=", "==", "+", "/", "\0", "%3D", "?", "~", "\"", "\u{e4}", "\u{200b}", "\u{feff}"] {
        for part in [header, claims, signature] {
            for changed in [format!("{junk}{part}"), format!("{part}{junk}")] {
                texts.push(token.replacen(part, &changed, 1));
            }
        }
    }
    texts
}

/// Texts with more than the token, and their faults.
#[cfg(test)]
pub(crate) fn wrapped_tokens(token: &str) -> Vec<(String, TokenTextError)> {
    let mut texts: Vec<_> = [("\"", "\""), ("'", "'"), (" \"", "\"\n"), ("\" ", " \""), ("\"Bearer ", "\"")]
        .map(|(before, after)| (format!("{before}{token}{after}"), TokenTextError::Quotes))
        .into();
    for scheme in ["Bearer ", "bearer\t", "BEARER  ", " Bearer\r\n"] {
        texts.push((format!("{scheme}{token}"), TokenTextError::Scheme));
    }
    for space in [" ", "\t", "\n", "\r\n", "\u{a0}", "\u{2028}"] {
        for at in [1, token.find('.').unwrap(), token.rfind('.').unwrap() + 1, token.len() - 1] {
            let (start, end) = token.split_at(at);
            texts.push((format!("{start}{space}{end}"), TokenTextError::WhiteSpace));
        }
        texts.push((format!("{token}{space}{token}"), TokenTextError::WhiteSpace));
    }
    texts
}

/// The token with white space at its ends.
#[cfg(test)]
pub(crate) fn spaced_tokens(token: &str) -> Vec<String> {
    let ends =
        [(" ", ""), ("", "\n"), ("", "\r\n"), ("\t", "\t"), ("\n\n  ", " \r\n "), ("\u{a0}", "\u{2028}")];
    ends.map(|(before, after)| format!("{before}{token}{after}")).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json::malformed;
    use crate::testing;

    const MAX_LENGTH: usize = 1_000;
    const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Closed {
        #[serde(rename = "alg")]
        _alg: String,
    }

    #[derive(Debug, Deserialize)]
    struct Open {
        #[serde(rename = "iss")]
        _iss: String,
    }

    const HEADER: &str = r#"{"alg":"ES256"}"#;
    const CLAIMS: &str = r#"{"iss":"joe"}"#;

    fn token(header: &str, claims: &str) -> String {
        [header, claims, "signature"].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".")
    }

    fn parse(token: &str) -> Result<UnverifiedJws<'_, Closed, Open>, JwsError> {
        UnverifiedJws::parse(token, MAX_LENGTH)
    }

    #[test]
    fn a_compact_jws_is_decoded() {
        let token = token(HEADER, CLAIMS);
        let jws = parse(&token).unwrap();
        assert_eq!(jws.signing_input, b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UifQ");
        assert_eq!(jws.signature, b"signature");
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        assert!(parse(&unsigned).unwrap().signature.is_empty());
    }

    #[test]
    fn other_structures_are_refused() {
        for text in malformed_tokens(&token(HEADER, CLAIMS)) {
            assert_eq!(parse(&text).err(), Some(JwsError::Structure), "{text}");
        }
        // 13 bytes leave four spare bits in the last character, which must be zero (RFC 4648 section 3.5).
        let token = token(HEADER, CLAIMS);
        let (start, signature) = token.rsplit_once('.').unwrap();
        assert!(start.ends_with("ifQ"));
        for last in ["R", "S", "Z", "f"] {
            let text = format!("{}{last}.{signature}", &start[..start.len() - 1]);
            assert_eq!(parse(&text).err(), Some(JwsError::Structure), "{text}");
        }
    }

    #[test]
    fn white_space_at_the_ends_is_dropped() {
        let token = token(HEADER, CLAIMS);
        for text in spaced_tokens(&token) {
            let jws = parse(&text).unwrap();
            assert_eq!(jws.signing_input, token.rsplit_once('.').unwrap().0.as_bytes(), "{text:?}");
        }
        for text in spaced_tokens("") {
            assert_eq!(parse(&text).err(), Some(JwsError::Structure), "{text:?}");
        }
    }

    #[test]
    fn further_text_is_refused_with_its_cause() {
        for (text, fault) in wrapped_tokens(&token(HEADER, CLAIMS)) {
            assert_eq!(parse(&text).err(), Some(JwsError::Text(fault)), "{text:?}");
        }
    }

    #[test]
    fn the_length_is_limited_before_decoding() {
        let padded = |length: usize| {
            let rest = length - token(HEADER, "").len();
            token(HEADER, &format!("{CLAIMS}{}", " ".repeat(rest * 3 / 4 - CLAIMS.len())))
        };
        let longest = padded(MAX_LENGTH);
        assert_eq!(longest.len(), MAX_LENGTH);
        assert!(parse(&longest).is_ok());
        for text in [format!("{longest}A"), "not base64url! ".repeat(MAX_LENGTH), ".".repeat(10 << 20)] {
            assert_eq!(parse(&text).err(), Some(JwsError::Structure));
        }
    }

    #[test]
    fn header_and_claims_are_json_objects() {
        for header in malformed(HEADER, r#"["ES256"]"#) {
            assert_eq!(parse(&token(&header, CLAIMS)).err(), Some(JwsError::Header), "{header}");
        }
        for claims in malformed(CLAIMS, r#"["joe"]"#) {
            assert_eq!(parse(&token(HEADER, &claims)).err(), Some(JwsError::Claims), "{claims}");
        }
        let (more, twice) = (r#"{"alg":"ES256","x":1}"#, r#"{"alg":"ES256","alg":"ES256"}"#);
        assert_eq!(parse(&token(more, CLAIMS)).err(), Some(JwsError::Header), "the header is closed");
        assert_eq!(parse(&token(twice, CLAIMS)).err(), Some(JwsError::Header));
        assert!(parse(&token(HEADER, r#"{"iss":"joe","x":1}"#)).is_ok(), "the claims are open");
        assert_eq!(parse(&token(HEADER, r#"{"iss":"joe","iss":"joe"}"#)).err(), Some(JwsError::Claims));
    }

    /// The examples of RFC 7515, appendices A.2 and A.3.
    #[test]
    fn the_examples_of_rfc_7515_verify() {
        const CLAIMS: &str =
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let rsa = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp\
            -Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5\
            z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_\
            h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
        let rs256 = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb\
            F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi\
            12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe\
            77Rw";
        let ec = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let es256 = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        for (algorithm, jwk, signature) in [(Algorithm::Rs256, rsa, rs256), (Algorithm::Es256, ec, es256)] {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{}"}}"#, algorithm.as_str()));
            let token = format!("{header}.{CLAIMS}.{signature}");
            let jws = parse(&token).unwrap();
            let key = read(&jwk).verifying_key(algorithm, RSA_BITS).unwrap();
            assert!(key.verify_sig(jws.signing_input, &jws.signature).is_ok());
            assert!(key.verify_sig(&jws.signing_input[1..], &jws.signature).is_err());
        }
    }

    fn read(jwk: &Value) -> Jwk {
        let set = JwkSet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
        set.keys.into_iter().next().unwrap()
    }

    /// A published key of an algorithm, without a stated purpose.
    fn key(algorithm: Algorithm) -> Value {
        let mut jwk = serde_json::to_value(testing::signing_key(algorithm, 0).jwk()).unwrap();
        for member in ["use", "alg"] {
            jwk.as_object_mut().unwrap().remove(member);
        }
        jwk
    }

    const BOTH: [(Algorithm, Algorithm); 2] =
        [(Algorithm::Rs256, Algorithm::Es256), (Algorithm::Es256, Algorithm::Rs256)];

    #[test]
    fn a_key_verifies_only_for_its_stated_purposes() {
        for (algorithm, other) in BOTH {
            let verifies = |members: &[(&str, Value)]| {
                let mut jwk = key(algorithm);
                for (name, value) in members {
                    jwk[*name] = value.clone();
                }
                let jwk = read(&jwk);
                assert!(jwk.verifying_key(other, RSA_BITS).is_none());
                jwk.verifying_key(algorithm, RSA_BITS).is_some()
            };
            let (sig, alg, ops) = (json!("sig"), json!(algorithm.as_str()), json!(["verify"]));
            assert!(verifies(&[]), "no purpose is stated");
            assert!(verifies(&[("use", sig.clone())]));
            assert!(verifies(&[("alg", alg.clone())]));
            for operations in [ops.clone(), json!(["sign", "verify"]), json!(["verify", "x"])] {
                assert!(verifies(&[("key_ops", operations)]));
            }
            assert!(verifies(&[("use", sig.clone()), ("alg", alg.clone()), ("key_ops", ops.clone())]));
            let purposes = [
                ("use", json!("enc")),
                ("use", json!("")),
                ("use", json!("SIG")),
                ("use", json!("sig ")),
                ("use", json!("sig enc")),
                ("use", json!("verify")),
                ("alg", json!("")),
                ("alg", json!("none")),
                ("alg", json!("HS256")),
                ("alg", json!("RS384")),
                ("alg", json!("PS256")),
                ("alg", json!("ES384")),
                ("alg", json!("RSA-OAEP")),
                ("alg", json!(algorithm.as_str().to_lowercase())),
                ("alg", json!(other.as_str())),
                ("key_ops", json!([])),
                ("key_ops", json!([""])),
                ("key_ops", json!(["encrypt"])),
                ("key_ops", json!(["decrypt"])),
                ("key_ops", json!(["wrapKey", "unwrapKey"])),
                ("key_ops", json!(["deriveKey", "deriveBits"])),
                ("key_ops", json!(["sign"])),
                ("key_ops", json!(["Verify"])),
                ("key_ops", json!(["verify "])),
                ("key_ops", json!(["verify,sign"])),
                ("key_ops", json!(["verify", "verify"])),
                ("key_ops", json!(["verify", "sign", "sign"])),
            ];
            let good = [("use", sig), ("alg", alg), ("key_ops", ops)];
            for (name, value) in purposes {
                assert!(!verifies(&[(name, value.clone())]), "{name}: {value}");
                // One purpose does not stand in for another.
                let members = good
                    .clone()
                    .map(|(known, other)| (known, if known == name { value.clone() } else { other }));
                assert!(!verifies(&members), "{name}: {value}");
            }
        }
    }

    #[test]
    fn members_of_another_type_are_not_a_key_set() {
        for (algorithm, _) in BOTH {
            let texts = [json!(null), json!(7), json!(true), json!({}), json!(["sig"]), json!([])];
            let lists = [
                json!(null),
                json!(7),
                json!(true),
                json!({}),
                json!("verify"),
                json!([7]),
                json!([["verify"]]),
                json!(["verify", null]),
            ];
            let names = ["use", "alg", "kid", "kty", "n", "e", "crv", "x", "y", "issuer"];
            let rows = texts.iter().flat_map(|value| names.map(|name| (name, value)));
            for (name, value) in rows.chain(lists.iter().map(|value| ("key_ops", value))) {
                let mut jwk = key(algorithm);
                jwk[name] = value.clone();
                let set = json!({"keys": [key(algorithm), jwk]}).to_string();
                assert!(JwkSet::parse(set.as_bytes()).is_err(), "{name}: {value}");
            }
            for (name, value) in [
                ("use", r#""sig""#),
                ("key_ops", r#"["verify"]"#),
                ("alg", r#""RS256""#),
                ("kty", r#""RSA""#),
            ] {
                for twice in [
                    format!(r#""{name}":{value},"{name}":{value}"#),
                    format!(r#""{name}":"enc","{name}":{value}"#),
                ] {
                    let mut jwk = key(algorithm);
                    jwk.as_object_mut().unwrap().remove(name);
                    let jwk = jwk.to_string().replacen('{', &format!("{{{twice},"), 1);
                    let set = format!(r#"{{"keys":[{jwk}]}}"#);
                    assert!(JwkSet::parse(set.as_bytes()).is_err(), "{twice}");
                }
            }
        }
    }

    #[test]
    fn a_key_set_and_its_keys_are_json_objects() {
        let jwk = json!({"kty": "oct"}).to_string();
        let set = format!(r#"{{"keys":[{jwk}]}}"#);
        assert_eq!(JwkSet::parse(set.as_bytes()).unwrap().keys.len(), 1);
        assert_eq!(JwkSet::parse(br#"{"keys":[],"more":[]}"#).unwrap().keys, []);
        for text in malformed(&set, &format!("[[{jwk}]]")) {
            assert!(JwkSet::parse(text.as_bytes()).is_err(), "{text}");
        }
        let array = r#"["sig",["verify"],"RS256","kid","RSA","n","e","P-256","x","y","issuer"]"#;
        for text in malformed(&jwk, array).iter().filter(|text| !text.trim().is_empty()) {
            let set = format!(r#"{{"keys":[{text}]}}"#);
            assert!(JwkSet::parse(set.as_bytes()).is_err(), "{set}");
        }
        for keys in ["null", "{}", r#""""#, "7"] {
            assert!(JwkSet::parse(format!(r#"{{"keys":{keys}}}"#).as_bytes()).is_err(), "{keys}");
        }
        assert!(JwkSet::parse(br#"{"keys":[],"keys":[]}"#).is_err());
    }

    #[test]
    fn malformed_numbers_are_not_a_key() {
        let n = |bytes: &[u8]| json!(URL_SAFE_NO_PAD.encode(bytes));
        let ec = key(Algorithm::Es256);
        let (x, y) = (ec["x"].clone(), ec["y"].clone());
        for (name, value) in [
            ("crv", json!("P-384")),
            ("crv", json!("secp256k1")),
            ("x", json!("")),
            ("x", y.clone()),
            ("y", x),
            ("x", n(&[0; 32])),
            ("x", n(&[0xff; 32])),
            ("x", n(&[1; 31])),
            ("y", n(&[1; 33])),
            ("y", json!(format!("{}=", y.as_str().unwrap()))),
            ("kty", json!("RSA")),
            ("kty", json!("OKP")),
            ("kty", json!("ec")),
        ] {
            let mut jwk = ec.clone();
            jwk[name] = value.clone();
            assert!(read(&jwk).verifying_key(Algorithm::Es256, RSA_BITS).is_none(), "{name}: {value}");
        }
        let rsa = read(&key(Algorithm::Rs256));
        assert!(rsa.verifying_key(Algorithm::Rs256, 2048..=2048).is_some());
        for bits in [2049..=8192, 1024..=2047] {
            assert!(rsa.verifying_key(Algorithm::Rs256, bits).is_none());
        }
    }

    /// The examples of RFC 7638 section 3.1, and of RFC 7517 appendix A.1 with its thumbprint by another program.
    #[test]
    fn thumbprints_match_the_examples() {
        let rsa = json!({"kty": "RSA", "e": "AQAB", "alg": "RS256", "kid": "2011-04-29", "n":
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn\
             64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n\
             91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"});
        let ec = json!({"kty": "EC", "crv": "P-256", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM", "use": "enc", "kid": "1"});
        for (jwk, thumbprint) in [
            (rsa, Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")),
            (ec, Some("cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s")),
            (json!({"kty": "oct", "k": "c2VjcmV0"}), None),
            (json!({"kty": "RSA", "n": "AQAB"}), None),
        ] {
            assert_eq!(read(&jwk).thumbprint().as_deref(), thumbprint);
        }
    }
}
