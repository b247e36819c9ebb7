//! The DynamoDB and Secrets Manager adapters keep the contracts of their ports.

use e2e::faults::Fault;
use e2e::test_service::Ports;
use identity::secrets;
use identity::store::contract;

#[tokio::test]
async fn the_table_keeps_the_store_contract() {
    let (ports, _) = Ports::embedded(1).await;
    contract::holds(ports.store.as_ref(), ports.pointers.as_ref()).await;
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
    contract::holds(ports.store.as_ref(), ports.pointers.as_ref()).await;
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
