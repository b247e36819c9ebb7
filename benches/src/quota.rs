//! The first answer of the Lambda functions with the share of a processor that Lambda grants at a memory size.
//!
//! Lambda does not limit the processor before the first poll. After it, 1,769 MB of memory grant one core. The calls to
//! AWS use TLS, because a handshake is a large part of a first call.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cold::Started;
use crate::events::{Event, Resource};
use crate::measure::{median, millis};
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

    /// Limits a process from now on.
    fn limit(&self, child: &Child) {
        fs::write(self.0.join("cgroup.procs"), child.id().to_string()).unwrap();
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
        let resource = Resource::new().await;
        let aws = TlsAws::start(&resource.aws).await;
        match MEMORY
            .into_iter()
            .map(|memory| Ok((memory, Share::new(memory)?)))
            .collect::<io::Result<Vec<_>>>()
        {
            Ok(shares) => section.add(&table(&resource, &aws, &shares).await),
            Err(error) => section.add(&format!("Not measured: the control group cannot be made ({error}).")),
        }
        section
    })
}

async fn table(resource: &Resource, aws: &TlsAws, shares: &[(u32, Share)]) -> Table {
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
    let mut started = Started::new(binary, &aws.environment()).await;
    share.limit(&started.child);
    if matches!(first, First::AfterStop) {
        let pid = Pid::from_raw(started.child.id().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        tokio::time::sleep(STOPPED).await;
        kill(pid, Signal::SIGCONT).unwrap();
    }
    let to_poll = millis(started.to_poll);
    (to_poll, millis(started.invoke(event, bytes).await))
}
