//! The listeners: HTTPS and HTTP, HTTP/1.1 and 2, one service behind them.
//!
//! They add to the core the parts of a gateway: TLS, limits of size, time and number, and the raw request target.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, FORWARDED, HOST, HeaderName, HeaderValue, VIA};
use http::{HeaderMap, Method, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use identity::api::cors::ReadableBy;
use identity::api::pipeline::{self, Answer, Body};
use identity::api::reply;
use identity::authn::target::Target;
use identity::correlation::{Delivery, Transport};
use identity::runtime;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub use crate::bind::BindError;
use crate::bind::{bind_port, bind_socket};
use crate::body::{self, BrokenBody};
pub use crate::connections::Limits;
use crate::connections::{self, Activity, BodyMemory, OpenConnections, Pool, UnderWay};
use crate::control_api::calls::{ReplyBody, whole};
use crate::control_api::{self, Peer};
use crate::entra::EntraStandIn;
use crate::head;
use crate::invoke;
use crate::router::Router;

/// Sockets that are bound but not yet served.
pub struct Listeners {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    pub https_port: u16,
    pub http_port: u16,
}

/// Largest head of a request, in bytes. It is several times the limit of API Gateway.
const MAX_HEAD: u32 = 64 * 1024;

/// Most requests at a time on a connection of HTTP/2.
const MAX_STREAMS: u32 = 32;

/// Bytes that a connection of HTTP/2 may send before they are read.
const WINDOW: u32 = 64 * 1024;

/// How long an idle connection of HTTP/1.1 stays open.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The address for which a proxy passes the request on.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header with the reason of a 401.
const REASON: HeaderName = HeaderName::from_static("x-acs-identity-reason");

/// The value of `Keep-Alive`: the seconds for which a client may count on the connection.
fn keep_alive_hint(limits: &Limits) -> HeaderValue {
    HeaderValue::try_from(format!("timeout={}", limits.keep_alive.as_secs()))
        .unwrap_or_else(|_| HeaderValue::from_static("timeout=1"))
}

impl Listeners {
    /// Binds both ports on loopback and on the given address. An unspecified address stands for every address of both
    /// families. Port 0 takes a free port.
    ///
    /// # Errors
    /// [`BindError`] with the port and the next step.
    pub fn bind(address: Option<IpAddr>, https_port: u16, http_port: u16) -> Result<Self, BindError> {
        let (https, https_port) = bind_port(address, https_port, |at| bind_socket(at, "https"))?;
        let (http, http_port) = bind_port(address, http_port, |at| bind_socket(at, "http"))?;
        Ok(Self { https, http, https_port, http_port })
    }

    /// Serves until `stop` is ready. Requests under way may then finish within the grace time.
    pub async fn serve(
        self,
        router: Arc<Router>,
        tls: Arc<ServerConfig>,
        limits: Limits,
        stop: impl Future<Output = ()>,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        let (stopping, _) = watch::channel(false);
        let (mut pool, mut turn) = (Pool::new(limits.connections), 0);
        let mut stop = pin!(stop);
        loop {
            let serve_next = async {
                let (stream, peer, secure) =
                    connections::accept(|context| self.poll_accept(context, &mut turn)).await;
                // Small replies are sent at once. A socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                let is_local = peer.ip().to_canonical().is_loopback();
                let peer = Peer { is_local, is_secure: secure };
                let (router, stopping, open) =
                    (Arc::clone(&router), stopping.subscribe(), Arc::clone(&pool.open));
                let tls = secure.then(|| acceptor.clone());
                pool.serve(|activity| {
                    Connection { router, limits, stopping, peer, activity, open }.serve(stream, tls)
                })
                .await;
            };
            tokio::select! {
                () = &mut stop => break,
                () = serve_next => {}
            }
        }
        drop(self);
        stopping.send_replace(true);
        // Requests that take longer are cut off, because the process is ending.
        let _ = timeout(limits.shutdown_grace, pool.ended()).await;
    }

    /// The next connection, its peer, and whether it uses TLS. The sockets take turns, so that a flood on one of them does
    /// not stop the others.
    fn poll_accept(
        &self,
        context: &mut Context<'_>,
        turn: &mut usize,
    ) -> Poll<io::Result<(TcpStream, SocketAddr, bool)>> {
        let https = self.https.iter().map(|listener| (listener, true));
        let all = https.chain(self.http.iter().map(|listener| (listener, false)));
        let count = self.https.len() + self.http.len();
        *turn = (*turn + 1) % count.max(1);
        for (listener, secure) in all.cycle().skip(*turn).take(count) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, secure)));
            }
        }
        Poll::Pending
    }
}

/// The server side of one connection.
struct Connection {
    router: Arc<Router>,
    limits: Limits,
    stopping: watch::Receiver<bool>,
    peer: Peer,
    activity: Arc<Activity>,
    open: Arc<OpenConnections>,
}

impl Connection {
    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        tls: Option<TlsAcceptor>,
    ) {
        let builder = auto::Builder::new(TokioExecutor::new());
        let Some(acceptor) = tls else {
            // The first bytes of a plain connection show whether it is HTTP/2. `idle` limits the wait for them.
            return self.serve_http(stream, builder).await;
        };
        let activity = Arc::clone(&self.activity);
        let handshake = tokio::select! {
            handshake = timeout(self.limits.idle_timeout, acceptor.accept(stream)) => handshake,
            () = activity.closed() => return,
        };
        let Ok(Ok(stream)) = handshake else { return };
        let builder = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => builder.http2_only(),
            _ => builder.http1_only(),
        };
        self.serve_http(stream, builder).await;
    }

    async fn serve_http(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut builder: auto::Builder<TokioExecutor>,
    ) {
        let Self { router, limits, mut stopping, peer, activity, open } = self;
        // This limit includes the idle time before the head, so the watch over idle connections ends first.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.keep_alive * 2);
        // A client that has sent its request may close its side of the connection.
        builder.http1().max_buf_size(MAX_HEAD as usize).half_close(true);
        builder.http2().max_header_list_size(MAX_HEAD).max_concurrent_streams(MAX_STREAMS);
        builder.http2().initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (seen, hint) = (Arc::clone(&activity), keep_alive_hint(&limits));
        let respond = service_fn(move |request| {
            let (router, open) = (Arc::clone(&router), Arc::clone(&open));
            let (mut under_way, hint) = (UnderWay::begin(Arc::clone(&activity)), hint.clone());
            async move {
                let is_http1 = request.version() <= Version::HTTP_11;
                let (parts, body) = request.into_parts();
                let request = Arrived::new(parts, peer, &router);
                let head =
                    router.service.head(&request.parts.method, &request.target, &request.parts.headers);
                let mut memory = BodyMemory::default();
                let (needs_body, time) = (head.needs_body(), limits.idle_timeout);
                let body = request.read(&router, needs_body, body, time, &open, &mut memory).await?;
                under_way.complete();
                let mut reply = respond(&router, &request, head, body).await;
                if is_http1 {
                    reply.headers_mut().insert(KEEP_ALIVE, hint);
                }
                Ok::<_, BrokenBody>(reply)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), respond).into_owned();
        let mut connection = pin!(connection);
        let is_evicted = tokio::select! {
            // A broken connection needs no report.
            _ = connection.as_mut() => return,
            () = seen.closed() => true,
            () = seen.idle(limits.idle_timeout, limits.keep_alive) => false,
            _ = stopping.wait_for(|stopping| *stopping) => false,
        };
        connection.as_mut().graceful_shutdown();
        // Requests that take longer are cut off. At the limit of connections, unfinished requests are cut off at once.
        let grace = if is_evicted && seen.is_waiting() { Duration::ZERO } else { limits.shutdown_grace };
        let _ = timeout(grace, connection).await;
    }
}

/// A request whose body has not been read.
struct Arrived {
    parts: http::request::Parts,
    target: Target,
    peer: Peer,
    /// Whether the stand-in of Entra answers.
    is_for_entra: bool,
}

impl Arrived {
    fn new(mut parts: http::request::Parts, peer: Peer, router: &Router) -> Self {
        name_host(&mut parts);
        let peer = Peer { is_local: peer.is_local && !is_forwarded(&parts.headers), ..peer };
        let target = Target::from_wire(parts.uri.path_and_query().map_or("/", |target| target.as_str()));
        let is_for_entra = router.entra.as_ref().is_some_and(|entra| entra.answers(parts.uri.path()));
        Self { parts, target, peer, is_for_entra }
    }

    /// Reads the body within this time. It is not kept if the head alone decides the reply.
    async fn read<'a>(
        &self,
        router: &Router,
        service_needs_body: bool,
        body: Incoming,
        time: Duration,
        open: &'a OpenConnections,
        memory: &mut BodyMemory<'a>,
    ) -> Result<Body, BrokenBody> {
        let Self { parts, peer, is_for_entra, .. } = self;
        let limit = control_api::body_limit(router, parts, *peer);
        let path = parts.uri.path();
        let is_own = control_api::is_own(path) || invoke::is_invocation(&parts.method, path) || *is_for_entra;
        let memory = (is_own || service_needs_body).then_some((open, memory));
        let read = pin!(body::read(body, limit, memory));
        runtime::timeout(router.service.clock.as_ref(), time, read).await.ok_or(BrokenBody)?
    }
}

async fn respond(
    router: &Router,
    request: &Arrived,
    head: pipeline::Head<'_>,
    body: Body,
) -> Response<ReplyBody> {
    let Arrived { parts, target, peer, is_for_entra } = request;
    head::check(parts);
    if let Some(response) = control_api::answer(router, parts, target, &body, *peer).await {
        return response;
    }
    if let Some(response) = router.health.answer(&router.service.settings, target, parts).await {
        return whole(response);
    }
    let _shared = router.gate.read().await;
    if let Body::Complete(event) = &body
        && invoke::is_invocation(&parts.method, parts.uri.path())
    {
        return whole(invoke::handle(&router.authorizer, event).await);
    }
    if let (Some(entra), Body::Complete(body)) = (&router.entra, &body)
        && *is_for_entra
    {
        return whole(respond_as_entra(router, entra, parts, body));
    }
    let is_protected = peer.is_secure || peer.is_local;
    let transport = if is_protected { Transport::Protected } else { Transport::Exposed };
    let delivery = Delivery { transport, ..Delivery::default() };
    let Answer { mut response, reason } = router.service.respond(head, &body, &delivery).await;
    if let Some(reason) = reason.filter(|_| peer.is_local) {
        show_reason(&mut response, &reason);
    }
    whole(response)
}

/// Whether a proxy or a tunnel on this machine passes the request on for another machine.
fn is_forwarded(headers: &HeaderMap) -> bool {
    [FORWARDED, VIA, X_FORWARDED_FOR].iter().any(|name| headers.contains_key(name))
}

/// Adds the reason of a 401, which is otherwise only in the audit line. A page that may read the reply may read it too.
/// Only a client on this machine gets it. The core has a reason only for a client that addresses a loopback name.
fn show_reason(response: &mut Response<Bytes>, reason: &str) {
    let Ok(reason) = HeaderValue::from_str(reason) else { return };
    if response.status() != StatusCode::UNAUTHORIZED {
        return;
    }
    let headers = response.headers_mut();
    headers.insert(REASON, reason);
    if let Some(exposed) = headers.get(ACCESS_CONTROL_EXPOSE_HEADERS).and_then(|names| names.to_str().ok())
        && let Ok(exposed) = HeaderValue::try_from(format!("{exposed}, {REASON}"))
    {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The stand-in's reply. It follows the rules of the core for `HEAD`, `OPTIONS` and web pages.
fn respond_as_entra(
    router: &Router,
    entra: &EntraStandIn,
    parts: &http::request::Parts,
    body: &[u8],
) -> Response<Bytes> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut response = match parts.method {
        Method::OPTIONS => reply::with_methods(entra.methods(parts.uri.path())),
        Method::HEAD => entra.handle(&Method::GET, target, &parts.headers, body),
        _ => entra.handle(&parts.method, target, &parts.headers, body),
    };
    if !entra.is_page(parts.uri.path()) {
        let readable_by = ReadableBy::Only(&router.service.settings.cors.users);
        readable_by.add_headers(&parts.method, &parts.headers, response.headers_mut());
    }
    if parts.method == Method::HEAD {
        reply::drop_body(&mut response);
    }
    response
}

/// HTTP/2, and HTTP/1 requests in absolute form, name the host in the target. A `Host` header with another value is
/// dropped, so a request has one host or no host.
fn name_host(parts: &mut http::request::Parts) {
    let Some(authority) = parts.uri.authority() else {
        return;
    };
    match parts.headers.get(HOST) {
        Some(host) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            parts.headers.remove(HOST);
        }
        Some(_) => {}
        None => {
            if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                parts.headers.insert(HOST, host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, advance};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::platform::tests::open;

    /// The server side over connections in memory. The clock stands still, and moves on when every task waits for it.
    struct Gateway {
        router: Arc<Router>,
        tls: Arc<ServerConfig>,
        stopping: watch::Sender<bool>,
        dir: TempDir,
    }

    impl Gateway {
        async fn start() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let platform = open(dir.path()).await;
            tokio::time::pause();
            Self { router: platform.router, tls: platform.tls, stopping: watch::channel(false).0, dir }
        }

        fn connect(&self, secure: bool) -> (DuplexStream, JoinHandle<()>) {
            self.connect_with(OpenConnections::new(), secure)
        }

        fn connect_with(&self, open: Arc<OpenConnections>, secure: bool) -> (DuplexStream, JoinHandle<()>) {
            let (client, server) = duplex(64 * 1024);
            let connection = Connection {
                router: Arc::clone(&self.router),
                limits: Limits::default(),
                stopping: self.stopping.subscribe(),
                peer: Peer { is_local: true, is_secure: secure },
                activity: Activity::new(),
                open,
            };
            let tls = secure.then(|| TlsAcceptor::from(Arc::clone(&self.tls)));
            (client, tokio::spawn(connection.serve(server, tls)))
        }

        async fn connect_tls(&self, protocols: &[&str]) -> impl AsyncRead + Unpin + use<> {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(self.dir.path().join("ca.pem")).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, self.connect(true).0).await.unwrap()
        }
    }

    /// Sends a request without a signature and reads the refusal. The connection stays open.
    async fn send_unsigned(stream: &mut DuplexStream) {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 401 "));
    }

    /// The bytes until the connection ends, and the time until then.
    async fn until_end(stream: &mut (impl AsyncRead + Unpin)) -> (Vec<u8>, Duration) {
        let began = Instant::now();
        let mut bytes = Vec::new();
        // A connection may end without the closing message of TLS.
        let _ = stream.read_to_end(&mut bytes).await;
        (bytes, began.elapsed())
    }

    #[tokio::test]
    async fn connections_without_a_request_are_closed() {
        let gateway = Gateway::start().await;
        let mut open: Vec<(&str, Box<dyn AsyncRead + Unpin>)> = Vec::new();
        for begun in ["", "PRI * HTT", "POST / HT", "POST / HTTP/1.1\r\nHost:"] {
            let (mut stream, _) = gateway.connect(false);
            stream.write_all(begun.as_bytes()).await.unwrap();
            open.push((begun, Box::new(stream)));
        }
        for protocols in [&[][..], &["http/1.1"], &["h2"]] {
            open.push(("TLS", Box::new(gateway.connect_tls(protocols).await)));
        }
        open.push(("no handshake", Box::new(gateway.connect(true).0)));
        let began = Instant::now();
        for (begun, mut stream) in open {
            let (answer, _) = until_end(&mut stream).await;
            assert!(!answer.starts_with(b"HTTP/1.1"), "after {begun:?}");
        }
        let limits = Limits::default();
        assert!(began.elapsed() <= limits.idle_timeout * 2 + limits.shutdown_grace, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn idle_http2_connections_get_a_goaway() {
        const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let gateway = Gateway::start().await;
        let (mut stream, _) = gateway.connect(false);
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&EMPTY_SETTINGS).await.unwrap();
        let (answer, _) = until_end(&mut stream).await;
        let (mut frames, mut types) = (answer.as_slice(), Vec::new());
        // RFC 9113 section 4.1: three bytes of length, the type, five bytes more, and the payload.
        while let [high, middle, low, frame_type, _, _, _, _, _, rest @ ..] = frames {
            types.push(*frame_type);
            frames = &rest[usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low)..];
        }
        assert!(types.contains(&7), "{types:?}");
    }

    #[tokio::test]
    async fn busy_connections_stay_open() {
        let gateway = Gateway::start().await;
        let (mut stream, _) = gateway.connect(false);
        for _ in 0..8 {
            send_unsigned(&mut stream).await;
            advance(Limits::default().keep_alive - Duration::from_secs(1)).await;
        }
    }

    #[tokio::test]
    async fn idle_connections_close_after_the_announced_time() {
        let gateway = Gateway::start().await;
        let (mut stream, _) = gateway.connect(false);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let (answer, time) = until_end(&mut stream).await;
        let limits = Limits::default();
        assert!(String::from_utf8_lossy(&answer).contains("\r\nkeep-alive: timeout=90\r\n"));
        assert!(time >= limits.keep_alive && time <= limits.idle_timeout + limits.keep_alive * 2, "{time:?}");
    }

    #[tokio::test]
    async fn bodies_without_memory_get_503() {
        let gateway = Gateway::start().await;
        for (authorization, status) in [("Bearer x", "503"), ("Digest x", "401")] {
            let (mut stream, _) = gateway.connect_with(OpenConnections::without_memory(), false);
            let head =
                format!("POST /identities HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n");
            stream
                .write_all((head + "Connection: close\r\nContent-Length: 3\r\n\r\nabc").as_bytes())
                .await
                .unwrap();
            let (answer, time) = until_end(&mut stream).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(answer.contains("retry-after: 1\r\n"), status == "503", "{answer}");
            assert!(time < Duration::from_secs(2), "{time:?}");
        }
    }

    #[tokio::test]
    async fn incomplete_bodies_end_the_connection() {
        let gateway = Gateway::start().await;
        for body in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
            let (mut stream, _) = gateway.connect(false);
            stream.write_all(format!("POST / HTTP/1.1\r\n{body}").as_bytes()).await.unwrap();
            let (answer, time) = until_end(&mut stream).await;
            assert_eq!(
                (answer, time.as_secs()),
                (Vec::new(), Limits::default().idle_timeout.as_secs()),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn requests_are_cut_off_after_the_grace_time() {
        let gateway = Gateway::start().await;
        let (mut stream, served) = gateway.connect(false);
        stream
            .write_all(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            .await
            .unwrap();
        // The answer has begun, so the request is under way.
        stream.read_exact(&mut [0; 25]).await.unwrap();
        gateway.stopping.send_replace(true);
        let (answer, time) = until_end(&mut stream).await;
        assert_eq!((answer, time.as_secs()), (Vec::new(), Limits::default().shutdown_grace.as_secs()));
        served.await.unwrap();
    }

    #[test]
    fn reasons_are_shown_and_exposed() {
        let mut reply = Response::new(Bytes::new());
        show_reason(&mut reply, "the date is old");
        assert!(reply.headers().is_empty(), "only a 401 has a reason");
        *reply.status_mut() = StatusCode::UNAUTHORIZED;
        reply.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("MS-CV"));
        show_reason(&mut reply, "the date is old");
        assert_eq!(reply.headers()["x-acs-identity-reason"], "the date is old");
        assert_eq!(reply.headers()[ACCESS_CONTROL_EXPOSE_HEADERS], "MS-CV, x-acs-identity-reason");
    }
}
