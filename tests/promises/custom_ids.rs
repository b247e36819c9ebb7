//! Custom ids: one custom id names one identity, a deletion frees it for good, and the time of the last token only moves
//! on.

use std::collections::BTreeSet;
use std::sync::Arc;

use e2e::faults::{Fault, Units};
use e2e::test_service::{Embedded, Ports, Reply, TestService};
use identity::keys::Algorithm;
use identity::lifetime;
use identity::memory;
use identity::runtime::Clock as _;
use identity::runtime::Random as _;
use identity::store::ReadRequest;
use identity::store::custom_ids::{CustomId, CustomIdState};
use identity::testing::{SeededRandom, settings};
use identity::token::verify::VerifyError;
use proptest::prelude::*;
use serde_json::json;

use crate::random_histories::{self, Backend};

const CREATE: &str = "/identities?api-version=2025-03-02-preview";
const WRITE: &str = "TransactWriteItems";
const ALICE: &str = "alice@contoso.com";

async fn resource(seed: u64) -> (TestService, Embedded) {
    let (ports, embedded) = Ports::embedded(seed).await;
    (TestService::new(ports, Algorithm::Es256, seed).await, embedded)
}

async fn create(service: &TestService, custom_id: &str, with_token: bool) -> Reply {
    let scopes = if with_token { json!(["chat"]) } else { json!(null) };
    let body = json!({ "customId": custom_id, "createTokenWithScopes": scopes }).to_string();
    service.send("POST", CREATE, &body).await
}

async fn get(service: &TestService, id: &str) -> Reply {
    service.send("GET", &format!("/identities/{id}?api-version=2025-03-02-preview"), "").await
}

async fn state(service: &TestService, custom_id: &str) -> CustomIdState {
    let key = custom_id.parse::<CustomId>().unwrap().key(settings().resource.id);
    service.ports.store.read(ReadRequest::custom_id(key)).await.unwrap().custom_id
}

async fn is_active(service: &TestService, token: &str) -> bool {
    match service.verify(token).await {
        Ok(_) => true,
        Err(VerifyError::Refused(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

fn assert_unavailable(reply: &Reply) {
    assert_eq!((reply.status, reply.headers["retry-after"].as_bytes()), (503, &b"1"[..]), "{}", reply.text);
}

#[tokio::test(start_paused = true)]
async fn same_custom_id_gives_same_identity() {
    let (service, _) = resource(81).await;
    let first = create(&service, ALICE, false).await;
    let id = first.id().unwrap();
    assert_eq!(
        (first.status, &first.text),
        (201, &format!(r#"{{"identity":{{"customId":"{ALICE}","id":"{id}"}}}}"#))
    );
    assert_eq!(create(&service, ALICE, false).await.text, first.text);
    assert_eq!(get(&service, &id).await.text, format!(r#"{{"customId":"{ALICE}","id":"{id}"}}"#));
    service.clock.advance(1_500);
    let with_token = create(&service, ALICE, true).await;
    assert_eq!((with_token.status, with_token.id()), (201, Some(id.clone())));
    let identity =
        |at| format!(r#"{{"customId":"{ALICE}","lastTokenIssuedAt":"2024-03-01T{at}+00:00","id":"{id}"}}"#);
    let begin = format!(r#"{{"identity":{},"accessToken":{{"token":""#, identity("12:00:01"));
    assert!(with_token.text.starts_with(&begin), "{}", with_token.text);
    assert_eq!(get(&service, &id).await.text, identity("12:00:01"));
    service.clock.advance(60_000);
    let again = create(&service, ALICE, true).await;
    assert_ne!(again.token(), with_token.token());
    for token in [&again, &with_token].map(|reply| reply.token().unwrap()) {
        assert!(is_active(&service, &token).await);
    }
    assert_eq!(get(&service, &id).await.text, identity("12:01:01"));
    // A token of any version counts. A clock that is behind does not move the time back.
    service.clock.advance(60_000);
    service.issue(&service.primary, &id).await.token().unwrap();
    assert_eq!(get(&service, &id).await.text, identity("12:02:01"));
    service.clock.advance(-90_000);
    service.issue(&service.primary, &id).await.token().unwrap();
    let behind = create(&service, ALICE, true).await;
    assert!(behind.text.contains(&identity("12:02:01")), "{}", behind.text);
    assert_eq!(get(&service, &id).await.text, identity("12:02:01"));
}

#[tokio::test(start_paused = true)]
async fn identities_of_other_versions_have_no_profile() {
    let (service, embedded) = resource(82).await;
    for version in ["2021-03-07", "2023-10-01", "2025-06-30"] {
        let target = format!("/identities?api-version={version}");
        let body = json!({ "customId": ALICE, "createTokenWithScopes": ["chat"] }).to_string();
        service.send("POST", &target, &body).await;
        embedded.dynamodb.measure();
        let calls = embedded.dynamodb.calls();
        let [one, two] =
            [service.send("POST", &target, &body).await, service.send("POST", &target, &body).await];
        assert_eq!(embedded.dynamodb.units(), Units { read: 2.0, write: 2.0 }, "{version}");
        assert_eq!(embedded.dynamodb.calls() - calls, 4, "{version}");
        let id = one.id().unwrap();
        assert_ne!(two.id(), Some(id.clone()), "{version}");
        assert!(one.text.starts_with(r#"{"identity":{"id":""#), "{}", one.text);
        let calls = embedded.dynamodb.calls();
        service.issue(&service.primary, &id).await.token().unwrap();
        assert_eq!(embedded.dynamodb.calls() - calls, 1, "{version}");
        assert_eq!(get(&service, &id).await.text, format!(r#"{{"id":"{id}"}}"#), "{version}");
    }
    let unnamed = service.send("POST", CREATE, r#"{"createTokenWithScopes":["chat"]}"#).await;
    assert!(
        unnamed.text.starts_with(r#"{"identity":{"lastTokenIssuedAt":"2024-03-01T12:00:00+00:00","id":""#)
    );
    let other = service.send("POST", CREATE, "").await;
    assert_ne!(other.id(), unnamed.id());
    assert_eq!(get(&service, &other.id().unwrap()).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn get_answers_unknown_identities_as_issue_does() {
    let (service, _) = resource(83).await;
    let id = create(&service, ALICE, true).await.id().unwrap();
    assert_eq!(service.delete(&id).await.status, 204);
    let unknown = format!("{}000000000000", &id[..id.len() - 12]);
    let foreign = id.replace(&id[6..42], "00000000-0000-0000-0000-000000000000");
    let teams_user = format!("8:orgid:{}", &id[43..]);
    for (id, status) in [(&*id, 404), (&*unknown, 404), (&*teams_user, 404), (&*foreign, 401), ("x", 400)] {
        let (found, issued) = (get(&service, id).await, service.issue(&service.primary, id).await);
        assert_eq!((found.status, &found.text), (status, &issued.text), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_creations_at_once_make_one_identity() {
    for seed in 0..8 {
        let (service, embedded) = resource(seed).await;
        let service = Arc::new(service);
        let random = SeededRandom::new(seed);
        embedded.dynamodb.plan(move |operation| {
            let mut byte = [0];
            random.fill(&mut byte);
            let faults =
                [None, Some(Fault::BreakAfter), Some(Fault::BreakBefore), Some(Fault::Conflict), None, None];
            if operation == WRITE { faults[usize::from(byte[0] % 6)] } else { None }
        });
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let service = Arc::clone(&service);
                tokio::spawn(async move { create(&service, ALICE, n % 2 == 0).await })
            })
            .collect();
        let mut ids = BTreeSet::new();
        for task in tasks {
            let reply = task.await.unwrap();
            if reply.status == 503 {
                continue;
            }
            assert_eq!(reply.status, 201, "{}", reply.text);
            if let Some(token) = reply.token() {
                assert!(is_active(&service, &token).await, "seed {seed}");
            }
            ids.insert(reply.id());
        }
        assert_eq!(ids.len(), 1, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn transaction_that_meets_others_is_sent_again() {
    let (service, embedded) = resource(84).await;
    service.create().await;
    embedded.dynamodb.plan_next([Fault::Unprocessed, Fault::Conflict, Fault::Conflict]);
    let id = create(&service, ALICE, true).await.id().unwrap();
    embedded.dynamodb.plan_next([Fault::Unprocessed, Fault::Unprocessed, Fault::Conflict]);
    assert_eq!(service.delete(&id).await.status, 204);
    embedded.dynamodb.plan(|_| Some(Fault::Conflict));
    assert_unavailable(&create(&service, ALICE, true).await);
    embedded.dynamodb.plan(|_| None);
    assert_ne!(create(&service, ALICE, true).await.id(), Some(id));
}

#[tokio::test(start_paused = true)]
async fn every_cycle_of_deletion_and_creation_makes_a_new_identity() {
    let (service, _) = resource(85).await;
    let (mut ids, mut dead) = (BTreeSet::new(), vec![]);
    for cycle in 0..12 {
        let mut created = vec![create(&service, ALICE, true).await, create(&service, ALICE, true).await];
        let id = created[0].id().unwrap();
        created.push(service.issue(&service.primary, &id).await);
        assert!(ids.insert(id.clone()), "cycle {cycle}: an old identity came back");
        let tokens: Vec<_> = created.iter().map(|reply| reply.token().unwrap()).collect();
        for token in &tokens {
            assert!(is_active(&service, token).await, "cycle {cycle}");
        }
        assert_eq!(service.delete(&id).await.status, 204);
        dead.extend(tokens);
        for token in &dead {
            assert!(!is_active(&service, token).await, "cycle {cycle}");
        }
        assert_eq!(get(&service, &id).await.status, 404);
        service.clock.advance(1_000);
    }
}

#[tokio::test(start_paused = true)]
async fn late_creation_does_not_take_a_free_custom_id() {
    for faults in 1..3 {
        let (service, embedded) = resource(86).await;
        let mut dead = None;
        for round in 0..3 {
            for _ in 0..faults {
                embedded.dynamodb.plan(|operation| (operation == WRITE).then_some(Fault::Late));
                assert_unavailable(&create(&service, ALICE, true).await);
            }
            embedded.dynamodb.plan(|_| None);
            let created = create(&service, ALICE, true).await;
            let id = created.id().unwrap();
            assert_ne!(Some(&id), dead.as_ref(), "round {round}");
            assert_eq!(service.delete(&id).await.status, 204);
            embedded.dynamodb.deliver_late().await;
            assert!(matches!(state(&service, ALICE).await, CustomIdState::Free(_)), "round {round}");
            assert!(!is_active(&service, &created.token().unwrap()).await);
            dead = Some(id);
        }
    }
}

// A release without custom ids may share the tables. It deletes the identity alone.
#[tokio::test(start_paused = true)]
async fn deletion_by_the_former_release_frees_the_custom_id() {
    let (service, _) = resource(89).await;
    let first = create(&service, ALICE, true).await;
    let id = first.id().unwrap().parse().unwrap();
    service.ports.store.delete(&id, None, service.clock.now() + lifetime::TOMBSTONE).await.unwrap();
    let second = create(&service, ALICE, true).await;
    assert_eq!(second.status, 201);
    assert_ne!(second.id(), first.id());
    assert_eq!(create(&service, ALICE, false).await.id(), second.id());
    assert!(!is_active(&service, &first.token().unwrap()).await);
}

#[tokio::test(start_paused = true)]
async fn late_deletion_spares_the_next_identity() {
    let (service, embedded) = resource(87).await;
    let old = create(&service, ALICE, true).await.id().unwrap();
    embedded.dynamodb.plan(|operation| (operation == WRITE).then_some(Fault::Late));
    assert_unavailable(&service.delete(&old).await);
    embedded.dynamodb.plan(|_| None);
    assert_eq!(create(&service, ALICE, false).await.id(), Some(old.clone()), "it may still be there");
    assert_eq!(service.delete(&old).await.status, 204);
    let next = create(&service, ALICE, true).await;
    embedded.dynamodb.deliver_late().await;
    assert_eq!(create(&service, ALICE, false).await.id(), next.id());
    assert!(is_active(&service, &next.token().unwrap()).await);
}

#[tokio::test(start_paused = true)]
async fn writes_with_lost_answers_succeed() {
    let (service, embedded) = resource(88).await;
    service.create().await;
    for fault in [Fault::BreakAfter, Fault::SilentAfter] {
        let mut writes = 0;
        embedded.dynamodb.plan(move |operation| {
            let is_write = operation != "BatchGetItem";
            writes += usize::from(is_write);
            (is_write && writes % 2 == 1).then_some(fault)
        });
        let created = create(&service, ALICE, true).await;
        let id = created.id().unwrap();
        service.clock.advance(1_000);
        let issued = service.issue(&service.primary, &id).await;
        assert_eq!((created.status, issued.status), (201, 200), "{fault:?}");
        assert_eq!(service.delete(&id).await.status, 204, "{fault:?}");
        embedded.dynamodb.plan(|_| None);
        for reply in [created, issued] {
            assert!(!is_active(&service, &reply.token().unwrap()).await, "{fault:?}");
        }
        assert_ne!(create(&service, ALICE, false).await.id(), Some(id), "{fault:?}");
        service.delete(&create(&service, ALICE, false).await.id().unwrap()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn late_time_of_a_token_undoes_nothing() {
    let (service, embedded) = resource(89).await;
    let id = create(&service, ALICE, false).await.id().unwrap();
    let late = |operation: &str| (operation == "UpdateItem").then_some(Fault::Late);
    embedded.dynamodb.plan(late);
    let refused = service.issue(&service.primary, &id).await;
    assert_unavailable(&refused);
    assert_eq!(refused.token(), None, "no token without its time");
    embedded.dynamodb.plan(|_| None);
    service.clock.advance(5_000);
    service.issue(&service.primary, &id).await.token().unwrap();
    let newest = get(&service, &id).await.text;
    embedded.dynamodb.deliver_late().await;
    assert_eq!(get(&service, &id).await.text, newest);
    embedded.dynamodb.plan(late);
    service.clock.advance(5_000);
    assert_unavailable(&service.issue(&service.primary, &id).await);
    embedded.dynamodb.plan(|_| None);
    assert_eq!(service.delete(&id).await.status, 204);
    embedded.dynamodb.deliver_late().await;
    assert_eq!(get(&service, &id).await.status, 404);
    let key = json!({ "pk": { "S": format!("identity#{id}") } });
    let body = json!({ "TableName": "communication-identity", "Key": key });
    let tombstone = embedded.dynamodb.dynamodb("GetItem", &body).await["Item"].clone();
    assert_eq!(tombstone["state"]["S"], "deleted");
    assert!(
        tombstone.get("custom_id").is_none() && tombstone.get("last_token_issued_at").is_none(),
        "{tombstone}"
    );
}

#[tokio::test(start_paused = true)]
async fn custom_id_reaches_no_line_and_no_error() {
    let (service, embedded) = resource(90).await;
    let personal = "canary.person@contoso.com";
    let mut errors = String::new();
    let id = create(&service, personal, true).await.id().unwrap();
    for fault in std::iter::once(None).chain(Fault::ALL.map(Some)).chain([Some(Fault::Conflict)]) {
        embedded.dynamodb.plan(move |_| fault);
        let long = personal.repeat(20);
        let bodies = [
            json!({ "customId": personal, "createTokenWithScopes": ["shout"] }).to_string(),
            json!({ "customId": [personal] }).to_string(),
            json!({ "customId": long }).to_string(),
            json!(personal).to_string(),
            format!(r#"{{"customId":"{personal}","customId":"{personal}"}}"#),
            format!(r#"{{"customId":"{personal}" "{personal}"}}"#),
        ];
        let mut replies = vec![create(&service, personal, true).await, get(&service, &id).await];
        for body in &bodies {
            replies.push(service.send("POST", CREATE, body).await);
        }
        errors.extend(replies.into_iter().filter(|reply| reply.status >= 400).map(|reply| reply.text));
    }
    embedded.dynamodb.plan(|_| None);
    service.delete(&id).await;
    let written = service.audit.lines().join("\n") + &errors;
    assert!(written.len() > 5_000, "too little was written for a search: {written}");
    assert!(!written.contains("canary.person"), "{written}");
}

/// One step of a history. An identity is chosen by an index, modulo the number of known identities.
#[derive(Clone, Debug)]
enum Step {
    Create {
        name: usize,
        with_token: bool,
    },
    Delete(usize),
    DeliverLate,
    /// The calls of the next request meet these faults.
    Faults(Vec<Fault>),
    Issue(usize),
    /// The transaction of the next request arrives late.
    LateWrite,
}

const NAMES: [&str; 2] = ["alice", "bob"];

struct Known {
    id: String,
    name: usize,
    deleted: bool,
    maybe_deleted: bool,
}

#[derive(Default)]
struct History {
    known: Vec<Known>,
    /// Tokens and the indexes of their identities.
    tokens: Vec<(String, usize)>,
    /// Whether the custom id must be free, by name.
    free: [bool; 2],
    /// Whether a creation with an unclear outcome may still arrive, by name.
    has_unclear_creation: [bool; 2],
}

impl History {
    async fn step(&mut self, service: &TestService, backend: &Backend, step: &Step) {
        match step {
            Step::Create { name, with_token } => {
                self.free[*name] = false;
                let reply = create(service, NAMES[*name], *with_token).await;
                self.created(&reply, *name);
            }
            Step::Delete(pick) => self.delete(service, *pick).await,
            Step::DeliverLate => {
                backend.plan(&[]);
                backend.deliver_late().await;
                self.has_unclear_creation = [false; 2];
            }
            Step::Faults(faults) => return backend.plan(faults),
            Step::LateWrite => {
                return match backend {
                    Backend::Embedded(embedded) => {
                        embedded.dynamodb.plan(|operation| (operation == WRITE).then_some(Fault::Late));
                    }
                    Backend::Memory(memory) => memory.plan([None, Some(memory::Fault::Delayed)]),
                };
            }
            Step::Issue(pick) => {
                let Some(index) = pick.checked_rem(self.known.len()) else { return backend.plan(&[]) };
                let reply = service.issue(&service.primary, &self.known[index].id).await;
                assert!(matches!(reply.status, 200 | 404 | 503), "{}", reply.text);
                assert!(reply.status != 200 || !self.known[index].deleted, "a deleted identity got a token");
                self.tokens.extend(reply.token().map(|token| (token, index)));
            }
        }
        backend.plan(&[]);
        service.clock.advance(1_000);
        self.check(service, step).await;
    }

    fn created(&mut self, reply: &Reply, name: usize) {
        if reply.status == 503 {
            self.has_unclear_creation[name] = true;
            return;
        }
        assert_eq!(reply.status, 201, "{}", reply.text);
        self.has_unclear_creation[name] = false;
        let id = reply.id().unwrap();
        for known in self.known.iter().filter(|known| known.name == name && known.id != id) {
            assert!(known.deleted || known.maybe_deleted, "a second identity for {}", NAMES[name]);
        }
        let index = self.known.iter().position(|known| known.id == id).unwrap_or_else(|| {
            self.known.push(Known { id, name, deleted: false, maybe_deleted: false });
            self.known.len() - 1
        });
        let known = &self.known[index];
        assert!(known.name == name && !known.deleted, "{} gave another identity", NAMES[name]);
        self.tokens.extend(reply.token().map(|token| (token, index)));
    }

    async fn delete(&mut self, service: &TestService, pick: usize) {
        let Some(index) = pick.checked_rem(self.known.len()) else { return };
        let known = &mut self.known[index];
        match service.delete(&known.id).await.status {
            204 => {
                let was_alive =
                    !(known.deleted || known.maybe_deleted && self.has_unclear_creation[known.name]);
                let is_newest =
                    !self.known[index + 1..].iter().any(|other| other.name == self.known[index].name);
                let known = &mut self.known[index];
                self.free[known.name] |= was_alive && is_newest;
                known.deleted = true;
            }
            status => {
                assert_eq!(status, 503);
                known.maybe_deleted = true;
            }
        }
    }

    async fn check(&self, service: &TestService, after: &Step) {
        for (name, free) in self.free.iter().enumerate() {
            let state = state(service, NAMES[name]).await;
            let is_free = matches!(state, CustomIdState::Free(_));
            assert!(is_free || !free, "{} is taken after {after:?}", NAMES[name]);
            let dead =
                |known: &&Known| known.deleted && CustomIdState::Names(known.id.parse().unwrap()) == state;
            assert_eq!(
                self.known.iter().filter(dead).count(),
                0,
                "a deleted identity is named after {after:?}"
            );
        }
        for known in &self.known {
            match get(service, &known.id).await.status {
                200 => assert!(!known.deleted, "a deleted identity lives after {after:?}"),
                404 => assert!(known.deleted || known.maybe_deleted, "an identity is gone after {after:?}"),
                status => panic!("{status}"),
            }
        }
        for (token, index) in &self.tokens {
            let known = &self.known[*index];
            let active = is_active(service, token).await;
            assert!(!active || !known.deleted, "S1: a token is accepted after {after:?}");
            assert!(active || known.deleted || known.maybe_deleted, "S2: a token is refused after {after:?}");
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let fault = prop::sample::select(Fault::ALL.to_vec());
    prop_oneof![
        5 => (0..2_usize, any::<bool>()).prop_map(|(name, with_token)| Step::Create { name, with_token }),
        4 => (0..4_usize).prop_map(Step::Delete),
        1 => (0..4_usize).prop_map(Step::Issue),
        2 => prop::collection::vec(fault, 1..6).prop_map(Step::Faults),
        4 => Just(Step::LateWrite),
        3 => Just(Step::DeliverLate),
    ]
}

fn check(cases: u32, embedded: bool) {
    random_histories::run(cases, 30, step(), async |seed, steps: &[Step]| {
        let (ports, backend) = Backend::open(embedded, seed).await;
        let service = TestService::new(ports, Algorithm::Es256, seed).await;
        let mut history = History::default();
        for step in steps {
            history.step(&service, &backend, step).await;
        }
    });
}

#[test]
fn every_history_of_custom_ids_keeps_the_promise_in_memory() {
    check(400, false);
}

#[test]
fn every_history_of_custom_ids_keeps_the_promise_over_the_tables() {
    check(40, true);
}
