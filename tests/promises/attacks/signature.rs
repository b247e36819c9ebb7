//! Signatures: by the named key, with the key's algorithm, over exactly the received bytes.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self as schemes, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::keys::pointer::{Published, PublishedKey, PublishedKeys};
use identity::keys::rotation::Change;
use identity::keys::{Algorithm, Slot};
use identity::testing::signing_key;
use identity::token::verify::{TokenError, VerifyError};
use serde_json::{Value, json};

use super::forge::{Forge, Object, encode, signed_by, signing_input};

/// Names that are not an accepted algorithm.
const WRONG_NAMES: &str = "none|None|NONE|noNE|nOnE|HS256|HS384|HS512|RS1|RS384|RS512|PS256|PS384|PS512|ES384|ES512|\
    ES256K|EdDSA|Ed25519|RSA-OAEP|A256GCM|dir||rs256|es256|Rs256|RS256 | ES256|RS256\0|RS256,none|SHA256withRSA|ЕS256";

/// JSON values that are not a string.
const NOT_NAMES: &str =
    r#"null true 0 256 [] ["RS256"] ["ES256"] {} {"RS256":null} {"ES256":null} {"ES256":{}}"#;

#[tokio::test]
async fn only_two_names_are_algorithms() {
    for forge in Forge::both().await {
        let wrong = WRONG_NAMES.split('|').map(|name| json!(name).to_string());
        let rows = wrong.chain(NOT_NAMES.split(' ').map(str::to_owned)).flat_map(|name| {
            let header = forge.header.with("alg", &name).to_string();
            let signed = signing_input(&header, forge.claims.to_string());
            let tokens = [
                ("signed by the key in force", forge.header(&header)),
                ("with the signature of the valid token", format!("{signed}.{}", forge.parts()[2])),
                ("without a signature", format!("{signed}.")),
            ];
            tokens.map(|(how, token)| (format!("{name}, {how}"), token))
        });
        forge.refuse(TokenError::Header, rows.collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn public_keys_are_not_shared_secrets() {
    for forge in Forge::both().await {
        let mut secrets = encodings_of_the_public_key(&forge);
        secrets.push(("no key", Vec::new()));
        secrets.push(("the key id", forge.key().id().as_str().into()));
        secrets.push(("the access key's text", forge.service.primary.as_bytes().into()));
        secrets.push(("the access key", STANDARD.decode(&forge.service.primary).unwrap()));
        let keyed = |header: &Object| {
            let signed = signing_input(header.to_string(), forge.claims.to_string());
            let row = |(name, secret): &(&'static str, Vec<u8>)| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                (*name, format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes()))))
            };
            secrets.iter().map(row).collect::<Vec<_>>()
        };
        forge.refuse(TokenError::Header, keyed(&forge.header.with("alg", r#""HS256""#))).await;
        forge.refuse(TokenError::Signature, keyed(&forge.header)).await;
    }
}

fn encodings_of_the_public_key(forge: &Forge) -> Vec<(&'static str, Vec<u8>)> {
    let (spki, bare) = match forge.algorithm {
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::from_pkcs8(&forge.pkcs8()).unwrap();
            (AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()), pair.public_key().as_ref().to_vec())
        }
        Algorithm::Es256 => {
            let pair =
                EcdsaKeyPair::from_pkcs8(&schemes::ECDSA_P256_SHA256_FIXED_SIGNING, &forge.pkcs8()).unwrap();
            (AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()), pair.public_key().as_ref().to_vec())
        }
    };
    let spki = spki.unwrap().as_ref().to_vec();
    let base64 = STANDARD.encode(&spki);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", lines.join("\n"));
    let jwk = serde_json::to_string(forge.key().jwk()).unwrap();
    vec![
        ("PEM", pem.clone().into()),
        ("PEM and a newline", format!("{pem}\n").into()),
        ("PEM with CR LF", pem.replace('\n', "\r\n").into()),
        ("one line of base64", base64.into()),
        ("SubjectPublicKeyInfo", spki),
        ("PKCS#1, or the raw point", bare),
        ("JSON Web Key", jwk.clone().into()),
        ("JSON Web Key Set", format!(r#"{{"keys":[{jwk}]}}"#).into()),
    ]
}

#[tokio::test]
async fn a_key_has_one_algorithm() {
    for forge in Forge::both().await {
        let other = match forge.algorithm {
            Algorithm::Rs256 => Algorithm::Es256,
            Algorithm::Es256 => Algorithm::Rs256,
        };
        let key = signing_key(other, 0);
        let alg = json!(other.as_str());
        let payload = forge.claims.to_string();
        let renamed = signing_input(forge.header.with("alg", &alg).to_string(), &payload);
        let own = forge.header.with("alg", &alg).with("kid", json!(key.id().as_str()));
        let rows = [
            ("the other name over the key's own signature", signed_by(forge.key(), &renamed)),
            ("the other name and the other algorithm's key", signed_by(&key, &renamed)),
            ("the other algorithm's key alone", signed_by(&key, forge.signed())),
        ];
        forge.refuse(TokenError::Signature, rows).await;
        let whole = signed_by(&key, &signing_input(own.to_string(), &payload));
        forge.refuse(TokenError::KeyNotInForce, [("a whole token of the other algorithm", whole)]).await;
    }
}

#[tokio::test]
async fn a_key_id_names_the_key_that_signed() {
    for forge in Forge::both().await {
        let with_kid = |kid: &str| {
            signing_input(forge.header.with("kid", json!(kid)).to_string(), forge.claims.to_string())
        };
        let (secondary, unpublished) = (forge.keys.of(Slot::Secondary), forge.unpublished_key());
        let of_secondary = with_kid(secondary.id().as_str());
        forge.accept("the key of another slot", &signed_by(secondary, &of_secondary)).await;
        let rows = [
            ("another slot's key id", signed_by(forge.key(), &of_secondary)),
            ("another slot's key", signed_by(secondary, forge.signed())),
            ("an unpublished key", signed_by(&unpublished, forge.signed())),
        ];
        forge.refuse(TokenError::Signature, rows).await;

        let kid = forge.key().id().as_str();
        let mut swapped = kid.to_owned();
        let letter = kid.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        let flipped = (kid.as_bytes()[letter] ^ 0x20) as char;
        swapped.replace_range(letter..=letter, &flipped.to_string());
        let reversed: String = kid.chars().rev().collect();
        let rows = [
            ("an unpublished key and its id", signed_by(&unpublished, &with_kid(unpublished.id().as_str()))),
            ("the id of an unpublished key", signed_by(forge.key(), &with_kid(unpublished.id().as_str()))),
            ("one letter in the other case", signed_by(forge.key(), &with_kid(&swapped))),
            ("lower case", signed_by(forge.key(), &with_kid(&kid.to_ascii_lowercase()))),
            ("reversed", signed_by(forge.key(), &with_kid(&reversed))),
            ("forty-three hyphens", signed_by(forge.key(), &with_kid(&"-".repeat(43)))),
        ];
        forge.refuse(TokenError::KeyNotInForce, rows).await;
    }
}

/// Somebody who has read the secret can sign with a standby key. The key set has that key, but it is not in force.
#[tokio::test]
async fn tokens_of_a_standby_key_are_refused() {
    for forge in Forge::both().await {
        let standby = forge.keys.standby().unwrap().unwrap();
        let rows = Slot::ALL.map(|slot| {
            let kid = Value::from(standby.of(slot).id().as_str());
            let signed = signing_input(forge.header.with("kid", kid).to_string(), forge.claims.to_string());
            (slot.as_str(), signed_by(standby.of(slot), &signed))
        });
        forge.refuse(TokenError::KeyNotInForce, rows).await;
    }
}

#[tokio::test]
async fn tokens_of_a_replaced_key_are_refused() {
    for forge in Forge::both().await {
        forge.accept("before", &forge.token).await;
        forge.service.replace_keys(Change::RotateSigningKeys).await.unwrap();
        let fresh = forge.claims(forge.claims.with("jti", r#""00000000000000000000000000000000""#));
        for token in [&forge.token, &fresh, &forge.token] {
            for verifier in [forge.service.verifier.as_ref(), &forge.cold_verifier()] {
                let (outcome, reads) = forge.verdict(verifier, token).await;
                assert!(
                    matches!(outcome, Err(VerifyError::Refused(TokenError::KeyNotInForce))),
                    "{outcome:?}"
                );
                assert_eq!(reads, 1);
            }
        }
        let token = forge.service.issue(&forge.service.primary, &forge.id).await.token().unwrap();
        forge.accept("by the new key", &token).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_of_the_signature_is_refused() {
    for forge in Forge::both().await {
        let own = forge.signature();
        let last = own.len() - 1;
        let ends = [0, last].into_iter().flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
        let each = (0..own.len()).map(|byte| (byte, byte % 8));
        let rows = ends.chain(each).map(|(byte, bit)| {
            let mut flipped = own.clone();
            flipped[byte] ^= 1 << bit;
            (format!("bit {bit} of byte {byte}"), forge.signed_with(flipped))
        });
        forge.refuse(TokenError::Signature, rows.collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn signatures_of_other_texts_are_refused() {
    for forge in Forge::both().await {
        let own = forge.signature();
        let other_id = forge.service.create().await;
        let other = forge.service.issue(&forge.service.primary, &other_id).await.token().unwrap();
        let [header, payload, signature] = forge.parts();
        let (_, other_payload) = other.rsplit_once('.').unwrap().0.split_once('.').unwrap();
        let other_signature = other.rsplit_once('.').unwrap().1;
        let reordered = signing_input(
            forge.header.without("typ").led_by("typ", r#""JWT""#).to_string(),
            forge.claims.to_string(),
        );
        let rows = [
            ("stripped", forge.signed_with([])),
            ("first byte gone", forge.signed_with(&own[1..])),
            ("last byte gone", forge.signed_with(&own[..own.len() - 1])),
            ("one byte alone", forge.signed_with(&own[..1])),
            ("one byte more", forge.signed_with([own.as_slice(), &[1]].concat())),
            ("its text signed", forge.signed_with(signature)),
            ("another token's signature", format!("{header}.{payload}.{other_signature}")),
            ("another token's payload", format!("{header}.{other_payload}.{signature}")),
            ("the header's members in another order", format!("{reordered}.{signature}")),
            (
                "over the payload alone",
                format!("{header}.{payload}.{}", encode(forge.key().sign(payload.as_bytes()).unwrap())),
            ),
            ("over the decoded text", {
                let decoded = format!("{}.{}", forge.header, forge.claims);
                forge.signed_with(forge.key().sign(decoded.as_bytes()).unwrap())
            }),
        ];
        forge.refuse(TokenError::Signature, rows).await;
    }
}

#[tokio::test]
async fn an_unusable_published_key_refuses_the_set() {
    let forge = Forge::new(Algorithm::Es256).await;
    let entries = Published::of(&forge.keys, 0).unwrap().entries().unwrap();
    let parse = |entries: &[PublishedKey]| PublishedKeys::parse(&Published::from_entries(entries));
    assert!(parse(&entries).is_ok());
    let ed25519 = |x: &str| json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "x": x});
    let point = |crv: &str, x: &str, y: &str| json!({"kty": "EC", "crv": crv, "use": "sig", "alg": "ES256", "x": x, "y": y});
    let own = serde_json::to_value(forge.key().jwk()).unwrap();
    let (x, y) = (own["x"].as_str().unwrap(), own["y"].as_str().unwrap());
    let zero = encode([0; 32]);
    let strange = [
        ("a point of small order", ed25519(&zero)),
        ("the neutral point", ed25519(&encode([[1].as_slice(), &[0; 31]].concat()))),
        ("a shared secret", json!({"kty": "oct", "alg": "HS256", "k": "c2VjcmV0"})),
        ("a point off the curve", point("P-256", x, x)),
        ("the point at infinity", point("P-256", &zero, &zero)),
        ("x and y swapped", point("P-256", y, x)),
        ("another curve's name", point("P-384", x, y)),
    ];
    for (name, mut jwk) in strange {
        jwk["kid"] = json!(thumbprint(&jwk));
        let mut entries = entries.clone();
        entries[1].jwk = serde_json::from_value(jwk).unwrap();
        assert!(parse(&entries).is_err(), "{name}");
    }
    assert_eq!(thumbprint(&own), forge.key().id().as_str(), "key ids are thumbprints");
    let mut twice = entries.clone();
    twice[1].jwk = entries[0].jwk.clone();
    assert!(parse(&twice).is_err(), "two keys with one id");
}

/// The SHA-256 hash of the sorted required members (RFC 7638).
fn thumbprint(jwk: &Value) -> String {
    let required = ["crv", "k", "kty", "x", "y"].into_iter().filter_map(|name| Some((name, jwk.get(name)?)));
    let text = serde_json::to_string(&required.collect::<BTreeMap<_, _>>()).unwrap();
    encode(digest::digest(&SHA256, text.as_bytes()))
}
