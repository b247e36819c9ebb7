//! The service: its settings, its ports and its caches.

use std::sync::Arc;

use crate::api::functions::Function;
use crate::audit::Audit;
use crate::authn::entra::Entra;
use crate::keys::cache::KeyCache;
use crate::runtime::{Clock, Random};
use crate::settings::Settings;
use crate::store::Store;

/// The service. [`Service::handle`] in the pipeline answers a request.
pub struct Service {
    pub settings: Settings,
    pub store: Arc<dyn Store>,
    pub key_cache: Arc<KeyCache>,
    pub entra: Arc<Entra>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub audit: Arc<dyn Audit>,
    /// The functions whose routes are served: one in a Lambda binary, all in the local server.
    pub functions: &'static [Function],
}
