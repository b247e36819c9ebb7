//! The journal: the last audit lines, for tests that assert on the calls of a program.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use identity::audit::{Audit, AuditEvent, KeyEvent};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::call_error::CallError;
use super::notices::Notices;

/// The number of lines that are kept.
pub(super) const KEPT: usize = 1000;

/// Longest wait for a line, in seconds.
const MAX_WAIT: u64 = 20;

/// Keeps audit lines and passes them on.
pub struct Journal {
    audit: Arc<dyn Audit>,
    lines: Mutex<VecDeque<Line>>,
    /// The number of the newest line.
    newest: watch::Sender<u64>,
}

/// A line with its number.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) event: Event,
}

/// The event of a line. A reader turns it into JSON, so that a request does not wait for it.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Event {
    Request(Arc<AuditEvent>),
    /// A step of a key replacement, or a change of a resource server's credential.
    Keys(KeyEvent),
}

impl Event {
    /// The name of the event in the stream for pages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Keys(_) => "keys",
        }
    }
}

/// The query of `GET requests`.
#[derive(Default)]
pub(super) struct JournalQuery {
    since: u64,
    wait: u64,
    operation: Option<String>,
    outcome: Option<String>,
    identity: Option<String>,
}

impl JournalQuery {
    pub(super) fn parse(query: &str) -> Result<Self, CallError> {
        let mut parsed = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                let number = value.parse::<u64>();
                number.map_err(|_| CallError::malformed(&format!("{name}: give a whole number")))
            };
            match name.as_ref() {
                "since" => parsed.since = number()?,
                "wait" => parsed.wait = number()?,
                "operation" => parsed.operation = Some(value.into_owned()),
                "outcome" => parsed.outcome = Some(value.into_owned()),
                "identity" => parsed.identity = Some(value.into_owned()),
                _ => {
                    return Err(CallError::malformed(&format!(
                        "{name}: the parameters are since, wait, operation, outcome and identity"
                    )));
                }
            }
        }
        if parsed.wait > MAX_WAIT {
            return Err(CallError::malformed(&format!("wait: give 0 to {MAX_WAIT} seconds")));
        }
        let outcome = parsed.outcome.as_deref();
        if outcome.is_some_and(|outcome| !["success", "refused", "failed"].contains(&outcome)) {
            return Err(CallError::malformed("outcome: give success, refused or failed"));
        }
        Ok(parsed)
    }

    fn admits(&self, event: &Value) -> bool {
        let has = |name: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| event.get(name).and_then(Value::as_str) == Some(wanted))
        };
        has("operation", &self.operation) && has("outcome", &self.outcome) && has("identity", &self.identity)
    }
}

impl Journal {
    /// An empty journal in front of an audit sink.
    #[must_use]
    pub fn new(audit: Arc<dyn Audit>) -> Self {
        Self { audit, lines: Mutex::default(), newest: watch::channel(0).0 }
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, event: Event) {
        let mut lines = self.lines();
        let number = *self.newest.borrow() + 1;
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(Line { number, event });
        // Under the lock, so that a reader of this number finds the line.
        self.newest.send_replace(number);
    }

    /// Removes the lines. Their numbers are not used again.
    pub(super) fn clear(&self) {
        self.lines().clear();
    }

    /// The number of the newest line, 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Tells of each new line.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// At most this many of the newest lines after a line, and the number of other lines after it.
    pub(super) fn after(&self, since: u64, most: usize) -> (Vec<Line>, u64) {
        let lines = self.lines();
        let new = usize::try_from(self.newest().saturating_sub(since)).unwrap_or(usize::MAX);
        let taken = new.min(most).min(lines.len());
        let found = lines.range(lines.len() - taken..).cloned().collect();
        (found, (new - taken) as u64)
    }

    /// The lines of a query. Without one, waits for a line as long as the query allows and the server runs.
    pub(super) async fn read(&self, query: &JournalQuery, notices: &Notices) -> Value {
        let mut newest = self.newest.subscribe();
        let deadline = tokio::time::sleep(Duration::from_secs(query.wait));
        let mut deadline = std::pin::pin!(deadline);
        loop {
            newest.borrow_and_update();
            let (answer, is_empty) = self.page(query);
            if !is_empty || query.wait == 0 {
                return answer;
            }
            tokio::select! {
                _ = newest.changed() => {}
                () = &mut deadline => return answer,
                () = notices.stopping() => return answer,
            }
        }
    }

    /// The answer to a query now, and whether it has no line.
    fn page(&self, query: &JournalQuery) -> (Value, bool) {
        let lines = self.lines();
        let newest = *self.newest.borrow();
        let oldest = lines.front().map_or(newest + 1, |line| line.number);
        let newer = lines.iter().filter(|line| line.number > query.since);
        let found: Vec<Value> = newer.map(Line::numbered).filter(|event| query.admits(event)).collect();
        let is_empty = found.is_empty();
        let dropped = (oldest - 1).saturating_sub(query.since);
        (json!({"requests": found, "next": newest, "dropped": dropped}), is_empty)
    }
}

impl Line {
    fn numbered(&self) -> Value {
        let mut event = serde_json::to_value(&self.event).unwrap_or_default();
        if let Value::Object(members) = &mut event {
            members.insert("number".to_owned(), self.number.into());
        }
        event
    }
}

impl Audit for Journal {
    fn request(&self, event: &Arc<AuditEvent>) {
        self.keep(Event::Request(Arc::clone(event)));
        self.audit.request(event);
    }

    fn keys(&self, event: &KeyEvent) {
        self.keep(Event::Keys(event.clone()));
        self.audit.keys(event);
    }
}
