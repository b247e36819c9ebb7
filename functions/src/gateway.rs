//! Converts an HTTP API event (payload 2.0) to a request of the core, and the reply back.
//!
//! Method, path, query, headers and body come from the event itself. The request type of the Lambda HTTP library is not
//! used. It rebuilds a URI, which changes the signed text and panics on some inputs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use identity::api::limits::MAX_BODY;
use identity::api::pipeline::{Body, Request};
use identity::api::service::Service;
use identity::authn::target::{PathForm, Target};
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use serde_json::Value;

use crate::invocation::Invocation;

/// Answers one event, whose path the host in front delivers in this form. The reply to an unreadable event is the reply
/// to a malformed request.
pub async fn handle(
    service: &Service,
    path_form: PathForm,
    event: Value,
    invocation: &Invocation,
) -> ApiGatewayV2httpResponse {
    let delivery = invocation.delivery(&event);
    let request = match serde_json::from_value(event) {
        Ok(event) => request(event, path_form),
        Err(_) => Request {
            method: Method::GET,
            target: Target::from_decoded_path("/", ""),
            headers: HeaderMap::new(),
            body: Body::Unreadable,
        },
    };
    outbound(service.handle_delivered(request, &delivery).await)
}

fn request(event: ApiGatewayV2httpRequest, path_form: PathForm) -> Request {
    let path = event.raw_path.unwrap_or_default();
    let query = event.raw_query_string.unwrap_or_default();
    let target = match path_form {
        PathForm::Decoded => Target::from_decoded_path(&path, &query),
        PathForm::Wire if query.is_empty() => Target::from_wire(&path),
        PathForm::Wire => Target::from_wire(&format!("{path}?{query}")),
    };
    let body = body(event.body.unwrap_or_default(), event.is_base64_encoded);
    Request { method: event.request_context.http.method, target, headers: event.headers, body }
}

fn body(text: String, is_base64: bool) -> Body {
    let bytes = if is_base64 { STANDARD.decode(text) } else { Ok(text.into_bytes()) };
    match bytes {
        Ok(bytes) if bytes.len() > MAX_BODY => Body::TooLarge,
        Ok(bytes) => Body::Complete(Bytes::from(bytes)),
        Err(_) => Body::Unreadable,
    }
}

fn outbound(response: Response<Bytes>) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    let mut answer = ApiGatewayV2httpResponse::default();
    answer.status_code = parts.status.as_u16().into();
    answer.headers = parts.headers;
    // Every reply is JSON text or empty.
    answer.body = std::str::from_utf8(&body).ok().filter(|text| !text.is_empty()).map(Into::into);
    answer
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use identity::api::cors::CorsSettings;
    use identity::api::functions::Function;
    use identity::authn::date;
    use identity::authn::hmac::SignedHead;
    use identity::keys::cache::KeyCache;
    use identity::memory::Memory;
    use identity::settings::Settings;
    use identity::testing::{self, CapturedAudit, FrozenClock, SeededRandom, SignedVector, settings};
    use percent_encoding::percent_decode_str;
    use serde_json::json;

    use super::*;

    /// The event of an HTTP API: path decoded, header names in lower case, repeated headers joined by commas.
    fn event(vector: &SignedVector) -> Value {
        let (path, query) = vector.target.split_once('?').unwrap_or((&vector.target, ""));
        let mut headers = serde_json::Map::new();
        for (name, value) in &vector.headers {
            let name = name.to_ascii_lowercase();
            let joined = match headers.get(&name).and_then(Value::as_str) {
                Some(first) => format!("{first},{value}"),
                None => value.clone(),
            };
            headers.insert(name, joined.into());
        }
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": percent_decode_str(path).decode_utf8().unwrap(),
            "rawQueryString": query,
            "headers": headers,
            "requestContext": { "http": { "method": vector.method, "path": path } },
            "body": vector.body,
            "isBase64Encoded": false,
        })
    }

    fn verdict(vector: &SignedVector, request: &Request) -> String {
        let Body::Complete(body) = &request.body else { return "no body".to_owned() };
        let Request { method, target, headers, .. } = request;
        let settings = Settings { hosts: vector.hosts.join(",").parse().unwrap(), ..settings() };
        let keys = testing::access_keys(&vector.access_keys);
        let now = date::parse(&vector.now).unwrap();
        SignedHead::parse(method, target, headers, &settings, now)
            .and_then(|head| head.with_body(body))
            .and_then(|signed| signed.verify(&keys))
            .map_or_else(|_| "refused".to_owned(), |slot| format!("accept:{}", slot.as_str()))
    }

    fn read(event: Value, path_form: PathForm) -> Request {
        request(serde_json::from_value(event).unwrap(), path_form)
    }

    #[test]
    fn signature_over_a_decoded_path_is_accepted() {
        let mut accepted = 0;
        for row in SignedVector::all() {
            let verdict = verdict(&row, &read(event(&row), PathForm::Decoded));
            if row.verdict.starts_with("accept") {
                assert_eq!(verdict, row.verdict, "{}", row.name);
                accepted += 1;
            }
        }
        assert!(accepted > 20, "{accepted} rows");
    }

    #[test]
    fn request_refused_on_the_wire_is_refused_behind_a_gateway() {
        for row in SignedVector::all() {
            // API Gateway does not preserve the client's percent-encoding.
            let is_about_escapes = row.name.contains("lower-case hex");
            if !row.verdict.starts_with("accept") && !is_about_escapes {
                assert_eq!(verdict(&row, &read(event(&row), PathForm::Decoded)), "refused", "{}", row.name);
            }
        }
    }

    #[test]
    fn wire_path_is_exactly_the_target() {
        for row in SignedVector::all() {
            let mut event = event(&row);
            event["rawPath"] = row.target.split('?').next().unwrap().into();
            assert_eq!(read(event, PathForm::Wire).target, Target::from_wire(&row.target), "{}", row.name);
        }
    }

    /// One request of the Python SDK, as an HTTP API and as a function URL pass it, with all members of the events.
    #[test]
    fn path_with_escapes_is_refused_as_a_decoded_path() {
        let http_api = include_str!("../fixtures/http_api.json");
        let function_url = include_str!("../fixtures/function_url.json");
        let vector = SignedVector {
            now: "Fri, 01 Mar 2024 12:00:00 GMT".to_owned(),
            access_keys: json!({
                "primary": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                "secondary": "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
            }),
            hosts: vec!["localhost:8443".to_owned()],
            ..SignedVector::all().remove(0)
        };
        let verdict = |event: &str, form| verdict(&vector, &read(serde_json::from_str(event).unwrap(), form));
        assert_eq!(verdict(http_api, PathForm::Decoded), "accept:primary");
        assert_eq!(verdict(function_url, PathForm::Wire), "accept:primary");
        assert_eq!(
            verdict(http_api, PathForm::Wire),
            "accept:primary",
            "a proxy may have changed the escapes"
        );
        assert_eq!(
            verdict(function_url, PathForm::Decoded),
            "refused",
            "an escape remains, so the path was not decoded"
        );
    }

    #[test]
    fn body_bytes_are_unchanged() {
        let event = |body: Value, base64: bool| json!({ "body": body, "isBase64Encoded": base64, "requestContext": { "http": { "method": "POST" } } });
        let bytes = |event| match read(event, PathForm::Decoded).body {
            Body::Complete(bytes) => Some(bytes.to_vec()),
            Body::TooLarge | Body::Unreadable | Body::NoMemory => None,
        };
        assert_eq!(bytes(event(json!("{}"), false)).unwrap(), b"{}");
        assert_eq!(bytes(event(json!("/+8="), true)).unwrap(), [0xff, 0xef], "no text");
        assert_eq!(bytes(event(Value::Null, false)).unwrap(), b"", "absent");
        assert_eq!(bytes(event(json!("x".repeat(MAX_BODY)), false)).unwrap().len(), MAX_BODY);
        assert_eq!(bytes(event(json!("x".repeat(MAX_BODY + 1)), false)), None);
        assert_eq!(bytes(event(json!("not base64!"), true)), None);
    }

    fn service(settings: Settings) -> Service {
        let memory = Arc::new(Memory::default());
        Service {
            settings,
            store: memory.clone(),
            feed: memory.clone(),
            key_cache: Arc::new(KeyCache::new(memory)),
            entra: Arc::new(testing::no_entra()),
            clock: FrozenClock::at_noon(),
            token_clock: FrozenClock::at_noon(),
            random: Arc::new(SeededRandom::new(1)),
            audit: Arc::new(CapturedAudit::default()),
            functions: &[Function::User],
        }
    }

    /// The service has no keys and no pointer.
    #[tokio::test]
    async fn preflight_and_head_events_have_replies_without_body() {
        let app = "https://app.example.com";
        let cors = CorsSettings { services: app.parse().unwrap(), ..CorsSettings::default() };
        let service = service(Settings { cors, ..settings() });
        let event = |method: &str, origin: &str| {
            json!({
                "rawPath": "/identities",
                "headers": { "origin": origin, "access-control-request-method": "POST" },
                "requestContext": { "http": { "method": method } },
            })
        };
        for (method, origin, status, allowed) in [
            ("OPTIONS", app, 204, true),
            ("OPTIONS", "https://elsewhere.example", 204, false),
            ("OPTIONS", "https://app.example.com,https://app.example.com", 204, false),
            ("HEAD", app, 401, true),
        ] {
            let answer =
                handle(&service, PathForm::Decoded, event(method, origin), &Invocation::default()).await;
            assert_eq!((answer.status_code, answer.body.is_none()), (status, true), "{method} {origin}");
            let allow_origin = answer.headers.get("access-control-allow-origin");
            assert_eq!(allow_origin.map(|origin| origin.as_bytes()), allowed.then_some(app.as_bytes()));
            assert!(serde_json::to_string(&answer).is_ok(), "the reply is a text for Lambda");
        }
    }

    /// Inputs that make the Lambda HTTP library panic, and values that are no event.
    #[tokio::test]
    async fn every_event_has_a_reply() {
        let service = service(settings());
        let http = json!({ "http": { "method": "POST" } });
        for (event, status) in [
            (json!({ "rawPath": "/identities", "rawQueryString": "a b\"<>", "requestContext": http }), 401),
            (json!({ "rawPath": "/a?b#c", "requestContext": http, "headers": { "host": "a b" } }), 401),
            (json!({ "rawPath": "/", "headers": { "host": "\u{7f}" }, "requestContext": http }), 400),
            (json!({ "body": "%%%", "isBase64Encoded": true, "requestContext": http }), 400),
            (json!({ "requestContext": { "http": { "method": "B A D" } } }), 400),
            (json!([1, 2, 3]), 400),
            (json!(null), 400),
            (json!({ "Records": [] }), 400),
            (serde_json::from_str(include_str!("../fixtures/rest_api.json")).unwrap(), 400),
        ] {
            let answer = handle(&service, PathForm::Decoded, event.clone(), &Invocation::default()).await;
            assert_eq!(answer.status_code, status, "{event}");
            let body = answer.body.map(|body| body.as_ref().to_vec()).unwrap_or_default();
            let error: Value = serde_json::from_slice(&body).unwrap();
            assert!(error.pointer("/error/code").is_some(), "{error}");
        }
    }
}
