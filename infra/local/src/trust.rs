//! The Entra authority that the local server trusts: the stand-in, or a real authority.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use functions::adapters::Adapters;
use functions::entra_http::HttpsFetch;
use functions::system;
use identity::authn::entra::{Entra, EntraAuthority, EntraSettings, Fetch, FetchError, Principal};
use identity::host::Hosts;
use identity::keys::Algorithm;
use uuid::Uuid;

use crate::entra::{EntraStandIn, OpenDirectoryError};
use crate::state::StateKind;

/// The tokens of Entra that a local server accepts.
#[derive(Default)]
pub struct EntraOptions {
    /// A real authority. Without it the stand-in is on.
    pub authority: Option<EntraAuthority>,
    /// Tenants whose users may exchange tokens.
    pub tenants: Vec<Uuid>,
    /// Principals that may call service operations.
    pub principals: Vec<Principal>,
}

/// The Entra options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{0} cannot be an Entra authority; choose another --host")]
    Authority(String),
    #[error(
        "an --entra-service-principal has a tenant that is not configured; add its tenant with --entra-tenant"
    )]
    Principal,
    #[error(transparent)]
    StandIn(#[from] OpenDirectoryError),
}

/// The Entra rules of this server, and the stand-in unless the options name a real authority.
///
/// # Errors
/// [`TrustError`].
pub fn open(
    state: StateKind,
    data_dir: &Path,
    endpoint: &str,
    hosts: Hosts,
    options: EntraOptions,
    adapters: &Adapters,
) -> Result<(Entra, Option<Arc<EntraStandIn>>), TrustError> {
    let EntraOptions { authority, mut tenants, mut principals } = options;
    let clock = adapters.token_clock.clone();
    let (authority, fetch, stand_in): (_, Arc<dyn Fetch>, _) = match authority {
        Some(authority) => (authority, Arc::new(HttpsFetch::new()), None),
        None => {
            let base = format!("{endpoint}entra");
            let (random, generate) = (adapters.system.clone(), || system::generate(Algorithm::Rs256));
            let stand_in =
                EntraStandIn::open(state, data_dir, &base, hosts, clock.clone(), random, generate)?;
            let stand_in = Arc::new(stand_in);
            tenants.push(stand_in.tenant);
            let object = stand_in.service_principal_object_id();
            principals.push(Principal { tenant: stand_in.tenant, object });
            let authority = base.parse().map_err(|_| TrustError::Authority(base))?;
            (authority, stand_in.clone(), Some(stand_in))
        }
    };
    let settings = EntraSettings { authority, tenants, principals };
    if !settings.is_consistent() {
        return Err(TrustError::Principal);
    }
    Ok((Entra::new(settings, fetch, clock), stand_in))
}

/// Reads documents in this process, without the network.
#[async_trait]
impl Fetch for EntraStandIn {
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.document(url).map(|document| document.to_vec()).ok_or(FetchError::Status(404))
    }
}
