//! Revocation when many act at once, within one tick of the clock, and with answers lost.

use std::sync::Arc;

use e2e::faults::Fault;
use e2e::test_service::{Ports, TestService};
use identity::keys::Algorithm;
use identity::runtime::Random as _;
use identity::testing::SeededRandom;
use identity::token::verify::{TokenError, VerifyError};

#[tokio::test]
async fn issue_revoke_issue_within_one_tick() {
    let (ports, _) = Ports::embedded(11).await;
    let service = TestService::new(ports, Algorithm::Rs256, 11).await;
    let id = service.create().await;
    let mut dead = Vec::new();
    // The clock never moves: nothing may depend on it.
    for _ in 0..20 {
        let token = service.issue(&service.primary, &id).await.token().unwrap();
        assert!(service.verify(&token).await.is_ok(), "fresh is active");
        assert_eq!(service.revoke(&id).await.status, 204);
        dead.push(token);
        for token in &dead {
            let refused = service.verify(token).await;
            assert!(matches!(refused, Err(VerifyError::Refused(TokenError::Revoked))), "{refused:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fifty_revokes_at_once_with_answers_lost() {
    for seed in 0..8 {
        let (ports, embedded) = Ports::embedded(seed).await;
        let service = Arc::new(TestService::new(ports, Algorithm::Es256, seed).await);
        let id = service.create().await;
        let old = service.issue(&service.primary, &id).await.token().unwrap();

        let random = SeededRandom::new(seed);
        embedded.dynamodb.plan(move |operation| {
            let mut byte = [0];
            random.fill(&mut byte);
            let after = [None, Some(Fault::BreakAfter), Some(Fault::SilentAfter), Some(Fault::Late)];
            if operation == "UpdateItem" { after[usize::from(byte[0] % 4)] } else { None }
        });
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (service, id) = (Arc::clone(&service), id.clone());
                tokio::spawn(async move { service.revoke(&id).await.status })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            match task.await.unwrap() {
                204 => done += 1,
                status => assert_eq!(status, 503, "seed {seed}"),
            }
        }
        embedded.dynamodb.plan(|_| None);
        assert!(done > 0, "seed {seed}: some get through");
        assert!(service.verify(&old).await.is_err(), "seed {seed}: dead once any revoke returned");

        assert_eq!(service.revoke(&id).await.status, 204);
        let fresh = service.issue(&service.primary, &id).await.token().unwrap();
        embedded.dynamodb.deliver_late().await;
        assert!(service.verify(&fresh).await.is_ok(), "seed {seed}: late duplicates kill nothing fresh");
        assert!(service.verify(&old).await.is_err(), "seed {seed}: and bring nothing back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn identities_made_at_once_are_all_different() {
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
        assert!(ids.insert(task.await.unwrap()), "an id twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_answer_was_lost_is_recognised_by_its_retry() {
    let (ports, embedded) = Ports::embedded(13).await;
    let service = TestService::new(ports, Algorithm::Es256, 13).await;
    service.create().await;
    let mut puts = 0;
    embedded.dynamodb.plan(move |operation| {
        puts += usize::from(operation == "PutItem");
        (operation == "PutItem" && puts == 1).then_some(Fault::BreakAfter)
    });
    let id = service.create().await;
    assert_eq!(embedded.dynamodb.calls_of("PutItem"), 3, "one for the first identity, two for this");
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
}
