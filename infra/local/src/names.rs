//! The names and addresses of the server: for its certificate, for `Host`, and for the endpoint that clients get.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use identity::host::{Authority, Hosts, MalformedAuthorityError};

/// A host name in the letter case of the operator, or an IP address. Its text is as in a URL: in lower case, with an IPv6
/// address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    Name(String),
}

/// The text is neither a host name nor an IP address, or it has a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither a host name nor an IP address; give one such as acs.internal or 192.0.2.7, without scheme and port"
)]
pub struct MalformedHost;

/// The host, and the port if it is not 443, that clients address in front of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicAuthority {
    host: Host,
    authority: Authority,
}

/// The text is neither a host nor a host with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a host nor host:port; give one such as localhost:32768 or acs.internal, without scheme")]
pub struct MalformedPublicAuthority;

/// The names of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames {
    public: Host,
    /// Distinct, and different from `public`.
    others: Vec<Host>,
    /// The public authority, if it is not the public name at the port of HTTPS.
    authority: Option<Authority>,
}

impl Host {
    /// The text in certificates, which has no brackets.
    fn bare(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Name(name) => name.to_ascii_lowercase(),
        }
    }

    /// The host at a port, with the letter case of the operator.
    fn at(&self, port: u16) -> Result<Authority, MalformedAuthorityError> {
        match self {
            Self::Address(_) => Authority::new(&self.to_string(), port),
            Self::Name(name) => Authority::new(name, port),
        }
    }
}

impl FromStr for PublicAuthority {
    type Err = MalformedPublicAuthority;

    fn from_str(text: &str) -> Result<Self, MalformedPublicAuthority> {
        let authority: Authority = text.parse().map_err(|_| MalformedPublicAuthority)?;
        let host = authority.name().parse().map_err(|_| MalformedPublicAuthority)?;
        Ok(Self { host, authority })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(&name.to_ascii_lowercase()),
        }
    }
}

impl FromStr for Host {
    type Err = MalformedHost;

    fn from_str(text: &str) -> Result<Self, MalformedHost> {
        if let Some(bare) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return bare.parse().map(|address| Self::Address(IpAddr::V6(address))).map_err(|_| MalformedHost);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match rustls::pki_types::DnsName::try_from(text) {
            // A certificate has no trailing dot, and an accepted host has no underscore.
            Ok(_) if !text.ends_with('.') && Authority::new(text, 0).is_ok() => {
                Ok(Self::Name(text.to_owned()))
            }
            _ => Err(MalformedHost),
        }
    }
}

impl ServerNames {
    /// The names of a server that listens on the address `listen`, or on loopback by default. The names of loopback
    /// and the `further` names of the operator are always among them.
    ///
    /// The public name is `localhost` where that leads to the server. Otherwise it is the first further name, or the
    /// address when there is no further name.
    #[must_use]
    pub fn new(listen: Option<IpAddr>, further: Vec<Host>) -> Self {
        let localhost = Host::Name("localhost".to_owned());
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let first = further.first().cloned();
        let public = match listen {
            Some(any) if any.is_unspecified() => first.unwrap_or_else(|| localhost.clone()),
            Some(address) if !loopback.contains(&address) => first.unwrap_or(Host::Address(address)),
            _ => localhost.clone(),
        };
        let own = std::iter::once(localhost).chain(loopback.map(Host::Address));
        let address = listen.filter(|address| !address.is_unspecified()).map(Host::Address);
        let mut others = Vec::new();
        for name in own.chain(address).chain(further) {
            if name != public && !others.contains(&name) {
                others.push(name);
            }
        }
        Self { public, others, authority: None }
    }

    /// These names with this public authority, if one is given. Its name becomes the public name.
    #[must_use]
    pub fn with_authority(self, public: Option<PublicAuthority>) -> Self {
        let Some(PublicAuthority { host, authority }) = public else { return self };
        let others = std::iter::once(self.public).chain(self.others).filter(|name| *name != host).collect();
        Self { public: host, others, authority: Some(authority) }
    }

    /// The public name.
    #[must_use]
    pub fn public(&self) -> &Host {
        &self.public
    }

    /// The authority in the endpoint and in published addresses.
    ///
    /// # Errors
    /// [`MalformedAuthorityError`] for a name that cannot be in `Host`.
    pub fn authority(&self, https_port: u16) -> Result<Authority, MalformedAuthorityError> {
        self.authority.clone().map_or_else(|| self.public.at(https_port), Ok)
    }

    fn iter(&self) -> impl Iterator<Item = &Host> {
        std::iter::once(&self.public).chain(&self.others)
    }

    /// Every name, as in certificates.
    #[must_use]
    pub fn certified(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.iter().map(Host::bare) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The accepted values of `Host`: the public authority, every name at both ports, and every name at any other port,
    /// because a container or a tunnel may map ports.
    ///
    /// # Errors
    /// [`MalformedAuthorityError`] for a name that cannot be in `Host`.
    pub fn accepted(&self, https_port: u16, http_port: u16) -> Result<Hosts, MalformedAuthorityError> {
        let mut others = vec![self.public.at(http_port)?];
        if self.authority.is_some() {
            others.push(self.public.at(https_port)?);
        }
        for name in &self.others {
            others.extend([name.at(https_port)?, name.at(http_port)?]);
        }
        Ok(Hosts::new(self.authority(https_port)?, others).at_any_port())
    }
}

/// The names of a server that listens on loopback.
impl Default for ServerNames {
    fn default() -> Self {
        Self::new(None, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_text_form() {
        for (text, written, bare) in [
            ("localhost", "localhost", "localhost"),
            ("ACS.Internal", "acs.internal", "acs.internal"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
            ("2001:DB8:0::1", "[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]", "[2001:db8::1]", "2001:db8::1"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!((host.to_string(), host.bare()), (written.to_owned(), bare.to_owned()), "{text}");
            assert!(Authority::new(&host.to_string(), 1).is_ok(), "{text}");
        }
        for text in [
            "",
            "two words",
            "a:8443",
            "192.0.2.7:8443",
            "[192.0.2.7]",
            "[a]",
            "[::1",
            "::1]",
            "a.",
            "a_b",
            "ä",
            "*",
        ] {
            assert_eq!(text.parse::<Host>(), Err(MalformedHost), "{text}");
        }
    }

    #[test]
    fn public_authority_is_published_and_accepted() {
        for (text, published) in
            [("localhost:32768", "localhost:32768"), ("ACS.Internal", "acs.internal"), ("[::1]:1", "[::1]:1")]
        {
            let names = ServerNames::default().with_authority(Some(text.parse().unwrap()));
            assert_eq!(names.authority(8443).unwrap().to_string(), published);
            let accepted = names.accepted(8443, 8080).unwrap();
            assert_eq!(accepted.public().to_string(), published);
            for host in [text, published, "localhost:8443", "localhost:8080", "localhost:9", "[::1]:8443"] {
                assert!(accepted.candidates(host).is_ok(), "{host}");
            }
            let certified = names.certified();
            assert!(certified.contains(&names.public().bare()), "{certified:?}");
            assert!(
                ["localhost", "127.0.0.1", "::1"].iter().all(|own| certified.iter().any(|name| name == own))
            );
        }
        for text in ["", "https://a", "a:", "a:0x1", "a_b:1", "a/b", "a.:1", "::1", "a:1:1"] {
            assert_eq!(text.parse::<PublicAuthority>(), Err(MalformedPublicAuthority), "{text}");
        }
    }

    #[test]
    fn letter_case_of_a_given_name_may_be_signed() {
        let names = ServerNames::new(None, vec!["MyBox".parse().unwrap(), "mybox".parse().unwrap()]);
        assert_eq!(names.certified().iter().filter(|name| *name == "mybox").count(), 1);
        let accepted = names.accepted(8443, 8080).unwrap();
        let signed = accepted.candidates("mybox:8443").unwrap();
        assert!(signed.iter().any(|candidate| candidate.text == "MyBox:8443"));
    }

    #[test]
    fn public_names_lead_to_the_server() {
        for (listen, further, public) in [
            (None, vec![], "localhost"),
            (None, vec!["acs.internal"], "localhost"),
            (Some("127.0.0.1"), vec!["acs.internal"], "localhost"),
            (Some("::1"), vec![], "localhost"),
            (Some("127.0.0.2"), vec![], "127.0.0.2"),
            (Some("192.0.2.7"), vec![], "192.0.2.7"),
            (Some("2001:db8::1"), vec![], "[2001:db8::1]"),
            (Some("192.0.2.7"), vec!["acs.internal", "b"], "acs.internal"),
            (Some("0.0.0.0"), vec![], "localhost"),
            (Some("::"), vec![], "localhost"),
            (Some("0.0.0.0"), vec!["acs.internal"], "acs.internal"),
        ] {
            let listen: Option<IpAddr> = listen.map(|address| address.parse().unwrap());
            let hosts = further.iter().map(|host| host.parse().unwrap()).collect();
            let names = ServerNames::new(listen, hosts);
            assert_eq!(names.public().to_string(), public, "{listen:?} {further:?}");
            let accepted = names.accepted(8443, 8080).unwrap();
            assert_eq!(accepted.public().to_string(), format!("{public}:8443"));
            let accepted: Vec<String> = accepted.iter().map(Authority::to_string).collect();
            let certified = names.certified();
            let reached = listen.filter(|address| !address.is_unspecified()).map(Host::Address);
            let further = further.iter().map(|host| host.parse::<Host>().unwrap());
            let own = ["localhost", "127.0.0.1", "::1"].map(|host| host.parse::<Host>().unwrap());
            for host in own.into_iter().chain(reached).chain(further) {
                for port in [8443, 8080] {
                    assert!(accepted.contains(&format!("{host}:{port}")), "{host} in {accepted:?}");
                }
                assert!(certified.contains(&host.bare()), "{host} in {certified:?}");
            }
            assert_eq!(accepted.len(), certified.len() * 2, "a name occurs twice");
        }
    }
}
