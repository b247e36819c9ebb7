//! The activity of open connections: how long each is idle, and which one is closed for the next.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The requests on one connection. They are only counted, because waking the connection for each would cost more.
pub(crate) struct Activity {
    under_way: AtomicUsize,
    /// Requests that began or ended.
    changes: AtomicU64,
    /// The time of the last change, in milliseconds after `opened`.
    last_change: AtomicU64,
    opened: Instant,
    /// Asks the connection to close.
    closing: Notify,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            under_way: AtomicUsize::default(),
            changes: AtomicU64::default(),
            last_change: AtomicU64::default(),
            opened: Instant::now(),
            closing: Notify::new(),
        })
    }

    fn change(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_change.store(elapsed, Ordering::Relaxed);
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// The moment since which the connection is idle. `None` while a request is under way.
    fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.under_way.load(Ordering::Relaxed) == 0;
        is_idle.then(|| self.opened + Duration::from_millis(self.last_change.load(Ordering::Relaxed)))
    }

    /// Waits until the connection is closed for another one.
    pub(crate) async fn closed(&self) {
        self.closing.notified().await;
    }

    /// Waits until the connection had no first request for `first`, and then until it had no request for `between`, or at
    /// most twice as long. An open connection counts against the limit.
    pub(crate) async fn idle(&self, first: Duration, between: Duration) {
        let (mut seen, mut wait) = (0, first);
        loop {
            tokio::time::sleep(wait).await;
            let changes = self.changes.load(Ordering::Relaxed);
            if changes == seen && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
            (seen, wait) = (changes, between);
        }
    }
}

/// A request under way, until this is dropped. HTTP/2 has several on one connection.
pub(crate) struct UnderWay(Arc<Activity>);

impl UnderWay {
    pub(crate) fn begin(activity: Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        activity.change();
        Self(activity)
    }
}

/// A request that the client cancels ends here too.
impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.change();
    }
}

/// The open connections.
#[derive(Default)]
pub(crate) struct OpenConnections(Vec<Weak<Activity>>);

impl OpenConnections {
    pub(crate) fn add(&mut self, activity: &Arc<Activity>) {
        self.0.retain(|open| open.strong_count() > 0);
        self.0.push(Arc::downgrade(activity));
    }

    /// Closes the connection that is idle for the longest time, if one is idle.
    pub(crate) fn close_longest_idle(&self) {
        let open = self.0.iter().filter_map(Weak::upgrade);
        let idle = open.filter_map(|activity| activity.idle_since().map(|since| (since, activity)));
        if let Some((_, activity)) = idle.min_by_key(|(since, _)| *since) {
            activity.closing.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn longest_idle_connection_is_closed_for_the_next() {
        let mut open = OpenConnections::default();
        let [busy, older, newer] = [(); 3].map(|()| Activity::new());
        for activity in [&busy, &older, &newer] {
            open.add(activity);
        }
        let _request = UnderWay::begin(Arc::clone(&busy));
        advance(Duration::from_secs(1)).await;
        drop(UnderWay::begin(Arc::clone(&older)));
        advance(Duration::from_secs(1)).await;
        drop(UnderWay::begin(Arc::clone(&newer)));
        open.close_longest_idle();
        let is_closed =
            async |activity: &Activity| timeout(Duration::from_secs(1), activity.closed()).await.is_ok();
        assert!(is_closed(&older).await);
        assert!(!is_closed(&newer).await && !is_closed(&busy).await);
        drop(older);
        drop(newer);
        open.close_longest_idle();
        assert!(!is_closed(&busy).await, "a request is under way");
    }
}
