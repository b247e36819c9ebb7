//! The servers that a Lambda function calls, on loopback: the runtime API, DynamoDB and Secrets Manager.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use acs_identity::certificates;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_types::body::SdkBody;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::serve::{Listener, ListenerExt as _};
use bytes::Bytes;
use e2e::test_service::Embedded;
use functions::system::System;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use identity::runtime::Clock as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::programs::scratch;

/// Answers every request on a free port until the runtime ends.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

/// Lambda's runtime API, for one process.
pub struct RuntimeApi {
    pub address: SocketAddr,
    polls: UnboundedReceiver<Instant>,
    events: UnboundedSender<Bytes>,
    answers: UnboundedReceiver<(Instant, Bytes)>,
}

impl RuntimeApi {
    pub async fn start() -> Self {
        let (polled, polls) = unbounded_channel();
        let (events, queue) = unbounded_channel();
        let (answered, answers) = unbounded_channel();
        let queue = Arc::new(tokio::sync::Mutex::new(queue));
        let router = Router::new().fallback(move |method: Method, uri: Uri, body: Bytes| async move {
            if method == Method::GET {
                let _ = polled.send(Instant::now());
                return event(queue.lock().await.recv().await.unwrap_or_default());
            }
            assert!(uri.path().ends_with("/response"), "{uri}: {body:?}");
            let _ = answered.send((Instant::now(), body));
            StatusCode::ACCEPTED.into_response()
        });
        Self { address: serve(router).await, polls, events, answers }
    }

    /// Waits until the process polls for an event.
    pub async fn polled(&mut self) -> Instant {
        self.polls.recv().await.unwrap()
    }

    /// Sends an event and waits for the reply.
    pub async fn invoke(&mut self, event: Bytes) -> (Instant, Bytes) {
        self.events.send(event).unwrap();
        self.answers.recv().await.unwrap()
    }
}

fn event(body: Bytes) -> Response {
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "32503680000000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:f"),
    ];
    (headers, body).into_response()
}

/// Serves DynamoDB and Secrets Manager at one address.
pub async fn serve_aws(aws: &Embedded) -> SocketAddr {
    serve(aws_router(aws)).await
}

/// DynamoDB and Secrets Manager at one address with TLS.
pub struct TlsAws {
    address: SocketAddr,
    authority: PathBuf,
}

impl TlsAws {
    pub async fn start(aws: &Embedded) -> Self {
        let state = scratch("tls");
        let names = [HOST_NAME.to_owned()];
        let mut tls = certificates::server_config(&state, &names, System::new().now()).unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = tcp.local_addr().unwrap();
        let listener = TlsListener { tcp, acceptor: TlsAcceptor::from(Arc::new(tls)) };
        tokio::spawn(axum::serve(listener, aws_router(aws)).into_future());
        Self { address, authority: state.join("ca.pem") }
    }

    /// The variables that lead a function here.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("AWS_ENDPOINT_URL", format!("https://{HOST_NAME}:{}", self.address.port())),
            ("SSL_CERT_FILE", self.authority.display().to_string()),
        ]
    }
}

const HOST_NAME: &str = "localhost";

struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

/// DynamoDB and Secrets Manager. The target of a call names the service.
fn aws_router(aws: &Embedded) -> Router {
    let (dynamodb, secrets) = (aws.dynamodb.clone(), aws.secrets.clone());
    Router::new().fallback(async move |headers: HeaderMap, body: Bytes| {
        let target = headers["x-amz-target"].to_str().unwrap_or_default();
        let service = if target.starts_with("secretsmanager.") { secrets } else { dynamodb };
        let mut request = Request::post("/").body(SdkBody::from(body)).unwrap();
        *request.headers_mut() = headers;
        let reply = service.call(request.try_into().unwrap()).await.unwrap().try_into_http1x().unwrap();
        reply.map(|body| Body::from(body.bytes().unwrap_or_default().to_vec()))
    })
}
