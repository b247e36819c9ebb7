//! Durations: the lifetime of a token, the tolerance for clocks, and the age limits of state.
//!
//! All durations are in one file because they depend on one another. The assertions at the end check the dependencies.

use std::str::FromStr;

use time::{Duration, OffsetDateTime};

/// The lifetime of a token: 60 to 1440 minutes (docs/wire-contract.md#lifecycle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(u16);

/// The requested minutes are outside 60..=1440.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} minutes are outside 60..=1440")]
pub struct LifetimeOutOfRangeError(pub i64);

/// The largest difference between the date of a signed request and the service's clock: 1 to 15 minutes. The default
/// is 5 (docs/wire-contract.md#clock-and-replay).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateWindow(u8);

/// The largest lead of a token's `iat` over the verifier's clock. Issuer and verifier are different machines, and
/// their clocks differ. Revocation compares revisions and never times, so the leeway weakens nothing. It does not extend
/// the validity of a token, because `exp` has no leeway.
pub const ISSUED_AT_LEEWAY: Duration = Duration::minutes(5);

/// The age at which the record of a deleted identity expires. Until then, a late duplicate of its creation finds the
/// record. It is longer than the lifetime of any token of the identity.
pub const TOMBSTONE: Duration = Duration::hours(48);

/// The age at which a batch of the revocation feed expires. Every token that ended with it has then expired.
pub const FEED_RETENTION: Duration = TOMBSTONE;

/// The longest duration of a request. It is below the 5 seconds of a function. So the caller gets a 503 with
/// `Retry-After` instead of a gateway's timeout, and the audit line is written.
pub const REQUEST_DEADLINE: std::time::Duration = std::time::Duration::from_secs(4);

/// The longest wait of a reader of the feed for the next end. With the reads before and after it, it is shorter than
/// [`REQUEST_DEADLINE`].
pub const LONGEST_FEED_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// The pause between two reads of a waiting reader. It bounds the delay that a wait adds.
pub const FEED_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// The time without a refresh of the access keys after a refresh that found no change.
pub const KEY_REFRESH_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// `max-age` of the published key set, in seconds. An offline verifier may accept replaced keys for this time.
pub const KEY_SET_MAX_AGE: u32 = 60;

/// How long a key set is reused. The endpoint needs no authentication, so this caps reads of the store.
pub const KEY_SET_REUSE: std::time::Duration = std::time::Duration::from_secs(1);

impl Lifetime {
    /// Shortest lifetime, in minutes.
    pub const MIN: u16 = 60;
    /// Longest lifetime, in minutes.
    pub const MAX: u16 = 1440;

    /// A lifetime of this number of minutes.
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

    /// Longest lifetime of a token of this service, in seconds.
    pub const MAX_SECONDS: i64 = Self::MAX as i64 * 60;

    /// The lifetime in seconds.
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

    /// The window as a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::minutes(self.0.into())
    }

    /// Whether a date differs from now by at most the window.
    #[must_use]
    pub fn admits(self, date: OffsetDateTime, now: OffsetDateTime) -> bool {
        (now - date).abs() <= self.duration()
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

/// Whether a token with this `exp` (seconds since the epoch) has expired. A token is not accepted on or after its expiry
/// (RFC 7519 section 4.1.4).
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
    fn bounds_of_the_interval_are_valid() {
        for minutes in [60, 61, 1439, 1440] {
            assert_eq!(Lifetime::from_minutes(minutes).map(Lifetime::as_seconds), Ok(minutes * 60));
        }
        for minutes in [i64::MIN, -60, 0, 59, 1441, 65_596, i64::MAX] {
            assert_eq!(Lifetime::from_minutes(minutes), Err(LifetimeOutOfRangeError(minutes)));
        }
        assert_eq!(Lifetime::default().as_seconds(), 86_400);
    }

    #[test]
    fn tokens_expire_at_their_exp() {
        let at = OffsetDateTime::from_unix_timestamp(1_000).unwrap();
        assert!(!has_expired(1_001, at));
        assert!(has_expired(1_000, at));
        assert!(!has_expired(1_001, at + Duration::milliseconds(999)));
        assert!(has_expired(1_001, at + Duration::seconds(1)));
    }
}
