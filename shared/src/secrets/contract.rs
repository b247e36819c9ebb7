//! The contract of secret stores, run against each implementation. It takes the strictest behaviour of Secrets Manager:
//! a version without a label is deleted at once.

#![expect(clippy::unwrap_used, reason = "a broken contract fails the test that runs it")]

use super::{MoveOutcome, PutOutcome, SecretName, SecretStoreError, SecretStoreWriter, StagingLabel};
use crate::secrets::{Secret, VersionId};

const SECRET: SecretName = SecretName::SigningKeys;

/// Runs the whole contract against a secret store whose secrets have no versions.
///
/// # Panics
/// When the secret store breaks the contract.
pub async fn holds(secret_store: &dyn SecretStoreWriter) {
    assert_eq!(secret_store.labels(SECRET).await.unwrap().version_with(StagingLabel::Current), None);
    assert!(gone(secret_store, 1).await);
    versions_are_written_once(secret_store).await;
    the_current_label_leaves_a_trace(secret_store).await;
    labels_move_only_from_their_holder(secret_store).await;
    a_version_without_label_is_gone(secret_store).await;
    assert_eq!(
        secret_store.labels(SecretName::AccessKeys).await.unwrap().version_with(StagingLabel::Current),
        None
    );
}

async fn versions_are_written_once(secret_store: &dyn SecretStoreWriter) {
    assert_eq!(store(secret_store, 1, "one", StagingLabel::Current).await, PutOutcome::Stored);
    assert_eq!(store(secret_store, 1, "one", StagingLabel::Current).await, PutOutcome::Stored, "a repeat");
    assert_eq!(store(secret_store, 1, "another", StagingLabel::Current).await, PutOutcome::AlreadyThere);
    assert_eq!(read(secret_store, 1).await, "one");
    assert_eq!(holder(secret_store, StagingLabel::Current).await, Some(version(1)));
}

async fn the_current_label_leaves_a_trace(secret_store: &dyn SecretStoreWriter) {
    assert_eq!(store(secret_store, 2, "two", StagingLabel::Pending).await, PutOutcome::Stored);
    assert_eq!(holder(secret_store, StagingLabel::Pending).await, Some(version(2)));
    assert_eq!(holder(secret_store, StagingLabel::Current).await, Some(version(1)));
    assert_eq!(move_label(secret_store, StagingLabel::Current, Some(1), Some(2)).await, MoveOutcome::Moved);
    assert_eq!(holder(secret_store, StagingLabel::Current).await, Some(version(2)));
    assert_eq!(
        holder(secret_store, StagingLabel::Previous).await,
        Some(version(1)),
        "put there by the secret store"
    );
    assert_eq!(holder(secret_store, StagingLabel::Pending).await, None, "taken off by the secret store");
}

async fn labels_move_only_from_their_holder(secret_store: &dyn SecretStoreWriter) {
    assert_eq!(
        move_label(secret_store, StagingLabel::Current, Some(1), Some(2)).await,
        MoveOutcome::Moved,
        "already there"
    );
    assert_eq!(move_label(secret_store, StagingLabel::Current, Some(3), Some(1)).await, MoveOutcome::Stale);
    assert_eq!(
        move_label(secret_store, StagingLabel::Current, Some(2), Some(9)).await,
        MoveOutcome::Stale,
        "the new holder does not exist"
    );
    assert_eq!(move_label(secret_store, StagingLabel::Previous, Some(2), None).await, MoveOutcome::Stale);
    assert_eq!(holder(secret_store, StagingLabel::Current).await, Some(version(2)));
    assert_eq!(move_label(secret_store, StagingLabel::InForce, None, Some(1)).await, MoveOutcome::Moved);
    assert_eq!(move_label(secret_store, StagingLabel::InForce, None, Some(2)).await, MoveOutcome::Stale);
    assert_eq!(move_label(secret_store, StagingLabel::InForce, Some(1), Some(2)).await, MoveOutcome::Moved);
    assert_eq!(holder(secret_store, StagingLabel::InForce).await, Some(version(2)));
}

async fn a_version_without_label_is_gone(secret_store: &dyn SecretStoreWriter) {
    assert_eq!(read(secret_store, 1).await, "one", "AWSPREVIOUS keeps it");
    assert_eq!(move_label(secret_store, StagingLabel::Previous, Some(1), None).await, MoveOutcome::Moved);
    assert_eq!(
        move_label(secret_store, StagingLabel::Previous, Some(1), None).await,
        MoveOutcome::Moved,
        "already off"
    );
    assert!(gone(secret_store, 1).await);
    store(secret_store, 3, "three", StagingLabel::Pending).await;
    store(secret_store, 4, "four", StagingLabel::Pending).await;
    assert!(gone(secret_store, 3).await, "the next pending version displaces it");
    for (from, to) in [(2, 4), (4, 5)] {
        if to == 5 {
            store(secret_store, 5, "five", StagingLabel::Pending).await;
        }
        assert_eq!(
            move_label(secret_store, StagingLabel::Current, Some(from), Some(to)).await,
            MoveOutcome::Moved
        );
    }
    assert_eq!(read(secret_store, 2).await, "two", "IN_FORCE keeps it after two successors");
}

fn version(n: u32) -> VersionId {
    VersionId::new(format!("00000000-0000-4000-8000-{n:012}"))
}

async fn store(secret_store: &dyn SecretStoreWriter, n: u32, value: &str, label: StagingLabel) -> PutOutcome {
    secret_store.store(SECRET, &version(n), &Secret::from(value.to_owned()), label).await.unwrap()
}

async fn move_label(
    secret_store: &dyn SecretStoreWriter,
    label: StagingLabel,
    from: Option<u32>,
    to: Option<u32>,
) -> MoveOutcome {
    let (from, to) = (from.map(version), to.map(version));
    secret_store.move_label(SECRET, label, from.as_ref(), to.as_ref()).await.unwrap()
}

async fn holder(secret_store: &dyn SecretStoreWriter, label: StagingLabel) -> Option<VersionId> {
    secret_store.labels(SECRET).await.unwrap().version_with(label).cloned()
}

async fn read(secret_store: &dyn SecretStoreWriter, n: u32) -> String {
    String::from_utf8(secret_store.read(SECRET, &version(n)).await.unwrap().expose().to_vec()).unwrap()
}

async fn gone(secret_store: &dyn SecretStoreWriter, n: u32) -> bool {
    matches!(secret_store.read(SECRET, &version(n)).await, Err(SecretStoreError::NoSuchVersion))
}
