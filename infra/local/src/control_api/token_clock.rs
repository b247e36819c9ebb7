//! The clock of tokens. The control API can shift it or stop it. The other parts of the server follow the real time.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use identity::runtime::Clock;
use serde::Deserialize;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::call_error::CallError;

/// The largest shift, in both directions.
const MAX_SHIFT: Duration = Duration::days(3660);

/// The time of tokens: real, shifted or stopped.
pub struct TokenClock {
    real: Arc<dyn Clock>,
    setting: Mutex<Setting>,
}

#[derive(Clone, Copy)]
enum Setting {
    Shifted(Duration),
    Stopped(OffsetDateTime),
}

/// The body of `PUT clock`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockRequest {
    offset: Option<String>,
    at: Option<String>,
    #[serde(default)]
    frozen: bool,
}

impl TokenClock {
    /// A clock without a shift.
    #[must_use]
    pub fn new(real: Arc<dyn Clock>) -> Self {
        Self { real, setting: Mutex::new(Setting::Shifted(Duration::ZERO)) }
    }

    fn setting(&self) -> Setting {
        *self.setting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, setting: Setting) {
        *self.setting.lock().unwrap_or_else(PoisonError::into_inner) = setting;
    }

    /// Goes back to real time.
    pub(super) fn reset(&self) {
        self.set(Setting::Shifted(Duration::ZERO));
    }

    /// Shifts or stops the clock, as a body of `PUT clock` describes it.
    pub(super) fn apply(&self, request: &ClockRequest) -> Result<(), CallError> {
        let real = self.real.now();
        let offset = match (&request.offset, &request.at) {
            (Some(offset), None) => parse_offset(offset)?,
            (None, Some(at)) => parse_time(at)? - real,
            _ => return Err(CallError::malformed("give either offset, such as \"-59m\", or at")),
        };
        if offset.abs() > MAX_SHIFT {
            let days = MAX_SHIFT.whole_days();
            return Err(CallError::malformed(&format!("the shift is limited to {days} days")));
        }
        self.set(if request.frozen {
            Setting::Stopped(real.saturating_add(offset))
        } else {
            Setting::Shifted(offset)
        });
        Ok(())
    }

    /// The distance from real time.
    pub(super) fn offset(&self) -> Duration {
        self.now() - self.real.now()
    }

    /// The answer about the clock: its time, its distance from real time, and whether it stands still.
    pub(super) fn state(&self) -> Value {
        let (now, real) = (self.now(), self.real.now());
        json!({
            "now": now.format(&Rfc3339).unwrap_or_default(),
            // The sum makes a negative zero positive.
            "offsetSeconds": (now - real).as_seconds_f64().round() + 0.0,
            "frozen": matches!(self.setting(), Setting::Stopped(_)),
        })
    }
}

#[async_trait]
impl Clock for TokenClock {
    fn now(&self) -> OffsetDateTime {
        match self.setting() {
            Setting::Shifted(offset) => self.real.now().saturating_add(offset),
            Setting::Stopped(at) => at,
        }
    }

    fn uptime(&self) -> std::time::Duration {
        self.real.uptime()
    }

    async fn sleep(&self, duration: std::time::Duration) {
        self.real.sleep(duration).await;
    }
}

/// `-59m`, `+25h`, `90s`.
fn parse_offset(text: &str) -> Result<Duration, CallError> {
    let malformed = || CallError::malformed("offset: give a duration such as \"-59m\", \"+25h\" or \"90s\"");
    let (sign, amount) = match text.strip_prefix('-') {
        Some(amount) => (-1, amount),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let amount = humantime::parse_duration(amount).map_err(|_| malformed())?;
    Duration::try_from(amount).map(|amount| amount * sign).map_err(|_| malformed())
}

fn parse_time(text: &str) -> Result<OffsetDateTime, CallError> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| CallError::malformed("at: give a time of RFC 3339, such as \"2026-01-01T00:00:00Z\""))
}
