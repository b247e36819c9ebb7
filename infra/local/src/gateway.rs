//! The listeners: HTTPS and HTTP on loopback, HTTP/1.1 and 2, one service behind them.
//!
//! What it adds to the core is what a gateway adds: TLS, size and time limits, the raw request target.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use identity::authn::target::Target;
use identity::limits::MAX_BODY;
use identity::service::{Body, Inbound, Service};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

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

/// How long a client may take for its request's head, its body, a TLS handshake.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long requests under way may take once the server is stopping.
const FAREWELL: Duration = Duration::from_secs(5);

/// How much of a body that is too large is read before the refusal: a client that is still writing would
/// otherwise meet a closed connection instead of the answer.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;

impl Listeners {
    /// Binds both ports on loopback, or on the one address given.
    ///
    /// # Errors
    /// [`BindError`] naming the port and what to do.
    pub fn bind(address: Option<IpAddr>, https_port: u16, http_port: u16) -> Result<Self, BindError> {
        let (https, https_port) = bind_port(address, https_port, "https")?;
        let (http, http_port) = bind_port(address, http_port, "http")?;
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
        service: Arc<Service>,
        tls: Arc<rustls::ServerConfig>,
        stop: impl Future<Output = ()>,
    ) {
        let graceful = GracefulShutdown::new();
        let acceptor = TlsAcceptor::from(tls);
        // A rendezvous: a listener accepts the next connection once the last one has its task.
        let (accepted, mut connections) = mpsc::channel(1);
        let mut listening = JoinSet::new();
        for listener in self.https {
            listening.spawn(accept(listener, Some(acceptor.clone()), accepted.clone()));
        }
        for listener in self.http {
            listening.spawn(accept(listener, None, accepted.clone()));
        }
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some((stream, tls)) = connections.recv() => {
                    tokio::spawn(connection(stream, tls, Arc::clone(&service), graceful.watcher()));
                }
            }
        }
        listening.shutdown().await;
        // Requests that take longer are cut off: the process is ending.
        let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
    }
}

type Accepted = (TcpStream, Option<TlsAcceptor>);

/// Binds one port on every loopback address this machine has, or on the address given.
fn bind_port(
    address: Option<IpAddr>,
    port: u16,
    scheme: &'static str,
) -> Result<(Vec<TcpListener>, u16), BindError> {
    let first = bind_socket(SocketAddr::new(address.unwrap_or(Ipv4Addr::LOCALHOST.into()), port), scheme)?;
    let port = first.1;
    let mut listeners = vec![first.0];
    if address.is_none() {
        match bind_socket(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), scheme) {
            Ok((listener, _)) => listeners.push(listener),
            Err(BindError::InUse { port, scheme }) => return Err(BindError::InUse { port, scheme }),
            // A machine without IPv6.
            Err(BindError::Other { .. }) => {}
        }
    }
    Ok((listeners, port))
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

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, accepted: mpsc::Sender<Accepted>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: a connection that closes frees one.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Small replies must not wait for more; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        if accepted.send((stream, tls.clone())).await.is_err() {
            return;
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, service: Arc<Service>, watcher: Watcher) {
    match tls {
        None => serve_connection(stream, service, watcher).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
                serve_connection(stream, service, watcher).await;
            }
        }
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Arc<Service>,
    watcher: Watcher,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE);
    let respond = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { respond(&service, request).await }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), respond).into_owned();
    // A connection that breaks has nobody left to be told.
    let _ = watcher.watch(connection).await;
}

/// The client stopped sending its body, or took too long: the connection ends, for there is no request.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not arrive")]
struct BrokenBody;

async fn respond(service: &Service, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, BrokenBody> {
    let (mut parts, body) = request.into_parts();
    let body = tokio::time::timeout(PATIENCE, read(body)).await.map_err(|_| BrokenBody)??;
    name_host(&mut parts);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let inbound =
        Inbound { method: parts.method, target: Target::from_wire(target), headers: parts.headers, body };
    let response = service.handle(inbound).await;
    Ok(response.map(Full::new))
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
