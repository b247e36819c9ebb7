//! The audit line: one for every request, of allow-listed fields only.
//!
//! The fields of [`AuditEvent`] and [`KeyEvent`] are the list. None of them can hold a key, a signature, a token or a
//! body: they are parsed identifiers, closed names, numbers, and texts from the error catalogue.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;

use crate::api::error::Error;
use crate::api::routes::{Operation, Route};
use crate::ids::RawId;
use crate::keys::Slot;
use crate::runtime::Random;
use crate::token::scope::ScopeSet;
use crate::token::verify::TokenError;

/// One decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// When the request arrived, RFC 3339, UTC.
    pub time: String,
    /// Ours; `MS-CV` of the reply begins with it.
    pub request_id: String,
    /// The client's, if it looks like one: at most 36 letters, digits and hyphens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    pub outcome: Outcome,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    /// Why, from a closed list of texts; never told to the caller. Also why a token is not good that was asked
    /// about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<&'static str>,
    /// What the route asked about stands for; of an authorizer's decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capability: Option<&'static str>,
    /// The slot of the caller's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<&'static str>,
    /// From arrival to reply, microseconds.
    pub latency_us: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done, durably.
    Success,
    /// The caller's request was refused; nothing changed.
    Refused,
    /// The service could not do it; a write may or may not have happened.
    Failed,
}

/// One step of replacing keys, or its end (`done`).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyEvent {
    /// When the step ended, RFC 3339, UTC.
    pub time: String,
    pub operation: &'static str,
    /// `operator`, `schedule` or `deployment`.
    pub trigger: &'static str,
    pub step: &'static str,
    pub outcome: Outcome,
    /// Why the step failed or was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Takes audit lines.
pub trait Audit: Send + Sync {
    /// Writes the line of a request.
    fn request(&self, event: &AuditEvent);

    /// Writes the line of a step of replacing keys.
    fn keys(&self, event: &KeyEvent);
}

/// What a request tells about itself while it is worked on.
#[derive(Default)]
pub struct AuditContext {
    route: Option<&'static Route>,
    identity: Option<String>,
    scopes: Vec<&'static str>,
    slot: Option<Slot>,
    inactive: Option<TokenError>,
}

impl AuditContext {
    pub(crate) fn routed(&mut self, route: &'static Route) {
        self.route = Some(route);
    }

    pub(crate) fn route(&self) -> Option<&'static Route> {
        self.route
    }

    pub(crate) fn identity(&mut self, identity: &RawId) {
        self.identity = Some(identity.to_string());
    }

    pub(crate) fn scopes(&mut self, scopes: &ScopeSet) {
        self.scopes = scopes.names();
    }

    pub(crate) fn slot(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    /// The token asked about is not good.
    pub(crate) fn inactive(&mut self, fault: TokenError) {
        self.inactive = Some(fault);
    }
}

/// A fresh id for a request: 22 base64 characters.
pub(crate) fn request_id(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    STANDARD_NO_PAD.encode(bytes)
}

impl AuditEvent {
    /// A request as it arrived, not yet decided.
    pub(crate) fn arrived(time: String, request_id: String, client_request_id: Option<String>) -> Self {
        Self {
            time,
            request_id,
            client_request_id,
            operation: None,
            outcome: Outcome::Failed,
            status: 0,
            error: None,
            reason: None,
            identity: None,
            scopes: Vec::new(),
            capability: None,
            slot: None,
            latency_us: 0,
        }
    }

    /// The same request, decided.
    pub(crate) fn decided(
        self,
        notes: AuditContext,
        status: u16,
        error: Option<&Error>,
        latency_us: u64,
    ) -> Self {
        let outcome = match error {
            None => Outcome::Success,
            Some(error) if error.status().is_server_error() => Outcome::Failed,
            Some(_) => Outcome::Refused,
        };
        Self {
            operation: notes.route.map(|route| Operation::as_str(route.operation)),
            outcome,
            status,
            error: error.map(Error::code),
            reason: error.map_or_else(|| notes.inactive.map(|fault| fault.to_string()), Error::cause),
            identity: notes.identity,
            scopes: notes.scopes,
            slot: notes.slot.map(Slot::as_str),
            latency_us,
            ..self
        }
    }
}
