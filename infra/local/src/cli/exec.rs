//! A server for one command: free ports, temporary state, and its variables in the environment of the command only.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use acs_identity::console;
use acs_identity::gateway::{Limits, Listeners};
use acs_identity::output::env_file;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::environment;
use super::failure::Failure;
use super::options::Start;
use super::place::Place;
use super::serve;
use super::signals::Signals;

/// The signals that the command receives too.
const FORWARDED: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The exit statuses of shells for a command that cannot be started.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs a command beside a server, and returns the exit status of the command. If the status is not 0, the log of the
/// server goes to standard error.
pub(crate) async fn exec(mut start: Start, command: Vec<OsString>) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen(&FORWARDED).map_err(Failure::other)?;
    console::keep();
    let place = Place::temporary().map_err(Failure::other)?;
    start.ephemeral = !start.dev;
    let (https, http) = (start.https_port.unwrap_or(0), start.http_port.unwrap_or(0));
    let listeners = Listeners::bind(start.listen, https, http).map_err(Failure::other)?;
    let ports = (listeners.https_port, listeners.http_port);
    let (platform, _) = tokio::select! {
        opened = serve::open_with_control(place.directory.clone(), start, ports) => opened?,
        signal = signals.next() => return Ok(ExitCode::from(status_of(signal as i32))),
    };
    let variables = env_file::read(&place.directory).map_err(Failure::other)?.unwrap_or_default();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let (router, tls) = (platform.router.clone(), platform.tls.clone());
    let server = tokio::spawn(listeners.serve(router, tls, Limits::default(), stopped));
    let ready = serve::ready(&platform).map_err(Failure::other)?;
    let mut command = command.into_iter();
    let program = command.next().unwrap_or_default();
    let spawned = Command::new(&program)
        .args(command)
        .envs(variables.iter().map(|(name, value)| (name, value.as_str())))
        .envs(environment::without_proxy())
        // Commands of this program then use this server.
        .env(environment::DATA_DIR, &platform.data_dir)
        .kill_on_drop(true)
        .spawn();
    let status = match spawned {
        Ok(child) => status(wait(child, &mut signals).await.map_err(Failure::other)?),
        Err(error) => {
            let message = format!("error: cannot run {}: {error}\n", program.display());
            // Without standard error, the exit status is all that is left to report.
            let _ = io::stderr().write_all(message.as_bytes());
            if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
        }
    };
    // The files must be at rest when the directory is removed.
    platform.controlled.notices.stop();
    drop(ready);
    drop(stop);
    let _ = server.await;
    if status != 0 {
        let _ = io::stderr().write_all(console::kept().as_bytes());
    }
    place.close().map_err(Failure::other)?;
    Ok(ExitCode::from(status))
}

/// Waits for the command to end. Signals of this process reach the command.
async fn wait(mut child: Child, signals: &mut Signals) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            signal = signals.next() => forward(&child, signal),
        }
    }
}

fn forward(child: &Child, signal: Signal) {
    // A terminal sends its signal to each process in the foreground, so the command has it already.
    let is_from_terminal = signal == Signal::SIGINT && tcgetpgrp(io::stdin()) == Ok(getpgrp());
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()).filter(|_| !is_from_terminal) {
        // The command may have ended at this moment.
        let _ = signal::kill(Pid::from_raw(id), signal);
    }
}

/// The exit status as a shell reports it.
fn status(status: ExitStatus) -> u8 {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.unwrap_or_else(|| status_of(status.signal().unwrap_or_default()))
}

fn status_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
