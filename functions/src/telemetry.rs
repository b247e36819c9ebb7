//! Audit lines on standard output. CloudWatch stores each line as one structured record, and counts the metrics in it.

use std::io::Write as _;
use std::sync::Arc;

use identity::audit::{Audit, AuditEvent, KeyEvent};
use identity::ids::ResourceId;
use identity::metrics::{API_REQUESTS, REFUSALS, RequestMetrics, SIGNING_KEYS_AGE, TOKENS_ISSUED};
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The namespace of the metrics in CloudWatch.
const NAMESPACE: &str = "acs-identity";

/// Writes each audit event as one line of JSON to standard output.
pub struct JsonLines {
    /// The resource whose metrics the lines of requests contain, in CloudWatch's embedded metric format. `None` if they
    /// contain no metrics.
    pub metrics: Option<ResourceId>,
}

impl Audit for JsonLines {
    fn request(&self, event: &Arc<AuditEvent>) {
        let metrics = self.metrics.and_then(|resource| Some((resource, RequestMetrics::of(event)?)));
        match metrics {
            Some((resource, metrics)) => {
                write(&Measured { event, metrics: members(resource, metrics, &event.time) })
            }
            None => write(event),
        }
    }

    fn keys(&self, event: &KeyEvent) {
        write(event);
    }
}

/// Writes the age of the oldest signing key in force, in seconds, as one line.
pub fn write_key_age(resource: ResourceId, age: i64, now: OffsetDateTime) {
    let metric = json!({"Name": SIGNING_KEYS_AGE, "Unit": "Seconds"});
    let mut line = metadata(now, &[(&["ResourceId"], metric)]);
    line.insert("ResourceId".to_owned(), resource.to_string().into());
    line.insert(SIGNING_KEYS_AGE.to_owned(), age.into());
    write(&line);
}

/// A line of a request with its metrics.
#[derive(Serialize)]
struct Measured<'a> {
    #[serde(flatten)]
    event: &'a AuditEvent,
    #[serde(flatten)]
    metrics: Map<String, Value>,
}

/// The members that CloudWatch reads. Their names begin with a capital letter, so they differ from those of the audit line.
fn members(resource: ResourceId, request: RequestMetrics, time: &str) -> Map<String, Value> {
    let at = OffsetDateTime::parse(time, &Rfc3339).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut metrics: Vec<(&[&str], Value)> = vec![(
        &["ResourceId", "Operation", "StatusCode", "StatusCodeClass"],
        json!({"Name": API_REQUESTS, "Unit": "Count"}),
    )];
    if request.issues_token {
        metrics.push((&["ResourceId"], json!({"Name": TOKENS_ISSUED, "Unit": "Count"})));
    }
    if request.reason.is_some() {
        metrics.push((&["ResourceId", "Reason"], json!({"Name": REFUSALS, "Unit": "Count"})));
    }
    let mut members = metadata(at, &metrics);
    let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
    add("ResourceId", resource.to_string().into());
    add("Operation", request.operation.into());
    add("StatusCode", request.status.to_string().into());
    add("StatusCodeClass", request.status_class().into());
    add(API_REQUESTS, 1.into());
    if request.issues_token {
        add(TOKENS_ISSUED, 1.into());
    }
    if let Some(reason) = request.reason {
        add("Reason", reason.into());
        add(REFUSALS, 1.into());
    }
    members
}

/// The metadata of the embedded metric format, for metrics with their dimensions.
fn metadata(at: OffsetDateTime, metrics: &[(&[&str], Value)]) -> Map<String, Value> {
    let directive = |(dimensions, metric): &(&[&str], Value)| json!({"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": [metric]});
    let milliseconds = i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    let directives: Vec<Value> = metrics.iter().map(directive).collect();
    let content = json!({"Timestamp": milliseconds, "CloudWatchMetrics": directives});
    Map::from_iter([("_aws".to_owned(), content)])
}

fn write(event: &impl Serialize) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        // A failed write of the log must not fail the request.
        let _ = std::io::stdout().lock().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(issues_token: bool, reason: Option<&'static str>) -> Value {
        let resource = "1b5cc06b-f352-4571-b1e6-d9b259b7c776".parse().unwrap();
        let facts = RequestMetrics { operation: "CreateToken", status: 200, issues_token, reason };
        Value::Object(members(resource, facts, "2024-03-01T12:00:00.5Z"))
    }

    // CloudWatch ignores a line whose dimension or metric has no member at the root.
    #[test]
    fn every_dimension_and_metric_has_a_member() {
        for line in [request(true, None), request(false, Some("Signature")), request(false, None)] {
            assert_eq!(line["_aws"]["Timestamp"], 1_709_294_400_500_i64);
            for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
                assert_eq!(directive["Namespace"], "acs-identity");
                for dimension in directive["Dimensions"][0].as_array().unwrap() {
                    assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension}: {line}");
                }
                let name = directive["Metrics"][0]["Name"].as_str().unwrap();
                assert_eq!(line[name], 1, "{line}");
            }
        }
    }

    #[test]
    fn refusal_counts_under_its_reason() {
        let line = request(false, Some("Signature"));
        let refusals = &line["_aws"]["CloudWatchMetrics"][1];
        assert_eq!(refusals["Metrics"][0]["Name"], "Refusals");
        assert_eq!(refusals["Dimensions"], json!([["ResourceId", "Reason"]]));
        assert_eq!(line["Reason"], "Signature");
    }
}
