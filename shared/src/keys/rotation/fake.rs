//! A rotator over ports in memory, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::{KeyPorts, Rotator};
use crate::keys::signing::SigningKey;
use crate::keys::{Algorithm, KeyMaterialError};
use crate::memory::Memory;
use crate::secrets::{
    MoveOutcome, PutOutcome, Secret, SecretName, SecretStore, SecretStoreError, SecretStoreWriter,
    StagingLabel, StagingLabels, VersionId,
};
use crate::testing::{CapturedAudit, FrozenClock, SeededRandom, signing_key};

pub(in crate::keys) struct Parts {
    pub(in crate::keys) memory: Memory,
    clock: Arc<FrozenClock>,
    random: SeededRandom,
    audit: CapturedAudit,
}

impl Parts {
    pub(in crate::keys) fn new() -> Self {
        Self::seeded(1)
    }

    /// Versions and access keys depend on the seed.
    pub(in crate::keys) fn seeded(seed: u64) -> Self {
        let (clock, random) = (FrozenClock::at_noon(), SeededRandom::new(seed));
        Self { memory: Memory::default(), clock, random, audit: CapturedAudit::default() }
    }

    pub(in crate::keys) fn rotator(&self) -> Rotator<'_> {
        let Self { memory, clock, random, audit } = self;
        let ports = KeyPorts { pointers: memory, secret_store: memory };
        Rotator { ports, clock: clock.as_ref(), random, generate: &generate, audit }
    }
}

fn generate() -> Result<SigningKey, KeyMaterialError> {
    Ok(signing_key(Algorithm::Es256, 0))
}

/// A secret store in which another replacement comes between two calls.
#[derive(Default)]
pub(in crate::keys) struct Overtaken {
    pub(in crate::keys) memory: Memory,
    /// The next calls of `labels`, which answer as before the first version.
    pub(in crate::keys) outdated_labels: AtomicUsize,
    /// The next moves, which find that the label in force has moved.
    pub(in crate::keys) stale_moves: AtomicUsize,
}

/// Takes one from a number above zero.
fn take_one(number: &AtomicUsize) -> bool {
    number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

#[async_trait]
impl SecretStore for Overtaken {
    async fn read(&self, secret: SecretName, version: &VersionId) -> Result<Secret, SecretStoreError> {
        self.memory.read(secret, version).await
    }
}

#[async_trait]
impl SecretStoreWriter for Overtaken {
    async fn labels(&self, secret: SecretName) -> Result<StagingLabels, SecretStoreError> {
        if take_one(&self.outdated_labels) {
            return Ok(StagingLabels::default());
        }
        self.memory.labels(secret).await
    }

    async fn store(
        &self,
        secret: SecretName,
        version: &VersionId,
        value: &Secret,
        label: StagingLabel,
    ) -> Result<PutOutcome, SecretStoreError> {
        self.memory.store(secret, version, value, label).await
    }

    async fn move_label(
        &self,
        secret: SecretName,
        label: StagingLabel,
        from: Option<&VersionId>,
        to: Option<&VersionId>,
    ) -> Result<MoveOutcome, SecretStoreError> {
        if label == StagingLabel::InForce && take_one(&self.stale_moves) {
            return Ok(MoveOutcome::Stale);
        }
        self.memory.move_label(secret, label, from, to).await
    }
}
