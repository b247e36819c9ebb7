//! The local server under load, beside an echo server under the same load.

use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use benches::raw::{MESSAGE, RawHmacKey, RawKey};
use identity::keys::Algorithm;

use crate::measure::{median, own_cpu_of};
use crate::programs::{Server, build, build_released_server, program};
use crate::report::{Section, Table, at_most, figure};
use crate::scenario::{Rounds, Scenario, Site, ended, plain_site, site, without_identities};

/// Rounds. They are many and short, because the machine's speed changes from second to second.
const ROUNDS: usize = 9;
const CONNECTIONS: [usize; 3] = [1, 8, 32];
/// The number of connections for the targets.
const TYPICAL: usize = 8;
const CELL: Duration = Duration::from_millis(500);
/// HMACs of a refused signature: the candidates of the local server under both keys
/// (docs/decisions/0005-what-a-client-may-have-signed.md).
const HMACS_OF_CREATE: f64 = 14.0;
const HMACS_OF_ISSUE: f64 = 50.0;

/// A row of the table and its measurements.
struct Cell<'a> {
    site: &'a Site,
    scenario: Scenario,
    algorithm: Algorithm,
    /// Whether the server is a plain build, as the floors are.
    is_plain: bool,
    connections: usize,
    rounds: Rounds,
}

impl Cell<'_> {
    fn label(&self) -> String {
        let name = self.scenario.name();
        let depends =
            Scenario::OF_BOTH.contains(&self.scenario) || Scenario::FLOORS_OF_BOTH.contains(&self.scenario);
        let label = if depends { format!("{name}, {}", self.algorithm.as_str()) } else { name.to_owned() };
        if self.is_plain { label + ", plain build" } else { label }
    }
}

pub fn build_programs() {
    build_released_server();
    build(&["--package", "benches", "--bin", "echo", "--bin", "store-echo"]);
}

/// Builds the local server as the floors are built.
pub fn build_plain_server() {
    build(&["--package", "acs-identity"]);
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut section = Section::begin("load");
    let es256 = site(&runtime, "load-es256", Algorithm::Es256);
    let rs256 = site(&runtime, "load-rs256", Algorithm::Rs256);
    let plain_es256 = plain_site(&runtime, "load-plain-es256", Algorithm::Es256);
    let plain_rs256 = plain_site(&runtime, "load-plain-rs256", Algorithm::Rs256);
    let (state, identity) = ended(&runtime, "load-floor");
    let floors = Floors::new();
    let echo = without_identities(Server::echo(Command::new(program("echo"))), &es256);
    let store_echo = |crypto: &[&str]| {
        let command = Command::new(program("store-echo"));
        without_identities(Server::store_echo(command, &state, &identity, crypto), &es256)
    };
    let plain = store_echo(&[]);
    let with_crypto = ["sign", "verify"].map(|name| {
        [Algorithm::Es256, Algorithm::Rs256].map(|algorithm| store_echo(&[name, algorithm.as_str()]))
    });
    let floors_of_both = Scenario::FLOORS_OF_BOTH.into_iter().zip(&with_crypto);
    let mut rows =
        vec![(&echo, Scenario::Echo, Algorithm::Es256), (&plain, Scenario::StoreEcho, Algorithm::Es256)];
    rows.extend(floors_of_both.flat_map(|(scenario, sites)| of_both(scenario, [&sites[0], &sites[1]])));
    rows.extend(Scenario::OF_BOTH.into_iter().flat_map(|scenario| of_both(scenario, [&es256, &rs256])));
    rows.extend(Scenario::OF_ONE.map(|scenario| (&es256, scenario, Algorithm::Es256)));
    let mut cells: Vec<_> = rows.into_iter().flat_map(cells).collect();
    for row in Scenario::WITH_FLOOR.into_iter().flat_map(|it| of_both(it, [&plain_es256, &plain_rs256])) {
        cells.push(Cell { is_plain: true, ..cell(row, TYPICAL) });
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(floors.measure());
        for cell in &mut cells {
            let figures = runtime.block_on(cell.site.measure(cell.scenario, cell.connections, CELL));
            cell.rounds.push(figures);
        }
    }
    section.add(&table(&cells, &rounds));
    section.add(&targets(&cells, &rounds));
    section.add(&memory_table(&[
        ("local server, ES256", &es256),
        ("local server, RS256", &rs256),
        ("echo", &echo),
    ]));
    section
}

type Row<'a> = (&'a Site, Scenario, Algorithm);

/// A scenario with both algorithms, each at its own server.
fn of_both<'a>(scenario: Scenario, [es256, rs256]: [&'a Site; 2]) -> [Row<'a>; 2] {
    [(es256, scenario, Algorithm::Es256), (rs256, scenario, Algorithm::Rs256)]
}

fn cells(row: Row<'_>) -> [Cell<'_>; 3] {
    CONNECTIONS.map(|connections| cell(row, connections))
}

fn cell((site, scenario, algorithm): Row<'_>, connections: usize) -> Cell<'_> {
    Cell { site, scenario, algorithm, is_plain: false, connections, rounds: Rounds::default() }
}

/// The floors of one round, in CPU microseconds.
#[derive(Clone, Copy)]
struct Floor {
    sign: [f64; 2],
    verify: [f64; 2],
    hmac: f64,
}

/// The measurement of the floors without a server.
struct Floors {
    /// ES256 and RS256.
    keys: [RawKey; 2],
    access_key: RawHmacKey,
}

impl Floors {
    fn new() -> Self {
        let keys = [Algorithm::Es256, Algorithm::Rs256].map(RawKey::generate);
        Self { keys, access_key: RawHmacKey::new(&[b'x'; 64]) }
    }

    fn measure(&self) -> Floor {
        let sign = self
            .keys
            .each_ref()
            .map(|key| own_cpu_of(300, || (0..300).for_each(|_| drop(key.sign(&MESSAGE)))));
        let verify = self.keys.each_ref().map(|key| {
            let signature = key.sign(&MESSAGE);
            own_cpu_of(600, || (0..600).for_each(|_| assert!(key.verifies(&MESSAGE, &signature))))
        });
        // The host of a candidate, and the text after it. The text before it is hashed once for all.
        let text = [b'x'; 60];
        let compare = |_| {
            black_box(self.access_key.verifies(black_box(&text), &[0; 32]));
        };
        let hmac = own_cpu_of(10_000, || (0..10_000).for_each(compare));
        Floor { sign, verify, hmac }
    }
}

impl Floor {
    /// The cryptography that every implementation of a scenario needs.
    fn crypto(&self, scenario: Scenario, algorithm: Algorithm) -> Option<f64> {
        let of = |[es256, rs256]: [f64; 2]| if algorithm == Algorithm::Es256 { es256 } else { rs256 };
        match scenario {
            Scenario::StoreSign | Scenario::Issue | Scenario::CreateWithToken => Some(of(self.sign)),
            Scenario::StoreVerify | Scenario::Introspect | Scenario::Authorize => Some(of(self.verify)),
            _ => None,
        }
    }
}

fn find<'a, 'b>(cells: &'a [Cell<'b>], scenario: Scenario, connections: usize) -> &'a Cell<'b> {
    cells.iter().find(|cell| cell.scenario == scenario && cell.connections == connections).unwrap()
}

fn table(cells: &[Cell<'_>], floors: &[Floor]) -> Table {
    let [cpu, per_second, p50, p99] = Rounds::COLUMNS;
    let mut table =
        Table::new(&["request", "connections", cpu, per_second, p50, p99, "× echo", "× cryptography"]);
    for cell in cells {
        let echo = find(cells, Scenario::Echo, cell.connections);
        let crypto = |round: usize| floors[round].crypto(cell.scenario, cell.algorithm).unwrap_or(f64::NAN);
        let ratios = [cell.rounds.ratio(|round| echo.rounds.cpu_of(round)), cell.rounds.ratio(crypto)];
        let row = [cell.label(), cell.connections.to_string()].into_iter().chain(cell.rounds.cells());
        table.row(row.chain(ratios.map(figure)));
    }
    table
}

/// The operations that read the store beside a server that reads the store, with the same cryptography. The refusals
/// beside an echo, and beside an echo with the HMACs that a refusal needs.
fn targets(cells: &[Cell<'_>], floors: &[Floor]) -> Table {
    let echo = find(cells, Scenario::Echo, TYPICAL);
    let mut table = Table::new(&["8 connections", "CPU µs", "floor", "CPU µs", "ratio", "target"]);
    let mut row = |cell: &Cell<'_>, name: &str, floor: &dyn Fn(usize) -> f64, target: Option<f64>| {
        let least = median(&(0..ROUNDS).map(floor).collect::<Vec<_>>());
        let ratio = cell.rounds.ratio(floor);
        let cpu = figure(cell.rounds.median(|figures| figures.cpu));
        let verdict = target.map(|target| at_most(ratio, target)).unwrap_or_default();
        table.row([cell.label(), cpu, name.to_owned(), figure(least), figure(ratio), verdict]);
    };
    let typical = || cells.iter().filter(|cell| cell.connections == TYPICAL);
    for cell in typical() {
        let (floor, target) = match cell.scenario {
            Scenario::Issue => (Scenario::StoreSign, 1.25),
            Scenario::Introspect | Scenario::Authorize => (Scenario::StoreVerify, 1.15),
            _ => continue,
        };
        let is_floor = |other: &&Cell<'_>| other.scenario == floor && other.algorithm == cell.algorithm;
        let floor = typical().find(is_floor).unwrap();
        row(cell, floor.scenario.name(), &|round| floor.rounds.cpu_of(round), Some(target));
    }
    let echoed = |round: usize| echo.rounds.cpu_of(round);
    for (scenario, hmacs, target) in
        [(Scenario::Refused, HMACS_OF_CREATE, 1.5), (Scenario::RefusedIssue, HMACS_OF_ISSUE, 2.5)]
    {
        let cell = find(cells, scenario, TYPICAL);
        row(cell, "echo", &echoed, Some(target));
        let name = format!("echo, and {hmacs} HMACs");
        row(cell, &name, &|round| echoed(round) + hmacs * floors[round].hmac, None);
    }
    row(find(cells, Scenario::Garbage, TYPICAL), "echo", &echoed, Some(1.3));
    table
}

fn memory_table(sites: &[(&str, &Site)]) -> Table {
    let mut table = Table::new(&["server", "most memory, MB"]);
    for (name, site) in sites {
        table.row([(*name).to_owned(), figure(site.server.peak())]);
    }
    table
}
