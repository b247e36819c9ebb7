//! Time and randomness, which the host hands to the core.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::{Builder, Uuid};

/// The time, and a timer.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock, UTC.
    fn now(&self) -> OffsetDateTime;

    /// The time since a fixed moment. It never steps back, unlike the wall clock.
    fn uptime(&self) -> Duration;

    /// Waits for this time.
    async fn sleep(&self, duration: Duration);
}

/// A cryptographically secure source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes` with random values.
    fn fill(&self, bytes: &mut [u8]);

    /// A number of 128 random bits.
    fn number(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_be_bytes(bytes)
    }

    /// A random GUID (RFC 9562 section 5.4).
    fn guid(&self) -> Uuid {
        Builder::from_random_bytes(self.number().to_be_bytes()).into_uuid()
    }
}

/// The outcome of `work`. `None` if it is not ready in this time. The caller then drops `work` unfinished. The time begins
/// when `work` first waits, so work that does not wait needs no timer. `work` is borrowed, because a future that owned it
/// would have its memory twice.
pub async fn timeout<T>(
    clock: &dyn Clock,
    time: Duration,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut timer = None;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => timer.get_or_insert_with(|| clock.sleep(time)).as_mut().poll(context).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A clock whose timers wait for one poll. It counts them.
    #[derive(Default)]
    struct Timers(AtomicUsize);

    #[async_trait]
    impl Clock for Timers {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::UNIX_EPOCH
        }

        fn uptime(&self) -> Duration {
            Duration::ZERO
        }

        async fn sleep(&self, _: Duration) {
            self.0.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn only_work_that_waits_takes_a_timer() {
        let clock = Timers::default();
        assert_eq!(timeout(&clock, Duration::MAX, pin!(ready(1))).await, Some(1));
        assert_eq!(clock.0.load(Ordering::SeqCst), 0);
        assert_eq!(timeout(&clock, Duration::MAX, pin!(pending::<u8>())).await, None);
        assert_eq!(clock.0.load(Ordering::SeqCst), 1, "one timer for all polls");
    }
}
