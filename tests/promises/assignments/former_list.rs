//! A table of the former shape: one item holds all assignments of a kind. It is honoured and moved item by item, also
//! while requests, crashes and a former release interfere.

use acs_identity::embedded;
use e2e::entra_issuer::exchange;
use e2e::faults::{Fault, FaultyClient};
use e2e::test_service::{Ports, TestService};

use super::*;

const STATE: &str = "communication-identity";
const ASSIGNMENTS: &str = "communication-identity-assignments";

/// A former release: it reads a list and replaces it on the condition that its version is still the same.
struct FormerRelease<'a>(&'a FaultyClient);

/// A list as a former release reads it.
struct FormerList {
    version: u64,
    entries: Vec<Value>,
}

impl FormerRelease<'_> {
    /// The list, or `None` if a former release answers 503.
    async fn read(&self, kind: Kind) -> Option<FormerList> {
        let body = json!({ "TableName": STATE, "Key": list_key(kind), "ConsistentRead": true });
        let answer = self.0.dynamodb("GetItem", &body).await;
        let Some(item) = answer.get("Item") else { return Some(FormerList { version: 0, entries: vec![] }) };
        let entries = serde_json::from_str(item["entries"]["S"].as_str()?).unwrap();
        Some(FormerList { version: item["version"]["N"].as_str()?.parse().unwrap(), entries })
    }

    /// Whether the list still had the version that was read.
    async fn write(&self, kind: Kind, list: &FormerList) -> bool {
        let mut item = list_key(kind);
        item["version"] = json!({ "N": (list.version + 1).to_string() });
        item["entries"] = json!({ "S": Value::from(list.entries.clone()).to_string() });
        let mut body = json!({ "TableName": STATE, "Item": item });
        if list.version == 0 {
            body["ConditionExpression"] = "attribute_not_exists(pk)".into();
        } else {
            body["ConditionExpression"] = "version = :read".into();
            body["ExpressionAttributeValues"] = json!({ ":read": { "N": list.version.to_string() } });
        }
        let answer = self.0.dynamodb("PutItem", &body).await;
        if let Some(error) = answer.get("__type") {
            assert!(error.as_str().unwrap().ends_with("ConditionalCheckFailedException"), "{answer}");
        }
        answer.get("__type").is_none()
    }
}

fn list_key(kind: Kind) -> Value {
    let name = if kind == Kind::Entra { "assignments#entra" } else { "assignments#teams-extension" };
    json!({ "pk": { "S": name } })
}

fn entry(object: Uuid, tenant: Uuid) -> Value {
    json!({ "objectId": object, "tenantId": tenant, "principalType": "user", "clientIds": [APP] })
}

/// A resource whose former lists hold these entries.
async fn resource_with(seed: u64, entries: &[Value]) -> Resource {
    let resource = Resource::new(seed).await;
    for kind in Kind::BOTH {
        let list = FormerList { version: 0, entries: entries.to_vec() };
        assert!(FormerRelease(&resource.embedded.dynamodb).write(kind, &list).await);
    }
    resource
}

/// The same resource in a process of its own.
async fn another_process(resource: &Resource) -> Service {
    let embedded = &resource.embedded;
    let adapters = embedded::adapters(embedded.dynamodb.clone(), embedded.secrets.clone()).await.unwrap();
    Service { store: adapters.table, ..trusting(&resource.service) }
}

async fn records(resource: &Resource) -> u64 {
    let body = json!({ "TableName": ASSIGNMENTS, "Select": "COUNT" });
    resource.embedded.dynamodb.dynamodb("Scan", &body).await["Count"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn former_list_is_honoured_and_moved() {
    let other_tenant = Uuid::from_u128(7);
    let mut entries: Vec<_> = (0..250).map(|n| entry(object(n), TENANT)).collect();
    // Both were possible: several tenants for one object id, and more applications than are allowed now.
    entries.insert(0, entry(object(3), other_tenant));
    entries[9]["clientIds"] =
        (0..200).map(|n| Uuid::from_u128(n).to_string()).chain([APP.to_string()]).collect();
    let resource = resource_with(81, &entries).await;
    let user = object(3);
    assert_eq!(resource.exchange(Kind::Entra, user).await, 200, "the first request moves the list");
    assert_eq!(resource.exchange(Kind::TeamsExtension, user).await, 200);
    assert_eq!(records(&resource).await, 250 + 251);
    assert!(FormerRelease(&resource.embedded.dynamodb).read(Kind::Entra).await.is_none());
    for n in 0..250 {
        for kind in Kind::BOTH {
            assert_eq!(resource.exchange(kind, object(n)).await, 200, "{kind:?} {n}");
        }
    }
    let (mut listed, _) = resource.list("").await;
    let by_id = |entry: &Value| (entry["objectId"].to_string(), entry["tenantId"].to_string());
    listed.sort_by_key(by_id);
    entries.sort_by_key(by_id);
    assert_eq!(listed, entries);
    for kind in Kind::BOTH {
        assert_eq!(resource.put(kind, object(4)).await.status, 200);
        assert_eq!(resource.remove(kind, user).await.status, 204);
        assert_eq!(resource.exchange(kind, user).await, 401);
    }
}

#[tokio::test(start_paused = true)]
async fn crash_at_any_call_of_a_move_loses_no_assignment() {
    for calls in 0..9 {
        for fault in [Fault::BreakBefore, Fault::SilentAfter, Fault::Late] {
            let entries: Vec<_> = (0..102).map(|n| entry(object(n), TENANT)).collect();
            let resource = resource_with(82, &entries).await;
            let mut made = 0;
            resource.embedded.dynamodb.plan(move |_| {
                made += 1;
                (made > calls).then_some(fault)
            });
            let status = resource.exchange(Kind::Entra, object(101)).await;
            assert!(matches!(status, 200 | 503), "{status}");
            resource.no_faults();
            // A process that has not seen any of it.
            let service = another_process(&resource).await;
            assert_eq!(exchange(&service, object(0), &[]).await.status, 200, "{calls} {fault:?}");
            assert_eq!(resource.remove(Kind::Entra, object(0)).await.status, 204);
            assert_eq!(resource.put(Kind::Entra, object(1)).await.status, 200);
            resource.embedded.dynamodb.deliver_late().await;
            for (n, status) in [(0, 401), (1, 200), (2, 200), (101, 200)] {
                assert_eq!(exchange(&service, object(n), &[]).await.status, status, "{calls} {fault:?} {n}");
            }
            assert_eq!(resource.list("").await.0.len(), 101);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_moves_and_changes_lose_no_assignment() {
    for seed in 0..8 {
        let entries: Vec<_> = (0..120).map(|n| entry(object(n), TENANT)).collect();
        let resource = Arc::new(resource_with(seed, &entries).await);
        let mut tasks = vec![];
        for n in 0..6 {
            let resource = Arc::clone(&resource);
            tasks.push(tokio::spawn(async move {
                let service = another_process(&resource).await;
                let user = object(100 + n);
                assert_eq!(
                    exchange(&service, user, &[]).await.status,
                    200,
                    "seed {seed}: in the list all the time"
                );
                if n % 2 == 0 {
                    while resource.remove(Kind::Entra, object(n)).await.status != 204 {}
                    assert_eq!(exchange(&service, object(n), &[]).await.status, 401, "seed {seed}");
                } else {
                    while resource.put(Kind::Entra, object(1_000 + n)).await.status == 503 {}
                    assert_eq!(exchange(&service, object(1_000 + n), &[]).await.status, 200, "seed {seed}");
                }
            }));
        }
        // A former release that removes one and assigns one, and repeats a change that met another version.
        let former = Arc::clone(&resource);
        tasks.push(tokio::spawn(async move {
            let release = FormerRelease(&former.embedded.dynamodb);
            let removed = object(50).to_string();
            loop {
                let Some(mut list) = release.read(Kind::Entra).await else { break };
                list.entries.retain(|entry| entry["objectId"] != *removed);
                list.entries.push(entry(object(2_000), TENANT));
                tokio::task::yield_now().await;
                if release.write(Kind::Entra, &list).await {
                    let service = another_process(&former).await;
                    assert_eq!(exchange(&service, object(50), &[]).await.status, 401, "seed {seed}");
                    assert_eq!(exchange(&service, object(2_000), &[]).await.status, 200, "seed {seed}");
                    break;
                }
            }
        }));
        for task in tasks {
            task.await.unwrap();
        }
        for (n, status) in [(0, 401), (2, 401), (4, 401), (1, 200), (51, 200), (1_001, 200)] {
            assert_eq!(resource.exchange(Kind::Entra, object(n)).await, status, "seed {seed}: {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn move_during_a_batch_read_hides_no_assignment() {
    let resource = resource_with(87, &[entry(object(1), TENANT)]).await;
    let service = another_process(&resource).await;
    // The batch reads the assignments before the move, and the list after it.
    resource.embedded.dynamodb.plan_next([Fault::StateUnprocessed]);
    let (reading, moving) = tokio::join!(exchange(&service, object(1), &[]), async {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        resource.get(Kind::Entra, object(1)).await
    });
    assert_eq!((reading.status, moving.status), (200, 200));
    assert_eq!(records(&resource).await, 1, "the move has ended");
}

#[tokio::test(start_paused = true)]
async fn former_release_changes_nothing_after_the_move_began() {
    let resource = resource_with(83, &[entry(object(1), TENANT)]).await;
    let release = FormerRelease(&resource.embedded.dynamodb);
    let read = release.read(Kind::Entra).await.unwrap();
    assert_eq!(resource.remove(Kind::Entra, object(1)).await.status, 204);
    assert!(!release.write(Kind::Entra, &read).await, "its version is gone");
    assert!(release.read(Kind::Entra).await.is_none(), "it answers 503");
    assert_eq!(resource.exchange(Kind::Entra, object(1)).await, 401);
    // A table without a list: the first request of this release closes it all the same.
    let resource = Resource::new(84).await;
    let release = FormerRelease(&resource.embedded.dynamodb);
    let read = release.read(Kind::Entra).await.unwrap();
    assert_eq!(resource.exchange(Kind::Entra, object(1)).await, 401);
    let list = FormerList { entries: vec![entry(object(1), TENANT)], ..read };
    assert!(!release.write(Kind::Entra, &list).await);
    assert_eq!(resource.exchange(Kind::Entra, object(1)).await, 401);
}

#[tokio::test(start_paused = true)]
async fn table_with_former_list_keeps_the_store_contract() {
    let (ports, embedded) = Ports::embedded(85).await;
    for kind in Kind::BOTH {
        let list = FormerList { version: 3, entries: vec![] };
        let mut item = list_key(kind);
        item["version"] = json!({ "N": list.version.to_string() });
        item["entries"] = json!({ "S": "[]" });
        embedded.dynamodb.dynamodb("PutItem", &json!({ "TableName": STATE, "Item": item })).await;
    }
    identity::store::contract::holds(
        ports.store.as_ref(),
        ports.pointers.as_ref(),
        ports.resource_servers.as_ref(),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn exchange_costs_the_list_until_it_is_moved() {
    let entries: Vec<_> = (0..250).map(|n| entry(object(n), TENANT)).collect();
    let resource = resource_with(86, &entries).await;
    assert_eq!(resource.exchange(Kind::Entra, object(1)).await, 200);
    let service: &TestService = &resource.service;
    service.ports.store.read(identity::store::ReadRequest::POINTER).await.unwrap();
    let before = resource.embedded.dynamodb.calls();
    // The first one after the move learns that the list is moved.
    for _ in 0..2 {
        assert_eq!(resource.exchange(Kind::Entra, object(1)).await, 200);
    }
    resource.embedded.dynamodb.measure();
    assert_eq!(resource.exchange(Kind::Entra, object(1)).await, 200);
    assert_eq!(resource.embedded.dynamodb.units().read, 4.0, "pointer, identity, user, tenant");
    assert_eq!(resource.embedded.dynamodb.calls() - before, 3);
}
