//! Many tasks at once over one resource: issue, revoke, delete, rotate, and verify by the authorizer of both shapes
//! of gateway. The history of what they did is checked for both promises. Each operation has the moments at which
//! it began and ended on one logical clock, so the rules need no search.

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

/// From when to when an operation ran.
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

/// One verification: of which token, and what it said.
struct Seen {
    token: usize,
    active: bool,
    span: Span,
}

#[derive(Default)]
struct History {
    issued: Vec<Issued>,
    /// Of one identity, or of all.
    killed: Vec<(Option<String>, Span)>,
    /// Rotations that were refused.
    overtaken: Vec<Span>,
    seen: Vec<Seen>,
}

struct Run {
    service: TestService,
    /// Those in use; one that is deleted is replaced by another.
    ids: Mutex<Vec<String>>,
    time: AtomicU64,
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
            120..=124 => self.rotate().await,
            _ => self.verify_one(pick).await,
        }
    }

    async fn issue(&self, identity: String, pick: u8) {
        let slot = if pick.is_multiple_of(2) { Slot::Primary } else { Slot::Secondary };
        let began = self.tick();
        let reply = self.service.issue(self.service.key(slot), &identity).await;
        let span = Span { began, ended: self.tick() };
        // Another task may have deleted it.
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
        self.history.lock().await.killed.push((Some(identity), span));
    }

    async fn delete(&self, place: usize, identity: String) {
        let began = self.tick();
        let status = self.service.delete(&identity).await.status;
        let span = Span { began, ended: self.tick() };
        assert_eq!(status, 204);
        self.history.lock().await.killed.push((Some(identity), span));
        let another = self.service.create().await;
        self.ids.lock().await[place] = another;
    }

    async fn rotate(&self) {
        let began = self.tick();
        let outcome = self.service.replace_keys(Change::RotateSigningKeys).await;
        let span = Span { began, ended: self.tick() };
        let mut history = self.history.lock().await;
        // One that was overtaken may have been in force for a while.
        if outcome.is_ok() { history.killed.push((None, span)) } else { history.overtaken.push(span) }
    }

    async fn verify_one(&self, pick: u8) {
        let chosen = {
            let history = self.history.lock().await;
            let index = usize::from(pick % 64).checked_rem(history.issued.len());
            index.map(|index| {
                // The youngest are the likeliest to be decision wrongly.
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
    fn check(&self, seed: u64) {
        for seen in &self.seen {
            let issued = &self.issued[seen.token];
            let killers = || {
                self.killed.iter().filter(|(one, _)| one.as_ref().is_none_or(|one| *one == issued.identity))
            };
            let must_be_dead =
                killers().any(|(_, kill)| kill.began > issued.span.ended && kill.ended < seen.span.began);
            let untouched = |kill: &Span| kill.ended < issued.span.began || kill.began > seen.span.ended;
            let must_be_alive =
                killers().all(|(_, kill)| untouched(kill)) && self.overtaken.iter().all(untouched);
            assert!(
                !must_be_dead || !seen.active,
                "S1, seed {seed}: token {} at {:?}",
                seen.token,
                seen.span
            );
            assert!(
                !must_be_alive || seen.active,
                "S2, seed {seed}: token {} at {:?}",
                seen.token,
                seen.span
            );
        }
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
    let run = Arc::new(Run { service, ids, time: AtomicU64::new(0), history: Mutex::default() });
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

#[tokio::test]
async fn concurrent_histories_keep_both_promises() {
    let (mut operations, mut dead, mut active) = (0, 0, 0);
    for seed in 0..10 {
        println!("seed {seed}");
        let history = run(seed).await;
        history.check(seed);
        operations += history.issued.len() + history.killed.len() + history.seen.len();
        dead += history.seen.iter().filter(|seen| !seen.active).count();
        active += history.seen.iter().filter(|seen| seen.active).count();
    }
    assert!(operations > 10_000, "{operations} operations");
    assert!(dead > 500 && active > 500, "{dead} dead and {active} active were seen");
}
