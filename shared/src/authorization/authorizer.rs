//! The authorizer decides whether a request to a resource server is allowed.
//!
//! The token of the request must permit the capability that the route needs. The host translates the decision into
//! the reply for its gateway.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use crate::audit::{Arrival, Audit, AuditEvent, Outcome};
use crate::authn::target::Target;
use crate::authn::{Denial, Scheme};
use crate::authorization::capability::{Capability, Permit};
use crate::authorization::route_rules::{AmbiguousPathError, RequestPath, RouteRules};
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
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
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
    #[error("the query contains a token (RFC 6750 section 2.3), which access logs would store")]
    TokenInQuery,
}

impl Authorizer {
    /// Decides about one request, and writes exactly one audit line.
    ///
    /// # Errors
    /// [`AuthorizeError`] if the request has no active token, or if the state of the token cannot be read.
    pub async fn authorize(&self, request: &AuthorizeRequest) -> Result<Decision, AuthorizeError> {
        let arrival = Arrival::now(self.clock.as_ref(), self.random.as_ref());
        let verified = timeout(self.clock.sleep(REQUEST_DEADLINE), self.verify(request)).await;
        let verified =
            verified.unwrap_or_else(|| Err(AuthorizeError::Unavailable("deadline exceeded".into())));
        let decision = verified.map(|token| self.permit(request, token));
        let latency = arrival.latency(self.clock.as_ref());
        self.audit.request(&audit_event(arrival, latency, &decision));
        decision
    }

    async fn verify(&self, request: &AuthorizeRequest) -> Result<Verified, AuthorizeError> {
        let unauthorized = AuthorizeError::Unauthorized;
        if request.target.parameters("access_token").next().is_some() {
            return Err(unauthorized(CredentialError::TokenInQuery));
        }
        let token = match Scheme::of(&request.headers) {
            Ok(Scheme::Bearer(token)) => token,
            Ok(Scheme::AccessKey) => return Err(unauthorized(CredentialError::Header(Denial::Scheme))),
            Err(denial) => return Err(unauthorized(CredentialError::Header(denial))),
        };
        self.verifier.verify(token).await.map_err(|error| match error {
            VerifyError::Refused(fault) => unauthorized(CredentialError::Token(fault)),
            error => AuthorizeError::Unavailable(error.into()),
        })
    }

    fn permit(&self, request: &AuthorizeRequest, token: Verified) -> Decision {
        let capability =
            path_of(&request.target).ok().and_then(|path| self.rules.find(&request.method, &path));
        let permit = capability.map_or(Permit::Refused, |capability| capability.permit(&token.claims.scopes));
        Decision { token, capability, permit }
    }
}

/// The path, under stricter rules than for this service's own paths. A leading `//` is refused, because a resource
/// server may read it differently.
fn path_of(target: &Target) -> Result<RequestPath, AmbiguousPathError> {
    let rest = target.path().strip_prefix('/').ok_or(AmbiguousPathError)?;
    if rest.starts_with('/') {
        return Err(AmbiguousPathError);
    }
    RequestPath::of(target.segments().map_err(|_| AmbiguousPathError)?)
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
        operation: Some("authorize"),
        error,
        reason,
        identity: decision.map(|decision| decision.token.identity.to_string()),
        scopes: decision.map(|decision| decision.token.claims.scopes.names()).unwrap_or_default(),
        capability: decision.and_then(|decision| decision.capability).map(Capability::as_str),
        ..arrival.event(latency, outcome, status)
    }
}
