//! Scheduled rotations, driven as Secrets Manager drives them: it announces a version, then calls the
//! function four times; if a step fails, the whole rotation again with the same version.

use std::time::Duration;

use functions::rotate_keys::RotateKeysError;
use identity::secrets::SecretName;
use identity::secrets::VersionId;
use serde_json::json;

use crate::platform::Platform;
use crate::secrets_manager::ServiceError;

const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

/// How often a failed rotation is tried again.
const ATTEMPTS: u32 = 3;

/// A scheduled rotation did not take place.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("the rotation could not begin: {0}")]
    Begin(ServiceError),
    #[error("{step}: {source}")]
    Step { step: &'static str, source: RotateKeysError },
}

/// The text is no duration like `90s`, `30m`, `12h` or `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration like 30m, 12h or 1d")]
pub struct MalformedDuration;

/// Parses a whole number of seconds, minutes, hours or days: `90s`, `30m`, `12h`, `1d`. At least a second.
///
/// # Errors
/// [`MalformedDuration`].
pub fn parse_duration(text: &str) -> Result<Duration, MalformedDuration> {
    let unit = text.chars().next_back().ok_or(MalformedDuration)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(MalformedDuration),
    };
    let number: u64 =
        text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or(MalformedDuration)?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs).ok_or(MalformedDuration)
}

/// Rotates the signing keys every `period`, for ever. What goes wrong is told to `report`.
pub async fn rotate_every(platform: &Platform, period: Duration, report: impl Fn(&ScheduleError)) {
    loop {
        tokio::time::sleep(period).await;
        if let Err(error) = rotate(platform).await {
            report(&error);
        }
    }
}

/// One scheduled rotation of the signing keys.
///
/// # Errors
/// [`ScheduleError`] with the step that kept failing.
pub async fn rotate(platform: &Platform) -> Result<(), ScheduleError> {
    let version = VersionId::random(platform.adapters.system.as_ref());
    platform
        .secrets
        .begin_rotation(SecretName::SigningKeys.as_str(), version.as_str())
        .map_err(ScheduleError::Begin)?;
    let mut attempt = 1;
    loop {
        match steps(platform, &version).await {
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

async fn steps(platform: &Platform, version: &VersionId) -> Result<(), ScheduleError> {
    for step in STEPS {
        let event = json!({
            "Step": step,
            "SecretId": SecretName::SigningKeys.as_str(),
            "ClientRequestToken": version.as_str(),
        });
        let done = platform.rotate_keys.handle(event).await;
        done.map_err(|source| ScheduleError::Step { step, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("1d", 86_400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "12", "0h", "-1h", "1.5h", "12hh", "12 h", "99999999999999999999d", "ä"] {
            assert_eq!(parse_duration(text), Err(MalformedDuration), "{text}");
        }
    }
}
