//! The SDK calls and the DynamoDB units of each operation when warm. They decide speed and cost.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::entra_issuer::{APP, TENANT, exchange, trusting};
use e2e::faults::Units;
use e2e::test_service::{Embedded, Ports, Reply, TestService};
use http::Method;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};
use identity::api::pipeline::{Body, Request};
use identity::authn::target::Target;
use identity::keys::Algorithm;
use identity::keys::rotation::Change;
use identity::store::assignments::{
    Assignment, AssignmentChange, AssignmentKey, AssignmentVersion, AssignmentWriteOutcome, MAX_CLIENT_IDS,
    PrincipalType,
};
use identity::store::resource_servers::ResourceServerChange;
use identity::testing::{NOON, SeededRandom};
use identity::token::verify::{TokenError, VerifyError};
use serde_json::json;
use uuid::Uuid;

const CREATE: &str = "/identities?api-version=2023-10-01";

async fn warm() -> (TestService, Embedded, String) {
    let (ports, embedded) = Ports::embedded(7).await;
    let service = TestService::new(ports, Algorithm::Es256, 7).await;
    let id = service.create().await;
    let token = service.issue(&service.primary, &id).await.token().unwrap();
    service.verify(&token).await.unwrap();
    (service, embedded, id)
}

/// Runs one request and returns its reply with the calls it made: DynamoDB's and Secrets Manager's.
async fn cost(embedded: &Embedded, request: impl Future<Output = Reply>) -> (Reply, [usize; 2]) {
    let before = [embedded.dynamodb.calls(), embedded.secrets.calls()];
    let reply = request.await;
    let after = [embedded.dynamodb.calls(), embedded.secrets.calls()];
    (reply, [after[0] - before[0], after[1] - before[1]])
}

#[tokio::test]
async fn each_operation_makes_no_more_calls_than_promised() {
    let (service, embedded, id) = warm().await;
    let with_token = r#"{"createTokenWithScopes":["chat"]}"#;
    let (reply, calls) = cost(&embedded, service.issue(&service.primary, &id)).await;
    assert_eq!((reply.status, calls), (200, [1, 0]), "issue");
    let (reply, calls) = cost(&embedded, service.issue(&service.secondary, &id)).await;
    assert_eq!((reply.status, calls), (200, [1, 0]), "issue by the other key");
    let (reply, calls) = cost(&embedded, service.send("POST", CREATE, "")).await;
    assert_eq!((reply.status, calls), (201, [2, 0]), "create");
    let (reply, calls) = cost(&embedded, service.send("POST", CREATE, with_token)).await;
    assert_eq!((reply.status, calls), (201, [2, 0]), "create with token");
    let (reply, calls) = cost(&embedded, service.revoke(&id)).await;
    assert_eq!((reply.status, calls), (204, [2, 0]), "revoke");
    let (reply, calls) = cost(&embedded, service.delete(&id)).await;
    assert_eq!((reply.status, calls), (204, [2, 0]), "delete");
    let (reply, calls) = cost(&embedded, service.delete(&id)).await;
    assert_eq!((reply.status, calls), (204, [1, 0]), "delete again");
}

/// The first read names the secrets to load and may start before the request arrives. The second one decides the request.
#[tokio::test]
async fn a_cold_start_reads_the_pointer_to_load_and_to_decide() {
    let (mut service, embedded, _) = warm().await;
    service.restart();
    let before = [embedded.dynamodb.calls(), embedded.secrets.calls()];
    service.service.warm().await;
    let loading = [embedded.dynamodb.calls() - before[0], embedded.secrets.calls() - before[1]];
    assert_eq!(loading, [1, 2], "the pointer and both secrets");
    let (reply, calls) = cost(&embedded, service.send("POST", CREATE, "")).await;
    assert_eq!((reply.status, calls), (201, [2, 0]), "the first request: the deciding read and the write");
    service.restart();
    let (reply, calls) = cost(&embedded, service.send("POST", CREATE, "")).await;
    assert_eq!(
        (reply.status, calls),
        (201, [3, 1]),
        "without loading in advance: the same reads, one after another"
    );
}

#[tokio::test]
async fn a_verification_makes_one_call_and_a_self_refuting_token_none() {
    let (service, embedded, id) = warm().await;
    let token = service.issue(&service.primary, &id).await.token().unwrap();
    let before = embedded.dynamodb.calls();
    assert!(service.verify(&token).await.is_ok());
    assert_eq!(embedded.dynamodb.calls() - before, 1);
    let before = embedded.dynamodb.calls();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    for bad in ["", "a.b.c", &token[1..], signed, &format!("{signed}.{flipped}{}", &signature[1..])] {
        assert!(service.verify(bad).await.is_err());
    }
    assert_eq!(embedded.dynamodb.calls() - before, 0);
}

/// The time and the cost of a reply must not show whether the identity of a forged token exists.
#[tokio::test]
async fn a_token_of_an_unknown_key_reads_no_identity() {
    let (mut service, embedded, id) = warm().await;
    let token = service.issue(&service.primary, &id).await.token().unwrap();
    let (_, rest) = token.split_once('.').unwrap();
    let kid = "A".repeat(43);
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"}}"#));
    let forged = format!("{header}.{rest}");
    let introspect = async |service: &TestService, token: &str| {
        service.send("POST", "/introspect", &format!("token={token}")).await.json["active"] == true
    };
    for is_warm in [true, false] {
        if !is_warm {
            service.restart();
            service.service.warm().await;
        }
        let before = embedded.dynamodb.calls();
        embedded.dynamodb.measure();
        let refused = service.verify(&forged).await;
        assert!(matches!(refused, Err(VerifyError::Refused(TokenError::KeyNotInForce))));
        assert!(!introspect(&service, &forged).await);
        let units = embedded.dynamodb.units();
        assert_eq!((embedded.dynamodb.calls() - before, units.read), (2, 2.0), "the pointer each time");
    }
    // A good token of a new key costs a call more, once.
    service.replace_keys(Change::RotateSigningKeys).await.unwrap();
    let target = format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01");
    let other = service.another(8);
    let token = other.send("POST", &target, r#"{"scopes":["chat"]}"#).await.token().unwrap();
    for calls in [2, 1] {
        let before = embedded.dynamodb.calls();
        assert!(service.verify(&token).await.is_ok());
        assert_eq!(embedded.dynamodb.calls() - before, calls);
        let before = embedded.dynamodb.calls();
        assert!(introspect(&service, &token).await);
        assert_eq!(embedded.dynamodb.calls() - before, calls);
    }
}

#[tokio::test]
async fn a_refused_request_makes_no_call() {
    let (service, embedded, id) = warm().await;
    let stranger = "bm90IHRoZSBrZXkgb2YgdGhpcyByZXNvdXJjZSBhdCBhbGw=";
    let issue = format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01");
    let foreign = issue.replace(&id[6..42], "00000000-0000-0000-0000-000000000000");
    // The first failure of a second looks whether the keys were replaced.
    assert_eq!(service.send_as(stranger, "POST", CREATE, "").await.status, 401);
    let refusals: [(&str, &str, &str, &str, u16); 8] = [
        (stranger, "POST", CREATE, "", 401),
        (&service.primary, "POST", "/identities", "", 400),
        (&service.primary, "POST", CREATE, "[]", 400),
        (&service.primary, "POST", CREATE, r#"{"createTokenWithScopes":["shout"]}"#, 400),
        (&service.primary, "POST", &issue, r#"{"scopes":["chat"],"expiresInMinutes":59}"#, 400),
        (&service.primary, "POST", &foreign, r#"{"scopes":["chat"]}"#, 401),
        (&service.primary, "PUT", CREATE, "", 405),
        (&service.primary, "POST", "/elsewhere", "", 404),
    ];
    for (key, method, target, body, status) in refusals {
        let (reply, calls) = cost(&embedded, service.send_as(key, method, target, body)).await;
        assert_eq!((reply.status, calls), (status, [0, 0]), "{method} {target} {body}");
    }
}

#[tokio::test]
async fn a_flood_of_wrong_signatures_looks_for_new_keys_once_a_second() {
    let (service, embedded, _) = warm().await;
    let stranger = "bm90IHRoZSBrZXkgb2YgdGhpcyByZXNvdXJjZSBhdCBhbGw=";
    let before = [embedded.dynamodb.calls(), embedded.secrets.calls()];
    for _ in 0..3 {
        for _ in 0..50 {
            assert_eq!(service.send_as(stranger, "POST", CREATE, "").await.status, 401);
        }
        service.clock.advance(1_000);
    }
    assert_eq!(embedded.dynamodb.calls() - before[0], 3);
    assert_eq!(embedded.secrets.calls(), before[1], "the keys are the same, so none are loaded");
}

/// The table of docs/deploy.md with the calls, and the read and write units, of each operation when warm.
struct Costs<'a> {
    embedded: &'a Embedded,
    rows: String,
}

impl Costs<'_> {
    async fn add(&mut self, operation: &str, status: u16, request: impl Future<Output = Reply>) {
        self.embedded.dynamodb.measure();
        let (reply, [calls, secret_calls]) = cost(self.embedded, request).await;
        assert_eq!((reply.status, secret_calls), (status, 0), "{operation}: {}", reply.text);
        let Units { read, write } = self.embedded.dynamodb.units();
        self.rows += &format!("| {operation} | {calls} | {read} | {write} |\n");
    }
}

/// A request of a resource server for the ends after the cursor of now.
async fn feed_request(service: &TestService) -> Request {
    let head = service.ports.feed.feed_head().await.unwrap();
    let secret =
        service.change_resource_server("chat-api", ResourceServerChange::Add).await.unwrap().unwrap();
    let value = format!("Basic {}", STANDARD.encode(format!("chat-api:{}", secret.expose())));
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&value).unwrap());
    headers.insert(HOST, HeaderValue::from_static("localhost:8443"));
    let target = Target::from_wire(&format!("/revocations?after={head}"));
    Request { method: Method::GET, target, headers, body: Body::Complete("".into()) }
}

#[tokio::test(start_paused = true)]
async fn operations_cost_the_documented_calls_and_units() {
    let (ports, embedded) = Ports::embedded(8).await;
    let service = TestService::new(ports, Algorithm::Rs256, 8).await;
    let trusting = trusting(&service);
    let (id, user) = (service.create().await, Uuid::from_u128(1));
    let groups: Vec<_> = (0..200).map(|n| Uuid::from_u128(1_000 + n)).collect();
    let assignments = "/access/entra/assignments";
    let version = "api-version=2025-03-02-preview";
    let assignment = format!("{assignments}/{user}?{version}");
    // The largest one that is allowed.
    let clients = vec![APP; MAX_CLIENT_IDS];
    let body = json!({ "principalType": "user", "tenantId": TENANT, "clientIds": clients }).to_string();
    service.send("PUT", &assignment, &body).await;
    service.issue(&service.primary, &id).await;
    let token = service.issue(&service.primary, &id).await.token().unwrap();
    let many: serde_json::Map<_, _> =
        groups.iter().take(100).map(|group| (group.to_string(), serde_json::Value::Null)).collect();
    let many = serde_json::Value::from(many).to_string();
    let introspect = async |token: &str| {
        let body = format!("token={token}");
        service.send("POST", "/introspect", &body).await
    };
    let follow = feed_request(&service).await;
    let mut costs = Costs { embedded: &embedded, rows: String::new() };
    costs.add("refused request", 400, service.send("POST", CREATE, "[]")).await;
    costs.add("create an identity", 201, service.send("POST", CREATE, "")).await;
    let preview = "/identities?api-version=2025-03-02-preview";
    let named = r#"{"customId":"alice@contoso.com","createTokenWithScopes":["chat"]}"#;
    let mut custom = String::new();
    costs
        .add("create an identity with a custom id", 201, async {
            let reply = service.send("POST", preview, named).await;
            custom = reply.id().unwrap_or_default();
            reply
        })
        .await;
    let unnamed = r#"{"customId":"alice@contoso.com"}"#;
    costs.add("create with a known custom id", 201, service.send("POST", preview, unnamed)).await;
    service.clock.advance(1_000);
    costs.add("the same with a token", 201, service.send("POST", preview, named)).await;
    costs.add("issue a token", 200, service.issue(&service.primary, &id)).await;
    service.clock.advance(1_000);
    costs.add("issue a token, 2025-03-02-preview", 200, service.issue(&service.primary, &custom)).await;
    let profile = format!("/identities/{custom}?api-version=2025-03-02-preview");
    costs.add("get an identity", 200, service.send("GET", &profile, "")).await;
    costs.add("verify or introspect a token", 200, introspect(&token)).await;
    costs
        .add("read the revocation feed", 200, async { Reply::of(service.service.handle(follow).await) })
        .await;
    costs.add("exchange, first one of a user", 200, exchange(&trusting, user, &[])).await;
    costs.add("exchange, later ones", 200, exchange(&trusting, user, &[])).await;
    costs.add("exchange, 20 groups in the Entra token", 200, exchange(&trusting, user, &groups[..20])).await;
    costs.add("exchange, 200 groups in the Entra token", 200, exchange(&trusting, user, &groups)).await;
    costs.add("read an assignment", 200, service.send("GET", &assignment, "")).await;
    costs.add("assign, the largest assignment", 200, service.send("PUT", &assignment, &body)).await;
    costs.add("remove an assignment", 204, service.send("DELETE", &assignment, "")).await;
    let patch = format!("{assignments}?{version}");
    costs.add("change 100 assignments at once", 200, service.send("PATCH", &patch, &many)).await;
    costs.add("revoke", 204, service.revoke(&id)).await;
    costs.add("delete an identity", 204, service.delete(&id)).await;
    costs.add("delete an identity with a custom id", 204, service.delete(&custom)).await;
    let document = include_str!("../../docs/deploy.md");
    assert!(document.contains(&costs.rows), "docs/deploy.md must hold these rows:\n{}", costs.rows);
}

#[tokio::test(start_paused = true)]
async fn exchange_costs_the_same_at_any_number_of_assignments() {
    let (ports, embedded) = Ports::embedded(9).await;
    let service = TestService::new(ports, Algorithm::Es256, 9).await;
    let trusting = trusting(&service);
    let user = Uuid::from_u128(5);
    let assignment = |object: u128| Assignment {
        object_id: Uuid::from_u128(object),
        tenant_id: TENANT,
        principal_type: PrincipalType::User,
        client_ids: Some(vec![APP]),
    };
    let change = |object: u128| AssignmentChange {
        key: AssignmentKey::Entra { object: Uuid::from_u128(object) },
        read_version: AssignmentVersion::NONE,
        version: AssignmentVersion::random(&SeededRandom::new(object as u64)),
        assignment: Some(assignment(object)),
    };
    let mut made = 0;
    for number in [10, 1_000, 10_000] {
        while made < number {
            let changes: Vec<_> = (made..number.min(made + 100)).map(change).collect();
            made += changes.len() as u128;
            let outcome = service.ports.store.change_assignments(&changes, NOON).await.unwrap();
            assert_eq!(outcome, AssignmentWriteOutcome::Changed);
        }
        assert_eq!(exchange(&trusting, user, &[]).await.status, 200);
        embedded.dynamodb.measure();
        let (reply, calls) = cost(&embedded, exchange(&trusting, user, &[])).await;
        assert_eq!((reply.status, calls), (200, [1, 0]), "{number} assignments");
        assert_eq!(embedded.dynamodb.units(), Units { read: 4.0, write: 0.0 }, "{number} assignments");
    }
}
