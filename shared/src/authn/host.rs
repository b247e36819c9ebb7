//! Hosts, and the ways SDKs spell them when they sign (wire-contract section 7.3).

use std::fmt;
use std::str::FromStr;

use crate::settings::Hosts;

/// A host name with the port clients address, if it is not the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    name: String,
    port: Option<u16>,
    /// The host and, if not implied, the port, as the SDKs write it: plain; without the port (Java);
    /// with the port twice (JavaScript before communication-common 2.4.2). Every request is compared with them.
    spellings: [String; 3],
}

/// The text is no `host` or `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither host nor host:port")]
pub struct MalformedAuthority;

/// What may follow a host that was signed: the Python SDK signs the slash that its endpoint ends with.
pub const ENDINGS: [&str; 2] = ["", "/"];

/// The port SDKs spell out when a connection string does, although the scheme implies it.
const HTTPS_PORT: u16 = 443;

impl Authority {
    /// A host at a port.
    ///
    /// # Errors
    /// [`MalformedAuthority`] when the name is none.
    pub fn new(name: &str, port: u16) -> Result<Self, MalformedAuthority> {
        Self::of(name, Some(port))
    }

    fn of(name: &str, port: Option<u16>) -> Result<Self, MalformedAuthority> {
        let name = parse_name(name)?;
        let number = port.unwrap_or(HTTPS_PORT);
        let with_port = format!("{name}:{number}");
        let doubled = format!("{name}:{number}:{number}");
        let spellings = match port {
            Some(_) => [with_port, name.clone(), doubled],
            None => [name.clone(), with_port, doubled],
        };
        Ok(Self { name, port, spellings })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for Authority {
    type Err = MalformedAuthority;

    fn from_str(text: &str) -> Result<Self, MalformedAuthority> {
        match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|_| digits).ok_or(MalformedAuthority)?;
                Self::new(name, port)
            }
            _ => Self::of(text, None),
        }
    }
}

fn parse_name(text: &str) -> Result<String, MalformedAuthority> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let closed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let is_name = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => (1..=253).contains(&text.len()) && text.bytes().all(closed),
    };
    if is_name { Ok(text.to_ascii_lowercase()) } else { Err(MalformedAuthority) }
}

/// The hosts a signature may have been computed over, given the `Host` a request arrived with: every
/// spelling of the accepted hosts that `Host` is itself a spelling of, and of the public host (a proxy
/// in front may have rewritten `Host`). Each may have one of [`ENDINGS`]. Empty when `Host` is not an accepted host. Every candidate still needs
/// the key.
#[must_use]
pub fn candidates(hosts: &Hosts, received: &str) -> Vec<String> {
    let is_meant = |host: &Authority| host.spellings.iter().any(|one| one.eq_ignore_ascii_case(received));
    let named = || hosts.iter().filter(|host| is_meant(host));
    if named().next().is_none() {
        return Vec::new();
    }
    let mut spellings: Vec<String> = Vec::with_capacity(6);
    for spelling in named().chain([hosts.public()]).flat_map(|host| &host.spellings) {
        if !spellings.contains(spelling) {
            spellings.push(spelling.clone());
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Hosts {
        text.parse().unwrap()
    }

    #[test]
    fn authorities_parse_and_print() {
        for text in ["localhost:8443", "identity.example.com", "127.0.0.1:8080", "[::1]:8443", "[::1]"] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), text);
        }
        for text in
            ["", ":1", "a:", "a:b", "a:99999", "a:+1", "a b", "a/", "a@b", "ä", "::1", "a:1:1", "[x]:1"]
        {
            assert_eq!(text.parse::<Authority>(), Err(MalformedAuthority), "{text}");
        }
    }

    #[test]
    fn each_sdk_spelling_of_the_received_host_is_a_candidate() {
        let hosts = hosts("localhost:8443,127.0.0.1:8443");
        for received in ["localhost:8443", "localhost", "localhost:8443:8443", "LocalHost:8443"] {
            let candidates = candidates(&hosts, received);
            for spelling in ["localhost:8443", "localhost", "localhost:8443:8443"] {
                assert!(candidates.contains(&spelling.to_owned()), "{spelling} for {received}");
            }
            assert!(!candidates.iter().any(|host| host.starts_with("127")), "{received}");
        }
    }

    #[test]
    fn a_host_that_is_not_accepted_has_no_candidate() {
        let hosts = hosts("localhost:8443");
        for received in
            ["", "localhost:8444", "localhost.", "localhost:8443:8444", "evil", "localhost:8443@evil"]
        {
            assert!(candidates(&hosts, received).is_empty(), "{received}");
        }
    }

    #[test]
    fn a_host_behind_a_proxy_admits_the_public_host() {
        let candidates = candidates(&hosts("identity.example.com,abc.example.net"), "abc.example.net");
        assert!(candidates.contains(&"identity.example.com".to_owned()));
        assert!(candidates.contains(&"identity.example.com:443".to_owned()));
    }
}
