//! Web pages and probes: preflights, origins, `HEAD`, `OPTIONS` and the paths that clients spell differently.

use std::collections::BTreeMap;

use e2e::faults::Fault;
use e2e::signer::{Call, sign};
use e2e::test_service::{HOST, Ports, Reply, TestService};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use identity::api::cors::{AllowedOrigins, CorsSettings};
use identity::api::functions::Function;
use identity::api::pipeline::{Body, Request};
use identity::api::routes::ROUTES;
use identity::api::service::Service;
use identity::authn::target::Target;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use identity::settings::Settings;
use identity::testing::settings;
use serde::Deserialize;

const KEY_SET: &str = "/.well-known/jwks.json";
const PAGE: &str = "http://localhost:3000";
const HEADERS_OF_SDK: &str = "authorization,content-type,x-ms-client-request-id,x-ms-useragent";

/// A row of `tests/vectors/browsers.json`.
#[derive(Deserialize)]
struct Row {
    name: String,
    deployment: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    status: u16,
    /// Whether the page may read the reply.
    allowed: bool,
    /// Further headers of the reply. A header with null is absent.
    reply: BTreeMap<String, Option<String>>,
}

/// The origins of a deployment in the rows.
fn cors(deployment: &str) -> CorsSettings {
    let app = || "https://app.example.com".parse::<AllowedOrigins>().unwrap();
    let none = AllowedOrigins::default;
    let local = AllowedOrigins::with_loopback(vec!["https://listed.example:444".parse().unwrap()]);
    match deployment {
        "local" => CorsSettings { users: local.clone(), services: local },
        "aws" => CorsSettings::default(),
        "aws-users" => CorsSettings { users: app(), services: none() },
        "aws-services" => CorsSettings { users: none(), services: app() },
        "aws-both" => CorsSettings { users: app(), services: app() },
        other => panic!("{other}"),
    }
}

/// The service of a test with other settings, over the same state.
fn with_settings(test: &TestService, settings: Settings, functions: &'static [Function]) -> Service {
    Service { functions, ..test.with_settings(settings) }
}

fn local(test: &TestService) -> Service {
    with_settings(test, Settings { cors: cors("local"), ..settings() }, Function::ALL)
}

fn request(method: &str, target: &str, rows: &[(&str, &str)]) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static(HOST));
    for (name, value) in rows {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    Request { method, target: Target::from_wire(target), headers, body: Body::Complete("".into()) }
}

fn preflight(method: &str, target: &str) -> Request {
    request(
        "OPTIONS",
        target,
        &[
            ("origin", PAGE),
            ("access-control-request-method", method),
            ("access-control-request-headers", HEADERS_OF_SDK),
        ],
    )
}

async fn test_service() -> TestService {
    TestService::new(Ports::memory().0, Algorithm::Es256, 81).await
}

/// The rules that hold for every reply.
fn check_origin(reply: &Reply, origin: Option<&str>, allowed: bool, name: &str) {
    let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header("vary"), Some("Origin"), "{name}");
    for never in ["access-control-allow-credentials", "access-control-allow-private-network"] {
        assert_eq!(header(never), None, "{name}");
    }
    if allowed {
        let value = header("access-control-allow-origin");
        assert!(value == origin || value == Some("*"), "{name}: {value:?}");
        let exposed = header("access-control-expose-headers");
        assert_eq!(exposed, Some("MS-CV, Retry-After, x-ms-client-request-id"), "{name}");
    } else {
        let granted = reply.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
        assert_eq!(granted, None, "{name}");
    }
}

#[tokio::test]
async fn replies_follow_the_rows_about_browsers() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../vectors/browsers.json")).unwrap();
    assert!(rows.len() > 100);
    let test = test_service().await;
    for Row { name, deployment, method, target, headers, status, allowed, reply: expected } in rows {
        let service = with_settings(&test, Settings { cors: cors(&deployment), ..settings() }, Function::ALL);
        let sent: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let origin = sent.iter().find(|(name, _)| *name == "Origin").map(|(_, origin)| *origin);
        let reply = Reply::of(service.handle(request(&method, &target, &sent)).await);
        assert_eq!(reply.status, status, "{name}: {}", reply.text);
        check_origin(&reply, origin, allowed, &name);
        if let Some(origin) = origin.filter(|origin| allowed && origin.starts_with("http")) {
            assert_eq!(reply.headers["access-control-allow-origin"], origin, "{name}");
        }
        for (header, value) in expected {
            let found = reply.headers.get(&header).map(|value| value.to_str().unwrap());
            assert_eq!(found, value.as_deref(), "{name}: {header}");
        }
        if method == "OPTIONS" || method == "HEAD" {
            assert_eq!(reply.text, "", "{name}");
        }
    }
}

#[tokio::test]
async fn preflights_of_every_path_name_its_methods() {
    let test = test_service().await;
    let service = local(&test);
    for route in ROUTES {
        let target = route.path.replace(['{', '}'], "x");
        let reply = Reply::of(service.handle(preflight(route.method.as_str(), &target)).await);
        assert_eq!((reply.status, reply.text.as_str()), (204, ""), "{target}");
        check_origin(&reply, Some(PAGE), true, &target);
        let methods = reply.headers["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.split(", ").any(|method| method == route.method.as_str()), "{target}: {methods}");
        assert_eq!(reply.headers["access-control-max-age"], "600");
        assert_eq!(reply.headers["access-control-allow-headers"], HEADERS_OF_SDK.replace(',', ", "));
    }
}

/// A preflight must be answered also when no key and no table can be read.
#[tokio::test(start_paused = true)]
async fn preflights_read_no_key_and_no_table() {
    let (ports, embedded) = Ports::embedded(82).await;
    let mut test = TestService::new(ports, Algorithm::Es256, 82).await;
    test.restart();
    embedded.dynamodb.plan(|_| Some(Fault::BreakBefore));
    embedded.secrets.plan(|_| Some(Fault::BreakBefore));
    let before = (embedded.dynamodb.calls(), embedded.secrets.calls());
    let lines = test.audit.lines().len();
    for functions in [Function::ALL, &[Function::User], &[Function::Token], &[Function::TeamsExchange]] {
        let service = with_settings(&test, Settings { cors: cors("local"), ..settings() }, functions);
        for route in ROUTES {
            let mut request = preflight(route.method.as_str(), route.path);
            request.body = Body::TooLarge;
            assert_eq!(service.handle(request).await.status(), 204, "{}", route.path);
        }
        assert_eq!(service.handle(preflight("POST", "/elsewhere")).await.status(), 204);
    }
    assert_eq!((embedded.dynamodb.calls(), embedded.secrets.calls()), before);
    let lines = test.audit.lines().split_off(lines);
    assert_eq!(lines.len(), 4 * (ROUTES.len() + 1), "each request has one line");
    for line in lines {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["operation"], &line["status"]), (&serde_json::Value::Null, &204.into()), "{line}");
    }
}

#[tokio::test]
async fn failures_are_readable_by_pages_too() {
    let test = test_service().await;
    let service = local(&test);
    let create = "/identities?api-version=2023-10-01";
    let call = |method, target, body| {
        let mut request = sign(&Call { method, target, body }, &test.primary, HOST, test.clock.now());
        request.headers.insert("origin", HeaderValue::from_static(PAGE));
        request
    };
    let too_large = Request { body: Body::TooLarge, ..call("POST", create, "") };
    let unreadable = Request { body: Body::Unreadable, ..call("POST", create, "") };
    for (request, status) in [
        (call("POST", create, ""), 201),
        (call("POST", create, "[]"), 400),
        (call("POST", "/identities", ""), 400),
        (call("PUT", create, ""), 405),
        (call("POST", "/elsewhere", ""), 404),
        (too_large, 413),
        (unreadable, 400),
    ] {
        let reply = Reply::of(service.handle(request).await);
        assert_eq!(reply.status, status, "{}", reply.text);
        check_origin(&reply, Some(PAGE), true, &reply.text);
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let test = test_service().await;
    let service = local(&test);
    for target in [KEY_SET, "/.well-known/openid-configuration", "/.well-known/jwks.json/"] {
        let get = Reply::of(service.handle(request("GET", target, &[])).await);
        let head = Reply::of(service.handle(request("HEAD", target, &[])).await);
        assert_eq!((get.status, head.status, head.text.as_str()), (200, 200, ""), "{target}");
        assert_eq!(head.headers["content-length"], get.text.len().to_string().as_str(), "{target}");
        for name in ["content-type", "cache-control", "vary", "request-context"] {
            assert_eq!(head.headers[name], get.headers[name], "{target}: {name}");
        }
    }
}

#[tokio::test]
async fn signatures_of_signed_routes_cover_the_method_head() {
    let test = test_service().await;
    let target = "/access/entra/assignments?api-version=2025-03-02-preview";
    let get = test.send("GET", target, "").await;
    let head = test.send("HEAD", target, "").await;
    assert_eq!((get.status, head.status, head.text.as_str()), (200, 200, ""));
    assert_eq!(head.headers["content-length"], get.text.len().to_string().as_str());
    let call = Call { method: "GET", target, body: "" };
    let mut other = sign(&call, &test.primary, HOST, test.clock.now());
    other.method = Method::HEAD;
    let refused = Reply::of(test.service.handle(other).await);
    assert_eq!((refused.status, refused.text.as_str()), (401, ""));
    let unsigned = Reply::of(test.service.handle(request("HEAD", target, &[])).await);
    assert_eq!((unsigned.status, unsigned.text.as_str()), (401, ""));
    let wrong = test.send("HEAD", "/identities?api-version=2023-10-01", "").await;
    assert_eq!((wrong.status, wrong.headers["allow"].to_str().unwrap()), (405, "POST"));
}

#[tokio::test]
async fn wrong_methods_of_public_paths_need_no_credential() {
    let test = test_service().await;
    for functions in [Function::ALL, &[Function::Keys]] {
        let service = with_settings(&test, settings(), functions);
        for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            let reply = Reply::of(service.handle(request(method, KEY_SET, &[])).await);
            assert_eq!((reply.status, reply.code().as_deref()), (405, Some("MethodNotAllowed")), "{method}");
            assert_eq!(reply.headers["allow"], "GET, HEAD", "{method}");
        }
    }
}

/// The signature covers the target as received, and the route is the same in each of these forms.
#[tokio::test]
async fn signed_paths_have_one_route_in_every_form() {
    let test = test_service().await;
    let query = "?api-version=2023-10-01";
    for path in ["/identities/", "/Identities", "//IDENTITIES/", "/identities"] {
        assert_eq!(test.send("POST", &format!("{path}{query}"), "{}").await.status, 201, "{path}");
    }
    let id = test.create().await;
    for path in [
        format!("/identities/{id}/:issueAccessToken/"),
        format!("/Identities/{id}/:ISSUEACCESSTOKEN"),
        format!("/identities/{}/%3aissueaccesstoken", id.replace(':', "%3A")),
    ] {
        let reply = test.send("POST", &format!("{path}{query}"), r#"{"scopes":["chat"]}"#).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
    }
    for (method, path, status) in [
        ("DELETE", "/identities/", 405),
        ("DELETE", "/identities", 405),
        ("DELETE", "/identities//", 404),
        ("POST", "/identities//", 404),
        ("POST", "/identities//:issueAccessToken", 404),
        ("DELETE", &format!("/identities/{}", id.to_ascii_uppercase()), 400),
    ] {
        let reply = test.send(method, &format!("{path}{query}"), "").await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text);
    }
    assert_eq!(test.send("DELETE", &format!("/identities/{id}/{query}"), "").await.status, 204);
    let unsigned = Reply::of(test.service.handle(request("DELETE", "/identities/", &[])).await);
    assert_eq!(unsigned.status, 401, "the caller comes first");
}

/// A signature of one form of the path is none of another form.
#[tokio::test]
async fn signatures_count_for_the_path_as_sent() {
    let test = test_service().await;
    let query = "?api-version=2023-10-01";
    for (signed, sent) in [
        ("/identities", "/identities/"),
        ("/identities/", "/identities"),
        ("/identities", "/Identities"),
        ("/Identities", "/identities"),
    ] {
        let target = format!("{signed}{query}");
        let call = Call { method: "POST", target: &target, body: "" };
        let mut request = sign(&call, &test.primary, HOST, test.clock.now());
        request.target = Target::from_wire(&format!("{sent}{query}"));
        assert_eq!(test.service.handle(request).await.status(), 401, "signed {signed}, sent {sent}");
    }
}

#[tokio::test]
async fn loopback_hosts_get_no_rule_to_use_https() {
    let test = test_service().await;
    let hosts = "identity.example.com,localhost:8443,[::1]:8443".parse().unwrap();
    let service = with_settings(&test, Settings { hosts, ..settings() }, Function::ALL);
    let rule = Some("max-age=31536000;includeSubDomains");
    for (host, expected) in [
        (Some("identity.example.com"), rule),
        (Some("other.example.com"), rule),
        (None, rule),
        (Some("localhost:8443"), None),
        (Some("LOCALHOST"), None),
        (Some("127.0.0.1:8080"), None),
        (Some("[::1]:8443"), None),
    ] {
        for (method, target) in [("GET", KEY_SET), ("POST", "/identities"), ("OPTIONS", "/identities")] {
            let mut request = request(method, target, &[]);
            request.headers.remove("host");
            request.headers.extend(host.map(|host| (http::header::HOST, host.parse().unwrap())));
            let reply = service.handle(request).await;
            let found = reply.headers().get("strict-transport-security").map(|value| value.to_str().unwrap());
            assert_eq!(found, expected, "{method} {target} {host:?}");
        }
    }
}
