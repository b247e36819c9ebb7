//! A client of the service, for the commands: it signs requests with an access key and sends them to any endpoint.
//!
//! | module | owns |
//! |---|---|
//! | [`connection`] | connection strings |
//! | [`calls`] | the operations that commands call |
//! | [`local`] | the running local server, as its state directory describes it |

pub mod calls;
pub mod connection;
pub mod local;

use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use identity::authn::hmac::UnsignedRequest;
use identity::error_chain::error_chain;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::timeout;
use zeroize::Zeroizing;

use self::calls::Call;
use self::connection::Connection;
use crate::output::quoted;

/// Longest time for a request and its answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// A service at an endpoint.
pub struct Client {
    connection: Connection,
}

/// A request with its signature. No `Debug`: its body may hold a token.
pub struct SignedRequest {
    request: HttpRequest,
    body: Zeroizing<String>,
}

/// The service did not do the call. No message holds a token or a key.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The service has answered with an error.
    #[error("({code}) {message}")]
    Refused { code: String, message: String },
    /// The service cannot do its work now.
    #[error("{0} is not available now; try again later")]
    Unavailable(String),
    #[error("cannot reach {endpoint}: {cause}")]
    Unreachable { endpoint: String, cause: String },
    /// The endpoint is no identity service.
    #[error("the answer of {0} is not one of an identity service")]
    Unexpected(String),
}

impl Client {
    /// A client for this connection. It trusts the roots of the system.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Signs a call. The signature is valid for some minutes.
    ///
    /// # Errors
    /// [`CallError`] when the endpoint cannot be part of a request.
    pub fn sign(&self, call: &Call, now: OffsetDateTime) -> Result<SignedRequest, CallError> {
        let Connection { key, endpoint } = &self.connection;
        let target = [endpoint.path.as_str(), &call.target].concat();
        let (host, body) = (endpoint.host(), &call.body);
        let unsigned =
            UnsignedRequest { method: &call.method, target: &target, host: &host, body: body.as_bytes() };
        let mut request = HttpRequest::new(SdkBody::from(body.as_str()));
        let unexpected = || CallError::Unexpected(endpoint.to_string());
        request.set_method(call.method.as_str()).map_err(|_| unexpected())?;
        let url = format!("{}://{}{target}", endpoint.scheme(), endpoint.authority);
        request.set_uri(url).map_err(|_| unexpected())?;
        for (name, value) in unsigned.sign(key, now) {
            request.headers_mut().insert(name, value);
        }
        request.headers_mut().insert("accept", "application/json");
        request.headers_mut().insert("user-agent", concat!("acs-identity/", env!("CARGO_PKG_VERSION")));
        if call.method == http::Method::POST {
            request.headers_mut().insert("content-type", "application/json");
        }
        Ok(SignedRequest { request, body: body.clone() })
    }

    /// Sends a request. The result is the body of a success, or `null` if it has none.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn send(&self, SignedRequest { request, .. }: SignedRequest) -> Result<Value, CallError> {
        let endpoint = self.connection.endpoint.to_string();
        let answer = send(request, &endpoint).await?;
        let body = serde_json::from_slice(&answer.body);
        match answer.status {
            200..=299 if answer.body.is_empty() => Ok(Value::Null),
            200..=299 => body.map_err(|_| CallError::Unexpected(endpoint)),
            503 => Err(CallError::Unavailable(endpoint)),
            status => Err(refusal(status, &body.unwrap_or_default(), answer.reason)),
        }
    }

    /// The request as a command line of `curl`.
    #[must_use]
    pub fn curl(&self, SignedRequest { request, body }: &SignedRequest) -> Zeroizing<String> {
        let mut line = Zeroizing::new(format!("curl -sS -X {} {}", request.method(), quoted(request.uri())));
        let mut add = |option: &str, value: &str| line.extend([" ", option, " ", &quoted(value)]);
        let headers = request.headers().iter().filter(|(name, _)| *name != "user-agent");
        headers.for_each(|(name, value)| add("-H", &format!("{name}: {value}")));
        if request.method() == "POST" {
            add("--data-raw", body);
        }
        line.push('\n');
        line
    }
}

/// The error object of an answer, with the reason that the local server adds.
fn refusal(status: u16, body: &Value, reason: Option<String>) -> CallError {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(crate::output::plain);
    let mut message = text("/error/message").unwrap_or_else(|| "the answer has no error object".to_owned());
    if let Some(reason) = reason {
        message.extend([" [", &crate::output::plain(&reason), "]"]);
    }
    CallError::Refused { code: text("/error/code").unwrap_or_else(|| status.to_string()), message }
}

/// An answer of a server.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The reason of a refusal, as the local server explains it.
    pub reason: Option<String>,
}

/// Sends a request within the time limit, without a proxy and without redirects.
///
/// # Errors
/// [`CallError`].
pub async fn send(request: HttpRequest, endpoint: &str) -> Result<Answer, CallError> {
    let unreachable = |cause: String| CallError::Unreachable { endpoint: endpoint.to_owned(), cause };
    let connector = connector(request.uri().starts_with("https:"))
        .ok_or_else(|| unreachable("TLS cannot be set up".to_owned()))?;
    let exchange = async {
        let answer = connector.call(request).await.map_err(|error| unreachable(error_chain(&error)))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers());
        let reason = headers.get("x-acs-identity-reason").map(str::to_owned);
        let (mut stream, mut body) = (ByteStream::new(answer.into_body()), Vec::new());
        while let Some(part) = stream.next().await {
            body.extend_from_slice(&part.map_err(|error| unreachable(error_chain(&error)))?);
            if body.len() > MAX_ANSWER {
                return Err(CallError::Unexpected(endpoint.to_owned()));
            }
        }
        Ok(Answer { status, body, reason })
    };
    let late = || unreachable(format!("no answer within {} seconds", DEADLINE.as_secs()));
    timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(late()))
}

/// Reading the roots of the system takes time, so plain HTTP does without.
fn connector(secure: bool) -> Option<Connector> {
    if !secure {
        return Some(Connector::builder().build_http());
    }
    let tls = TlsContext::builder().with_trust_store(TrustStore::default()).build().ok()?;
    let builder = Connector::builder().tls_provider(Provider::rustls(CryptoMode::AwsLc));
    Some(builder.tls_context(tls).build())
}
