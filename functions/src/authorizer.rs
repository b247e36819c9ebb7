//! Answers events of API Gateway Lambda authorizers. [`event`] reads the request in an event. There are two forms of the
//! answer:
//!
//! * **Simple response**, for an HTTP API with payload 2.0: `{"isAuthorized":...,"context":{...}}`. The gateway answers
//!   `false` with 403, both for an invalid token and for a token without the capability.
//! * **Policy**, for all other events. The policy allows exactly this request and refuses every other request. A gateway
//!   that caches the policy for the token can only refuse more. The policy does not list the other requests that the token
//!   permits. A parameter would be a star in the policy, and a star also matches slashes, dots and escapes. So the policy
//!   would match requests that no rule allows (docs/decisions/0010-verification-for-everyone.md).
//!
//! Without a valid token, the function fails with `Unauthorized` for a REST API and for a WebSocket API, and the gateway
//! answers 401. An HTTP API has no such answer, so the policy for payload 1.0 refuses every request, with 403.
//!
//! If the state cannot be read, the function fails, and every gateway answers 500. So the resource stays closed without
//! a decision about the token.

mod event;

use identity::authorization::authorizer::{AuthorizeError, Authorizer, Decision, EventKind};
use identity::authorization::capability::{Capability, Permit};
use identity::correlation::Delivery;
use identity::token::verify::Verified;
use serde::Serialize;
use serde_json::Value;

use self::event::Event;
pub use self::event::EventError;
use crate::invocation::Invocation;

/// An error fails the function. The gateway then answers the client with its own text.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizerError {
    #[error("{0}")]
    Event(EventError),
    /// The gateway answers exactly this text with 401.
    #[error("Unauthorized")]
    Unauthorized,
    #[error("the state that decides about this token could not be read from the table; try again")]
    Unavailable,
}

impl AuthorizerError {
    /// The stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Event(_) => "InvalidEvent",
            Self::Unauthorized => "Unauthorized",
            Self::Unavailable => "Unavailable",
        }
    }
}

/// The reply to an HTTP API with payload 2.0.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SimpleResponse {
    is_authorized: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

/// The reply to any other gateway.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyResponse {
    principal_id: String,
    policy_document: Policy,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

/// The facts about the token that the gateway passes to the resource server. The facts do not depend on the request,
/// because a gateway may cache them for the token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    identity: String,
    /// Scopes, separated by spaces.
    scopes: String,
    resource_id: String,
    /// Seconds since the epoch.
    expires_at: String,
    /// Capabilities that depend on the user's role in the room, separated by spaces.
    capabilities_by_room_role: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    version: &'static str,
    statement: [Statement; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    action: &'static str,
    effect: &'static str,
    resource: String,
}

/// The principal of a policy for a request without a valid token. A gateway requires a name.
const NOBODY: &str = "nobody";

/// Answers one event of a gateway that is not on Lambda.
///
/// # Errors
/// [`AuthorizerError`].
pub async fn handle(authorizer: &Authorizer, event: Value) -> Result<Value, AuthorizerError> {
    handle_invocation(authorizer, event, &Invocation::default()).await
}

/// Answers one event, and writes exactly one audit line.
///
/// # Errors
/// [`AuthorizerError`].
pub async fn handle_invocation(
    authorizer: &Authorizer,
    event: Value,
    invocation: &Invocation,
) -> Result<Value, AuthorizerError> {
    let delivery = invocation.delivery(&event);
    let refuse = |kind, delivery: &Delivery, error: EventError| {
        authorizer.refuse_event(kind, delivery, error.as_str());
        AuthorizerError::Event(error)
    };
    let event = Event::of(&event).map_err(|error| refuse(None, &delivery, error))?;
    let kind = event.kind;
    let refuse = |error| refuse(Some(kind), &delivery, error);
    if kind == EventKind::HttpApi2 {
        let request = event.request(true, delivery.clone()).map_err(refuse)?;
        return rendered(&simple_response(authorizer.authorize(&request).await)?);
    }
    let method = event.method_arn().and_then(|arn| RequestedMethod::of(kind, arn));
    let method = method.ok_or(EventError::MethodArn).map_err(refuse)?;
    let request = event.request(method.is_literal, delivery.clone()).map_err(refuse)?;
    match authorizer.authorize(&request).await {
        Ok(decision) => rendered(&method.policy_response(&decision)),
        Err(AuthorizeError::Unauthorized(_)) if kind == EventKind::HttpApi1 => {
            rendered(&method.refusal(NOBODY.to_owned(), None))
        }
        Err(AuthorizeError::Unauthorized(_)) => Err(AuthorizerError::Unauthorized),
        Err(AuthorizeError::Unavailable(_)) => Err(AuthorizerError::Unavailable),
    }
}

fn rendered(answer: &impl Serialize) -> Result<Value, AuthorizerError> {
    // The structs hold only strings, so their serialization cannot fail.
    serde_json::to_value(answer).map_err(|_| AuthorizerError::Unavailable)
}

fn simple_response(decision: Result<Decision, AuthorizeError>) -> Result<SimpleResponse, AuthorizerError> {
    match decision {
        Ok(Decision { permit: Permit::Refused, .. }) | Err(AuthorizeError::Unauthorized(_)) => {
            Ok(SimpleResponse { is_authorized: false, context: None })
        }
        Ok(Decision { token, .. }) => {
            Ok(SimpleResponse { is_authorized: true, context: Some(Context::of(&token)) })
        }
        Err(AuthorizeError::Unavailable(_)) => Err(AuthorizerError::Unavailable),
    }
}

impl Context {
    fn of(token: &Verified) -> Self {
        let by_room_role = Capability::names(&token.claims.scopes, Permit::ByRoomRole);
        Self {
            identity: token.identity.to_string(),
            scopes: token.claims.scopes.spaced(),
            resource_id: token.claims.resource_id.clone(),
            expires_at: token.claims.exp.to_string(),
            capabilities_by_room_role: by_room_role.join(" "),
        }
    }
}

/// The method of an event, as in a policy: `arn:<partition>:execute-api:<region>:<account>:<api>/<stage>/<rest>`.
struct RequestedMethod<'a> {
    arn: &'a str,
    /// The ARN up to the stage.
    api: &'a str,
    /// Whether a policy with this ARN matches only this method.
    is_literal: bool,
}

impl<'a> RequestedMethod<'a> {
    fn of(kind: EventKind, arn: &'a str) -> Option<Self> {
        let (end, _) = arn.match_indices('/').nth(1)?;
        let (api, rest) = arn.split_at(end);
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'/' | b'-' | b'_' | b'$');
        if api.split(':').nth(2) != Some("execute-api") || !api.bytes().all(is_plain) {
            return None;
        }
        // A wildcard or a variable would match other methods. The name of the route is neither.
        let is_literal = match kind {
            EventKind::WebSocketConnect if rest == "/$connect" => true,
            EventKind::WebSocketConnect => return None,
            _ => !rest.contains(['*', '?', '$']),
        };
        Some(Self { arn, api, is_literal })
    }

    fn policy_response(&self, decision: &Decision) -> PolicyResponse {
        let principal_id = decision.token.identity.to_string();
        let context = Some(Context::of(&decision.token));
        match decision.permit {
            Permit::Refused => self.refusal(principal_id, context),
            Permit::ByRoomRole | Permit::Granted => {
                answer(principal_id, context, "Allow", self.arn.to_owned())
            }
        }
    }

    /// A policy that refuses every request to the stage.
    fn refusal(&self, principal_id: String, context: Option<Context>) -> PolicyResponse {
        answer(principal_id, context, "Deny", format!("{}/*", self.api))
    }
}

fn answer(
    principal_id: String,
    context: Option<Context>,
    effect: &'static str,
    resource: String,
) -> PolicyResponse {
    let statement = Statement { action: "execute-api:Invoke", effect, resource };
    // The version of the policy language.
    let policy_document = Policy { version: "2012-10-17", statement: [statement] };
    PolicyResponse { principal_id, policy_document, context }
}
