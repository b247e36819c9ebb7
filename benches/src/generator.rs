//! The load generator. It sends prepared requests again and again over open connections.
//!
//! A tool like `oha` is no replacement, because its clients wait in the kernel (see `stay_awake`).

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet, spawn_local, yield_now};

use crate::measure::{micros, quantile};

/// Requests that are sent in turn, and the status of each reply.
pub struct Work {
    pub requests: Vec<Request<Full<Bytes>>>,
    pub status: StatusCode,
}

/// The end of a run.
#[derive(Clone, Copy)]
pub enum Until {
    Elapsed(Duration),
    Sent(usize),
}

/// The measurements of the clients.
pub struct Seen {
    elapsed: Duration,
    /// Microseconds of each request.
    latencies: Vec<f64>,
}

impl Seen {
    pub fn requests(&self) -> f64 {
        self.latencies.len() as f64
    }

    pub fn per_second(&self) -> f64 {
        self.requests() / self.elapsed.as_secs_f64()
    }

    /// The quantile of the latency, in milliseconds.
    pub fn latency(&self, share: f64) -> f64 {
        quantile(&self.latencies, share) / 1e3
    }
}

/// Sends the work over this number of connections.
pub async fn drive(address: SocketAddr, work: Work, connections: usize, until: Until) -> Seen {
    let work = Rc::new(Run { work, begun: Instant::now(), until, sent: Cell::new(0) });
    let begun = work.begun;
    let local = LocalSet::new();
    let latencies = local.run_until(async {
        let awake = spawn_local(stay_awake());
        let mut clients = JoinSet::new();
        for _ in 0..connections {
            clients.spawn_local(client(address, Rc::clone(&work)));
        }
        let latencies = clients.join_all().await.into_iter().flatten().collect();
        awake.abort();
        latencies
    });
    let latencies = latencies.await;
    Seen { elapsed: begun.elapsed(), latencies }
}

/// Keeps this process from waiting in the kernel. Otherwise the server pays for every wake-up of the client, 30
/// microseconds on a virtual machine, but only if the server is slower than the client.
async fn stay_awake() {
    loop {
        yield_now().await;
    }
}

/// Sends requests one after another and returns the bodies of their replies.
pub async fn ask_all(
    address: SocketAddr,
    requests: Vec<Request<Full<Bytes>>>,
    status: StatusCode,
) -> Vec<Bytes> {
    let local = LocalSet::new();
    let answers = local.run_until(async {
        let mut connection = connect(address).await;
        let mut answers = Vec::new();
        for request in requests {
            if connection.ready().await.is_err() {
                connection = connect(address).await;
            }
            answers.push(answer(&mut connection, request, status).await);
        }
        answers
    });
    answers.await
}

struct Run {
    work: Work,
    begun: Instant,
    until: Until,
    sent: Cell<usize>,
}

impl Run {
    fn next(&self) -> Option<Request<Full<Bytes>>> {
        let sent = self.sent.get();
        let enough = match self.until {
            Until::Elapsed(duration) => self.begun.elapsed() >= duration,
            Until::Sent(count) => sent >= count,
        };
        self.sent.set(sent + 1);
        let turn = self.work.requests.get(sent % self.work.requests.len());
        turn.filter(|_| !enough).cloned()
    }
}

async fn client(address: SocketAddr, run: Rc<Run>) -> Vec<f64> {
    let mut connection = connect(address).await;
    let mut latencies = Vec::new();
    while let Some(request) = run.next() {
        // Some servers close a connection after a number of requests.
        if connection.ready().await.is_err() {
            connection = connect(address).await;
        }
        let sent = Instant::now();
        answer(&mut connection, request, run.work.status).await;
        latencies.push(micros(sent.elapsed()));
    }
    latencies
}

pub async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    spawn_local(connection);
    sender
}

pub async fn answer(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    status: StatusCode,
) -> Bytes {
    connection.ready().await.unwrap();
    let response = connection.send_request(request).await.unwrap();
    let answered = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(answered, status, "{}", String::from_utf8_lossy(&body));
    body
}
