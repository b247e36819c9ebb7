//! ECDSA signatures: two numbers of 32 bytes each, above zero and below the order of P-256.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::signature::{self as schemes, EcdsaKeyPair};
use identity::keys::Algorithm;
use identity::token::verify::{TokenError, VerifyError};

use super::forge::{Forge, encode, unhex};

/// The order and the prime of P-256 (FIPS 186-4 appendix D.1.2.3).
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const PRIME: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";

#[tokio::test]
async fn numbers_outside_the_order_are_refused() {
    for forge in Forge::both().await {
        let near = |hex: &str, last: u8| {
            let mut number = unhex(hex);
            number[31] = last;
            number
        };
        let numbers = [
            ("0", vec![0; 32]),
            ("1", near(&"00".repeat(32), 1)),
            ("n-1", near(ORDER, 0x50)),
            ("n", unhex(ORDER)),
            ("n+1", near(ORDER, 0x52)),
            ("p-1", near(PRIME, 0xfe)),
            ("p", unhex(PRIME)),
            ("2^256-1", vec![0xff; 32]),
        ];
        let own = forge.signature();
        let (r, s) = (own[..32].to_vec(), own[32..64].to_vec());
        let pairs = numbers.iter().flat_map(|(r, left)| {
            numbers.iter().map(move |(s, right)| (format!("r={r} s={s}"), [left.as_slice(), right].concat()))
        });
        let mixed = numbers.iter().flat_map(|(name, number)| {
            [
                (format!("own r, s={name}"), [r.as_slice(), number].concat()),
                (format!("r={name}, own s"), [number.as_slice(), &s].concat()),
            ]
        });
        let rows = pairs.chain(mixed).map(|(name, signature)| (name, forge.signed_with(signature)));
        forge.refuse(TokenError::Signature, rows.collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "keys on curves that are not accepted, made for one signature")]
async fn other_ecdsa_forms_and_curves_are_refused() {
    let forge = Forge::new(Algorithm::Es256).await;
    let signed = forge.signed();
    let sign = |pair: &EcdsaKeyPair, hash| {
        forge.signed_with(pair.sign_digest(&digest::digest(hash, signed.as_bytes())).unwrap())
    };
    let fresh = |algorithm| EcdsaKeyPair::generate(algorithm).unwrap();
    let asn1 = EcdsaKeyPair::from_pkcs8(&schemes::ECDSA_P256_SHA256_ASN1_SIGNING, &forge.pkcs8()).unwrap();
    let own = forge.signature();
    let (r, s) = own.split_at(32);
    let rows = [
        ("DER", sign(&asn1, &SHA256)),
        ("secp256k1", sign(&fresh(&schemes::ECDSA_P256K1_SHA256_FIXED_SIGNING), &SHA256)),
        ("P-384", sign(&fresh(&schemes::ECDSA_P384_SHA384_FIXED_SIGNING), &SHA384)),
        ("P-521", sign(&fresh(&schemes::ECDSA_P521_SHA512_FIXED_SIGNING), &SHA512)),
        ("another P-256 key", sign(&fresh(&schemes::ECDSA_P256_SHA256_FIXED_SIGNING), &SHA256)),
        ("r and s swapped", forge.signed_with([s, r].concat())),
        ("r alone", forge.signed_with(r)),
        ("r twice", forge.signed_with([r, r].concat())),
        ("as if P-384", forge.signed_with([&[0; 16], r, &[0; 16], s].concat())),
        ("a zero before each", forge.signed_with([&[0], r, &[0], s].concat())),
        ("a zero before", forge.signed_with([&[0], r, s].concat())),
        ("a zero between", forge.signed_with([r, &[0], s].concat())),
        ("a zero after", forge.signed_with([r, s, &[0]].concat())),
        ("an uncompressed point's tag before", forge.signed_with([&[4], r, s].concat())),
        ("little-endian", forge.signed_with(own.iter().rev().copied().collect::<Vec<_>>())),
    ];
    forge.refuse(TokenError::Signature, rows).await;

    let (token, short) = forge.some_token(|signature| signature.strip_prefix(&[0]).map(<[u8]>::to_vec));
    forge.accept("an r that begins with zero", &token).await;
    let signed = token.rsplit_once('.').unwrap().0;
    let rows = [("its leading zero removed", format!("{signed}.{}", encode(short)))];
    forge.refuse(TokenError::Signature, rows).await;
}

/// For every ECDSA signature (r, s), (r, n-s) is valid too, and RFC 7518 excludes neither. The second signature gives no
/// further rights and no longer validity. It does not escape a revocation, because revocation does not use the token's
/// text.
#[tokio::test]
async fn the_second_form_of_a_signature_changes_nothing() {
    let forge = Forge::new(Algorithm::Es256).await;
    let own = forge.signature();
    let mut borrow = 0_i16;
    let mut second = own.clone();
    for (index, order) in unhex(ORDER).iter().enumerate().rev() {
        let difference = i16::from(*order) - i16::from(own[32 + index]) - borrow;
        borrow = i16::from(difference < 0);
        second[32 + index] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    assert_ne!(second, own);
    let second = forge.signed_with(second);
    assert_eq!(forge.accept("the second form", &second).await, forge.accept("itself", &forge.token).await);
    assert_eq!(forge.service.revoke(&forge.id).await.status, 204);
    for token in [&forge.token, &second] {
        let outcome = forge.service.verify(token).await;
        assert!(matches!(outcome, Err(VerifyError::Refused(TokenError::Revoked))), "{outcome:?}");
    }
}
