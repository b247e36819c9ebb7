//! Events of every kind of gateway, through the authorizer. The events are in `functions/fixtures/authorizer`, and the
//! changes of them in `tests/vectors/authorizer_events.json`.

use e2e::test_service::{Ports, TestService};
use functions::authorizer::{self, AuthorizerError};
use functions::invocation::Invocation;
use identity::keys::Algorithm;
use proptest::prelude::*;
use proptest::sample::select;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Row {
    name: String,
    fixture: Option<String>,
    changes: serde_json::Map<String, Value>,
    verdict: String,
    reason: Option<String>,
}

/// The texts that stand for tokens, and the tokens.
type Tokens = [(&'static str, String); 3];

fn fixture(name: &str) -> &'static str {
    match name {
        "http_api_1.0" => include_str!("../../functions/fixtures/authorizer/http_api_1.0.json"),
        "http_api_2.0" => include_str!("../../functions/fixtures/authorizer/http_api_2.0.json"),
        "rest_api" => include_str!("../../functions/fixtures/authorizer/rest_api.json"),
        "websocket_connect" => include_str!("../../functions/fixtures/authorizer/websocket_connect.json"),
        other => panic!("no fixture {other}"),
    }
}

fn with_tokens(text: &str, tokens: &Tokens) -> Value {
    let text = tokens.iter().fold(text.to_owned(), |text, (name, token)| text.replace(name, token));
    serde_json::from_str(&text).unwrap()
}

/// Sets the member at a JSON Pointer, or removes it.
fn change(event: &mut Value, pointer: &str, value: Value) {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    let members = event.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        members.remove(member);
    } else {
        members.insert(member.to_owned(), if value == "{null}" { Value::Null } else { value });
    }
}

async fn service() -> (TestService, Tokens) {
    let (ports, _) = Ports::memory();
    let service = TestService::new(ports, Algorithm::Es256, 83).await;
    let token = async |scope: &str| {
        let id = service.create().await;
        let target = format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01");
        let body = json!({"scopes": [scope]}).to_string();
        (service.send("POST", &target, &body).await.token().unwrap(), id)
    };
    let (revoked, id) = token("chat").await;
    assert_eq!(service.revoke(&id).await.status, 204);
    let tokens =
        [("{chat}", token("chat").await.0), ("{voip}", token("voip").await.0), ("{revoked}", revoked)];
    (service, tokens)
}

/// The verdict of an answer. A policy allows only the method of the event.
fn verdict(answer: &Result<Value, AuthorizerError>, event: &Value) -> &'static str {
    let answer = match answer {
        Ok(answer) => answer,
        Err(AuthorizerError::Event(_)) => return "invalid_event",
        Err(AuthorizerError::Unauthorized) => return "unauthorized",
        Err(error) => panic!("{error}"),
    };
    if event["version"] == "2.0" {
        let is_authorized = answer["isAuthorized"].as_bool().unwrap();
        assert_eq!(answer.get("context").is_some(), is_authorized);
        return if is_authorized { "allow" } else { "deny" };
    }
    assert!(answer["principalId"].is_string() && answer["policyDocument"]["Version"] == "2012-10-17");
    let [statement] = answer["policyDocument"]["Statement"].as_array().unwrap().as_slice() else {
        panic!("{answer}")
    };
    assert_eq!(statement["Action"], "execute-api:Invoke");
    let arn = event["methodArn"].as_str().unwrap();
    match statement["Effect"].as_str() {
        Some("Allow") => {
            assert_eq!(statement["Resource"], arn);
            assert!(!arn.contains(['*', '?', '{']), "{arn}");
            "allow"
        }
        Some("Deny") => {
            let stage = statement["Resource"].as_str().unwrap().strip_suffix("/*").unwrap();
            assert!(arn.starts_with(&format!("{stage}/")) && stage.matches('/').count() == 1, "{answer}");
            "deny"
        }
        _ => panic!("{answer}"),
    }
}

#[tokio::test]
async fn every_event_has_its_verdict_and_its_audit_line() {
    let (service, tokens) = service().await;
    let rows: Vec<Row> = serde_json::from_str(include_str!("../vectors/authorizer_events.json")).unwrap();
    assert!(rows.len() > 150, "the vectors are missing");
    let mut wrong = Vec::new();
    for Row { name, fixture: kind, changes, verdict: expected, reason } in rows {
        let mut event = kind.as_deref().map_or(Value::Null, |kind| with_tokens(fixture(kind), &tokens));
        for (pointer, value) in &changes {
            change(&mut event, pointer, with_tokens(&value.to_string(), &tokens));
        }
        let before = service.audit.lines().len();
        let answer = authorizer::handle(&service.authorizer, event.clone()).await;
        let found = verdict(&answer, &event);
        let lines = service.audit.lines();
        let [line] = &lines[before..] else { panic!("{name}: {} lines", lines.len() - before) };
        let line: Value = serde_json::from_str(line).unwrap();
        let found_reason = line["reason"].as_str().unwrap_or_default();
        if found != expected || !found_reason.contains(reason.as_deref().unwrap_or_default()) {
            wrong.push(format!("{name}: {found}, {found_reason:?}"));
        }
        assert_eq!(line["operation"], "authorize", "{name}");
        let named = line["event"].as_str();
        assert!(expected == "invalid_event" || named == kind.as_deref(), "{name}: {named:?}");
        let level = match expected.as_str() {
            "invalid_event" => "ERROR",
            "allow" => "INFO",
            _ => "WARN",
        };
        assert_eq!(line["level"], level, "{name}: {line}");
        let error = match line["status"].as_u64() {
            Some(200) => None,
            Some(401) => Some("Unauthorized"),
            Some(403) => Some("Forbidden"),
            _ => Some("InvalidEvent"),
        };
        assert_eq!(line["error"].as_str(), error, "{name}: {line}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let written = service.audit.lines().join("\n");
    assert!(!written.contains("eyJ"), "a token was logged");
}

#[tokio::test]
async fn lines_name_the_requests_of_gateway_and_lambda() {
    let (service, tokens) = service().await;
    let event = with_tokens(fixture("http_api_2.0"), &tokens);
    let request_id = Some("8f5e2e0c-1d7f-4c2b-9a55-0b6c1f2d3e4f".to_owned());
    let facts = [
        ("gatewayRequestId", "Tq1X2hYzoAMEPbA="),
        ("lambdaRequestId", "8f5e2e0c-1d7f-4c2b-9a55-0b6c1f2d3e4f"),
        ("traceId", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("sdk", "azsdk-js-communication-chat/1.6.0"),
        ("event", "http_api_2.0"),
    ];
    for audits_source in [false, true] {
        let invocation = Invocation { request_id: request_id.clone(), audits_source };
        authorizer::handle_invocation(&service.authorizer, event.clone(), &invocation).await.unwrap();
        let line: Value = serde_json::from_str(service.audit.lines().last().unwrap()).unwrap();
        for (member, value) in facts {
            assert_eq!(line[member], value, "{member}");
        }
        let source = audits_source.then_some("203.0.113.7");
        assert_eq!(line.get("sourceIp").and_then(Value::as_str), source);
        assert_eq!(line.get("userAgent").is_some(), audits_source);
    }
}

#[tokio::test]
async fn lines_of_active_tokens_name_the_identity_the_scopes_and_the_capability() {
    let (service, tokens) = service().await;
    let [(_, chat), (_, voip), (_, revoked)] = &tokens;
    for (token, path, scopes, capability) in [
        (chat, "/chat/threads", Some("chat"), Some("chat.list_threads")),
        (voip, "/chat/threads", Some("voip"), Some("chat.list_threads")),
        (chat, "/elsewhere", Some("chat"), None),
        (revoked, "/chat/threads", None, None),
    ] {
        let mut event = with_tokens(fixture("http_api_2.0"), &tokens);
        change(&mut event, "/headers/authorization", format!("Bearer {token}").into());
        change(&mut event, "/rawPath", path.into());
        change(&mut event, "/requestContext/http/path", path.into());
        authorizer::handle(&service.authorizer, event).await.unwrap();
        let line: Value = serde_json::from_str(service.audit.lines().last().unwrap()).unwrap();
        let identity = match service.verify(token).await {
            Ok(verified) => json!(verified.identity.to_string()),
            Err(_) => Value::Null,
        };
        assert_eq!(line["identity"], identity, "{line}");
        assert_eq!(line["scopes"], scopes.map_or(Value::Null, |scope| json!([scope])), "{line}");
        assert_eq!(line["capability"].as_str(), capability, "{line}");
    }
}

#[tokio::test]
async fn lines_of_invalid_events_name_the_error_the_kind_and_the_invocation() {
    let (service, tokens) = service().await;
    let mut event = with_tokens(fixture("http_api_2.0"), &tokens);
    change(&mut event, "/rawPath", Value::Null);
    let invocation = Invocation { request_id: Some("8f5e2e0c".to_owned()), audits_source: false };
    authorizer::handle_invocation(&service.authorizer, event, &invocation).await.unwrap_err();
    let line: Value = serde_json::from_str(service.audit.lines().last().unwrap()).unwrap();
    let facts = [("error", "InvalidEvent"), ("event", "http_api_2.0"), ("lambdaRequestId", "8f5e2e0c")];
    for (member, value) in facts {
        assert_eq!(line[member], value, "{line}");
    }
}

/// Values for members of events, and parts of them.
const JUNK: [&str; 18] = [
    "*",
    "?",
    "${aws:username}",
    "$connect",
    "$default",
    "v1",
    "chat",
    "threads",
    "GET",
    "POST",
    "CONNECT",
    "1.0",
    "2.0",
    "..",
    "%2F",
    "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5",
    "arn:aws:execute-api:*:*",
    "",
];

const POINTERS: [&str; 8] = [
    "/methodArn",
    "/path",
    "/httpMethod",
    "/version",
    "/type",
    "/requestContext/stage",
    "/requestContext/eventType",
    "/requestContext/routeKey",
];

fn junk() -> impl Strategy<Value = Value> {
    let text = prop::collection::vec(select(JUNK.to_vec()), 1..6).prop_map(|parts| parts.join("/").into());
    prop_oneof![4 => text, 1 => Just(Value::Null), 1 => Just(json!("{null}")), 1 => Just(json!(7)), 1 => Just(json!({}))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// [`verdict`] checks each policy.
    #[test]
    fn no_event_gives_a_wider_policy_than_its_own_method(
        changed in prop::collection::vec(
            (
                select(vec!["http_api_1.0", "rest_api", "websocket_connect"]),
                prop::collection::vec((select(POINTERS.to_vec()), junk()), 0..4),
            ),
            32,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (service, tokens) = service().await;
            for (kind, changes) in changed {
                let mut event = with_tokens(fixture(kind), &tokens);
                for (pointer, value) in changes {
                    change(&mut event, pointer, value);
                }
                let answer = authorizer::handle(&service.authorizer, event.clone()).await;
                verdict(&answer, &event);
            }
        });
    }
}
