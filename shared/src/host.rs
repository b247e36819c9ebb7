//! Hosts, and the forms in which SDKs sign them (docs/wire-contract.md#host-value).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// A host name with the port that clients address. The port is absent if the scheme implies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    name: String,
    port: Option<u16>,
}

/// The text is not `host` or `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither host nor host:port")]
pub struct MalformedAuthorityError;

/// The port that the scheme implies. SDKs send it if the connection string contains it.
const HTTPS_PORT: u16 = 443;

impl Authority {
    /// A host at a port.
    ///
    /// # Errors
    /// [`MalformedAuthorityError`] if the name is not a host name.
    pub fn new(name: &str, port: u16) -> Result<Self, MalformedAuthorityError> {
        Ok(Self { name: parse_name(name)?, port: Some(port) })
    }

    /// The name in lower case, or the address. An IPv6 address is in brackets.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The port. `None` if the scheme implies it.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The values of `Host` that SDKs send for this authority: the plain value, the value without the port (Java), and
    /// the value with the port twice (JavaScript before communication-common 2.4.2).
    fn received(&self) -> [String; 3] {
        let name = &self.name;
        let port = self.port.unwrap_or(HTTPS_PORT);
        let (without, with) = (name.clone(), format!("{name}:{port}"));
        let doubled = format!("{name}:{port}:{port}");
        if self.port.is_some() { [with, without, doubled] } else { [without, with, doubled] }
    }

    /// The values that SDKs sign for this authority, most likely first. The Python SDK keeps the final slash of its
    /// endpoint.
    fn signed(&self) -> Vec<String> {
        let [plain, other, doubled] = self.received();
        let slashed = [format!("{plain}/"), format!("{other}/")];
        [plain, other, doubled].into_iter().chain(slashed).collect()
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
    type Err = MalformedAuthorityError;

    fn from_str(text: &str) -> Result<Self, MalformedAuthorityError> {
        match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|_| digits).ok_or(MalformedAuthorityError)?;
                Self::new(name, port)
            }
            _ => Ok(Self { name: parse_name(text)?, port: None }),
        }
    }
}

/// Whether a value of `Host` has a loopback name (RFC 6761 section 6.3) or a loopback address, at any port.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(host),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.to_canonical().is_loopback();
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn parse_name(text: &str) -> Result<String, MalformedAuthorityError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let closed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let is_name = match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => (1..=253).contains(&text.len()) && text.bytes().all(closed),
    };
    if is_name { Ok(text.to_ascii_lowercase()) } else { Err(MalformedAuthorityError) }
}

/// The hosts accepted in `Host` and in signatures. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    public: Authority,
    others: Vec<Authority>,
    /// The candidates by value of `Host`. The list is built once, because every request needs it.
    candidates: Vec<(String, Arc<[String]>)>,
}

impl Hosts {
    /// The public host, and the other hosts that clients may address.
    #[must_use]
    pub fn new(public: Authority, others: Vec<Authority>) -> Self {
        let mut hosts = Self { public, others, candidates: Vec::new() };
        let received: Vec<String> = hosts.iter().flat_map(Authority::received).collect();
        for received in received {
            if hosts.candidates(&received).is_none() {
                let candidates = hosts.candidates_for(&received);
                hosts.candidates.push((received, candidates));
            }
        }
        hosts
    }

    /// The host in published addresses.
    #[must_use]
    pub fn public(&self) -> &Authority {
        &self.public
    }

    /// Every accepted host. The public host comes first.
    pub fn iter(&self) -> impl Iterator<Item = &Authority> {
        std::iter::once(&self.public).chain(&self.others)
    }

    /// The candidates for the signed host of a request with this `Host`. `None` if `Host` is not an accepted host.
    ///
    /// The candidates are all forms of the accepted hosts that `Host` can be a form of. A proxy in front may have
    /// rewritten `Host`. So the forms of the public host are added if no such host has its name. A candidate alone
    /// proves nothing, because the signature still needs the key.
    #[must_use]
    pub fn candidates(&self, received: &str) -> Option<&Arc<[String]>> {
        let named = self.candidates.iter().find(|(known, _)| known.eq_ignore_ascii_case(received));
        named.map(|(_, candidates)| candidates)
    }

    fn candidates_for(&self, received: &str) -> Arc<[String]> {
        let is_addressed = |host: &&Authority| host.received().iter().any(|form| form == received);
        let mut addressed: Vec<&Authority> = self.iter().filter(is_addressed).collect();
        if addressed.iter().all(|host| host.name != self.public.name) {
            addressed.push(&self.public);
        }
        let mut candidates: Vec<String> = Vec::new();
        for candidate in addressed.into_iter().flat_map(Authority::signed) {
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        candidates.into()
    }
}

impl FromStr for Hosts {
    type Err = MalformedAuthorityError;

    /// Parses a comma list. The public host comes first.
    fn from_str(text: &str) -> Result<Self, MalformedAuthorityError> {
        let mut hosts = text.split(',').map(|host| host.trim().parse::<Authority>());
        let public = hosts.next().ok_or(MalformedAuthorityError)??;
        Ok(Self::new(public, hosts.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Hosts {
        text.parse().unwrap()
    }

    #[test]
    fn authorities_parse_and_print_unchanged() {
        for text in ["localhost:8443", "identity.example.com", "127.0.0.1:8080", "[::1]:8443", "[::1]"] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), text);
        }
        for text in
            ["", ":1", "a:", "a:b", "a:99999", "a:+1", "a b", "a/", "a@b", "ä", "::1", "a:1:1", "[x]:1"]
        {
            assert_eq!(text.parse::<Authority>(), Err(MalformedAuthorityError), "{text}");
        }
    }

    #[test]
    fn loopback_hosts_have_any_port_and_letter_case() {
        for host in [
            "localhost",
            "localhost:8443",
            "LocalHost:8443:8443",
            "localhost.",
            "app.localhost:3000",
            "127.0.0.1",
            "127.1.2.3:80",
            "[::1]",
            "[::1]:8443",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "identity.example.com",
            "localhost.example.com",
            "mylocalhost",
            "128.0.0.1",
            "[::2]:1",
            "[",
            "::1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn every_sdk_form_of_the_host_is_a_candidate() {
        let hosts = hosts("localhost:8443,127.0.0.1:8443");
        for received in ["localhost:8443", "localhost", "localhost:8443:8443", "LocalHost:8443"] {
            let candidates = hosts.candidates(received).unwrap();
            let forms =
                ["localhost:8443", "localhost", "localhost:8443:8443", "localhost:8443/", "localhost/"];
            assert_eq!(**candidates, forms.map(str::to_owned), "{received}");
        }
    }

    #[test]
    fn unknown_hosts_have_no_candidates() {
        let hosts = hosts("localhost:8443");
        for received in
            ["", "localhost:8444", "localhost.", "localhost:8443:8444", "evil", "localhost:8443@evil"]
        {
            assert_eq!(hosts.candidates(received), None, "{received}");
        }
    }

    #[test]
    fn hosts_behind_a_proxy_admit_the_public_host() {
        let hosts = hosts("identity.example.com,abc.example.net");
        let candidates = hosts.candidates("abc.example.net").unwrap();
        assert!(candidates.contains(&"identity.example.com".to_owned()));
        assert!(candidates.contains(&"identity.example.com:443".to_owned()));
    }

    #[test]
    fn ports_of_the_public_host_are_distinct() {
        let hosts = hosts("localhost:8443,localhost:8080");
        assert!(!hosts.candidates("localhost:8080").unwrap().iter().any(|host| host.contains("8443")));
        assert!(hosts.candidates("localhost").unwrap().iter().any(|host| host.contains("8443")));
    }
}
