//! Hosts, and the forms in which SDKs sign them (docs/wire-contract.md#host-value).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

/// A host name with the port that clients address. The port is absent if the scheme implies it. Its text is in lower
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// In lower case.
    name: String,
    /// The name in the letter case of the configuration. Some clients sign this spelling.
    spelling: String,
    port: Option<u16>,
}

/// The text is not `host` or `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither host nor host:port")]
pub struct MalformedAuthorityError;

/// The port that the scheme implies. SDKs send it if the connection string contains it.
const HTTPS_PORT: u16 = 443;

/// The longest host name (RFC 1035 section 2.3.4), and its longest label.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A text that a client may have signed as host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCandidate {
    pub text: String,
    pub form: HostForm,
}

/// The form of a signed host. Decision record 0005 lists the clients of each form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostForm {
    /// The received `Host`, byte for byte.
    AsReceived,
    /// An accepted host, with or without its port.
    Plain,
    /// An accepted host with its port twice.
    Doubled,
    /// An accepted host with a slash at its end.
    Slashed,
}

impl Authority {
    /// A host at a port.
    ///
    /// # Errors
    /// [`MalformedAuthorityError`] if the name is not a host name.
    pub fn new(name: &str, port: u16) -> Result<Self, MalformedAuthorityError> {
        Self::parse(name, Some(port))
    }

    fn parse(name: &str, port: Option<u16>) -> Result<Self, MalformedAuthorityError> {
        Ok(Self { name: parse_name(name)?, spelling: name.to_owned(), port })
    }

    /// The name in lower case, or the address. An IPv6 address is in brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port. `None` if the scheme implies it.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// The text in the letter case of the configuration.
    #[must_use]
    pub fn as_given(&self) -> String {
        with_port(&self.spelling, self.port)
    }

    /// Whether clients of this authority may send this `Host`: the name with the port, without it (Java), or with the
    /// port twice (JavaScript before communication-common 2.4.2).
    fn is_addressed_by(&self, received: &Received<'_>) -> bool {
        let port = self.port.unwrap_or(HTTPS_PORT);
        self.name.eq_ignore_ascii_case(received.name) && received.port.is_none_or(|sent| sent == port)
    }

    /// The candidates for this authority with the name in this spelling, most likely first. The Python SDK keeps the
    /// final slash of its endpoint.
    fn signed(&self, spelling: &str) -> Vec<HostCandidate> {
        let port = self.port.unwrap_or(HTTPS_PORT);
        let with = with_port(spelling, Some(port));
        let texts = [
            Some((self.port.map_or(spelling, |_| &with).to_owned(), HostForm::Plain)),
            Some((self.port.map_or(with.as_str(), |_| spelling).to_owned(), HostForm::Plain)),
            Some((format!("{with}:{port}"), HostForm::Doubled)),
            Some((with_port(spelling, self.port) + "/", HostForm::Slashed)),
            // A client that has the port of HTTPS in its endpoint does not send it.
            self.port.is_none().then(|| (format!("{with}/"), HostForm::Slashed)),
        ];
        texts.into_iter().flatten().map(|(text, form)| HostCandidate { text, form }).collect()
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_port(&self.name, self.port))
    }
}

impl FromStr for Authority {
    type Err = MalformedAuthorityError;

    fn from_str(text: &str) -> Result<Self, MalformedAuthorityError> {
        match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                // No client can address port 0.
                let port = port.parse().ok().filter(|port| digits && *port > 0);
                let port = port.ok_or(MalformedAuthorityError)?;
                Self::new(name, port)
            }
            _ => Self::parse(text, None),
        }
    }
}

fn with_port(name: &str, port: Option<u16>) -> String {
    port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// A value of `Host`: a name, a name with a port, or a name with the same port twice.
struct Received<'a> {
    name: &'a str,
    port: Option<u16>,
}

impl<'a> Received<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let end =
            if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
        let (name, rest) = text.split_at_checked(end)?;
        if rest.is_empty() {
            return Some(Self { name, port: None });
        }
        let ports = rest.strip_prefix(':')?;
        let port = match ports.split_once(':') {
            Some((first, second)) if first == second => first,
            Some(_) => return None,
            None => ports,
        };
        let number: u16 = port.parse().ok().filter(|number: &u16| number.to_string() == port)?;
        Some(Self { name, port: Some(number) })
    }
}

/// Whether a value of `Host` has a loopback name (RFC 6761 section 6.3) or a loopback address, at any port.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or(host),
    };
    let label = name.strip_suffix('.').unwrap_or(name).rsplit('.').next();
    label.is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn parse_name(text: &str) -> Result<String, MalformedAuthorityError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let closed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let is_name = match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(closed),
    };
    if is_name { Ok(text.to_ascii_lowercase()) } else { Err(MalformedAuthorityError) }
}

/// Whether each label has letters, digits and inner hyphens only (RFC 1123 section 2.1). Such a name can stand in a log
/// and in a command.
fn has_valid_labels(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.starts_with('[') || name.split('.').all(is_label)
}

/// A `Host` that is not accepted. Its text is safe for logs: it shows the host only if that is a valid host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownHostError {
    #[error("the Host header is not a host name")]
    Malformed,
    /// A deployment has a closed list.
    #[error(
        "the Host header names {0}, which is not in ACCEPTED_HOSTS; address an accepted host, or add this one"
    )]
    NotListed(String),
    /// The local server takes names on its command line.
    #[error(
        "the Host header names {0}, which is no name of this server; start it with --host {0} to add the name"
    )]
    NotNamed(String),
}

/// The hosts accepted in `Host` and in signatures. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    public: Authority,
    others: Vec<Authority>,
    /// Whether the port in `Host` may be any port, because a container or a tunnel may map ports.
    any_port: bool,
    /// The candidates by value of `Host`. The list is built once, because every request needs it.
    candidates: Vec<(String, Arc<[HostCandidate]>)>,
}

impl Hosts {
    /// The public host, and the other hosts that clients may address.
    #[must_use]
    pub fn new(public: Authority, others: Vec<Authority>) -> Self {
        let mut hosts = Self { public, others, any_port: false, candidates: Vec::new() };
        let received = |host: &Authority| {
            let port = host.port.unwrap_or(HTTPS_PORT);
            [host.name.clone(), format!("{}:{port}", host.name), format!("{0}:{port}:{port}", host.name)]
        };
        let received: Vec<String> = hosts.iter().flat_map(received).collect();
        for received in received {
            if let Ok(candidates) = hosts.candidates(&received)
                && hosts.known(&received).is_none()
            {
                hosts.candidates.push((received, candidates));
            }
        }
        hosts
    }

    /// These hosts, each at any port.
    #[must_use]
    pub fn at_any_port(self) -> Self {
        Self { any_port: true, ..self }
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

    /// The candidates for the signed host of a request with this `Host`, most likely first.
    ///
    /// The candidates are the received text, and all forms of the accepted hosts that it can be a form of. A proxy in
    /// front may have rewritten `Host`. So the forms of the public host are added if no such host has its name. A
    /// candidate alone proves nothing, because the signature still needs the key.
    ///
    /// # Errors
    /// [`UnknownHostError`] if `Host` is not an accepted host.
    pub fn candidates(&self, received: &str) -> Result<Arc<[HostCandidate]>, UnknownHostError> {
        if let Some(known) = self.known(received) {
            return Ok(Arc::clone(known));
        }
        let parsed = Received::parse(received).ok_or(UnknownHostError::Malformed)?;
        let mut addressed = self.addressed(&parsed);
        if addressed.is_empty() {
            return Err(self.unknown(parsed.name));
        }
        let mut candidates = vec![HostCandidate { text: received.to_owned(), form: HostForm::AsReceived }];
        if addressed.iter().all(|host| host.name != self.public.name) {
            addressed.push(self.public.clone());
        }
        for host in &addressed {
            let mut spellings = vec![host.name.as_str(), &host.spelling];
            if host.name.eq_ignore_ascii_case(parsed.name) {
                spellings.insert(0, parsed.name);
            }
            for candidate in spellings.into_iter().flat_map(|spelling| host.signed(spelling)) {
                if candidates.iter().all(|known| known.text != candidate.text) {
                    candidates.push(candidate);
                }
            }
        }
        Ok(candidates.into())
    }

    fn known(&self, received: &str) -> Option<&Arc<[HostCandidate]>> {
        self.candidates.iter().find(|(known, _)| known == received).map(|(_, candidates)| candidates)
    }

    /// The accepted hosts that `Host` can be a form of. A known name at another port is one too, if ports are free.
    fn addressed(&self, received: &Received<'_>) -> Vec<Authority> {
        let addressed: Vec<_> = self.iter().filter(|host| host.is_addressed_by(received)).cloned().collect();
        if !addressed.is_empty() || !self.any_port {
            return addressed;
        }
        let named = self.iter().filter(|host| host.name.eq_ignore_ascii_case(received.name));
        named.map(|host| Authority { port: received.port, ..host.clone() }).collect()
    }

    fn unknown(&self, name: &str) -> UnknownHostError {
        match parse_name(name) {
            Ok(name) if !has_valid_labels(&name) => UnknownHostError::Malformed,
            Ok(name) if self.any_port => UnknownHostError::NotNamed(name),
            Ok(name) => UnknownHostError::NotListed(name),
            Err(MalformedAuthorityError) => UnknownHostError::Malformed,
        }
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
        for text in [
            "", ":1", "a:", "a:b", "a:0", "a:99999", "a:+1", "a b", "a/", "a@b", "ä", "::1", "a:1:1", "[x]:1",
        ] {
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

    fn texts(hosts: &Hosts, received: &str) -> Vec<String> {
        hosts.candidates(received).unwrap().iter().map(|candidate| candidate.text.clone()).collect()
    }

    #[test]
    fn every_sdk_form_of_the_host_is_a_candidate() {
        let hosts = hosts("localhost:8443,127.0.0.1:8443");
        let forms = ["localhost:8443", "localhost", "localhost:8443:8443", "localhost:8443/"];
        for received in ["localhost:8443", "localhost", "localhost:8443:8443"] {
            let mut candidates = texts(&hosts, received);
            assert_eq!(candidates[0], received, "the received text is the likeliest");
            candidates.sort_by_key(|text| forms.iter().position(|form| form == text));
            assert_eq!(candidates, forms, "{received}");
        }
        let implied = "identity.example.com".parse().unwrap();
        let forms = ["", ":443", ":443:443", "/", ":443/"].map(|end| format!("identity.example.com{end}"));
        assert_eq!(texts(&implied, "identity.example.com"), forms);
    }

    #[test]
    fn letter_case_is_a_candidate_as_received_and_as_configured() {
        let hosts = hosts("LocalHost:8443");
        assert_eq!(hosts.public().to_string(), "localhost:8443");
        let configured = texts(&hosts, "localhost:8443");
        for signed in ["localhost:8443", "LocalHost:8443", "LocalHost", "LocalHost:8443/"] {
            assert!(configured.contains(&signed.to_owned()), "{signed} in {configured:?}");
        }
        let received = texts(&hosts, "LOCALHOST:8443");
        assert_eq!(received[0], "LOCALHOST:8443");
        for signed in ["LOCALHOST", "localhost:8443", "LocalHost:8443"] {
            assert!(received.contains(&signed.to_owned()), "{signed} in {received:?}");
        }
        assert!(!configured.contains(&"LOCALHOST:8443".to_owned()), "nobody gave this spelling");
    }

    #[test]
    fn unknown_hosts_have_no_candidates() {
        let hosts = hosts("localhost:8443");
        for received in
            ["", "localhost:8444", "localhost.", "localhost:8443:8444", "evil", "localhost:8443@evil"]
        {
            assert!(hosts.candidates(received).is_err(), "{received}");
        }
    }

    #[test]
    fn known_names_have_candidates_at_any_port_if_ports_are_free() {
        let hosts = hosts("localhost:8443,localhost:8080,[::1]:8443").at_any_port();
        for received in ["localhost:32768", "LocalHost:1", "[::1]:32768", "localhost:32768:32768"] {
            let candidates = texts(&hosts, received);
            assert_eq!(candidates[0], received);
            assert!(!candidates.iter().any(|text| text == "localhost:8080"), "{candidates:?}");
        }
        for received in [
            "localhost:",
            "localhost:0x1",
            "localhost:65536",
            "localhost:01",
            "localhost:1:2",
            "evil:1",
            "::1",
        ] {
            assert!(hosts.candidates(received).is_err(), "{received}");
        }
    }

    #[test]
    fn only_valid_names_are_shown() {
        let local = hosts("localhost:8443").at_any_port();
        for (received, shown) in [
            ("Host.Docker.Internal:8443", "host.docker.internal"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("192.0.2.7:1:1", "192.0.2.7"),
        ] {
            let error = local.candidates(received).unwrap_err();
            assert_eq!(error, UnknownHostError::NotNamed(shown.to_owned()));
            assert!(error.to_string().contains(&format!("--host {shown} ")), "{error}");
        }
        let long = "a".repeat(64);
        for received in ["-rf:1", "a-", "a..b", ".", "a b", "a\n", "\u{1b}[31m", "ä", "a;b", "", &long, "[x]"]
        {
            assert_eq!(local.candidates(received).unwrap_err(), UnknownHostError::Malformed, "{received}");
        }
        let listed = hosts("localhost:8443").candidates("evil.example").unwrap_err();
        assert_eq!(listed, UnknownHostError::NotListed("evil.example".to_owned()));
    }

    #[test]
    fn hosts_behind_a_proxy_admit_the_public_host() {
        let candidates = texts(&hosts("identity.example.com,abc.example.net"), "abc.example.net");
        assert!(candidates.contains(&"identity.example.com".to_owned()));
        assert!(candidates.contains(&"identity.example.com:443".to_owned()));
    }

    #[test]
    fn ports_of_the_public_host_are_distinct() {
        let hosts = hosts("localhost:8443,localhost:8080");
        assert!(!texts(&hosts, "localhost:8080").iter().any(|host| host.contains("8443")));
        assert!(texts(&hosts, "localhost").iter().any(|host| host.contains("8443")));
    }
}
