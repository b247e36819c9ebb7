//! One function for each fuzz target. A function panics if its input breaks a promise. Each gets a prepared service over
//! the ports in memory, and every input is judged by itself.

mod world;

use bytes::Bytes;
use functions::authorizer;
use functions::gateway;
use functions::invocation::Invocation;
use http::{HeaderMap, HeaderValue, Method};
use identity::api::pipeline::{Body, Request};
use identity::authn::hmac::UnsignedRequest;
use identity::authn::target::{PathForm, Target};
use identity::authorization::route_rules::RouteRules;
use identity::testing::NOON;
use serde_json::Value;

use self::world::{HOST, World, world};

const CREATE: &str = "/identities?api-version=2023-10-01";

/// The path of an operation with a body, for each first byte.
const BODIES: [(&str, &str); 8] = [
    ("POST", "/identities?api-version=2023-10-01"),
    ("POST", "/identities?api-version=2025-03-02-preview"),
    ("POST", "{id}/:issueAccessToken?api-version=2023-10-01"),
    ("POST", "{id}/:revokeAccessTokens?api-version=2023-10-01"),
    ("POST", "/teamsUser/:exchangeAccessToken?api-version=2023-10-01"),
    ("POST", "/introspect"),
    ("PUT", "/access/entra/assignments/cccc0000-0000-4000-8000-000000000001?api-version=2025-03-02-preview"),
    ("PATCH", "/access/entra/assignments?api-version=2025-03-02-preview"),
];

/// `Authorization` and the headers that a signature covers, one per line. No signature of others is accepted.
pub fn authorization(input: &[u8]) {
    let world = world();
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static(HOST));
    let names = ["authorization", "x-ms-date", "x-ms-content-sha256", "date", "authorization"];
    for (name, value) in names.into_iter().zip(input.split(|byte| *byte == b'\n')) {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append(name, value);
    }
    for target in [CREATE, "/introspect"] {
        let body = Body::Complete(Bytes::from_static(b"token=a"));
        let request = Request {
            method: Method::POST,
            target: Target::from_wire(target),
            headers: headers.clone(),
            body,
        };
        let status = world.handle(request);
        assert!((400..500).contains(&status), "{status} without a key");
    }
}

/// A target. No path of a signed request reaches a server error, and one without a signature does nothing.
pub fn targets(input: &[u8]) {
    let world = world();
    let Ok(text) = str::from_utf8(input) else { return };
    for target in [Target::from_wire(text), Target::from_decoded_path(text, "api-version=2023-10-01")] {
        let _ = (target.segments(), target.candidates(), target.in_other_form(), target.likeliest());
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let (headers, body) = (HeaderMap::new(), Body::Complete(Bytes::new()));
            let status = world.handle(Request { method, target: target.clone(), headers, body });
            assert!(status < 500, "{status}");
        }
    }
    for method in [Method::GET, Method::POST, Method::DELETE, Method::PUT] {
        assert!(world.handle_signed(&method, text, b"{}") < 500, "{method} {text}");
    }
}

/// The first byte selects an operation, and the rest is the body of a request with a valid signature.
pub fn bodies(input: &[u8]) {
    let world = world();
    let Some((first, body)) = input.split_first() else { return };
    let (method, target) = BODIES[usize::from(*first) % BODIES.len()];
    let target = target.replace("{id}", &format!("/identities/{}", world.id));
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let status = world.handle_signed(&method, &target, body);
    assert!(status < 500, "{status}: {method} {target}");
}

/// A text as a token. Only the token of the service itself is active, with white space at its ends.
pub fn tokens(input: &[u8]) {
    let world = world();
    let Ok(text) = str::from_utf8(input) else { return };
    // `{token}` stands for the valid token, so that inputs can change parts of it.
    let text = text.replace("{token}", &world.token);
    let is_valid = text.trim() == world.token;
    assert_eq!(world.is_active(&text), is_valid, "{text:?}");
    assert_eq!(world.is_active_offline(&text), is_valid, "{text:?}");
    let accepted = world.verifies_as_entra(&text);
    assert!(!accepted || text.trim() == world.entra_token, "{text:?}");
}

/// The first byte selects a document of an Entra issuer, and the rest is its text. A key set that verifies a token has
/// the key of the token.
pub fn entra_documents(input: &[u8]) {
    let world = world();
    let Some((first, document)) = input.split_first() else { return };
    let accepted = world.verifies_with(*first % 2 == 0, document);
    let text = String::from_utf8_lossy(document);
    let has_key = first % 2 == 1 || text.contains('\\') || text.contains(&world.modulus);
    assert!(!accepted || has_key, "{text}");
}

/// An event of a gateway, for the functions behind an HTTP API and for the authorizer.
pub fn gateway_events(input: &[u8]) {
    let world = world();
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(event) = serde_json::from_str::<Value>(&text.replace("{token}", &world.token)) else { return };
    let has_token = event.to_string().contains(&world.token);
    let invocation = Invocation { audits_source: true, ..Invocation::default() };
    for form in [PathForm::Wire, PathForm::Decoded] {
        let reply = gateway::handle(&world.service, form, event.clone(), &invocation);
        let status = world.block_on(reply).status_code;
        assert!((200..500).contains(&status), "{status}");
    }
    let answer = world.block_on(authorizer::handle(&world.authorizer, event));
    if let Ok(answer) = answer {
        let text = answer.to_string();
        let is_allowed = answer["isAuthorized"] == true || text.contains(r#""Effect":"Allow""#);
        assert!(!is_allowed || has_token, "{text}");
    }
}

/// Rules, an empty line, and a path. The answer does not depend on the order of the rules.
pub fn route_rules(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let (rules, path) = text.split_once("\n\n").unwrap_or((text, "/chat/threads/1"));
    let reversed: Vec<_> = rules.lines().rev().collect();
    let parsed = RouteRules::default().and("rules", rules);
    let backwards = RouteRules::default().and("rules", &reversed.join("\n"));
    assert_eq!(parsed.is_ok(), backwards.is_ok());
    let (Ok(parsed), Ok(backwards)) = (parsed, backwards) else { return };
    assert_eq!(parsed.connect(), backwards.connect());
    let Ok(path) = world::request_path(path) else { return };
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::CONNECT] {
        let found = parsed.find(&method, &path);
        assert_eq!(found, backwards.find(&method, &path), "{method}");
        assert!(found.is_none() || rules.contains(method.as_str()));
    }
}

impl World {
    fn handle(&self, request: Request) -> u16 {
        self.block_on(self.service.handle(request)).status().as_u16()
    }

    fn handle_signed(&self, method: &Method, target: &str, body: &[u8]) -> u16 {
        let unsigned = UnsignedRequest { method, target, host: HOST, body };
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static(HOST));
        for (name, value) in unsigned.sign(&self.key(), NOON) {
            let Ok(value) = HeaderValue::from_str(&value) else { return 400 };
            headers.insert(name, value);
        }
        let body = Body::Complete(Bytes::copy_from_slice(body));
        self.handle(Request { method: method.clone(), target: Target::from_wire(target), headers, body })
    }
}
