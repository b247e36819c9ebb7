//! Concurrent tasks over one resource: they issue, revoke, delete, rotate, and verify through the authorizer in both
//! shapes of gateway. The recorded history is checked for S1 and S2. Each operation has its start and its end on one
//! logical clock, so the check needs no search.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use e2e::router::{Shape, Verdict, ask};
use e2e::test_service::{Ports, TestService};
use identity::keys::rotation::Change;
use identity::keys::{Algorithm, Slot};
use identity::runtime::Random as _;
use identity::testing::SeededRandom;
use tokio::sync::Mutex;

const TASKS: u64 = 8;
const STEPS: u64 = 160;
const IDENTITIES: usize = 3;

/// The start and the end of an operation on the logical clock.
#[derive(Clone, Copy, Debug)]
struct Span {
    began: u64,
    ended: u64,
}

struct Issued {
    identity: String,
    token: String,
    span: Span,
}

/// A verification: the index of the token, and the result.
struct Seen {
    token: usize,
    active: bool,
    span: Span,
}

#[derive(Default)]
struct History {
    issued: Vec<Issued>,
    /// Operations that revoke the tokens of one identity, or of all identities.
    revocations: Vec<(Option<String>, Span)>,
    /// Rotations that another rotation overtook.
    overtaken: Vec<Span>,
    seen: Vec<Seen>,
}

struct Run {
    service: TestService,
    /// The identities in use. A new identity replaces a deleted one.
    ids: Mutex<Vec<String>>,
    time: AtomicU64,
    /// Whether the history has rotations. A rotation takes long, and during it S2 requires nothing.
    rotates: bool,
    history: Mutex<History>,
}

impl Run {
    fn tick(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }

    async fn act(&self, choice: u8, pick: u8) {
        let place = usize::from(pick) % IDENTITIES;
        let identity = self.ids.lock().await[place].clone();
        match choice {
            0..=99 => self.issue(identity, pick).await,
            100..=114 => self.revoke(identity).await,
            115..=119 => self.delete(place, identity).await,
            120..=124 if self.rotates => self.rotate().await,
            _ => self.verify_one(pick).await,
        }
    }

    async fn issue(&self, identity: String, pick: u8) {
        let slot = if pick.is_multiple_of(2) { Slot::Primary } else { Slot::Secondary };
        let began = self.tick();
        let reply = self.service.issue(self.service.key(slot), &identity).await;
        let span = Span { began, ended: self.tick() };
        // Another task may have deleted the identity.
        assert!(matches!(reply.status, 200 | 404), "{}", reply.text);
        if let Some(token) = reply.token() {
            self.history.lock().await.issued.push(Issued { identity, token, span });
        }
    }

    async fn revoke(&self, identity: String) {
        let began = self.tick();
        let status = self.service.revoke(&identity).await.status;
        let span = Span { began, ended: self.tick() };
        assert!(matches!(status, 204 | 404), "{status}");
        self.history.lock().await.revocations.push((Some(identity), span));
    }

    async fn delete(&self, place: usize, identity: String) {
        let began = self.tick();
        let status = self.service.delete(&identity).await.status;
        let span = Span { began, ended: self.tick() };
        assert_eq!(status, 204);
        self.history.lock().await.revocations.push((Some(identity), span));
        let another = self.service.create().await;
        self.ids.lock().await[place] = another;
    }

    async fn rotate(&self) {
        let began = self.tick();
        let outcome = self.service.replace_keys(Change::RotateSigningKeys).await;
        let span = Span { began, ended: self.tick() };
        let mut history = self.history.lock().await;
        // The keys of an overtaken rotation may have been current for a while.
        if outcome.is_ok() { history.revocations.push((None, span)) } else { history.overtaken.push(span) }
    }

    async fn verify_one(&self, pick: u8) {
        let chosen = {
            let history = self.history.lock().await;
            // Most choices are new tokens, because S2 requires nothing of a token after a revocation.
            let age = usize::from(pick % 8) * usize::from(pick / 8 % 8);
            let index = age.checked_rem(history.issued.len());
            index.map(|index| {
                let index = history.issued.len() - 1 - index;
                (index, history.issued[index].token.clone())
            })
        };
        let Some((token, text)) = chosen else { return };
        let began = self.tick();
        let shape = Shape::BOTH[usize::from(pick) % 2];
        let verdict = ask(&self.service.authorizer, shape, "GET", "/chat/threads", &text).await;
        assert_ne!(verdict, Verdict::Failed);
        let active = verdict.is_allowed();
        let span = Span { began, ended: self.tick() };
        self.history.lock().await.seen.push(Seen { token, active, span });
    }
}

impl History {
    /// Checks every verification. Returns how many of them S1 required to refuse, and S2 to accept.
    fn check(&self, seed: u64) -> (usize, usize) {
        let (mut refusals, mut acceptances) = (0, 0);
        for seen in &self.seen {
            let issued = &self.issued[seen.token];
            let revocations: Vec<_> = self
                .revocations
                .iter()
                .filter(|(identity, _)| identity.as_ref().is_none_or(|identity| *identity == issued.identity))
                .map(|(_, span)| span)
                .collect();
            let is_between = |span: &&Span| span.began > issued.span.ended && span.ended < seen.span.began;
            let is_outside = |span: &Span| span.ended < issued.span.began || span.began > seen.span.ended;
            let at = format!("seed {seed}: token {} at {:?}", seen.token, seen.span);
            if revocations.iter().any(is_between) {
                assert!(!seen.active, "S1, {at}");
                refusals += 1;
            }
            if revocations.into_iter().chain(&self.overtaken).all(is_outside) {
                assert!(seen.active, "S2, {at}");
                acceptances += 1;
            }
        }
        (refusals, acceptances)
    }
}

async fn run(seed: u64) -> History {
    let (ports, _) = Ports::embedded(seed).await;
    let service = TestService::new(ports, Algorithm::Es256, seed).await;
    let mut ids = Vec::new();
    for _ in 0..IDENTITIES {
        ids.push(service.create().await);
    }
    let ids = Mutex::new(ids);
    let rotates = seed.is_multiple_of(2);
    let run = Arc::new(Run { service, ids, time: AtomicU64::new(0), rotates, history: Mutex::default() });
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let run = Arc::clone(&run);
            tokio::spawn(async move {
                let random = SeededRandom::new(seed * TASKS + task);
                for _ in 0..STEPS {
                    let mut bytes = [0; 2];
                    random.fill(&mut bytes);
                    run.act(bytes[0], bytes[1]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    std::mem::take(&mut *run.history.lock().await)
}

/// The clock is paused, so that a slow machine causes no timeout.
#[tokio::test(start_paused = true)]
async fn concurrent_histories_keep_both_promises() {
    let (mut operations, mut refusals, mut acceptances) = (0, 0, 0);
    for seed in 0..10 {
        println!("seed {seed}");
        let history = run(seed).await;
        let (refused, accepted) = history.check(seed);
        operations += history.issued.len() + history.revocations.len() + history.seen.len();
        refusals += refused;
        acceptances += accepted;
    }
    println!("{operations} operations, {refusals} refusals, {acceptances} acceptances");
    assert!(operations > 10_000);
    assert!(
        refusals > 500 && acceptances > 500,
        "S1 required {refusals} refusals and S2 {acceptances} acceptances"
    );
}
