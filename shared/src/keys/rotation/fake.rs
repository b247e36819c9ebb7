//! A rotator over ports in memory, for tests.

use std::sync::Arc;

use super::{KeyPorts, Rotator};
use crate::keys::signing::SigningKey;
use crate::keys::{Algorithm, KeyMaterialError};
use crate::memory::Memory;
use crate::testing::{CapturedAudit, FrozenClock, SeededRandom, signing_key};

pub(in crate::keys) struct Parts {
    pub(in crate::keys) memory: Memory,
    clock: Arc<FrozenClock>,
    random: SeededRandom,
    audit: CapturedAudit,
}

impl Parts {
    pub(in crate::keys) fn new() -> Self {
        let (clock, random) = (FrozenClock::at_noon(), SeededRandom::new(1));
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
