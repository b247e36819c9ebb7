//! Retries of calls to AWS (docs/decisions/0013-retries.md): their cost in time, and their number when the store fails.
//! Time is virtual, so no test waits.

use std::time::Duration;

use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, Reply, TestService};
use identity::keys::Algorithm;
use tokio::time::Instant;

/// The faults that a further attempt can repair. A reply that is no JSON is not one of them: it does not come from AWS.
const REPAIRABLE: [Fault; 8] = [
    Fault::Throttle,
    Fault::InternalError,
    Fault::BreakBefore,
    Fault::BreakAfter,
    Fault::Unprocessed,
    Fault::SilentBefore,
    Fault::SilentAfter,
    Fault::Late,
];

/// The faults that the client sees at once. The others end with the timeout of an attempt.
const PROMPT: [Fault; 5] =
    [Fault::Throttle, Fault::InternalError, Fault::BreakBefore, Fault::BreakAfter, Fault::Unprocessed];

/// Further calls that one process may make while every call fails: the retry quota.
const QUOTA: usize = 100;

async fn service(seed: u64) -> (TestService, Embedded, String) {
    let (ports, embedded) = Ports::embedded(seed).await;
    let service = TestService::new(ports, Algorithm::Es256, seed).await;
    let id = service.create().await;
    (service, embedded, id)
}

/// Runs one request and returns its reply with its duration.
async fn timed(request: impl Future<Output = Reply>) -> (Reply, Duration) {
    let began = Instant::now();
    (request.await, began.elapsed())
}

fn pairs() -> impl Iterator<Item = [Fault; 2]> {
    REPAIRABLE.into_iter().flat_map(|first| REPAIRABLE.map(|second| [first, second]))
}

/// Fails the next calls of one operation. Calls of other operations succeed.
fn plan_for(embedded: &Embedded, operation: &'static str, faults: [Fault; 2]) {
    let mut faults = faults.into_iter();
    let plan = move |called: &str| if called == operation { faults.next() } else { None };
    embedded.dynamodb.plan(plan);
}

#[tokio::test(start_paused = true)]
async fn one_prompt_fault_costs_at_most_100_ms_at_the_median() {
    for fault in PROMPT {
        let (service, embedded, id) = service(51).await;
        let mut durations = Vec::new();
        for _ in 0..101 {
            embedded.dynamodb.plan_next([fault]);
            let (reply, duration) = timed(service.issue(&service.primary, &id)).await;
            assert_eq!(reply.status, 200, "{fault:?}: {}", reply.text);
            durations.push(duration);
        }
        durations.sort();
        assert!(durations[50] <= Duration::from_millis(100), "{fault:?}: {:?}", durations[50]);
    }
}

#[tokio::test(start_paused = true)]
async fn two_faults_of_a_read_never_refuse_a_request() {
    let (service, embedded, id) = service(52).await;
    for faults in pairs() {
        embedded.dynamodb.plan_next(faults);
        let reply = service.issue(&service.primary, &id).await;
        assert_eq!(reply.status, 200, "{faults:?}: {}", reply.text);
    }
}

#[tokio::test(start_paused = true)]
async fn two_faults_of_a_write_never_refuse_a_request() {
    let (service, embedded, id) = service(53).await;
    for faults in pairs() {
        plan_for(&embedded, "UpdateItem", faults);
        let reply = service.revoke(&id).await;
        assert_eq!(reply.status, 204, "{faults:?}: {}", reply.text);
        plan_for(&embedded, "PutItem", faults);
        let reply = service.send("POST", "/identities?api-version=2023-10-01", "").await;
        assert_eq!(reply.status, 201, "{faults:?}: {}", reply.text);
    }
}

#[tokio::test(start_paused = true)]
async fn two_faults_of_secrets_manager_never_refuse_a_request() {
    let (mut service, embedded, id) = service(54).await;
    for faults in pairs() {
        service.restart();
        embedded.secrets.plan_next(faults);
        let reply = service.issue(&service.primary, &id).await;
        assert_eq!(reply.status, 200, "{faults:?}: {}", reply.text);
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_pairs_of_faults_do_not_use_up_the_quota() {
    let (service, embedded, id) = service(55).await;
    for request in 0..240 {
        embedded.dynamodb.plan_next([Fault::InternalError, Fault::Throttle]);
        let reply = service.issue(&service.primary, &id).await;
        assert_eq!(reply.status, 200, "request {request}: {}", reply.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_failures_leaves_quota_for_a_fault() {
    let (service, embedded, id) = service(56).await;
    embedded.dynamodb.plan(|_| Some(Fault::InternalError));
    for _ in 0..30 {
        assert_eq!(service.issue(&service.primary, &id).await.status, 503);
    }
    embedded.dynamodb.plan_next([Fault::InternalError]);
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn one_success_after_an_outage_pays_for_two_retries() {
    let (service, embedded, id) = service(57).await;
    embedded.dynamodb.plan(|_| Some(Fault::InternalError));
    for _ in 0..500 {
        assert_eq!(service.issue(&service.primary, &id).await.status, 503);
    }
    embedded.dynamodb.plan(|_| None);
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
    embedded.dynamodb.plan_next([Fault::InternalError; 2]);
    assert_eq!(service.issue(&service.primary, &id).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_receives_one_call_per_request_after_the_quota() {
    for fault in [Fault::Throttle, Fault::InternalError, Fault::BreakBefore, Fault::SilentBefore] {
        let (service, embedded, id) = service(58).await;
        embedded.dynamodb.plan(move |_| Some(fault));
        let before = embedded.dynamodb.calls();
        for _ in 0..500 {
            assert_eq!(service.issue(&service.primary, &id).await.status, 503, "{fault:?}");
        }
        let calls = embedded.dynamodb.calls() - before;
        assert!(calls <= 500 + QUOTA, "{fault:?}: {calls} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_rarely_receives_two_retries_per_answer() {
    let (service, embedded, id) = service(59).await;
    let mut call = 0_u32;
    // Nine calls in ten fail.
    embedded.dynamodb.plan(move |_| {
        call += 1;
        (!call.is_multiple_of(10)).then_some(Fault::InternalError)
    });
    let before = embedded.dynamodb.calls();
    let mut answered = 0;
    for _ in 0..2_000 {
        answered += usize::from(service.issue(&service.primary, &id).await.status == 200);
    }
    let calls = embedded.dynamodb.calls() - before;
    assert!(calls <= 2_000 + QUOTA + 2 * answered, "{calls} calls, {answered} answers");
}
