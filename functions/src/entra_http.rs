//! Fetches the documents of Entra issuers over HTTPS. It enforces what a fetch may cost; what the documents
//! may say is the core's business.

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

/// How long a connection is kept for the next fetch: from the metadata to the keys, not from hour to hour.
const KEEP_CONNECTION: Duration = Duration::from_secs(2);

/// An HTTPS client that trusts the system's roots: those of `SSL_CERT_FILE` and `SSL_CERT_DIR` if either is
/// set. It uses no proxy, follows no redirect and decompresses nothing.
pub struct HttpsFetch {
    roots: TrustStore,
    /// Made when it is first needed: reading the system's roots takes milliseconds, and most processes never
    /// meet a token of Entra's.
    connector: OnceLock<Connector>,
}

impl HttpsFetch {
    /// Trusts the system's roots.
    #[must_use]
    pub fn new() -> Self {
        Self::trusting(TrustStore::default())
    }

    /// Trusts the certificates of a PEM file as well.
    ///
    /// # Panics
    /// At the first fetch, when the file has a certificate that cannot be read.
    #[must_use]
    pub fn with_root(pem: &[u8]) -> Self {
        Self::trusting(TrustStore::default().with_pem_certificate(pem))
    }

    fn trusting(roots: TrustStore) -> Self {
        Self { roots, connector: OnceLock::new() }
    }

    // A TLS context has no way to be wrong yet; the default one would be it as well.
    fn connect(&self) -> Connector {
        let tls = TlsContext::builder().with_trust_store(self.roots.clone()).build().unwrap_or_default();
        Connector::builder()
            .tls_provider(Provider::rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .pool_idle_timeout(KEEP_CONNECTION)
            .build()
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let mut request = HttpRequest::get(url).map_err(|_| FetchError::Url)?;
        request.headers_mut().insert("accept", "application/json");
        let answer = self
            .connector
            .get_or_init(|| self.connect())
            .call(request)
            .await
            .map_err(|_| FetchError::Connection)?;
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
