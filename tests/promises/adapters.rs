//! The DynamoDB and Secrets Manager adapters keep the contracts of their ports.

use e2e::faults::Fault;
use e2e::test_service::{Ports, TestService};
use identity::keys::Algorithm;
use identity::keys::pointer::Pointer;
use identity::secrets;
use identity::store::{PointerWriteOutcome, contract, feed};

#[tokio::test]
async fn the_table_keeps_the_store_contract() {
    let (ports, _) = Ports::embedded(1).await;
    contract::holds(ports.store.as_ref(), ports.pointers.as_ref(), ports.resource_servers.as_ref()).await;
}

#[tokio::test(start_paused = true)]
async fn the_table_keeps_the_store_contract_when_answers_are_lost() {
    let (ports, embedded) = Ports::embedded(2).await;
    // Each call loses its first answer after its effect; the SDK sends it again.
    let mut lose = false;
    embedded.dynamodb.plan(move |_| {
        lose = !lose;
        lose.then_some(Fault::BreakAfter)
    });
    contract::holds(ports.store.as_ref(), ports.pointers.as_ref(), ports.resource_servers.as_ref()).await;
}

#[tokio::test]
async fn the_table_keeps_the_feed_contract() {
    let (ports, _) = Ports::embedded(7).await;
    feed::contract::holds(ports.feed.as_ref()).await;
}

#[tokio::test(start_paused = true)]
async fn the_table_keeps_the_feed_contract_when_answers_are_lost() {
    let (ports, embedded) = Ports::embedded(8).await;
    let mut lose = false;
    embedded.dynamodb.plan(move |_| {
        lose = !lose;
        lose.then_some(Fault::BreakAfter)
    });
    feed::contract::holds(ports.feed.as_ref()).await;
}

/// One item needs no transaction. The rules are those of the contract.
#[tokio::test]
async fn a_pointer_with_one_copy_changes_without_a_transaction() {
    let (source, _) = Ports::embedded(5).await;
    let service = TestService::new(source, Algorithm::Es256, 5).await;
    let pointer = service.ports.pointers.pointer().await.unwrap().unwrap();
    let of = |generation, copies| Pointer { generation, copies, ..pointer.clone() };
    let (ports, embedded) = Ports::embedded(6).await;
    for (written, expected) in [
        (of(2, 1), PointerWriteOutcome::Conflict),
        (of(1, 1), PointerWriteOutcome::Changed),
        (of(1, 1), PointerWriteOutcome::Conflict),
        (of(3, 1), PointerWriteOutcome::Conflict),
        (of(2, 1), PointerWriteOutcome::Changed),
    ] {
        assert_eq!(ports.pointers.write_pointer(&written).await.unwrap(), expected, "{written:?}");
    }
    assert_eq!(embedded.dynamodb.calls_of("TransactWriteItems"), 0);
    let more = ports.pointers.write_pointer(&of(3, 8)).await.unwrap();
    assert_eq!(more, PointerWriteOutcome::Conflict, "the number of copies never changes");
    assert_eq!(ports.pointers.pointer().await.unwrap(), Some(of(2, 1)));
    embedded.dynamodb.plan(|operation| (operation == "PutItem").then_some(Fault::InternalError));
    assert!(ports.pointers.write_pointer(&of(3, 1)).await.is_err());
}

#[tokio::test]
async fn secrets_manager_keeps_the_secret_store_contract() {
    let (ports, _) = Ports::embedded(3).await;
    secrets::contract::holds(ports.secret_store_writer.as_ref()).await;
}

#[tokio::test(start_paused = true)]
async fn secrets_manager_keeps_the_secret_store_contract_when_answers_are_lost() {
    let (ports, embedded) = Ports::embedded(4).await;
    let mut lose = false;
    embedded.secrets.plan(move |_| {
        lose = !lose;
        lose.then_some(Fault::BreakAfter)
    });
    secrets::contract::holds(ports.secret_store_writer.as_ref()).await;
}
