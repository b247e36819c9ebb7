//! The events of the Lambda functions, and the resource that the events refer to.

use bytes::Bytes;
use e2e::signer::{Call, sign};
use e2e::test_service::{Embedded, HOST, Ports, TestService};
use functions::system::System;
use identity::api::pipeline::Request;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use serde_json::{Value, json};

const WITH_TOKEN: &str = r#"{"createTokenWithScopes":["chat"]}"#;
const SCOPES: &str = r#"{"scopes":["chat"]}"#;
const GUID: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c776";

/// The kinds of event. `Echo` is the event of the floor, which returns the event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Authorize,
    Create,
    CreateWithToken,
    Delete,
    Echo,
    Exchange,
    Introspect,
    Issue,
    KeySet,
    Refused,
    Regenerate,
    Revoke,
}

impl Event {
    /// The name in the tables, and the HTTP status of the reply, if the reply has one.
    fn facts(self) -> (&'static str, Option<u64>) {
        match self {
            Self::Authorize => ("authorize", None),
            Self::Create => ("create", Some(201)),
            Self::CreateWithToken => ("create with token", Some(201)),
            Self::Delete => ("delete", Some(204)),
            Self::Echo => ("echo", None),
            Self::Exchange => ("exchange", Some(401)),
            Self::Introspect => ("introspect", Some(200)),
            Self::Issue => ("issue", Some(200)),
            Self::KeySet => ("key set", Some(200)),
            Self::Refused => ("refused: signature", Some(401)),
            Self::Regenerate => ("regenerate a key", None),
            Self::Revoke => ("revoke", Some(204)),
        }
    }

    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// Panics when the reply is not the expected one, because then the wrong work was measured.
    pub fn check(self, reply: &[u8]) {
        let reply: Value = serde_json::from_slice(reply).unwrap();
        let status = reply.get("statusCode").and_then(Value::as_u64);
        assert_eq!(status, self.facts().1, "{}: {reply}", self.name());
    }
}

/// A resource whose state all functions share.
pub struct Resource {
    /// DynamoDB and Secrets Manager of the functions.
    pub aws: Embedded,
    service: TestService,
    system: System,
    /// An identity with a token that stays active.
    identity: String,
    token: String,
    /// An identity whose tokens are revoked.
    revoked: String,
}

impl Resource {
    pub async fn new(algorithm: Algorithm) -> Self {
        let (ports, aws) = Ports::embedded(1).await;
        let service = TestService::new(ports, algorithm, 1).await;
        let system = System::new();
        // The functions use the system's clock, so the token must be valid at this time.
        let behind = system.now() - service.clock.now();
        service.clock.advance(behind.whole_milliseconds().try_into().unwrap());
        let (identity, revoked) = (service.create().await, service.create().await);
        let token = service.issue(&service.primary, &identity).await.token().unwrap();
        Self { aws, service, system, identity, token, revoked }
    }

    fn signed(&self, target: &str, method: &str, body: &str) -> Request {
        sign(&Call { method, target, body }, &self.service.primary, HOST, self.system.now())
    }

    /// An event, ready to be sent.
    pub async fn event(&self, event: Event) -> Bytes {
        let action = |identity: &str, action: &str| format!("/identities/{identity}/{action}");
        let issue = action(&self.identity, ":issueAccessToken");
        let value = match event {
            Event::Authorize => self.authorizer_event(),
            Event::Create => self.gateway_event("POST", "/identities", ""),
            Event::CreateWithToken => self.gateway_event("POST", "/identities", WITH_TOKEN),
            Event::Delete => {
                let identity = self.service.create().await;
                self.gateway_event("DELETE", &format!("/identities/{identity}"), "")
            }
            Event::Echo => json!({}),
            Event::Exchange => {
                let body = format!(r#"{{"token":"a.b.c","appId":"{GUID}","userId":"{GUID}"}}"#);
                self.gateway_event("POST", "/teamsUser/:exchangeAccessToken", &body)
            }
            Event::Introspect => self.gateway_event("POST", "/introspect", &format!("token={}", self.token)),
            Event::Issue => self.gateway_event("POST", &issue, SCOPES),
            Event::KeySet => self.gateway_event("GET", "/.well-known/jwks.json", ""),
            Event::Refused => {
                let mut event = self.gateway_event("POST", &issue, SCOPES);
                let other = self.signed("/another", "POST", SCOPES);
                event["headers"]["authorization"] = other.headers["authorization"].to_str().unwrap().into();
                event
            }
            Event::Regenerate => json!({"regenerate": "secondary"}),
            Event::Revoke => self.gateway_event("POST", &action(&self.revoked, ":revokeAccessTokens"), ""),
        };
        value.to_string().into()
    }

    /// A signed request as an HTTP API passes it to a function.
    fn gateway_event(&self, method: &str, path: &str, body: &str) -> Value {
        let query = "api-version=2023-10-01";
        let request = self.signed(&format!("{path}?{query}"), method, body);
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = request.headers.iter().map(|(name, value)| (name.to_string(), text(value).into()));
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers.collect::<serde_json::Map<_, Value>>(),
            "requestContext": {"http": {"method": method, "path": path}},
            "body": body,
            "isBase64Encoded": false,
        })
    }

    fn authorizer_event(&self) -> Value {
        json!({
            "version": "2.0",
            "type": "REQUEST",
            "rawPath": "/chat/threads",
            "rawQueryString": "",
            "headers": {"authorization": format!("Bearer {}", self.token)},
            "requestContext": {"http": {"method": "GET", "path": "/chat/threads"}},
        })
    }
}
