//! `/metrics`: the metrics of requests since the start, and the age of the keys, in the text format of OpenMetrics 1.0.
//! The names are those of the functions' metrics in CloudWatch.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use identity::audit::{Audit, AuditEvent, KeyEvent};
use identity::metrics::{API_REQUESTS, REFUSALS, RequestMetrics, SIGNING_KEYS_AGE, TOKENS_ISSUED};

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counts requests by their facts, and passes the audit lines on.
pub struct Metrics {
    audit: Arc<dyn Audit>,
    requests: Mutex<BTreeMap<RequestMetrics, u64>>,
}

impl Metrics {
    /// Counters in front of an audit sink.
    #[must_use]
    pub fn new(audit: Arc<dyn Audit>) -> Self {
        Self { audit, requests: Mutex::default() }
    }

    /// The text. `key_age` is the age of the oldest signing key in force, in seconds.
    #[must_use]
    pub fn text(&self, key_age: Option<i64>) -> String {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_text(&mut text, &requests, key_age);
        text
    }
}

impl Audit for Metrics {
    fn request(&self, event: &Arc<AuditEvent>) {
        if let Some(facts) = RequestMetrics::of(event) {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            *requests.entry(facts).or_default() += 1;
        }
        self.audit.request(event);
    }

    fn keys(&self, event: &KeyEvent) {
        self.audit.keys(event);
    }
}

fn write_text(
    text: &mut String,
    requests: &BTreeMap<RequestMetrics, u64>,
    key_age: Option<i64>,
) -> fmt::Result {
    let mut answered = BTreeMap::new();
    let mut refused = BTreeMap::new();
    let mut issued = 0;
    for (facts, count) in requests {
        *answered.entry((facts.operation, facts.status, facts.status_class())).or_insert(0) += count;
        if let Some(reason) = facts.reason {
            *refused.entry(reason).or_insert(0) += count;
        }
        if facts.issues_token {
            issued += count;
        }
    }
    writeln!(text, "# TYPE {API_REQUESTS} counter\n# HELP {API_REQUESTS} Requests to the API.")?;
    for ((operation, status, class), count) in answered {
        let labels = format!("Operation=\"{operation}\",StatusCode=\"{status}\",StatusCodeClass=\"{class}\"");
        writeln!(text, "{API_REQUESTS}_total{{{labels}}} {count}")?;
    }
    writeln!(text, "# TYPE {TOKENS_ISSUED} counter\n# HELP {TOKENS_ISSUED} Access tokens that were issued.")?;
    writeln!(text, "{TOKENS_ISSUED}_total {issued}")?;
    writeln!(
        text,
        "# TYPE {REFUSALS} counter\n# HELP {REFUSALS} Requests that were refused or that failed."
    )?;
    for (reason, count) in refused {
        writeln!(text, "{REFUSALS}_total{{Reason=\"{reason}\"}} {count}")?;
    }
    if let Some(age) = key_age {
        writeln!(text, "# TYPE {SIGNING_KEYS_AGE} gauge")?;
        writeln!(text, "# HELP {SIGNING_KEYS_AGE} Age of the oldest signing key in force, in seconds.")?;
        writeln!(text, "{SIGNING_KEYS_AGE} {age}")?;
    }
    text.write_str("# EOF\n")
}

#[cfg(test)]
mod tests {
    use identity::testing::CapturedAudit;

    use super::*;

    fn facts(
        operation: &'static str,
        status: u16,
        issues_token: bool,
        reason: Option<&'static str>,
    ) -> RequestMetrics {
        RequestMetrics { operation, status, issues_token, reason }
    }

    #[test]
    fn text_sums_requests_by_each_label() {
        let metrics = Metrics::new(Arc::new(CapturedAudit::default()));
        *metrics.requests.lock().unwrap() = BTreeMap::from([
            (facts("CreateIdentity", 201, false, None), 2),
            (facts("CreateIdentity", 201, true, None), 3),
            (facts("CreateToken", 401, false, Some("Signature")), 4),
            (facts("RevokeToken", 401, false, Some("Signature")), 5),
        ]);
        let text = metrics.text(Some(60));
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"APIRequestAuthentication_total{Operation="CreateIdentity",StatusCode="201",StatusCodeClass="2xx"} 5"#,
                r#"APIRequestAuthentication_total{Operation="CreateToken",StatusCode="401",StatusCodeClass="4xx"} 4"#,
                r#"APIRequestAuthentication_total{Operation="RevokeToken",StatusCode="401",StatusCodeClass="4xx"} 5"#,
                "TokensIssued_total 3",
                r#"Refusals_total{Reason="Signature"} 9"#,
                "SigningKeysAge 60",
            ]
        );
        assert!(text.ends_with("# EOF\n"));
        assert!(!metrics.text(None).contains("SigningKeysAge"));
    }
}
