//! The replies to callers: every recorded body, every row of the error catalogue, and the headers of successes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::signer::{Call, sign, sign_bytes};
use e2e::test_service::{HOST, Ports, Reply, TestService};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use identity::api::pipeline::Body;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use serde::Deserialize;

/// An access key of another resource.
const FOREIGN_KEY: &str = "bm90IHRoZSBrZXkgb2YgdGhpcyByZXNvdXJjZSBhdCBhbGw=";

const SUPPORTED: &str = "2020-07-20-preview2, 2021-02-22-preview1, 2021-03-07, 2021-03-31-preview1, \
    2021-10-31-preview, 2022-06-01, 2022-10-01, 2023-10-01, 2025-03-02-preview, 2025-06-30, 2026-07-22, 2026-09-23";

async fn fixture() -> TestService {
    let (ports, _) = Ports::memory();
    TestService::new(ports, Algorithm::Es256, 31).await
}

#[derive(Deserialize)]
struct Row {
    name: String,
    operation: String,
    api_version: String,
    content_type: Option<String>,
    #[serde(flatten)]
    body: RowBody,
    status: u16,
    code: Option<String>,
    message: Option<String>,
    message_contains: Option<String>,
    target: Option<String>,
    supported_versions_header: bool,
}

#[derive(Deserialize)]
enum RowBody {
    #[serde(rename = "body")]
    Text(String),
    #[serde(rename = "body_base64")]
    Bytes(String),
}

impl Row {
    async fn send(&self, fixture: &TestService, id: &str) -> Reply {
        let path = match self.operation.as_str() {
            "create" => "/identities".to_owned(),
            "issue" => format!("/identities/{id}/:issueAccessToken"),
            other => panic!("{}: the operation {other}", self.name),
        };
        let target = format!("{path}?api-version={}", self.api_version);
        let body = match &self.body {
            RowBody::Text(text) => text.clone().into_bytes(),
            RowBody::Bytes(encoded) => STANDARD.decode(encoded).unwrap(),
        };
        let call = Call { method: "POST", target: &target, body: "" };
        let mut request = sign_bytes(&call, &body, &fixture.primary, HOST, fixture.clock.now());
        if let Some(content_type) = &self.content_type {
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        }
        Reply::of(fixture.service.handle(request).await)
    }
}

#[tokio::test]
async fn every_recorded_body_gets_its_recorded_answer() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../vectors/requests.json")).unwrap();
    assert!(rows.len() > 100);
    let fixture = fixture().await;
    let id = fixture.create().await;
    for row in rows {
        let reply = row.send(&fixture, &id).await;
        assert_eq!(reply.status, row.status, "{}: {}", row.name, reply.text);
        assert_eq!(reply.code(), row.code, "{}", row.name);
        let message = reply.json.pointer("/error/message").and_then(|text| text.as_str()).unwrap_or("");
        if let Some(expected) = &row.message {
            assert_eq!(message, expected, "{}", row.name);
        }
        if let Some(part) = &row.message_contains {
            assert!(message.contains(part), "{}: {message:?} lacks {part:?}", row.name);
        }
        let target = reply.json.pointer("/error/target").and_then(|text| text.as_str());
        assert_eq!(target, row.target.as_deref(), "{}", row.name);
        let listed = reply.headers.contains_key("api-supported-versions");
        assert_eq!(listed, row.supported_versions_header, "{}", row.name);
    }
}

/// Name, reply, status, code, exact message, target, and whether the reply lists the supported versions.
type Expectation<'a> = (&'a str, Reply, u16, &'a str, &'a str, Option<&'a str>, bool);

fn check((name, reply, status, code, message, target, listed): Expectation<'_>) {
    assert_eq!(reply.status, status, "{name}: {}", reply.text);
    let mut error = serde_json::json!({"code": code, "message": message});
    if let Some(target) = target {
        error["target"] = target.into();
    }
    assert_eq!(reply.json, serde_json::json!({ "error": error }), "{name}");
    assert_eq!(reply.headers["content-type"], "application/json", "{name}");
    assert_eq!(reply.headers.contains_key("api-supported-versions"), listed, "{name}");
}

#[tokio::test]
async fn wrong_identities_get_their_catalogue_errors() {
    let fixture = fixture().await;
    let own = fixture.create().await;
    let (resource, _) = own.split_once('_').unwrap();
    let unknown = format!("{resource}_00000000-0000-0000-0000-000000000001");
    let foreign = format!("8:acs:{0}_{0}", "00000000-0000-0000-0000-000000000000");
    let not_found = (404, "IdentityNotFound", "Provided identity doesn't exist.", None, true);
    let not_owned =
        (401, "IdentityNotOwned", "Provided identity doesn't belong to the resource.", None, true);
    let malformed = (400, "ValidationError", "Provided identity has invalid format.", Some("id"), true);
    let phone = "4:%2B12065550100";
    for (id, (status, code, message, target, listed)) in [
        (unknown.as_str(), not_found),
        (&foreign, not_owned),
        ("8:gcch-acs:1b5cc06b-f352-4571-b1e6-d9b259b7c776_00000000-0000-0000-0000-000000000001", not_owned),
        ("8:orgid:00000000-0000-0000-0000-000000000001", not_found),
        ("no-identity", malformed),
        ("8:acs:a_b", malformed),
        (phone, malformed),
    ] {
        check((id, fixture.issue(&fixture.primary, id).await, status, code, message, target, listed));
        check((id, fixture.revoke(id).await, status, code, message, target, listed));
        let deleted = fixture.delete(id).await;
        if status == 404 {
            assert_eq!(
                (deleted.status, deleted.text.as_str()),
                (204, ""),
                "{id}: a deletion does not show whether the identity existed"
            );
        } else {
            check((id, deleted, status, code, message, target, listed));
        }
    }
    assert_eq!(fixture.delete(&own).await.status, 204);
    let (status, code, message, target, listed) = not_found;
    check(("deleted", fixture.issue(&fixture.primary, &own).await, status, code, message, target, listed));
    check(("deleted", fixture.revoke(&own).await, status, code, message, target, listed));
}

#[tokio::test]
async fn wrong_callers_versions_and_paths_get_their_catalogue_errors() {
    let fixture = fixture().await;
    let now = fixture.clock.now();
    let call = Call { method: "POST", target: "/identities?api-version=2023-10-01", body: "" };
    let send = |key: &str, host: &str, at| {
        let request = sign(&call, key, host, at);
        let service = fixture.service.clone();
        async move { Reply::of(service.handle(request).await) }
    };
    let denied = "Denied by the resource provider.";
    let skewed = "The given request could not be resolved.\nThe time difference between the originating \
                  client and the server is greater than the allowed margin of 5 minutes.\nThe time of the server is \
                  Fri, 01 Mar 2024 12:00:00 GMT. The time of the request is Fri, 01 Mar 2024 11:54:59 GMT.";
    let late = now - time::Duration::seconds(301);
    check(("wrong key", send(FOREIGN_KEY, HOST, now).await, 401, "Denied", denied, None, false));
    check(("wrong host", send(&fixture.primary, "elsewhere", now).await, 401, "Denied", denied, None, false));
    check(("clock", send(&fixture.primary, HOST, late).await, 401, "Denied", skewed, None, false));
    let unsupported = "The HTTP resource that matches the request URI 'https://localhost:8443/identities' does \
                       not support the API version '2019-01-01'.";
    let unspecified = "An API version is required, but was not specified.";
    let version = |query: &str| {
        let target = format!("/identities{query}");
        let fixture = &fixture;
        async move { fixture.send("POST", &target, "").await }
    };
    let reply = version("?api-version=2019-01-01").await;
    check(("unsupported", reply, 400, "UnsupportedApiVersion", unsupported, None, true));
    check(("unspecified", version("").await, 400, "ApiVersionUnspecified", unspecified, None, true));
    let path = fixture.send("POST", "/elsewhere", "").await;
    check(("path", path, 404, "NotFound", "The path does not exist.", None, false));
    let method = fixture.send("PUT", "/identities?api-version=2023-10-01", "").await;
    assert_eq!(method.headers["allow"], "POST");
    check(("method", method, 405, "MethodNotAllowed", "The path allows only: POST.", None, false));
    let mut large = sign(&call, &fixture.primary, HOST, now);
    large.body = Body::TooLarge;
    let large = Reply::of(fixture.service.handle(large).await);
    let message = "The request body is larger than 65536 bytes.";
    check(("size", large, 413, "RequestBodyTooLarge", message, None, false));
}

#[tokio::test]
async fn callers_are_authenticated_before_any_other_check() {
    let fixture = fixture().await;
    for (method, target, body) in [
        ("POST", "/identities", ""),
        ("POST", "/identities?api-version=1999-01-01", ""),
        ("POST", "/identities?api-version=2023-10-01", "not JSON"),
        ("DELETE", "/identities/no-identity?api-version=2023-10-01", ""),
        ("PUT", "/identities?api-version=2023-10-01", ""),
        ("GET", "/elsewhere", ""),
    ] {
        let reply = fixture.send_as(FOREIGN_KEY, method, target, body).await;
        let denied = "Denied by the resource provider.";
        check((target, reply, 401, "Denied", denied, None, false));
    }
}

#[tokio::test]
async fn successes_carry_the_headers_of_the_contract() {
    let fixture = fixture().await;
    let id = fixture.create().await;
    let created = fixture.send("POST", "/identities?api-version=2021-03-07", "{}").await;
    assert_eq!(created.status, 201);
    let only_the_id = format!(r#"{{"identity":{{"id":"{}"}}}}"#, created.id().unwrap());
    assert_eq!(created.text, only_the_id, "compact JSON, and no token");
    let issued = fixture.issue(&fixture.primary, &id).await;
    assert_eq!(issued.json["expiresOn"], "2024-03-02T12:00:00+00:00");
    for (reply, content_type) in [
        (created, Some("application/json; charset=utf-8")),
        (issued, Some("application/json; charset=utf-8")),
        (fixture.revoke(&id).await, None),
    ] {
        let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("content-type"), content_type);
        assert_eq!(header("api-supported-versions"), Some(SUPPORTED));
        assert_eq!(header("request-context"), Some("appId="));
        assert_eq!(header("x-processing-time"), Some("0ms"));
        assert_eq!(header("strict-transport-security"), None, "{HOST} is a loopback name");
        let vector = header("ms-cv").unwrap();
        let (base, counter) = vector.split_once('.').unwrap();
        assert_eq!((base.len(), counter), (22, "0"), "{vector}");
        assert_eq!(header("x-ms-client-request-id"), None);
    }
}

#[tokio::test]
async fn only_valid_client_request_ids_are_echoed() {
    let fixture = fixture().await;
    let call = Call { method: "POST", target: "/identities?api-version=2023-10-01", body: "" };
    let long = "x".repeat(129);
    for (id, echoed) in
        [("a2f1c0de-0000", true), ("with space", false), (long.as_str(), false), ("tab\there", false)]
    {
        let mut request = sign(&call, &fixture.primary, HOST, fixture.clock.now());
        request.headers.insert("x-ms-client-request-id", HeaderValue::from_str(id).unwrap());
        let reply = Reply::of(fixture.service.handle(request).await);
        assert_eq!(reply.status, 201);
        let echo = reply.headers.get("x-ms-client-request-id").map(|value| value.as_bytes());
        assert_eq!(echo, echoed.then_some(id.as_bytes()));
    }
}

#[tokio::test]
async fn each_request_writes_exactly_one_audit_line() {
    let fixture = fixture().await;
    let id = fixture.create().await;
    fixture.issue(&fixture.secondary, &id).await;
    fixture.revoke("no-identity").await;
    fixture.send("GET", "/", "").await;
    let lines = fixture.audit.lines();
    let lines = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    // The steps of the set-up have lines too.
    let lines: Vec<_> = lines.filter(|line| line.get("step").is_none()).collect();
    let fields = ["operation", "outcome", "status", "error", "identity", "slot"];
    let seen: Vec<_> = lines.iter().map(|line| fields.map(|field| line[field].to_string())).collect();
    let id = format!("{id:?}");
    assert_eq!(
        seen,
        [
            [r#""create_identity""#, r#""success""#, "201", "null", &id, r#""primary""#],
            [r#""issue_access_token""#, r#""success""#, "200", "null", &id, r#""secondary""#],
            [
                r#""revoke_access_tokens""#,
                r#""refused""#,
                "400",
                r#""ValidationError""#,
                "null",
                r#""primary""#
            ],
            ["null", r#""refused""#, "404", r#""NotFound""#, "null", r#""primary""#],
        ]
    );
}
