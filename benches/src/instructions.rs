//! The instructions of one request and the misses of the processor's caches, counted by valgrind.
//!
//! valgrind executes the server on a simulated processor, so other work on the machine changes nothing. The processor has
//! no SHA and no AVX-512 instructions, so cryptography takes more instructions than on a real one.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use identity::keys::Algorithm;
use tokio::runtime::Runtime;

use crate::generator::{Until, drive};
use crate::programs::{Server, program, scratch};
use crate::report::{Section, Table, at_most, figure};
use crate::scenario::{Scenario, Site, ended, without_identities};

const CONNECTIONS: usize = 8;
const WARM_UP: usize = 200;
const REQUESTS: usize = 1_000;
/// Bytes, ways and bytes of a line: two caches of a core, and the second cache of a core.
const CACHES: [&str; 3] = ["--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64"];
/// valgrind's names for the events of [`Counts`].
const EVENTS: [&[&str]; 4] = [&["Ir"], &["I1mr"], &["D1mr", "D1mw"], &["ILmr", "DLmr", "DLmw"]];

/// The counts of one request: instructions, and misses of the first cache of instructions, of the first cache of data
/// and of the second cache.
#[derive(Clone, Copy)]
struct Counts([f64; EVENTS.len()]);

pub fn run() -> Section {
    let mut section = Section::begin("instructions");
    match Command::new("valgrind").arg("--version").output() {
        Ok(_) => section.add(&table()),
        Err(error) => section.add(&format!("valgrind cannot be started: {error}.")),
    }
    section
}

fn table() -> Table {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (state, identity) = ended(&runtime, "instructions-floor");
    let simulated = Simulation { folder: scratch("instructions") };
    let server = Server::local_of(simulated.command("acs-identity"), &simulated.folder, Algorithm::Es256);
    let server = runtime.block_on(Site::new(server));
    let store_echo = |crypto: &[&str]| {
        let floor = Server::store_echo(simulated.command("store-echo"), &state, &identity, crypto);
        without_identities(floor, &server)
    };
    let counts = |site: &Site, scenario| simulated.counts(&runtime, site, scenario);
    let echo = counts(&without_identities(Server::echo(simulated.command("echo")), &server), Scenario::Echo);
    let plain = counts(&store_echo(&[]), Scenario::StoreEcho);
    let sign = counts(&store_echo(&["sign", "ES256"]), Scenario::StoreSign);
    let verify = counts(&store_echo(&["verify", "ES256"]), Scenario::StoreVerify);
    let mut table = Table::new(&[
        "request, ES256",
        "instructions, thousand",
        "÷ floor",
        "target",
        "misses: first cache, instructions",
        "first cache, data",
        "second cache",
    ]);
    let mut row = |name: &str, Counts([instructions, misses @ ..]): Counts, ratio: f64, target: String| {
        let row = [name.to_owned(), figure(instructions / 1e3), figure(ratio), target];
        table.row(row.into_iter().chain(misses.map(figure)));
    };
    let floors = [
        (Scenario::Echo, echo),
        (Scenario::StoreEcho, plain),
        (Scenario::StoreSign, sign),
        (Scenario::StoreVerify, verify),
    ];
    for (scenario, counts) in floors {
        row(scenario.name(), counts, f64::NAN, String::new());
    }
    for (scenario, floor, target) in [
        (Scenario::Issue, sign, 1.25),
        (Scenario::Introspect, verify, 1.15),
        (Scenario::Authorize, verify, 1.15),
        (Scenario::Garbage, echo, 1.3),
    ] {
        let counts = counts(&server, scenario);
        let ratio = counts.0[0] / floor.0[0];
        row(scenario.name(), counts, ratio, at_most(ratio, target));
    }
    table
}

/// Programs under valgrind, and the folder for its counts and for the state of the server.
struct Simulation {
    folder: PathBuf,
}

impl Simulation {
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--cache-sim=yes"]).args(CACHES);
        // valgrind replaces `%p` by the process id, and appends the number of the file.
        let file = self.folder.join("callgrind.%p");
        command.arg(format!("--callgrind-out-file={}", file.display())).arg(program(name));
        command
    }

    /// Warms the server up and counts.
    fn counts(&self, runtime: &Runtime, site: &Site, scenario: Scenario) -> Counts {
        let send = |count| {
            let work = scenario.work(site);
            runtime.block_on(drive(site.server.address, work, CONNECTIONS, Until::Sent(count)));
        };
        let process = site.server.process();
        let control = |what| {
            let done = Command::new("callgrind_control").arg(what).arg(process.to_string()).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        send(WARM_UP);
        control("--zero");
        send(REQUESTS);
        control("--dump");
        let prefix = format!("callgrind.{process}.");
        let mut files = fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap());
        let file = files.find(|file| file.file_name().to_string_lossy().starts_with(&prefix)).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        fs::remove_file(file.path()).unwrap();
        Counts::of_one_request(&text)
    }
}

impl Counts {
    /// Reads a file of valgrind. A total of zero at the end of the line is left out there.
    fn of_one_request(text: &str) -> Self {
        let line = |name: &str| {
            let values = text.lines().find_map(|line| line.strip_prefix(name));
            values.unwrap_or_else(|| panic!("{name} is missing")).split_whitespace()
        };
        let totals = line("totals:").map(|total| total.parse::<f64>().unwrap());
        let totals: HashMap<_, _> = line("events:").zip(totals).collect();
        let sum = |events: &[&str]| events.iter().filter_map(|event| totals.get(event)).sum::<f64>();
        Self(EVENTS.map(|events| sum(events) / REQUESTS as f64))
    }
}
