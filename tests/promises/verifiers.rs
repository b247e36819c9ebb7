//! Verifiers of every kind beside one another, over random histories: none accepts what docs/verify.md says it cannot, and
//! none refuses a good token. The feed gets the ends that a deployment's stream function makes of each change.

use std::sync::Arc;

use e2e::test_service::{Embedded, Ports, TestService};
use identity::ids::RawId;
use identity::keys::pointer::{Pointer, PublishedKeys};
use identity::keys::rotation::Change;
use identity::keys::signing::VerifyingKeys;
use identity::keys::{AccessSlot, Algorithm, Slot};
use identity::runtime::Random as _;
use identity::store::feed::End;
use identity::store::{IdentityState, ReadRequest};
use identity::testing::{NOON, SeededRandom, settings};
use identity::token::verify::{Expected, OfflineVerifier, TokenError};
use identity::token::watch::{Standing, Watched, Watcher};

/// A resource with tokens, and verifiers of every kind.
struct World {
    service: TestService,
    embedded: Embedded,
    watcher: Watcher,
    users: Vec<String>,
    tokens: Vec<Token>,
    /// A verifier that keeps the key set of an earlier moment.
    kept: OfflineVerifier,
    rotations: u32,
}

struct Token {
    text: String,
    user: usize,
    slot: Slot,
    watched: Watched,
    is_ended: bool,
}

impl World {
    async fn new(seed: u64) -> Self {
        let (ports, embedded) = Ports::embedded(seed).await;
        let service = TestService::new(ports, Algorithm::Es256, seed).await;
        service.ports.feed.begin_feed_epoch().await.unwrap();
        let watcher = Watcher::new(service.ports.feed.clone(), service.clock.clone());
        watcher.read().await.unwrap();
        let users = vec![service.create().await, service.create().await];
        let kept = offline(&service).await;
        Self { service, embedded, watcher, users, tokens: Vec::new(), kept, rotations: 0 }
    }

    async fn pointer(&self) -> Pointer {
        self.service.ports.pointers.pointer().await.unwrap().unwrap()
    }

    async fn states(&self) -> Vec<(RawId, IdentityState)> {
        let mut states = Vec::new();
        for user in &self.users {
            let id: RawId = user.parse().unwrap();
            let state = self.service.ports.store.read(ReadRequest::identity(&id)).await.unwrap().identity;
            states.push((id, state));
        }
        states
    }

    async fn issue(&mut self, user: usize, slot: Slot) {
        self.service.learn_access_keys().await;
        let reply = self.service.issue(self.service.key(slot), &self.users[user]).await;
        let Some(text) = reply.token() else { return };
        let watched = self.watcher.verify(&self.service.verifier, &text).await.unwrap();
        self.tokens.push(Token { text, user, slot, watched, is_ended: false });
    }

    /// Makes a change, and appends its ends as the stream function does.
    async fn end(&mut self, choice: u8, user: usize) {
        self.service.learn_access_keys().await;
        let (states, pointer) = (self.states().await, self.pointer().await);
        let ends: Box<dyn Fn(&Token) -> bool> = match choice {
            0 => {
                self.service.revoke(&self.users[user]).await;
                Box::new(move |token| token.user == user)
            }
            1 => {
                self.service.delete(&self.users[user]).await;
                self.users.push(self.service.create().await);
                Box::new(move |token| token.user == user)
            }
            2 => {
                let change = Change::RegenerateAccessKey(AccessSlot::Primary);
                self.service.replace_keys(change).await.unwrap();
                Box::new(|token| token.slot == Slot::Primary)
            }
            3 => {
                self.service.replace_keys(Change::RotateSigningKeys).await.unwrap();
                Box::new(|_| true)
            }
            _ => {
                self.rotations += 1;
                self.service.rotate_on_schedule(&self.embedded, self.rotations).await;
                Box::new(|_| true)
            }
        };
        self.tokens.iter_mut().for_each(|token| token.is_ended |= ends(token));
        let after = self.states().await;
        let changed = states.iter().zip(&after);
        let mut appended: Vec<End> =
            changed.filter_map(|((id, before), (_, now))| End::of_identity(id, *before, *now)).collect();
        appended.extend(End::of_keys(&pointer.published, &self.pointer().await.published).unwrap());
        self.service.ports.feed.append_to_feed(&appended, NOON).await.unwrap();
    }

    async fn check(&self, case: &str) {
        let fresh = offline(&self.service).await;
        let published = PublishedKeys::parse(&self.pointer().await.published).unwrap();
        for token in &self.tokens {
            let is_online = self.service.verify(&token.text).await.is_ok();
            assert_eq!(is_online, !token.is_ended, "{case}: online");
            let standing = self.watcher.standing(&token.watched);
            let expected = if token.is_ended { Standing::Ended } else { Standing::Good };
            assert_eq!(standing, expected, "{case}: watched");
            for verifier in [&fresh, &self.kept] {
                match verifier.verify(&token.text) {
                    Ok(valid) => assert_eq!(valid.identity.to_string(), self.users[token.user], "{case}"),
                    Err(fault) => assert_eq!(fault, TokenError::KeyNotInForce, "{case}: offline"),
                }
            }
            let is_valid = fresh.verify(&token.text).is_ok();
            assert!(is_valid || token.is_ended, "{case}: a fresh key set verifies every good token");
            let offline = fresh.verify(&token.text).map(|valid| published.has(&valid.key_id));
            assert_ne!(offline, Ok(false), "{case}: the key of a valid token is published");
        }
    }
}

async fn offline(service: &TestService) -> OfflineVerifier {
    let pointer = service.ports.pointers.pointer().await.unwrap().unwrap();
    let published = PublishedKeys::parse(&pointer.published).unwrap();
    let set = serde_json::to_vec(published.jwks()).unwrap();
    let keys = VerifyingKeys::from_jwks(&set).unwrap();
    OfflineVerifier::new(Expected::from(&settings().resource), keys, service.clock.clone())
}

#[tokio::test]
async fn each_verifier_accepts_and_misses_what_its_row_says() {
    let mut ended_offline = 0;
    for seed in 0..24 {
        let mut world = World::new(seed).await;
        let random = Arc::new(SeededRandom::new(seed));
        for step in 0..24 {
            let mut bytes = [0; 3];
            random.fill(&mut bytes);
            let user = usize::from(bytes[1]) % world.users.len();
            match bytes[0] % 10 {
                choice @ 0..=4 => {
                    world.end(choice, user).await;
                    world.watcher.read().await.unwrap();
                }
                5 => world.kept = offline(&world.service).await,
                _ => {
                    let slot = [Slot::Primary, Slot::Secondary][usize::from(bytes[2] % 2)];
                    world.issue(user, slot).await;
                }
            }
            world.check(&format!("seed {seed}, step {step}")).await;
        }
        let ended = world.tokens.iter().filter(|token| token.is_ended);
        ended_offline += ended.filter(|token| world.kept.verify(&token.text).is_ok()).count();
    }
    assert!(ended_offline > 0, "an offline verifier misses some ends, as its row says");
}
