//! Faults of the store during an issue: the time that they add, and the requests that they refuse. Time is virtual, so the
//! figures are the pauses between attempts and the timeouts of attempts, without the work.

use e2e::faults::Fault;
use e2e::test_service::{Ports, TestService};
use identity::keys::Algorithm;
use tokio::time::Instant;

use crate::measure::{median, millis, quantile};
use crate::report::{Section, Table, at_most, figure};

const REQUESTS: usize = 500;

const FAULTS: [(&str, Fault); 5] = [
    ("throttled", Fault::Throttle),
    ("error 500", Fault::InternalError),
    ("connection lost", Fault::BreakBefore),
    ("keys unprocessed", Fault::Unprocessed),
    ("no answer", Fault::SilentBefore),
];

pub fn run() -> Section {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut section = Section::begin("faults");
    let mut table = Table::new(&["fault of each request", "times", "p50 ms", "p99 ms", "refused", "target"]);
    for times in [1, 2] {
        for (name, fault) in FAULTS {
            table.row(runtime.block_on(measured(name, fault, times)));
        }
    }
    section.add(&table);
    section
}

async fn measured(name: &str, fault: Fault, times: usize) -> [String; 6] {
    let (ports, embedded) = Ports::embedded(1).await;
    let service = TestService::new(ports, Algorithm::Es256, 1).await;
    let identity = service.create().await;
    let (mut durations, mut refused) = (Vec::new(), 0);
    for _ in 0..REQUESTS {
        embedded.dynamodb.plan_next(vec![fault; times]);
        let begun = Instant::now();
        let reply = service.issue(&service.primary, &identity).await;
        durations.push(millis(begun.elapsed()));
        refused += usize::from(reply.status != 200);
    }
    let target = at_most(refused as f64, 0.0);
    let (p50, p99) = (figure(median(&durations)), figure(quantile(&durations, 0.99)));
    [name.to_owned(), times.to_string(), p50, p99, refused.to_string(), target]
}
