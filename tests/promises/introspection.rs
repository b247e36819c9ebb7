//! Introspection (RFC 7662): a service gets the claims and capabilities of an active token. For every other token it
//! gets `{"active":false}`.

use e2e::faults::Fault;
use e2e::signer::{Call, sign};
use e2e::test_service::{Embedded, HOST, Ports, Reply, TestService};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use identity::api::pipeline::Body;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use serde_json::{Value, json};

async fn service() -> (TestService, Embedded) {
    let (ports, embedded) = Ports::embedded(76).await;
    (TestService::new(ports, Algorithm::Es256, 76).await, embedded)
}

async fn introspect(service: &TestService, token: &str) -> Reply {
    service.send("POST", "/introspect", &format!("token={token}")).await
}

#[tokio::test]
async fn an_active_token_returns_claims_and_capabilities() {
    let (service, embedded) = service().await;
    let id = service.create().await;
    let target = format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01");
    let scopes = r#"{"scopes":["voip","chat.join.limited"]}"#;
    let token = service.send("POST", &target, scopes).await.token().unwrap();
    let spaced = introspect(&service, &format!("+%09{token}%0D%0A")).await;
    assert_eq!(spaced.json["active"], true, "white space at the ends is dropped");
    let before = [embedded.dynamodb.calls(), embedded.secrets.calls()];
    let reply = introspect(&service, &token).await;
    assert_eq!(embedded.dynamodb.calls() - before[0], 1, "one read serves the caller and the token");
    assert_eq!(embedded.secrets.calls(), before[1]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(!reply.headers.contains_key("api-supported-versions"), "introspection has no API versions");
    for (member, value) in [
        ("active", json!(true)),
        ("token_type", json!("Bearer")),
        ("scope", json!("voip chat.join.limited")),
        ("sub", json!(id)),
        ("iss", json!("https://localhost:8443")),
        ("aud", json!("1b5cc06b-f352-4571-b1e6-d9b259b7c776")),
        ("iat", json!(1_709_294_400)),
        ("exp", json!(1_709_380_800)),
        ("rev", json!(1)),
        ("acsScope", json!("voip,chat.join.limited")),
        ("capabilities_by_room_role", json!(["voip.act_in_room_call"])),
    ] {
        assert_eq!(reply.json[member], value, "{member}");
    }
    let permitted = reply.json["capabilities"].as_array().unwrap();
    assert_eq!(permitted.len(), 15, "10 of chat, 5 of voip");
    assert!(
        permitted.contains(&json!("chat.send_message"))
            && !permitted.contains(&json!("chat.add_participant"))
    );
    let line: Value = serde_json::from_str(service.audit.lines().last().unwrap()).unwrap();
    assert_eq!([&line["operation"], &line["identity"]], [&json!("introspect_token"), &json!(id)]);
}

#[tokio::test]
async fn inactive_tokens_get_one_answer_and_logged_reasons() {
    let (service, _) = service().await;
    let (id, deleted) = (service.create().await, service.create().await);
    let revoked = service.issue(&service.primary, &id).await.token().unwrap();
    assert_eq!(service.revoke(&id).await.status, 204);
    let orphaned = service.issue(&service.primary, &deleted).await.token().unwrap();
    assert_eq!(service.delete(&deleted).await.status, 204);
    let expired = service.issue(&service.primary, &id).await.token().unwrap();
    let altered = format!("{}AAAA", &expired[..expired.len() - 4]);
    service.clock.advance(24 * 3_600 * 1_000);
    for (token, reason) in [
        ("nonsense", "not a compact token"),
        ("+nonsense%0D%0A", "not a compact token"),
        ("a.b+c.d", "the token has white space inside it"),
        ("Bearer+a.b.c", "the text begins with Bearer; send only the token"),
        ("%22a.b.c%22", "the token is in quotation marks; send only the token"),
        (&altered, "the signature does not verify"),
        (&expired, "the token has expired"),
    ] {
        assert_inactive(&service, token, reason).await;
    }
    service.clock.advance(-24 * 3_600 * 1_000);
    assert_inactive(&service, &revoked, "the token's revision is not the stored one: it was revoked").await;
    assert_inactive(&service, &orphaned, "the identity was deleted or never existed").await;
}

async fn assert_inactive(service: &TestService, token: &str, reason: &str) {
    let reply = introspect(service, token).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"active":false}"#), "{reason}");
    let line: Value = serde_json::from_str(service.audit.lines().last().unwrap()).unwrap();
    assert_eq!((&line["outcome"], &line["reason"]), (&json!("success"), &json!(reason)));
}

#[tokio::test]
async fn a_form_without_exactly_one_token_is_refused() {
    let (service, _) = service().await;
    for (form, message) in [
        ("", "Token: The Token field is required."),
        ("token=", "Token: The Token field is required."),
        ("token=+%0D%0A", "Token: The Token field is required."),
        ("Token=a.b.c", "Token: The Token field is required."),
        (r#"{"token":"a.b.c"}"#, "Token: The Token field is required."),
        ("token=a.b.c&token=a.b.c", "The request body is not valid: the form has several tokens."),
    ] {
        let reply = service.send("POST", "/introspect", form).await;
        assert_eq!((reply.status, reply.json["error"]["message"].as_str()), (400, Some(message)), "{form}");
    }
    let hinted = service.send("POST", "/introspect", "token_type_hint=access_token&token=a.b.c&x=y").await;
    assert_eq!((hinted.status, hinted.text.as_str()), (200, r#"{"active":false}"#));
    assert_eq!(service.send("GET", "/introspect", "").await.status, 405);
}

#[tokio::test]
async fn unauthenticated_callers_cannot_introspect() {
    let (fixture, embedded) = service().await;
    let id = fixture.create().await;
    let token = fixture.issue(&fixture.primary, &id).await.token().unwrap();
    let form = format!("token={token}");
    let call = Call { method: "POST", target: "/introspect", body: &form };
    let mut unsigned = sign(&call, &fixture.primary, HOST, fixture.clock.now());
    unsigned.headers.remove(AUTHORIZATION);
    let mut user_token = sign(&call, &fixture.primary, HOST, fixture.clock.now());
    user_token.headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    let mut altered = sign(&call, &fixture.primary, HOST, fixture.clock.now());
    altered.body = Body::Complete("token=another".into());
    let before = embedded.dynamodb.calls();
    for (name, request) in [("unsigned", unsigned), ("a user's token", user_token), ("altered", altered)] {
        let reply = Reply::of(fixture.service.handle(request).await);
        // A client without a credential gets a challenge.
        let code = if name == "unsigned" { None } else { Some("Denied") };
        assert_eq!((reply.status, reply.code().as_deref()), (401, code), "{name}");
    }
    assert_eq!(embedded.dynamodb.calls(), before, "a refusal makes no call");
}

#[tokio::test(start_paused = true)]
async fn unreadable_state_gives_503_and_no_verdict() {
    let (service, embedded) = service().await;
    let id = service.create().await;
    let token = service.issue(&service.primary, &id).await.token().unwrap();
    for fault in
        [Fault::Throttle, Fault::InternalError, Fault::BreakBefore, Fault::Garbage, Fault::Unprocessed]
    {
        embedded.dynamodb.plan(move |_| Some(fault));
        let reply = introspect(&service, &token).await;
        assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true), "{fault:?}");
    }
    embedded.dynamodb.plan(|_| None);
    assert_eq!(introspect(&service, &token).await.json["active"], true);
}
