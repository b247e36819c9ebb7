//! The stream of events for pages, as server-sent events (WHATWG HTML, section 9.2).
//!
//! A stream reads the journal by number, so nothing waits in memory for a slow reader, and a request never waits for a
//! stream.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::channel::{Channel, Sender};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::call_error::CallError;
use super::calls::Controlled;
use super::journal::Line;

/// The pause between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream ends after this time, and the page resumes it. So no stream outlives the idle limit of its connection.
const LIFE: Duration = Duration::from_secs(60);

/// Longest wait for a reader. A reader that takes longer is dropped.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Most lines in one part of a stream. The reader learns how many others there were.
const MAX_LINES: usize = 200;

/// The pause between two parts of a stream.
const PAUSE: Duration = Duration::from_millis(50);

/// Parts that show whether a reader is there. The system still accepts the first one after the reader's end, the second one
/// breaks the connection, and the third one cannot be sent.
const CHECK_PARTS: usize = 3;

/// Parts of a stream that may wait for a reader.
const BUFFER: usize = 4;

/// The number of the last line that the client has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// One open stream.
struct Stream {
    controlled: Controlled,
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
pub(super) async fn open(
    controlled: Controlled,
    headers: &HeaderMap,
) -> Result<Response<Channel<Bytes>>, CallError> {
    let place = controlled.notices.place().await.ok_or(CallError::TooManyStreams)?;
    let (sender, body) = Channel::new(BUFFER);
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let sent = last.unwrap_or_else(|| controlled.journal.newest());
    let stream = Stream { controlled, sender, sent, _place: place };
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
        let mut newest = self.controlled.journal.subscribe();
        let mut changes = self.controlled.notices.subscribe();
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
            // Lines of this time go together, so that many requests do not wake the stream as often.
            sleep(PAUSE).await;
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
                        let state = self.controlled.token_clock.state();
                        self.send(format!("event: clock\ndata: {state}\n\n")).await?;
                    }
                    if now.checks != seen.checks {
                        self.check_reader().await?;
                    }
                    seen = now;
                }
                _ = heartbeat.tick() => self.send_heartbeat().await?,
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    /// Sends the lines after the last one.
    async fn send_lines(&mut self) -> Result<(), LostReader> {
        let (lines, dropped) = self.controlled.journal.after(self.sent, MAX_LINES);
        if dropped > 0 {
            self.send(format!("event: dropped\ndata: {dropped}\n\n")).await?;
        }
        let mut text = String::new();
        for Line { number, event } in &lines {
            let data = serde_json::to_string(event).unwrap_or_default();
            let _ = write!(text, "id: {number}\nevent: {}\ndata: {data}\n\n", event.kind());
            self.sent = *number;
        }
        if text.is_empty() { Ok(()) } else { self.send(text).await }
    }

    async fn check_reader(&mut self) -> Result<(), LostReader> {
        for _ in 0..CHECK_PARTS {
            self.send_heartbeat().await?;
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn send_heartbeat(&mut self) -> Result<(), LostReader> {
        self.send(": heartbeat\n\n".to_owned()).await
    }

    async fn send(&mut self, text: String) -> Result<(), LostReader> {
        let sent = timeout(MAX_WAIT, self.sender.send_data(text.into())).await;
        sent.map_err(|_| LostReader)?.map_err(|_| LostReader)
    }
}
