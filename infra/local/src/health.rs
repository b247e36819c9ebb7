//! The probes `/_local/alive`, `/_local/ready` and `/health`, the authority's certificate in `/_local/ca.pem`, and
//! `/metrics`.
//!
//! A probe has no credential, so it learns only facts that are public, and it writes no audit line.

use std::sync::Arc;

use bytes::Bytes;
use functions::adapters::Adapters;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use identity::api::reply;
use identity::api::routes;
use identity::authn::target::Target;
use identity::runtime::Clock as _;
use identity::secrets::{SecretName, SecretStore as _};
use identity::settings::Settings;
use identity::store::PointerWriter as _;
use serde_json::json;

use crate::control_api::rules;
use crate::dynamodb::EmbeddedDynamoDb;
use crate::embedded;
use crate::metrics::{MEDIA_TYPE, Metrics};

const HEALTH: &str = "/health";
const METRICS: &str = "/metrics";
const ALIVE: &str = "/_local/alive";
const READY: &str = "/_local/ready";
const AUTHORITY: &str = "/_local/ca.pem";
const PEM: &str = "application/x-pem-file";
const JSON: &str = "application/json";
const METHODS: &str = "GET, HEAD";

/// The parts of the server that a probe checks.
pub struct Health {
    pub(crate) adapters: Adapters,
    /// The database under the adapters.
    pub(crate) database: EmbeddedDynamoDb,
    pub(crate) metrics: Arc<Metrics>,
    /// The certificate of the authority, in PEM.
    pub(crate) authority: Bytes,
}

/// A document that anyone may read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Document {
    Alive,
    Ready,
    Authority,
    Metrics,
}

impl Document {
    /// The paths of the service have any letter case, as its routes have.
    pub(crate) fn of(target: &Target, path: &str) -> Option<Self> {
        match path {
            ALIVE => Some(Self::Alive),
            READY => Some(Self::Ready),
            AUTHORITY => Some(Self::Authority),
            _ => match routes::path_among(target, &[HEALTH, METRICS])? {
                HEALTH => Some(Self::Ready),
                _ => Some(Self::Metrics),
            },
        }
    }

    /// Whether its status alone is an answer. A probe answers also a host that is no name of this server.
    pub(crate) fn is_probe(self) -> bool {
        matches!(self, Self::Alive | Self::Ready)
    }
}

impl Health {
    /// The reply to a request for one of the documents. `None` if the request has another path.
    ///
    /// A request by an address that is no accepted host gets the status of the health only.
    pub async fn answer(
        &self,
        settings: &Settings,
        target: &Target,
        request: &Parts,
    ) -> Option<Response<Bytes>> {
        let document = Document::of(target, request.uri.path())?;
        let is_known = rules::check_host(&request.headers, &settings.hosts).is_ok();
        if !is_known && !document.is_probe() {
            return None;
        }
        if request.method == Method::OPTIONS {
            return Some(reply::with_methods(METHODS));
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            let mut refusal = reply::with_methods(METHODS);
            *refusal.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            return Some(refusal);
        }
        let (status, media_type, body) = match document {
            Document::Metrics => (StatusCode::OK, MEDIA_TYPE, self.metrics.text(self.key_age().await).into()),
            Document::Authority => (StatusCode::OK, PEM, self.authority.clone()),
            Document::Alive => (StatusCode::OK, JSON, body(settings, "alive")),
            Document::Ready if self.is_ready().await => (StatusCode::OK, JSON, body(settings, "ready")),
            Document::Ready => (StatusCode::SERVICE_UNAVAILABLE, JSON, body(settings, "unavailable")),
        };
        let mut response = Response::new(if is_known { body } else { Bytes::new() });
        *response.status_mut() = status;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if is_known {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        if request.method == Method::HEAD {
            reply::drop_body(&mut response);
        }
        Some(response)
    }

    /// The age of the oldest signing key in force, in seconds.
    async fn key_age(&self) -> Option<i64> {
        let pointer = self.adapters.table.pointer().await.ok()??;
        Some(self.adapters.system.now().unix_timestamp() - pointer.published.oldest().ok()?)
    }

    /// Whether the keys in force can be read and the table takes writes.
    async fn is_ready(&self) -> bool {
        let Ok(Some(pointer)) = self.adapters.table.pointer().await else { return false };
        let access_keys = self.adapters.secrets.read(SecretName::AccessKeys, &pointer.access_keys).await;
        let signing_keys = self.adapters.secrets.read(SecretName::SigningKeys, &pointer.signing_keys).await;
        access_keys.is_ok() && signing_keys.is_ok() && self.database.check_writes(embedded::TABLE).is_ok()
    }
}

fn body(settings: &Settings, status: &str) -> Bytes {
    let body = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "endpoint": format!("https://{}/", settings.hosts.public()),
        "resourceId": settings.resource.id.to_string(),
    });
    body.to_string().into()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use identity::testing::{CapturedAudit, FrozenClock, SeededRandom, settings};

    use http::header::HOST;

    use super::*;
    use crate::secrets_manager::{EmbeddedSecretsManager, Environment};

    fn secrets() -> EmbeddedSecretsManager {
        let random = Arc::new(SeededRandom::new(7));
        EmbeddedSecretsManager::in_memory(Environment { clock: FrozenClock::at_noon(), random })
    }

    async fn answer(health: &Health, method: Method, path: &str, host: &str) -> Option<(u16, String)> {
        let request = Request::builder().method(method).uri(path).header(HOST, host).body(()).unwrap();
        let parts = request.into_parts().0;
        let reply = health.answer(&settings(), &Target::from_wire(path), &parts).await?;
        Some((reply.status().as_u16(), String::from_utf8(reply.body().to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn server_without_keys_is_unavailable() {
        let database = EmbeddedDynamoDb::in_memory().unwrap();
        let adapters = embedded::adapters(database.clone(), secrets()).await.unwrap();
        let metrics = Arc::new(Metrics::new(Arc::new(CapturedAudit::default())));
        let health = Health { adapters, database, metrics, authority: Bytes::new() };
        let (status, body) = answer(&health, Method::GET, "/health", "localhost:8443").await.unwrap();
        assert_eq!(status, 503);
        assert!(body.contains(r#""status":"unavailable""#), "{body}");
        let head = answer(&health, Method::HEAD, "/Health/", "localhost:8443").await;
        assert_eq!(head, Some((503, String::new())));
        let elsewhere = answer(&health, Method::GET, "/health", "192.0.2.7").await;
        assert_eq!(elsewhere, Some((503, String::new())), "an unknown host gets the status only");
        assert_eq!(
            answer(&health, Method::POST, "/health", "localhost:8443").await,
            Some((405, String::new()))
        );
        assert_eq!(answer(&health, Method::GET, "/healthy", "localhost:8443").await, None);
        assert_eq!(answer(&health, Method::GET, "/metrics", "192.0.2.7").await, None);
    }

    #[test]
    fn write_check_needs_the_table() {
        let database = EmbeddedDynamoDb::in_memory().unwrap();
        assert!(database.check_writes(embedded::TABLE).is_err());
    }
}
