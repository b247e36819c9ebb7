//! The service: its settings, its ports and its caches.

use std::sync::Arc;

use crate::api::functions::Function;
use crate::audit::Audit;
use crate::authn::entra::Entra;
use crate::keys::cache::KeyCache;
use crate::runtime::{Clock, Random};
use crate::settings::Settings;
use crate::store::Store;
use crate::store::feed::Feed;

/// The service. [`Service::handle`] in the pipeline answers a request.
pub struct Service {
    pub settings: Settings,
    pub store: Arc<dyn Store>,
    pub feed: Arc<dyn Feed>,
    pub key_cache: Arc<KeyCache>,
    pub entra: Arc<Entra>,
    /// The time of requests: dates, audit lines, deadlines, and the retention of records.
    pub clock: Arc<dyn Clock>,
    /// The time of tokens: issue and expiry. A deployment has one clock for both (decision record 0017).
    pub token_clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub audit: Arc<dyn Audit>,
    /// The functions whose routes are served: one in a Lambda binary, all in the local server.
    pub functions: &'static [Function],
}
