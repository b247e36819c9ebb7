//! Events of API Gateway Lambda authorizers, to the core's authorizer and back. Two shapes:
//!
//! * **HTTP API**, payload 2.0, simple responses: `{"isAuthorized":...,"context":{...}}`. A gateway answers
//!   `false` with 403, whether the token is bad or permits too little.
//! * **REST API**, request authorizer: a policy over *every* rule, so that a gateway which caches it for one
//!   request applies what is right to another. Without a good token the function fails with `Unauthorized`,
//!   which the gateway answers with 401.
//!
//! Where state cannot be read the function fails, which either gateway answers with 500: closed, and
//! not a verdict.

use std::collections::HashMap;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use identity::authn::target::Target;
use identity::authorizer::{Asked, Authorizer, Judged, Unjudged};
use identity::capability::{Capability, Permit};
use identity::route_rules::{RouteRules, Rule, RuleFaults, Segment};
use identity::scope::ScopeSet;
use identity::token::verify::Verified;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The routes of the chat data plane of ACS.
const CHAT_ROUTES: &str = include_str!("../chat_routes.txt");

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

/// The chat routes, and a deployment's own rules; `source` names these in faults.
///
/// # Errors
/// [`RuleFaults`].
pub fn rules(source: &str, own: &str) -> Result<RouteRules, RuleFaults> {
    RouteRules::default().and("chat_routes.txt", CHAT_ROUTES)?.and(source, own)
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RestEvent {
    #[serde(rename = "type")]
    _type: RestType,
    method_arn: String,
    http_method: String,
    path: String,
    /// Every value of each header; the member `headers` has only the last.
    multi_value_headers: Option<HashMap<String, Vec<String>>>,
    query_string_parameters: Option<HashMap<String, Value>>,
    // Not read, but known: an event with another member is of another kind.
    #[serde(rename = "resource")]
    _resource: Option<Value>,
    #[serde(rename = "headers")]
    _headers: Option<Value>,
    #[serde(rename = "multiValueQueryStringParameters")]
    _query: Option<Value>,
    #[serde(rename = "pathParameters")]
    _path_parameters: Option<Value>,
    #[serde(rename = "stageVariables")]
    _stage_variables: Option<Value>,
    #[serde(rename = "requestContext")]
    _request_context: Option<Value>,
}

#[derive(Deserialize)]
enum RestType {
    #[serde(rename = "REQUEST")]
    Request,
}

/// What an HTTP API is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SimpleResponse {
    is_authorized: bool,
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

/// What the resource server is told: facts of the token, none of this one request, for a gateway may keep them.
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
    statement: Vec<Statement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    action: &'static str,
    effect: &'static str,
    resource: Vec<String>,
}

/// Answers one event.
///
/// # Errors
/// [`AuthorizerError`].
pub async fn handle(authorizer: &Authorizer, event: Value) -> Result<Value, AuthorizerError> {
    match serde_json::from_value(event).map_err(|_| AuthorizerError::Event)? {
        Event::Http(event) => {
            let judged = authorizer.judge(&event.asked().ok_or(AuthorizerError::Event)?).await;
            rendered(&simple_response(judged)?)
        }
        Event::Rest(event) => {
            let asked = event.asked().ok_or(AuthorizerError::Event)?;
            let api = Api::of(&event.method_arn).ok_or(AuthorizerError::Event)?;
            let judged = authorizer.judge(&asked).await?;
            rendered(&api.policy_response(&authorizer.rules, &judged, &event.method_arn))
        }
    }
}

fn rendered(answer: &impl Serialize) -> Result<Value, AuthorizerError> {
    // Plain structs of strings: writing them as JSON cannot fail.
    serde_json::to_value(answer).map_err(|_| AuthorizerError::Unavailable)
}

impl HttpEvent {
    fn asked(&self) -> Option<Asked> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Some(Asked {
            method: self.request_context.http.method.parse().ok()?,
            target: Target::from_decoded_path(&self.raw_path, &self.raw_query_string),
            headers: header_map(headers)?,
        })
    }
}

impl RestEvent {
    fn asked(&self) -> Option<Asked> {
        let headers = self.multi_value_headers.iter().flatten();
        let headers =
            headers.flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_str())));
        let query: Vec<_> =
            self.query_string_parameters.iter().flatten().map(|(name, _)| name.as_str()).collect();
        Some(Asked {
            method: self.http_method.parse().ok()?,
            target: Target::from_wire(&format!("{}?{}", self.path, query.join("&"))),
            headers: header_map(headers)?,
        })
    }
}

fn header_map<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    Some(map)
}

fn simple_response(judged: Result<Judged, Unjudged>) -> Result<SimpleResponse, AuthorizerError> {
    match judged {
        Ok(Judged { permit: Permit::Refused, .. }) | Err(Unjudged::Unauthorized(_)) => {
            Ok(SimpleResponse { is_authorized: false, context: None })
        }
        Ok(Judged { token, .. }) => {
            Ok(SimpleResponse { is_authorized: true, context: Some(Context::of(&token)) })
        }
        Err(Unjudged::Unavailable(_)) => Err(AuthorizerError::Unavailable),
    }
}

impl From<Unjudged> for AuthorizerError {
    fn from(unjudged: Unjudged) -> Self {
        match unjudged {
            Unjudged::Unauthorized(_) => Self::Unauthorized,
            Unjudged::Unavailable(_) => Self::Unavailable,
        }
    }
}

impl Context {
    fn of(token: &Verified) -> Self {
        let joined = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(" ");
        let by_room_role = Capability::permitted(&token.scopes, Permit::ByRoomRole);
        Self {
            identity: token.identity.to_string(),
            scopes: joined(&mut token.scopes.iter().map(|scope| scope.as_str())),
            resource_id: token.claims.resource_id.clone(),
            expires_at: token.claims.exp.to_string(),
            capabilities_by_room_role: joined(&mut by_room_role.map(Capability::as_str)),
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

    fn policy_response(&self, rules: &RouteRules, judged: &Judged, method_arn: &str) -> PolicyResponse {
        let this_request = (judged.permit == Permit::Refused).then(|| method_arn.to_owned());
        PolicyResponse {
            principal_id: judged.token.identity.to_string(),
            policy_document: self.policy(rules, &judged.token.scopes, this_request),
            context: Context::of(&judged.token),
        }
    }

    /// Allows what the scopes permit, by every rule. In a pattern a parameter is a star, which stands for slashes
    /// as well: a rule that permits nothing but lies under such a pattern is denied by name, and so is the
    /// request itself, if no rule permits it.
    fn policy(&self, rules: &RouteRules, scopes: &ScopeSet, denied: Option<String>) -> Policy {
        let (allowed, refused): (Vec<_>, Vec<_>) =
            rules.iter().partition(|rule| rule.capability.permit(scopes) != Permit::Refused);
        let covered = refused.iter().filter(|refused| allowed.iter().any(|rule| covers(rule, refused)));
        let denied: Vec<_> = covered.map(|rule| self.pattern(rule)).chain(denied).collect();
        let allowed = allowed.iter().map(|rule| self.pattern(rule)).collect();
        let statements = [("Allow", allowed), ("Deny", denied)].map(|(effect, resource): (_, Vec<_>)| {
            Statement { action: "execute-api:Invoke", effect, resource }
        });
        let statement: Vec<_> = statements.into_iter().filter(|one| !one.resource.is_empty()).collect();
        if statement.is_empty() { self.deny_all() } else { Policy { version: VERSION, statement } }
    }

    /// A gateway takes no policy without statements.
    fn deny_all(&self) -> Policy {
        let resource = vec![format!("{}/*", self.0)];
        let statement = Statement { action: "execute-api:Invoke", effect: "Deny", resource };
        Policy { version: VERSION, statement: vec![statement] }
    }

    fn pattern(&self, rule: &Rule) -> String {
        format!("{}/{}{}", self.0, rule.method, pattern(rule))
    }
}

/// The policy language's version.
const VERSION: &str = "2012-10-17";

fn pattern(rule: &Rule) -> String {
    let part = |part: &Segment| match part {
        Segment::Literal(text) => format!("/{text}"),
        Segment::Any => "/*".to_owned(),
    };
    rule.path.iter().map(part).collect()
}

/// Whether the pattern of one rule stands for requests that another decides.
fn covers(rule: &Rule, other: &Rule) -> bool {
    rule.method == other.method && !rule.prevails_over(other) && reaches(&rule.path, &other.path)
}

/// Whether these segments, where a parameter may take up several, can be the others.
fn reaches(pattern: &[Segment], path: &[Segment]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((Segment::Any, rest)), Some((_, further))) => {
            reaches(rest, further) || reaches(pattern, further)
        }
        (Some((Segment::Literal(one), rest)), Some((other, further))) => {
            let meet = matches!(other, Segment::Any) || *other == Segment::Literal(one.clone());
            meet && reaches(rest, further)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}
