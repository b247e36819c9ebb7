//! Retries of calls to AWS: the pauses, the timeouts and the quota (docs/decisions/0013-retries.md).

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::retry::{RetryPartition, TokenBucket};

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 4;

/// Longest pause before the second attempt. The limit doubles with each further attempt. The SDK draws every pause
/// between zero and its limit, so the callers of a recovering service do not return at the same time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Longest duration of one attempt. A first attempt also opens the connection, on a fraction of a processor.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest duration of one call. Two attempts without an answer leave time for a third.
const CALL_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Retries that one process may make while every call fails.
const QUOTA: usize = 100;

/// Retries that one good answer pays for. So requests that each succeed at the third attempt never use up the quota.
const RETRIES_PER_SUCCESS: f32 = 2.0;

pub(super) fn config() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_PAUSE)
}

pub(super) fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(500))
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build()
}

/// The retry quota of one client. Every retry costs one token, whatever the error. The SDK's own quota charges up to
/// 10 of 500 tokens for a retry and earns one back per success, so 25 failed calls use it up for minutes.
pub(super) fn quota(service: &'static str) -> RetryPartition {
    let bucket = TokenBucket::builder()
        .capacity(QUOTA)
        .retry_cost(1)
        .throttling_retry_cost(1)
        .timeout_retry_cost(1)
        .success_reward(RETRIES_PER_SUCCESS)
        .build();
    RetryPartition::custom(service).token_bucket(bucket).build()
}

const _: () = assert!(
    2 * ATTEMPT_TIMEOUT.as_millis() + 3 * FIRST_PAUSE.as_millis() < CALL_TIMEOUT.as_millis(),
    "a third attempt must have time"
);
