//! Signs requests by docs/wire-contract.md#signatures. It shares no code with the service, because a shared mistake
//! would stay hidden.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use identity::api::pipeline::{Body, Request};
use identity::authn::target::Target;
use time::OffsetDateTime;

/// A request before it is signed.
pub struct Call<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub body: &'a str,
}

/// Signs with a base64 access key and returns the request as a host passes it to the service.
///
/// # Panics
/// When the key is not base64, or when a text is not valid in an HTTP request.
#[must_use]
pub fn sign(call: &Call<'_>, access_key: &str, host: &str, now: OffsetDateTime) -> Request {
    sign_bytes(call, call.body.as_bytes(), access_key, host, now)
}

/// As [`sign`], with a body of bytes that need not be text. The body of `call` is not used.
///
/// # Panics
/// As [`sign`].
#[must_use]
pub fn sign_bytes(
    call: &Call<'_>,
    body: &[u8],
    access_key: &str,
    host: &str,
    now: OffsetDateTime,
) -> Request {
    let date = rfc1123(now);
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, body));
    let text = format!("{}\n{}\n{date};{host};{hash}", call.method, call.target);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(access_key).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let authorization =
        format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", host),
        ("x-ms-date", &date),
        ("x-ms-content-sha256", &hash),
        ("authorization", &authorization),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    Request {
        method: Method::from_bytes(call.method.as_bytes()).unwrap(),
        target: Target::from_wire(call.target),
        headers,
        body: Body::Complete(Bytes::copy_from_slice(body)),
    }
}

fn rfc1123(now: OffsetDateTime) -> String {
    let weekday = now.weekday().to_string();
    let month = now.month().to_string();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        &weekday[..3],
        now.day(),
        &month[..3],
        now.year(),
        now.hour(),
        now.minute(),
        now.second()
    )
}
