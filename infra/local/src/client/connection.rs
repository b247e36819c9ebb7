//! Connection strings, in the forms that the SDKs accept.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use identity::host::is_loopback;
use identity::keys::access::AccessKey;

/// An endpoint and the access key of its resource. No `Debug`, because the key is secret.
pub struct Connection {
    pub endpoint: Endpoint,
    pub key: AccessKey,
}

/// The URL of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    is_secure: bool,
    /// Host and port, in lower case.
    pub(super) authority: String,
    /// The path below which the operations are, without a slash at its end.
    pub(super) path: String,
}

/// The text is not a connection string. The message does not quote it, because it may hold a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    #[error("the connection string has no {0}; its form is endpoint=https://<host>/;accesskey=<key>")]
    Missing(&'static str),
    #[error("the endpoint of the connection string is not a URL such as https://localhost:8443/")]
    Endpoint,
    #[error("plain HTTP is only for this machine; the endpoint of the connection string needs https")]
    PlainHttp,
    #[error("the access key of the connection string is not base64 of 32 bytes or more; copy it again")]
    Key,
}

impl FromStr for Connection {
    type Err = ConnectionError;

    /// Reads `endpoint=<URL>;accesskey=<base64>`. Names have any letter case and any order. Unknown parts are ignored.
    fn from_str(text: &str) -> Result<Self, ConnectionError> {
        let value = |name: &'static str| {
            let mut pairs = text.split(';').filter_map(|part| part.split_once('='));
            let found = pairs.find(|(given, _)| given.trim().eq_ignore_ascii_case(name));
            let value = found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty());
            value.ok_or(ConnectionError::Missing(name))
        };
        let (endpoint, key) = (value("endpoint")?, value("accesskey")?);
        Ok(Self {
            endpoint: endpoint.parse()?,
            key: AccessKey::parse(key).map_err(|_| ConnectionError::Key)?,
        })
    }
}

impl FromStr for Endpoint {
    type Err = ConnectionError;

    fn from_str(text: &str) -> Result<Self, ConnectionError> {
        let uri: Uri = text.parse().map_err(|_| ConnectionError::Endpoint)?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(ConnectionError::Endpoint),
        };
        let authority = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
        let authority =
            authority.filter(|authority| has_port_or_none(authority)).ok_or(ConnectionError::Endpoint)?;
        if uri.query().is_some() {
            return Err(ConnectionError::Endpoint);
        }
        if !is_secure && !is_loopback(&authority) {
            return Err(ConnectionError::PlainHttp);
        }
        Ok(Self { is_secure, authority, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

/// Whether the port of host and port, if there is one, is a number of a port. The library for URLs ignores others.
fn has_port_or_none(authority: &str) -> bool {
    let after_host = authority.rsplit(']').next().unwrap_or(authority);
    let port = after_host.split_once(':').map(|(_, port)| port);
    !authority.contains('@') && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl Endpoint {
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// The value of `Host`: without the port that the scheme implies.
    #[must_use]
    pub fn host(&self) -> String {
        let implied = if self.is_secure { ":443" } else { ":80" };
        self.authority.strip_suffix(implied).unwrap_or(&self.authority).to_owned()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}/", self.scheme(), self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn forms_of_the_sdks_are_accepted() {
        for text in [
            "endpoint=https://localhost:8443/;accesskey=<key>",
            "endpoint=https://localhost:8443;accesskey=<key>",
            "Endpoint=https://localhost:8443/;AccessKey=<key>;",
            "ENDPOINT=HTTPS://LOCALHOST:8443/;ACCESSKEY=<key>",
            "accesskey=<key>;endpoint=https://localhost:8443/",
            "endpoint=https://localhost:8443/;accesskey=<key>\r\n",
            " endpoint = https://localhost:8443// ; accesskey = <key> ;;",
            "EndpointSuffix=core.windows.net;endpoint=https://localhost:8443/;accesskey=<key>",
        ] {
            let connection: Connection = text.replace("<key>", KEY).parse().map_err(|e| (text, e)).unwrap();
            assert_eq!(connection.endpoint.to_string(), "https://localhost:8443/", "{text:?}");
            assert_eq!(*connection.key.encoded(), KEY, "{text:?}");
        }
    }

    #[test]
    fn other_forms_are_refused_without_a_quote() {
        for (text, error) in [
            ("", ConnectionError::Missing("endpoint")),
            ("canary", ConnectionError::Missing("endpoint")),
            ("accesskey=canary", ConnectionError::Missing("endpoint")),
            ("endpoint=;accesskey=canary", ConnectionError::Missing("endpoint")),
            ("endpoint=https://canary/", ConnectionError::Missing("accesskey")),
            ("endpoint=https://a/;accesskey=", ConnectionError::Missing("accesskey")),
            ("endpoint=https://a/;accesskey=canary", ConnectionError::Key),
            ("endpoint=https://a/;accesskey=Y2FuYXJ5", ConnectionError::Key),
            ("endpoint=localhost;accesskey=canary", ConnectionError::Endpoint),
            ("endpoint=ftp://canary/;accesskey=canary", ConnectionError::Endpoint),
            ("endpoint=https://canary@a/;accesskey=canary", ConnectionError::Endpoint),
            ("endpoint=https://a/?canary;accesskey=canary", ConnectionError::Endpoint),
            ("endpoint=http://canary/;accesskey=canary", ConnectionError::PlainHttp),
            ("endpoint=http://localhost:99999/;accesskey=canary", ConnectionError::Endpoint),
            ("endpoint=http://localhost:0/;accesskey=canary", ConnectionError::Endpoint),
            ("endpoint=https://[::1]:a/;accesskey=canary", ConnectionError::Endpoint),
        ] {
            let refused = text.parse::<Connection>().err().unwrap();
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }

    #[test]
    fn plain_http_is_only_for_loopback() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "a.localhost"] {
            assert!(format!("http://{host}").parse::<Endpoint>().is_ok(), "{host}");
        }
        for host in ["example.com", "192.0.2.7:8080", "localhost.example.com", "[2001:db8::7]"] {
            assert_eq!(
                format!("http://{host}").parse::<Endpoint>(),
                Err(ConnectionError::PlainHttp),
                "{host}"
            );
        }
    }

    #[test]
    fn ports_that_the_scheme_implies_are_not_signed() {
        for (text, host, path) in [
            ("https://a:443/", "a", ""),
            ("http://localhost:80", "localhost", ""),
            ("https://a:8443/v1/", "a:8443", "/v1"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host().as_str(), endpoint.path.as_str()), (host, path), "{text}");
        }
    }
}
