//! Replacements of keys, interrupted at every call of every step: the process ends, the call and all later ones fail, or
//! the call fails once. After that, the service starts again, mints, and replaces keys again. The promises are checked
//! each time for all tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, TestService, run_schedule};
use identity::keys::AccessSlot;
use identity::keys::rotation::{Change, RotationError};
use identity::keys::{Algorithm, KeyId, Slot};
use identity::secrets::{SecretName, StagingLabel, VersionId};
use identity::token::verify::VerifyError;
use tokio::sync::Notify;

/// A replacement of keys.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// An operator's call.
    Operator(Change),
    /// The four steps of Secrets Manager.
    Scheduled,
}

/// The fault at the chosen call.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// The process ends there: the future is dropped.
    Ends(Fault),
    /// The call and every later one fail.
    Outage(Fault),
    /// The call fails once. The SDK sends it again.
    Once(Fault),
}

const RUNS: [Run; 4] = [
    Run::Operator(Change::RotateSigningKeys),
    Run::Operator(Change::RegenerateAccessKey(AccessSlot::Primary)),
    Run::Operator(Change::RegenerateAccessKey(AccessSlot::Secondary)),
    Run::Scheduled,
];

const BREAKS: [Break; 6] = [
    Break::Ends(Fault::SilentBefore),
    Break::Ends(Fault::SilentAfter),
    Break::Outage(Fault::BreakBefore),
    Break::Outage(Fault::BreakAfter),
    Break::Once(Fault::BreakBefore),
    Break::Once(Fault::BreakAfter),
];

impl Run {
    fn revokes(self, slot: Slot) -> bool {
        match self {
            Self::Operator(Change::RegenerateAccessKey(regenerated)) => slot == regenerated.into(),
            Self::Operator(Change::RotateSigningKeys) | Self::Scheduled => true,
        }
    }

    async fn go(self, service: &TestService, version: &VersionId) -> Result<(), RotationError> {
        match self {
            Self::Operator(change) => service.replace_keys(change).await,
            Self::Scheduled => service.rotate(async |rotator| run_schedule(rotator, version).await).await,
        }
    }
}

type SlotKeyIds = (Slot, KeyId, KeyId);

/// A resource with a token for each access key.
struct Matrix {
    service: TestService,
    embedded: Embedded,
    id: String,
    tokens: Vec<(Slot, String)>,
    version: VersionId,
}

impl Matrix {
    async fn new(run: Run) -> Self {
        let (ports, embedded) = Ports::embedded(51).await;
        let service = TestService::new(ports, Algorithm::Es256, 51).await;
        let id = service.create().await;
        let version = VersionId::new("5c4ed001-0000-4000-8000-000000000001");
        let mut matrix = Self { service, embedded, id, tokens: Vec::new(), version };
        matrix.mint().await;
        if let Run::Scheduled = run {
            matrix.announce().await;
        }
        matrix
    }

    /// Puts the pending label on a version without a value, as Secrets Manager does before the first step.
    async fn announce(&self) {
        self.embedded.begin_rotation(SecretName::SigningKeys.as_str(), self.version.as_str());
    }

    async fn mint(&mut self) {
        for slot in [Slot::Primary, Slot::Secondary] {
            let reply = self.service.issue(self.service.key(slot), &self.id).await;
            assert_eq!(reply.status, 200, "K: {}", reply.text);
            let token = reply.token().unwrap();
            assert!(self.service.verify(&token).await.is_ok(), "S2: a new token is not active");
            self.tokens.push((slot, token));
        }
    }

    /// Whether each token is active. Each verification must decide, because the pointer can always be read.
    async fn active(&self) -> Vec<bool> {
        let mut active = Vec::new();
        for (_, token) in &self.tokens {
            match self.service.verify(token).await {
                Ok(_) => active.push(true),
                Err(VerifyError::Refused(_)) => active.push(false),
                Err(error) => panic!("K: {error}"),
            }
        }
        active
    }

    fn plan(&self, at: usize, broken: Break, reached: &Arc<Notify>) {
        let calls = Arc::new(AtomicUsize::new(0));
        for client in [&self.embedded.dynamodb, &self.embedded.secrets] {
            let (calls, reached) = (Arc::clone(&calls), Arc::clone(reached));
            client.plan(move |_| {
                let call = calls.fetch_add(1, Ordering::SeqCst);
                if call == at {
                    reached.notify_one();
                }
                match broken {
                    Break::Ends(fault) | Break::Once(fault) => (call == at).then_some(fault),
                    // The call may still have its effect. The later calls have none.
                    Break::Outage(fault) if call == at => Some(fault),
                    Break::Outage(_) => (call > at).then_some(Fault::BreakBefore),
                }
            });
        }
    }

    fn repair(&self) {
        for client in [&self.embedded.dynamodb, &self.embedded.secrets] {
            client.plan(|_| None);
        }
    }

    /// At rest exactly one set of private keys holds labels: the versions that the pointer names, current and in force.
    async fn assert_one_set_at_rest(&self) {
        let pointer = self.service.ports.pointers.pointer().await.unwrap().unwrap();
        for (secret, named) in
            [(SecretName::AccessKeys, &pointer.access_keys), (SecretName::SigningKeys, &pointer.signing_keys)]
        {
            let labels = self.service.ports.secret_store_writer.labels(secret).await.unwrap();
            assert!(labels.is_on(StagingLabel::Current, named), "{secret:?}");
            assert!(labels.is_on(StagingLabel::InForce, named), "{secret:?}");
            assert_eq!(labels.version_with(StagingLabel::Previous), None, "{secret:?}");
            assert_eq!(labels.version_with(StagingLabel::Pending), None, "{secret:?}");
        }
    }
}

/// What a replacement does with a slot's key and standby key.
fn assert_key_ids(case: &str, run: Run, before: &[SlotKeyIds], after: &[SlotKeyIds]) {
    for ((slot, key, standby), (_, new_key, new_standby)) in before.iter().zip(after) {
        let known = [key, standby];
        let is_new_standby = !known.contains(&new_standby);
        let as_promised = match run {
            Run::Scheduled => new_key == standby && is_new_standby,
            _ if run.revokes(*slot) => !known.contains(&new_key) && is_new_standby,
            Run::Operator(_) => (new_key, new_standby) == (key, standby),
        };
        assert!(as_promised, "{case}: {slot:?} of {run:?}: {before:?} became {after:?}");
    }
}

/// Runs with a fault at one call. Returns whether the call was reached.
async fn cell(run: Run, at: usize, broken: Break) -> bool {
    let mut matrix = Matrix::new(run).await;
    let first_keys = matrix.service.key_ids().await;
    let reached = Arc::new(Notify::new());
    matrix.plan(at, broken, &reached);
    let version = matrix.version.clone();
    let outcome = match broken {
        // The future is dropped at the call, before any timeout of the SDK.
        Break::Ends(_) => tokio::select! {
            biased;
            () = reached.notified() => None,
            outcome = run.go(&matrix.service, &version) => Some(outcome),
        },
        _ => Some(run.go(&matrix.service, &version).await),
    };
    let was_reached = match broken {
        Break::Ends(_) => outcome.is_none(),
        _ => tokio::time::timeout(std::time::Duration::ZERO, reached.notified()).await.is_ok(),
    };
    matrix.repair();
    matrix.service.restart();
    matrix.service.learn_access_keys().await;

    let before = matrix.active().await;
    let broken_off = matrix.service.key_ids().await;
    if broken_off != first_keys {
        assert_key_ids("with the fault", run, &first_keys, &broken_off);
    }
    for ((slot, _), active) in matrix.tokens.iter().zip(&before) {
        if matches!(outcome, Some(Ok(()))) {
            assert_eq!(
                *active,
                !run.revokes(*slot),
                "S1, or too many tokens revoked: {slot:?} after success"
            );
        } else if !run.revokes(*slot) {
            assert!(active, "the tokens of a slot that is not replaced stay active: {slot:?}");
        }
    }
    if matches!(outcome, Some(Ok(()))) {
        assert_key_ids("success", run, &first_keys, &broken_off);
        matrix.assert_one_set_at_rest().await;
    }

    // Secrets Manager repeats a scheduled rotation with its version. A finished rotation stays finished.
    if let Run::Scheduled = run {
        let repeated = run.go(&matrix.service, &version).await;
        assert!(repeated.is_ok(), "the same version again: {repeated:?}");
        assert!(!matrix.active().await.contains(&true), "S1 of the scheduled rotation");
        assert_key_ids("repeated", run, &first_keys, &matrix.service.key_ids().await);
        matrix.assert_one_set_at_rest().await;
    }

    matrix.mint().await;
    let known = matrix.service.key_ids().await;
    let (next, replaced) = run_again(run, &matrix.service).await;
    assert!(replaced.is_ok(), "the next replacement: {replaced:?}");
    // The next replacement may first publish the keys that the fault left, so their ids are unknown here.
    for (slot, key, standby) in matrix.service.key_ids().await {
        if next.revokes(slot) {
            let former = known.iter().flat_map(|(_, key, standby)| [key, standby]);
            assert!(former.into_iter().all(|id| ![&key, &standby].contains(&id)), "{slot:?} of {next:?}");
        }
    }
    let active = matrix.active().await;
    for (index, ((slot, _), active)) in matrix.tokens.iter().zip(active).enumerate() {
        let was_active = before.get(index).copied().unwrap_or(true);
        if run.revokes(*slot) {
            assert!(!active, "S1: token {index} of {slot:?} is active after the next replacement");
        } else {
            assert_eq!(active, was_active, "token {index} of {slot:?} must not change");
        }
    }
    matrix.assert_one_set_at_rest().await;
    matrix.service.learn_access_keys().await;
    matrix.mint().await;
    was_reached
}

/// The next replacement is an operator's, so it always makes new keys.
async fn run_again(run: Run, service: &TestService) -> (Run, Result<(), RotationError>) {
    let change = match run {
        Run::Operator(change) => change,
        Run::Scheduled => Change::RotateSigningKeys,
    };
    (Run::Operator(change), service.replace_keys(change).await)
}

#[tokio::test(start_paused = true)]
async fn every_call_of_every_step_may_break() {
    for run in RUNS {
        for broken in BREAKS {
            let mut cells = 0;
            while cell(run, cells, broken).await {
                cells += 1;
                assert!(cells < 200, "{run:?} {broken:?}: too many calls");
            }
            assert!(cells >= 12, "{run:?} {broken:?}: only {cells} calls were broken");
        }
    }
}

#[tokio::test]
async fn one_of_two_rotations_at_once_succeeds() {
    let (mut won, mut conflicts) = (0, 0);
    for seed in 0..60 {
        let (ports, _) = Ports::embedded(seed).await;
        let service = TestService::new(ports, Algorithm::Es256, seed).await;
        let id = service.create().await;
        let old = service.issue(&service.primary, &id).await.token().unwrap();
        let rotate = Change::RotateSigningKeys;
        let (first, second) = tokio::join!(service.replace_keys(rotate), service.replace_keys(rotate));
        for outcome in [&first, &second] {
            match outcome {
                Ok(()) => won += 1,
                Err(RotationError::Conflict) => conflicts += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(first.is_ok() || second.is_ok(), "seed {seed}: one succeeds");
        assert!(service.verify(&old).await.is_err(), "seed {seed}: S1");
        let fresh = service.issue(&service.primary, &id).await.token().unwrap();
        assert!(service.verify(&fresh).await.is_ok(), "seed {seed}: S2");
    }
    assert!(won >= 60 && conflicts > 0, "{won} won, {conflicts} conflicts");
}

#[tokio::test]
async fn a_regeneration_revokes_only_its_own_slot() {
    let (ports, _) = Ports::embedded(52).await;
    let mut service = TestService::new(ports, Algorithm::Rs256, 52).await;
    let id = service.create().await;
    let through_primary = service.issue(&service.primary, &id).await.token().unwrap();
    let through_secondary = service.issue(&service.secondary, &id).await.token().unwrap();
    let (old_primary, old_secondary) = (service.primary.clone(), service.secondary.clone());
    let change = Change::RegenerateAccessKey(AccessSlot::Primary);
    service.replace_keys(change).await.unwrap();
    // The service is warm: it still has the former keys in memory.
    assert_eq!(service.issue(&old_primary, &id).await.status, 401, "the former key is refused at once");
    assert!(service.verify(&through_primary).await.is_err());
    assert!(service.verify(&through_secondary).await.is_ok());
    assert_eq!(service.issue(&old_secondary, &id).await.status, 200, "the other key is untouched");
    service.learn_access_keys().await;
    assert_eq!(service.secondary, old_secondary);
    assert_ne!(service.primary, old_primary);
    let fresh = service.issue(&service.primary, &id).await.token().unwrap();
    assert!(service.verify(&fresh).await.is_ok());
}
