//! What the core may not reach for itself and is handed instead: time and chance.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

/// The time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock, UTC.
    fn now(&self) -> OffsetDateTime;

    /// Time since some fixed moment; never steps back, unlike the wall clock.
    fn uptime(&self) -> Duration;

    /// Ready after so much time.
    async fn sleep(&self, duration: Duration);
}

/// A cryptographically secure source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes` with random values.
    fn fill(&self, bytes: &mut [u8]);
}
