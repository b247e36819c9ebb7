//! The floors of cryptography: only the library, with parsed keys.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use identity::keys::Algorithm;
use sha2::Sha256;

/// A message to sign. A token has about this length.
pub const MESSAGE: [u8; 600] = [b'x'; 600];

/// A key pair as the library holds it.
pub struct RawKey {
    pair: Pair,
    public: ParsedPublicKey,
    random: SystemRandom,
}

/// A key of HMAC-SHA256 as the library holds it.
pub struct RawHmacKey(Hmac<Sha256>);

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl RawKey {
    /// A new key of the size that the service uses.
    ///
    /// # Panics
    /// When the library fails.
    #[must_use]
    pub fn generate(algorithm: Algorithm) -> Self {
        let (pair, public) = match algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key()).parse();
                (Pair::Ecdsa(pair), public)
            }
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key()).parse();
                (Pair::Rsa(pair), public)
            }
        };
        Self { pair, public: public.unwrap(), random: SystemRandom::new() }
    }

    /// The signature of a message.
    ///
    /// # Panics
    /// When the library fails.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&self.random, message).unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// Whether a signature is one of this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.public.verify_sig(message, signature).is_ok()
    }
}

impl RawHmacKey {
    /// The key with these bytes.
    ///
    /// # Panics
    /// When the library fails.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Hmac::new_from_slice(bytes).unwrap())
    }

    /// Whether this is the HMAC of a text.
    #[must_use]
    pub fn verifies(&self, text: &[u8], hmac: &[u8; 32]) -> bool {
        let mut computed = self.0.clone();
        computed.update(text);
        computed.verify_slice(hmac).is_ok()
    }
}
