//! Scheduled rotations, driven as Secrets Manager drives them. It starts a rotation with the id of a new version, and
//! calls the function once for each of four steps. After a failed step it repeats the whole rotation with the same
//! version id.

use std::time::Duration;

use functions::rotate_keys::RotateKeysError;
use identity::secrets::SecretName;
use identity::secrets::VersionId;
use serde_json::json;

use crate::platform::Platform;
use crate::secrets_manager::ServiceError;

const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

/// Attempts at one rotation.
const ATTEMPTS: u32 = 3;

/// A scheduled rotation did not take place.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("the rotation could not begin: {0}")]
    Begin(ServiceError),
    #[error("the rotation failed at step {step}: {source}")]
    Step { step: &'static str, source: RotateKeysError },
}

/// Parses the period of a schedule, such as `30m`, `12h` or `1d`.
///
/// # Errors
/// A message for the user when the text is not a duration, or is zero.
pub fn parse_period(text: &str) -> Result<Duration, String> {
    let period = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; give a number with a unit, such as 30m, 12h or 1d"))?;
    if period.is_zero() {
        return Err("the period is zero; give a longer one, such as 30m, 12h or 1d".to_owned());
    }
    Ok(period)
}

/// Rotates the signing keys at the end of every `period`. This future never completes. `report` gets the errors.
pub async fn rotate_every(platform: &Platform, period: Duration, report: impl Fn(&ScheduleError)) {
    loop {
        tokio::time::sleep(period).await;
        if let Err(error) = rotate(platform).await {
            report(&error);
        }
    }
}

/// Runs one scheduled rotation of the signing keys.
///
/// # Errors
/// [`ScheduleError`] with the step that failed in every attempt.
pub async fn rotate(platform: &Platform) -> Result<(), ScheduleError> {
    let _alone = platform.replacing.lock().await;
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
    use identity::store::PointerWriter as _;
    use tokio::time::timeout;

    use super::*;
    use crate::platform::tests::open;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn periods_have_a_unit_and_are_not_zero() {
        assert_eq!(parse_period("12h"), Ok(12 * HOUR));
        assert_eq!(parse_period("1d"), Ok(24 * HOUR));
        for text in ["", "h", "12", "0h", "-1h", "12 parsecs", "99999999999999999999d"] {
            let refused = parse_period(text).unwrap_err();
            assert!(refused.ends_with("such as 30m, 12h or 1d"), "{text}: {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn signing_keys_rotate_once_per_period() {
        let dir = tempfile::tempdir().unwrap();
        let platform = open(dir.path()).await;
        let generation = async || platform.adapters.table.pointer().await.unwrap().unwrap().generation;
        let first = generation().await;
        let failed = |error: &ScheduleError| panic!("{error}");
        for (hours, rotations) in [(11, 0), (13, 1), (25, 2)] {
            let before = generation().await;
            timeout(hours * HOUR, rotate_every(&platform, 12 * HOUR, failed)).await.unwrap_err();
            assert_eq!(generation().await - before, rotations, "{hours} hours");
        }
        assert_eq!(generation().await - first, 3);
    }
}
