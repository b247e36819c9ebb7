//! The first answer and the warm answers of the Lambda functions, with the share of a processor that Lambda grants at a
//! memory size.
//!
//! Lambda does not limit the processor before the first poll. After it, 1,769 MB of memory grant one core. The calls to
//! AWS use TLS, because a handshake is a large part of a first call.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use identity::keys::Algorithm;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cold::Started;
use crate::events::{Event, Resource};
use crate::measure::{median, millis, quantile};
use crate::report::{Section, Table, figure};
use crate::stubs::TlsAws;

/// Starts of each function in each way.
const STARTS: usize = 9;

/// The sizes of memory, in MB.
const MEMORY: [u32; 2] = [256, 512];

/// The memory that grants one core, in MB.
const MEMORY_OF_ONE_CORE: f64 = 1769.0;

/// The period of the quota, in microseconds.
const PERIOD: u32 = 20_000;

/// How long a stopped environment waits for its first event. It is longer than the timeout of a call to AWS.
const STOPPED: Duration = Duration::from_millis(1500);

const SUBJECTS: [(&str, Event); 5] = [
    ("user", Event::CreateWithToken),
    ("token", Event::Issue),
    ("revoke", Event::Revoke),
    ("introspect", Event::Introspect),
    ("authorizer", Event::Authorize),
];

/// Operations whose warm answers are measured with both algorithms.
const WARM: [(&str, Event); 3] =
    [("token", Event::Issue), ("introspect", Event::Introspect), ("authorizer", Event::Authorize)];

/// Answers of a warm environment, after as many that are not counted.
const ANSWERS: usize = 50;

/// The pause before an event of a warm environment. It is longer than a period, so the share of the processor is unused.
const PAUSE: Duration = Duration::from_millis(50);

/// List prices of us-east-1 in USD (docs/deploy.md): a GB second on arm64, and a million requests.
const GB_SECOND: f64 = 0.000_013_333_4;
const MILLION_REQUESTS: f64 = 0.20;

/// A control group with a limited share of one core.
struct Share(PathBuf);

impl Share {
    /// Makes the group. This needs the rights of root.
    fn new(memory: u32) -> io::Result<Self> {
        let quota = (f64::from(memory) / MEMORY_OF_ONE_CORE * f64::from(PERIOD)).round();
        let name = format!("acs-identity-{memory}");
        // The first form is the second version of the kernel's interface.
        let unified = PathBuf::from("/sys/fs/cgroup").join(&name);
        if PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists() {
            fs::create_dir_all(&unified)?;
            fs::write(unified.join("cpu.max"), format!("{quota} {PERIOD}"))?;
            return Ok(Self(unified));
        }
        let group = PathBuf::from("/sys/fs/cgroup/cpu").join(&name);
        fs::create_dir_all(&group)?;
        fs::write(group.join("cpu.cfs_period_us"), PERIOD.to_string())?;
        fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
        Ok(Self(group))
    }

    /// Starts a function, and limits it from its first poll on.
    async fn start(&self, binary: &str, aws: &TlsAws) -> Started {
        let started = Started::new(binary, &aws.environment()).await;
        fs::write(self.0.join("cgroup.procs"), started.child.id().to_string()).unwrap();
        started
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The first event of an environment.
#[derive(Clone, Copy)]
enum First {
    /// The event waits while the environment starts.
    AtOnce,
    /// The environment was started in advance, and Lambda stopped it at its first poll.
    AfterStop,
}

pub fn run() -> Section {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut section = Section::begin("quota");
        let shares = MEMORY.into_iter().map(|memory| Ok((memory, Share::new(memory)?)));
        match shares.collect::<io::Result<Vec<_>>>() {
            Ok(shares) => {
                let resource = Resource::new(Algorithm::Rs256).await;
                let aws = TlsAws::start(&resource.aws).await;
                section.add(&first_answers(&resource, &aws, &shares).await);
                section.add(&warm_answers(&shares).await);
            }
            Err(error) => section.add(&format!("Not measured: the control group cannot be made ({error}).")),
        }
        section
    })
}

async fn first_answers(resource: &Resource, aws: &TlsAws, shares: &[(u32, Share)]) -> Table {
    let mut table = Table::new(&[
        "function",
        "memory, MB",
        "start to first poll, ms",
        "event at once: to its answer, ms",
        "sum, ms",
        "event after a stop: to its answer, ms",
    ]);
    for (binary, event) in SUBJECTS {
        for (memory, share) in shares {
            let (mut polls, mut at_once, mut sums, mut after_stop) = (vec![], vec![], vec![], vec![]);
            for _ in 0..STARTS {
                let (poll, answer) = first_answer(resource, aws, binary, event, share, First::AtOnce).await;
                polls.push(poll);
                at_once.push(answer);
                sums.push(poll + answer);
                after_stop.push(first_answer(resource, aws, binary, event, share, First::AfterStop).await.1);
            }
            table.row([
                binary.to_owned(),
                memory.to_string(),
                figure(median(&polls)),
                figure(median(&at_once)),
                figure(median(&sums)),
                figure(median(&after_stop)),
            ]);
        }
    }
    table
}

/// The time of warm answers and what Lambda bills for it, which is whole milliseconds.
async fn warm_answers(shares: &[(u32, Share)]) -> Table {
    let mut table = Table::new(&[
        "function",
        "keys",
        "memory, MB",
        "answer p50, ms",
        "answer p99, ms",
        "billed, ms",
        "USD a million, compute",
        "USD a million, with requests",
    ]);
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let resource = Resource::new(algorithm).await;
        let aws = TlsAws::start(&resource.aws).await;
        for (binary, event) in WARM {
            for (memory, share) in shares {
                let times = warm_times(&resource, &aws, binary, event, share).await;
                let billed = times.iter().map(|time| time.ceil()).sum::<f64>() / ANSWERS as f64;
                let compute = billed * 1e3 * f64::from(*memory) / 1024.0 * GB_SECOND;
                table.row([
                    binary.to_owned(),
                    algorithm.as_str().to_owned(),
                    memory.to_string(),
                    figure(median(&times)),
                    figure(quantile(&times, 0.99)),
                    figure(billed),
                    figure(compute),
                    figure(compute + MILLION_REQUESTS),
                ]);
            }
        }
    }
    table
}

/// Milliseconds from each event to its answer.
async fn warm_times(
    resource: &Resource,
    aws: &TlsAws,
    binary: &str,
    event: Event,
    share: &Share,
) -> Vec<f64> {
    let bytes = resource.event(event).await;
    let mut started = share.start(binary, aws).await;
    let mut times = Vec::new();
    for _ in 0..2 * ANSWERS {
        tokio::time::sleep(PAUSE).await;
        times.push(millis(started.invoke(event, bytes.clone()).await));
    }
    times.split_off(ANSWERS)
}

/// Milliseconds from the start to the first poll, and from the first event to its answer.
async fn first_answer(
    resource: &Resource,
    aws: &TlsAws,
    binary: &str,
    event: Event,
    share: &Share,
    first: First,
) -> (f64, f64) {
    let bytes = resource.event(event).await;
    let mut started = share.start(binary, aws).await;
    if matches!(first, First::AfterStop) {
        let pid = Pid::from_raw(started.child.id().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        tokio::time::sleep(STOPPED).await;
        kill(pid, Signal::SIGCONT).unwrap();
    }
    let to_poll = millis(started.to_poll);
    (to_poll, millis(started.invoke(event, bytes).await))
}
