//! Ports, bound on every address of the server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

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

/// Attempts to find a port that is free on every address.
const PORT_ATTEMPTS: u32 = 16;

/// Connections that wait until they are accepted. The system may allow fewer. If this number is too small, a burst of
/// connections makes other clients repeat their attempt after a second.
const BACKLOG: u32 = 4096;

/// The addresses of the server. The first one must be there. Both addresses of loopback are always included, because
/// the certificate has them.
fn addresses(given: Option<IpAddr>) -> Vec<IpAddr> {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mut addresses: Vec<IpAddr> = given.into_iter().collect();
    addresses.extend(loopback.into_iter().filter(|address| Some(*address) != given));
    addresses
}

/// Binds one port on every address of the server.
pub(crate) fn bind_port<S>(
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

pub(crate) fn bind_socket(
    address: SocketAddr,
    scheme: &'static str,
) -> Result<(TcpListener, u16), BindError> {
    let bind = || -> io::Result<(TcpListener, u16)> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As the standard library does. A port can be bound again right after a stop.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let port = listener.local_addr()?.port();
        Ok((listener, port))
    };
    bind().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { port: address.port(), scheme },
        _ => BindError::Other { address, scheme, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
