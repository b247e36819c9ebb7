//! The promises Closed and D: an unreadable state gives a 503 and never a decision, and an unclear write gives a 503
//! and never a success.

use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, Reply, TestService};
use identity::keys::Algorithm;
use identity::secrets::SecretName;
use identity::testing::signing_keys;
use identity::token::verify::VerifyError;

async fn service(seed: u64) -> (TestService, Embedded) {
    let (ports, embedded) = Ports::embedded(seed).await;
    (TestService::new(ports, Algorithm::Es256, seed).await, embedded)
}

fn assert_unavailable(reply: &Reply, case: &str) {
    assert_eq!(reply.status, 503, "{case}: {}", reply.text);
    assert_eq!(reply.code().as_deref(), Some("ServiceUnavailable"), "{case}");
    assert_eq!(reply.headers["retry-after"], "1", "{case}");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_store_gives_503_and_no_decision() {
    for fault in Fault::ALL {
        let (service, embedded) = service(21).await;
        let id = service.create().await;
        let token = service.issue(&service.primary, &id).await.token().unwrap();
        service.verify(&token).await.unwrap();
        embedded.dynamodb.plan(move |operation| (operation == "BatchGetItem").then_some(fault));
        for reply in [
            service.issue(&service.primary, &id).await,
            service.revoke(&id).await,
            service.delete(&id).await,
            service.send("POST", "/identities?api-version=2023-10-01", "").await,
        ] {
            assert_unavailable(&reply, &format!("{fault:?}"));
        }
        let verified = service.verify(&token).await;
        assert!(matches!(verified, Err(VerifyError::Store(_))), "{fault:?}: {verified:?}");
        embedded.dynamodb.plan(|_| None);
        assert!(service.verify(&token).await.is_ok(), "{fault:?}: nothing was changed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_never_a_success() {
    for fault in [Fault::InternalError, Fault::BreakAfter, Fault::SilentAfter, Fault::Late] {
        let (service, embedded) = service(22).await;
        let id = service.create().await;
        embedded
            .dynamodb
            .plan(move |operation| ["PutItem", "UpdateItem"].contains(&operation).then_some(fault));
        let create = service.send("POST", "/identities?api-version=2023-10-01", "").await;
        for (reply, operation) in
            [(create, "create"), (service.revoke(&id).await, "revoke"), (service.delete(&id).await, "delete")]
        {
            assert_unavailable(&reply, &format!("{operation} {fault:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_succeeds_after_any_single_fault() {
    for fault in Fault::ALL {
        let (service, embedded) = service(23).await;
        let id = service.create().await;
        let before = embedded.dynamodb.calls();
        // A call without an answer uses the time limit of one attempt and not the time limit of the operation.
        embedded.dynamodb.plan_next([fault]);
        let reply = service.issue(&service.primary, &id).await;
        let calls = embedded.dynamodb.calls() - before;
        if fault == Fault::Garbage {
            assert_unavailable(&reply, "an unreadable answer is not retried");
        } else {
            assert_eq!((reply.status, calls), (200, 2), "{fault:?}: {}", reply.text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unprocessed_keys_are_read_again_and_never_missing() {
    let (service, embedded) = service(24).await;
    let id = service.create().await;
    embedded.dynamodb.plan_next([Fault::Unprocessed; 3]);
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
    embedded.dynamodb.plan(|_| Some(Fault::Unprocessed));
    assert_unavailable(&service.issue(&service.primary, &id).await, "unprocessed in every attempt");
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_gets_503_before_the_host_timeout() {
    let (mut service, embedded) = service(27).await;
    let id = service.create().await;
    // Every second call gets no answer. A retry repairs one such call, but all of them together exceed the deadline.
    for client in [&embedded.dynamodb, &embedded.secrets] {
        let mut silent = false;
        client.plan(move |_| {
            silent = !silent;
            silent.then_some(Fault::SilentBefore)
        });
    }
    service.restart();
    let began = tokio::time::Instant::now();
    assert_unavailable(&service.revoke(&id).await, "every operation is slow");
    assert!(began.elapsed() <= std::time::Duration::from_secs(5), "the host allows five seconds");
    assert!(service.audit.lines().last().unwrap().contains("deadline exceeded"));
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_without_secrets_gives_503() {
    let (mut service, embedded) = service(25).await;
    let id = service.create().await;
    service.restart();
    embedded.secrets.plan(|_| Some(Fault::BreakBefore));
    assert_unavailable(&service.issue(&service.primary, &id).await, "the secrets cannot be read");
    embedded.secrets.plan(|_| None);
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
}

#[tokio::test]
async fn unpublished_keys_never_sign() {
    let (ports, memory) = Ports::memory();
    let mut service = TestService::new(ports, Algorithm::Es256, 26).await;
    let id = service.create().await;
    let pointer = service.ports.pointers.pointer().await.unwrap().unwrap();
    let other_keys = signing_keys(Algorithm::Es256, 15).to_document();
    memory.replace_secret(SecretName::SigningKeys, &pointer.signing_keys, other_keys);
    service.restart();
    assert_unavailable(&service.issue(&service.primary, &id).await, "other keys in the same version");
}
