//! The gateway on the wire: requests that no SDK sends. The time limits have tests beside their code.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use acs_identity::gateway::{Limits, Listeners};
use acs_identity::names::ServerNames;
use acs_identity::platform::{Options, Platform};
use acs_identity::state::StateKind;
use acs_identity::trust::EntraOptions;
use bytes::Bytes;
use e2e::server::state_directory;
use e2e::signer::{Call, sign};
use e2e::test_service::Reply;
use functions::system::System;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::authn::target::Target;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use identity::testing::CapturedAudit;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CREATE: &str = "/identities?api-version=2023-10-01";

/// A longer wait means that an answer never comes, or that a connection is never closed.
const NEVER: Duration = Duration::from_secs(30);

/// The local server in this process.
pub(crate) struct Gateway {
    pub(crate) platform: Arc<Platform>,
    https_port: u16,
    http_port: u16,
    key: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Gateway {
    pub(crate) async fn start(test: &str, limits: Limits) -> Self {
        let listeners = Listeners::bind(None, 0, 0).unwrap();
        let (https_port, http_port) = (listeners.https_port, listeners.http_port);
        let options = Options {
            data_dir: state_directory(env!("CARGO_TARGET_TMPDIR"), test),
            state: StateKind::Kept,
            access_keys: None,
            names: ServerNames::default(),
            https_port,
            http_port,
            allowed_origins: Vec::new(),
            algorithm: Some(Algorithm::Es256),
            location: None,
            region: None,
            entra: EntraOptions::default(),
            route_rules: None,
        };
        let platform = Platform::open(options, Arc::new(CapturedAudit::default())).await.unwrap();
        let strings = platform.connection_strings().await.unwrap();
        let key = strings.primary.split_once("accesskey=").unwrap().1.to_owned();
        let (stop, stopped) = oneshot::channel();
        let (router, tls) = (platform.router.clone(), platform.tls.clone());
        let served = tokio::spawn(listeners.serve(router, tls, limits, async {
            // Dropping the gateway stops it too.
            let _ = stopped.await;
        }));
        Self { platform: Arc::new(platform), https_port, http_port, key, stop, served }
    }

    /// The id of a new user, and a token for this scope.
    pub(crate) async fn user_with_token(&self, scope: &str) -> (String, String) {
        let body = format!(r#"{{"createTokenWithScopes":["{scope}"]}}"#);
        let reply = self.send("POST", CREATE, &body).await;
        (reply.id().unwrap(), reply.token().unwrap())
    }

    /// Revokes a user's tokens.
    pub(crate) async fn revoke(&self, id: &str) {
        let target = format!("/identities/{id}/:revokeAccessTokens?api-version=2023-10-01");
        assert_eq!(self.send("POST", &target, "").await.status, 204);
    }

    /// Sends a signed request to the service, without a socket.
    async fn send(&self, method: &str, target: &str, body: &str) -> Reply {
        let request = sign(&Call { method, target, body }, &self.key, &self.host(), System::new().now());
        Reply::of(self.platform.router.service.handle(request).await)
    }

    fn host(&self) -> String {
        format!("localhost:{}", self.http_port)
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port)).await.unwrap()
    }

    async fn connect_tls(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.platform.data_dir.join("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.https_port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// The headers of a request to create an identity, signed for `host`, but without `Host`.
    fn signed(&self, host: &str, body: &str) -> HeaderMap {
        let call = Call { method: "POST", target: CREATE, body };
        let mut headers = sign(&call, &self.key, host, System::new().now()).headers;
        headers.remove("host");
        headers
    }

    /// The head of a signed request to create an identity, with further lines.
    fn create(&self, target: &str, body: &str, further: &[&str]) -> String {
        let mut head = format!("POST {target} HTTP/1.1\r\n");
        for (name, value) in &self.signed(&self.host(), body) {
            head += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        for line in further {
            head += &format!("{line}\r\n");
        }
        head + "\r\n"
    }

    /// Sends a request on a new connection, and returns the bytes until the connection ends.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close the connection before the whole request is written.
        let _ = stream.write_all(request).await;
        rest(&mut stream).await
    }
}

/// The bytes until the connection ends.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(NEVER, stream.read_to_end(&mut bytes)).await.expect("the connection is never closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The bytes up to and including a text.
async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let read = async {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            bytes.push(stream.read_u8().await.expect("the connection ended too soon"));
        }
        String::from_utf8(bytes).unwrap()
    };
    timeout(NEVER, read).await.expect("nothing more arrives")
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("none")
}

const UNSIGNED: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends a request without a signature and reads the refusal. The connection stays open.
async fn refused(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(UNSIGNED.as_bytes()).await.unwrap();
    let answer = until(stream, "}}").await;
    assert_eq!(status(&answer), "401");
}

#[tokio::test]
async fn longest_idle_connection_is_closed_at_the_limit() {
    let gateway = Gateway::start("gateway-many", Limits { connections: 2, ..Limits::default() }).await;
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    refused(&mut first).await;
    refused(&mut second).await;
    let mut third = gateway.connect().await;
    refused(&mut third).await;
    assert_eq!(rest(&mut first).await, "", "the first connection has ended");
    refused(&mut second).await;
}

#[tokio::test]
async fn too_large_bodies_get_an_error_body() {
    let gateway = Gateway::start("gateway-large", Limits::default()).await;
    for length in [70_000, 5_000_000] {
        let bytes = vec![b' '; length];
        let whole = [format!("Content-Length: {length}\r\n\r\n").as_bytes(), &bytes].concat();
        let mut chunked = b"Transfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in bytes.chunks(10_000) {
            chunked.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
        chunked.extend(b"0\r\n\r\n");
        for body in [whole, chunked] {
            let head = format!("POST {CREATE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
            let mut stream = gateway.connect().await;
            // Many clients write the whole request before they read.
            stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            let answer = rest(&mut stream).await;
            assert_eq!(status(&answer), "413", "{length}: {answer}");
            let error: serde_json::Value =
                serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert_eq!(error["error"]["code"], "RequestBodyTooLarge");
        }
    }
}

#[tokio::test]
async fn only_requests_that_may_be_authorized_need_their_body() {
    let gateway = Gateway::start("gateway-needs-body", Limits::default()).await;
    let service = &gateway.platform.router.service;
    let now = System::new().now();
    let signed = |host: &str, date| {
        sign(&Call { method: "POST", target: CREATE, body: "{}" }, &gateway.key, host, date).headers
    };
    let with = |name: &'static str, value: &str| {
        let mut headers = signed(&gateway.host(), now);
        headers.insert(name, value.parse().unwrap());
        headers
    };
    let rows = [
        ("a signature", CREATE, signed(&gateway.host(), now), true),
        ("a bearer token", CREATE, with("authorization", "Bearer x"), true),
        ("the credential of a resource server", "/introspect", with("authorization", "Basic x"), true),
        ("no authorization", CREATE, HeaderMap::new(), false),
        ("another scheme", CREATE, with("authorization", "Digest x"), false),
        ("a credential for another route", CREATE, with("authorization", "Basic x"), false),
        ("a signature of another form", CREATE, with("authorization", "HMAC-SHA256 Signature=x"), false),
        ("another host", CREATE, signed("elsewhere", now), false),
        ("an old date", CREATE, signed(&gateway.host(), now - Duration::from_secs(3600)), false),
        ("a public route", "/.well-known/jwks.json", signed(&gateway.host(), now), false),
    ];
    for (row, target, headers, expected) in rows {
        let target = Target::from_wire(target);
        assert_eq!(service.head(&Method::POST, &target, &headers).needs_body(), expected, "{row}");
    }
}

#[tokio::test]
async fn expect_continue_is_answered() {
    let gateway = Gateway::start("gateway-expect", Limits::default()).await;
    let body = r#"{"createTokenWithScopes":["chat"]}"#;
    let further = [
        &format!("Host: {}", gateway.host()),
        &format!("Content-Length: {}", body.len()),
        "Content-Type: application/json",
        "Expect: 100-continue",
        "Connection: close",
    ];
    let mut stream = gateway.connect().await;
    stream.write_all(gateway.create(CREATE, body, &further).as_bytes()).await.unwrap();
    assert_eq!(until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(status(&answer), "201", "{answer}");
}

#[tokio::test]
async fn http1_requests_have_one_host() {
    let gateway = Gateway::start("gateway-host", Limits::default()).await;
    let host = gateway.host();
    let (own, absolute) = (format!("Host: {host}"), format!("http://{host}{CREATE}"));
    let elsewhere = format!("http://elsewhere{CREATE}");
    let rows: [(&str, &[&str], &str); 10] = [
        (CREATE, &[&own], "201"),
        (CREATE, &[], "401"),
        (CREATE, &[&own, &own], "401"),
        (CREATE, &[&own, "Host: elsewhere"], "401"),
        (&absolute, &[&own], "201"),
        (&absolute, &[], "201"),
        (&absolute, &["Host: elsewhere"], "401"),
        (&absolute, &[&own, "Host: elsewhere"], "401"),
        (&elsewhere, &[&own], "401"),
        (&elsewhere, &[], "401"),
    ];
    for (target, hosts, expected) in rows {
        let request =
            gateway.create(target, "", &[hosts, &["Content-Length: 0", "Connection: close"]].concat());
        let answer = gateway.exchange(request.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{target} {hosts:?}: {answer}");
    }
}

type Http2 = http2::SendRequest<Empty<Bytes>>;

async fn http2_client(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> (Http2, JoinHandle<hyper::Result<()>>) {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn http2_status(sender: &mut Http2, uri: &str, headers: HeaderMap) -> hyper::Result<StatusCode> {
    let mut request = Request::post(uri).body(Empty::new()).unwrap();
    *request.headers_mut() = headers;
    let answer = timeout(NEVER, sender.send_request(request)).await.expect("no answer")?;
    Ok(answer.status())
}

#[tokio::test]
async fn http2_requests_have_one_host() {
    let gateway = Gateway::start("gateway-http2", Limits::default()).await;
    let (mut plain, _) = http2_client(gateway.connect().await).await;
    let (mut secure, _) = http2_client(gateway.connect_tls(&["h2"]).await).await;
    let host = gateway.host();
    for sender in [&mut plain, &mut secure] {
        for (authority, header, expected) in [
            (host.as_str(), None, 201),
            (&host, Some(host.as_str()), 201),
            (&host, Some("elsewhere"), 401),
            ("elsewhere", Some(&host), 401),
            ("elsewhere", None, 401),
        ] {
            let mut headers = gateway.signed(&host, "");
            headers.extend(header.map(|host| (http::header::HOST, host.parse().unwrap())));
            let status = http2_status(sender, &format!("http://{authority}{CREATE}"), headers).await.unwrap();
            assert_eq!(status, expected, "{authority} {header:?}");
        }
    }
}

#[tokio::test]
async fn too_large_heads_are_refused_with_431() {
    let gateway = Gateway::start("gateway-head", Limits::default()).await;
    // As many bytes as the gateway reads. A socket that closes with unread bytes would lose the answer.
    let start = "GET / HTTP/1.1\r\nX-Long: ";
    let long = start.to_owned() + &"x".repeat(64 * 1024 - start.len());
    let many: String = (0..=100).map(|number| format!("X-{number}: x\r\n")).collect();
    for head in [long, format!("GET / HTTP/1.1\r\n{many}\r\n")] {
        let answer = gateway.exchange(head.as_bytes()).await;
        assert_eq!(status(&answer), "431", "{answer}");
    }
    let (mut sender, _) = http2_client(gateway.connect().await).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-long", "x".repeat(70_000).parse().unwrap());
    let status = http2_status(&mut sender, &format!("http://{}{CREATE}", gateway.host()), headers).await;
    assert_eq!(status.unwrap(), 431);
    refused(&mut gateway.connect().await).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let gateway = Gateway::start("gateway-pipeline", Limits::default()).await;
    let request = |id: &str, connection: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nx-ms-client-request-id: {id}\r\nConnection: {connection}\r\n\r\n"
        )
    };
    let requests =
        request("first", "keep-alive") + &request("second", "keep-alive") + &request("third", "close");
    let answers = gateway.exchange(requests.as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 401").count(), 3, "{answers}");
    let places = ["first", "second", "third"].map(|id| answers.find(id).unwrap());
    assert!(places.is_sorted());
}

#[tokio::test]
async fn head_answers_have_no_body() {
    let gateway = Gateway::start("gateway-method", Limits::default()).await;
    let request = "HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = gateway.exchange(request.as_bytes()).await;
    assert_eq!(status(&answer), "401");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

/// A request under way: its answer has begun, and its body is incomplete.
async fn under_way(gateway: &Gateway) -> TcpStream {
    let mut stream = gateway.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    stream
}

#[tokio::test]
async fn requests_under_way_are_answered_during_a_stop() {
    let gateway =
        Gateway::start("gateway-stopping", Limits { shutdown_grace: NEVER * 2, ..Limits::default() }).await;
    let mut idle = gateway.connect().await;
    refused(&mut idle).await;
    let mut stream = under_way(&gateway).await;
    gateway.stop.send(()).unwrap();
    assert_eq!(rest(&mut idle).await, "", "the idle connection is closed");
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.http_port)).await;
    assert!(refused.is_err(), "the gateway still accepts connections");
    stream.write_all(b"abc").await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(status(&answer), "401", "{answer}");
    gateway.served.await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_after_the_grace_time() {
    let limits =
        Limits { idle_timeout: NEVER * 2, shutdown_grace: Duration::from_millis(20), ..Limits::default() };
    let gateway = Gateway::start("gateway-stopped", limits).await;
    let mut stream = under_way(&gateway).await;
    let mut no_handshake = TcpStream::connect((Ipv4Addr::LOCALHOST, gateway.https_port)).await.unwrap();
    // The gateway accepts this connection after the other two.
    refused(&mut gateway.connect().await).await;
    gateway.stop.send(()).unwrap();
    timeout(NEVER, gateway.served).await.expect("the gateway does not stop").unwrap();
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(rest(&mut no_handshake).await, "");
}
