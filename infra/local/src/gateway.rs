//! The listeners: HTTPS and HTTP, HTTP/1.1 and 2, one service behind them.
//!
//! They add to the core the parts of a gateway: TLS, limits of size, time and number, and the raw request target.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use identity::api::cors::ReadableBy;
use identity::api::pipeline::{self, Body};
use identity::api::reply::{self, Reason};
use identity::authn::target::Target;
use identity::correlation::{Delivery, Transport};
use identity::host::is_loopback;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::connections::{Activity, OpenConnections, UnderWay};
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
    https_port: u16,
    http_port: u16,
}

/// The server cannot listen on a port.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "port {port} is already in use; stop the program that uses it, or choose another port with --{scheme}-port"
    )]
    InUse { port: u16, scheme: &'static str },
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen, or another port with --{scheme}-port"
    )]
    Other { address: SocketAddr, scheme: &'static str, source: io::Error },
}

/// Limits for clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time for a TLS handshake, for a request's head and for a request's body. A connection without a request
    /// is closed after this time, or at most twice this time.
    pub idle_timeout: Duration,
    /// Shortest time for which a connection may be idle after a request. It exceeds the time that pools of clients keep a
    /// connection, so a client does not send a request while the server closes.
    pub keep_alive: Duration,
    /// Longest time for requests under way on a connection that is closing.
    pub shutdown_grace: Duration,
    /// Most open connections. For the next one, the connection that is idle for the longest time is closed.
    pub connections: usize,
}

/// Half of the 1,024 open files that a process commonly may have, because the state needs some too.
const MAX_CONNECTIONS: usize = 512;

/// Largest head of a request, in bytes. It is several times the limit of API Gateway.
const MAX_HEAD: u32 = 64 * 1024;

/// Most bytes of a too large body that are read before the refusal. A client that is still writing would otherwise
/// find a closed connection instead of the answer.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// How long an idle connection of HTTP/1.1 stays open.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The header with the reason of a 401.
const REASON: HeaderName = HeaderName::from_static("x-acs-identity-reason");

/// Attempts to find a port that is free on every address.
const PORT_ATTEMPTS: u32 = 16;

impl Limits {
    /// The value of `Keep-Alive`: the seconds for which a client may count on the connection.
    fn keep_alive_hint(&self) -> HeaderValue {
        HeaderValue::try_from(format!("timeout={}", self.keep_alive.as_secs()))
            .unwrap_or_else(|_| HeaderValue::from_static("timeout=1"))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(90),
            shutdown_grace: Duration::from_secs(5),
            connections: MAX_CONNECTIONS,
        }
    }
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

    /// The port of HTTPS.
    #[must_use]
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port of HTTP.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
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
        let (mut connections, mut open) = (JoinSet::new(), OpenConnections::default());
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                (stream, peer, secure) = self.accept() => {
                    if connections.len() >= limits.connections {
                        open.close_longest_idle();
                        tokio::select! {
                            () = &mut stop => break,
                            _ = connections.join_next() => {}
                        }
                    }
                    let (router, activity) = (Arc::clone(&router), Activity::new());
                    open.add(&activity);
                    let is_local = peer.ip().to_canonical().is_loopback();
                    let peer = Peer { is_local, is_secure: secure };
                    let stopping = stopping.subscribe();
                    let connection = Connection { router, limits, stopping, peer, activity };
                    connections.spawn(connection.serve(stream, secure.then(|| acceptor.clone())));
                }
            }
        }
        drop(self);
        stopping.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // Requests that take longer are cut off, because the process is ending.
        let _ = timeout(limits.shutdown_grace, ended).await;
    }

    /// The next connection, its peer, and whether it uses TLS.
    async fn accept(&self) -> (TcpStream, SocketAddr, bool) {
        loop {
            match poll_fn(|context| self.poll_accept(context)).await {
                Ok((stream, peer, secure)) => {
                    // Small replies are sent at once. A socket that refuses the option still works.
                    let _ = stream.set_nodelay(true);
                    return (stream, peer, secure);
                }
                // The likeliest cause is a lack of file descriptors. A connection that closes frees one.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr, bool)>> {
        let https = self.https.iter().map(|listener| (listener, true));
        for (listener, secure) in https.chain(self.http.iter().map(|listener| (listener, false))) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, secure)));
            }
        }
        Poll::Pending
    }
}

/// The addresses of the server. The first one must be there. Both addresses of loopback are always included, because
/// the certificate has them.
fn addresses(given: Option<IpAddr>) -> Vec<IpAddr> {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mut addresses: Vec<IpAddr> = given.into_iter().collect();
    addresses.extend(loopback.into_iter().filter(|address| Some(*address) != given));
    addresses
}

/// Binds one port on every address of the server.
fn bind_port<S>(
    given: Option<IpAddr>,
    port: u16,
    mut bind: impl FnMut(SocketAddr) -> Result<(S, u16), BindError>,
) -> Result<(Vec<S>, u16), BindError> {
    let mut bind_all = || match given {
        Some(address) if address.is_unspecified() => bind_everywhere(port, &mut bind),
        _ => bind_each(&addresses(given), port, &mut bind),
    };
    // A port that is free on one address may be in use on the other.
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_all() {
            Err(BindError::InUse { .. }) if attempts > 0 => {}
            outcome => return outcome,
        }
    }
}

fn bind_each<S>(
    addresses: &[IpAddr],
    port: u16,
    bind: &mut impl FnMut(SocketAddr) -> Result<(S, u16), BindError>,
) -> Result<(Vec<S>, u16), BindError> {
    let (mut sockets, mut port) = (Vec::new(), port);
    for address in addresses {
        match bind(SocketAddr::new(*address, port)) {
            Ok((socket, bound)) => {
                port = bound;
                sockets.push(socket);
            }
            // The machine does not have this address, for example no IPv6.
            Err(BindError::Other { .. }) if !sockets.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok((sockets, port))
}

/// Binds every address of both families. On most systems a socket for `[::]` serves IPv4 too, and the address `0.0.0.0`
/// is then in use.
fn bind_everywhere<S>(
    port: u16,
    bind: &mut impl FnMut(SocketAddr) -> Result<(S, u16), BindError>,
) -> Result<(Vec<S>, u16), BindError> {
    let (everywhere, port) = match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
        Ok((socket, port)) => (Some(socket), port),
        Err(BindError::Other { .. }) => (None, port),
        Err(in_use) => return Err(in_use),
    };
    match bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)) {
        Ok((socket, port)) => Ok((everywhere.into_iter().chain([socket]).collect(), port)),
        Err(error) => everywhere.map(|socket| (vec![socket], port)).ok_or(error),
    }
}

fn bind_socket(address: SocketAddr, scheme: &'static str) -> Result<(TcpListener, u16), BindError> {
    let bind = || -> io::Result<(TcpListener, u16)> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        Ok((TcpListener::from_std(socket)?, port))
    };
    bind().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { port: address.port(), scheme },
        _ => BindError::Other { address, scheme, source },
    })
}

/// The server side of one connection.
struct Connection {
    router: Arc<Router>,
    limits: Limits,
    stopping: watch::Receiver<bool>,
    peer: Peer,
    activity: Arc<Activity>,
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
        let Self { router, limits, mut stopping, peer, activity } = self;
        // This limit includes the idle time before the head, so the watch over idle connections ends first.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.keep_alive * 2);
        builder.http1().max_buf_size(MAX_HEAD as usize);
        builder.http2().max_header_list_size(MAX_HEAD);
        let (seen, hint) = (Arc::clone(&activity), limits.keep_alive_hint());
        let respond = service_fn(move |request| {
            let (router, under_way) = (Arc::clone(&router), UnderWay::begin(Arc::clone(&activity)));
            let hint = hint.clone();
            async move {
                let _under_way = under_way;
                let is_http1 = request.version() <= Version::HTTP_11;
                let mut reply = respond(&router, request, limits.idle_timeout, peer).await?;
                if is_http1 {
                    reply.headers_mut().insert(KEEP_ALIVE, hint);
                }
                Ok::<_, BrokenBody>(reply)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), respond).into_owned();
        let mut connection = pin!(connection);
        tokio::select! {
            // A broken connection needs no report.
            _ = connection.as_mut() => return,
            () = seen.idle(limits.idle_timeout, limits.keep_alive) => {}
            () = seen.closed() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        // Requests that take longer are cut off.
        let _ = timeout(limits.shutdown_grace, connection).await;
    }
}

/// The client stopped sending the body, or took too long. The connection ends, because there is no whole request.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not arrive")]
struct BrokenBody;

async fn respond(
    router: &Router,
    request: Request<Incoming>,
    idle_timeout: Duration,
    peer: Peer,
) -> Result<Response<ReplyBody>, BrokenBody> {
    let (mut parts, body) = request.into_parts();
    name_host(&mut parts);
    let peer = Peer { is_local: peer.is_local && !is_forwarded(&parts.headers), ..peer };
    let limit = control_api::body_limit(router, &parts, peer);
    let body = timeout(idle_timeout, read(body, limit)).await.map_err(|_| BrokenBody)??;
    head::check(&parts);
    let target = Target::from_wire(parts.uri.path_and_query().map_or("/", |target| target.as_str()));
    if let Some(response) = control_api::answer(router, &parts, &target, &body, peer).await {
        return Ok(response);
    }
    if let Some(response) = router.health.answer(&router.service.settings, &target, &parts).await {
        return Ok(whole(response));
    }
    let _shared = router.gate.read().await;
    if let Body::Complete(event) = &body
        && invoke::is_invocation(&parts.method, parts.uri.path())
    {
        return Ok(whole(invoke::handle(&router.authorizer, event).await));
    }
    if let (Some(entra), Body::Complete(body)) = (&router.entra, &body)
        && entra.answers(parts.uri.path())
    {
        return Ok(whole(respond_as_entra(router, entra, &parts, body)));
    }
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let shows_reason = peer.is_local && host.is_some_and(is_loopback);
    let request = pipeline::Request { method: parts.method, target, headers: parts.headers, body };
    let is_protected = peer.is_secure || peer.is_local;
    let transport = if is_protected { Transport::Protected } else { Transport::Exposed };
    let delivery = Delivery { transport, ..Delivery::default() };
    let mut response = router.service.handle_delivered(request, &delivery).await;
    if shows_reason {
        show_reason(&mut response);
    }
    Ok(whole(response))
}

/// Whether a proxy or a tunnel on this machine passes the request on for another machine.
fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "via"].iter().any(|name| headers.contains_key(*name))
}

/// Adds the reason of a 401, which is otherwise only in the audit line. A page that may read the reply may read it too.
/// Only a client on this machine that addresses a loopback name gets it.
fn show_reason(response: &mut Response<Bytes>) {
    let reason =
        response.extensions().get::<Reason>().and_then(|reason| HeaderValue::from_str(&reason.0).ok());
    let Some(reason) = reason.filter(|_| response.status() == StatusCode::UNAUTHORIZED) else { return };
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

/// Reads a body, and keeps at most `limit` bytes.
async fn read(mut body: Incoming, limit: usize) -> Result<Body, BrokenBody> {
    let mut kept = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BrokenBody)?.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length > MAX_DISCARDED {
            break;
        }
        if length <= limit {
            kept.extend_from_slice(&data);
        }
    }
    Ok(if length > limit { Body::TooLarge } else { Body::Complete(kept.into()) })
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
            let (client, server) = duplex(64 * 1024);
            let connection = Connection {
                router: Arc::clone(&self.router),
                limits: Limits::default(),
                stopping: self.stopping.subscribe(),
                peer: Peer { is_local: true, is_secure: secure },
                activity: Activity::new(),
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
    fn free_ports_are_free_on_every_address() {
        let (mut asked, mut free) = (Vec::new(), 50_000..);
        let bound = bind_port(None, 0, |at| {
            asked.push(at);
            match (at.port(), at.is_ipv4()) {
                (0, _) => Ok(((), free.next().unwrap())),
                (port @ (50_000 | 50_001), false) => Err(BindError::InUse { port, scheme: "https" }),
                (port, _) => Ok(((), port)),
            }
        });
        assert_eq!(bound.unwrap(), (vec![(), ()], 50_002));
        assert_eq!(asked.len(), 6);
    }

    /// The addresses that are bound, on a machine with these faults.
    fn bound(
        given: &str,
        fault: impl Fn(SocketAddr) -> Option<io::ErrorKind>,
    ) -> Result<Vec<String>, BindError> {
        let bind = |at: SocketAddr| match fault(at).map(io::Error::from) {
            None => Ok((at.ip().to_string(), at.port())),
            Some(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(BindError::InUse { port: at.port(), scheme: "https" })
            }
            Some(source) => Err(BindError::Other { address: at, scheme: "https", source }),
        };
        bind_port(Some(given.parse().unwrap()), 8443, bind).map(|(addresses, _)| addresses)
    }

    #[test]
    fn unspecified_addresses_serve_both_families() {
        use io::ErrorKind::{AddrInUse, Unsupported};
        for given in ["0.0.0.0", "::"] {
            assert_eq!(bound(given, |_| None).unwrap(), ["::", "0.0.0.0"]);
            let shared = |at: SocketAddr| at.is_ipv4().then_some(AddrInUse);
            assert_eq!(bound(given, shared).unwrap(), ["::"], "one socket serves both");
            let without_ipv6 = |at: SocketAddr| at.is_ipv6().then_some(Unsupported);
            assert_eq!(bound(given, without_ipv6).unwrap(), ["0.0.0.0"]);
            assert!(matches!(bound(given, |_| Some(AddrInUse)), Err(BindError::InUse { .. })));
            assert!(matches!(bound(given, |_| Some(Unsupported)), Err(BindError::Other { .. })));
        }
    }

    #[test]
    fn every_name_of_the_certificate_leads_to_a_listener() {
        assert_eq!(bound("192.0.2.7", |_| None).unwrap(), ["192.0.2.7", "127.0.0.1", "::1"]);
        assert_eq!(bound("::1", |_| None).unwrap(), ["::1", "127.0.0.1"]);
        let absent = |at: SocketAddr| {
            at.ip().to_string().starts_with("192").then_some(io::ErrorKind::AddrNotAvailable)
        };
        assert!(matches!(bound("192.0.2.7", absent), Err(BindError::Other { .. })));
    }

    #[test]
    fn reasons_are_shown_and_exposed() {
        let mut reply = Response::new(Bytes::new());
        reply.extensions_mut().insert(Reason("the date is old".to_owned()));
        show_reason(&mut reply);
        assert!(reply.headers().is_empty(), "only a 401 has a reason");
        *reply.status_mut() = StatusCode::UNAUTHORIZED;
        reply.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("MS-CV"));
        show_reason(&mut reply);
        assert_eq!(reply.headers()["x-acs-identity-reason"], "the date is old");
        assert_eq!(reply.headers()[ACCESS_CONTROL_EXPOSE_HEADERS], "MS-CV, x-acs-identity-reason");
    }

    #[test]
    fn given_ports_are_tried_once() {
        for port in [0, 8443] {
            let mut attempts = 0;
            let bound = bind_port::<()>(None, port, |at| {
                attempts += 1;
                Err(BindError::InUse { port: at.port(), scheme: "https" })
            });
            assert!(matches!(bound, Err(BindError::InUse { .. })));
            assert_eq!(attempts, if port == 0 { PORT_ATTEMPTS } else { 1 });
        }
    }
}
