//! The seam between the listeners and the calls: the listeners exist before the platform that answers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use identity::api::pipeline::Body;
use tokio::sync::RwLock;

use super::journal::Journal;
use super::token_clock::TokenClock;

/// The gate of requests. Each request of the service holds it shared. A call that replaces the state holds it alone, so
/// it runs between requests.
pub type Gate = Arc<RwLock<()>>;

/// The parts of the state that only the control API changes.
pub struct Controlled {
    pub gate: Gate,
    pub journal: Arc<Journal>,
    pub token_clock: Arc<TokenClock>,
}

/// Answers the calls of the control API.
#[async_trait]
pub trait ControlCalls: Send + Sync {
    /// Whether the caller has the token, or needs none. `is_local` is whether the client is a program of this machine.
    fn admits(&self, request: &Parts, is_local: bool) -> bool;

    /// Answers a request that the rules for web pages have admitted.
    async fn answer(&self, request: &Parts, body: &Body, is_local: bool) -> Response<Bytes>;
}
