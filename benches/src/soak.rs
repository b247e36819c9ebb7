//! The local server's memory over a million requests.

use crate::generator::{Until, drive};
use crate::report::{Section, Table, at_most, figure};
use crate::scenario::{Scenario, Site, site};

const CONNECTIONS: usize = 8;
/// Reads of the memory.
const SAMPLES: usize = 40;
/// Rows of the table.
const ROWS: usize = 8;

/// The scenarios, one after another. Refusals are among them, because a refusal must not cost memory either.
const MIX: [Scenario; 8] = [
    Scenario::Issue,
    Scenario::Introspect,
    Scenario::Refused,
    Scenario::Issue,
    Scenario::Authorize,
    Scenario::Garbage,
    Scenario::Issue,
    Scenario::Introspect,
];
/// Revocations after each scenario. There are few, because each one waits for the disk.
const REVOCATIONS: usize = 500;

pub fn run(requests: usize) -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut section = Section::begin("soak");
    let site = site(&runtime, "soak", identity::keys::Algorithm::Es256);
    let mut resident = vec![site.server.resident()];
    for sample in 0..SAMPLES {
        let scenario = MIX[sample % MIX.len()];
        runtime.block_on(some(&site, scenario, requests / SAMPLES - REVOCATIONS));
        runtime.block_on(some(&site, Scenario::Revoke, REVOCATIONS));
        resident.push(site.server.resident());
    }
    section.add(&table(requests, &resident, site.server.peak()));
    section
}

async fn some(site: &Site, scenario: Scenario, requests: usize) {
    drive(site.server.address, scenario.work(site), CONNECTIONS, Until::Sent(requests)).await;
}

fn table(requests: usize, resident: &[f64], peak: f64) -> Table {
    let mut table = Table::new(&["requests", "memory, MB", "target"]);
    for (sample, megabytes) in resident.iter().enumerate().step_by(SAMPLES / ROWS) {
        table.row([(requests / SAMPLES * sample).to_string(), figure(*megabytes), String::new()]);
    }
    table.row(["most at any time".to_owned(), figure(peak), at_most(peak, 80.0)]);
    // By the end of the first fifth every scenario has run once.
    let after_first_fifth = resident.get(SAMPLES / 5).copied().unwrap_or(f64::NAN);
    let growth = resident.last().copied().unwrap_or(f64::NAN) - after_first_fifth;
    table.row(["growth after the first fifth".to_owned(), figure(growth), at_most(growth, 2.0)]);
    table
}
