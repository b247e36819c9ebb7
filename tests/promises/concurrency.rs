//! Concurrent requests, requests within one clock tick, and requests with lost answers.

use std::sync::Arc;

use e2e::faults::Fault;
use e2e::test_service::{Ports, TestService};
use identity::keys::Algorithm;
use identity::runtime::Random as _;
use identity::testing::SeededRandom;
use identity::token::verify::{TokenError, VerifyError};

#[tokio::test]
async fn revocation_works_within_one_clock_tick() {
    let (ports, _) = Ports::embedded(11).await;
    let service = TestService::new(ports, Algorithm::Rs256, 11).await;
    let id = service.create().await;
    let mut revoked = Vec::new();
    // The clock does not move, because revocation must not depend on it.
    for _ in 0..20 {
        let token = service.issue(&service.primary, &id).await.token().unwrap();
        assert!(service.verify(&token).await.is_ok(), "a new token is active");
        assert_eq!(service.revoke(&id).await.status, 204);
        revoked.push(token);
        for token in &revoked {
            let outcome = service.verify(token).await;
            assert!(matches!(outcome, Err(VerifyError::Refused(TokenError::Revoked))), "{outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_revokes_with_lost_answers_keep_both_promises() {
    for seed in 0..8 {
        let (ports, embedded) = Ports::embedded(seed).await;
        let service = Arc::new(TestService::new(ports, Algorithm::Es256, seed).await);
        let id = service.create().await;
        let old = service.issue(&service.primary, &id).await.token().unwrap();

        let random = SeededRandom::new(seed);
        embedded.dynamodb.plan(move |operation| {
            let mut byte = [0];
            random.fill(&mut byte);
            let faults = [None, Some(Fault::BreakAfter), Some(Fault::SilentAfter), Some(Fault::Late)];
            if operation == "UpdateItem" { faults[usize::from(byte[0] % 4)] } else { None }
        });
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (service, id) = (Arc::clone(&service), id.clone());
                tokio::spawn(async move { service.revoke(&id).await.status })
            })
            .collect();
        let mut succeeded = 0;
        for task in tasks {
            match task.await.unwrap() {
                204 => succeeded += 1,
                status => assert_eq!(status, 503, "seed {seed}"),
            }
        }
        embedded.dynamodb.plan(|_| None);
        assert!(succeeded > 0, "seed {seed}: no revoke succeeded");
        assert!(service.verify(&old).await.is_err(), "seed {seed}: S1 after the first success");

        assert_eq!(service.revoke(&id).await.status, 204);
        let fresh = service.issue(&service.primary, &id).await.token().unwrap();
        embedded.dynamodb.deliver_late().await;
        assert!(service.verify(&fresh).await.is_ok(), "seed {seed}: S2 after late duplicates");
        assert!(service.verify(&old).await.is_err(), "seed {seed}: S1 after late duplicates");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_creations_give_different_identities() {
    let (ports, _) = Ports::embedded(12).await;
    let service = Arc::new(TestService::new(ports, Algorithm::Es256, 12).await);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.create().await })
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    for task in tasks {
        assert!(ids.insert(task.await.unwrap()), "two identities have the same id");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_succeeds_when_its_answer_is_lost() {
    let (ports, embedded) = Ports::embedded(13).await;
    let service = TestService::new(ports, Algorithm::Es256, 13).await;
    service.create().await;
    let mut puts = 0;
    embedded.dynamodb.plan(move |operation| {
        puts += usize::from(operation == "PutItem");
        (operation == "PutItem" && puts == 1).then_some(Fault::BreakAfter)
    });
    let id = service.create().await;
    assert_eq!(
        embedded.dynamodb.calls_of("PutItem"),
        3,
        "one call for the first identity, two calls for the second"
    );
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
}
