//! Gateway events: an HTTP API event (payload 2.0) to a request of the core, and its reply back.
//!
//! The path a request was signed over is taken from the event, never from the URI that the Lambda library
//! rebuilds; the HTTP API has decoded it, so the core tries the few spellings it can have had.

use bytes::Bytes;
use identity::authn::target::Target;
use identity::limits::MAX_BODY;
use identity::service::{Body, Inbound, Service};
use lambda_http::{Error, RequestExt as _};

/// Answers one event.
///
/// # Errors
/// Never: every request has an answer.
pub async fn handle(
    service: &Service,
    event: lambda_http::Request,
) -> Result<http::Response<lambda_http::Body>, Error> {
    let response = service.handle(inbound(event)).await;
    Ok(response.map(|body| match std::str::from_utf8(&body) {
        Ok("") => lambda_http::Body::Empty,
        Ok(text) => lambda_http::Body::Text(text.to_owned()),
        Err(_) => lambda_http::Body::Binary(body.to_vec()),
    }))
}

fn inbound(event: lambda_http::Request) -> Inbound {
    let target = Target::from_decoded_path(event.raw_http_path(), event.uri().query().unwrap_or(""));
    let (parts, body) = event.into_parts();
    let body = Bytes::copy_from_slice(body.as_ref());
    let body = if body.len() > MAX_BODY { Body::TooLarge } else { Body::Complete(body) };
    Inbound { method: parts.method, target, headers: parts.headers, body }
}
