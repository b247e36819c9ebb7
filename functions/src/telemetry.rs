//! Audit lines on standard output. CloudWatch stores each line as one structured record.

use std::io::Write as _;

use identity::audit::{Audit, AuditEvent, KeyEvent};
use serde::Serialize;

/// Writes each audit event as one line of JSON to standard output.
pub struct JsonLines;

impl Audit for JsonLines {
    fn request(&self, event: &AuditEvent) {
        write(event);
    }

    fn keys(&self, event: &KeyEvent) {
        write(event);
    }
}

fn write(event: &impl Serialize) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        // A failed write of the log must not fail the request.
        let _ = std::io::stdout().lock().write_all(&line);
    }
}
