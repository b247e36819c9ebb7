//! Durations: how long a token lives, how far a clock may be off, how long anything is kept.
//!
//! They are all here because they depend on one another; the assertions at the end hold them together.

use std::str::FromStr;

use time::{Duration, OffsetDateTime};

/// How long a token lives: 60 to 1440 minutes (docs/wire-contract.md#lifecycle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(u16);

/// The minutes asked for lie outside 60..=1440.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} minutes are outside 60..=1440")]
pub struct LifetimeOutOfRangeError(pub i64);

/// Largest difference between a signed request's date and our clock, in minutes: 1 to 15, and 5 unless a
/// deployment says otherwise (docs/wire-contract.md#clock-and-replay).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateWindow(u8);

/// How far ahead of the verifier's clock a token's `iat` may lie. Issuer and verifier are different
/// machines: without this a token could be refused in the instant after it was issued. It does not
/// lengthen any life: `exp` is judged without leeway.
pub const ISSUED_AT_LEEWAY: Duration = Duration::seconds(5);

/// How long a deleted identity's record stays, so that a late duplicate of its creation meets it.
/// Longer than any token the identity can have been given.
pub const TOMBSTONE: Duration = Duration::hours(48);

/// How long a request may take in all. Below the 5 seconds a function has, so that a caller is told to try
/// again instead of meeting a gateway's timeout, and the audit line is written.
pub const REQUEST_DEADLINE: std::time::Duration = std::time::Duration::from_secs(4);

/// How long failed signatures cause no further look at the pointer after one that found nothing new.
pub const KEY_REFRESH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// How long anyone may keep the published key set, in seconds: `max-age` of its reply. An offline verifier
/// that keeps to it knows of replaced keys that much later.
pub const KEY_SET_MAX_AGE: u32 = 60;

/// How long an instance answers with the key set it read last: whoever asks is anyone.
pub const KEY_SET_REUSE: std::time::Duration = std::time::Duration::from_secs(1);

impl Lifetime {
    /// Shortest life, in minutes.
    pub const MIN: u16 = 60;
    /// Longest life, in minutes.
    pub const MAX: u16 = 1440;

    /// A life of so many minutes.
    ///
    /// # Errors
    /// [`LifetimeOutOfRangeError`] outside 60..=1440.
    pub fn from_minutes(minutes: i64) -> Result<Self, LifetimeOutOfRangeError> {
        u16::try_from(minutes)
            .ok()
            .filter(|minutes| (Self::MIN..=Self::MAX).contains(minutes))
            .map(Self)
            .ok_or(LifetimeOutOfRangeError(minutes))
    }

    /// The longest life any token of ours has, in seconds.
    pub const MAX_SECONDS: i64 = Self::MAX as i64 * 60;

    /// The life in seconds.
    #[must_use]
    pub fn as_seconds(self) -> i64 {
        i64::from(self.0) * 60
    }
}

impl DateWindow {
    /// The window in minutes.
    #[must_use]
    pub fn minutes(self) -> u8 {
        self.0
    }

    /// Whether a date is within the window around now, edges included.
    #[must_use]
    pub fn admits(self, date: OffsetDateTime, now: OffsetDateTime) -> bool {
        (now - date).abs() <= Duration::minutes(self.0.into())
    }
}

impl Default for DateWindow {
    fn default() -> Self {
        Self(5)
    }
}

impl FromStr for DateWindow {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse().ok().filter(|minutes| (1..=15).contains(minutes)).map(Self).ok_or(())
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(Self::MAX)
    }
}

/// Whether a token with this `exp` (seconds since the epoch) has ended. RFC 7519 section 4.1.4: a token
/// is not accepted on or after its expiry.
#[must_use]
pub fn has_expired(exp: i64, now: OffsetDateTime) -> bool {
    now.unix_timestamp() >= exp
}

const _: () = assert!(TOMBSTONE.whole_seconds() > Lifetime::MAX_SECONDS + ISSUED_AT_LEEWAY.whole_seconds());
const _: () = assert!(Lifetime::MIN < Lifetime::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_inclusive() {
        for minutes in [60, 61, 1439, 1440] {
            assert_eq!(Lifetime::from_minutes(minutes).map(Lifetime::as_seconds), Ok(minutes * 60));
        }
        for minutes in [i64::MIN, -60, 0, 59, 1441, 65_596, i64::MAX] {
            assert_eq!(Lifetime::from_minutes(minutes), Err(LifetimeOutOfRangeError(minutes)));
        }
        assert_eq!(Lifetime::default().as_seconds(), 86_400);
    }

    #[test]
    fn a_token_ends_at_its_expiry_not_after() {
        let at = OffsetDateTime::from_unix_timestamp(1_000).unwrap();
        assert!(!has_expired(1_001, at));
        assert!(has_expired(1_000, at));
        assert!(!has_expired(1_001, at + Duration::milliseconds(999)));
        assert!(has_expired(1_001, at + Duration::seconds(1)));
    }
}
