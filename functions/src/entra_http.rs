//! Fetches the documents of Entra issuers over HTTPS. This module limits the size and the duration of a fetch. The core
//! checks the content.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;
use identity::authn::entra::{FETCH_DEADLINE, Fetch, FetchError, MAX_DOCUMENT};
use tokio::time::timeout;

/// How long an idle connection is kept. The fetch of the keys follows the fetch of the metadata at once. The next
/// fetch is hours away.
const KEEP_CONNECTION: Duration = Duration::from_secs(2);

/// An HTTPS client that trusts the system's roots. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace these roots if either is
/// set. The client uses no proxy, follows no redirect and decompresses no reply.
pub struct HttpsFetch {
    roots: TrustStore,
    /// Made for the first fetch. Reading the system's roots takes milliseconds, and most processes never receive an
    /// Entra token.
    connector: OnceLock<Connector>,
}

impl HttpsFetch {
    /// Trusts the system's roots.
    #[must_use]
    pub fn new() -> Self {
        Self::trusting(TrustStore::default())
    }

    /// Trusts the system's roots and the certificates of a PEM file.
    ///
    /// # Panics
    /// The first fetch panics when the file has a certificate that cannot be read.
    #[must_use]
    pub fn with_root(pem: &[u8]) -> Self {
        Self::trusting(TrustStore::default().with_pem_certificate(pem))
    }

    fn trusting(roots: TrustStore) -> Self {
        Self { roots, connector: OnceLock::new() }
    }

    fn connector(&self) -> Result<&Connector, FetchError> {
        if let Some(connector) = self.connector.get() {
            return Ok(connector);
        }
        let tls = TlsContext::builder().with_trust_store(self.roots.clone()).build();
        let tls = tls.map_err(|_| FetchError::Connection)?;
        Ok(self.connector.get_or_init(|| {
            Connector::builder()
                .tls_provider(Provider::rustls(CryptoMode::AwsLc))
                .tls_context(tls)
                .pool_idle_timeout(KEEP_CONNECTION)
                .build()
        }))
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let mut request = HttpRequest::get(url).map_err(|_| FetchError::Url)?;
        request.headers_mut().insert("accept", "application/json");
        let answer = self.connector()?.call(request).await.map_err(|_| FetchError::Connection)?;
        match answer.status().as_u16() {
            200 => {}
            300..=399 => return Err(FetchError::Redirect),
            status => return Err(FetchError::Status(status)),
        }
        let mut body = ByteStream::new(answer.into_body());
        let mut document = Vec::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|_| FetchError::Connection)?;
            if document.len() + part.len() > MAX_DOCUMENT {
                return Err(FetchError::TooLarge);
            }
            document.extend_from_slice(&part);
        }
        Ok(document)
    }
}

impl Default for HttpsFetch {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Fetch for HttpsFetch {
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        if !url.starts_with("https://") {
            return Err(FetchError::Url);
        }
        timeout(FETCH_DEADLINE, self.fetch(url)).await.unwrap_or(Err(FetchError::Timeout))
    }
}
