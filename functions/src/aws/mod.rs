//! The ports over AWS, through the SDK clients.

pub mod published_keys;
mod retries;
pub mod secrets_manager;
pub mod table;

use std::error::Error as StdError;

pub use aws_config::SdkConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, HttpClientError};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// A failed call to AWS. The text names the operation and the error code of the service, or the failure of the network.
/// It never holds the message of the service, because that may quote values.
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

/// The certificate authorities of AWS (Amazon Trust Services). The system's list has about 150, and reading it takes
/// most of the time that a client needs to start.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// The beginnings of the Regions whose endpoints may have certificates of other authorities: China, isolated partitions and
/// the European Sovereign Cloud.
const OTHER_PARTITIONS: [&str; 4] = ["cn-", "us-iso", "eu-iso", "eusc-"];

/// One HTTP client for all SDK clients of a Region. Over TLS it trusts only the authorities of AWS. It trusts the system's
/// authorities in Regions of [`OTHER_PARTITIONS`], and if a deployment configures an HTTPS endpoint of its own.
///
/// # Errors
/// [`HttpClientError`] when TLS cannot be set up.
pub fn http_client(region: &str, endpoint: Option<&str>) -> Result<SharedHttpClient, HttpClientError> {
    let roots = match endpoint {
        Some(url) if url.starts_with("https://") => TrustStore::default(),
        _ if OTHER_PARTITIONS.iter().any(|partition| region.starts_with(partition)) => TrustStore::default(),
        _ => TrustStore::empty().with_pem_certificate(AMAZON_ROOTS),
    };
    let tls = TlsContext::builder().with_trust_store(roots).build()?;
    Ok(Builder::new().tls_provider(Provider::rustls(CryptoMode::AwsLc)).tls_context(tls).build_https())
}

/// The configuration that all clients share. Without credentials, a client that allows it makes no signature.
#[must_use]
pub fn sdk_config(
    http: SharedHttpClient,
    region: String,
    credentials: Option<SharedCredentialsProvider>,
    endpoint: Option<String>,
) -> SdkConfig {
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .region(Region::new(region))
        .retry_config(retries::config())
        .timeout_config(retries::timeouts())
        // This protection detects a body that stops arriving. The timeout of an attempt is shorter.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    config.set_credentials_provider(credentials).set_endpoint_url(endpoint);
    config.build()
}

/// A DynamoDB client with its own retry quota.
#[must_use]
pub fn dynamodb(config: impl Into<aws_sdk_dynamodb::config::Builder>) -> aws_sdk_dynamodb::Client {
    let config = config.into().retry_partition(retries::quota("dynamodb"));
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// A Secrets Manager client with its own retry quota.
#[must_use]
pub fn secrets_manager(config: &SdkConfig) -> aws_sdk_secretsmanager::Client {
    let quota = retries::quota("secretsmanager");
    let config = aws_sdk_secretsmanager::config::Builder::from(config).retry_partition(quota);
    aws_sdk_secretsmanager::Client::from_conf(config.build())
}
