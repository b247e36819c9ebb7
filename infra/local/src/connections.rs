//! The open connections of a listener: how they are accepted, which one is closed for the next, and the memory that their
//! unfinished bodies share.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Most open connections, however many files the process may open.
const MAX_CONNECTIONS: u64 = 512;

/// Bytes of all bodies together that are read and not yet answered. A snapshot of the state fits.
const MAX_BODIES: usize = 20 * 1024 * 1024;

/// Longest wait of a body for memory.
const MEMORY_WAIT: Duration = Duration::from_secs(1);

/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest wait for a connection that is asked to close. Then another one is asked too.
const CLOSE_WAIT: Duration = Duration::from_millis(100);

/// Limits for clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time for a TLS handshake, for a request's head and for a request's body. A connection without a request
    /// is closed after this time, or at most twice this time.
    pub idle_timeout: Duration,
    /// Shortest time for which a connection may be idle after a request. It exceeds the time that pools of clients keep a
    /// connection, so a client does not send a request while the server closes.
    pub keep_alive: Duration,
    /// Longest time for requests under way on a connection that is closing.
    pub shutdown_grace: Duration,
    /// Most open connections. For the next one, the connection is closed for whose client the server waits longest.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(90),
            shutdown_grace: Duration::from_secs(5),
            connections: most_connections(),
        }
    }
}

/// Most connections of a listener: half of the files that the process may open. The other half is for the state, the
/// control socket and calls to other servers.
fn most_connections() -> usize {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(MAX_CONNECTIONS, |(soft, _)| soft / 2);
    usize::try_from(files.clamp(1, MAX_CONNECTIONS)).unwrap_or(1)
}

/// The next connection. A failure is followed by a pause. Its likeliest cause is a lack of file descriptors, and a
/// connection that closes frees one.
pub(crate) async fn accept<S>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>) -> S {
    loop {
        match poll_fn(&mut poll).await {
            Ok(connection) => return connection,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The requests on one connection. They are only counted, because waking the connection for each would cost more.
pub(crate) struct Activity {
    /// Requests with an unfinished body.
    reading: AtomicUsize,
    /// Requests that are being answered.
    answering: AtomicUsize,
    /// Requests that began or ended.
    changes: AtomicU64,
    /// The time since which the server waits for the client, in milliseconds after `opened`.
    waiting_since: AtomicU64,
    opened: Instant,
    is_closing: AtomicBool,
    /// Asks the connection to close.
    closing: Notify,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            reading: AtomicUsize::default(),
            answering: AtomicUsize::default(),
            changes: AtomicU64::default(),
            waiting_since: AtomicU64::default(),
            opened: Instant::now(),
            is_closing: AtomicBool::default(),
            closing: Notify::new(),
        })
    }

    fn begin_wait(&self) {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.waiting_since.store(elapsed, Ordering::Relaxed);
    }

    /// Whether the server waits for the client: for a handshake, for a request, or for the rest of a body.
    pub(crate) fn is_waiting(&self) -> bool {
        self.answering.load(Ordering::Relaxed) == 0
    }

    fn waiting_since(&self) -> Instant {
        self.opened + Duration::from_millis(self.waiting_since.load(Ordering::Relaxed))
    }

    fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    /// Waits until the connection is closed for another one.
    pub(crate) async fn closed(&self) {
        self.closing.notified().await;
    }

    /// Waits until the connection had no first request for `first`, and then until it had no request for `between`, or at
    /// most twice as long. An open connection counts against the limit.
    pub(crate) async fn idle(&self, first: Duration, between: Duration) {
        let (mut seen, mut wait) = (0, first);
        loop {
            sleep(wait).await;
            let changes = self.changes.load(Ordering::Relaxed);
            if changes == seen && self.is_waiting() && self.reading.load(Ordering::Relaxed) == 0 {
                return;
            }
            (seen, wait) = (changes, between);
        }
    }
}

/// A request under way, until this is dropped. HTTP/2 has several on one connection.
pub(crate) struct UnderWay {
    activity: Arc<Activity>,
    is_complete: bool,
}

impl UnderWay {
    pub(crate) fn begin(activity: Arc<Activity>) -> Self {
        if activity.reading.fetch_add(1, Ordering::Relaxed) == 0 {
            activity.begin_wait();
        }
        activity.changes.fetch_add(1, Ordering::Relaxed);
        Self { activity, is_complete: false }
    }

    /// The body has arrived. From now on the connection is not closed for another one.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
        self.activity.answering.fetch_add(1, Ordering::Relaxed);
        self.activity.reading.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that the client cancels ends here too.
impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.is_complete {
            self.activity.answering.fetch_sub(1, Ordering::Relaxed);
            self.activity.begin_wait();
        } else {
            self.activity.reading.fetch_sub(1, Ordering::Relaxed);
        }
        self.activity.changes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The open connections, and the memory for their bodies.
pub(crate) struct OpenConnections {
    open: Mutex<Vec<Weak<Activity>>>,
    memory: Semaphore,
}

/// The memory of one body, until this is dropped.
#[derive(Default)]
pub(crate) struct BodyMemory<'a>(Option<SemaphorePermit<'a>>);

impl OpenConnections {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), memory: Semaphore::new(MAX_BODIES) })
    }

    /// Connections whose memory for bodies is used up.
    #[cfg(test)]
    pub(crate) fn without_memory() -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), memory: Semaphore::new(0) })
    }

    fn add(&self) -> Arc<Activity> {
        let activity = Activity::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| open.strong_count() > 0);
        open.push(Arc::downgrade(&activity));
        activity
    }

    /// Closes the connection for whose client the server waits longest.
    fn close_one(&self, may_close: impl Fn(&Activity) -> bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.iter().filter_map(Weak::upgrade);
        let waiting = open.filter(|activity| {
            activity.is_waiting() && !activity.is_closing.load(Ordering::Relaxed) && may_close(activity)
        });
        if let Some(activity) = waiting.min_by_key(|activity| activity.waiting_since()) {
            activity.close();
        }
    }

    /// Takes memory for further bytes of a body. Without free memory, the connection with the oldest unfinished body is
    /// closed. `false` if there is no memory after a short wait.
    pub(crate) async fn extend<'a>(&'a self, body: &mut BodyMemory<'a>, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = if let Ok(permit) = self.memory.try_acquire_many(bytes) {
            permit
        } else {
            self.close_one(|activity| activity.reading.load(Ordering::Relaxed) > 0);
            match timeout(MEMORY_WAIT, self.memory.acquire_many(bytes)).await {
                Ok(Ok(permit)) => permit,
                _ => return false,
            }
        };
        match &mut body.0 {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        true
    }
}

/// The tasks that serve the connections of a listener.
pub(crate) struct Pool {
    tasks: JoinSet<()>,
    pub(crate) open: Arc<OpenConnections>,
    limit: usize,
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self { tasks: JoinSet::new(), open: OpenConnections::new(), limit }
    }

    /// Serves one more connection. At the limit, another connection is closed first.
    pub(crate) async fn serve<F>(&mut self, serve: impl FnOnce(Arc<Activity>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= self.limit {
            self.open.close_one(|_| true);
            let _ = timeout(CLOSE_WAIT, self.tasks.join_next()).await;
        }
        self.tasks.spawn(serve(self.open.add()));
    }

    /// Waits until every connection has ended.
    pub(crate) async fn ended(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn is_closed(activity: &Activity) -> bool {
        timeout(SECOND, activity.closed()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn connection_that_waits_longest_is_closed_for_the_next() {
        let open = OpenConnections::new();
        let [answering, idle, unfinished, new] = [(); 4].map(|()| open.add());
        let mut request = UnderWay::begin(Arc::clone(&answering));
        request.complete();
        advance(SECOND).await;
        let _unfinished = UnderWay::begin(Arc::clone(&unfinished));
        advance(SECOND).await;
        let mut answered = UnderWay::begin(Arc::clone(&idle));
        answered.complete();
        drop(answered);
        for expected in [&new, &unfinished, &idle] {
            open.close_one(|_| true);
            assert!(is_closed(expected).await);
        }
        open.close_one(|_| true);
        assert!(!is_closed(&answering).await, "a request is being answered");
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_unfinished_body_is_dropped_when_memory_is_short() {
        let open = OpenConnections::new();
        let [idle, older, newer] = [(); 3].map(|()| open.add());
        let _older = UnderWay::begin(Arc::clone(&older));
        advance(SECOND).await;
        let _newer = UnderWay::begin(Arc::clone(&newer));
        let (mut first, mut second) = (BodyMemory::default(), BodyMemory::default());
        assert!(open.extend(&mut first, MAX_BODIES - 1).await && open.extend(&mut first, 1).await);
        assert!(!open.extend(&mut second, 1).await, "there is no memory");
        assert!(is_closed(&older).await);
        assert!(!is_closed(&idle).await && !is_closed(&newer).await);
        drop(first);
        assert!(open.extend(&mut second, MAX_BODIES).await);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_accepts_are_followed_by_a_pause() {
        let (mut attempts, began) = (0, Instant::now());
        let accepted = accept(|_| {
            attempts += 1;
            Poll::Ready(if attempts == 3 { Ok(attempts) } else { Err(io::ErrorKind::Other.into()) })
        });
        assert_eq!(accepted.await, 3);
        assert_eq!(began.elapsed(), PAUSE * 2);
    }
}
