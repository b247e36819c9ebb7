//! What a Lambda function speaks to, on loopback: the runtime API, and DynamoDB and Secrets Manager.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use acs_identity::dynamodb::EmbeddedDynamoDb;
use acs_identity::secrets_manager::EmbeddedSecretsManager;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Answers every request on a free port, for as long as the runtime lives.
async fn serve<F: Future<Output = Response<Full<Bytes>>> + Send>(
    answer: impl Fn(Request<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(answer(Request::from_parts(parts, body)).await)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
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
        let address = serve(move |request| {
            let (polled, answered, queue) = (polled.clone(), answered.clone(), Arc::clone(&queue));
            async move {
                if request.method() == Method::GET {
                    let _ = polled.send(Instant::now());
                    return event(queue.lock().await.recv().await.unwrap_or_default());
                }
                assert!(request.uri().path().ends_with("/response"), "{request:?}");
                let _ = answered.send((Instant::now(), request.into_body()));
                Response::builder().status(202).body(Full::default()).unwrap()
            }
        });
        Self { address: address.await, polls, events, answers }
    }

    /// When the process asked for an event.
    pub async fn polled(&mut self) -> Instant {
        self.polls.recv().await.unwrap()
    }

    /// Hands an event over and waits for its answer.
    pub async fn invoke(&mut self, event: Bytes) -> (Instant, Bytes) {
        self.events.send(event).unwrap();
        self.answers.recv().await.unwrap()
    }
}

fn event(body: Bytes) -> Response<Full<Bytes>> {
    Response::builder()
        .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        .header("lambda-runtime-deadline-ms", "32503680000000")
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:f")
        .body(Full::new(body))
        .unwrap()
}

/// DynamoDB and Secrets Manager behind one address, their calls counted by name.
pub struct Aws {
    pub address: SocketAddr,
    calls: Arc<Mutex<HashMap<String, usize>>>,
}

impl Aws {
    pub async fn start(database: EmbeddedDynamoDb, secrets: EmbeddedSecretsManager) -> Self {
        let calls = Arc::new(Mutex::new(HashMap::new()));
        let counted = Arc::clone(&calls);
        let address = serve(move |request| {
            let target = request.headers()["x-amz-target"].to_str().unwrap_or_default();
            let (service, operation) = target.split_once('.').unwrap_or_default();
            *counted.lock().unwrap().entry(operation.to_owned()).or_default() += 1;
            let is_secret = service == "secretsmanager";
            let request = HttpRequest::try_from(request.map(SdkBody::from)).unwrap();
            let answer = if is_secret { secrets.call(request) } else { database.call(request) };
            async move {
                let answer = answer.await.unwrap().try_into_http1x().unwrap();
                answer.map(|body| Full::new(Bytes::copy_from_slice(body.bytes().unwrap_or_default())))
            }
        });
        Self { address: address.await, calls }
    }

    /// The calls since this was last asked, by name.
    pub fn take_calls(&self) -> HashMap<String, usize> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }
}
