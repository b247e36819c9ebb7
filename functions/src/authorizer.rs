//! Converts events of API Gateway Lambda authorizers for the core's authorizer, and the decision back. Two kinds of
//! authorizer are supported:
//!
//! * **HTTP API**, payload 2.0, simple responses: `{"isAuthorized":...,"context":{...}}`. The gateway answers `false`
//!   with 403, both for an invalid token and for a token without the capability.
//! * **REST API**, request authorizer: the reply is a policy that allows exactly this request and refuses every other
//!   request. A gateway that caches the policy for the token can only refuse more. The policy does not list the other
//!   requests that the token permits. A parameter would be a star in the policy, and a star also matches slashes, dots
//!   and escapes. So the policy would match requests that no rule allows
//!   (docs/decisions/0010-verification-for-everyone.md). Without a valid token the function fails with `Unauthorized`,
//!   and the gateway answers 401.
//!
//! If the state cannot be read, the function fails, and both gateways answer 500. So the resource stays closed without
//! a decision about the token.

use std::collections::HashMap;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use identity::authn::target::Target;
use identity::authorization::authorizer::{AuthorizeError, AuthorizeRequest, Authorizer, Decision};
use identity::authorization::capability::{Capability, Permit};
use identity::token::verify::Verified;
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An error fails the function. The gateway then answers the client with its own text.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizerError {
    #[error(
        "the event is not an event of this function; send the event of an HTTP API authorizer with payload 2.0 or of \
         a REST API request authorizer"
    )]
    Event,
    /// A REST API answers exactly this text with 401.
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
            Self::Event => "InvalidEvent",
            Self::Unauthorized => "Unauthorized",
            Self::Unavailable => "Unavailable",
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Http(Box<HttpEvent>),
    Rest(Box<RestEvent>),
}

/// The members of an HTTP API's event that the authorizer reads. The path is decoded.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpEvent {
    #[serde(rename = "version")]
    _version: PayloadVersion,
    raw_path: String,
    #[serde(default)]
    raw_query_string: String,
    headers: HashMap<String, String>,
    request_context: HttpContext,
}

#[derive(Deserialize)]
enum PayloadVersion {
    #[serde(rename = "2.0")]
    Two,
}

#[derive(Deserialize)]
struct HttpContext {
    http: HttpRequest,
}

#[derive(Deserialize)]
struct HttpRequest {
    method: String,
}

/// The members of a REST API's event that the authorizer reads. The path is as the client sent it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RestEvent {
    #[serde(rename = "type")]
    _type: RestType,
    method_arn: String,
    http_method: String,
    path: String,
    /// Every value of each header. The member `headers` has only the last value.
    multi_value_headers: Option<HashMap<String, Vec<String>>>,
    query_string_parameters: Option<HashMap<String, Value>>,
    /// Only the event of an HTTP API has a version.
    #[serde(rename = "version", default, deserialize_with = "no_version")]
    _version: (),
}

#[derive(Deserialize)]
enum RestType {
    #[serde(rename = "REQUEST")]
    Request,
}

/// Refuses an event with this member, whatever the value is.
fn no_version<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(D::Error::custom("an event of a REST API has no version"))
}

/// The reply to an HTTP API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SimpleResponse {
    is_authorized: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

/// The reply to a REST API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyResponse {
    principal_id: String,
    policy_document: Policy,
    context: Context,
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

/// Answers one event.
///
/// # Errors
/// [`AuthorizerError`].
pub async fn handle(authorizer: &Authorizer, event: Value) -> Result<Value, AuthorizerError> {
    match serde_json::from_value(event).map_err(|_| AuthorizerError::Event)? {
        Event::Http(event) => {
            let decision = authorizer.authorize(&event.request().ok_or(AuthorizerError::Event)?).await;
            rendered(&simple_response(decision)?)
        }
        Event::Rest(event) => {
            let request = event.request().ok_or(AuthorizerError::Event)?;
            let api = Api::of(&event.method_arn).ok_or(AuthorizerError::Event)?;
            let decision = authorizer.authorize(&request).await?;
            rendered(&api.policy_response(&decision, &event.method_arn))
        }
    }
}

fn rendered(answer: &impl Serialize) -> Result<Value, AuthorizerError> {
    // The structs hold only strings, so their serialization cannot fail.
    serde_json::to_value(answer).map_err(|_| AuthorizerError::Unavailable)
}

impl HttpEvent {
    fn request(&self) -> Option<AuthorizeRequest> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Some(AuthorizeRequest {
            method: self.request_context.http.method.parse().ok()?,
            target: Target::from_decoded_path(&self.raw_path, &self.raw_query_string),
            headers: header_map(headers)?,
        })
    }
}

impl RestEvent {
    fn request(&self) -> Option<AuthorizeRequest> {
        let headers = self.multi_value_headers.iter().flatten();
        let headers =
            headers.flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())));
        let query: Vec<_> =
            self.query_string_parameters.iter().flatten().map(|(name, _)| name.as_str()).collect();
        Some(AuthorizeRequest {
            method: self.http_method.parse().ok()?,
            target: Target::from_wire(&format!("{}?{}", self.path, query.join("&"))),
            headers: header_map(headers)?,
        })
    }
}

/// Every value of the only header that the authorizer reads.
fn header_map<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (_, value) in headers.filter(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str())) {
        map.append(AUTHORIZATION, HeaderValue::try_from(value).ok()?);
    }
    Some(map)
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

impl From<AuthorizeError> for AuthorizerError {
    fn from(error: AuthorizeError) -> Self {
        match error {
            AuthorizeError::Unauthorized(_) => Self::Unauthorized,
            AuthorizeError::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl Context {
    fn of(token: &Verified) -> Self {
        let by_room_role = Capability::names(&token.claims.scopes, Permit::ByRoomRole);
        Self {
            identity: token.identity.to_string(),
            scopes: token.claims.scopes.names().join(" "),
            resource_id: token.claims.resource_id.clone(),
            expires_at: token.claims.exp.to_string(),
            capabilities_by_room_role: by_room_role.join(" "),
        }
    }
}

/// The API and the stage of a policy: `arn:<partition>:execute-api:<region>:<account>:<api>/<stage>`.
struct Api<'a>(&'a str);

impl<'a> Api<'a> {
    fn of(method_arn: &'a str) -> Option<Self> {
        let (end, _) = method_arn.match_indices('/').nth(1)?;
        let api = method_arn.get(..end)?;
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'/' | b'-' | b'_' | b'$');
        (api.split(':').nth(2) == Some("execute-api") && api.bytes().all(is_plain)).then_some(Self(api))
    }

    fn policy_response(&self, decision: &Decision, method_arn: &str) -> PolicyResponse {
        let is_allowed = decision.permit != Permit::Refused && is_literal(method_arn);
        let (effect, resource) =
            if is_allowed { ("Allow", method_arn.to_owned()) } else { ("Deny", format!("{}/*", self.0)) };
        let statement = Statement { action: "execute-api:Invoke", effect, resource };
        PolicyResponse {
            principal_id: decision.token.identity.to_string(),
            // The version of the policy language.
            policy_document: Policy { version: "2012-10-17", statement: [statement] },
            context: Context::of(&decision.token),
        }
    }
}

/// Whether a resource of a policy matches only itself: the text has no wildcard and no variable.
fn is_literal(resource: &str) -> bool {
    !resource.contains(['*', '?', '$'])
}
