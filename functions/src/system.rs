//! The clock, randomness and key generation of the machine. The core receives them as ports, and no other module of this
//! crate makes them.

use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use identity::keys::signing::SigningKey;
use identity::keys::{Algorithm, KeyMaterialError};
use identity::runtime::{Clock, Random};
use identity::secrets::Secret;
use time::OffsetDateTime;

/// The machine: its clocks and its random bytes.
pub struct System {
    started: Instant,
    random: SystemRandom,
}

impl System {
    /// The clocks start now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "time and randomness enter here")]
    pub fn new() -> Self {
        Self { started: Instant::now(), random: SystemRandom::new() }
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "time enters here")]
    fn now(&self) -> OffsetDateTime {
        date_of(SystemTime::now())
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The date of an instant. An instant outside the years -9999 to 9999 gives the nearest date of these years. A token with
/// a later expiry cannot be written, and every token has expired at the last second, so the service refuses all tokens.
fn date_of(instant: SystemTime) -> OffsetDateTime {
    let longest = time::Duration::MAX;
    match instant.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => OffsetDateTime::UNIX_EPOCH.saturating_add(after.try_into().unwrap_or(longest)),
        Err(error) => {
            OffsetDateTime::UNIX_EPOCH.saturating_sub(error.duration().try_into().unwrap_or(longest))
        }
    }
}

impl Random for System {
    /// # Panics
    /// When the cryptographic library has no random bytes, because every later step would be unsafe.
    #[expect(clippy::panic, reason = "to continue without randomness would be unsafe")]
    fn fill(&self, bytes: &mut [u8]) {
        if self.random.fill(bytes).is_err() {
            panic!("the cryptographic library returned no random bytes");
        }
    }
}

/// Makes a signing key. An RSA key takes a small Lambda function half a second, so no request waits for one.
///
/// # Errors
/// [`KeyMaterialError`] when the cryptographic library fails.
#[expect(clippy::disallowed_methods, reason = "key generation enters here")]
pub fn generate(algorithm: Algorithm) -> Result<SigningKey, KeyMaterialError> {
    let pkcs8 = match algorithm {
        Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048)
            .and_then(|pair| AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map(|der| der.as_ref().to_vec())),
        Algorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .and_then(|pair| pair.to_pkcs8v1().map(|der| der.as_ref().to_vec())),
    };
    let pkcs8 = pkcs8.map_err(|_| KeyMaterialError::GENERATION)?;
    SigningKey::from_pkcs8(algorithm, Secret::new(pkcs8))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn dates_outside_the_calendar_are_its_ends() {
        let year = Duration::from_secs(31_556_952);
        let after = |years| SystemTime::UNIX_EPOCH.checked_add(year * years).unwrap();
        let before = |years| SystemTime::UNIX_EPOCH.checked_sub(year * years).unwrap();
        assert_eq!(date_of(SystemTime::UNIX_EPOCH), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(date_of(after(54)), OffsetDateTime::from(after(54)));
        assert_eq!(date_of(before(54)), OffsetDateTime::from(before(54)));
        for years in [8_035, 1_000_000, 200_000_000] {
            assert_eq!(date_of(after(years)), datetime!(9999-12-31 23:59:59.999_999_999 UTC));
        }
        assert_eq!(date_of(before(1_000_000)), datetime!(-9999-01-01 0:00 UTC));
    }
}
