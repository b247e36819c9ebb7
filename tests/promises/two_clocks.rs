//! Two instances over one table: their clocks differ, and keys are replaced while both serve.

use e2e::router::{Shape, ask};
use e2e::test_service::{Ports, TestService};
use identity::keys::rotation::Change;
use identity::keys::{AccessSlot, Algorithm};
use identity::lifetime::ISSUED_AT_LEEWAY;
use identity::token::verify::{TokenError, VerifyError};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

/// Two instances. The clock of the second one is ahead by these milliseconds.
async fn two(seed: u64, ahead: i64) -> [TestService; 2] {
    let (ports, _) = Ports::embedded(seed).await;
    let one = TestService::new(ports, Algorithm::Es256, seed).await;
    let other = one.another(seed + 1_000);
    other.clock.advance(ahead);
    [one, other]
}

/// Whether a token is active by verification, by introspection and by the authorizer. All of them agree.
async fn is_active(service: &TestService, token: &str) -> bool {
    let verified = is_active_by_verifier(service, token).await;
    let reply = service.send("POST", "/introspect", &format!("token={token}")).await;
    assert_eq!((reply.status, &reply.json["active"]), (200, &verified.into()), "{}", reply.text);
    let verdict = ask(&service.authorizer, Shape::Http, "GET", "/chat/threads", token).await;
    assert_eq!(verdict.is_allowed(), verified);
    verified
}

/// As [`is_active`], without a signed request: the instance may have a former access key.
async fn is_active_by_verifier(service: &TestService, token: &str) -> bool {
    match service.verify(token).await {
        Ok(_) => true,
        Err(VerifyError::Refused(_)) => false,
        Err(error) => panic!("the state can be read: {error}"),
    }
}

#[tokio::test]
async fn tokens_survive_clocks_up_to_five_minutes_apart() {
    assert!(ISSUED_AT_LEEWAY.whole_minutes() >= 5);
    for ahead in [0, 90 * SECOND, -90 * SECOND, 5 * MINUTE, -5 * MINUTE] {
        let instances = two(501, ahead).await;
        for (issuer, verifier) in [(0, 1), (1, 0)] {
            let (issuer, verifier) = (&instances[issuer], &instances[verifier]);
            // Each instance creates, issues and revokes what the other one made.
            let id = issuer.create().await;
            let mut revoked = Vec::new();
            for _ in 0..3 {
                let reply = verifier.issue(&verifier.primary, &id).await;
                let token = reply.token().unwrap_or_else(|| panic!("{ahead}: {}", reply.text));
                for instance in &instances {
                    assert!(is_active(instance, &token).await, "S2: {ahead}");
                }
                assert_eq!(issuer.revoke(&id).await.status, 204);
                revoked.push(token);
                for instance in &instances {
                    for token in &revoked {
                        assert!(!is_active(instance, token).await, "S1: {ahead}");
                    }
                }
            }
            let token = issuer.issue(&issuer.primary, &id).await.token().unwrap();
            assert_eq!(verifier.delete(&id).await.status, 204);
            for instance in &instances {
                assert!(!is_active(instance, &token).await, "S1: {ahead}");
                assert_eq!(instance.issue(&instance.primary, &id).await.status, 404, "{ahead}");
            }
        }
    }
}

#[tokio::test]
async fn each_clock_decides_the_expiry_at_its_instance() {
    let [ahead, behind] = two(502, -90 * SECOND).await;
    let id = ahead.create().await;
    let token = ahead.issue(&ahead.primary, &id).await.token().unwrap();
    for instance in [&ahead, &behind] {
        instance.clock.advance(24 * 60 * MINUTE);
    }
    // Each clock decides for itself. The clock that is behind reaches the expiry later.
    assert!(!is_active(&ahead, &token).await);
    assert!(is_active(&behind, &token).await);
    behind.clock.advance(90 * SECOND);
    assert!(!is_active(&behind, &token).await);
}

#[tokio::test]
async fn a_token_from_beyond_the_leeway_is_refused_until_then() {
    let [behind, ahead] = two(503, 5 * MINUTE + SECOND).await;
    let id = ahead.create().await;
    let token = ahead.issue(&ahead.primary, &id).await.token().unwrap();
    assert!(matches!(behind.verify(&token).await, Err(VerifyError::Refused(TokenError::TooEarly))));
    assert!(!is_active(&behind, &token).await);
    behind.clock.advance(SECOND);
    assert!(is_active(&behind, &token).await);
}

/// The keys are replaced through one instance. The other one has the former keys in memory.
#[tokio::test]
async fn a_key_flip_applies_to_both_instances_at_once() {
    const REGENERATE: Change = Change::RegenerateAccessKey(AccessSlot::Primary);
    for ahead in [90 * SECOND, -5 * MINUTE] {
        let [mut one, mut other] = two(504, ahead).await;
        let id = one.create().await;
        for change in [Change::RotateSigningKeys, REGENERATE, Change::RotateSigningKeys] {
            let mut former = Vec::new();
            for instance in [&one, &other] {
                let token = instance.issue(&instance.primary, &id).await.token().unwrap();
                assert!(is_active(&one, &token).await && is_active(&other, &token).await, "S2");
                former.push(token);
            }
            let key = one.primary.clone();
            one.replace_keys(change).await.unwrap();
            for instance in [&other, &one] {
                for token in &former {
                    assert!(!is_active_by_verifier(instance, token).await, "S1: {change:?}");
                }
            }
            if change == REGENERATE {
                assert_eq!(other.issue(&key, &id).await.status, 401, "the former key at the other instance");
            }
            for instance in [&mut other, &mut one] {
                instance.learn_access_keys().await;
            }
            for (issuer, verifier) in [(&other, &one), (&one, &other)] {
                let token = issuer.issue(&issuer.primary, &id).await.token().unwrap();
                assert!(is_active(verifier, &token).await, "S2: {change:?}");
                assert!(is_active(issuer, &token).await, "S2: {change:?}");
            }
        }
    }
}

/// Requests of both instances run while the keys are replaced again and again. A rotation keeps the access keys, so every
/// request has an answer.
#[tokio::test(start_paused = true)]
async fn no_request_fails_during_key_flips() {
    for seed in 510..512 {
        let [one, other] = two(seed, 90 * SECOND).await;
        let id = one.create().await;
        let flips = async {
            for _ in 0..4 {
                one.replace_keys(Change::RotateSigningKeys).await.unwrap();
            }
        };
        let serve = async |instance: &TestService| {
            let mut tokens = Vec::new();
            for _ in 0..20 {
                let reply = instance.issue(&instance.primary, &id).await;
                assert_eq!(reply.status, 200, "seed {seed}: {}", reply.text);
                tokens.extend(reply.token());
                instance.verify(&tokens[tokens.len() - 1]).await.ok();
            }
            tokens
        };
        let ((), first, second) = tokio::join!(flips, serve(&one), serve(&other));
        one.replace_keys(Change::RotateSigningKeys).await.unwrap();
        for token in first.iter().chain(&second) {
            assert!(!is_active(&one, token).await && !is_active(&other, token).await, "S1: seed {seed}");
        }
        let token = other.issue(&other.primary, &id).await.token().unwrap();
        assert!(is_active(&one, &token).await && is_active(&other, &token).await, "S2: seed {seed}");
    }
}
