//! The stream of events for pages, as server-sent events (WHATWG HTML, section 9.2).
//!
//! A stream reads the journal by number, so nothing waits in memory for a slow reader, and a request never waits for a
//! stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::channel::{Channel, Sender};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::call_error::CallError;
use super::journal::{Journal, JournalQuery};
use super::notices::Notices;
use super::token_clock::TokenClock;

/// The pause between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream ends after this time, and the page resumes it. So no stream outlives the idle limit of its connection.
const LIFE: Duration = Duration::from_secs(60);

/// Longest wait for a reader. A reader that takes longer is dropped.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Parts of an event that may wait for a reader.
const BUFFER: usize = 16;

/// The number of the last line that the client has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// The parts of the state that a stream reads.
pub(super) struct Sources {
    pub(super) journal: Arc<Journal>,
    pub(super) token_clock: Arc<TokenClock>,
    pub(super) notices: Arc<Notices>,
}

/// One open stream.
struct Stream {
    sources: Sources,
    sender: Sender<Bytes>,
    /// The number of the last line that was sent.
    sent: u64,
    _place: OwnedSemaphorePermit,
}

/// The reader is gone or too slow.
struct LostReader;

/// Opens a stream. It begins after the line in `Last-Event-ID`, or with the next line.
///
/// # Errors
/// [`CallError::TooManyStreams`].
pub(super) fn open(sources: Sources, headers: &HeaderMap) -> Result<Response<Channel<Bytes>>, CallError> {
    let place = sources.notices.place().ok_or(CallError::TooManyStreams)?;
    let (sender, body) = Channel::new(BUFFER);
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let sent = last.unwrap_or_else(|| sources.journal.newest());
    let stream = Stream { sources, sender, sent, _place: place };
    tokio::spawn(stream.run());
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

impl Stream {
    async fn run(mut self) {
        let end = Instant::now() + LIFE;
        // A reader that is lost needs no report.
        let _ = self.send_until(end).await;
    }

    async fn send_until(&mut self, end: Instant) -> Result<(), LostReader> {
        let mut newest = self.sources.journal.subscribe();
        let mut changes = self.sources.notices.subscribe();
        let mut seen = *changes.borrow_and_update();
        let mut heartbeat = interval(HEARTBEAT);
        // Its numbers begin again after a restart of the server. Then the client has seen a later one.
        if self.sent > *newest.borrow() {
            self.sent = 0;
            self.send("event: reset\ndata: {}\n\n".to_owned()).await?;
        }
        loop {
            newest.borrow_and_update();
            self.send_lines().await?;
            tokio::select! {
                _ = newest.changed() => {}
                _ = changes.changed() => {
                    let now = *changes.borrow_and_update();
                    if now.is_stopping {
                        return Ok(());
                    }
                    if now.records != seen.records {
                        self.send("event: reset\ndata: {}\n\n".to_owned()).await?;
                    }
                    if now.clock != seen.clock {
                        let state = self.sources.token_clock.state();
                        self.send(format!("event: clock\ndata: {state}\n\n")).await?;
                    }
                    seen = now;
                }
                _ = heartbeat.tick() => self.send(": heartbeat\n\n".to_owned()).await?,
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    /// Sends the lines after the last one.
    async fn send_lines(&mut self) -> Result<(), LostReader> {
        let page = self.sources.journal.page(&JournalQuery::since(self.sent));
        if page.dropped > 0 {
            self.send(format!("event: dropped\ndata: {}\n\n", json!({"lines": page.dropped}))).await?;
        }
        for line in &page.lines {
            let number = line.get("number").and_then(Value::as_u64).unwrap_or_default();
            // A key step has a trigger, and a request has none.
            let name = if line.get("trigger").is_some() { "keys" } else { "request" };
            self.send(format!("id: {number}\nevent: {name}\ndata: {line}\n\n")).await?;
        }
        self.sent = page.newest;
        Ok(())
    }

    async fn send(&mut self, text: String) -> Result<(), LostReader> {
        let sent = timeout(MAX_WAIT, self.sender.send_data(text.into())).await;
        sent.map_err(|_| LostReader)?.map_err(|_| LostReader)
    }
}
