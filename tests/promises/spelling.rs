//! The forms in which clients, proxies and formatters write the same request, and the forms that stay refused. The rows
//! are in `tests/vectors/spelling.json` and `tests/vectors/other_targets.json`.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::test_service::{HOST, Ports, Reply, TestService};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use identity::api::pipeline::{Body, Request};
use identity::authn::target::{PathForm, Target};
use identity::host::Hosts;
use identity::keys::Algorithm;
use identity::settings::Settings;
use identity::testing::settings;
use serde::Deserialize;
use serde_json::{Value, json};

const NOON: &str = "Fri, 01 Mar 2024 12:00:00 GMT";
const GUID: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c77a";
const OTHER_GUID: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c77b";

/// A request as sent.
#[derive(Clone, Deserialize)]
struct Sent {
    method: String,
    target: String,
    host: String,
    #[serde(default)]
    date: Option<String>,
    #[serde(default)]
    body: String,
    /// The whole value of the header, with `{signature}` for the signature.
    #[serde(default)]
    authorization: Option<String>,
}

/// The signed values that differ from the sent ones.
#[derive(Default, Deserialize)]
struct Signed {
    method: Option<String>,
    target: Option<String>,
    host: Option<String>,
    date: Option<String>,
    body: Option<String>,
}

/// A row of `spelling.json`.
#[derive(Deserialize)]
struct Row {
    name: String,
    hosts: Vec<String>,
    any_port: bool,
    sent: Sent,
    signed: Signed,
    status: u16,
    message: Option<String>,
    token_minutes: Option<i64>,
    audit: Option<String>,
}

/// A row of `other_targets.json`.
#[derive(Deserialize)]
struct OtherTarget {
    name: String,
    signed: Signed,
    sent: Sent,
    body: String,
}

/// Two identities, for the placeholders in targets.
struct Identities {
    id: String,
    other: String,
}

impl Identities {
    async fn new(test: &TestService) -> Self {
        Self { id: test.create().await, other: test.create().await }
    }

    fn fill(&self, target: &str) -> String {
        let tail = self.id.rsplit(':').next().unwrap();
        let escaped = self.id.replace(':', "%3A");
        [
            ("{id}", self.id.as_str()),
            ("{tail}", tail),
            ("{escaped}", &escaped),
            ("{escaped_twice}", &escaped.replace('%', "%25")),
            ("{upper}", &self.id.to_ascii_uppercase()),
            ("{other}", &self.other),
            ("{other_escaped}", &self.other.replace(':', "%3A")),
            ("{guid}", GUID),
            ("{upper_guid}", &GUID.to_ascii_uppercase()),
            ("{other_guid}", OTHER_GUID),
        ]
        .iter()
        .fold(target.to_owned(), |target, (name, value)| target.replace(name, value))
    }
}

fn hash(body: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes()))
}

/// The request as sent, with the signature over the signed values.
fn request(sent: &Sent, signed: &Signed, key: &str, identities: &Identities) -> Request {
    let date = sent.date.as_deref().unwrap_or(NOON);
    let method = signed.method.as_ref().unwrap_or(&sent.method);
    let target = identities.fill(signed.target.as_ref().unwrap_or(&sent.target));
    let host = signed.host.as_ref().unwrap_or(&sent.host);
    let signed_hash = hash(signed.body.as_ref().unwrap_or(&sent.body));
    let text = format!("{method}\n{target}\n{};{host};{signed_hash}", signed.date.as_deref().unwrap_or(date));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let usual = "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}";
    let authorization = sent.authorization.as_deref().unwrap_or(usual).replace("{signature}", &signature);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", sent.host.as_str()),
        ("x-ms-date", date),
        ("x-ms-content-sha256", &signed_hash),
        ("authorization", &authorization),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let target = Target::from_wire(&identities.fill(&sent.target));
    let body = Body::Complete(sent.body.clone().into());
    Request { method: Method::from_bytes(sent.method.as_bytes()).unwrap(), target, headers, body }
}

async fn test_service() -> TestService {
    TestService::new(Ports::memory().0, Algorithm::Es256, 83).await
}

/// The lifetime of the token in a reply, in minutes.
fn minutes(reply: &Reply) -> Option<i64> {
    let claims = URL_SAFE_NO_PAD.decode(reply.token()?.split('.').nth(1)?).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    Some((claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()) / 60)
}

#[tokio::test]
async fn requests_follow_the_rows_about_spelling() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../vectors/spelling.json")).unwrap();
    assert!(rows.len() > 100);
    let test = test_service().await;
    for Row { name, hosts, any_port, sent, signed, status, message, token_minutes, audit } in rows {
        let hosts: Hosts = hosts.join(",").parse().unwrap();
        let hosts = if any_port { hosts.at_any_port() } else { hosts };
        let service = test.with_settings(Settings { hosts, ..settings() });
        let identities = Identities::new(&test).await;
        let reply = Reply::of(service.handle(request(&sent, &signed, &test.primary, &identities)).await);
        let line = test.audit.lines().pop().unwrap();
        assert_eq!(reply.status, status, "{name}: {} {line}", reply.text);
        if let Some(message) = message {
            assert_eq!(reply.json.pointer("/error/message"), Some(&json!(message)), "{name}");
        }
        assert_eq!(minutes(&reply), token_minutes, "{name}: {}", reply.text);
        if let Some(audit) = audit {
            assert!(line.contains(&audit), "{name}: {line}");
        }
    }
}

#[tokio::test]
async fn signatures_authorise_no_other_target() {
    let rows: Vec<OtherTarget> = serde_json::from_str(include_str!("../vectors/other_targets.json")).unwrap();
    assert!(rows.len() > 100);
    let test = test_service().await;
    let identities = Identities::new(&test).await;
    for OtherTarget { name, signed, mut sent, body } in rows {
        sent.body = body;
        let request = request(&sent, &signed, &test.primary, &identities);
        let reply = Reply::of(test.service.handle(request).await);
        assert_eq!((reply.status, reply.code().as_deref()), (401, Some("Denied")), "{name}: {}", reply.text);
    }
    for id in [&identities.id, &identities.other] {
        assert_eq!(test.issue(&test.primary, id).await.status, 200, "no request has changed an identity");
    }
}

/// The reason names the setting only if the other value would accept the signature.
#[tokio::test]
async fn wrong_form_of_the_path_is_named() {
    let test = test_service().await;
    let identities = Identities::new(&test).await;
    let query = "api-version=2023-10-01";
    let sent = |target: &str| Sent {
        method: "POST".to_owned(),
        target: target.to_owned(),
        host: HOST.to_owned(),
        date: None,
        body: r#"{"scopes":["chat"]}"#.to_owned(),
        authorization: None,
    };
    let wire = |path: &str| Target::from_wire(&format!("{}?{query}", identities.fill(path)));
    let decoded = |path: &str| Target::from_decoded_path(&identities.fill(path), query);
    let escaped = "/identities/{escaped}/:issueAccessToken";
    let literal = "/identities/{id}/:issueAccessToken";
    let (phone, escaped_phone) =
        ("/identities/4:+1/:issueAccessToken", "/identities/4%3A%2B1/:issueAccessToken");
    for (signed, received, form, reason) in [
        (escaped, decoded(escaped), Some(PathForm::Decoded), "if GATEWAY_PATH were wire"),
        (escaped, wire(literal), Some(PathForm::Wire), ""),
        (escaped_phone, wire(phone), Some(PathForm::Wire), "if GATEWAY_PATH were decoded"),
        (escaped_phone, wire(phone), None, "the signature matches neither access key"),
        (
            "/identities",
            decoded(escaped),
            Some(PathForm::Decoded),
            "the signature matches neither access key",
        ),
    ] {
        let service = test.with_settings(Settings { gateway_path: form, ..settings() });
        let mut request =
            request(&sent(&format!("{signed}?{query}")), &Signed::default(), &test.primary, &identities);
        request.target = received;
        let reply = Reply::of(service.handle(request).await);
        let line = test.audit.lines().pop().unwrap();
        assert_eq!(reply.status, if reason.is_empty() { 200 } else { 401 }, "{signed}: {line}");
        assert!(line.contains(reason), "{signed}: {line}");
        assert!(!reply.text.contains("GATEWAY_PATH"), "{}", reply.text);
    }
}

#[tokio::test]
async fn user_token_on_a_path_of_another_service_is_named() {
    let test = test_service().await;
    let body = r#"{"createTokenWithScopes":["chat"]}"#;
    let token = test.send("POST", "/identities?api-version=2023-10-01", body).await.token().unwrap();
    let bearer = async |target: &str, token: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        headers.insert("host", HeaderValue::from_static(HOST));
        let body = Body::Complete("".into());
        let request = Request { method: Method::GET, target: Target::from_wire(target), headers, body };
        let reply = Reply::of(test.service.handle(request).await);
        assert_eq!((reply.status, reply.code().as_deref()), (401, Some("Denied")), "{}", reply.text);
        assert_eq!(reply.json["error"]["message"], "Denied by the resource provider.");
        test.audit.lines().pop().unwrap().contains("belongs to another service")
    };
    assert!(bearer("/chat/threads?api-version=2024-03-07", &token).await);
    assert!(!bearer("/identities?api-version=2023-10-01", &token).await, "the path belongs to this service");
    for other in [
        "e30.e30.e30",
        "x",
        "a.b.c",
        &format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(r#"{"iss":"https://localhost:8443","aud":"x"}"#)),
    ] {
        assert!(!bearer("/chat/threads", other).await, "{other}");
    }
}
