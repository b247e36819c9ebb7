//! Audit lines of the local server on standard error: text on a terminal, JSON elsewhere.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use identity::audit::{Audit, AuditEvent, AuditedOperation, KeyEvent, Level, Outcome};
use serde::Serialize;

/// Most lines that are kept in memory.
const MAX_KEPT: usize = 1_000;

/// The newest lines, if the process keeps its lines instead of writing them.
static KEPT: OnceLock<Mutex<VecDeque<String>>> = OnceLock::new();

struct Console {
    readable: bool,
}

/// From now on, the lines of this process are kept in memory: at most the newest 1,000.
pub fn keep() {
    KEPT.get_or_init(Mutex::default);
}

/// The kept lines.
#[must_use]
pub fn kept() -> String {
    let lines = KEPT.get().map(|lines| lines.lock().unwrap_or_else(PoisonError::into_inner));
    lines.map(|lines| lines.iter().map(String::as_str).collect()).unwrap_or_default()
}

/// The audit sink for this process.
#[must_use]
pub fn audit() -> Arc<dyn Audit> {
    Arc::new(Console { readable: std::io::stderr().is_terminal() })
}

/// Writes a warning that belongs to no audit line.
pub fn warn(message: &str) {
    #[derive(Serialize)]
    struct Warning<'a> {
        level: Level,
        message: &'a str,
    }
    let console = Console { readable: std::io::stderr().is_terminal() };
    console
        .write(&Warning { level: Level::Warn, message }, |warning| format!("warning: {}", warning.message));
}

impl Audit for Console {
    fn request(&self, event: &Arc<AuditEvent>) {
        self.write(event.as_ref(), readable);
    }

    fn keys(&self, event: &KeyEvent) {
        self.write(event, readable_step);
    }
}

impl Console {
    fn write<E: Serialize>(&self, event: &E, readable: impl Fn(&E) -> String) {
        let mut line =
            if self.readable { readable(event) } else { serde_json::to_string(event).unwrap_or_default() };
        line.push('\n');
        if let Some(kept) = KEPT.get() {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == MAX_KEPT {
                kept.pop_front();
            }
            kept.push_back(line);
            return;
        }
        // One write, because standard error has no buffer. A request does not fail because its line cannot be written.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// `12:00:00 rotate_signing_keys (operator) promote: success`
fn readable_step(event: &KeyEvent) -> String {
    let clock = event.time.get(11..19).unwrap_or(&event.time);
    let outcome = match event.outcome {
        Outcome::Success => "success",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
    };
    let reason = event.reason.as_ref().map(|reason| format!(" [{reason}]")).unwrap_or_default();
    format!("{clock} {} ({}) {}: {outcome}{reason}", event.operation, event.trigger, event.step)
}

/// `12:00:00 200 issue_access_token 8:acs:... chat,voip (primary) 1.2 ms`
fn readable(event: &AuditEvent) -> String {
    let clock = event.time.get(11..19).unwrap_or(&event.time);
    let operation = event.operation.map_or("-", AuditedOperation::as_str);
    let (milliseconds, tenths) = (event.latency_us / 1_000, event.latency_us % 1_000 / 100);
    let parts = [
        Some(format!("{clock} {} {operation}", event.status)),
        event.principal.clone(),
        event.identity.clone(),
        (!event.scopes.is_empty()).then(|| event.scopes.join(",")),
        event.slot.map(|slot| format!("({slot})")),
        event.error.map(str::to_owned),
        event.reason.as_ref().map(|reason| format!("[{reason}]")),
        Some(format!("{milliseconds}.{tenths} ms")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use identity::api::routes::Operation;
    use identity::correlation::Correlation;

    use super::*;

    #[test]
    fn request_lines_are_readable() {
        let event = AuditEvent {
            time: "2024-03-01T12:00:00Z".to_owned(),
            level: Level::Warn,
            request_id: "r".to_owned(),
            client_request_id: None,
            correlation: Correlation::default(),
            event: None,
            operation: Some(AuditedOperation::Api(Operation::IssueAccessToken)),
            api_version: Some("2023-10-01"),
            outcome: Outcome::Refused,
            status: 401,
            error: Some("Denied"),
            denial: Some("ContentHash"),
            reason: Some("the body is not the one whose hash was signed".to_owned()),
            principal: Some("t/o".to_owned()),
            identity: Some("8:acs:a_b".to_owned()),
            scopes: vec!["chat", "voip"],
            capability: None,
            slot: Some("primary"),
            latency_us: 1_250,
        };
        assert_eq!(
            readable(&event),
            "12:00:00 401 issue_access_token t/o 8:acs:a_b chat,voip (primary) Denied \
             [the body is not the one whose hash was signed] 1.2 ms"
        );
    }
}
