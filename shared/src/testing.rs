//! Test support: a frozen clock, seeded randomness, shared keys and captured audit lines.

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

/// The start of a [`FrozenClock`]. It is the date of docs/wire-contract.md#worked-examples.
pub const NOON: OffsetDateTime = datetime!(2024-03-01 12:00 UTC);

/// A clock that moves only by [`FrozenClock::advance`].
pub struct FrozenClock {
    milliseconds: AtomicI64,
}

/// Random bytes that depend only on the seed. They are not secure.
pub struct SeededRandom {
    state: AtomicU64,
}

/// A sink that keeps every audit line as JSON text.
#[derive(Default)]
pub struct CapturedAudit {
    lines: Mutex<Vec<String>>,
}

impl FrozenClock {
    /// A clock at [`NOON`].
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

    /// Uses the time of the Tokio runtime, which tests can pause.
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl SeededRandom {
    /// The stream of bytes for a seed.
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

    /// All lines until now.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Audit for CapturedAudit {
    fn request(&self, event: &Arc<AuditEvent>) {
        self.push(serde_json::to_string(event));
    }

    fn keys(&self, event: &KeyEvent) {
        self.push(serde_json::to_string(event));
    }
}

/// Settings of a test resource behind `localhost:8443`.
///
/// # Panics
/// Never, because the values are constant and valid.
#[must_use]
pub fn settings() -> Settings {
    let value = |name: &str| match name {
        "RESOURCE_ID" => Some("1b5cc06b-f352-4571-b1e6-d9b259b7c776".to_owned()),
        "RESOURCE_LOCATION" => Some("unitedstates".to_owned()),
        "RESOURCE_REGION" => Some("amer".to_owned()),
        "ISSUER" => Some("https://localhost:8443".to_owned()),
        "SCOPE_CLAIM" => Some("true".to_owned()),
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

/// Entra settings that accept no tenant.
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
        unreachable!("no tenant is configured, so no document is fetched")
    }
}

/// A request with a valid or an invalid signature, as in `tests/vectors/hmac.json`.
#[derive(Deserialize)]
pub struct SignedVector {
    pub name: String,
    /// The time of arrival, as an HTTP date.
    pub now: String,
    pub method: String,
    /// The request target, as on the wire.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// The document for [`access_keys`].
    pub access_keys: serde_json::Value,
    /// The accepted hosts.
    pub hosts: Vec<String>,
    /// `accept:` and the slot, or the cause of the refusal.
    pub verdict: String,
}

impl SignedVector {
    /// All vectors of the file.
    ///
    /// # Panics
    /// If the file is malformed.
    #[must_use]
    pub fn all() -> Vec<Self> {
        match serde_json::from_str(include_str!("../../tests/vectors/hmac.json")) {
            Ok(vectors) => vectors,
            Err(fault) => unreachable!("{fault}"),
        }
    }
}

/// Access keys from a document of the test vectors: `{"primary":"<base64>","secondary":"<base64>"}`.
///
/// # Panics
/// If the document is malformed.
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

/// The number of shared keys of each algorithm.
const KEYS: usize = 24;

/// A signing key. An index below [`KEYS`] always gives the same key in one test run. Any other index gives a new key.
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

/// One key for each slot, with the indexes from `index` on.
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

#[expect(clippy::disallowed_methods, reason = "test keys are generated once per run and not handed in")]
fn rsa_pkcs8() -> Secret {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048);
    let der = pair.and_then(|pair| AsDer::<Pkcs8V1Der<'_>>::as_der(&pair));
    der.map_or_else(|_| unreachable!("key generation works"), |der| Secret::new(der.as_ref().to_vec()))
}

#[expect(clippy::disallowed_methods, reason = "test keys are generated once per run and not handed in")]
fn ecdsa_pkcs8() -> Secret {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let der = pair.and_then(|pair| pair.to_pkcs8v1());
    der.map_or_else(|_| unreachable!("key generation works"), |der| Secret::new(der.as_ref().to_vec()))
}
