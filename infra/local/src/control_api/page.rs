//! The console: one page with its style sheet and its script, which are parts of this program. docs/console.md shows it.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use identity::api::reply;

/// The path of the page.
pub(crate) const PATH: &str = "/_local/";

/// Each file with its path and its media type.
const FILES: [(&str, &str, &str); 4] = [
    (PATH, "text/html; charset=utf-8", include_str!("console/index.html")),
    ("/_local/style.css", "text/css; charset=utf-8", include_str!("console/style.css")),
    ("/_local/icon.svg", "image/svg+xml", include_str!("console/icon.svg")),
    ("/_local/console.js", "text/javascript; charset=utf-8", include_str!("console/console.js")),
];

/// The reply to a request for a file of the console, or for the start of its path. `None` for another request.
pub(super) fn file(request: &Parts) -> Option<Response<Bytes>> {
    if request.method != Method::GET && request.method != Method::HEAD {
        return None;
    }
    let path = request.uri.path();
    if path == PATH.trim_end_matches('/') {
        return Some(moved(StatusCode::PERMANENT_REDIRECT));
    }
    let (_, media_type, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    let body = if request.method == Method::HEAD { "" } else { text };
    let mut reply = Response::new(Bytes::from_static(body.as_bytes()));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Some(reply)
}

/// Leads a browser that asks for the root to the console. `None` for another request.
pub(super) fn from_root(request: &Parts) -> Option<Response<Bytes>> {
    let accepts = request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let is_browser = request.method == Method::GET && accepts.contains("text/html");
    (is_browser && request.uri.path() == "/").then(|| moved(StatusCode::FOUND))
}

fn moved(to_page: StatusCode) -> Response<Bytes> {
    let mut reply = reply::empty(to_page);
    reply.headers_mut().insert(LOCATION, HeaderValue::from_static(PATH));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_at_most_60_kilobytes_together() {
        let bytes: usize = FILES.iter().map(|(_, _, text)| text.len()).sum();
        assert!(bytes <= 60_000, "{bytes} bytes");
    }
}
