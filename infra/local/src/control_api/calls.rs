//! The seam between the listeners and the calls: the listeners exist before the platform that answers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use identity::api::pipeline::Body;
use tokio::sync::RwLock;
use zeroize::Zeroizing;

use super::journal::Journal;
use super::notices::Notices;
use super::token_clock::TokenClock;

/// The gate of requests. Each request of the service holds it shared. A call that replaces the state holds it alone, so
/// it runs between requests.
pub type Gate = Arc<RwLock<()>>;

/// The parts of the state that only the control API changes.
#[derive(Clone)]
pub struct Controlled {
    pub gate: Gate,
    pub journal: Arc<Journal>,
    pub token_clock: Arc<TokenClock>,
    pub notices: Arc<Notices>,
}

/// The body of a reply: whole, or a stream of events.
pub type ReplyBody = Either<Full<Bytes>, Channel<Bytes>>;

/// A reply with a whole body.
pub(crate) fn whole(reply: Response<Bytes>) -> Response<ReplyBody> {
    reply.map(|body| Either::Left(Full::new(body)))
}

/// Answers the calls of the control API.
#[async_trait]
pub trait ControlCalls: Send + Sync {
    /// Whether the caller has the token, or needs none. `is_local` is whether the client is a program of this machine.
    fn admits(&self, request: &Parts, is_local: bool) -> bool;

    /// Whether browsers of other machines get the console.
    fn has_remote_console(&self) -> bool;

    /// The part of the console's address that lets a browser in, like `#k=…`. Empty if callers need no token.
    fn console_key(&self) -> Zeroizing<String>;

    /// Answers a request that the rules for web pages have admitted.
    async fn answer(&self, request: &Parts, body: &Body, is_local: bool) -> Response<ReplyBody>;
}
