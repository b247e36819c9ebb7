//! Measures what the service costs. Every figure stands beside a floor, measured in the same run.
#![expect(clippy::disallowed_methods, reason = "time and chance are what is measured here")]

mod hot;
mod measure;
mod raw;
mod report;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Write the tables into docs/performance.md.
    #[arg(long, global = true)]
    write: bool,
}

#[derive(Subcommand)]
enum What {
    /// The hot paths of the core beside the bare cryptography.
    Core,
}

fn main() {
    let Arguments { what, write } = Arguments::parse();
    measure::take_own_core();
    match what {
        What::Core => hot::run().publish(write),
    }
}
