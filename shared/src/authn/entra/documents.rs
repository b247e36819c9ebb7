//! The two documents of an issuer (OpenID Connect Discovery 1.0 section 4, RFC 7517). The metadata names the issuer and
//! the URL of its keys. The key set contains the keys.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use serde::Deserialize;
use uuid::Uuid;

use super::settings::EntraAuthority;
use super::{EntraTokenError, FetchError, names_tenant};
use crate::jose::{Jwk, JwkSet};
use crate::json::object;
use crate::keys::Algorithm;

/// The reason why a refresh of an issuer's keys failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IssuerError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the issuer in the metadata does not name the tenant")]
    Issuer,
    #[error("the URL of the keys in the metadata is not at the authority")]
    KeysElsewhere,
    #[error("not a key set")]
    Keys,
    #[error("the key may be newer than the keys that were fetched last, and the next fetch is not due yet")]
    KeyMayBeNew,
    #[error("the key set has the same kid twice")]
    KidTwice,
    #[error("not a metadata document")]
    Metadata,
    #[error("the key set has no usable key")]
    NoKey,
    #[error("the key set has too many keys")]
    TooManyKeys,
    #[error("the last refresh did not finish")]
    Unfinished,
}

/// The members of the metadata that are used.
#[derive(Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// The keys of one issuer.
pub(super) struct KeySet {
    issuer: String,
    keys: HashMap<String, Result<Arc<ParsedPublicKey>, EntraTokenError>>,
}

/// The key that a token names: its issuer, and its key id there.
#[derive(Clone, Copy)]
pub(super) struct KeyReference<'a> {
    pub(super) issuer: &'a str,
    pub(super) kid: &'a str,
}

/// The largest number of keys in a document. Entra publishes fewer than ten.
const MAX_KEYS: usize = 100;

/// The permitted lengths of an RSA modulus, in bits.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// Longest key id, in bytes.
pub(super) const MAX_KID: usize = 128;

/// The placeholder for the tenant in the issuer of a document for many tenants.
const TENANT_TEMPLATE: &str = "{tenantid}";

impl Metadata {
    /// Reads the metadata of a tenant at an authority.
    pub(super) fn parse(
        document: &[u8],
        authority: &EntraAuthority,
        tenant: Uuid,
    ) -> Result<Self, IssuerError> {
        let metadata: Self = object(document).map_err(|_| IssuerError::Metadata)?;
        let issuer = of_tenant(&metadata.issuer, tenant).ok_or(IssuerError::Issuer)?;
        if authority.hosts(&metadata.jwks_uri) {
            Ok(Self { issuer, ..metadata })
        } else {
            Err(IssuerError::KeysElsewhere)
        }
    }

    /// The URL of the keys.
    pub(super) fn keys_url(&self) -> &str {
        &self.jwks_uri
    }
}

impl KeySet {
    /// Reads the keys of the issuer that the metadata names. An unusable key does not affect the other keys. A document
    /// that contradicts itself is refused.
    pub(super) fn parse(document: &[u8], metadata: Metadata, tenant: Uuid) -> Result<Self, IssuerError> {
        let set = JwkSet::parse(document).map_err(|_| IssuerError::Keys)?;
        if set.keys.len() > MAX_KEYS {
            return Err(IssuerError::TooManyKeys);
        }
        let mut keys = HashMap::new();
        for jwk in set.keys {
            let key = usable_key(&jwk, tenant);
            let Some(kid) = jwk.kid.filter(|kid| is_kid(kid)) else { continue };
            if keys.insert(kid, key).is_some() {
                return Err(IssuerError::KidTwice);
            }
        }
        if keys.values().all(Result::is_err) {
            return Err(IssuerError::NoKey);
        }
        Ok(Self { issuer: metadata.issuer, keys })
    }

    /// The key with this reference.
    pub(super) fn find(&self, key: KeyReference<'_>) -> Result<Arc<ParsedPublicKey>, EntraTokenError> {
        if key.issuer != self.issuer {
            return Err(EntraTokenError::Issuer);
        }
        self.keys.get(key.kid).cloned().unwrap_or(Err(EntraTokenError::KeyUnknown))
    }
}

/// The key, if it may sign for the tenant and is strong enough. In a document for many tenants, each key names the
/// issuer whose tokens it signs. So a key of the tenant for personal accounts signs for no other tenant.
fn usable_key(jwk: &Jwk, tenant: Uuid) -> Result<Arc<ParsedPublicKey>, EntraTokenError> {
    if jwk.issuer.as_deref().is_some_and(|issuer| of_tenant(issuer, tenant).is_none()) {
        return Err(EntraTokenError::KeyIssuer);
    }
    let key = jwk.verifying_key(Algorithm::Rs256, RSA_BITS);
    key.map(Arc::new).ok_or(EntraTokenError::KeyUnusable)
}

/// Whether a text can be a key id.
pub(super) fn is_kid(text: &str) -> bool {
    (1..=MAX_KID).contains(&text.len())
}

/// The URL of an issuer, with the tenant in place of the placeholder. `None` if the URL names another tenant.
fn of_tenant(issuer: &str, tenant: Uuid) -> Option<String> {
    let issuer = issuer.replace(TENANT_TEMPLATE, &tenant.hyphenated().to_string());
    Some(issuer).filter(|issuer| names_tenant(issuer, tenant))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::super::fake::{
        AUTHORITY, CONSUMERS, OTHER_TENANT, TENANT, issuer, key, keys_url, metadata, with,
    };
    use super::*;
    use crate::json::malformed;

    fn read_metadata(document: &str) -> Result<Metadata, IssuerError> {
        Metadata::parse(document.as_bytes(), &AUTHORITY.parse().unwrap(), TENANT)
    }

    fn read_keys(document: &str) -> Result<KeySet, IssuerError> {
        let metadata = read_metadata(&metadata(TENANT, "2.0").to_string()).unwrap();
        KeySet::parse(document.as_bytes(), metadata, TENANT)
    }

    fn keys(keys: &[Value]) -> Result<KeySet, IssuerError> {
        read_keys(&json!({"keys": keys}).to_string())
    }

    /// The result for a key in a set with one more, usable key.
    fn checked(jwk: &Value) -> Result<(), EntraTokenError> {
        let set = keys(&[with(jwk, &[("kid", json!("checked"))]), key(0)]).unwrap();
        set.find(KeyReference { issuer: &issuer(TENANT, "2.0"), kid: "checked" }).map(drop)
    }

    #[test]
    fn metadata_of_the_tenant_is_accepted() {
        for version in ["1.0", "2.0"] {
            let read = read_metadata(&metadata(TENANT, version).to_string()).unwrap();
            assert_eq!(read.issuer, issuer(TENANT, version));
        }
        let common =
            with(&metadata(TENANT, "2.0"), &[("issuer", json!(format!("{AUTHORITY}/{{tenantid}}/v2.0")))]);
        assert_eq!(read_metadata(&common.to_string()).unwrap().issuer, issuer(TENANT, "2.0"));
    }

    #[test]
    fn hostile_metadata_is_refused() {
        let read = |name: &str, value: Value| {
            let document = with(&metadata(TENANT, "2.0"), &[(name, value)]);
            read_metadata(&document.to_string()).err()
        };
        for issuer in [
            issuer(OTHER_TENANT, "2.0"),
            format!("{AUTHORITY}/common/v2.0"),
            format!("{AUTHORITY}/v2.0?tenant={TENANT}"),
            format!("https://{TENANT}/v2.0"),
            issuer(TENANT, "2.0").replace("https", "http"),
            String::new(),
        ] {
            assert_eq!(read("issuer", json!(issuer)), Some(IssuerError::Issuer), "{issuer}");
        }
        for url in [
            "https://evil.example/keys",
            "http://login.example.com/keys",
            "https://login.example.com:8443/keys",
            "https://login.example.com@evil.example/keys",
            "https://169.254.169.254/latest/meta-data",
            "https://127.0.0.1/keys",
            "https://localhost/keys",
            "file:///etc/passwd",
            "/keys",
            "",
        ] {
            assert_eq!(read("jwks_uri", json!(url)), Some(IssuerError::KeysElsewhere), "{url}");
        }
        for (name, value) in [("issuer", json!(null)), ("jwks_uri", json!(null)), ("jwks_uri", json!([]))] {
            assert_eq!(read(name, value), Some(IssuerError::Metadata), "{name}");
        }
        let (issuer, keys) = (issuer(TENANT, "2.0"), keys_url(TENANT, "2.0"));
        for document in malformed(&metadata(TENANT, "2.0").to_string(), &json!([issuer, keys]).to_string()) {
            assert_eq!(read_metadata(&document).err(), Some(IssuerError::Metadata), "{document}");
        }
    }

    #[test]
    fn an_unusable_key_does_not_affect_the_other_keys() {
        let n = |bytes: Vec<u8>| json!(URL_SAFE_NO_PAD.encode(bytes));
        let of_bits = |bits: usize| {
            let mut bytes = vec![0xff; bits.div_ceil(8)];
            bytes[0] >>= (8 - bits % 8) % 8;
            n(bytes)
        };
        let even = |mut bytes: Vec<u8>| {
            *bytes.last_mut().unwrap() = 0xfe;
            n(bytes)
        };
        for (name, value) in [
            ("kty", json!("EC")),
            ("kty", json!("oct")),
            ("use", json!("enc")),
            ("key_ops", json!(["encrypt"])),
            ("key_ops", json!([])),
            ("key_ops", json!(["verify", "verify"])),
            ("alg", json!("PS256")),
            ("alg", json!("HS256")),
            ("n", json!(null)),
            ("n", json!("")),
            ("n", json!("not base64url!")),
            ("n", of_bits(1024)),
            ("n", of_bits(2047)),
            ("n", of_bits(8193)),
            ("n", of_bits(16_384)),
            ("n", even(vec![0xff; 256])),
            ("n", n([&[0][..], &[0xff; 256]].concat())),
            ("e", json!(null)),
            ("e", json!("")),
            ("e", n(vec![])),
            ("e", n(vec![0])),
            ("e", n(vec![1])),
            ("e", n(vec![2])),
            ("e", n(vec![1, 0, 0])),
            ("e", n(vec![0, 1, 0, 1])),
            ("e", n(vec![0xff; 5])),
            ("e", n(vec![0xff; 256])),
        ] {
            assert_eq!(
                checked(&with(&key(1), &[(name, value)])),
                Err(EntraTokenError::KeyUnusable),
                "{name}"
            );
        }
        for (name, value) in [
            ("use", json!(null)),
            ("key_ops", json!(["verify"])),
            ("alg", json!("RS256")),
            ("issuer", json!(null)),
            ("x5c", json!("neither list nor certificate")),
            ("e", n(vec![3])),
            ("n", of_bits(2048)),
            ("n", of_bits(8192)),
        ] {
            assert_eq!(checked(&with(&key(1), &[(name, value)])), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_key_of_another_issuer_is_refused() {
        for bound in [
            format!("https://login.microsoftonline.com/{CONSUMERS}/v2.0"),
            issuer(OTHER_TENANT, "2.0"),
            format!("https://{{tenantid}}/{CONSUMERS}/v2.0"),
            String::new(),
        ] {
            let jwk = with(&key(1), &[("issuer", json!(bound))]);
            assert_eq!(checked(&jwk), Err(EntraTokenError::KeyIssuer), "{bound}");
        }
        assert_eq!(checked(&with(&key(1), &[("issuer", json!(issuer(TENANT, "1.0")))])), Ok(()));
    }

    #[test]
    fn a_contradictory_key_set_is_refused() {
        let many = |count: usize| -> Vec<Value> {
            (0..count).map(|n| with(&key(0), &[("kid", json!(n.to_string()))])).collect()
        };
        assert!(keys(&many(100)).is_ok());
        let weak = with(&key(0), &[("e", json!("AQ"))]);
        let nameless = with(&key(0), &[("kid", json!(null))]);
        let long = with(&key(0), &[("kid", json!("k".repeat(129)))]);
        let foreign = with(&key(1), &[("kid", key(0)["kid"].clone()), ("use", json!("enc"))]);
        for (set, error) in [
            (many(101), IssuerError::TooManyKeys),
            (vec![], IssuerError::NoKey),
            (vec![weak], IssuerError::NoKey),
            (vec![nameless, long], IssuerError::NoKey),
            (vec![key(0), key(0)], IssuerError::KidTwice),
            (vec![key(0), foreign], IssuerError::KidTwice),
            (vec![with(&key(0), &[("n", json!(7))])], IssuerError::Keys),
            (vec![with(&key(0), &[("use", json!(7))])], IssuerError::Keys),
            (vec![with(&key(0), &[("key_ops", json!("verify"))])], IssuerError::Keys),
            (vec![with(&key(0), &[("alg", json!(["RS256"]))])], IssuerError::Keys),
        ] {
            assert_eq!(keys(&set).err(), Some(error));
        }
        let documents = malformed(&json!({"keys": [key(0)]}).to_string(), &json!([[key(0)]]).to_string());
        let twice = [r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#].map(str::to_owned);
        for document in documents.into_iter().chain(twice) {
            assert_eq!(read_keys(&document).err(), Some(IssuerError::Keys), "{document}");
        }
    }
}
