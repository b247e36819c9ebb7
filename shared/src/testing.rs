//! What tests hand in: a clock that stands still, seeded randomness, keys made once, captured audit.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use serde::Deserialize;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::audit::{Audit, AuditEvent, KeyEvent};
use crate::authn::entra::{Entra, EntraSettings, Fetch, FetchError};
use crate::keys::Algorithm;
use crate::keys::access::AccessKeys;
use crate::keys::signing::{SigningKey, SigningKeys};
use crate::runtime::{Clock, Random};
use crate::secrets::Secret;
use crate::settings::{Reader, Settings};

/// Where a [`FrozenClock`] starts; the date of docs/wire-contract.md#worked-examples.
pub const NOON: OffsetDateTime = datetime!(2024-03-01 12:00 UTC);

/// A clock that moves only when told to.
pub struct FrozenClock {
    milliseconds: AtomicI64,
}

/// Random bytes that are the same for the same seed. Not secure, and not meant to be.
pub struct SeededRandom {
    state: AtomicU64,
}

/// Keeps every audit line, as JSON text.
#[derive(Default)]
pub struct CapturedAudit {
    lines: Mutex<Vec<String>>,
}

impl FrozenClock {
    /// A clock that shows [`NOON`].
    #[must_use]
    pub fn at_noon() -> Arc<Self> {
        Arc::new(Self { milliseconds: AtomicI64::new(0) })
    }

    /// Moves the clock.
    pub fn advance(&self, milliseconds: i64) {
        self.milliseconds.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for FrozenClock {
    fn now(&self) -> OffsetDateTime {
        NOON + time::Duration::milliseconds(self.milliseconds.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::SeqCst).unsigned_abs())
    }

    /// Of the runtime's time, which tests pause.
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl SeededRandom {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    // SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.state.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_be_bytes();
            for (byte, random) in chunk.iter_mut().zip(word) {
                *byte = random;
            }
        }
    }
}

impl CapturedAudit {
    fn push(&self, line: serde_json::Result<String>) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.unwrap_or_default());
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Audit for CapturedAudit {
    fn request(&self, event: &AuditEvent) {
        self.push(serde_json::to_string(event));
    }

    fn keys(&self, event: &KeyEvent) {
        self.push(serde_json::to_string(event));
    }
}

/// Settings of a test resource behind `localhost:8443`.
///
/// # Panics
/// Never: the values are constant and good.
#[must_use]
pub fn settings() -> Settings {
    let value = |name: &str| match name {
        "RESOURCE_ID" => Some("1b5cc06b-f352-4571-b1e6-d9b259b7c776".to_owned()),
        "RESOURCE_LOCATION" => Some("unitedstates".to_owned()),
        "RESOURCE_REGION" => Some("amer".to_owned()),
        "ISSUER" => Some("https://localhost:8443".to_owned()),
        "ACCEPTED_HOSTS" => Some("localhost:8443".to_owned()),
        _ => None,
    };
    let mut reader = Reader::new(&value);
    let settings = Settings::read(&mut reader);
    match reader.finish(settings) {
        Ok(settings) => settings,
        Err(faults) => unreachable!("{faults}"),
    }
}

/// A world in which nobody comes from Entra.
#[must_use]
pub fn no_entra() -> Entra {
    let mut reader = Reader::new(&|_: &str| None);
    let settings = EntraSettings::read(&mut reader);
    match reader.finish(settings) {
        Ok(settings) => Entra::new(settings, Arc::new(NoFetch), FrozenClock::at_noon()),
        Err(faults) => unreachable!("{faults}"),
    }
}

struct NoFetch;

#[async_trait]
impl Fetch for NoFetch {
    async fn get(&self, _url: &str) -> Result<Vec<u8>, FetchError> {
        unreachable!("there is nobody to ask")
    }
}

/// A request, signed or badly signed, as `tests/vectors/hmac.json` keeps it.
#[derive(Deserialize)]
pub struct SignedVector {
    pub name: String,
    /// The time of its arrival, as an HTTP date.
    pub now: String,
    pub method: String,
    /// The request target as on the wire.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// For [`access_keys`].
    pub access_keys: serde_json::Value,
    /// The hosts that are accepted.
    pub hosts: Vec<String>,
    /// `accept:` and the slot, or why it is refused.
    pub verdict: String,
}

impl SignedVector {
    /// All of them.
    ///
    /// # Panics
    /// When the file is not as described.
    #[must_use]
    pub fn all() -> Vec<Self> {
        match serde_json::from_str(include_str!("../../tests/vectors/hmac.json")) {
            Ok(vectors) => vectors,
            Err(fault) => unreachable!("{fault}"),
        }
    }
}

/// Access keys as test vectors write them: `{"primary":"<base64>","secondary":"<base64>"}`.
///
/// # Panics
/// When they are none.
#[must_use]
pub fn access_keys(vector: &serde_json::Value) -> AccessKeys {
    let mut document = vector.clone();
    if let Some(members) = document.as_object_mut() {
        members.insert("sequence".to_owned(), 1.into());
    }
    match AccessKeys::parse(&Secret::from(document.to_string())) {
        Ok(keys) => keys,
        Err(fault) => unreachable!("{fault}"),
    }
}

/// How many keys of each algorithm are made once and kept.
const KEYS: usize = 9;

/// One of the test run's keys. The first nine are the same for the same index; later ones are always new.
#[must_use]
pub fn signing_key(algorithm: Algorithm, index: usize) -> SigningKey {
    static RSA: [OnceLock<Secret>; KEYS] = [const { OnceLock::new() }; KEYS];
    static EC: [OnceLock<Secret>; KEYS] = [const { OnceLock::new() }; KEYS];
    let (keys, make): (_, fn() -> Secret) = match algorithm {
        Algorithm::Rs256 => (&RSA, rsa_pkcs8),
        Algorithm::Es256 => (&EC, ecdsa_pkcs8),
    };
    let pkcs8 = keys.get(index).map_or_else(make, |key| key.get_or_init(make).clone());
    match SigningKey::from_pkcs8(algorithm, pkcs8) {
        Ok(key) => key,
        Err(fault) => unreachable!("{fault}"),
    }
}

/// Three keys from `index` on.
#[must_use]
pub fn signing_keys(algorithm: Algorithm, index: usize) -> SigningKeys {
    let mut next = index;
    let keys = SigningKeys::generate(1, || {
        next += 1;
        Ok(signing_key(algorithm, next - 1))
    });
    match keys {
        Ok(keys) => keys,
        Err(fault) => unreachable!("{fault}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "test keys are made once a run, not handed in")]
fn rsa_pkcs8() -> Secret {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048);
    let der = pair.and_then(|pair| AsDer::<Pkcs8V1Der<'_>>::as_der(&pair));
    der.map_or_else(|_| unreachable!("key generation works"), |der| Secret::new(der.as_ref().to_vec()))
}

#[expect(clippy::disallowed_methods, reason = "test keys are made once a run, not handed in")]
fn ecdsa_pkcs8() -> Secret {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let der = pair.and_then(|pair| pair.to_pkcs8v1());
    der.map_or_else(|_| unreachable!("key generation works"), |der| Secret::new(der.as_ref().to_vec()))
}
