//! Requests of web pages from other origins: which origins may read a reply, and the answer to a preflight (Fetch
//! standard, section "HTTP extensions"; decision record 0014).
//!
//! A browser lets a page read a reply only if the reply names the page's origin. Credentials of the browser, such as
//! cookies, are never allowed, because every caller presents its credential in `Authorization`.

use std::str::FromStr;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method};

use crate::host::Authority;

/// The origin of a web page: scheme, host and port (RFC 6454 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: Scheme,
    /// A name in lower case, or an address. An IPv6 address is in brackets.
    host: String,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// The text is not `http://` or `https://` with a host and an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an origin like https://app.example.com or http://localhost:3000, without a path and without a slash"
)]
pub struct MalformedOriginError;

/// A closed set of origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins {
    listed: Vec<Origin>,
    /// Whether every origin of this machine is allowed: `localhost`, `127.0.0.1` and `[::1]` at any port.
    loopback: bool,
}

/// The allowed origins of a deployment. The public documents are for every origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsSettings {
    /// The origins whose pages may exchange the Entra token of their user.
    pub users: AllowedOrigins,
    /// The origins whose pages may call the routes for services. Such a page holds an access key, and gives it to
    /// every visitor.
    pub services: AllowedOrigins,
}

/// The origins that may read the replies of one path.
#[derive(Clone, Copy, Debug)]
pub enum ReadableBy<'a> {
    Anyone,
    Only(&'a AllowedOrigins),
}

/// Request headers that a page may set. Headers that begin with [`MS_HEADER`] are allowed too.
const REQUEST_HEADERS: [&str; 5] = ["accept", "authorization", "content-type", "traceparent", "tracestate"];
const MS_HEADER: &str = "x-ms-";

/// Reply headers that a page may read, in addition to those that Fetch always allows.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("MS-CV, Retry-After, x-ms-client-request-id");

/// Seconds for which a browser may keep the answer to a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

impl Origin {
    fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }
}

impl FromStr for Origin {
    type Err = MalformedOriginError;

    fn from_str(text: &str) -> Result<Self, MalformedOriginError> {
        let (scheme, authority) = text.split_once("://").ok_or(MalformedOriginError)?;
        let (scheme, implied_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return Err(MalformedOriginError),
        };
        let authority: Authority = authority.parse().map_err(|_| MalformedOriginError)?;
        let port = authority.port().unwrap_or(implied_port);
        Ok(Self { scheme, host: authority.name().to_owned(), port })
    }
}

impl AllowedOrigins {
    /// The form of a setting, for messages.
    pub const FORM: &str = "origins like https://app.example.com, separated by commas, without paths";

    /// Every origin of this machine, and these.
    #[must_use]
    pub fn with_loopback(listed: Vec<Origin>) -> Self {
        Self { listed, loopback: true }
    }

    fn contains(&self, origin: &Origin) -> bool {
        self.listed.contains(origin) || (self.loopback && origin.is_loopback())
    }
}

impl FromStr for AllowedOrigins {
    type Err = MalformedOriginError;

    /// Parses a comma list. An empty text is an empty list.
    fn from_str(text: &str) -> Result<Self, MalformedOriginError> {
        let origins = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
        Ok(Self { listed: origins.map(Origin::from_str).collect::<Result<_, _>>()?, loopback: false })
    }
}

impl ReadableBy<'_> {
    /// Adds the headers for the origin of a request to its reply. Every reply varies with the origin, so that a cache
    /// never gives a page the reply for another page.
    ///
    /// The reply to a preflight must already have the methods of the path in `Allow`.
    pub fn add_headers(self, method: &Method, request: &HeaderMap, reply: &mut HeaderMap) {
        reply.insert(VARY, HeaderValue::from_static("Origin"));
        let Some(allowed) = self.allow_origin(request) else { return };
        reply.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        reply.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        if method != Method::OPTIONS || !request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return;
        }
        reply.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if let Some(methods) = reply.get(ALLOW).cloned() {
            reply.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let names = allowed_headers(request).join(", ");
        if let Some(names) = HeaderValue::try_from(names).ok().filter(|names| !names.is_empty()) {
            reply.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
    }

    /// The value of `Access-Control-Allow-Origin`: the origin as the browser wrote it. An origin that is no web origin,
    /// such as `null`, may read the public documents only.
    fn allow_origin(self, request: &HeaderMap) -> Option<HeaderValue> {
        let mut values = request.get_all(ORIGIN).iter();
        let (value, further) = (values.next()?, values.next());
        let origin = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|_| further.is_none());
        match (self, origin) {
            (Self::Anyone, None) => Some(HeaderValue::from_static("*")),
            (Self::Anyone, Some(_)) => Some(value.clone()),
            (Self::Only(allowed), Some(origin)) if allowed.contains(&origin) => Some(value.clone()),
            (Self::Only(_), _) => None,
        }
    }
}

/// The requested headers that a page may set, in lower case.
fn allowed_headers(request: &HeaderMap) -> Vec<String> {
    let requested =
        request.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|names| names.to_str().ok());
    let names = requested.flat_map(|names| names.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let is_allowed = |name: &String| {
        let is_name = HeaderName::from_bytes(name.as_bytes()).is_ok();
        is_name && (REQUEST_HEADERS.contains(&name.as_str()) || name.starts_with(MS_HEADER))
    };
    names.filter(is_allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        for (name, text) in rows {
            headers.append(name.clone(), value(text));
        }
        headers
    }

    fn allowed(readable_by: ReadableBy<'_>, origin: &str) -> Option<String> {
        let value = readable_by.allow_origin(&headers(&[(ORIGIN, origin)]));
        value.map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn origins_are_equal_without_letter_case_and_implied_port() {
        for (text, same) in [
            ("https://app.example.com", "HTTPS://App.Example.Com:443"),
            ("http://localhost", "http://localhost:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(text.parse::<Origin>(), same.parse(), "{text}");
        }
        let distinct = ["http://a", "https://a", "http://a:8080", "http://b", "http://a.b"];
        for (index, one) in distinct.iter().enumerate() {
            for other in &distinct[index + 1..] {
                assert_ne!(one.parse::<Origin>().unwrap(), other.parse().unwrap(), "{one} {other}");
            }
        }
    }

    #[test]
    fn texts_beyond_scheme_host_and_port_are_no_origins() {
        for text in [
            "",
            "null",
            "*",
            "localhost",
            "//localhost",
            "http://",
            "http:/localhost",
            "http://localhost/",
            "http://localhost:",
            "http://localhost:99999",
            "http://localhost:80:80",
            "http://user@localhost",
            "http://localhost?a",
            "http://localhost#a",
            "http://*.example.com",
            "http://a http://b",
            "http://a,http://b",
            "http://::1",
            "http://ä",
            "ftp://localhost",
            "chrome-extension://abc",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(MalformedOriginError), "{text}");
        }
    }

    #[test]
    fn lists_are_empty_or_comma_separated_origins() {
        assert_eq!("".parse(), Ok(AllowedOrigins::default()));
        assert_eq!(" ".parse(), Ok(AllowedOrigins::default()));
        let list: AllowedOrigins = "https://a.example.com, http://localhost:3000".parse().unwrap();
        assert_eq!(list.listed.len(), 2);
        for text in [",", "https://a,", "https://a;https://b", "https://a https://b", "*", "https://a/"] {
            assert_eq!(text.parse::<AllowedOrigins>(), Err(MalformedOriginError), "{text}");
        }
    }

    #[test]
    fn only_listed_and_loopback_origins_are_allowed() {
        let listed = AllowedOrigins::with_loopback(vec!["https://app.example.com".parse().unwrap()]);
        for origin in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://localhost",
            "http://127.0.0.1:5173",
            "https://[::1]:9",
            "http://LOCALHOST:1",
        ] {
            assert_eq!(allowed(ReadableBy::Only(&listed), origin).as_deref(), Some(origin));
        }
        for origin in [
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://app.example.com.evil.example",
            "https://evil-app.example.com",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "http://evil.example:80",
            "http://localhost.",
            "http://0.0.0.0",
            "null",
            "",
        ] {
            assert_eq!(allowed(ReadableBy::Only(&listed), origin), None, "{origin}");
        }
        let none = AllowedOrigins::default();
        assert_eq!(allowed(ReadableBy::Only(&none), "http://localhost:3000"), None);
    }

    #[test]
    fn several_origins_are_no_origin() {
        let twice = headers(&[(ORIGIN, "http://localhost"), (ORIGIN, "http://localhost")]);
        let listed = AllowedOrigins::with_loopback(Vec::new());
        assert_eq!(ReadableBy::Only(&listed).allow_origin(&twice), None);
        assert_eq!(ReadableBy::Anyone.allow_origin(&twice).unwrap(), "*");
    }

    #[test]
    fn public_documents_are_readable_by_every_origin() {
        let anyone = ReadableBy::Anyone;
        assert_eq!(allowed(anyone, "https://elsewhere.example").unwrap(), "https://elsewhere.example");
        assert_eq!(allowed(anyone, "null").unwrap(), "*");
        assert_eq!(allowed(anyone, "chrome-extension://ä").unwrap(), "*");
        assert_eq!(anyone.allow_origin(&HeaderMap::new()), None);
    }

    #[test]
    fn requested_headers_are_allowed_by_name_or_prefix() {
        let requested = headers(&[
            (ACCESS_CONTROL_REQUEST_HEADERS, "Authorization,content-type, x-ms-date ,X-MS-Anything"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "accept,traceparent,tracestate"),
            (ACCESS_CONTROL_REQUEST_HEADERS, "cookie,x-other,host,*,,x-ms-a b,x-ms-ü,authorization2"),
        ]);
        let expected = [
            "authorization",
            "content-type",
            "x-ms-date",
            "x-ms-anything",
            "accept",
            "traceparent",
            "tracestate",
        ];
        assert_eq!(allowed_headers(&requested), expected);
    }
}
