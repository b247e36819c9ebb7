//! The parts of a rotator, for tests.

use std::sync::Arc;

use super::{KeyPorts, Rotator};
use crate::keys::signing::SigningKey;
use crate::keys::{Algorithm, KeyMaterialError};
use crate::testing::{CapturedAudit, FrozenClock, SeededRandom, signing_key};

pub(in crate::keys) struct Parts {
    clock: Arc<FrozenClock>,
    random: SeededRandom,
    audit: CapturedAudit,
}

impl Parts {
    pub(in crate::keys) fn new() -> Self {
        let (clock, random) = (FrozenClock::at_noon(), SeededRandom::new(1));
        Self { clock, random, audit: CapturedAudit::default() }
    }

    pub(in crate::keys) fn rotator<'a>(&'a self, ports: KeyPorts<'a>) -> Rotator<'a> {
        let Self { clock, random, audit } = self;
        Rotator { ports, clock: clock.as_ref(), random, generate: &generate, audit }
    }
}

fn generate() -> Result<SigningKey, KeyMaterialError> {
    Ok(signing_key(Algorithm::Es256, 0))
}
