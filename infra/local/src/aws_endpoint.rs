//! The embedded DynamoDB and Secrets Manager as one endpoint on loopback, for `AWS_ENDPOINT_URL`. Function binaries
//! and resource servers in other processes use it through their real SDK clients.
//!
//! A request must name the access key id, which only the owner of the state directory can read. Its `Host` must be the
//! endpoint's own address. The endpoint does not check the signature.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::runtime::Random;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::bind::{BindError, bind_socket};
use crate::connections::{self, Activity, Limits, Pool, UnderWay};
use crate::dynamodb::EmbeddedDynamoDb;
use crate::secrets_manager::EmbeddedSecretsManager;

/// Largest request, in bytes. It is the limit of DynamoDB.
const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// The two services behind the endpoint.
#[derive(Clone)]
pub struct AwsEndpoint {
    dynamodb: SharedHttpConnector,
    secrets_manager: SharedHttpConnector,
    /// The access key id for clients. Their secret key may have any value.
    pub access_key_id: Arc<str>,
}

/// The request gets no answer from a service.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error(
        "the access key id or the Host of the request is not that of this endpoint; use the values in platform.env"
    )]
    NotAdmitted,
    #[error("the request is for neither DynamoDB nor Secrets Manager")]
    OtherService,
    #[error("the request cannot be read, or is larger than 16 MB")]
    Unreadable,
    #[error("the body of the request did not arrive in time")]
    Slow,
    #[error("the service gave no answer")]
    NoAnswer,
}

impl AwsEndpoint {
    /// An endpoint for these services, with a new access key id.
    #[must_use]
    pub fn new(
        dynamodb: EmbeddedDynamoDb,
        secrets_manager: EmbeddedSecretsManager,
        random: &dyn Random,
    ) -> Self {
        Self {
            dynamodb: SharedHttpConnector::new(dynamodb),
            secrets_manager: SharedHttpConnector::new(secrets_manager),
            access_key_id: format!("local{:032x}", random.number()).into(),
        }
    }

    /// Listens on loopback. Port 0 takes a free port.
    ///
    /// # Errors
    /// [`BindError`] with the port and the next step.
    pub fn bind(port: u16) -> Result<TcpListener, BindError> {
        bind_socket(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "aws").map(|(listener, _)| listener)
    }

    /// Serves until this future is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let limits = Limits::default();
        let mut pool = Pool::new(limits.connections);
        loop {
            let (stream, _) = connections::accept(|context| listener.poll_accept(context)).await;
            // Small replies are sent at once. A socket that refuses the option still works.
            let _ = stream.set_nodelay(true);
            pool.serve(|activity| self.clone().serve_connection(stream, activity, limits)).await;
        }
    }

    async fn serve_connection(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        activity: Arc<Activity>,
        limits: Limits,
    ) {
        let requests = Arc::clone(&activity);
        let respond = service_fn(move |request| {
            let (endpoint, mut under_way) = (self.clone(), UnderWay::begin(Arc::clone(&requests)));
            async move {
                let reply = endpoint.forward(request, &mut under_way, limits.idle_timeout).await;
                Ok::<_, Infallible>(reply.unwrap_or_else(|error| {
                    let mut refusal = Response::new(Full::from(error.to_string()));
                    *refusal.status_mut() = StatusCode::BAD_REQUEST;
                    refusal
                }))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.keep_alive * 2).half_close(true);
        // A connection that is broken or idle needs no report.
        tokio::select! {
            _ = builder.serve_connection(TokioIo::new(stream), respond) => {}
            () = activity.closed() => {}
            () = activity.idle(limits.idle_timeout, limits.keep_alive) => {}
        }
    }

    async fn forward(
        &self,
        request: Request<Incoming>,
        under_way: &mut UnderWay,
        body_timeout: Duration,
    ) -> Result<Response<Full<Bytes>>, ForwardError> {
        let (parts, body) = request.into_parts();
        self.admit(&parts.headers)?;
        let service = self.service(&parts)?;
        let body = timeout(body_timeout, Limited::new(body, MAX_REQUEST).collect()).await;
        let body = body.map_err(|_| ForwardError::Slow)?.map_err(|_| ForwardError::Unreadable)?;
        under_way.complete();
        let request = Request::from_parts(parts, SdkBody::from(body.to_bytes()));
        let request = HttpRequest::try_from(request).map_err(|_| ForwardError::Unreadable)?;
        let answer = service.call(request).await.map_err(|_| ForwardError::NoAnswer)?;
        let answer = answer.try_into_http1x().map_err(|_| ForwardError::NoAnswer)?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| ForwardError::NoAnswer)?;
        Ok(Response::from_parts(parts, Full::new(body.to_bytes())))
    }

    /// Checks the access key id and `Host`. A request of a web page through DNS rebinding fails both checks.
    fn admit(&self, headers: &HeaderMap) -> Result<(), ForwardError> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let named = text(AUTHORIZATION).split_once("Credential=").and_then(|(_, rest)| rest.split_once('/'));
        let is_known = named.is_some_and(|(id, _)| id == &*self.access_key_id);
        let is_own =
            text(HOST).split(':').next().is_some_and(|host| matches!(host, "127.0.0.1" | "localhost"));
        if is_known && is_own { Ok(()) } else { Err(ForwardError::NotAdmitted) }
    }

    /// The service of the operation that `x-amz-target` names.
    fn service(&self, parts: &http::request::Parts) -> Result<&SharedHttpConnector, ForwardError> {
        let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or("");
        match target.split_once('.') {
            Some(("DynamoDB_20120810", _)) => Ok(&self.dynamodb),
            Some(("secretsmanager", _)) => Ok(&self.secrets_manager),
            _ => Err(ForwardError::OtherService),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::platform::tests::open;

    #[tokio::test]
    async fn unfinished_requests_are_ended() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = open(dir.path()).await.aws_endpoint;
        tokio::time::pause();
        let limits = Limits::default();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Credential={}/x\r\n\
             X-Amz-Target: DynamoDB_20120810.GetItem\r\nContent-Length: 10\r\n\r\n",
            endpoint.access_key_id
        );
        for (sent, answer) in [("", ""), ("POST / HT", ""), (&head, "HTTP/1.1 400 Bad Request")] {
            let (mut client, server) = duplex(64 * 1024);
            let served = tokio::spawn(endpoint.clone().serve_connection(server, Activity::new(), limits));
            let began = Instant::now();
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            assert!(received.starts_with(answer) && received.is_empty() == answer.is_empty(), "{received}");
            assert_eq!(began.elapsed().as_secs(), limits.idle_timeout.as_secs(), "{sent}");
            served.await.unwrap();
        }
    }
}
