//! The ports over AWS, through the real SDK clients.

pub mod secrets_manager;
pub mod table;

use std::error::Error as StdError;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// A call to AWS that failed: which, and the service's code or what the network did. Never a message of
/// the service's, which may quote values.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {code}")]
pub struct AwsFault {
    operation: &'static str,
    code: String,
}

impl AwsFault {
    pub(crate) fn boxed(operation: &'static str, code: &str) -> Box<dyn StdError + Send + Sync> {
        Box::new(Self { operation, code: code.to_owned() })
    }

    pub(crate) fn of<E: ProvideErrorMetadata, R>(
        operation: &'static str,
        error: &SdkError<E, R>,
    ) -> Box<dyn StdError + Send + Sync> {
        let code = match error {
            SdkError::ConstructionFailure(_) => "the request could not be built",
            SdkError::DispatchFailure(_) => "the request could not be sent",
            SdkError::ResponseError(_) => "the answer could not be read",
            SdkError::ServiceError(service) => service.err().code().unwrap_or("an error without code"),
            SdkError::TimeoutError(_) => "timeout",
            _ => "an unknown failure",
        };
        Self::boxed(operation, code)
    }
}

/// The authorities that AWS's certificates come from (Amazon Trust Services). Reading these instead of the
/// system's hundred and fifty saves most of what making a client costs.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// One HTTP client for all SDK clients. Over TLS it trusts Amazon's authorities alone, or the system's where a
/// deployment names an endpoint of its own.
#[must_use]
pub fn http_client(endpoint: Option<&str>) -> SharedHttpClient {
    let roots = match endpoint {
        Some(url) if url.starts_with("https://") => TrustStore::default(),
        _ => TrustStore::empty().with_pem_certificate(AMAZON_ROOTS),
    };
    // A TLS context has no way to be wrong yet; the default one would be it as well.
    let context = TlsContext::builder().with_trust_store(roots).build().unwrap_or_default();
    Builder::new().tls_provider(Provider::rustls(CryptoMode::AwsLc)).tls_context(context).build_https()
}

/// How every client is set up: few attempts and short timeouts. A request as a whole is bounded by the
/// core's deadline.
#[must_use]
pub fn sdk_config(
    http: SharedHttpClient,
    region: String,
    credentials: SharedCredentialsProvider,
    endpoint: Option<String>,
) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(500))
        .operation_attempt_timeout(Duration::from_millis(1_000))
        .operation_timeout(Duration::from_millis(2_500))
        .build();
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .region(Region::new(region))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        // It looks for bodies that stop arriving, later than the attempt's timeout has ended them.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    match endpoint {
        Some(url) => config.endpoint_url(url).build(),
        None => config.build(),
    }
}
