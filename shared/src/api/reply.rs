//! Replies: their bodies and headers, as in the recorded service.
//!
//! The sources are docs/wire-contract.md#schemas, docs/wire-contract.md#error-catalogue and
//! docs/wire-contract.md#response-headers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY,
};
use http::{Response, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::api::error::{ErrorForm, ErrorRow};
use crate::api::version::{self, ApiVersion};
use crate::authorization::capability::{Capability, Permit};
use crate::host::Authority;
use crate::ids::RawId;
use crate::keys::pointer::PublishedKeys;
use crate::lifetime::KEY_SET_MAX_AGE;
use crate::settings::Issuer;
use crate::store::assignments::Assignment;
use crate::store::custom_ids::Profile;
use crate::store::feed::{Cursor, End};
use crate::token::AccessToken;
use crate::token::claims::Claims;
use crate::token::verify::Verified;

/// The result of a successful operation.
pub enum Reply {
    /// 204.
    Done,
    /// 201.
    Created(CreatedBody),
    /// 200 with one identity.
    Identity(IdentityBody),
    /// 200, in the version 2020-07-20-preview2.
    IdentityToken(IdentityTokenBody),
    /// 200 with one assignment, or 201 if it is new.
    Assignment { body: Assignment, is_new: bool },
    /// 200.
    Assignments(AssignmentsBody),
    /// 200. The document is public.
    Discovery(DiscoveryBody),
    /// 200, with the body of a creation, for an identity that comes from Entra.
    Exchanged(CreatedBody),
    /// 200, with the claims and capabilities of an active token. `None` for any other token.
    Introspected(Option<Box<Verified>>),
    /// 200.
    Issued(TokenBody),
    /// 200, with the JSON Web Key Set, which is public.
    KeySet(Arc<PublishedKeys>),
    /// 200, with ends of tokens and the cursor after them.
    Revocations(RevocationsBody),
    /// 204, with the methods of the path. Empty if the path does not exist.
    Methods(String),
}

/// The discovery document (OpenID Connect Discovery 1.0 section 3). This service has no authorization or token
/// endpoint, so their members are absent.
#[derive(Serialize)]
pub struct DiscoveryBody {
    issuer: String,
    jwks_uri: String,
    introspection_endpoint: String,
    /// RFC 8414 section 2.
    introspection_endpoint_auth_methods_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: Vec<&'static str>,
    response_types_supported: [&'static str; 0],
    subject_types_supported: [&'static str; 1],
}

/// `{"ends":[...],"cursor":"..."}`
#[derive(Serialize)]
pub struct RevocationsBody {
    pub ends: Vec<End>,
    pub cursor: Cursor,
}

/// The introspection of an active token, with its claims (RFC 7662 section 2.2).
#[derive(Serialize)]
struct IntrospectionBody<'a> {
    active: bool,
    token_type: &'static str,
    /// With `scope`, also for a token without it.
    #[serde(flatten)]
    claims: Cow<'a, Claims>,
    capabilities: Vec<&'static str>,
    capabilities_by_room_role: Vec<&'static str>,
}

/// The introspection of any other token.
#[derive(Serialize)]
struct InactiveBody {
    active: bool,
}

/// `{"value":[...],"nextLink"?}`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentsBody {
    pub value: Vec<Assignment>,
    /// The URL of the next page. The last page has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

/// `{"identity":{...},"accessToken":{...}?}`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedBody {
    identity: IdentityBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<TokenBody>,
}

/// `{"customId"?,"lastTokenIssuedAt"?,"id"}`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_token_issued_at: Option<String>,
    id: String,
}

/// `{"id","token","expiresOn"}`
#[derive(Serialize)]
pub struct IdentityTokenBody {
    id: String,
    #[serde(flatten)]
    token: TokenBody,
}

/// `{"token","expiresOn"}`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenBody {
    #[serde(serialize_with = "expose")]
    token: AccessToken,
    expires_on: String,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: ErrorDetail<'a>,
}

#[derive(Serialize)]
struct ErrorDetail<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
}

#[derive(Serialize)]
struct OAuthErrorBody<'a> {
    error: &'a str,
    error_description: &'a str,
}

/// The facts of a request that its response repeats, for every outcome.
pub struct ResponseContext<'a> {
    /// The versions to list. `None` if the request has no route.
    pub versions: Option<&'static [ApiVersion]>,
    /// The client's `x-ms-client-request-id`, which the response echoes unchanged.
    pub client_request_id: Option<&'a HeaderValue>,
    /// The id that this service gave the request: 22 base64 characters.
    pub request_id: &'a str,
    pub latency: Duration,
    /// Whether the client reached this service at a loopback name or address. A browser that stored a rule to use HTTPS
    /// for `localhost` would force it onto every other server on the machine.
    pub is_loopback: bool,
}

const API_SUPPORTED_VERSIONS: HeaderName = HeaderName::from_static("api-supported-versions");
pub(crate) const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-client-request-id");
const MS_CV: HeaderName = HeaderName::from_static("ms-cv");
const REQUEST_CONTEXT: HeaderName = HeaderName::from_static("request-context");
const X_PROCESSING_TIME: HeaderName = HeaderName::from_static("x-processing-time");

/// Initial capacity of a body, in bytes. A reply with a token fits, so its buffer does not grow.
const USUAL_BODY: usize = 960;

/// The number of headers that a reply may have.
const MAX_HEADERS: usize = 10;

/// `expiresOn` and `lastTokenIssuedAt`: ISO 8601 with a numeric offset, never `Z`. `expiresOn` has whole seconds,
/// because it equals the token's `exp`.
const INSTANT: &[BorrowedFormatItem<'_>] =
    format_description!(version = 2, "[year]-[month]-[day]T[hour]:[minute]:[second]+00:00");

impl CreatedBody {
    pub(crate) fn new(identity: &RawId, profile: Option<&Profile>, access_token: Option<TokenBody>) -> Self {
        Self { identity: IdentityBody::new(identity, profile), access_token }
    }
}

impl IdentityBody {
    pub(crate) fn new(identity: &RawId, profile: Option<&Profile>) -> Self {
        let custom_id = profile.and_then(|profile| profile.custom_id.as_ref());
        let issued_at = profile.and_then(|profile| profile.last_token_issued_at);
        let issued_at = issued_at.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        Self {
            custom_id: custom_id.map(|custom_id| custom_id.expose().to_owned()),
            last_token_issued_at: issued_at.map(instant),
            id: identity.to_string(),
        }
    }
}

impl IdentityTokenBody {
    pub(crate) fn new(identity: &RawId, token: TokenBody) -> Self {
        Self { id: identity.to_string(), token }
    }
}

impl DiscoveryBody {
    /// The document of this issuer, served under this host. It does not depend on the headers of the request.
    pub(crate) fn new(issuer: &Issuer, host: &Authority, keys: &PublishedKeys) -> Self {
        Self {
            issuer: issuer.to_string(),
            jwks_uri: format!("https://{host}/.well-known/jwks.json"),
            introspection_endpoint: format!("https://{host}/introspect"),
            introspection_endpoint_auth_methods_supported: ["client_secret_basic"],
            id_token_signing_alg_values_supported: keys.algorithms(),
            response_types_supported: [],
            subject_types_supported: ["public"],
        }
    }
}

impl<'a> IntrospectionBody<'a> {
    fn of(token: &'a Verified) -> Self {
        let mut claims = Cow::Borrowed(&token.claims);
        if claims.scope.is_none() {
            claims.to_mut().scope = Some(token.claims.scopes.spaced());
        }
        Self {
            active: true,
            token_type: "Bearer",
            claims,
            capabilities: Capability::names(&token.claims.scopes, Permit::Granted),
            capabilities_by_room_role: Capability::names(&token.claims.scopes, Permit::ByRoomRole),
        }
    }
}

impl TokenBody {
    pub(crate) fn new(token: AccessToken, expires_on: OffsetDateTime) -> Self {
        Self { token, expires_on: instant(expires_on) }
    }
}

/// Formatting cannot fail, because every date has the components of the format.
fn instant(at: OffsetDateTime) -> String {
    at.format(INSTANT).unwrap_or_default()
}

fn expose<S: serde::Serializer>(token: &AccessToken, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose())
}

impl ResponseContext<'_> {
    /// The HTTP response for an outcome.
    #[must_use]
    pub fn into_response(&self, outcome: Result<&Reply, &ErrorRow>) -> Response<Bytes> {
        let mut response = match outcome {
            Ok(Reply::Done) => empty(StatusCode::NO_CONTENT),
            Ok(Reply::Created(body)) => success(StatusCode::CREATED, body),
            Ok(Reply::Assignment { body, is_new: true }) => success(StatusCode::CREATED, body),
            Ok(Reply::Assignment { body, is_new: false }) => success(StatusCode::OK, body),
            Ok(Reply::Assignments(body)) => success(StatusCode::OK, body),
            Ok(Reply::Discovery(body)) => published(body),
            Ok(Reply::Identity(body)) => success(StatusCode::OK, body),
            Ok(Reply::IdentityToken(body)) => success(StatusCode::OK, body),
            Ok(Reply::Exchanged(body)) => success(StatusCode::OK, body),
            Ok(Reply::Introspected(token)) => introspected(token.as_deref()),
            Ok(Reply::Issued(body)) => success(StatusCode::OK, body),
            Ok(Reply::KeySet(keys)) => published(keys.jwks()),
            Ok(Reply::Revocations(body)) => success(StatusCode::OK, body),
            Ok(Reply::Methods(methods)) => with_methods(methods),
            Err(error) => refusal(error),
        };
        let reports_versions = outcome.err().is_none_or(|error| error.reports_versions);
        let headers = response.headers_mut();
        if !self.is_loopback {
            let rule = HeaderValue::from_static("max-age=31536000;includeSubDomains");
            headers.insert(STRICT_TRANSPORT_SECURITY, rule);
        }
        headers.insert(REQUEST_CONTEXT, HeaderValue::from_static("appId="));
        let text = [
            (MS_CV, Some(format!("{}.0", self.request_id))),
            (X_PROCESSING_TIME, Some(format!("{}ms", self.latency.as_millis()))),
            (
                API_SUPPORTED_VERSIONS,
                self.versions
                    .filter(|versions| reports_versions && !versions.is_empty())
                    .map(version::supported),
            ),
        ];
        for (name, value) in text {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        if let Some(id) = self.client_request_id {
            headers.insert(CLIENT_REQUEST_ID, id.clone());
        }
        response
    }
}

/// Drops the body of a reply to `HEAD` and keeps its length (RFC 9110 section 9.3.2).
pub fn drop_body(reply: &mut Response<Bytes>) {
    let body = std::mem::take(reply.body_mut());
    if !body.is_empty() {
        reply.headers_mut().insert(CONTENT_LENGTH, body.len().into());
    }
}

/// The reply to `OPTIONS` (RFC 9110 section 9.3.7). The methods are those of the path, or empty.
#[must_use]
pub fn with_methods(methods: &str) -> Response<Bytes> {
    let mut response = empty(StatusCode::NO_CONTENT);
    if let Some(methods) = HeaderValue::from_str(methods).ok().filter(|methods| !methods.is_empty()) {
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

fn refusal(error: &ErrorRow) -> Response<Bytes> {
    let ErrorRow { code, message, target, .. } = error;
    let mut response = match error.form {
        ErrorForm::Acs => {
            let detail = ErrorDetail { code, message, target: target.as_deref() };
            json(error.status, "application/json", &ErrorBody { error: detail })
        }
        ErrorForm::OAuth => {
            let body = OAuthErrorBody { error: code, error_description: message };
            json(error.status, "application/json", &body)
        }
        ErrorForm::Empty => {
            let mut response = empty(error.status);
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            response
        }
    };
    response.headers_mut().extend(error.header.clone());
    response
}

fn success(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    json(status, "application/json; charset=utf-8", body)
}

/// A public document, which clients and proxies may cache.
fn published(body: &impl Serialize) -> Response<Bytes> {
    let mut response = success(StatusCode::OK, body);
    let age = HeaderValue::try_from(format!("public, max-age={KEY_SET_MAX_AGE}"));
    response.headers_mut().extend(age.map(|age| (CACHE_CONTROL, age)));
    response
}

/// An introspection, which must not be cached because a token can be revoked at any time.
fn introspected(token: Option<&Verified>) -> Response<Bytes> {
    let mut response = match token {
        Some(token) => success(StatusCode::OK, &IntrospectionBody::of(token)),
        None => success(StatusCode::OK, &InactiveBody { active: false }),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A reply with a JSON body.
#[must_use]
pub fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Response<Bytes> {
    let mut written = Vec::with_capacity(USUAL_BODY);
    // Serialization cannot fail, because every member name of a body is text.
    let _ = serde_json::to_writer(&mut written, body);
    let mut response = with_body(status, written.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A reply without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Response<Bytes> {
    with_body(status, Bytes::new())
}

fn with_body(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().reserve(MAX_HEADERS);
    response
}
