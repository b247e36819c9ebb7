//! Measures what the service costs. Every figure stands beside a floor, measured in the same run.
#![expect(clippy::disallowed_methods, reason = "time and chance are what is measured here")]

mod cold;
mod generator;
mod hot;
mod load;
mod measure;
mod programs;
mod raw;
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
    what: What,
    /// Write the tables into docs/performance.md.
    #[arg(long, global = true)]
    write: bool,
}

#[derive(Subcommand)]
enum What {
    /// The hot paths of the core beside the bare cryptography.
    Core,
    /// The local server under load beside an echo server.
    Load,
    /// The Lambda functions from their start on, beside a bare one.
    Cold,
    /// The local server with 1 000, 100 000 and 1 000 000 identities.
    Scale,
    /// The local server's memory over many requests.
    Soak {
        #[arg(long, default_value_t = MILLION)]
        requests: usize,
    },
    /// All of these.
    All,
}

fn main() {
    let Arguments { what, write } = Arguments::parse();
    build(&what);
    measure::take_own_core();
    for section in sections(&what) {
        section().publish(write);
    }
}

fn build(what: &What) {
    if !matches!(what, What::Core | What::Cold) {
        load::build_programs();
    }
    if matches!(what, What::Cold | What::All) {
        cold::build_programs();
    }
}

type Measurement = Box<dyn FnOnce() -> Section>;

fn sections(what: &What) -> Vec<Measurement> {
    match what {
        What::Core => vec![Box::new(hot::run)],
        What::Load => vec![Box::new(load::run)],
        What::Cold => vec![Box::new(cold::run)],
        What::Scale => vec![Box::new(scale::run)],
        What::Soak { requests } => {
            let requests = *requests;
            vec![Box::new(move || soak::run(requests))]
        }
        What::All => {
            let each = [What::Core, What::Load, What::Cold, What::Scale, What::Soak { requests: MILLION }];
            each.iter().flat_map(sections).collect()
        }
    }
}
