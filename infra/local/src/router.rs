//! The services behind the listeners.

use std::sync::{Arc, OnceLock};

use identity::api::service::Service;
use identity::authorization::authorizer::Authorizer;

use crate::control_api::calls::{ControlCalls, Gate};
use crate::entra::EntraStandIn;
use crate::health::Health;

/// The services behind the listeners.
pub struct Router {
    pub service: Arc<Service>,
    /// Answers resource servers on this machine.
    pub authorizer: Arc<Authorizer>,
    /// The stand-in for Entra, unless a real authority is configured.
    pub entra: Option<Arc<EntraStandIn>>,
    /// Answers probes.
    pub health: Health,
    /// Keeps requests apart from calls that replace the state.
    pub gate: Gate,
    /// The control API. The server sets it before it serves, unless it is off.
    pub control: OnceLock<Box<dyn ControlCalls>>,
}
