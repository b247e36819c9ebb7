//! Changes that no audit line shows, for streams of events and long polls.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Most streams of events at a time.
const MAX_STREAMS: usize = 4;

/// Changes that no audit line shows.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Counts the changes of the clock of tokens.
    pub(super) clock: u64,
    /// Counts the replacements of records: resets, seeds and snapshots.
    pub(super) records: u64,
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

    /// A place for a stream, if one is free.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Ready when the server is stopping.
    pub(super) async fn stopping(&self) {
        // The sender is `self`, so it is there.
        let _ = self.changes.subscribe().wait_for(|changes| changes.is_stopping).await;
    }
}
