//! Clocks, cores and medians. The main figure is CPU time, because other work on the machine changes the wall time.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::ClockId;
use nix::unistd::Pid;

/// The core of the measured program.
const MEASURED: usize = 0;
/// The core of this process.
const MEASURING: usize = 1;

/// The CPU time of all threads of one process, in nanoseconds.
#[derive(Clone, Copy)]
pub struct CpuClock(ClockId);

impl CpuClock {
    /// The clock of this process.
    pub const OWN: Self = Self(ClockId::CLOCK_PROCESS_CPUTIME_ID);

    /// The clock of a running child.
    pub fn of(child: &Child) -> Self {
        Self(ClockId::pid_cpu_clock_id(Pid::from_raw(child.id().cast_signed())).unwrap())
    }

    /// The CPU time so far.
    pub fn read(self) -> Duration {
        self.0.now().unwrap().into()
    }
}

/// Keeps this process and its children on its core.
pub fn take_own_core() {
    pin(MEASURING);
}

/// Starts a program on the other core. A child inherits the core of the thread that starts it.
pub fn spawn_on_other_core(command: &mut Command) -> Child {
    pin(MEASURED);
    let child = command.spawn();
    pin(MEASURING);
    child.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

/// On a machine with one core this fails, and all programs share the core.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    let _ = cores.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cores));
}

/// Microseconds of CPU time of this process for one of `count` operations.
pub fn own_cpu_of(count: u32, operations: impl FnOnce()) -> f64 {
    let before = CpuClock::OWN.read();
    operations();
    micros(CpuClock::OWN.read() - before) / f64::from(count)
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of the values lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// One figure of `/proc/<pid>/status`, in MB: `VmRSS` (resident now) or `VmHWM` (maximum so far).
pub fn memory(child: &Child, figure: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
    let kilobytes: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().unwrap();
    kilobytes / 1024.0
}

/// The load of the machine from other processes.
pub struct Bystanders {
    machine: f64,
    own: f64,
    at: std::time::Instant,
}

/// The kernel counts in hundredths of a second.
const TICKS: f64 = 100.0;

impl Bystanders {
    pub fn watch() -> Self {
        Self { machine: busy_of_machine(), own: busy_of_own(), at: std::time::Instant::now() }
    }

    /// The cores that other processes kept busy since `watch`, on average. A child counts as own work after its end.
    pub fn cores(&self) -> f64 {
        let others = (busy_of_machine() - self.machine) - (busy_of_own() - self.own);
        others.max(0.0) / self.at.elapsed().as_secs_f64()
    }
}

fn busy_of_machine() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<f64> = stat.lines().next().unwrap().split_whitespace().skip(1).map(parsed).collect();
    // user, nice, system, then idle and waiting, then interrupts.
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    (ticks.iter().take(8).sum::<f64>() - idle) / TICKS
}

fn busy_of_own() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    // utime, stime, cutime, cstime.
    fields.split_whitespace().skip(11).take(4).map(parsed).sum::<f64>() / TICKS
}

fn parsed(text: &str) -> f64 {
    text.parse().unwrap()
}
