//! What a fetch from an Entra issuer may cost, whatever the other end does. The servers here speak HTTP/1.1
//! over TLS by hand, and are not polite.

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

/// What a server does once it has read a request.
#[derive(Clone)]
enum Conduct {
    /// Writes this, then ends the connection.
    Says(Vec<u8>),
    /// Writes this, then the same piece for ever, with pauses.
    GoesOn { first: &'static str, piece: Vec<u8>, pause: Duration },
    /// Ends the connection at once.
    HangsUp,
    /// Says nothing.
    Waits,
}

struct Server {
    port: u16,
    authority: PathBuf,
    requests: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
}

/// More than sockets buffer on both sides of a loopback connection, and far less than 100 MB.
const PLENTY: usize = 16 * 1024 * 1024;

impl Server {
    async fn start(test: &str, conduct: Conduct) -> Self {
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
                let (acceptor, conduct) = (acceptor.clone(), conduct.clone());
                let (requests, written) = (requests.clone(), written.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(socket).await else { return };
                    while read_head(&mut stream).await {
                        requests.fetch_add(1, Ordering::SeqCst);
                        if !act(&mut stream, &conduct, &written).await {
                            break;
                        }
                    }
                    // The client may be gone already.
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

/// Reads one request's head. Whether there was one.
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

/// Whether the connection can go on.
async fn act(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    conduct: &Conduct,
    written: &AtomicUsize,
) -> bool {
    match conduct {
        Conduct::Says(text) => stream.write_all(text).await.is_ok(),
        Conduct::GoesOn { first, piece, pause } => {
            let mut next = first.as_bytes();
            while stream.write_all(next).await.is_ok() && stream.flush().await.is_ok() {
                written.fetch_add(next.len(), Ordering::SeqCst);
                next = piece;
                tokio::time::sleep(*pause).await;
            }
            false
        }
        Conduct::HangsUp => false,
        Conduct::Waits => std::future::pending().await,
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Conduct {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    Conduct::Says([head.as_bytes(), body].concat())
}

#[tokio::test]
async fn a_document_is_fetched_up_to_the_limit() {
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
    // What it says is not decision here.
    let html = "content-type: text/html\r\ncontent-encoding: gzip\r\n";
    let server = Server::start("html", answer("200 OK", html, b"<html>")).await;
    assert_eq!(server.get().await, Ok(b"<html>".to_vec()));
}

#[tokio::test]
async fn only_status_200_is_a_document() {
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
async fn no_more_is_read_than_a_document_may_have() {
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
        let conduct = Conduct::GoesOn { first, piece, pause: Duration::ZERO };
        let server = Server::start(&format!("endless-{n}"), conduct).await;
        assert_eq!(server.get().await, Err(FetchError::TooLarge));
        let written = server.written.load(Ordering::SeqCst);
        assert!(written < PLENTY, "the rest lies in the sockets' buffers: {written}");
    }
    // A head without end is a broken connection.
    let first = "HTTP/1.1 200 OK\r\n";
    let conduct = Conduct::GoesOn { first, piece: b"a: b\r\n".repeat(1024), pause: Duration::ZERO };
    let server = Server::start("endless-head", conduct).await;
    assert_eq!(server.get().await, Err(FetchError::Connection));
}

#[tokio::test]
async fn a_fetch_ends_in_time() {
    let slow = |first| Conduct::GoesOn { first, piece: b"x".to_vec(), pause: Duration::from_millis(200) };
    let cases = [
        ("waits", Conduct::Waits),
        ("slow-body", slow("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")),
        ("slow-head", slow("HTTP/1.1 200 OK\r\nx: ")),
        ("slow-status", slow("HTTP/1.1 200 O")),
    ];
    let fetches = cases.map(|(test, conduct)| {
        tokio::spawn(async move {
            let server = Server::start(test, conduct).await;
            let began = began();
            assert_eq!(server.get().await, Err(FetchError::Timeout), "{test}");
            began.elapsed()
        })
    });
    for fetch in fetches {
        let taken = fetch.await.unwrap();
        assert!(taken >= FETCH_DEADLINE && taken < FETCH_DEADLINE * 2, "{taken:?}");
    }
    // A server that does not even shake hands.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    assert_eq!(HttpsFetch::new().get(&url).await, Err(FetchError::Timeout));
}

#[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
fn began() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn a_broken_connection_is_no_document() {
    for (test, conduct) in [
        ("hangs-up", Conduct::HangsUp),
        ("garbage", Conduct::Says(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())),
        ("two-lengths", answer("200 OK", "content-length: 7\r\n", b"{}")),
    ] {
        let server = Server::start(test, conduct).await;
        assert_eq!(server.get().await, Err(FetchError::Connection), "{test}");
    }
    // Nobody there any more.
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

/// Where a second run of this test finds the first one's server.
const URL: &str = "ENTRA_FETCH_TEST_URL";

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the roots come from the environment; nothing else hands them in"
)]
async fn only_trusted_roots_count_and_the_environment_may_name_them() {
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
        let test = "entra_fetch::only_trusted_roots_count_and_the_environment_may_name_them";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env(URL, url).env("SSL_CERT_FILE", authority);
        command.output().unwrap()
    });
    let run = run.await.unwrap();
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}
