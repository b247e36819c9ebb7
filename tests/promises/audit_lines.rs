//! The members of audit lines that join them with the lines of gateways, Lambda, traces and Entra.

use e2e::entra_issuer::{CLIENTS, SERVICE, SERVICES, TEAMS, TENANT, send, token, trusting};
use e2e::signer::{Call, sign};
use e2e::test_service::{HOST, Ports, TestService};
use functions::gateway;
use functions::invocation::Invocation;
use http::HeaderValue;
use http::header::USER_AGENT;
use identity::authn::target::PathForm;
use identity::keys::rotation::{Change, RotationError};
use identity::keys::{AccessSlot, Algorithm};
use identity::runtime::Clock as _;
use identity::secrets::VersionId;
use serde_json::{Value, json};
use uuid::Uuid;

const USER: Uuid = Uuid::from_u128(0xeeee_0000_0000_4000_8000_0000_0000_0007);
const CREATE: &str = "/identities?api-version=2023-10-01";

async fn service() -> TestService {
    let (ports, _) = Ports::memory();
    TestService::new(ports, Algorithm::Es256, 29).await
}

fn last(service: &TestService) -> Value {
    serde_json::from_str(service.audit.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn lines_join_with_gateway_lambda_and_traces() {
    let service = service().await;
    let event = include_str!("../../functions/fixtures/http_api.json");
    let mut event: Value = serde_json::from_str(event).unwrap();
    event["headers"]["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
    event["requestContext"]["http"]["sourceIp"] = "2001:db8::7".into();
    for audits_source in [false, true] {
        let request_id = Some("8f5e2e0c-1d7f-4c2b-9a55-0b6c1f2d3e4f".to_owned());
        let invocation = Invocation { request_id, audits_source };
        gateway::handle(&service.service, PathForm::Decoded, event.clone(), &invocation).await;
        let line = last(&service);
        // The access key of the fixture is another one.
        for (member, value) in [
            ("status", json!(401)),
            ("level", json!("WARN")),
            ("timestamp", json!("2024-03-01T12:00:00Z")),
            ("operation", json!("issue_access_token")),
            ("apiVersion", json!("2023-10-01")),
            ("sdk", json!("azsdk-python-communication-identity/1.5.0")),
            ("traceId", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
            ("gatewayRequestId", json!("Tq1X2hYzoAMEPbA=")),
            ("lambdaRequestId", json!("8f5e2e0c-1d7f-4c2b-9a55-0b6c1f2d3e4f")),
        ] {
            assert_eq!(line[member], value, "{member}");
        }
        let (ip, agent) = ("2001:db8::7", "azsdk-python-communication-identity/1.5.0 Python/3.11.7");
        for (member, value) in [("sourceIp", ip), ("userAgent", agent)] {
            let found = line.get(member).and_then(Value::as_str);
            assert_eq!(found, audits_source.then_some(value), "{member}");
        }
    }
}

#[tokio::test]
async fn the_level_follows_the_outcome() {
    let service = service().await;
    service.create().await;
    assert_eq!(last(&service)["level"], "INFO");
    service.send("POST", "/identities", "").await;
    let line = last(&service);
    assert_eq!((&line["level"], line.get("apiVersion")), (&json!("WARN"), None));
}

/// A line is one JSON object with closed members, whatever the client writes.
#[tokio::test]
async fn a_user_agent_cannot_forge_lines() {
    let service = service().await;
    for agent in [
        "azsdk-x/1.0\t{\"outcome\":\"success\"}",
        "azsdk-x/1.0\",\"principal\":\"admin\",\"x\":\"",
        "azsdk-x/1.0%0A{}",
        "\u{1b}[2Jazsdk-x/1.0",
        "azsdk-x/\u{202e}1.0",
        &format!("azsdk-{}/1", "x".repeat(10_000)),
    ] {
        let call = Call { method: "POST", target: CREATE, body: "" };
        let mut request = sign(&call, &service.primary, HOST, service.clock.now());
        let Ok(value) = HeaderValue::from_bytes(agent.as_bytes()) else { continue };
        request.headers.insert(USER_AGENT, value);
        service.service.handle(request).await;
        let text = service.audit.lines().last().unwrap().clone();
        assert!(text.len() < 1_000 && text.bytes().all(|b| matches!(b, b' '..=b'~')), "{text}");
        let line = last(&service);
        assert_eq!(line["outcome"], "success");
        assert!(line.get("principal").is_none() && line.get("userAgent").is_none(), "{line}");
        assert!(line["sdk"].as_str().is_none_or(|sdk| sdk == "azsdk-x/1.0"), "{line}");
    }
}

#[tokio::test]
async fn accepted_and_refused_principals_are_named() {
    let fixture = service().await;
    let service = trusting(&fixture);
    let entra = "/access/entra/:exchangeAccessToken?api-version=2025-03-02-preview";
    let user = json!({"scp": "Chat"});
    let forged = |token: &str| format!("{}AAAA", &token[..token.len() - 4]);
    let application = json!({"azpacr": "1"});
    for (name, target, token, status, principal) in [
        ("an application", CREATE, token(SERVICES, SERVICE, application.clone()), 201, Some(SERVICE)),
        ("a listed user", CREATE, token(SERVICES, SERVICE, user.clone()), 201, Some(SERVICE)),
        ("not listed", CREATE, token(SERVICES, USER, application.clone()), 401, Some(USER)),
        ("another audience", CREATE, token(TEAMS, SERVICE, user.clone()), 401, Some(SERVICE)),
        ("an application for a user", entra, token(CLIENTS, SERVICE, application), 401, Some(SERVICE)),
        ("no permission", entra, token(CLIENTS, USER, json!({"scp": "Other"})), 401, Some(USER)),
        ("not assigned", entra, token(CLIENTS, USER, user.clone()), 401, Some(USER)),
        ("forged", CREATE, forged(&token(SERVICES, SERVICE, user.clone())), 401, None),
        ("forged, another audience", CREATE, forged(&token(TEAMS, SERVICE, user.clone())), 401, None),
        (
            "expired",
            CREATE,
            token(SERVICES, SERVICE, json!({"scp": "Chat", "exp": 1_709_294_400})),
            401,
            None,
        ),
        ("no token", CREATE, "a.b.c".to_owned(), 401, None),
    ] {
        assert_eq!(send(&service, target, &token).await.status, status, "{name}");
        let line = last(&fixture);
        let expected = principal.map(|object| format!("{TENANT}/{object}"));
        assert_eq!(line.get("principal").and_then(Value::as_str), expected.as_deref(), "{name}");
        assert_eq!(line["reason"].is_string(), status != 201, "{name}");
    }
}

/// The caller has an access key, and the Entra token is in the body.
#[tokio::test]
async fn the_user_of_a_teams_exchange_is_named() {
    let fixture = service().await;
    let service = trusting(&fixture);
    let target = "/teamsUser/:exchangeAccessToken?api-version=2023-10-01";
    let token = |permissions: &str| token(TEAMS, USER, json!({"scp": permissions}));
    for (token, status) in [
        (token("Teams.ManageCalls"), 200),
        (format!(" {}\r\n", token("Teams.ManageCalls")), 200),
        (token("Other"), 401),
    ] {
        let body = json!({"token": token, "appId": e2e::entra_issuer::APP, "userId": USER}).to_string();
        let call = Call { method: "POST", target, body: &body };
        let request = sign(&call, &fixture.primary, HOST, fixture.clock.now());
        assert_eq!(service.handle(request).await.status(), status);
        assert_eq!(last(&fixture)["principal"], format!("{TENANT}/{USER}"));
    }
}

#[tokio::test]
async fn every_step_of_a_key_replacement_is_named() {
    let fixture = service().await;
    fixture.replace_keys(Change::RegenerateAccessKey(AccessSlot::Primary)).await.unwrap();
    fixture.replace_keys(Change::RotateSigningKeys).await.unwrap();
    let unknown = VersionId::new("11111111-2222-4333-8444-000000000000".to_owned());
    let refused = fixture.rotate(async |rotator| rotator.finish(&unknown).await).await;
    assert!(matches!(refused, Err(RotationError::NotPending)));
    let lines = fixture.audit.lines();
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<_> = lines.filter(|line| line.get("step").is_some()).collect();
    let text = |line: &Value, member: &str| line[member].as_str().unwrap_or_default().to_owned();
    let steps = |operation: &str, trigger: &str| {
        let of = |line: &&Value| line["operation"] == operation && line["trigger"] == trigger;
        lines.iter().filter(of).map(|line| text(line, "step")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(steps("set_up", "deployment"), "publish clean_labels");
    assert_eq!(
        steps("regenerate_primary", "operator"),
        "publish clean_labels store test store test promote promote publish clean_labels done"
    );
    assert_eq!(
        steps("rotate_signing_keys", "operator"),
        "publish clean_labels store test promote publish clean_labels done"
    );
    let [.., last] = lines.as_slice() else { panic!("no line") };
    for (member, value) in [("step", "done"), ("trigger", "schedule"), ("outcome", "refused")] {
        assert_eq!(last[member], value, "{last}");
    }
    assert!(text(last, "reason").starts_with("the version is not pending"), "{last}");
    for line in &lines[..lines.len() - 1] {
        assert!(line["timestamp"].as_str().unwrap().starts_with("2024-03-01T12:00:00"), "{line}");
        assert!(line["outcome"] == "success" && line.get("reason").is_none(), "{line}");
    }
}
