//! The audit line: one for every request, with allow-listed fields only.
//!
//! The fields of [`AuditEvent`] and [`KeyEvent`] are the list. No field can hold a key, a signature, a token or a
//! body. Each is a parsed identifier, a closed name, a number or a text of the error catalogue.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::format_description::well_known::Rfc3339;

use crate::api::error::ErrorRow;
use crate::api::routes::{Operation, Route};
use crate::api::version::ApiVersion;
use crate::authn::entra::Principal;
use crate::correlation::Correlation;
use crate::ids::{RawId, request_id};
use crate::keys::Slot;
use crate::runtime::{Clock, Random};
use crate::store::resource_servers::ResourceServerId;
use crate::token::scope::ScopeSet;
use crate::token::verify::TokenError;

/// The audit line of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// The arrival of the request, RFC 3339, UTC.
    #[serde(rename = "timestamp")]
    pub time: String,
    pub level: Level,
    /// The id that this service gave the request. `MS-CV` of the reply begins with it.
    pub request_id: String,
    /// The client's id, if it has at most 36 letters, digits and hyphens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    #[serde(flatten)]
    pub correlation: Correlation,
    /// Authorizer only: the kind of the gateway's event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<AuditedOperation>,
    /// The version of the request, if the route has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<&'static str>,
    pub outcome: Outcome,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// For a caller who is not authorized: the failed check, from a closed list of names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<&'static str>,
    /// The cause, from a closed list of texts. Not sent to the caller. For introspection: why the token is
    /// inactive. For a creation: why there is no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The Entra principal of the caller, as `tenant/objectId`. If the caller has an access key: the user of the Entra token
    /// in the body. It is written for accepted and refused requests, and only after the signature of the Entra token was
    /// verified. So a forged token adds no name to the line. For the caller with a resource server's credential:
    /// `resource-server/<name>`, only after its secret was verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<&'static str>,
    /// Authorizer only: the capability that the requested route needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<&'static str>,
    /// The slot of the caller's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<&'static str>,
    /// The time from arrival to reply, in microseconds.
    pub latency_us: u64,
}

/// The operation of a request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditedOperation {
    /// An operation of this service.
    Api(Operation),
    /// A decision of the authorizer about a request to another API.
    Authorize,
}

impl AuditedOperation {
    /// The operation's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api(operation) => operation.as_str(),
            Self::Authorize => "authorize",
        }
    }
}

impl Serialize for AuditedOperation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The request succeeded, and its change is durable.
    Success,
    /// The request was refused and changed no state.
    Refused,
    /// The service failed. A write may or may not have happened.
    Failed,
}

/// The level of a line, by its outcome. The log of Lambda can leave out lines below a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Outcome {
    /// The level of a line with this outcome.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::Success => Level::Info,
            Self::Refused => Level::Warn,
            Self::Failed => Level::Error,
        }
    }
}

/// The audit line of one step of a replacement of keys, or of a change of a resource server's credential. The last step is `done`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyEvent {
    /// The end of the step, RFC 3339, UTC.
    #[serde(rename = "timestamp")]
    pub time: String,
    pub level: Level,
    pub operation: &'static str,
    /// `operator`, `schedule` or `deployment`.
    pub trigger: &'static str,
    pub step: &'static str,
    /// The resource server whose credential is changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_server: Option<String>,
    pub outcome: Outcome,
    /// The cause of a failed or refused step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A sink for audit lines.
pub trait Audit: Send + Sync {
    /// Writes the line of a request. The event is shared, because a sink may keep it.
    fn request(&self, event: &Arc<AuditEvent>);

    /// Writes the line of one step of a key replacement.
    fn keys(&self, event: &KeyEvent);
}

/// The arrival of a request: the first facts of its audit line, and the start of its latency.
pub(crate) struct Arrival {
    /// RFC 3339, UTC.
    time: String,
    uptime: Duration,
    pub(crate) request_id: String,
}

impl Arrival {
    /// A request that arrives now. It receives a new id.
    pub(crate) fn now(clock: &dyn Clock, random: &dyn Random) -> Self {
        let time = clock.now().format(&Rfc3339).unwrap_or_default();
        Self { time, uptime: clock.uptime(), request_id: request_id(random) }
    }

    /// The time since the arrival.
    pub(crate) fn latency(&self, clock: &dyn Clock) -> Duration {
        clock.uptime().saturating_sub(self.uptime)
    }

    /// The audit line of the request, with the facts that every request has.
    pub(crate) fn event(self, latency: Duration, outcome: Outcome, status: u16) -> AuditEvent {
        AuditEvent {
            time: self.time,
            level: outcome.level(),
            request_id: self.request_id,
            client_request_id: None,
            correlation: Correlation::default(),
            event: None,
            operation: None,
            api_version: None,
            outcome,
            status,
            error: None,
            denial: None,
            reason: None,
            principal: None,
            identity: None,
            scopes: Vec::new(),
            capability: None,
            slot: None,
            latency_us: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

/// The facts for the audit line that the pipeline and the operation collect.
#[derive(Default)]
pub struct AuditContext {
    client_request_id: Option<String>,
    correlation: Correlation,
    route: Option<&'static Route>,
    version: Option<ApiVersion>,
    principal: Option<String>,
    identity: Option<String>,
    scopes: Vec<&'static str>,
    slot: Option<Slot>,
    inactive: Option<TokenError>,
    no_token: bool,
}

/// The reason of a creation with an empty list of scopes.
const NO_TOKEN: &str = "no token was requested, because the list of scopes is empty";

impl AuditContext {
    pub(crate) fn new(client_request_id: Option<String>, correlation: Correlation) -> Self {
        Self { client_request_id, correlation, ..Self::default() }
    }

    pub(crate) fn route(&mut self, route: &'static Route) {
        self.route = Some(route);
    }

    /// The versions that the reply lists.
    pub(crate) fn versions(&self) -> Option<&'static [ApiVersion]> {
        self.route.map(|route| route.supported_versions)
    }

    pub(crate) fn version(&mut self, version: ApiVersion) {
        self.version = Some(version);
    }

    /// The principal of an Entra token with a verified signature. The caller's token comes first and stays.
    pub(crate) fn principal(&mut self, principal: Principal) {
        self.principal.get_or_insert_with(|| principal.to_string());
    }

    /// The resource server that is the caller, after its credential was compared with the stored one.
    pub(crate) fn resource_server(&mut self, id: &ResourceServerId) {
        self.principal = Some(format!("resource-server/{id}"));
    }

    pub(crate) fn identity(&mut self, identity: &RawId) {
        self.identity = Some(identity.to_string());
    }

    pub(crate) fn scopes(&mut self, scopes: &ScopeSet) {
        self.scopes = scopes.names();
    }

    /// The slot of the caller's key. `None` for a caller without a slot.
    pub(crate) fn slot(&mut self, slot: Option<Slot>) {
        self.slot = slot;
    }

    /// The introspected token is inactive.
    pub(crate) fn inactive(&mut self, cause: TokenError) {
        self.inactive = Some(cause);
    }

    /// The list of scopes is empty, so the creation gives no token.
    pub(crate) fn no_token(&mut self) {
        self.no_token = true;
    }

    /// The audit line of a request with this outcome.
    pub(crate) fn event(
        self,
        arrival: Arrival,
        latency: Duration,
        status: u16,
        error: Option<ErrorRow>,
    ) -> AuditEvent {
        let outcome = match &error {
            None => Outcome::Success,
            Some(error) if error.status.is_server_error() => Outcome::Failed,
            Some(_) => Outcome::Refused,
        };
        AuditEvent {
            client_request_id: self.client_request_id,
            correlation: self.correlation,
            api_version: self.version.map(ApiVersion::as_str),
            principal: self.principal,
            operation: self.route.map(|route| AuditedOperation::Api(route.operation)),
            error: error.as_ref().map(|error| error.code),
            denial: error.as_ref().and_then(|error| error.denial),
            reason: match error {
                None if self.no_token => Some(NO_TOKEN.to_owned()),
                None => self.inactive.map(|cause| cause.to_string()),
                Some(error) => error.cause,
            },
            identity: self.identity,
            scopes: self.scopes,
            slot: self.slot.map(Slot::as_str),
            ..arrival.event(latency, outcome, status)
        }
    }
}
