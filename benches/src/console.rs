//! The console in a real browser, with few and with many identities and requests.

use std::fs;
use std::process::Command;

use serde::Deserialize;

use crate::measure::median;
use crate::programs::state_directory;
use crate::report::{Section, Table, figure};
use crate::scale::{name_of, site};
use crate::scenario::Site;

const ROUNDS: usize = 5;
/// The identities, and the lines that each screen then shows: it pages both lists.
const SIZES: [(usize, [usize; 2]); 2] = [(100, [50, 100]), (10_000, [50, 200])];
const SCREENS: [(&str, &str); 2] = [("identities", "#identity-rows tr"), ("requests", "#request-rows tr")];
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/console/open.js");

/// What one opening of the page cost.
#[derive(Deserialize)]
struct Opening {
    /// Milliseconds until the first contentful paint.
    painted: f64,
    /// Milliseconds until the lines are there.
    filled: f64,
    /// The page's memory for JavaScript, in MB.
    heap: f64,
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut section = Section::begin("console");
    let mut table = Table::new(&[
        "screen",
        "identities",
        "requests",
        "first paint, ms",
        "list shown, ms",
        "page's memory, MB",
        "server's most memory, MB",
    ]);
    for (size, lines) in SIZES {
        let site = runtime.block_on(site(size));
        for ((screen, selector), lines) in SCREENS.into_iter().zip(lines) {
            let openings: Vec<_> =
                (0..ROUNDS).map(|_| open(&site, size, [screen, selector, &lines.to_string()])).collect();
            let of = |of: fn(&Opening) -> f64| figure(median(&openings.iter().map(of).collect::<Vec<_>>()));
            table.row([
                screen.to_owned(),
                size.to_string(),
                size.min(1000).to_string(),
                of(|opening| opening.painted),
                of(|opening| opening.filled),
                of(|opening| opening.heap),
                figure(site.server.peak()),
            ]);
        }
    }
    section.add(&table);
    section
}

fn open(site: &Site, size: usize, screen: [&str; 3]) -> Opening {
    let endpoint = format!("http://localhost:{}/", site.server.address.port());
    let token = fs::read_to_string(state_directory(&name_of(size)).join("control-token")).unwrap();
    let output = Command::new("node").args([PROGRAM, &endpoint, &token]).args(screen).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no measurement: {messages}"))
}
