//! A chat service behind the authorizer, for the real chat clients.
//!
//! A simulated gateway of either shape, with TLS, sends canned answers in place of chat. It calls the authorizer of a
//! running local server through Lambda's Invoke API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use acs_identity::certificates;
use acs_identity::names::ServerNames;
use bytes::Bytes;
use functions::system::System;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use identity::runtime::Clock as _;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::router::{Shape, Verdict, by_policy, event, simple};

/// A running chat service.
pub struct ChatApi {
    /// The endpoint for clients: an HTTPS URL with a slash at the end.
    pub endpoint: String,
}

/// A canned answer to one kind of request.
#[derive(Deserialize)]
struct Answer {
    method: String,
    path: String,
    status: u16,
    body: Option<Value>,
}

struct Gateway {
    shape: Shape,
    /// Host and port of plain HTTP on the local server.
    authorizer: String,
    answers: Vec<Answer>,
}

impl ChatApi {
    /// Starts a chat service behind a gateway of this shape. The service has the certificate of the local server whose
    /// state directory is `state`. `authorizer` is the host and port where that server serves plain HTTP.
    ///
    /// # Panics
    /// When the service cannot be started.
    pub async fn start(shape: Shape, state: &Path, authorizer: &str) -> Self {
        let answers = serde_json::from_str(include_str!("../clients/chat_answers.json")).unwrap();
        let gateway = Arc::new(Gateway { shape, authorizer: authorizer.to_owned(), answers });
        let tls =
            certificates::server_config(state, &ServerNames::default().certified(), System::new().now());
        let mut tls = tls.unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let endpoint = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&gateway), acceptor.clone(), stream));
            }
        });
        Self { endpoint }
    }
}

/// Serves one connection. Errors are ignored, because a client may close the connection at any time.
async fn serve(gateway: Arc<Gateway>, acceptor: TlsAcceptor, stream: TcpStream) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let respond = service_fn(move |request| {
        let gateway = Arc::clone(&gateway);
        async move { Ok::<_, std::convert::Infallible>(gateway.respond(request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), respond).await;
}

impl Gateway {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        // The body is read to its end, so that the client can reuse the connection.
        let _ = body.collect().await;
        let path = percent_decode_str(parts.uri.path()).decode_utf8().unwrap().into_owned();
        let (method, query) = (parts.method.as_str(), parts.uri.query().unwrap_or(""));
        let verdict = self.authorize(method, &path, query, &parts.headers).await;
        match verdict.status() {
            Some(status) => json_response(status, &json!({"message": status.to_string()})),
            None => self.answer(method, &path),
        }
    }

    async fn authorize(&self, method: &str, path: &str, query: &str, headers: &HeaderMap) -> Verdict {
        let authorization: Vec<_> =
            headers.get_all(AUTHORIZATION).iter().map(|value| value.to_str().unwrap()).collect();
        let event = event(self.shape, method, path, query, &authorization);
        let (is_error, answer) = self.invoke(&event).await;
        match (is_error, self.shape) {
            (false, Shape::Http) => simple(answer),
            (false, Shape::Rest) => by_policy(&answer, method, path),
            (true, Shape::Rest) if answer["errorMessage"] == "Unauthorized" => Verdict::Unauthorized,
            (true, _) => Verdict::Failed,
        }
    }

    /// Invokes the authorizer. Returns whether the function failed, and its answer.
    async fn invoke(&self, event: &Value) -> (bool, Value) {
        let stream = TcpStream::connect(&self.authorizer).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("/2015-03-31/functions/authorizer/invocations")
            .header(HOST, &self.authorizer)
            .body(Full::new(Bytes::from(event.to_string())))
            .unwrap();
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let is_error = answer.headers().contains_key("x-amz-function-error");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (is_error, serde_json::from_slice(&body).unwrap())
    }

    fn answer(&self, method: &str, path: &str) -> Response<Full<Bytes>> {
        let is_for_request = |answer: &&Answer| answer.method == method && matches(&answer.path, path);
        let answer = self.answers.iter().find(is_for_request).unwrap_or_else(|| panic!("{method} {path}"));
        match &answer.body {
            Some(body) => json_response(answer.status, body),
            None => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
                response
            }
        }
    }
}

/// Whether a path matches a template. A segment in braces matches any segment.
fn matches(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(part, segment)| part.starts_with('{') || part == segment)
}

fn json_response(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.to_string().into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
