//! Two replacements of keys at once, over the real adapters. A conductor decides after each call which of them
//! continues. A conflict means that no key has changed, whichever call the other replacement came after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use acs_identity::embedded;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use e2e::faults::FaultyClient;
use e2e::test_service::{Embedded, Ports, TestService, run_schedule};
use functions::adapters::Adapters;
use identity::keys::rotation::{Change, KeyPorts, RotationError, Rotator};
use identity::keys::{AccessSlot, Algorithm, KeyId, Slot};
use identity::runtime::Random as _;
use identity::secrets::{SecretName, StagingLabel, VersionId};
use identity::testing::SeededRandom;
use tokio::sync::{Notify, Semaphore};

/// A replacement of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Operator(Change),
    /// The four steps of Secrets Manager.
    Scheduled,
}

const ROTATE: Run = Run::Operator(Change::RotateSigningKeys);
const PRIMARY: Run = Run::Operator(Change::RegenerateAccessKey(AccessSlot::Primary));
const SECONDARY: Run = Run::Operator(Change::RegenerateAccessKey(AccessSlot::Secondary));

/// The pairs, each in the order in which they start.
const PAIRS: [[Run; 2]; 8] = [
    [PRIMARY, SECONDARY],
    [PRIMARY, PRIMARY],
    [PRIMARY, ROTATE],
    [ROTATE, PRIMARY],
    [ROTATE, ROTATE],
    [Run::Scheduled, ROTATE],
    [Run::Scheduled, PRIMARY],
    [PRIMARY, Run::Scheduled],
];

impl Run {
    fn revokes(self, slot: Slot) -> bool {
        match self {
            Self::Operator(Change::RegenerateAccessKey(regenerated)) => slot == regenerated.into(),
            Self::Operator(Change::RotateSigningKeys) | Self::Scheduled => true,
        }
    }

    fn replaces_access_key(self, slot: Slot) -> bool {
        matches!(self, Self::Operator(Change::RegenerateAccessKey(_))) && self.revokes(slot)
    }
}

/// The calls of one replacement. A call waits for a permit.
#[derive(Clone)]
pub(crate) struct Gate(Arc<GateState>);

struct GateState {
    open: AtomicBool,
    permits: Semaphore,
    /// A call waits, or the replacement has ended.
    idle: Notify,
    ended: AtomicBool,
    calls: AtomicUsize,
    /// The number of the call whose answer is lost after its effect.
    loses: AtomicUsize,
    /// A version of this replacement was made current.
    changed: AtomicBool,
}

impl Gate {
    /// Open, so that the adapters can be set up.
    pub(crate) fn new() -> Self {
        Self(Arc::new(GateState {
            open: AtomicBool::new(true),
            permits: Semaphore::new(0),
            idle: Notify::new(),
            ended: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            loses: AtomicUsize::new(usize::MAX),
            changed: AtomicBool::new(false),
        }))
    }

    pub(crate) fn close(&self) {
        self.0.open.store(false, Ordering::SeqCst);
        self.0.calls.store(0, Ordering::SeqCst);
    }

    /// Returns the number of the call.
    async fn pass(&self) -> usize {
        if !self.0.open.load(Ordering::SeqCst) {
            match self.0.permits.try_acquire() {
                Ok(permit) => permit.forget(),
                Err(_) => {
                    self.0.idle.notify_one();
                    self.0.permits.acquire().await.unwrap().forget();
                }
            }
        }
        self.0.calls.fetch_add(1, Ordering::SeqCst)
    }

    /// Lets `calls` calls pass, and waits for the next call or for the end.
    pub(crate) async fn advance(&self, calls: usize) {
        if calls > 0 && !self.0.ended.load(Ordering::SeqCst) {
            self.0.permits.add_permits(calls);
            self.0.idle.notified().await;
        }
    }

    pub(crate) async fn run_to_end(&self) {
        while !self.0.ended.load(Ordering::SeqCst) {
            self.advance(1).await;
        }
    }

    pub(crate) fn end(&self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.idle.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::SeqCst)
    }

    /// Waits for the first call.
    pub(crate) async fn started(&self) {
        self.0.idle.notified().await;
    }

    pub(crate) fn client(&self, inner: &FaultyClient) -> GatedClient {
        GatedClient { gate: self.clone(), inner: inner.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct GatedClient {
    gate: Gate,
    inner: FaultyClient,
}

impl std::fmt::Debug for GatedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatedClient")
    }
}

fn promotes(request: &HttpRequest) -> bool {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    let body = request.body().bytes().unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    target.ends_with(".UpdateSecretVersionStage") && body["VersionStage"] == "AWSCURRENT"
}

impl HttpConnector for GatedClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let number = this.gate.pass().await;
            let promotes = promotes(&request);
            let answer = this.inner.call(request).await;
            if promotes && answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                this.gate.0.changed.store(true, Ordering::SeqCst);
            }
            if number == this.gate.0.loses.load(Ordering::SeqCst) {
                return Err(ConnectorError::io("connection reset".into()));
            }
            answer
        })
    }
}

impl HttpClient for GatedClient {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// A replacement with adapters of its own.
struct Replacement {
    run: Run,
    gate: Gate,
    adapters: Adapters,
}

impl Replacement {
    async fn new(run: Run, embedded: &Embedded) -> Self {
        let gate = Gate::new();
        let clients = (gate.client(&embedded.dynamodb), gate.client(&embedded.secrets));
        let adapters = embedded::adapters(clients.0, clients.1).await.unwrap();
        gate.close();
        Self { run, gate, adapters }
    }

    async fn go(&self, service: &TestService, version: &VersionId) -> Result<(), RotationError> {
        let outcome = service
            .rotate(async |rotator| {
                let table = self.adapters.table.as_ref();
                let ports = KeyPorts { pointers: table, secret_store: self.adapters.secrets.as_ref() };
                let rotator = Rotator { ports, ..rotator };
                match self.run {
                    Run::Operator(change) => rotator.run(change).await.map(|_| ()),
                    Run::Scheduled => run_schedule(rotator, version).await,
                }
            })
            .await;
        self.gate.end();
        outcome
    }

    fn changed(&self) -> bool {
        self.gate.0.changed.load(Ordering::SeqCst)
    }
}

/// The order of the calls: each entry lets one of the two replacements make some calls.
type Schedule = Vec<(usize, usize)>;

/// A resource with a token for each access key, and two replacements.
struct Pair {
    service: TestService,
    id: String,
    tokens: [(Slot, String); 2],
    replacements: [Replacement; 2],
    version: VersionId,
    /// The slots with their keys and standby keys at the start.
    key_ids: Vec<(Slot, KeyId, KeyId)>,
}

/// The outcome of both, and the number of calls of each.
struct Ended {
    /// Tokens that were requested with the former primary access key between the calls.
    requested: Vec<String>,
    outcomes: [Result<(), RotationError>; 2],
    calls: [usize; 2],
}

impl Pair {
    async fn new(runs: [Run; 2]) -> Self {
        let (ports, embedded) = Ports::embedded(71).await;
        let service = TestService::new(ports, Algorithm::Es256, 71).await;
        let id = service.create().await;
        let mut tokens = [Slot::Primary, Slot::Secondary].map(|slot| (slot, String::new()));
        for (slot, token) in &mut tokens {
            *token = service.issue(service.key(*slot), &id).await.token().unwrap();
        }
        let version = VersionId::new("5c4ed001-0000-4000-8000-000000000001");
        if runs.contains(&Run::Scheduled) {
            embedded.begin_rotation(SecretName::SigningKeys.as_str(), version.as_str());
        }
        let replacements =
            [Replacement::new(runs[0], &embedded).await, Replacement::new(runs[1], &embedded).await];
        let key_ids = service.key_ids().await;
        Self { service, id, tokens, replacements, version, key_ids }
    }

    /// Runs both. After the schedule, `first` runs to its end, then the other.
    async fn play(&self, schedule: &Schedule, first: usize) -> Ended {
        let [a, b] = &self.replacements;
        let conductor = async {
            for replacement in &self.replacements {
                replacement.gate.started().await;
            }
            let mut requested = Vec::new();
            for (turn, calls) in schedule {
                self.replacements[*turn].gate.advance(*calls).await;
                requested.extend(self.service.issue(&self.service.primary, &self.id).await.token());
            }
            self.replacements[first].gate.run_to_end().await;
            requested.extend(self.service.issue(&self.service.primary, &self.id).await.token());
            self.replacements[1 - first].gate.run_to_end().await;
            requested
        };
        let (one, other, requested) =
            tokio::join!(a.go(&self.service, &self.version), b.go(&self.service, &self.version), conductor);
        let calls = [a, b].map(|it| it.gate.0.calls.load(Ordering::SeqCst));
        Ended { requested, outcomes: [one, other], calls }
    }

    /// A success is in force, a conflict has changed no key, and the next replacement works.
    async fn check(mut self, ended: &Ended, is_faulty: bool, case: &str) {
        let Ended { requested, outcomes, .. } = ended;
        for (replacement, outcome) in self.replacements.iter().zip(outcomes) {
            match outcome {
                Ok(()) => assert!(replacement.changed(), "{case}: {:?} succeeded", replacement.run),
                Err(RotationError::Conflict | RotationError::NotPending) => {
                    assert!(!replacement.changed(), "{case}: {:?} has changed keys", replacement.run);
                }
                Err(error) => assert!(is_faulty, "{case}: {:?}: {error}", replacement.run),
            }
        }
        assert!(is_faulty || outcomes.iter().any(Result::is_ok), "{case}: no replacement succeeded");

        let succeeded = |revokes: fn(Run, Slot) -> bool, slot| {
            let mut both = self.replacements.iter().zip(outcomes);
            both.any(|(replacement, outcome)| outcome.is_ok() && revokes(replacement.run, slot))
        };
        let may_have_changed = |revokes: fn(Run, Slot) -> bool, slot| {
            self.replacements.iter().any(|it| it.changed() && revokes(it.run, slot))
        };
        for (slot, token) in &self.tokens {
            let is_active = self.service.verify(token).await.is_ok();
            assert!(!(is_active && succeeded(Run::revokes, *slot)), "{case}: S1 of {slot:?}");
            assert!(is_active || may_have_changed(Run::revokes, *slot), "{case}: {slot:?} was not replaced");
            let is_accepted = self.service.issue(self.service.key(*slot), &self.id).await.status == 200;
            assert!(
                !(is_accepted && succeeded(Run::replaces_access_key, *slot)),
                "{case}: the former access key {slot:?} is accepted"
            );
            assert!(
                is_accepted || may_have_changed(Run::replaces_access_key, *slot),
                "{case}: the access key {slot:?} was not replaced"
            );
        }

        let key_ids = self.service.key_ids().await;
        for ((slot, key, standby), (_, new_key, new_standby)) in self.key_ids.iter().zip(&key_ids) {
            let is_gone = |id| ![new_key, new_standby].contains(&id);
            let discards = |run: Run, slot| run != Run::Scheduled && run.revokes(slot);
            if succeeded(discards, *slot) {
                assert!(is_gone(key) && is_gone(standby), "{case}: {slot:?} keeps a key that may be known");
            } else if succeeded(Run::revokes, *slot) {
                assert_eq!(new_key, standby, "{case}: the schedule promotes the standby key of {slot:?}");
            }
        }

        for token in requested {
            let is_active = self.service.verify(token).await.is_ok();
            assert!(
                !(is_active && succeeded(Run::replaces_access_key, Slot::Primary)),
                "{case}: a token of the former access key is active"
            );
        }

        self.service.replace_keys(Change::RegenerateAccessKey(AccessSlot::Primary)).await.expect(case);
        self.assert_at_rest(case).await;
        self.service.learn_access_keys().await;
        let token = self.service.issue(&self.service.secondary, &self.id).await.token().unwrap();
        assert!(self.service.verify(&token).await.is_ok(), "{case}: S2");
    }

    async fn assert_at_rest(&self, case: &str) {
        let pointer = self.service.ports.pointers.pointer().await.unwrap().unwrap();
        for (secret, named) in
            [(SecretName::AccessKeys, &pointer.access_keys), (SecretName::SigningKeys, &pointer.signing_keys)]
        {
            let labels = self.service.ports.secret_store_writer.labels(secret).await.unwrap();
            assert!(labels.is_on(StagingLabel::Current, named), "{case}: {secret:?}");
            assert!(labels.is_on(StagingLabel::InForce, named), "{case}: {secret:?}");
            assert_eq!(labels.version_with(StagingLabel::Previous), None, "{case}: {secret:?}");
            assert_eq!(labels.version_with(StagingLabel::Pending), None, "{case}: {secret:?}");
        }
    }
}

/// The number of calls of each replacement when one runs after the other.
async fn calls(runs: [Run; 2]) -> [usize; 2] {
    let pair = Pair::new(runs).await;
    pair.play(&Vec::new(), 0).await.calls
}

/// The first replacement stops before each of its calls, and the other one runs to its end.
#[tokio::test]
async fn a_conflict_with_a_whole_replacement_has_changed_no_key() {
    for runs in PAIRS {
        let [first, _] = calls(runs).await;
        for i in 0..first {
            let pair = Pair::new(runs).await;
            let ended = pair.play(&vec![(0, i)], 1).await;
            pair.check(&ended, false, &format!("{runs:?}: {i} calls")).await;
        }
    }
}

/// The second regeneration has read one of the two label lists when the first one promotes its keys. Then it publishes
/// them. A token that the holder of the former access key requests at that moment is revoked by the first regeneration.
#[tokio::test]
async fn a_token_requested_during_a_regeneration_is_revoked() {
    let runs = [PRIMARY, SECONDARY];
    let [first, _] = calls(runs).await;
    for i in 0..first {
        let pair = Pair::new(runs).await;
        let ended = pair.play(&vec![(0, i), (1, 2), (0, 2), (1, 4)], 0).await;
        pair.check(&ended, false, &format!("{i} calls")).await;
    }
}

/// The replacements take turns of random lengths.
#[tokio::test]
async fn a_conflict_has_changed_no_key_in_random_orders() {
    for seed in 0..96_u64 {
        let runs = PAIRS[usize::try_from(seed).unwrap() % PAIRS.len()];
        let mut lengths = [0; 12];
        SeededRandom::new(seed).fill(&mut lengths);
        let schedule =
            lengths.iter().enumerate().map(|(turn, it)| (turn % 2, usize::from(it % 13))).collect();
        let pair = Pair::new(runs).await;
        let ended = pair.play(&schedule, 0).await;
        pair.check(&ended, false, &format!("{runs:?}, seed {seed}")).await;
    }
}

/// The answer to each call of the first replacement is lost after its effect. The other one runs before the call is
/// sent again.
#[tokio::test(start_paused = true)]
async fn a_conflict_has_changed_no_key_when_an_answer_is_lost() {
    for runs in [[PRIMARY, SECONDARY], [PRIMARY, ROTATE], [ROTATE, ROTATE], [Run::Scheduled, ROTATE]] {
        let [first, _] = calls(runs).await;
        for lost in 0..first {
            let pair = Pair::new(runs).await;
            pair.replacements[0].gate.0.loses.store(lost, Ordering::SeqCst);
            let ended = pair.play(&vec![(0, lost + 1)], 1).await;
            pair.check(&ended, true, &format!("{runs:?}: answer {lost} lost")).await;
        }
    }
}
