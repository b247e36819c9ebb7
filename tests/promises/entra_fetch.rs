//! Limits of a fetch from an Entra issuer: time, size, redirects and trust. The servers of these tests write HTTP/1.1 over
//! TLS by hand, with and without errors.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use functions::entra_http::HttpsFetch;
use functions::system::System;
use identity::authn::entra::{FETCH_DEADLINE, Fetch as _, FetchError, MAX_DOCUMENT};
use identity::runtime::Clock as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The behaviour of a server after it has read a request.
#[derive(Clone)]
enum Behaviour {
    /// Writes these bytes, then reads the next request.
    Replies(Vec<u8>),
    /// Writes `first`, then the same piece without end, with pauses.
    NeverEnds { first: &'static str, piece: Vec<u8>, pause: Duration },
    /// Closes the connection.
    Closes,
    /// Keeps the connection open without a reply.
    Waits,
}

struct Server {
    port: u16,
    authority: PathBuf,
    requests: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

/// More bytes than the socket buffers of a loopback connection hold, and far fewer than 100 MB.
const MORE_THAN_BUFFERS: usize = 16 * 1024 * 1024;

impl Server {
    async fn start(test: &str, behaviour: Behaviour) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("entra-fetch-{test}"));
        std::fs::create_dir_all(&directory).unwrap();
        let mut tls =
            acs_identity::certificates::server_config(&directory, &[], System::new().now()).unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, written) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let server = Self { port, authority: directory.join("ca.pem"), requests, written };
        let (requests, written) = (server.requests.clone(), server.written.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, behaviour) = (acceptor.clone(), behaviour.clone());
                let (requests, written) = (requests.clone(), written.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    while read_head(&mut stream).await {
                        requests.fetch_add(1, Ordering::SeqCst);
                        if !reply(&mut stream, &behaviour, &written).await {
                            break;
                        }
                    }
                    // An error means that the client has closed the connection.
                    let _ = stream.shutdown().await;
                });
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/keys", self.port)
    }

    fn fetch(&self) -> HttpsFetch {
        HttpsFetch::with_root(&std::fs::read(&self.authority).unwrap())
    }

    async fn get(&self) -> Result<Vec<u8>, FetchError> {
        self.fetch().get(&self.url()).await
    }
}

/// Reads the head of a request. `false` if the connection ends before it.
async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// Carries out the behaviour. `false` if the connection is to be closed.
async fn reply(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    behaviour: &Behaviour,
    written: &AtomicUsize,
) -> bool {
    match behaviour {
        Behaviour::Replies(text) => stream.write_all(text).await.is_ok(),
        Behaviour::NeverEnds { first, piece, pause } => {
            let mut next = first.as_bytes();
            while stream.write_all(next).await.is_ok() && stream.flush().await.is_ok() {
                written.fetch_add(next.len(), Ordering::SeqCst);
                next = piece;
                tokio::time::sleep(*pause).await;
            }
            false
        }
        Behaviour::Closes => false,
        Behaviour::Waits => std::future::pending().await,
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Behaviour {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    Behaviour::Replies([head.as_bytes(), body].concat())
}

#[tokio::test]
async fn documents_are_fetched_up_to_the_limit() {
    let server = Server::start("good", answer("200 OK", "", b"{}")).await;
    let fetch = server.fetch();
    for _ in 0..3 {
        assert_eq!(fetch.get(&server.url()).await, Ok(b"{}".to_vec()));
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 3);
    let longest = vec![b'x'; MAX_DOCUMENT];
    let server = Server::start("longest", answer("200 OK", "", &longest)).await;
    assert_eq!(server.get().await, Ok(longest));
    let server = Server::start("too-long", answer("200 OK", "", &vec![b'x'; MAX_DOCUMENT + 1])).await;
    assert_eq!(server.get().await, Err(FetchError::TooLarge));
    // The content of the document is checked elsewhere.
    let html = "content-type: text/html\r\ncontent-encoding: gzip\r\n";
    let server = Server::start("html", answer("200 OK", html, b"<html>")).await;
    assert_eq!(server.get().await, Ok(b"<html>".to_vec()));
}

#[tokio::test]
async fn other_statuses_than_200_are_errors() {
    for (status, expected) in [
        ("201 Created", FetchError::Status(201)),
        ("206 Partial Content", FetchError::Status(206)),
        ("400 Bad Request", FetchError::Status(400)),
        ("404 Not Found", FetchError::Status(404)),
        ("429 Too Many Requests", FetchError::Status(429)),
        ("500 Internal Server Error", FetchError::Status(500)),
        ("503 Service Unavailable", FetchError::Status(503)),
    ] {
        let server = Server::start("status", answer(status, "", b"{}")).await;
        assert_eq!(server.get().await, Err(expected));
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = Server::start("target", answer("200 OK", "", b"{}")).await;
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Moved"]
    {
        for location in [target.url(), "/elsewhere".to_owned(), "http://169.254.169.254/".to_owned()] {
            let location = format!("location: {location}\r\n");
            let server = Server::start("redirect", answer(status, &location, b"")).await;
            assert_eq!(server.get().await, Err(FetchError::Redirect));
            assert_eq!(server.requests.load(Ordering::SeqCst), 1, "{status}");
        }
    }
    assert_eq!(target.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn reading_stops_at_the_size_limit() {
    let bodies = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n", vec![b'x'; 16 * 1024]),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", vec![b'x'; 16 * 1024]),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            [&b"4000\r\n"[..], &[b'x'; 16 * 1024], b"\r\n"].concat(),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            [&b"40\r\n"[..], &[b'x'; 64], b"\r\n"].concat().repeat(64),
        ),
    ];
    for (n, (first, piece)) in bodies.into_iter().enumerate() {
        let behaviour = Behaviour::NeverEnds { first, piece, pause: Duration::ZERO };
        let server = Server::start(&format!("endless-{n}"), behaviour).await;
        assert_eq!(server.get().await, Err(FetchError::TooLarge));
        let written = server.written.load(Ordering::SeqCst);
        assert!(written < MORE_THAN_BUFFERS, "the client read on: {written} bytes");
    }
    // A head without an end is a failed connection.
    let first = "HTTP/1.1 200 OK\r\n";
    let behaviour = Behaviour::NeverEnds { first, piece: b"a: b\r\n".repeat(1024), pause: Duration::ZERO };
    let server = Server::start("endless-head", behaviour).await;
    assert_eq!(server.get().await, Err(FetchError::Connection));
}

#[tokio::test]
async fn a_fetch_ends_at_the_deadline() {
    let slow =
        |first| Behaviour::NeverEnds { first, piece: b"x".to_vec(), pause: Duration::from_millis(200) };
    let cases = [
        ("waits", Behaviour::Waits),
        ("slow-body", slow("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")),
        ("slow-head", slow("HTTP/1.1 200 OK\r\nx: ")),
        ("slow-status", slow("HTTP/1.1 200 O")),
    ];
    let fetches = cases.map(|(test, behaviour)| {
        tokio::spawn(async move {
            let server = Server::start(test, behaviour).await;
            let began = began();
            assert_eq!(server.get().await, Err(FetchError::Timeout), "{test}");
            began.elapsed()
        })
    });
    for fetch in fetches {
        let taken = fetch.await.unwrap();
        assert!(taken >= FETCH_DEADLINE && taken < FETCH_DEADLINE * 2, "{taken:?}");
    }
    // A server that does not answer the TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    assert_eq!(HttpsFetch::new().get(&url).await, Err(FetchError::Timeout));
}

#[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
fn began() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn broken_connections_are_errors() {
    for (test, behaviour) in [
        ("closes", Behaviour::Closes),
        ("garbage", Behaviour::Replies(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())),
        ("two-lengths", answer("200 OK", "content-length: 7\r\n", b"{}")),
    ] {
        let server = Server::start(test, behaviour).await;
        assert_eq!(server.get().await, Err(FetchError::Connection), "{test}");
    }
    // A port without a server.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    drop(listener);
    assert_eq!(HttpsFetch::new().get(&url).await, Err(FetchError::Connection));
}

#[tokio::test]
async fn only_https_urls_are_fetched() {
    let server = Server::start("urls", answer("200 OK", "", b"{}")).await;
    let fetch = server.fetch();
    for url in [
        server.url().replace("https", "http"),
        server.url().replace("https", "HTTPS"),
        server.url().replace("https:", ""),
        "file:///etc/passwd".to_owned(),
        "https://local host/".to_owned(),
        String::new(),
    ] {
        assert_eq!(fetch.get(&url).await, Err(FetchError::Url), "{url}");
    }
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
}

/// The second run of the test finds the URL of the server of the first run in this variable.
const URL: &str = "ENTRA_FETCH_TEST_URL";

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the roots come only from the environment")]
async fn untrusted_roots_are_refused_unless_the_environment_names_them() {
    if let Ok(url) = std::env::var(URL) {
        assert_eq!(HttpsFetch::new().get(&url).await, Ok(b"{}".to_vec()));
        return;
    }
    let server = Server::start("roots", answer("200 OK", "", b"{}")).await;
    assert_eq!(HttpsFetch::new().get(&server.url()).await, Err(FetchError::Connection));
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
    let other_name = server.url().replace("localhost", "127.0.0.2");
    assert_eq!(server.fetch().get(&other_name).await, Err(FetchError::Connection));
    let (url, authority) = (server.url(), server.authority.clone());
    let run = tokio::task::spawn_blocking(move || {
        let test = "entra_fetch::untrusted_roots_are_refused_unless_the_environment_names_them";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(URL, url).env("SSL_CERT_FILE", authority);
        command.output().unwrap()
    });
    let run = run.await.unwrap();
    let output = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && output.contains("1 passed"), "{output}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}
