//! The facts that join an audit line with the lines of others: gateways, Lambda, traces and clients.
//!
//! Clients choose the texts of their headers, so each fact has a closed set of characters and a limited length. A text of
//! another form is left out.

use std::net::IpAddr;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName};
use serde::Serialize;

/// The facts that a host has about a request beside the request itself. A host without such facts uses the default.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// The request id of API Gateway, as in its access log.
    pub gateway_request_id: Option<LogId>,
    /// The request id of Lambda, as in its platform log.
    pub lambda_request_id: Option<LogId>,
    /// The address of the sender, only if the deployment permits personal data in its audit lines.
    pub source: Option<Source>,
    pub transport: Transport,
}

/// The way on which a request came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Over TLS, or without leaving the machine.
    #[default]
    Protected,
    /// Over plain HTTP from another machine, so others may have read it.
    Exposed,
}

/// An id that a host gave a request: at most 64 letters, digits and characters of base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LogId(String);

/// The sender of a request. It is personal data.
#[derive(Clone, Debug)]
pub struct Source {
    /// The address that the gateway saw.
    pub ip: Option<IpAddr>,
}

/// The members of an audit line that join it with the lines of others.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Correlation {
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_request_id: Option<LogId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lambda_request_id: Option<LogId>,
    /// The trace id of `traceparent` (W3C Trace Context, section 3.2.2.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// The name and version of an Azure SDK, like `azsdk-python-communication-identity/1.5.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sdk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_ip: Option<IpAddr>,
    /// The whole `User-Agent`, cut to 256 characters. Characters outside printable ASCII are question marks.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
}

/// The header of W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The `User-Agent` of SDKs in web pages, because a page cannot set that header.
pub const MS_USERAGENT: HeaderName = HeaderName::from_static("x-ms-useragent");

/// Longest id of a host, and longest name of an SDK with its version, in bytes.
const MAX_ID: usize = 64;

/// Longest `User-Agent` in an audit line, in characters.
const MAX_USER_AGENT: usize = 256;

impl LogId {
    /// The id, if it has the form of one.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        let closed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'/' | b'=');
        ((1..=MAX_ID).contains(&id.len()) && id.bytes().all(closed)).then(|| Self(id.to_owned()))
    }
}

impl Correlation {
    /// The facts of a request with these headers.
    pub(crate) fn of(headers: &HeaderMap, delivery: &Delivery) -> Self {
        let user_agent = delivery.source.as_ref().and_then(|_| headers.get(USER_AGENT));
        Self {
            gateway_request_id: delivery.gateway_request_id.clone(),
            lambda_request_id: delivery.lambda_request_id.clone(),
            trace_id: trace_id(headers),
            sdk: sdk(headers),
            source_ip: delivery.source.as_ref().and_then(|source| source.ip),
            user_agent: user_agent.map(|value| printable(value.as_bytes())),
        }
    }
}

/// The trace id, if the header occurs once and is valid (W3C Trace Context, sections 3.2.2 and 4.3). The members of a later
/// version may be followed by further ones.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let mut parts = value.trim().split('-');
    let [version, trace, parent, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    };
    let is_id = |text: &str, length| is_hex(text, length) && text.bytes().any(|b| b != b'0');
    let is_whole = version != "ff" && (version != "00" || parts.next().is_none());
    let is_valid =
        is_hex(version, 2) && is_whole && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2);
    is_valid.then(|| trace.to_owned())
}

/// The first product of an Azure SDK, `azsdk-<language>-<package>/<version>`. Other products are left out, because any
/// caller may write any text there.
fn sdk(headers: &HeaderMap) -> Option<String> {
    let closed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
    let is_sdk = |product: &&str| {
        let version = product.strip_prefix("azsdk-").and_then(|rest| rest.split_once('/'));
        let is_complete = version.is_some_and(|(name, version)| !name.is_empty() && !version.is_empty());
        is_complete && product.len() <= MAX_ID && product.bytes().all(closed)
    };
    let values = [MS_USERAGENT, USER_AGENT].into_iter().filter_map(|name| headers.get(name)?.to_str().ok());
    values.flat_map(str::split_ascii_whitespace).find(is_sdk).map(str::to_owned)
}

fn printable(text: &[u8]) -> String {
    let character = |b: &u8| if matches!(b, b' '..=b'~') { char::from(*b) } else { '?' };
    text.iter().take(MAX_USER_AGENT).map(character).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        values.iter().map(pair).collect()
    }

    #[test]
    fn only_products_of_azure_sdks_are_named() {
        let python = "azsdk-python-communication-identity/1.5.0";
        let long = format!("azsdk-{}/1", "x".repeat(60));
        for (values, expected) in [
            (&[("user-agent", "azsdk-python-communication-identity/1.5.0 Python/3.11.7")][..], Some(python)),
            (
                &[("user-agent", "my-app AZURECLI/2.91.0 azsdk-python-communication-identity/1.5.0 (Linux)")],
                Some(python),
            ),
            (
                &[
                    ("user-agent", "Mozilla/5.0"),
                    ("x-ms-useragent", "azsdk-js-communication-identity/1.3.1 core/1"),
                ],
                Some("azsdk-js-communication-identity/1.3.1"),
            ),
            (
                &[("user-agent", "azsdk-net-Communication.Identity/1.4.0-beta.1 (.NET 8.0)")],
                Some("azsdk-net-Communication.Identity/1.4.0-beta.1"),
            ),
            (&[("user-agent", "curl/8.5.0")], None),
            (&[("user-agent", "azsdk-python")], None),
            (&[("user-agent", "azsdk-/1.0")], None),
            (&[("user-agent", "azsdk-a/1\",\"outcome\":\"success")], None),
            (&[("user-agent", "azsdk-a/1\t{\"outcome\":\"success\"}")], Some("azsdk-a/1")),
            (&[("user-agent", &long)], None),
            (&[], None),
        ] {
            assert_eq!(sdk(&headers(values)).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn only_valid_trace_ids_are_read() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        for (value, is_valid) in [
            (format!("00-{trace}-{parent}-01"), true),
            (format!(" 00-{trace}-{parent}-00 "), true),
            (format!("cc-{trace}-{parent}-01-what-the-future-brings"), true),
            (format!("00-{trace}-{parent}-01-more"), false),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{}-{parent}-01", trace.to_uppercase()), false),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (format!("00-{trace}-{parent}"), false),
            (format!("00-{trace}x-{parent}-01"), false),
            (format!("0-{trace}-{parent}-01"), false),
            (String::new(), false),
        ] {
            let found = trace_id(&headers(&[("traceparent", &value)]));
            assert_eq!(found.as_deref(), is_valid.then_some(trace), "{value}");
        }
        let valid = format!("00-{trace}-{parent}-01");
        assert_eq!(trace_id(&headers(&[("traceparent", &valid), ("traceparent", &valid)])), None);
    }

    #[test]
    fn the_sender_is_left_out_without_permission() {
        let headers = headers(&[("user-agent", "someone's phone")]);
        let line = |delivery: &Delivery| serde_json::to_value(Correlation::of(&headers, delivery)).unwrap();
        assert_eq!(line(&Delivery::default()), serde_json::json!({}));
        let source = Some(Source { ip: "2001:db8::7".parse().ok() });
        let named = line(&Delivery { source, ..Delivery::default() });
        assert_eq!(named, serde_json::json!({"sourceIp": "2001:db8::7", "userAgent": "someone's phone"}));
    }

    proptest! {
        #[test]
        fn every_text_stays_closed_and_short(text in "([ -~]|azsdk-|/1|\\PC){0,80}") {
            let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            for name in [TRACEPARENT, MS_USERAGENT, USER_AGENT] {
                headers.insert(name, value.clone());
            }
            let source = Some(Source { ip: None });
            let facts = Correlation::of(&headers, &Delivery { source, ..Delivery::default() });
            let closed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
            prop_assert!(facts.sdk.is_none_or(|sdk| sdk.len() <= 64 && sdk.chars().all(closed)));
            prop_assert!(facts.trace_id.is_none_or(|id| id.len() == 32));
            let agent = facts.user_agent.unwrap_or_default();
            prop_assert!(agent.len() <= 256 && agent.bytes().all(|b| matches!(b, b' '..=b'~')));
            let id = LogId::new(&text);
            prop_assert!(id.is_none_or(|LogId(id)| id.len() <= 64 && !id.contains(['"', '\\', '\n', ' '])));
        }
    }
}
