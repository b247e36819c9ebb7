//! Closed and durable: what cannot be read is refused with "try again", never guessed; what is unclear is
//! never called a success.

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

fn assert_unavailable(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 503, "{what}: {}", reply.text);
    assert_eq!(reply.code().as_deref(), Some("ServiceUnavailable"), "{what}");
    assert_eq!(reply.headers["retry-after"], "1", "{what}");
}

#[tokio::test(start_paused = true)]
async fn when_the_store_cannot_be_read_nothing_is_decided() {
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
        assert!(service.verify(&token).await.is_ok(), "{fault:?}: and nothing was done");
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
        for (reply, what) in
            [(create, "create"), (service.revoke(&id).await, "revoke"), (service.delete(&id).await, "delete")]
        {
            assert_unavailable(&reply, &format!("{what} {fault:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_fault_of_any_kind_is_survived_by_trying_again() {
    for fault in Fault::ALL {
        let (service, embedded) = service(23).await;
        let id = service.create().await;
        // What never answers uses up its attempt's time, not the whole budget.
        embedded.dynamodb.plan_next([fault]);
        let reply = service.issue(&service.primary, &id).await;
        if fault == Fault::Garbage {
            assert_unavailable(&reply, "an answer that is no answer");
        } else {
            assert_eq!(reply.status, 200, "{fault:?}: {}", reply.text);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unprocessed_keys_are_asked_for_again_and_never_mean_not_found() {
    let (service, embedded) = service(24).await;
    let id = service.create().await;
    embedded.dynamodb.plan_next([Fault::Unprocessed; 3]);
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
    embedded.dynamodb.plan(|_| Some(Fault::Unprocessed));
    assert_unavailable(&service.issue(&service.primary, &id).await, "for ever unprocessed");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_told_to_try_again_before_its_host_gives_up() {
    let (mut service, embedded) = service(27).await;
    let id = service.create().await;
    // Each operation's first attempt is never answered: alone that is survived, together it is too long.
    for client in [&embedded.dynamodb, &embedded.secrets] {
        let mut silent = false;
        client.plan(move |_| {
            silent = !silent;
            silent.then_some(Fault::SilentBefore)
        });
    }
    service.restart();
    let began = tokio::time::Instant::now();
    assert_unavailable(&service.revoke(&id).await, "slow everywhere");
    assert!(began.elapsed() <= std::time::Duration::from_secs(5), "a function has no more");
    assert!(service.audit.lines().last().unwrap().contains("deadline exceeded"));
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_without_secrets_refuses_until_they_are_back() {
    let (mut service, embedded) = service(25).await;
    let id = service.create().await;
    service.restart();
    embedded.secrets.plan(|_| Some(Fault::BreakBefore));
    assert_unavailable(&service.issue(&service.primary, &id).await, "no secrets");
    embedded.secrets.plan(|_| None);
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
}

#[tokio::test]
async fn keys_that_are_not_the_published_ones_never_sign() {
    let (ports, memory) = Ports::memory();
    let mut service = TestService::new(ports, Algorithm::Es256, 26).await;
    let id = service.create().await;
    let pointer = service.ports.pointers.pointer().await.unwrap().unwrap();
    let others = signing_keys(Algorithm::Es256, 5).to_document();
    memory.replace_secret(SecretName::SigningKeys, &pointer.signing_keys, others);
    service.restart();
    assert_unavailable(&service.issue(&service.primary, &id).await, "other keys under the same version");
}
