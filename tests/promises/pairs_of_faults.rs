//! Every fault, and every pair of faults, at the calls of every operation. After each run the promises are checked, and
//! once more after the delayed calls have arrived. Time is virtual, so no test waits.

use std::sync::{Arc, Mutex};

use e2e::entra_issuer::{APP, TENANT, exchange, teams_token, trusting};
use e2e::faults::Fault;
use e2e::router::{Shape, Verdict, ask};
use e2e::signer::{Call, sign};
use e2e::test_service::{Embedded, HOST, Ports, Reply, TestService, run_schedule};
use identity::api::service::Service;
use identity::keys::rotation::{Change, RotationError};
use identity::keys::{AccessSlot, Algorithm};
use identity::runtime::Clock as _;
use identity::secrets::{SecretName, VersionId};
use identity::token::verify::VerifyError;
use serde_json::json;
use uuid::Uuid;

const FAULTS: [Fault; 7] = [
    Fault::Throttle,
    Fault::Unprocessed,
    Fault::Conflict,
    Fault::InternalError,
    Fault::BreakBefore,
    Fault::BreakAfter,
    // No answer within the timeout. The call has its effect long after the reply.
    Fault::Late,
];

/// The faults after which a call may have an effect that its caller has not seen, now or later.
const LASTING: [Fault; 2] = [Fault::BreakAfter, Fault::Late];

const PREVIEW: &str = "api-version=2025-03-02-preview";
const TEAMS_EXCHANGE: &str = "/teamsUser/:exchangeAccessToken?api-version=2023-10-01";

/// An operation under faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    CreateWithToken,
    CreateWithCustomId,
    Issue,
    IssueWithProfile,
    Revoke,
    Delete,
    DeleteWithCustomId,
    Exchange,
    ExchangeTeamsUser,
    Assign,
    Unassign,
    ChangeAssignments,
    Introspect,
    Authorize,
    Replace(Change),
    Scheduled,
}

const REQUESTS: [Operation; 15] = [
    Operation::Create,
    Operation::CreateWithToken,
    Operation::CreateWithCustomId,
    Operation::Issue,
    Operation::IssueWithProfile,
    Operation::Revoke,
    Operation::Delete,
    Operation::DeleteWithCustomId,
    Operation::Exchange,
    Operation::ExchangeTeamsUser,
    Operation::Assign,
    Operation::Unassign,
    Operation::ChangeAssignments,
    Operation::Introspect,
    Operation::Authorize,
];

const REPLACEMENTS: [Operation; 4] = [
    Operation::Replace(Change::RotateSigningKeys),
    Operation::Replace(Change::RegenerateAccessKey(AccessSlot::Primary)),
    Operation::Replace(Change::RegenerateAccessKey(AccessSlot::Secondary)),
    Operation::Scheduled,
];

/// The faults of one run, each with the number of the call that it strikes.
type Plan = Vec<(usize, Fault)>;

/// The calls of one run, and the faults that struck.
#[derive(Default)]
struct Trace {
    calls: Vec<String>,
    struck: usize,
}

/// The result of an operation.
enum Outcome {
    /// A success, with its reply unless keys were replaced.
    Success(Option<Reply>),
    /// No effect is promised, and none is excluded.
    Unclear,
}

/// A resource over the embedded services.
struct World {
    service: TestService,
    trusting: Service,
    embedded: Embedded,
    is_cold: bool,
    runs: u128,
    /// A token that was revoked before every run.
    revoked: String,
}

/// The state that an operation starts from.
struct Subject {
    id: String,
    custom_id: String,
    user: Uuid,
    other_user: Uuid,
    /// Active tokens of the identity, one from each access key.
    active: [String; 2],
    version: VersionId,
}

impl World {
    async fn new(seed: u64, is_cold: bool) -> Self {
        let (ports, embedded) = Ports::embedded(seed).await;
        let service = TestService::new(ports, Algorithm::Es256, seed).await;
        let trusting = trusting(&service);
        let id = service.create().await;
        let revoked = service.issue(&service.primary, &id).await.token().unwrap();
        assert_eq!(service.revoke(&id).await.status, 204);
        Self { service, trusting, embedded, is_cold, runs: 0, revoked }
    }

    async fn is_active(&self, token: &str) -> bool {
        match self.service.verify(token).await {
            Ok(_) => true,
            Err(VerifyError::Refused(_)) => false,
            Err(error) => panic!("the state can be read: {error}"),
        }
    }

    async fn create_named(&self, custom_id: &str) -> Reply {
        let body = json!({ "customId": custom_id }).to_string();
        self.service.send("POST", &format!("/identities?{PREVIEW}"), &body).await
    }

    async fn issue(&self, id: &str) -> Option<String> {
        self.service.issue(&self.service.primary, id).await.token()
    }

    async fn assign(&self, user: Uuid) -> Reply {
        let body = json!({ "principalType": "user", "tenantId": TENANT, "clientIds": [APP] }).to_string();
        self.service.send("PUT", &assignment(user), &body).await
    }

    async fn unassign(&self, user: Uuid) -> Reply {
        self.service.send("DELETE", &assignment(user), "").await
    }

    /// Assigns one user and removes the other one, in one request.
    async fn change_assignments(&self, subject: &Subject) -> Reply {
        let body = json!({
            subject.user.to_string(): null,
            subject.other_user.to_string(): { "principalType": "user", "tenantId": TENANT, "clientIds": [APP] },
        });
        let target = format!("/access/entra/assignments?{PREVIEW}");
        self.service.send("PATCH", &target, &body.to_string()).await
    }

    async fn exchange(&self, user: Uuid) -> Reply {
        exchange(&self.trusting, user, &[]).await
    }

    async fn exchange_teams_user(&self, user: Uuid) -> Reply {
        let body = json!({ "token": teams_token(user), "appId": APP, "userId": user }).to_string();
        let call = Call { method: "POST", target: TEAMS_EXCHANGE, body: &body };
        let request = sign(&call, &self.service.primary, HOST, self.service.clock.now());
        Reply::of(self.trusting.handle(request).await)
    }

    async fn introspect(&self, token: &str) -> Reply {
        self.service.send("POST", "/introspect", &format!("token={token}")).await
    }

    /// A new subject. The time of each run is another second.
    async fn prepare(&mut self, operation: Operation) -> Subject {
        self.runs += 1;
        self.service.clock.advance(1_000);
        let (user, other_user) = (Uuid::from_u128(self.runs << 64), Uuid::from_u128((self.runs << 64) + 1));
        let custom_id = format!("user-{}", self.runs);
        let id = match operation {
            Operation::IssueWithProfile | Operation::DeleteWithCustomId => {
                self.create_named(&custom_id).await.id().unwrap()
            }
            _ => self.service.create().await,
        };
        let of_primary = self.issue(&id).await.unwrap();
        let of_secondary = match operation {
            Operation::Replace(_) | Operation::Scheduled => {
                self.service.issue(&self.service.secondary, &id).await.token().unwrap()
            }
            _ => of_primary.clone(),
        };
        match operation {
            Operation::Exchange | Operation::Unassign | Operation::ChangeAssignments => {
                assert_eq!(self.assign(user).await.status, 201);
            }
            _ => {}
        }
        let version = VersionId::new(Uuid::from_u128(0x5c4e_d001 << 96 | self.runs).to_string());
        if operation == Operation::Scheduled {
            self.embedded.begin_rotation(SecretName::SigningKeys.as_str(), version.as_str());
        }
        self.service.clock.advance(1_000);
        let active = [of_primary, of_secondary];
        Subject { id, custom_id, user, other_user, active, version }
    }

    /// Plans faults by the numbers of the calls of both services together.
    fn plan(&self, plan: &Plan) -> Arc<Mutex<Trace>> {
        let trace = Arc::new(Mutex::new(Trace::default()));
        for client in [&self.embedded.dynamodb, &self.embedded.secrets] {
            let (plan, trace) = (plan.clone(), Arc::clone(&trace));
            client.plan(move |called| {
                let mut trace = trace.lock().unwrap();
                let number = trace.calls.len();
                trace.calls.push(called.to_owned());
                let (_, fault) = plan.iter().find(|(at, _)| *at == number)?;
                let strikes = can_strike(*fault, called);
                trace.struck += usize::from(strikes);
                strikes.then_some(*fault)
            });
        }
        trace
    }

    fn no_faults(&self) {
        for client in [&self.embedded.dynamodb, &self.embedded.secrets] {
            client.plan(|_| None);
        }
    }

    async fn run(&self, operation: Operation, subject: &Subject) -> Outcome {
        let id = &subject.id;
        let (expected, reply) = match operation {
            Operation::Create => {
                (201, self.service.send("POST", &format!("/identities?{PREVIEW}"), "").await)
            }
            Operation::CreateWithToken => {
                let body = r#"{"createTokenWithScopes":["chat"]}"#;
                (201, self.service.send("POST", "/identities?api-version=2023-10-01", body).await)
            }
            Operation::CreateWithCustomId => (201, self.create_named(&subject.custom_id).await),
            Operation::Issue => (200, self.service.issue(&self.service.primary, id).await),
            Operation::IssueWithProfile => {
                let target = format!("/identities/{id}/:issueAccessToken?{PREVIEW}");
                (200, self.service.send("POST", &target, r#"{"scopes":["chat"]}"#).await)
            }
            Operation::Revoke => (204, self.service.revoke(id).await),
            Operation::Delete | Operation::DeleteWithCustomId => (204, self.service.delete(id).await),
            Operation::Exchange => (200, self.exchange(subject.user).await),
            Operation::ExchangeTeamsUser => (200, self.exchange_teams_user(subject.user).await),
            Operation::Assign => (200, self.assign(subject.user).await),
            Operation::Unassign => (204, self.unassign(subject.user).await),
            Operation::ChangeAssignments => (200, self.change_assignments(subject).await),
            Operation::Introspect => return self.introspect_all(subject).await,
            Operation::Authorize => return self.authorize_all(subject).await,
            Operation::Replace(change) => return replaced(self.service.replace_keys(change).await),
            Operation::Scheduled => {
                let rotated =
                    self.service.rotate(async |rotator| run_schedule(rotator, &subject.version).await);
                return replaced(rotated.await);
            }
        };
        if reply.status == expected || (operation == Operation::Assign && reply.status == 201) {
            return Outcome::Success(Some(reply));
        }
        assert_eq!(reply.status, 503, "{}", reply.text);
        assert_eq!(reply.headers["retry-after"], "1", "{}", reply.text);
        Outcome::Unclear
    }

    async fn introspect_all(&self, subject: &Subject) -> Outcome {
        for (token, is_active) in [(&subject.active[0], true), (&self.revoked, false)] {
            let reply = self.introspect(token).await;
            match reply.status {
                200 => assert_eq!(reply.json["active"], is_active, "{}", reply.text),
                status => assert_eq!(status, 503, "{}", reply.text),
            }
        }
        Outcome::Unclear
    }

    async fn authorize_all(&self, subject: &Subject) -> Outcome {
        for shape in Shape::BOTH {
            for (token, is_active) in [(&subject.active[0], true), (&self.revoked, false)] {
                match ask(&self.service.authorizer, shape, "GET", "/chat/threads", token).await {
                    Verdict::Allowed(_) => assert!(is_active, "S1"),
                    Verdict::Failed => {}
                    Verdict::Unauthorized | Verdict::Forbidden => assert!(!is_active, "S2"),
                }
            }
        }
        Outcome::Unclear
    }

    /// One run with these faults. Returns its trace.
    async fn cell(&mut self, operation: Operation, plan: &Plan) -> Trace {
        let subject = self.prepare(operation).await;
        if self.is_cold {
            self.service.restart();
            self.trusting = trusting(&self.service);
        }
        let trace = self.plan(plan);
        let outcome = self.run(operation, &subject).await;
        self.no_faults();
        let replaces = matches!(operation, Operation::Replace(_) | Operation::Scheduled);
        if replaces {
            self.service.learn_access_keys().await;
        }
        let later = self.check(operation, &subject, &outcome).await;
        self.embedded.dynamodb.deliver_late().await;
        self.embedded.secrets.deliver_late().await;
        if let Some(token) = later {
            assert!(self.is_active(&token).await, "S2, or an acknowledged effect was lost, after late calls");
        }
        assert!(!self.is_active(&self.revoked).await, "S1 after late calls");
        if plan.iter().any(|(_, fault)| *fault == Fault::Late) {
            self.check_again(operation, &subject).await;
        }
        std::mem::take(&mut *trace.lock().unwrap())
    }

    /// Checks the promises. An unclear operation is repeated and then succeeds. Returns a token that stays active.
    async fn check(&self, operation: Operation, subject: &Subject, outcome: &Outcome) -> Option<String> {
        let reply = match outcome {
            Outcome::Success(reply) => reply.as_ref(),
            Outcome::Unclear => None,
        };
        let is_done = matches!(outcome, Outcome::Success(_));
        assert!(!self.is_active(&self.revoked).await, "S1: a revoked token");
        match operation {
            Operation::Create | Operation::CreateWithToken | Operation::CreateWithCustomId => {
                if operation == Operation::CreateWithCustomId {
                    let again = self.create_named(&subject.custom_id).await;
                    assert_eq!(again.status, 201, "N: {}", again.text);
                    let id = reply.and_then(Reply::id);
                    assert!(id.is_none() || id == again.id(), "N: a success without effect");
                }
                let id = reply?.id().unwrap();
                if let Some(token) = reply?.token() {
                    assert!(self.is_active(&token).await, "D: a token of a create");
                }
                Some(self.issue(&id).await.expect("D: a created identity"))
            }
            Operation::Issue | Operation::IssueWithProfile | Operation::ExchangeTeamsUser => {
                let token = reply?.token().unwrap();
                assert!(self.is_active(&token).await, "S2: a token that was issued");
                Some(token)
            }
            Operation::Exchange => {
                if !is_done {
                    assert_eq!(self.exchange(subject.user).await.status, 200, "A: the assignment");
                }
                let token = reply?.token().unwrap();
                assert!(self.is_active(&token).await, "S2: a token that was issued");
                Some(token)
            }
            Operation::Revoke => {
                let was_revoked = !self.is_active(&subject.active[0]).await;
                assert!(was_revoked || !is_done, "S1, D: a success without effect");
                if !is_done {
                    assert_eq!(self.service.revoke(&subject.id).await.status, 204);
                    assert!(!self.is_active(&subject.active[0]).await, "S1");
                }
                self.issue(&subject.id).await
            }
            Operation::Delete | Operation::DeleteWithCustomId => {
                let issued = self.service.issue(&self.service.primary, &subject.id).await.status;
                assert!(issued == 404 || !is_done, "D: a success without effect");
                if !is_done {
                    assert_eq!(self.service.delete(&subject.id).await.status, 204);
                }
                assert!(!self.is_active(&subject.active[0]).await, "S1");
                if operation == Operation::Delete {
                    return None;
                }
                let next = self.create_named(&subject.custom_id).await.id().expect("N: a free custom id");
                assert_ne!(next, subject.id, "N");
                self.issue(&next).await
            }
            Operation::Assign | Operation::Unassign | Operation::ChangeAssignments => {
                self.check_assignments(operation, subject, is_done).await;
                None
            }
            Operation::Introspect | Operation::Authorize => Some(subject.active[0].clone()),
            Operation::Replace(_) | Operation::Scheduled => {
                let revokes = |slot: usize| match operation {
                    Operation::Replace(Change::RegenerateAccessKey(AccessSlot::Primary)) => slot == 0,
                    Operation::Replace(Change::RegenerateAccessKey(AccessSlot::Secondary)) => slot == 1,
                    _ => true,
                };
                if !is_done {
                    let change = match operation {
                        Operation::Replace(change) => change,
                        _ => Change::RotateSigningKeys,
                    };
                    self.service.replace_keys(change).await.expect("K: the next replacement succeeds");
                }
                for slot in [0, 1] {
                    let is_active = self.is_active(&subject.active[slot]).await;
                    assert_eq!(is_active, !revokes(slot), "S1, D: slot {slot}, success {is_done}");
                }
                None
            }
        }
    }

    async fn check_assignments(&self, operation: Operation, subject: &Subject, is_done: bool) {
        let assigned = async |user| match self.exchange(user).await.status {
            200 => true,
            401 => false,
            status => panic!("{status}"),
        };
        let state = [assigned(subject.user).await, assigned(subject.other_user).await];
        let (before, after) = match operation {
            Operation::Assign => ([false, false], [true, false]),
            Operation::Unassign => ([true, false], [false, false]),
            _ => ([true, false], [false, true]),
        };
        assert!(state == after || (!is_done && state == before), "A, D: {state:?}, success {is_done}");
        if !is_done {
            let reply = match operation {
                Operation::Assign => self.assign(subject.user).await,
                Operation::Unassign => self.unassign(subject.user).await,
                _ => self.change_assignments(subject).await,
            };
            assert!(reply.status < 300, "{}", reply.text);
        }
        // The opposite change stays, also after the delayed calls.
        if after[0] {
            assert_eq!(self.unassign(subject.user).await.status, 204);
        } else {
            assert!(self.assign(subject.user).await.status < 300);
        }
    }

    /// The checks after the delayed calls: no change that was acknowledged since is undone.
    async fn check_again(&mut self, operation: Operation, subject: &Subject) {
        match operation {
            Operation::Assign => assert_eq!(self.exchange(subject.user).await.status, 401, "A"),
            Operation::Unassign | Operation::ChangeAssignments => {
                assert_eq!(self.exchange(subject.user).await.status, 200, "A");
            }
            Operation::Revoke | Operation::Delete | Operation::DeleteWithCustomId => {
                assert!(!self.is_active(&subject.active[0]).await, "S1 after late calls");
            }
            Operation::Replace(_) | Operation::Scheduled => {
                // A late call may have made a version pending. The next replacement repairs that.
                self.service.learn_access_keys().await;
                for key in [&self.service.primary, &self.service.secondary] {
                    let reply = self.service.issue(key, &subject.id).await;
                    let token = reply.token().unwrap_or_else(|| panic!("K: {}", reply.text));
                    assert!(self.is_active(&token).await, "S2");
                }
                self.service.replace_keys(Change::RotateSigningKeys).await.expect("K");
                for token in &subject.active {
                    assert!(!self.is_active(token).await, "S1");
                }
            }
            _ => {}
        }
    }
}

fn assignment(user: Uuid) -> String {
    format!("/access/entra/assignments/{user}?{PREVIEW}")
}

fn replaced(outcome: Result<(), RotationError>) -> Outcome {
    if outcome.is_ok() { Outcome::Success(None) } else { Outcome::Unclear }
}

/// Whether a fault changes the answer to such a call.
fn can_strike(fault: Fault, called: &str) -> bool {
    match fault {
        Fault::Unprocessed => called == "BatchGetItem",
        Fault::Conflict => ["PutItem", "UpdateItem", "TransactWriteItems"].contains(&called),
        _ => true,
    }
}

/// The runs with one fault and with two.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    singles: usize,
    pairs: usize,
}

/// The second fault of the pairs.
#[derive(Clone, Copy)]
struct Second {
    /// How many calls after the first fault it strikes at most.
    within: usize,
    faults: &'static [Fault],
}

/// Runs an operation with every fault at every call, and with every second fault at later calls.
async fn sweep(world: &mut World, operation: Operation, next: Second) -> Count {
    let mut count = Count::default();
    for first in 0.. {
        // Which faults can strike a call depends on its name, which the first run of the call shows.
        let mut called: Option<String> = None;
        for fault in FAULTS {
            if called.as_ref().is_some_and(|called| !can_strike(fault, called)) {
                continue;
            }
            let trace = world.cell(operation, &vec![(first, fault)]).await;
            let Some(name) = trace.calls.get(first) else { return count };
            called = Some(name.clone());
            count.singles += trace.struck;
            count.pairs += pairs(world, operation, (first, fault), next).await;
        }
    }
    count
}

/// The number of second faults that struck after this first one.
async fn pairs(world: &mut World, operation: Operation, first: (usize, Fault), next: Second) -> usize {
    let mut pairs = 0;
    for second in (first.0 + 1..).take(next.within) {
        let mut called: Option<String> = None;
        for fault in next.faults {
            if called.as_ref().is_some_and(|called| !can_strike(*fault, called)) {
                continue;
            }
            let trace = world.cell(operation, &vec![first, (second, *fault)]).await;
            let Some(name) = trace.calls.get(second) else { return pairs };
            called = Some(name.clone());
            pairs += usize::from(trace.struck == 2);
        }
    }
    pairs
}

async fn sweep_all(operations: &[Operation], is_cold: bool, next: Second) -> Count {
    let mut sum = Count::default();
    for (operation, seed) in operations.iter().zip(300..) {
        let count = sweep(&mut World::new(seed, is_cold).await, *operation, next).await;
        println!("{operation:?}: {count:?}");
        assert!(count.singles >= 5 && count.pairs >= 20, "{operation:?}: {count:?}");
        sum.singles += count.singles;
        sum.pairs += count.pairs;
    }
    println!("{sum:?}, 0 violations, 0 successes without effect");
    sum
}

#[tokio::test(start_paused = true)]
async fn every_pair_of_faults_keeps_the_promises_of_a_request() {
    let sum = sweep_all(&REQUESTS, false, Second { within: usize::MAX, faults: &FAULTS }).await;
    assert!(sum.singles >= 150 && sum.pairs >= 1_200, "{sum:?}");
}

/// A new instance makes more calls, to load keys. The second fault strikes the next one.
#[tokio::test(start_paused = true)]
async fn pairs_of_faults_keep_the_promises_of_a_new_instance() {
    let sum = sweep_all(&REQUESTS, true, Second { within: 1, faults: &LASTING }).await;
    assert!(sum.singles >= 150 && sum.pairs >= 300, "{sum:?}");
}

/// A replacement makes many calls. The second fault strikes the next one.
#[tokio::test(start_paused = true)]
async fn pairs_of_faults_keep_the_promises_of_a_replacement() {
    let sum = sweep_all(&REPLACEMENTS, false, Second { within: 1, faults: &LASTING }).await;
    assert!(sum.singles >= 300 && sum.pairs >= 500, "{sum:?}");
}
