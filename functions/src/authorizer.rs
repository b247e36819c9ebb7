//! Events of API Gateway Lambda authorizers, to the core's authorizer and back. Two shapes:
//!
//! * **HTTP API**, payload 2.0, simple responses: `{"isAuthorized":...,"context":{...}}`. A gateway answers
//!   `false` with 403, whether the token is bad or permits too little.
//! * **REST API**, request authorizer: a policy that allows exactly this request, and so refuses every other. A
//!   gateway that keeps it for the token can only refuse more. It does not list what else the token permits:
//!   in a policy's pattern a parameter would be a star, which also stands for slashes, dots and escapes, and so
//!   for requests that no rule allows (decision record 0010). Without a good token the function fails
//!   with `Unauthorized`, which the gateway answers with 401.
//!
//! Where state cannot be read the function fails, which either gateway answers with 500: closed, and
//! not a verdict.

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

/// The function fails, and the gateway says so in its own words.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizerError {
    #[error(
        "not an event of this function: it takes those of HTTP API authorizers with payload 2.0 and of REST API \
         request authorizers"
    )]
    Event,
    /// The text is the one that a REST API answers with 401.
    #[error("Unauthorized")]
    Unauthorized,
    #[error("what decides could not be read; try again")]
    Unavailable,
}

impl AuthorizerError {
    /// A stable name for what went wrong.
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

/// What is read of an HTTP API's event. Its path is decoded.
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

/// What is read of a REST API's event. Its path is as the client sent it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RestEvent {
    #[serde(rename = "type")]
    _type: RestType,
    method_arn: String,
    http_method: String,
    path: String,
    /// Every value of each header; the member `headers` has only the last.
    multi_value_headers: Option<HashMap<String, Vec<String>>>,
    query_string_parameters: Option<HashMap<String, Value>>,
    /// Events that have one are an HTTP API's.
    #[serde(rename = "version", default, deserialize_with = "no_version")]
    _version: (),
}

#[derive(Deserialize)]
enum RestType {
    #[serde(rename = "REQUEST")]
    Request,
}

/// Refuses a member that is there, whatever it says.
fn no_version<'de, D: Deserializer<'de>>(_: D) -> Result<(), D::Error> {
    Err(D::Error::custom("an event of a REST API has no version"))
}

/// What an HTTP API is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SimpleResponse {
    is_authorized: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context>,
}

/// What a REST API is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyResponse {
    principal_id: String,
    policy_document: Policy,
    context: Context,
}

/// What the resource server is audit_event: facts of the token, none of this one request, for a gateway may keep them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    identity: String,
    /// Separated by spaces.
    scopes: String,
    resource_id: String,
    /// Seconds since the epoch.
    expires_at: String,
    /// Capabilities that the user's role in the room decides, separated by spaces.
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
    // Plain structs of strings: writing them as JSON cannot fail.
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

/// The one header that is looked at, each time it is there.
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
    fn from(unjudged: AuthorizeError) -> Self {
        match unjudged {
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

/// The API and stage that a policy is for: `arn:<partition>:execute-api:<region>:<account>:<api>/<stage>`.
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
            // The version is that of the policy language.
            policy_document: Policy { version: "2012-10-17", statement: [statement] },
            context: Context::of(&decision.token),
        }
    }
}

/// Whether a resource of a policy stands for itself alone: it has neither wildcard nor variable.
fn is_literal(resource: &str) -> bool {
    !resource.contains(['*', '?', '$'])
}
