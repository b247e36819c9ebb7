//! Changes that no audit line shows, for streams of events and long polls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// Most streams of events at a time.
const MAX_STREAMS: usize = 4;

/// Longest wait for the place of a stream whose reader is gone.
const MAX_CHECK: Duration = Duration::from_secs(5);

/// Changes that no audit line shows.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Counts the changes of the clock of tokens.
    pub(super) clock: u64,
    /// Counts the replacements of records: resets, seeds and snapshots.
    pub(super) records: u64,
    /// Counts the requests to check whether the readers of streams are there.
    pub(super) checks: u64,
    pub(super) is_stopping: bool,
}

/// Tells streams and long polls about changes.
pub struct Notices {
    changes: watch::Sender<Changes>,
    places: Arc<Semaphore>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { changes: watch::Sender::default(), places: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }
}

impl Notices {
    pub(super) fn clock_changed(&self) {
        self.changes.send_modify(|changes| changes.clock += 1);
    }

    pub(super) fn records_replaced(&self) {
        self.changes.send_modify(|changes| changes.records += 1);
    }

    /// Ends every stream and long poll, because the server is stopping.
    pub fn stop(&self) {
        self.changes.send_modify(|changes| changes.is_stopping = true);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    /// A place for a stream. If none is free, the streams check first whether their readers are there: a page that was
    /// closed or loaded again leaves its stream open until the next write.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        self.changes.send_modify(|changes| changes.checks += 1);
        timeout(MAX_CHECK, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok()
    }

    /// Ready when the server is stopping.
    pub(super) async fn stopping(&self) {
        // The sender is `self`, so it is there.
        let _ = self.changes.subscribe().wait_for(|changes| changes.is_stopping).await;
    }
}
