//! The authorizer: whether a request to a resource server is allowed, by the token it carries and the
//! capability its route needs. What a gateway is answered is its host's business.

use std::error::Error as StdError;
use std::sync::Arc;

use http::{HeaderMap, Method};
use time::format_description::well_known::Rfc3339;

use crate::audit::{Audit, AuditEvent, Outcome, request_id};
use crate::authn::target::Target;
use crate::authn::{Denial, Scheme};
use crate::authorization::capability::{Capability, Permit};
use crate::authorization::route_rules::{AmbiguousPathError, RequestPath, RouteRules};
use crate::error_chain::error_chain;
use crate::lifetime::REQUEST_DEADLINE;
use crate::runtime::{Clock, Random, timeout};
use crate::token::verify::{TokenError, Verified, Verifier, VerifyError};

/// What decides for a resource server.
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

/// A request with a good token, decision by its route.
#[derive(Debug)]
pub struct Decision {
    pub token: Verified,
    /// What the route needs; nothing if no rule names it.
    pub capability: Option<Capability>,
    pub permit: Permit,
}

/// A request without a good token.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// The token is missing or not good. The caller is not audit_event why.
    #[error("{0}")]
    Unauthorized(CredentialError),
    /// What decides could not be read: refuse, and never guess.
    #[error("what decides could not be read")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Why a request has no good token. For the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("{0}")]
    Header(Denial),
    #[error("{0}")]
    Token(TokenError),
    #[error("there is a token in the query (RFC 6750 section 2.3), where logs would keep it")]
    TokenInQuery,
}

impl Authorizer {
    /// Judges one request; with exactly one audit line.
    ///
    /// # Errors
    /// [`AuthorizeError`] without a good token.
    pub async fn authorize(&self, request: &AuthorizeRequest) -> Result<Decision, AuthorizeError> {
        let arrived = self.clock.uptime();
        let time = self.clock.now().format(&Rfc3339).unwrap_or_default();
        let event = AuditEvent::arrived(time, request_id(self.random.as_ref()), None);
        let verified = timeout(self.clock.sleep(REQUEST_DEADLINE), self.verify(request)).await;
        let verified =
            verified.unwrap_or_else(|| Err(AuthorizeError::Unavailable("deadline exceeded".into())));
        let decision = verified.map(|token| self.permit(request, token));
        let latency = self.clock.uptime().saturating_sub(arrived);
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.audit.request(&AuditEvent {
            operation: Some("authorize"),
            latency_us,
            ..audit_event(event, &decision)
        });
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
        let permit = capability.map_or(Permit::Refused, |capability| capability.permit(&token.scopes));
        Decision { token, capability, permit }
    }
}

/// The path, exactly: what a request to this service may do to it, as to write two slashes first, is not known
/// of a resource server.
fn path_of(target: &Target) -> Result<RequestPath, AmbiguousPathError> {
    let rest = target.path().strip_prefix('/').ok_or(AmbiguousPathError)?;
    if rest.starts_with('/') {
        return Err(AmbiguousPathError);
    }
    RequestPath::of(target.segments().map_err(|_| AmbiguousPathError)?)
}

fn audit_event(event: AuditEvent, decision: &Result<Decision, AuthorizeError>) -> AuditEvent {
    match decision {
        Ok(Decision { token, capability, permit }) => {
            let refused = *permit == Permit::Refused;
            let reason = match capability {
                None => "no rule names the route",
                Some(_) => "the scopes do not permit it",
            };
            AuditEvent {
                outcome: if refused { Outcome::Refused } else { Outcome::Success },
                status: if refused { 403 } else { 200 },
                error: refused.then_some("Forbidden"),
                reason: refused.then(|| reason.to_owned()),
                identity: Some(token.identity.to_string()),
                scopes: token.scopes.names(),
                capability: capability.map(Capability::as_str),
                ..event
            }
        }
        Err(AuthorizeError::Unauthorized(error)) => AuditEvent {
            outcome: Outcome::Refused,
            status: 401,
            error: Some("Unauthorized"),
            reason: Some(error.to_string()),
            ..event
        },
        Err(AuthorizeError::Unavailable(error)) => AuditEvent {
            outcome: Outcome::Failed,
            status: 503,
            error: Some("ServiceUnavailable"),
            reason: Some(error_chain(error.as_ref())),
            ..event
        },
    }
}
