//! RSA signatures: one number, with exactly one padding.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self as schemes, RsaEncoding};
use identity::keys::Algorithm;
use identity::token::verify::TokenError;
use openssl::bn::BigNum;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};

use super::forge::{Forge, encode, unhex};

fn private_key(forge: &Forge) -> Rsa<Private> {
    PKey::private_key_from_pkcs8(&forge.pkcs8()).unwrap().rsa().unwrap()
}

/// The private operation alone, on a block with the test's padding (RFC 8017 section 5.2.1).
fn sign_unpadded(key: &Rsa<Private>, block: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; 256];
    assert_eq!(key.private_encrypt(block, &mut signature, Padding::NONE).unwrap(), 256);
    signature
}

#[tokio::test]
async fn other_rsa_schemes_of_the_same_key_are_refused() {
    let forge = Forge::new(Algorithm::Rs256).await;
    let pair = RsaKeyPair::from_pkcs8(&forge.pkcs8()).unwrap();
    let sign = |encoding: &'static dyn RsaEncoding, hash| {
        let mut signature = vec![0; 256];
        let digest = digest::digest(hash, forge.signed().as_bytes());
        pair.sign_digest(encoding, &digest, &mut signature).unwrap();
        forge.signed_with(signature)
    };
    assert_eq!(sign(&schemes::RSA_PKCS1_SHA256, &SHA256), forge.token, "the scheme of the valid token");
    let rows = [
        ("PS256", sign(&schemes::RSA_PSS_SHA256, &SHA256)),
        ("PS384", sign(&schemes::RSA_PSS_SHA384, &SHA384)),
        ("PS512", sign(&schemes::RSA_PSS_SHA512, &SHA512)),
        ("RS384", sign(&schemes::RSA_PKCS1_SHA384, &SHA384)),
        ("RS512", sign(&schemes::RSA_PKCS1_SHA512, &SHA512)),
    ];
    forge.refuse(TokenError::Signature, rows).await;
}

/// `DigestInfo` for SHA-256 up to the hash (RFC 8017 section 9.2, note 1).
const DIGEST_INFO: &str = "3031300d060960864801650304020105000420";

#[tokio::test]
async fn rsa_padding_is_exact() {
    let forge = Forge::new(Algorithm::Rs256).await;
    let key = private_key(&forge);
    let hash = digest::digest(&SHA256, forge.signed().as_bytes()).as_ref().to_vec();
    let valid = padded("0001", 202, &["00", DIGEST_INFO], &hash, &[]);
    assert_eq!(forge.signed_with(sign_unpadded(&key, &valid)), forge.token, "the padding of the valid token");

    let info = |info: &str| {
        let filling = 256 - 3 - info.len() / 2 - hash.len();
        padded("0001", filling, &["00", info], &hash, &[])
    };
    let flip = |index: usize| {
        let mut block = valid.clone();
        block[index] ^= 1;
        block
    };
    let blocks = [
        ("block type 0", padded("0000", 202, &["00", DIGEST_INFO], &hash, &[])),
        ("block type 2", padded("0002", 202, &["00", DIGEST_INFO], &hash, &[])),
        ("garbage after the hash", padded("0001", 8, &["00", DIGEST_INFO], &hash, &[0xa5; 194])),
        ("zeros after the hash", padded("0001", 8, &["00", DIGEST_INFO], &hash, &[0; 194])),
        ("one byte after the hash", padded("0001", 201, &["00", DIGEST_INFO], &hash, &[0])),
        ("garbage before the hash", padded("0001", 8, &["00", &"a5".repeat(194), DIGEST_INFO], &hash, &[])),
        ("no separator", padded("0001", 203, &[DIGEST_INFO], &hash, &[])),
        ("two separators", padded("0001", 201, &["0000", DIGEST_INFO], &hash, &[])),
        ("no filling", padded("0001", 0, &["00", DIGEST_INFO], &hash, &[0; 202])),
        ("first filling byte", flip(2)),
        ("middle filling byte", flip(100)),
        ("last filling byte", flip(203)),
        ("first byte of the hash", flip(224)),
        ("last byte of the hash", flip(255)),
        ("no DigestInfo", info("")),
        ("no NULL", info("302f300b06096086480165030402010420")),
        ("NULL in long form", info("3032300e06096086480165030402010581000420")),
        ("NULL with content", info("3032300e06096086480165030402010501000420")),
        ("an OCTET STRING for NULL", info("3031300d060960864801650304020104000420")),
        ("outer length in long form", info("308131300d060960864801650304020105000420")),
        ("outer length in three bytes", info("30820031300d060960864801650304020105000420")),
        ("hash length in long form", info("3032300d06096086480165030402010500048120")),
        ("indefinite length", info("3080300d060960864801650304020105000420")),
        ("outer length one too large", info("3032300d060960864801650304020105000420")),
        ("outer length one too small", info("3030300d060960864801650304020105000420")),
        ("the name of SHA-1", info("302d300906052b0e03021a05000420")),
        ("the name of SHA-384", info("3031300d060960864801650304020205000420")),
        ("the name of SHA-512", info("3031300d060960864801650304020305000420")),
        ("another tag for the hash", info("3031300d060960864801650304020105000320")),
        ("nothing but zeros", vec![0; 256]),
    ];
    let rows = blocks.map(|(name, block)| {
        assert_eq!(block.len(), 256, "{name}");
        (name, forge.signed_with(sign_unpadded(&key, &block)))
    });
    forge.refuse(TokenError::Signature, rows).await;
}

/// A block: its type, `filling` bytes `ff`, and the rest.
fn padded(kind: &str, filling: usize, middle: &[&str], hash: &[u8], tail: &[u8]) -> Vec<u8> {
    let head = unhex(kind).into_iter().chain(std::iter::repeat_n(0xff, filling));
    let middle = middle.iter().flat_map(|part| unhex(part));
    head.chain(middle).chain(hash.iter().copied()).chain(tail.iter().copied()).collect()
}

#[tokio::test]
async fn an_rsa_signature_has_one_encoding() {
    let forge = Forge::new(Algorithm::Rs256).await;
    let key = private_key(&forge);
    let signature = forge.signature();
    let modulus_less = |small| (key.n() - &BigNum::from_u32(small).unwrap()).to_vec_padded(256).unwrap();
    let rows = [
        ("zero before", forge.signed_with([&[0], signature.as_slice()].concat())),
        ("zero after", forge.signed_with([signature.as_slice(), &[0]].concat())),
        ("twice", forge.signed_with(signature.repeat(2))),
        ("reversed", forge.signed_with(signature.iter().rev().copied().collect::<Vec<_>>())),
        ("0", forge.signed_with([0; 256])),
        ("1", forge.signed_with([[0; 255].as_slice(), &[1]].concat())),
        ("the modulus", forge.signed_with(modulus_less(0))),
        ("the modulus less 1", forge.signed_with(modulus_less(1))),
        ("the largest", forge.signed_with([0xff; 256])),
    ];
    forge.refuse(TokenError::Signature, rows).await;

    let (token, short) = forge.some_token(|signature| signature.strip_prefix(&[0]).map(<[u8]>::to_vec));
    forge.accept("a signature that begins with zero", &token).await;
    let signed = token.rsplit_once('.').unwrap().0;
    let rows = [("its leading zero removed", format!("{signed}.{}", encode(short)))];
    forge.refuse(TokenError::Signature, rows).await;

    // The same number modulo the modulus. Not every sum fits into 256 bytes.
    let plus_modulus =
        |signature: &[u8]| (key.n() + &*BigNum::from_slice(signature).unwrap()).to_vec_padded(256).ok();
    let (token, large) = forge.some_token(plus_modulus);
    let signed = token.rsplit_once('.').unwrap().0;
    let rows = [("the modulus added", format!("{signed}.{}", encode(large)))];
    forge.refuse(TokenError::Signature, rows).await;
}
