//! Replacements of keys that fail at every call of every step, in three ways: the process crashes, the call and all
//! later calls fail, or the call fails once. Then the service restarts, mints tokens, and replaces keys again. Every
//! time the promises (docs/promises.md) are checked for all tokens that were minted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, TestService};
use identity::keys::AccessSlot;
use identity::keys::rotation::{Change, RotationError};
use identity::keys::{Algorithm, Slot};
use identity::secrets::VersionId;
use identity::secrets::{SecretName, StagingLabel};
use identity::token::verify::VerifyError;
use tokio::sync::Notify;

/// The way in which keys are replaced.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// An operator calls the function.
    Operator(Change),
    /// Secrets Manager calls the four steps of a rotation.
    Scheduled,
}

/// The failure at the chosen call.
#[derive(Clone, Copy, Debug)]
enum Break {
    /// The process crashes: the future is dropped.
    Crash(Fault),
    /// The call and every later call fail.
    Outage(Fault),
    /// The call fails once, and the SDK repeats it.
    Once(Fault),
}

const RUNS: [Run; 4] = [
    Run::Operator(Change::RotateSigningKeys),
    Run::Operator(Change::RegenerateAccessKey(AccessSlot::Primary)),
    Run::Operator(Change::RegenerateAccessKey(AccessSlot::Secondary)),
    Run::Scheduled,
];

const BREAKS: [Break; 6] = [
    Break::Crash(Fault::SilentBefore),
    Break::Crash(Fault::SilentAfter),
    Break::Outage(Fault::BreakBefore),
    Break::Outage(Fault::BreakAfter),
    Break::Once(Fault::BreakBefore),
    Break::Once(Fault::BreakAfter),
];

impl Run {
    fn replaces(self, slot: Slot) -> bool {
        match self {
            Self::Operator(Change::RegenerateAccessKey(regenerated)) => slot == regenerated.into(),
            Self::Operator(Change::RotateSigningKeys) | Self::Scheduled => true,
        }
    }

    async fn go(self, service: &TestService, version: &VersionId) -> Result<(), RotationError> {
        match self {
            Self::Operator(change) => service.replace_keys(change).await,
            Self::Scheduled => {
                let steps = async |rotator: identity::keys::rotation::Rotator<'_>| {
                    rotator.create(version).await?;
                    rotator.set(version).await?;
                    rotator.try_out(version).await?;
                    rotator.finish(version).await.map(|_| ())
                };
                service.rotate(steps).await
            }
        }
    }
}

/// A resource, with the tokens that were issued through each access key.
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

    /// Does the part of Secrets Manager before the first step: creates a pending version without a value.
    async fn announce(&self) {
        self.embedded.begin_rotation(SecretName::SigningKeys.as_str(), self.version.as_str());
    }

    async fn mint(&mut self) {
        for slot in [Slot::Primary, Slot::Secondary] {
            let reply = self.service.issue(self.service.key(slot), &self.id).await;
            assert_eq!(reply.status, 200, "K: {}", reply.text);
            let token = reply.token().unwrap();
            assert!(self.service.verify(&token).await.is_ok(), "S2: a new token is refused");
            self.tokens.push((slot, token));
        }
    }

    /// Whether each token is active. Every token must get a decision, because the pointer can always be read.
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
                    Break::Crash(fault) | Break::Once(fault) => (call == at).then_some(fault),
                    // The chosen call may still take effect. Later calls do not.
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

    /// Checks that Secrets Manager stores exactly one version of each secret: the version in the pointer, with the
    /// labels `AWSCURRENT` and `IN_FORCE`.
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

/// Runs a replacement that fails at the call number `at`. Returns whether the run reached that call.
async fn cell(run: Run, at: usize, broken: Break) -> bool {
    let mut matrix = Matrix::new(run).await;
    let reached = Arc::new(Notify::new());
    matrix.plan(at, broken, &reached);
    let version = matrix.version.clone();
    let outcome = match broken {
        // The future is dropped at the call itself, before a timeout of the SDK.
        Break::Crash(_) => tokio::select! {
            biased;
            () = reached.notified() => None,
            outcome = run.go(&matrix.service, &version) => Some(outcome),
        },
        _ => Some(run.go(&matrix.service, &version).await),
    };
    let was_reached = match broken {
        Break::Crash(_) => outcome.is_none(),
        _ => tokio::time::timeout(std::time::Duration::ZERO, reached.notified()).await.is_ok(),
    };
    matrix.repair();
    matrix.service.restart();
    matrix.service.learn_access_keys().await;

    let before = matrix.active().await;
    for ((slot, _), active) in matrix.tokens.iter().zip(&before) {
        if matches!(outcome, Some(Ok(()))) {
            assert_eq!(*active, !run.replaces(*slot), "S1, or another slot: {slot:?} after success");
        } else if !run.replaces(*slot) {
            assert!(active, "a token of a slot that is not replaced stays active: {slot:?}");
        }
    }
    if matches!(outcome, Some(Ok(()))) {
        matrix.assert_one_set_at_rest().await;
    }

    // Secrets Manager repeats a scheduled rotation with the same version. A completed rotation must stay complete.
    if let Run::Scheduled = run {
        let repeated = run.go(&matrix.service, &version).await;
        assert!(repeated.is_ok(), "the repeat with the same version: {repeated:?}");
        assert!(!matrix.active().await.contains(&true), "S1 of the scheduled rotation");
        matrix.assert_one_set_at_rest().await;
    }

    matrix.mint().await;
    let replaced = run_again(run, &matrix.service).await;
    assert!(replaced.is_ok(), "the next replacement: {replaced:?}");
    let active = matrix.active().await;
    for (index, ((slot, _), active)) in matrix.tokens.iter().zip(active).enumerate() {
        let was_active = before.get(index).copied().unwrap_or(true);
        if run.replaces(*slot) {
            assert!(!active, "S1: token {index} of {slot:?} is active after the next replacement");
        } else {
            assert_eq!(active, was_active, "the replacement changed token {index} of {slot:?}");
        }
    }
    matrix.assert_one_set_at_rest().await;
    matrix.service.learn_access_keys().await;
    matrix.mint().await;
    was_reached
}

/// The next replacement. It is always a new replacement by an operator.
async fn run_again(run: Run, service: &TestService) -> Result<(), RotationError> {
    match run {
        Run::Operator(change) => service.replace_keys(change).await,
        Run::Scheduled => service.replace_keys(Change::RotateSigningKeys).await,
    }
}

#[tokio::test(start_paused = true)]
async fn failure_at_any_call_keeps_every_promise() {
    for run in RUNS {
        for broken in BREAKS {
            let mut cells = 0;
            while cell(run, cells, broken).await {
                cells += 1;
                assert!(cells < 200, "{run:?} {broken:?}: the run makes too many calls");
            }
            assert!(cells >= 12, "{run:?} {broken:?}: only {cells} calls were tested");
        }
    }
}

#[tokio::test]
async fn concurrent_replacements_succeed_or_report_a_conflict() {
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
        assert!(first.is_ok() || second.is_ok(), "seed {seed}: no replacement succeeded");
        assert!(service.verify(&old).await.is_err(), "seed {seed}: S1");
        let fresh = service.issue(&service.primary, &id).await.token().unwrap();
        assert!(service.verify(&fresh).await.is_ok(), "seed {seed}: S2");
    }
    assert!(won >= 60 && conflicts > 0, "{won} successes, {conflicts} conflicts");
}

#[tokio::test]
async fn regenerating_one_key_keeps_the_other() {
    let (ports, _) = Ports::embedded(52).await;
    let mut service = TestService::new(ports, Algorithm::Rs256, 52).await;
    let id = service.create().await;
    let through_primary = service.issue(&service.primary, &id).await.token().unwrap();
    let through_secondary = service.issue(&service.secondary, &id).await.token().unwrap();
    let (old_primary, old_secondary) = (service.primary.clone(), service.secondary.clone());
    let change = Change::RegenerateAccessKey(AccessSlot::Primary);
    service.replace_keys(change).await.unwrap();
    // The service still has the former keys in its cache.
    assert_eq!(service.issue(&old_primary, &id).await.status, 401, "the former key is refused at once");
    assert!(service.verify(&through_primary).await.is_err());
    assert!(service.verify(&through_secondary).await.is_ok());
    assert_eq!(service.issue(&old_secondary, &id).await.status, 200, "the other key is unchanged");
    service.learn_access_keys().await;
    assert_eq!(service.secondary, old_secondary);
    assert_ne!(service.primary, old_primary);
    let fresh = service.issue(&service.primary, &id).await.token().unwrap();
    assert!(service.verify(&fresh).await.is_ok());
}
