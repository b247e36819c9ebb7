//! The signals of this process.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Signals that the process has subscribed to. It subscribes to them first, so that a signal during the start is not
/// lost.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// The signals that stop a server.
    pub(crate) const STOP: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

    pub(crate) fn listen(signals: &[Signal]) -> io::Result<Self> {
        let subscribe = |signal: &Signal| Ok((*signal, unix::signal(SignalKind::from_raw(*signal as i32))?));
        signals.iter().map(subscribe).collect::<io::Result<_>>().map(Self)
    }

    /// Lets a write beyond the limit of file sizes fail with an error. Otherwise this signal ends the process. The handler
    /// stays when its receiver is dropped.
    pub(crate) fn survive_file_size_limit() -> io::Result<()> {
        Self::listen(&[Signal::SIGXFSZ]).map(drop)
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(*signal);
                }
            }
            Poll::Pending
        })
        .await
    }
}
