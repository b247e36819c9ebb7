//! The authorizer decides whether a request to a resource server is allowed.
//!
//! The token of the request must permit the capability that the route needs. The host translates the decision into
//! the reply for its gateway.

use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Method};

use crate::audit::{Arrival, Audit, AuditEvent, AuditedOperation, Outcome};
use crate::authn::target::Target;
use crate::authn::{Denial, Scheme};
use crate::authorization::capability::{Capability, Permit};
use crate::authorization::route_rules::{AmbiguousPathError, RequestPath, RouteRules};
use crate::correlation::{Correlation, Delivery};
use crate::error_chain::error_chain;
use crate::lifetime::REQUEST_DEADLINE;
use crate::runtime::{Clock, Random, timeout};
use crate::token::verify::{TokenError, Verified, Verifier, VerifyError};

/// The authorizer of a resource server.
pub struct Authorizer {
    pub verifier: Verifier,
    pub rules: RouteRules,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub audit: Arc<dyn Audit>,
}

/// A request to a resource server, without its body.
pub struct AuthorizeRequest {
    pub event: EventKind,
    pub action: Action,
    /// The target. A connect event has no path.
    pub target: Target,
    /// The stage, if the first segment of the path may be its name.
    pub stage: Option<String>,
    /// Whether the answer can name exactly this request. Otherwise no rule applies.
    pub is_exact: bool,
    pub headers: HeaderMap,
    pub delivery: Delivery,
}

/// The kind of a gateway's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An HTTP API, payload 1.0.
    HttpApi1,
    /// An HTTP API, payload 2.0.
    HttpApi2,
    RestApi,
    WebSocketConnect,
}

/// The action of a request, which selects its rule together with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Method(Method),
    /// Opening a connection of a WebSocket API.
    Connect,
}

/// The decision about a request with an active token.
#[derive(Debug)]
pub struct Decision {
    pub token: Verified,
    /// The capability that the route needs. `None` if no rule matches the route.
    pub capability: Option<Capability>,
    pub permit: Permit,
}

/// The request has no active token, or its state is unknown.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// The token is missing or not active. The reply does not contain the cause.
    #[error("{0}")]
    Unauthorized(CredentialError),
    /// The state of the token could not be read, so the request fails closed.
    #[error("the state of the token could not be read")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// The cause of [`AuthorizeError::Unauthorized`], for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("{0}")]
    Header(Denial),
    #[error("{0}")]
    Token(TokenError),
    #[error("the request has several tokens, in Authorization and in subprotocols")]
    SeveralTokens,
    #[error("the query contains a token (RFC 6750 section 2.3), which access logs would store")]
    TokenInQuery,
}

impl EventKind {
    /// The kind's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpApi1 => "http_api_1.0",
            Self::HttpApi2 => "http_api_2.0",
            Self::RestApi => "rest_api",
            Self::WebSocketConnect => "websocket_connect",
        }
    }
}

impl Authorizer {
    /// Decides about one request, and writes exactly one audit line.
    ///
    /// # Errors
    /// [`AuthorizeError`] if the request has no active token, or if the state of the token cannot be read.
    pub async fn authorize(&self, request: &AuthorizeRequest) -> Result<Decision, AuthorizeError> {
        let arrival = Arrival::now(self.clock.as_ref(), self.random.as_ref());
        let verified = timeout(self.clock.as_ref(), REQUEST_DEADLINE, pin!(self.verify(request))).await;
        let verified =
            verified.unwrap_or_else(|| Err(AuthorizeError::Unavailable("deadline exceeded".into())));
        let decision = verified.map(|token| self.permit(request, token));
        let latency = arrival.latency(self.clock.as_ref());
        self.audit.request(&Arc::new(AuditEvent {
            correlation: Correlation::of(&request.headers, &request.delivery),
            event: Some(request.event.as_str()),
            ..audit_event(arrival, latency, &decision)
        }));
        decision
    }

    /// Writes the audit line of an event that is no request. `reason` is a closed text.
    pub fn refuse_event(&self, event: Option<EventKind>, delivery: &Delivery, reason: &'static str) {
        let arrival = Arrival::now(self.clock.as_ref(), self.random.as_ref());
        let latency = arrival.latency(self.clock.as_ref());
        self.audit.request(&Arc::new(AuditEvent {
            operation: Some(AuditedOperation::Authorize),
            correlation: Correlation::of(&HeaderMap::new(), delivery),
            event: event.map(EventKind::as_str),
            error: Some("InvalidEvent"),
            reason: Some(reason.to_owned()),
            ..arrival.event(latency, Outcome::Failed, 500)
        }));
    }

    async fn verify(&self, request: &AuthorizeRequest) -> Result<Verified, AuthorizeError> {
        let unauthorized = AuthorizeError::Unauthorized;
        if request.target.parameters("access_token").next().is_some() {
            return Err(unauthorized(CredentialError::TokenInQuery));
        }
        let token = token(request).map_err(unauthorized)?;
        self.verifier.verify(token).await.map_err(|error| match error {
            VerifyError::Refused(fault) => unauthorized(CredentialError::Token(fault)),
            error => AuthorizeError::Unavailable(error.into()),
        })
    }

    fn permit(&self, request: &AuthorizeRequest, token: Verified) -> Decision {
        let capability = match &request.action {
            _ if !request.is_exact => None,
            Action::Method(method) => self.find(method, request),
            Action::Connect => self.rules.connect(),
        };
        let permit = capability.map_or(Permit::Refused, |capability| capability.permit(&token.claims.scopes));
        Decision { token, capability, permit }
    }

    /// The capability of a route. A first segment with the name of the stage is the stage, which is no part of a route. On a
    /// custom domain, the path has no stage. So if a rule matches the path with this segment, the route is unclear, and no
    /// rule applies.
    fn find(&self, method: &Method, request: &AuthorizeRequest) -> Option<Capability> {
        let segments = segments(&request.target).ok()?;
        let find = |segments: &[String]| self.rules.find(method, &RequestPath::of(segments.to_vec()).ok()?);
        match (segments.split_first(), &request.stage) {
            (Some((first, rest)), Some(stage)) if first == stage => {
                if find(segments).is_some() {
                    None
                } else {
                    find(rest)
                }
            }
            _ => find(segments),
        }
    }
}

/// The only token of the request. A web page cannot set `Authorization` when it opens a WebSocket, but it can name
/// subprotocols (RFC 6455 section 4.1). So the token of a connect event may be one of them.
fn token(request: &AuthorizeRequest) -> Result<&str, CredentialError> {
    let subprotocols = match request.action {
        Action::Connect => subprotocol_tokens(&request.headers),
        Action::Method(_) => Vec::new(),
    };
    match *subprotocols.as_slice() {
        [] => match Scheme::of(&request.headers) {
            Ok(Scheme::Bearer(token)) => Ok(token),
            Ok(Scheme::AccessKey | Scheme::Basic(_)) => Err(CredentialError::Header(Denial::Scheme)),
            Err(denial) => Err(CredentialError::Header(denial)),
        },
        [token] if !request.headers.contains_key(AUTHORIZATION) => Ok(token),
        _ => Err(CredentialError::SeveralTokens),
    }
}

/// The subprotocols with the form of a JWT: three parts, of which the first one is a JSON object in base64url.
fn subprotocol_tokens(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let is_token = |name: &&str| name.starts_with("eyJ") && name.matches('.').count() == 2;
    values.flat_map(|value| value.split(',')).map(str::trim).filter(is_token).collect()
}

/// The segments of the path, under stricter rules than for this service's own paths. A leading `//` is refused, because a
/// resource server may read it differently.
fn segments(target: &Target) -> Result<&[String], AmbiguousPathError> {
    let rest = target.path().strip_prefix('/').ok_or(AmbiguousPathError)?;
    if rest.starts_with('/') {
        return Err(AmbiguousPathError);
    }
    target.segments().map_err(|_| AmbiguousPathError)
}

fn audit_event(
    arrival: Arrival,
    latency: Duration,
    decision: &Result<Decision, AuthorizeError>,
) -> AuditEvent {
    let (outcome, status, error, reason) = match decision {
        Ok(Decision { permit: Permit::Refused, capability, .. }) => {
            let reason = match capability {
                None => "no rule matches the route",
                Some(_) => "the scopes do not permit the capability",
            };
            (Outcome::Refused, 403, Some("Forbidden"), Some(reason.to_owned()))
        }
        Ok(_) => (Outcome::Success, 200, None, None),
        Err(AuthorizeError::Unauthorized(cause)) => {
            (Outcome::Refused, 401, Some("Unauthorized"), Some(cause.to_string()))
        }
        Err(AuthorizeError::Unavailable(cause)) => {
            (Outcome::Failed, 503, Some("ServiceUnavailable"), Some(error_chain(cause.as_ref())))
        }
    };
    let decision = decision.as_ref().ok();
    AuditEvent {
        operation: Some(AuditedOperation::Authorize),
        error,
        reason,
        identity: decision.map(|decision| decision.token.identity.to_string()),
        scopes: decision.map(|decision| decision.token.claims.scopes.names()).unwrap_or_default(),
        capability: decision.and_then(|decision| decision.capability).map(Capability::as_str),
        ..arrival.event(latency, outcome, status)
    }
}
