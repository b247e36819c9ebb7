//! Signs requests from the specification (docs/wire-contract.md#signatures), sharing no code with the
//! service, so that a shared mistake cannot cancel out.

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

/// Signs with a base64 access key and hands the request over as a host would.
///
/// # Panics
/// When the caller's texts cannot be a request.
#[must_use]
pub fn sign(call: &Call<'_>, access_key: &str, host: &str, now: OffsetDateTime) -> Request {
    let date = rfc1123(now);
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, call.body.as_bytes()));
    let text = format!("{}\n{}\n{date};{host};{hash}", call.method, call.target);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(access_key).unwrap_or_default());
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
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Request {
        method: Method::from_bytes(call.method.as_bytes()).unwrap_or(Method::GET),
        target: Target::from_wire(call.target),
        headers,
        body: Body::Complete(Bytes::copy_from_slice(call.body.as_bytes())),
    }
}

fn rfc1123(now: OffsetDateTime) -> String {
    let weekday = now.weekday().to_string();
    let month = now.month().to_string();
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        weekday.get(..3).unwrap_or(""),
        now.day(),
        month.get(..3).unwrap_or(""),
        now.year(),
        now.hour(),
        now.minute(),
        now.second()
    )
}
