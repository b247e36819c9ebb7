//! What every vault must do: run against each implementation. It is as harsh as Secrets Manager may be.

#![expect(clippy::unwrap_used, reason = "a broken contract fails the test that runs it")]

use super::{Label, Moving, SecretName, Storing, VaultError, VaultWriter};
use crate::keys::VersionId;
use crate::secrets::Secret;

const SECRET: SecretName = SecretName::SigningKeys;

/// Runs the whole contract against a vault whose secrets have no versions.
///
/// # Panics
/// When the vault breaks it.
pub async fn holds(vault: &dyn VaultWriter) {
    assert_eq!(vault.labels(SECRET).await.unwrap().bearer(Label::Current), None);
    assert!(gone(vault, 1).await);
    versions_are_written_once(vault).await;
    the_current_label_leaves_a_trace(vault).await;
    labels_move_only_from_their_bearer(vault).await;
    a_version_without_label_is_gone(vault).await;
    assert_eq!(vault.labels(SecretName::AccessKeys).await.unwrap().bearer(Label::Current), None);
}

async fn versions_are_written_once(vault: &dyn VaultWriter) {
    assert_eq!(store(vault, 1, "one", Label::Current).await, Storing::Stored);
    assert_eq!(store(vault, 1, "one", Label::Current).await, Storing::Stored, "a repeat");
    assert_eq!(store(vault, 1, "another", Label::Current).await, Storing::AlreadyThere);
    assert_eq!(read(vault, 1).await, "one");
    assert_eq!(bearer(vault, Label::Current).await, Some(version(1)));
}

async fn the_current_label_leaves_a_trace(vault: &dyn VaultWriter) {
    assert_eq!(store(vault, 2, "two", Label::Pending).await, Storing::Stored);
    assert_eq!(bearer(vault, Label::Pending).await, Some(version(2)));
    assert_eq!(bearer(vault, Label::Current).await, Some(version(1)));
    assert_eq!(move_label(vault, Label::Current, Some(1), Some(2)).await, Moving::Moved);
    assert_eq!(bearer(vault, Label::Current).await, Some(version(2)));
    assert_eq!(bearer(vault, Label::Previous).await, Some(version(1)), "put there by the vault");
    assert_eq!(bearer(vault, Label::Pending).await, None, "taken off by the vault");
}

async fn labels_move_only_from_their_bearer(vault: &dyn VaultWriter) {
    assert_eq!(move_label(vault, Label::Current, Some(1), Some(2)).await, Moving::Moved, "already there");
    assert_eq!(move_label(vault, Label::Current, Some(3), Some(1)).await, Moving::Stale);
    assert_eq!(move_label(vault, Label::Current, Some(2), Some(9)).await, Moving::Stale, "no such version");
    assert_eq!(move_label(vault, Label::Previous, Some(2), None).await, Moving::Stale);
    assert_eq!(bearer(vault, Label::Current).await, Some(version(2)));
    assert_eq!(move_label(vault, Label::InForce, None, Some(1)).await, Moving::Moved);
    assert_eq!(move_label(vault, Label::InForce, None, Some(2)).await, Moving::Stale);
    assert_eq!(move_label(vault, Label::InForce, Some(1), Some(2)).await, Moving::Moved);
    assert_eq!(bearer(vault, Label::InForce).await, Some(version(2)));
}

async fn a_version_without_label_is_gone(vault: &dyn VaultWriter) {
    assert_eq!(read(vault, 1).await, "one", "AWSPREVIOUS keeps it");
    assert_eq!(move_label(vault, Label::Previous, Some(1), None).await, Moving::Moved);
    assert_eq!(move_label(vault, Label::Previous, Some(1), None).await, Moving::Moved, "already off");
    assert!(gone(vault, 1).await);
    store(vault, 3, "three", Label::Pending).await;
    store(vault, 4, "four", Label::Pending).await;
    assert!(gone(vault, 3).await, "the next pending version displaces it");
    for (from, to) in [(2, 4), (4, 5)] {
        if to == 5 {
            store(vault, 5, "five", Label::Pending).await;
        }
        assert_eq!(move_label(vault, Label::Current, Some(from), Some(to)).await, Moving::Moved);
    }
    assert_eq!(read(vault, 2).await, "two", "IN_FORCE keeps it when two successors have gone by");
}

fn version(n: u32) -> VersionId {
    VersionId::new(format!("00000000-0000-4000-8000-{n:012}"))
}

async fn store(vault: &dyn VaultWriter, n: u32, value: &str, label: Label) -> Storing {
    vault.store(SECRET, &version(n), &Secret::from(value.to_owned()), label).await.unwrap()
}

async fn move_label(vault: &dyn VaultWriter, label: Label, from: Option<u32>, to: Option<u32>) -> Moving {
    let (from, to) = (from.map(version), to.map(version));
    vault.move_label(SECRET, label, from.as_ref(), to.as_ref()).await.unwrap()
}

async fn bearer(vault: &dyn VaultWriter, label: Label) -> Option<VersionId> {
    vault.labels(SECRET).await.unwrap().bearer(label).cloned()
}

async fn read(vault: &dyn VaultWriter, n: u32) -> String {
    String::from_utf8(vault.read(SECRET, &version(n)).await.unwrap().expose().to_vec()).unwrap()
}

async fn gone(vault: &dyn VaultWriter, n: u32) -> bool {
    matches!(vault.read(SECRET, &version(n)).await, Err(VaultError::NoSuchVersion))
}
