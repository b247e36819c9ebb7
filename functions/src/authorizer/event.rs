//! The events of Lambda authorizers, and the requests in them.
//!
//! | Event | Path | Headers |
//! |---|---|---|
//! | HTTP API, payload 2.0 | `rawPath`, decoded, with the name of a named stage | `headers`, repeated ones joined by commas |
//! | HTTP API, payload 1.0 | `path`, decoded, with the name of a named stage | as for a REST API |
//! | REST API | `path`, as the client sent it, without the stage | `multiValueHeaders`, or `headers` without it |
//! | WebSocket API, `$connect` | none | as for a REST API |

use std::{fmt, iter};

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL, USER_AGENT};
use http::{HeaderMap, Method};
use identity::authn::target::Target;
use identity::authorization::authorizer::{Action, AuthorizeRequest, EventKind};
use identity::correlation::{Delivery, MS_USERAGENT, TRACEPARENT};
use serde_json::{Map, Value};

/// The reason why an event is no request of a supported authorizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// Another kind of event.
    Kind,
    /// An event of a `TOKEN` authorizer.
    TokenAuthorizer,
    Method,
    MethodArn,
    Path,
    Headers,
}

/// The members of an event that the authorizer reads. Further members are ignored.
pub(super) struct Event<'a> {
    members: &'a Value,
    pub(super) kind: EventKind,
}

/// The headers that the authorizer and its audit line read.
const HEADERS: [HeaderName; 5] =
    [AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, USER_AGENT, TRACEPARENT, MS_USERAGENT];

impl EventError {
    /// The text of the error, for the log and for the caller of the function.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kind => {
                "the event is not an event of this function; send the event of a REQUEST authorizer: of an HTTP API with \
                 payload 2.0 or 1.0, of a REST API, or of the route $connect of a WebSocket API"
            }
            Self::TokenAuthorizer => {
                "the event is of a TOKEN authorizer, which names no route; choose a REQUEST authorizer"
            }
            Self::Method => "the method of the event is missing or not a method",
            Self::MethodArn => "methodArn of the event is missing or not the ARN of a method of execute-api",
            Self::Path => "the path of the event is missing",
            Self::Headers => "a header of the event is not text, or has a character that no header can have",
        }
    }
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Event<'a> {
    /// The event. Only events of an HTTP API have a version. Only events of a WebSocket API have an event type.
    pub(super) fn of(members: &'a Value) -> Result<Self, EventError> {
        let text = |pointer| members.pointer(pointer).and_then(Value::as_str);
        let event_type = members.pointer("/requestContext/eventType");
        let kind = match (members.get("version"), text("/type")) {
            (Some(version), _) if version == "2.0" => EventKind::HttpApi2,
            (Some(version), Some("REQUEST")) if version == "1.0" => EventKind::HttpApi1,
            (None, Some("REQUEST")) => match event_type {
                None => EventKind::RestApi,
                Some(connect) if connect == "CONNECT" => EventKind::WebSocketConnect,
                Some(_) => return Err(EventError::Kind),
            },
            (_, Some("TOKEN")) => return Err(EventError::TokenAuthorizer),
            _ => return Err(EventError::Kind),
        };
        Ok(Self { members, kind })
    }

    /// The request in the event. `is_exact` is whether the answer can name exactly this request.
    pub(super) fn request(&self, is_exact: bool, delivery: Delivery) -> Result<AuthorizeRequest, EventError> {
        let action = match self.kind {
            EventKind::WebSocketConnect => Action::Connect,
            EventKind::HttpApi2 => Action::Method(self.method("/requestContext/http/method")?),
            EventKind::HttpApi1 | EventKind::RestApi => Action::Method(self.method("/httpMethod")?),
        };
        let target = match self.kind {
            EventKind::HttpApi2 => {
                let query = self.text("/rawQueryString").unwrap_or_default();
                Target::from_decoded_path(self.text("/rawPath").ok_or(EventError::Path)?, query)
            }
            EventKind::HttpApi1 => {
                Target::from_decoded_path(self.text("/path").ok_or(EventError::Path)?, &self.query_names())
            }
            EventKind::RestApi => {
                let path = self.text("/path").ok_or(EventError::Path)?;
                Target::from_wire(&format!("{path}?{}", self.query_names()))
            }
            EventKind::WebSocketConnect => Target::from_decoded_path("", &self.query_names()),
        };
        let stage = match self.kind {
            EventKind::HttpApi1 | EventKind::HttpApi2 => self.text("/requestContext/stage"),
            EventKind::RestApi | EventKind::WebSocketConnect => None,
        };
        let stage = stage.filter(|stage| *stage != "$default").map(str::to_owned);
        let headers = self.headers()?;
        Ok(AuthorizeRequest { event: self.kind, action, target, stage, is_exact, headers, delivery })
    }

    /// The ARN of the requested method, for a policy.
    pub(super) fn method_arn(&self) -> Option<&'a str> {
        self.text("/methodArn")
    }

    fn text(&self, pointer: &str) -> Option<&'a str> {
        self.members.pointer(pointer).and_then(Value::as_str)
    }

    fn method(&self, pointer: &str) -> Result<Method, EventError> {
        self.text(pointer).and_then(|method| method.parse().ok()).ok_or(EventError::Method)
    }

    /// The names of the query parameters. The authorizer reads no value.
    fn query_names(&self) -> String {
        let names = |member| self.object(member).into_iter().flatten().map(|(name, _)| name.as_str());
        let all = names("queryStringParameters").chain(names("multiValueQueryStringParameters"));
        all.collect::<Vec<_>>().join("&")
    }

    /// Every value of the headers that are read. The member `headers` has only the last value of a repeated header, so it is
    /// read only without the other member.
    fn headers(&self) -> Result<HeaderMap, EventError> {
        let several = match self.kind {
            EventKind::HttpApi2 => None,
            EventKind::HttpApi1 | EventKind::RestApi | EventKind::WebSocketConnect => {
                self.object("multiValueHeaders")
            }
        };
        let members = several.or_else(|| self.object("headers")).into_iter().flatten();
        let mut headers = HeaderMap::new();
        for (name, value) in members {
            let Some(name) = HEADERS.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_str()))
            else {
                continue;
            };
            let mut values: Box<dyn Iterator<Item = &Value>> = match value {
                Value::Null => Box::new(iter::empty()),
                Value::Array(values) => Box::new(values.iter()),
                value => Box::new(iter::once(value)),
            };
            values.try_for_each(|value| {
                let value = value.as_str().and_then(|text| HeaderValue::try_from(text).ok());
                headers.append(&name, value.ok_or(EventError::Headers)?);
                Ok(())
            })?;
        }
        Ok(headers)
    }

    fn object(&self, member: &str) -> Option<&'a Map<String, Value>> {
        self.members.get(member).and_then(Value::as_object)
    }
}
