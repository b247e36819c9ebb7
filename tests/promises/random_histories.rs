//! Random histories: the runner, and the ports in which faults are planned.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports};
use identity::memory::{self, Memory};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The implementation of the ports.
pub(crate) enum Backend {
    Embedded(Embedded),
    Memory(Arc<Memory>),
}

impl Backend {
    /// New ports: embedded services behind the adapters, or the ports in memory.
    pub(crate) async fn open(embedded: bool, seed: u64) -> (Ports, Self) {
        if embedded {
            let (ports, embedded) = Ports::embedded(seed).await;
            (ports, Self::Embedded(embedded))
        } else {
            let (ports, memory) = Ports::memory();
            (ports, Self::Memory(memory))
        }
    }

    /// Plans the faults of the next calls to the table.
    pub(crate) fn plan(&self, faults: &[Fault]) {
        match self {
            Self::Embedded(embedded) => embedded.dynamodb.plan_next(faults.iter().copied()),
            Self::Memory(memory) => memory.plan(faults.iter().copied().map(in_memory)),
        }
    }

    /// Plans the faults of the next calls to the table and to the secrets. The next call of either takes the next fault.
    pub(crate) fn plan_both(&self, faults: Vec<Fault>) {
        match self {
            Self::Embedded(services) => {
                let faults = Arc::new(Mutex::new(VecDeque::from(faults)));
                for client in [&services.dynamodb, &services.secrets] {
                    let faults = Arc::clone(&faults);
                    client.plan(move |_| faults.lock().unwrap().pop_front());
                }
            }
            Self::Memory(_) => self.plan(&faults),
        }
    }

    /// Delivers the late writes to the table and to the secrets.
    pub(crate) async fn deliver_late_to_both(&self) {
        if let Self::Embedded(services) = self {
            services.dynamodb.deliver_late().await;
            services.secrets.deliver_late().await;
        } else {
            self.deliver_late().await;
        }
    }

    /// Delivers the late writes to the table.
    pub(crate) async fn deliver_late(&self) {
        match self {
            Self::Embedded(embedded) => embedded.dynamodb.deliver_late().await,
            Self::Memory(memory) => memory.deliver_delayed(),
        }
    }
}

/// The fault of the ports in memory that stands for a fault of a service.
fn in_memory(fault: Fault) -> Option<memory::Fault> {
    match fault {
        Fault::BreakAfter | Fault::SilentAfter => Some(memory::Fault::After),
        Fault::Late => Some(memory::Fault::Delayed),
        Fault::Unprocessed => None,
        // The other faults have no effect before the error.
        _ => Some(memory::Fault::Before),
    }
}

/// Runs `test` with a seed and a history of fewer than `length` steps, `cases` times. The fixed seed of the runner gives
/// the same failure on every machine. The failing history is printed.
pub(crate) fn run<S: Clone + Debug + 'static>(
    cases: u32,
    length: usize,
    step: impl Strategy<Value = S>,
    test: impl AsyncFn(u64, &[S]),
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let history = (any::<u64>(), prop::collection::vec(step, 1..length));
    let outcome = runner.run(&history, |(seed, steps)| {
        runtime.block_on(test(seed, &steps));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
