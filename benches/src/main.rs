//! Measures the cost of the service. Each figure stands beside a floor from the same run.
#![expect(clippy::disallowed_methods, reason = "the measurements need the real time and random values")]

mod assignments;
mod cold;
mod console;
mod events;
mod faults;
mod feed;
mod generator;
mod hot;
mod instructions;
mod load;
mod measure;
mod peers;
mod programs;
mod quota;
mod report;
mod scale;
mod scenario;
mod soak;
mod stubs;

use clap::{Parser, Subcommand};

use crate::report::Section;

const MILLION: usize = 1_000_000;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Write the tables into docs/performance.md.
    #[arg(long, global = true)]
    write: bool,
}

#[derive(Subcommand)]
enum Command {
    /// The hot paths of the core beside the bare cryptography.
    Core,
    /// The local server under load beside an echo server.
    Load,
    /// The instructions of a request of the local server, and its misses of the caches. Needs valgrind.
    Instructions,
    /// The start, the memory and the calls of the Lambda functions beside a bare function.
    Cold,
    /// The first and warm answers of the Lambda functions with Lambda's share of a processor. Needs the rights of root.
    Quota,
    /// The local server with 1 000 to 10 000 000 identities, with 10 to 100 000 assignments, with 1 to 512 connections, and with open consoles.
    Scale,
    /// The console in Chromium with 100 and with 10 000 identities. Needs Node and the packages of tests/clients/browser.
    Console,
    /// The local server's memory over many requests.
    Soak {
        #[arg(long, default_value_t = MILLION)]
        requests: usize,
    },
    /// Other token servers beside the local server. Each one is installed into `target/peers` if its toolchain is there.
    Peers,
    /// The time that faults of the store add to a request.
    Faults,
    /// The delay of the revocation feed of the local server.
    Feed,
    /// All measurements.
    All,
}

fn main() {
    let Arguments { command, write } = Arguments::parse();
    if matches!(
        command,
        Command::Console
            | Command::Feed
            | Command::Instructions
            | Command::Load
            | Command::Peers
            | Command::Scale
            | Command::Soak { .. }
            | Command::All
    ) {
        load::build_programs();
    }
    if matches!(command, Command::Load | Command::Instructions | Command::All) {
        load::build_plain_server();
    }
    if matches!(command, Command::Cold | Command::Quota | Command::All) {
        cold::build_programs();
    }
    measure::take_own_core();
    for section in sections(&command) {
        section().publish(write);
    }
}

type Measurement = Box<dyn FnOnce() -> Section>;

fn sections(command: &Command) -> Vec<Measurement> {
    match *command {
        Command::Core => vec![Box::new(hot::run)],
        Command::Load => vec![Box::new(load::run)],
        Command::Instructions => vec![Box::new(instructions::run)],
        Command::Peers => vec![Box::new(peers::run)],
        Command::Cold => vec![Box::new(cold::run)],
        Command::Quota => vec![Box::new(quota::run)],
        Command::Scale => vec![Box::new(scale::run)],
        Command::Console => vec![Box::new(console::run)],
        Command::Soak { requests } => vec![Box::new(move || soak::run(requests))],
        Command::Faults => vec![Box::new(faults::run)],
        Command::Feed => vec![Box::new(feed::run)],
        Command::All => vec![
            Box::new(hot::run),
            Box::new(load::run),
            Box::new(cold::run),
            Box::new(quota::run),
            Box::new(scale::run),
            Box::new(|| soak::run(MILLION)),
            Box::new(faults::run),
            Box::new(feed::run),
        ],
    }
}
