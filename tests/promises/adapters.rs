//! The DynamoDB and Secrets Manager adapters keep the contracts of their ports.

use e2e::bench::Ports;
use e2e::faults::Fault;
use identity::keys::VersionId;
use identity::secret::Secret;
use identity::store::contract;
use identity::vault::{SecretName, VaultError};

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
async fn a_secret_is_read_by_version_and_held_by_its_own_label() {
    let (ports, _) = Ports::embedded(3).await;
    let vault = ports.vault_writer.as_ref();
    let version = |n: u32| VersionId::new(format!("00000000-0000-4000-8000-{n:012}"));
    let value = |n: u32| Secret::from(format!("value {n}"));
    assert_eq!(vault.current(SecretName::AccessKeys).await.unwrap(), None);
    for n in 1..=4 {
        vault
            .put_current(SecretName::AccessKeys, &version(n), &value(n))
            .await
            .unwrap();
        if n == 1 {
            vault.hold(SecretName::AccessKeys, &version(1)).await.unwrap();
        }
    }
    assert_eq!(
        vault.current(SecretName::AccessKeys).await.unwrap(),
        Some(version(4))
    );
    for (n, readable) in [(1, true), (2, false), (3, true), (4, true)] {
        let read = vault.read(SecretName::AccessKeys, &version(n)).await;
        match read {
            Ok(secret) => assert_eq!((secret.expose(), readable), (value(n).expose(), true)),
            Err(VaultError::NoSuchVersion) => assert!(!readable, "version {n} is gone"),
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..2 {
        vault.hold(SecretName::AccessKeys, &version(4)).await.unwrap();
    }
    assert!(matches!(
        vault.read(SecretName::AccessKeys, &version(1)).await,
        Err(VaultError::NoSuchVersion)
    ));
    assert!(matches!(
        vault.read(SecretName::SigningKeys, &version(4)).await,
        Err(VaultError::NoSuchVersion)
    ));
}
