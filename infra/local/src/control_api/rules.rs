//! The rules for requests that a web page could cause (decision record 0017). They come before every route.
//!
//! A page of another site can send requests to this server, and a name of that site can lead here (DNS rebinding). The
//! rule of `Host` stops the second, and the rules of `Origin` and `Sec-Fetch-Site` stop the first.

use http::header::{CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::{StatusCode, header};
use identity::host::Hosts;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The headers of every reply below `/_local`.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// Checks that the request has one `Host` and that the host is a name of this server, at any port.
///
/// # Errors
/// 400 without a host or with several, 421 for another name.
pub(crate) fn check_host(headers: &HeaderMap, hosts: &Hosts) -> Result<(), StatusCode> {
    let mut values = headers.get_all(HOST).iter();
    let (Some(host), None) = (values.next(), values.next()) else { return Err(StatusCode::BAD_REQUEST) };
    let is_known = host.to_str().is_ok_and(|host| hosts.candidates(host).is_ok());
    if is_known { Ok(()) } else { Err(StatusCode::MISDIRECTED_REQUEST) }
}

/// Checks that the request comes from no page, or from a page of this server. Call [`check_host`] before, because a
/// page under another name has an `Origin` that equals its `Host`.
///
/// # Errors
/// 403.
pub(crate) fn check_page(headers: &HeaderMap, is_secure: bool) -> Result<(), StatusCode> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = format!("{}://{host}", if is_secure { "https" } else { "http" });
    let is_own = |origin: &HeaderValue| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes());
    let is_same = |site: &HeaderValue| ["same-origin", "none"].iter().any(|same| site == same);
    let admitted =
        headers.get_all(ORIGIN).iter().all(is_own) && headers.get_all(SEC_FETCH_SITE).iter().all(is_same);
    if admitted { Ok(()) } else { Err(StatusCode::FORBIDDEN) }
}

/// Whether a browser sent the request. Scripts do not send these headers.
pub(crate) fn is_of_page(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}

/// Adds the headers of a reply below `/_local`.
pub(crate) fn add_headers(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
