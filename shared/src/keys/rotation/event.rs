//! The audit line of a step.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{RotationError, Rotator};
use crate::audit::{KeyEvent, Outcome};
use crate::error_chain::error_chain;

/// The origin of a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Deployment,
    Operator,
    Schedule,
}

/// The operation on keys, as logs name it, and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::keys) struct Cause {
    pub operation: &'static str,
    pub trigger: Trigger,
}

impl Rotator<'_> {
    pub(super) fn noted<T>(
        &self,
        cause: Cause,
        step: &'static str,
        outcome: Result<T, RotationError>,
    ) -> Result<T, RotationError> {
        self.note(cause, step, outcome.as_ref());
        outcome
    }

    pub(super) fn note<T>(&self, cause: Cause, step: &'static str, outcome: Result<&T, &RotationError>) {
        let reached = match outcome {
            Ok(_) => Outcome::Success,
            Err(RotationError::Conflict | RotationError::NotPending) => Outcome::Refused,
            Err(_) => Outcome::Failed,
        };
        self.audit.keys(&event(self.clock.now(), cause, step, reached, outcome.err()));
    }
}

impl Trigger {
    /// The trigger's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::Operator => "operator",
            Self::Schedule => "schedule",
        }
    }
}

/// The audit line of a step.
fn event(
    now: OffsetDateTime,
    cause: Cause,
    step: &'static str,
    outcome: Outcome,
    error: Option<&RotationError>,
) -> KeyEvent {
    KeyEvent {
        time: now.format(&Rfc3339).unwrap_or_default(),
        level: outcome.level(),
        operation: cause.operation,
        trigger: cause.trigger.as_str(),
        step,
        resource_server: None,
        outcome,
        reason: error.map(|error| error_chain(error)),
    }
}
