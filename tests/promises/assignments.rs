//! Assignments: a removal is final, a later assignment stays, and the list has every assignment. The former shape of
//! the table is in `former_list`.

#[path = "assignments/former_list.rs"]
mod former_list;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use e2e::entra_issuer::{APP, TENANT, exchange, exchange_teams_extension, trusting};
use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, Reply, TestService};
use identity::api::service::Service;
use identity::keys::Algorithm;
use identity::runtime::Random as _;
use identity::testing::{NOON, SeededRandom};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::random_histories::{self, Backend};

const VERSION: &str = "api-version=2025-03-02-preview";
const WRITE: &str = "TransactWriteItems";

/// A resource over the embedded services that trusts the Entra issuer.
struct Resource {
    service: TestService,
    trusting: Service,
    embedded: Embedded,
}

/// The two kinds of assignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Entra,
    TeamsExtension,
}

impl Kind {
    const BOTH: [Self; 2] = [Self::Entra, Self::TeamsExtension];

    fn target(self, object: Uuid) -> String {
        match self {
            Self::Entra => format!("/access/entra/assignments/{object}?{VERSION}"),
            Self::TeamsExtension => {
                format!("/access/teamsExtension/tenants/{TENANT}/assignments/{object}?{VERSION}")
            }
        }
    }
}

impl Resource {
    async fn new(seed: u64) -> Self {
        let (ports, embedded) = Ports::embedded(seed).await;
        let service = TestService::new(ports, Algorithm::Es256, seed).await;
        let trusting = trusting(&service);
        Self { service, trusting, embedded }
    }

    async fn put(&self, kind: Kind, object: Uuid) -> Reply {
        self.service.send("PUT", &kind.target(object), &user().to_string()).await
    }

    async fn remove(&self, kind: Kind, object: Uuid) -> Reply {
        self.service.send("DELETE", &kind.target(object), "").await
    }

    async fn patch(&self, body: &Value) -> Reply {
        let target = format!("/access/entra/assignments?{VERSION}");
        self.service.send("PATCH", &target, &body.to_string()).await
    }

    async fn get(&self, kind: Kind, object: Uuid) -> Reply {
        self.service.send("GET", &kind.target(object), "").await
    }

    async fn exchange(&self, kind: Kind, object: Uuid) -> u16 {
        match kind {
            Kind::Entra => exchange(&self.trusting, object, &[]).await.status,
            Kind::TeamsExtension => exchange_teams_extension(&self.trusting, object).await.status,
        }
    }

    /// The whole list, page by page along `nextLink`, and the number of pages.
    async fn list(&self, query: &str) -> (Vec<Value>, usize) {
        let (mut listed, mut pages) = (vec![], 0);
        let mut target = format!("/access/entra/assignments?{VERSION}{query}");
        loop {
            let page = self.service.send("GET", &target, "").await;
            assert_eq!(page.status, 200, "{}", page.text);
            listed.extend(page.json["value"].as_array().unwrap().iter().cloned());
            pages += 1;
            let Some(link) = page.json["nextLink"].as_str() else { return (listed, pages) };
            target = link.strip_prefix("https://localhost:8443").unwrap().to_owned();
        }
    }

    fn fault_writes(&self, fault: Fault) {
        self.embedded.dynamodb.plan(move |operation| (operation == WRITE).then_some(fault));
    }

    fn no_faults(&self) {
        self.embedded.dynamodb.plan(|_| None);
    }
}

fn user() -> Value {
    json!({ "principalType": "user", "tenantId": TENANT, "clientIds": [APP] })
}

fn object(n: u128) -> Uuid {
    Uuid::from_u128(0xcccc_0000_0000_4000_8000_0000_0000_0000 + n)
}

fn assert_unavailable(reply: &Reply) {
    assert_eq!((reply.status, reply.headers["retry-after"].as_bytes()), (503, &b"1"[..]), "{}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn late_assignment_does_not_undo_removal() {
    let resource = Resource::new(61).await;
    for (n, (kind, was_assigned)) in
        Kind::BOTH.into_iter().flat_map(|kind| [(kind, false), (kind, true)]).enumerate()
    {
        let object = object(n as u128);
        if was_assigned {
            assert_eq!(resource.put(kind, object).await.status, 201);
        }
        resource.fault_writes(Fault::Late);
        assert_unavailable(&resource.put(kind, object).await);
        resource.no_faults();
        assert_eq!(resource.remove(kind, object).await.status, 204);
        resource.embedded.dynamodb.deliver_late().await;
        assert_eq!(resource.get(kind, object).await.status, 404, "{kind:?}");
        assert_eq!(resource.exchange(kind, object).await, 401, "{kind:?}");
        assert_eq!(resource.put(kind, object).await.status, 201, "{kind:?}: it can be assigned again");
        assert_eq!(resource.exchange(kind, object).await, 200, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn late_bulk_change_does_not_undo_bulk_removal() {
    let resource = Resource::new(62).await;
    let (one, two) = (object(1), object(2));
    resource.fault_writes(Fault::Late);
    assert_unavailable(&resource.patch(&json!({ one.to_string(): user(), two.to_string(): user() })).await);
    resource.no_faults();
    assert_eq!(resource.patch(&json!({ one.to_string(): null })).await.status, 200);
    resource.embedded.dynamodb.deliver_late().await;
    for object in [one, two] {
        assert_eq!(resource.get(Kind::Entra, object).await.status, 404, "all or none");
    }
}

#[tokio::test(start_paused = true)]
async fn late_removal_does_not_undo_newer_assignment() {
    let resource = Resource::new(63).await;
    for (n, kind) in Kind::BOTH.into_iter().enumerate() {
        let object = object(n as u128);
        assert_eq!(resource.put(kind, object).await.status, 201);
        resource.fault_writes(Fault::Late);
        assert_unavailable(&resource.remove(kind, object).await);
        resource.no_faults();
        // The same assignment as before: an answer without a write would leave the late removal its version.
        assert_eq!(resource.put(kind, object).await.status, 200);
        resource.embedded.dynamodb.deliver_late().await;
        assert_eq!(resource.get(kind, object).await.status, 200, "{kind:?}");
        assert_eq!(resource.exchange(kind, object).await, 200, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn change_with_lost_answer_succeeds() {
    let resource = Resource::new(64).await;
    for fault in [Fault::BreakAfter, Fault::SilentAfter] {
        for kind in Kind::BOTH {
            let object = object(fault as u128);
            resource.embedded.dynamodb.plan_next([]);
            resource.get(kind, object).await;
            let mut writes = 0;
            resource.embedded.dynamodb.plan(move |operation| {
                writes += usize::from(operation == WRITE);
                (operation == WRITE && writes % 2 == 1).then_some(fault)
            });
            assert_eq!(resource.put(kind, object).await.status, 201, "{kind:?} {fault:?}");
            assert_eq!(resource.put(kind, object).await.status, 200, "{kind:?} {fault:?}");
            assert_eq!(resource.remove(kind, object).await.status, 204, "{kind:?} {fault:?}");
            assert_eq!(resource.get(kind, object).await.status, 404, "{kind:?} {fault:?}");
        }
        resource.no_faults();
    }
}

#[tokio::test(start_paused = true)]
async fn assignments_fail_closed_while_tables_are_unreadable() {
    let resource = Resource::new(65).await;
    let object = object(1);
    assert_eq!(resource.put(Kind::Entra, object).await.status, 201);
    for operation in ["BatchGetItem", "Query"] {
        resource.embedded.dynamodb.plan(move |called| (called == operation).then_some(Fault::Throttle));
        let list = resource.service.send("GET", &format!("/access/entra/assignments?{VERSION}"), "").await;
        assert_unavailable(&list);
        if operation == "BatchGetItem" {
            for reply in [
                resource.get(Kind::Entra, object).await,
                resource.remove(Kind::Entra, object).await,
                exchange(&resource.trusting, object, &[]).await,
            ] {
                assert_unavailable(&reply);
            }
        }
    }
    // Keys of several tables and calls that stay unprocessed are requested again.
    let groups: Vec<_> = (0..200).map(|n| Uuid::from_u128(n + 1)).collect();
    resource.embedded.dynamodb.plan_next([Fault::Unprocessed; 3]);
    assert_eq!(exchange(&resource.trusting, object, &groups).await.status, 200);
    resource.embedded.dynamodb.plan(|_| Some(Fault::Unprocessed));
    assert_unavailable(&exchange(&resource.trusting, object, &groups).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_removals_at_once_leave_no_assignment() {
    for seed in 0..10 {
        let resource = Arc::new(Resource::new(seed).await);
        let object = object(1);
        resource.put(Kind::Entra, object).await;
        let random = SeededRandom::new(seed);
        resource.embedded.dynamodb.plan(move |operation| {
            let mut byte = [0];
            random.fill(&mut byte);
            let faults = [None, Some(Fault::BreakAfter), Some(Fault::BreakBefore), None];
            if operation == WRITE { faults[usize::from(byte[0] % 4)] } else { None }
        });
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let resource = Arc::clone(&resource);
                tokio::spawn(async move { resource.remove(Kind::Entra, object).await.status })
            })
            .collect();
        let mut removed = 0;
        for task in tasks {
            match task.await.unwrap() {
                204 => removed += 1,
                status => assert_eq!(status, 503, "seed {seed}"),
            }
        }
        resource.no_faults();
        assert!(removed > 0, "seed {seed}");
        assert_eq!(resource.get(Kind::Entra, object).await.status, 404, "seed {seed}");
        assert_eq!(resource.put(Kind::Entra, object).await.status, 201, "seed {seed}");
        assert_eq!(resource.exchange(Kind::Entra, object).await, 200, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn user_group_or_tenant_admits_a_token() {
    let resource = Resource::new(66).await;
    let groups: Vec<_> = (0..200).map(|n| Uuid::from_u128(n + 1)).collect();
    let user = object(1);
    let status = async |groups: &[Uuid]| exchange(&resource.trusting, user, groups).await.status;
    assert_eq!(status(&groups).await, 401);
    for (object, principal) in
        [(groups[0], "group"), (groups[199], "group"), (TENANT, "tenant"), (user, "user")]
    {
        let target = Kind::Entra.target(object);
        let body = json!({ "principalType": principal, "tenantId": TENANT, "clientIds": [APP] }).to_string();
        assert_eq!(resource.service.send("PUT", &target, &body).await.status, 201);
        assert_eq!(status(&groups).await, 200, "{principal}");
        assert_eq!(status(&[]).await, if principal == "group" { 401 } else { 200 }, "{principal}");
        assert_eq!(resource.service.send("DELETE", &target, "").await.status, 204);
        assert_eq!(status(&groups).await, 401, "{principal}");
    }
}

#[tokio::test(start_paused = true)]
async fn list_pages_hold_every_assignment_once() {
    let resource = Resource::new(67).await;
    let random = SeededRandom::new(67);
    let mut expected = BTreeSet::new();
    while expected.len() < 1_050 {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        expected.insert(Uuid::from_bytes(bytes));
    }
    for some in expected.iter().collect::<Vec<_>>().chunks(100) {
        let body: serde_json::Map<_, _> = some.iter().map(|object| (object.to_string(), user())).collect();
        assert_eq!(resource.patch(&body.into()).await.status, 200);
    }
    let objects = |listed: Vec<Value>| -> Vec<Uuid> {
        listed.iter().map(|entry| entry["objectId"].as_str().unwrap().parse().unwrap()).collect()
    };
    let in_order: Vec<_> = expected.iter().copied().collect();
    for (query, expected_pages) in [("", 2), ("&maxpagesize=400", 3), ("&maxpagesize=525", 2)] {
        let (listed, pages) = resource.list(query).await;
        assert_eq!((objects(listed), pages), (in_order.clone(), expected_pages), "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn list_parameters_are_validated() {
    let resource = Resource::new(68).await;
    let refused = [
        ("continuationToken=", "continuationToken"),
        ("continuationToken=x", "continuationToken"),
        ("continuationToken=AAAAAAAAAAAAAAAAAAAAAA%3D", "continuationToken"),
        ("continuationToken=AAAAAAAAAAAAAAAAAAAAAAA", "continuationToken"),
        ("continuationToken=AAAAAAAAAAAAAAAAAAAAAB", "continuationToken"),
        (
            "continuationToken=AAAAAAAAAAAAAAAAAAAAAA&continuationToken=AAAAAAAAAAAAAAAAAAAAAA",
            "continuationToken",
        ),
        ("maxpagesize=0", "maxPageSize"),
        ("maxpagesize=1001", "maxPageSize"),
        ("maxpagesize=-1", "maxPageSize"),
        ("maxpagesize=10.0", "maxPageSize"),
        ("maxpagesize=", "maxPageSize"),
        ("maxpagesize=99999999999999999999", "maxPageSize"),
        ("maxpagesize=1&MaxPageSize=1", "maxPageSize"),
    ];
    for (query, parameter) in refused {
        let target = format!("/access/entra/assignments?{VERSION}&{query}");
        let reply = resource.service.send("GET", &target, "").await;
        assert_eq!((reply.status, reply.json["error"]["target"].as_str()), (400, Some(parameter)), "{query}");
    }
    let last = resource.list("&continuationToken=_____________________w").await;
    assert_eq!(last, (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn removed_record_expires_and_assigned_record_does_not() {
    let resource = Resource::new(69).await;
    let (removed, assigned) = (object(1), object(2));
    resource.remove(Kind::Entra, removed).await;
    resource.remove(Kind::Entra, assigned).await;
    resource.put(Kind::Entra, assigned).await;
    let expires_at = async |object: Uuid| {
        let key = json!({ "pk": { "S": "entra#c" }, "sk": { "S": object.to_string() } });
        let body = json!({ "TableName": "communication-identity-assignments", "Key": key });
        resource.embedded.dynamodb.dynamodb("GetItem", &body).await["Item"]["expires_at"]["N"].clone()
    };
    let in_two_days = NOON.unix_timestamp() + 48 * 3_600;
    assert_eq!(expires_at(removed).await, json!(in_two_days.to_string()));
    assert_eq!(expires_at(assigned).await, Value::Null);
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Assign(u128),
    Remove(u128),
    /// Several keys in one request: assigned or removed.
    Bulk(Vec<(u128, bool)>),
    DeliverLate,
    /// The calls of the next request meet these faults.
    Faults(Vec<Fault>),
}

/// The states of four keys: assigned, removed, or unclear after a 503.
type States = [Option<bool>; 4];

async fn run(service: &TestService, backend: &Backend, steps: &[Step]) {
    let mut states: States = [Some(false); 4];
    for step in steps {
        let (request, body, keys) = match step {
            Step::DeliverLate => {
                backend.plan(&[]);
                backend.deliver_late().await;
                assert_states(service, &states, step).await;
                continue;
            }
            Step::Faults(faults) => {
                backend.plan(faults);
                continue;
            }
            Step::Assign(key) => ("PUT", user().to_string(), vec![(*key, true)]),
            Step::Remove(key) => ("DELETE", String::new(), vec![(*key, false)]),
            Step::Bulk(keys) => {
                let value = |assigned| if assigned { user() } else { Value::Null };
                let members = keys.iter().map(|(key, assigned)| (object(*key).to_string(), value(*assigned)));
                let body: serde_json::Map<_, _> = members.collect();
                ("PATCH", Value::from(body).to_string(), keys.clone())
            }
        };
        let target = match keys.as_slice() {
            [(key, _)] if request != "PATCH" => Kind::Entra.target(object(*key)),
            _ => format!("/access/entra/assignments?{VERSION}"),
        };
        let reply = service.send(request, &target, &body).await;
        backend.plan(&[]);
        assert!(matches!(reply.status, 200 | 201 | 204 | 503), "{}", reply.text);
        for (key, assigned) in keys {
            let was = states[key as usize].take();
            if reply.status != 503 {
                states[key as usize] = Some(assigned);
                let is_new = was.map(|was| !was && request == "PUT");
                assert!(is_new.is_none_or(|new| (reply.status == 201) == new), "{}", reply.text);
            }
        }
        assert_states(service, &states, step).await;
    }
}

async fn assert_states(service: &TestService, states: &States, after: &Step) {
    for (key, state) in states.iter().enumerate() {
        let reply = service.send("GET", &Kind::Entra.target(object(key as u128)), "").await;
        let found = match reply.status {
            200 => true,
            404 => false,
            _ => panic!("{}", reply.text),
        };
        assert!(state.is_none_or(|state| state == found), "key {key} is {found} after {after:?}: {states:?}");
    }
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0_u128..4;
    let fault = prop::sample::select(Fault::ALL.to_vec());
    let bulk = prop::collection::btree_map(key.clone(), any::<bool>(), 1..4);
    prop_oneof![
        4 => key.clone().prop_map(Step::Assign),
        4 => key.prop_map(Step::Remove),
        2 => bulk.prop_map(|keys| Step::Bulk(keys.into_iter().collect())),
        4 => prop::collection::vec(fault, 1..6).prop_map(Step::Faults),
        3 => Just(Step::DeliverLate),
    ]
}

fn check(cases: u32, embedded: bool) {
    let seen = Mutex::new(BTreeSet::new());
    random_histories::run(cases, 30, step(), async |seed, steps: &[Step]| {
        let (ports, backend) = Backend::open(embedded, seed).await;
        let service = TestService::new(ports, Algorithm::Es256, seed).await;
        run(&service, &backend, steps).await;
        let lines = service.audit.lines();
        let status = |line: &String| serde_json::from_str::<Value>(line).unwrap()["status"].as_u64();
        seen.lock().unwrap().extend(lines.iter().filter_map(status));
    });
    assert!(seen.lock().unwrap().is_superset(&BTreeSet::from([200, 201, 204, 404, 503])), "{seen:?}");
}

#[test]
fn every_history_of_changes_keeps_the_promise_in_memory() {
    check(400, false);
}

#[test]
fn every_history_of_changes_keeps_the_promise_over_the_tables() {
    check(40, true);
}
