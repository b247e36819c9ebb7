//! The listeners: HTTPS and HTTP, HTTP/1.1 and 2, one service behind them.
//!
//! What it adds to the core is what a gateway adds: TLS, limits of size, time and number, the raw request
//! target.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use identity::api::cors::ReadableBy;
use identity::api::limits::MAX_BODY;
use identity::api::pipeline::{self, Body};
use identity::api::reply;
use identity::api::service::Service;
use identity::authn::target::Target;
use identity::authorization::authorizer::Authorizer;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::entra::EntraStandIn;
use crate::health::Health;
use crate::invoke;

/// What stands behind the listeners.
pub struct Router {
    pub service: Arc<Service>,
    /// For resource servers on this machine.
    pub authorizer: Arc<Authorizer>,
    /// The stand-in for Entra, if it is on.
    pub entra: Option<Arc<EntraStandIn>>,
    /// Answers probes.
    pub health: Health,
}

/// Sockets that are bound but not yet served.
pub struct Listeners {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    https_port: u16,
    http_port: u16,
}

/// A port cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("port {port} is already in use; stop what uses it, or choose another with --{scheme}-port")]
    InUse { port: u16, scheme: &'static str },
    #[error("cannot listen on {address}: {source}")]
    Other { address: SocketAddr, source: io::Error },
}

/// How long clients may take, and how many may come at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a TLS handshake, a request's head, a request's body; and how long a connection may be open
    /// without a request, or twice that.
    pub idle_timeout: Duration,
    /// For what is under way on a connection that is ending.
    pub shutdown_grace: Duration,
    /// Connections open at the same time; others wait in the system's queue.
    pub connections: usize,
}

/// Half of the 1,024 files that a process commonly may have open: the state needs some too.
const MAX_CONNECTIONS: usize = 512;

/// Largest head of a request, in bytes: several times what a gateway of AWS lets through.
const MAX_HEAD: u32 = 64 * 1024;

/// How much of a body that is too large is read before the refusal: a client that is still writing would
/// otherwise meet a closed connection instead of the answer.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

/// How often a free port is looked for that is free on every address.
const PORT_ATTEMPTS: u32 = 16;

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(15),
            shutdown_grace: Duration::from_secs(5),
            connections: MAX_CONNECTIONS,
        }
    }
}

impl Listeners {
    /// Binds both ports on loopback, or on the one address given. Port 0 takes any free one.
    ///
    /// # Errors
    /// [`BindError`] naming the port and what to do.
    pub fn bind(address: Option<IpAddr>, https_port: u16, http_port: u16) -> Result<Self, BindError> {
        let (https, https_port) = bind_port(address, https_port, |at| bind_socket(at, "https"))?;
        let (http, http_port) = bind_port(address, http_port, |at| bind_socket(at, "http"))?;
        Ok(Self { https, http, https_port, http_port })
    }

    /// The port HTTPS is served on.
    #[must_use]
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port HTTP is served on.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Serves until `stop` is ready, then lets requests under way finish.
    pub async fn serve(
        self,
        router: Arc<Router>,
        tls: Arc<ServerConfig>,
        limits: Limits,
        stop: impl Future<Output = ()>,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        let (stopping, _) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                (stream, secure) = self.accept(), if connections.len() < limits.connections => {
                    let router = Arc::clone(&router);
                    let connection = Connection { router, limits, stopping: stopping.subscribe() };
                    connections.spawn(connection.serve(stream, secure.then(|| acceptor.clone())));
                }
            }
        }
        drop(self);
        stopping.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // Those that take longer are cut off: the process is ending.
        let _ = timeout(limits.shutdown_grace, ended).await;
    }

    /// The next connection, and whether it speaks TLS.
    async fn accept(&self) -> (TcpStream, bool) {
        loop {
            match poll_fn(|context| self.poll_accept(context)).await {
                Ok((stream, secure)) => {
                    // Small replies must not wait for more; a socket that refuses the option still works.
                    let _ = stream.set_nodelay(true);
                    return (stream, secure);
                }
                // Out of file descriptors, most likely: a connection that closes frees one.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, bool)>> {
        let https = self.https.iter().map(|listener| (listener, true));
        for (listener, secure) in https.chain(self.http.iter().map(|listener| (listener, false))) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| (stream, secure)));
            }
        }
        Poll::Pending
    }
}

/// Binds one port on every loopback address this machine has, or on the address given.
fn bind_port<S>(
    address: Option<IpAddr>,
    port: u16,
    mut bind: impl FnMut(SocketAddr) -> Result<(S, u16), BindError>,
) -> Result<(Vec<S>, u16), BindError> {
    let mut bind_all = || {
        let first = bind(SocketAddr::new(address.unwrap_or(Ipv4Addr::LOCALHOST.into()), port))?;
        let port = first.1;
        let mut sockets = vec![first.0];
        if address.is_none() {
            match bind(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)) {
                Ok((socket, _)) => sockets.push(socket),
                Err(in_use @ BindError::InUse { .. }) => return Err(in_use),
                // A machine without IPv6.
                Err(BindError::Other { .. }) => {}
            }
        }
        Ok((sockets, port))
    };
    // A port the system calls free on one address may be taken on the other.
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match bind_all() {
            Err(BindError::InUse { .. }) if attempts > 0 => {}
            outcome => return outcome,
        }
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
        _ => BindError::Other { address, source },
    })
}

/// What serves one connection.
struct Connection {
    router: Arc<Router>,
    limits: Limits,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let builder = auto::Builder::new(TokioExecutor::new());
        let Some(acceptor) = tls else {
            // A plain connection shows by its first bytes whether it is HTTP/2; `idle` bounds their arrival.
            return self.serve_http(stream, builder).await;
        };
        let Ok(Ok(stream)) = timeout(self.limits.idle_timeout, acceptor.accept(stream)).await else {
            return;
        };
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
        let Self { router, limits, mut stopping } = self;
        builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle_timeout);
        builder.http1().max_buf_size(MAX_HEAD as usize);
        builder.http2().max_header_list_size(MAX_HEAD);
        let activity = Arc::new(Activity::default());
        let seen = Arc::clone(&activity);
        let respond = service_fn(move |request| {
            let (router, under_way) = (Arc::clone(&router), UnderWay::begin(Arc::clone(&activity)));
            async move {
                let _under_way = under_way;
                respond(&router, request, limits.idle_timeout).await
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), respond).into_owned();
        let mut connection = pin!(connection);
        tokio::select! {
            // A connection that breaks has nobody left to be told.
            _ = connection.as_mut() => return,
            () = idle(&seen, limits.idle_timeout) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        // Whoever has not finished by then is cut off.
        let _ = timeout(limits.shutdown_grace, connection).await;
    }
}

/// What happens on one connection. Only counted: to wake the connection at each request would cost more.
#[derive(Default)]
struct Activity {
    under_way: AtomicUsize,
    /// Requests that began or ended.
    changes: AtomicU64,
}

/// A request that is being answered, as long as this lives; HTTP/2 has several on one connection.
struct UnderWay(Arc<Activity>);

impl UnderWay {
    fn begin(activity: Arc<Activity>) -> Self {
        activity.under_way.fetch_add(1, Ordering::Relaxed);
        activity.changes.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }
}

/// Also when the client takes its request back.
impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until nothing happened for `idle_timeout`, and at most twice as long: neither protocol says when the first
/// bytes must come, and an open connection costs a place.
async fn idle(activity: &Activity, idle_timeout: Duration) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(idle_timeout).await;
        let changes = activity.changes.load(Ordering::Relaxed);
        if changes == seen && activity.under_way.load(Ordering::Relaxed) == 0 {
            return;
        }
        seen = changes;
    }
}

/// The client stopped sending its body, or took too long: the connection ends, for there is no request.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not arrive")]
struct BrokenBody;

async fn respond(
    router: &Router,
    request: Request<Incoming>,
    idle_timeout: Duration,
) -> Result<Response<Full<Bytes>>, BrokenBody> {
    let (mut parts, body) = request.into_parts();
    let body = timeout(idle_timeout, read(body)).await.map_err(|_| BrokenBody)??;
    name_host(&mut parts);
    let target = Target::from_wire(parts.uri.path_and_query().map_or("/", |target| target.as_str()));
    if let Some(response) = router.health.answer(&router.service.settings, &target, &parts).await {
        return Ok(response.map(Full::new));
    }
    if let Body::Complete(event) = &body
        && invoke::is_asked(&parts.method, parts.uri.path())
    {
        return Ok(invoke::handle(&router.authorizer, event).await.map(Full::new));
    }
    if let (Some(entra), Body::Complete(body)) = (&router.entra, &body)
        && entra.answers(parts.uri.path())
    {
        return Ok(respond_as_entra(router, entra, &parts, body).map(Full::new));
    }
    let request = pipeline::Request { method: parts.method, target, headers: parts.headers, body };
    let response = router.service.handle(request).await;
    Ok(response.map(Full::new))
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
        Method::OPTIONS if parts.uri.path().ends_with("/token") => reply::with_methods("POST"),
        Method::OPTIONS => reply::with_methods("GET, HEAD"),
        Method::HEAD => entra.handle(&Method::GET, target, &parts.headers, body),
        _ => entra.handle(&parts.method, target, &parts.headers, body),
    };
    let readable_by = ReadableBy::Only(&router.service.settings.cors.users);
    readable_by.add_headers(&parts.method, &parts.headers, response.headers_mut());
    if parts.method == Method::HEAD {
        reply::drop_body(&mut response);
    }
    response
}

/// HTTP/2, and HTTP/1 requests in absolute form, name the host in the target. A `Host` header that says
/// something else is dropped: a request has one host or none.
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

async fn read(mut body: Incoming) -> Result<Body, BrokenBody> {
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
        if length <= MAX_BODY {
            kept.extend_from_slice(&data);
        }
    }
    Ok(if length > MAX_BODY { Body::TooLarge } else { Body::Complete(kept.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_one_that_is_free_on_every_address() {
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

    #[test]
    fn a_port_that_was_asked_for_is_tried_once() {
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
