//! What each operation costs in SDK calls when warm: the number that decides speed and money.

use e2e::test_service::{Embedded, Ports, Reply, TestService};
use identity::keys::Algorithm;

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
