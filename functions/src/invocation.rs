//! The facts of one invocation of Lambda, for the audit line.

use identity::correlation::{Delivery, LogId, Source, Transport};
use serde_json::Value;

/// An invocation, and the choice of the deployment. A host that is not Lambda uses the default.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// The request id of Lambda.
    pub request_id: Option<String>,
    /// Whether audit lines name the address of the sender and its `User-Agent`, which are personal data.
    pub audits_source: bool,
}

impl Invocation {
    /// The facts of this invocation with an event of API Gateway, of any kind.
    #[must_use]
    pub fn delivery(&self, event: &Value) -> Delivery {
        let text = |pointer| event.pointer(pointer).and_then(Value::as_str);
        let ip = || {
            let addresses = ["/requestContext/http/sourceIp", "/requestContext/identity/sourceIp"];
            addresses.into_iter().find_map(text)?.parse().ok()
        };
        Delivery {
            gateway_request_id: text("/requestContext/requestId").and_then(LogId::new),
            lambda_request_id: self.request_id.as_deref().and_then(LogId::new),
            source: self.audits_source.then(|| Source { ip: ip() }),
            // The gateways of AWS accept TLS only.
            transport: Transport::Protected,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_typed_facts_are_taken() {
        let lambda = Some("8f5e2e0c-1d7f-4c2b-9a55-0b6c1f2d3e4f".to_owned());
        let invocation = Invocation { request_id: lambda.clone(), audits_source: true };
        for (context, gateway, ip) in [
            (json!({"requestId": "Tq1X2hYzoAMEPbA=", "http": {"sourceIp": "203.0.113.7"}}), true, true),
            (json!({"requestId": "Tq1X2hYzoAMEPbA=", "identity": {"sourceIp": "2001:db8::7"}}), true, true),
            (json!({"requestId": "a\nb", "http": {"sourceIp": "203.0.113.7\n"}}), false, false),
            (json!({"requestId": "a\"}", "identity": {"sourceIp": "localhost"}}), false, false),
            (json!({"requestId": "x".repeat(65), "identity": {"sourceIp": null}}), false, false),
            (json!({"requestId": 7}), false, false),
            (json!(null), false, false),
        ] {
            let event = json!({"requestContext": context});
            let found = invocation.delivery(&event);
            assert_eq!(found.gateway_request_id.is_some(), gateway, "{event}");
            assert_eq!(found.source.unwrap().ip.is_some(), ip, "{event}");
            assert_eq!(found.lambda_request_id, LogId::new(lambda.as_deref().unwrap()));
            assert!(Invocation::default().delivery(&event).source.is_none());
        }
    }
}
