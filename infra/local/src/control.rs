//! The control socket: a command line sends commands through it to the running server, because only one process may
//! open the state.
//!
//! It is a Unix socket in the state directory, and only its owner can use it. A command is one line of JSON:
//! `{"invoke":<event of rotate-keys>}`, `{"inspect":"<token>"}`, `"identities"` or `"keys"`. The answer is one line: `{"ok":...}` or
//! `{"error":"..."}`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connections;
use crate::files::{self, FileError};
use crate::listing;
use crate::output::token_page;
use crate::platform::Platform;
use crate::replacement::replace_keys;
use identity::error_chain::error_chain;

/// A command for the running server. No `Debug`: it may hold a token.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Handles an event for the function `rotate-keys`.
    Invoke(Value),
    /// Verifies a token.
    Inspect(String),
    /// Lists the identities.
    Identities,
    /// Lists the keys in force.
    Keys,
}

/// The server's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Ok(Value),
    Error(String),
}

/// The command did not reach a server, or the server refused it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no server is running on {}; start one, or name its state directory with --data-dir", .0.display())]
    NotRunning(PathBuf),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot use the control socket {}: {source}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("the path {} is too long for a socket; choose a --data-dir with a shorter path, or a shorter TMPDIR if the directory is a temporary one", .0.display())]
    LongPath(PathBuf),
    #[error(
        "the command has {0} bytes, and the server takes at most {MAX_COMMAND}; check the text of the token"
    )]
    TooLong(usize),
    #[error("{0}")]
    Refused(String),
}

/// Longest command, in bytes.
const MAX_COMMAND: u64 = 16 * 1024;

/// Longest wait for a command on an open connection, and for a client that takes the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most open connections. The next ones wait.
const MAX_CLIENTS: usize = 16;

fn socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// Listens in the state directory. A socket that a killed server left is replaced, because the lock of the state
/// keeps out other servers.
///
/// # Errors
/// [`ControlError`], also when the path is longer than a socket path may be (107 bytes; 103 on macOS).
pub fn bind(dir: &Path) -> Result<UnixListener, ControlError> {
    let path = socket(dir);
    files::remove(&path)?;
    let listen = || {
        let listener = UnixListener::bind(&path)?;
        // The directory may be open to other users. No connection is answered before this call.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::InvalidInput => ControlError::LongPath(path.clone()),
        _ => ControlError::Socket { path: path.clone(), source },
    })
}

/// Answers commands. This future never completes.
pub async fn serve(listener: UnixListener, platform: Arc<Platform>) {
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let client = Arc::clone(&clients).acquire_owned().await;
        let (stream, _) = connections::accept(|context| listener.poll_accept(context)).await;
        let platform = Arc::clone(&platform);
        tokio::spawn(async move {
            // A broken connection needs no answer.
            let _ = serve_connection(stream, &platform).await;
            drop(client);
        });
    }
}

async fn serve_connection(stream: UnixStream, platform: &Platform) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut line = String::new();
    let mut reading = BufReader::new(reading.take(MAX_COMMAND));
    timeout(CLIENT_TIMEOUT, reading.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(command) => execute(command, platform).await,
        Err(_) => {
            Answer::Error("the server does not support this command; restart it with this version".to_owned())
        }
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    timeout(CLIENT_TIMEOUT, writing.write_all(&text)).await?
}

async fn execute(command: Command, platform: &Platform) -> Answer {
    let outcome = match command {
        Command::Inspect(token) => Ok(token_page::verdict(&platform.verifier.verify(&token).await)),
        Command::Identities => listing::identities(&platform.database)
            .map(|identities| json!(identities))
            .map_err(|error| error_chain(&error)),
        Command::Keys => platform.rotate_keys.keys().await.map_err(|error| error_chain(&error)),
        Command::Invoke(event) => replace_keys(platform, [event]).await.map_err(|error| error_chain(&error)),
    };
    outcome.map_or_else(Answer::Error, Answer::Ok)
}

/// Whether a server runs on a state directory. The socket of a killed server accepts no connection.
#[must_use]
pub fn is_running(dir: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket(dir)).is_ok()
}

/// Sends a command to the server that runs on a state directory.
///
/// # Errors
/// [`ControlError`].
pub async fn send(dir: &Path, command: &Command) -> Result<Value, ControlError> {
    let path = socket(dir);
    let fault = |source: io::Error| ControlError::Socket { path: path.clone(), source };
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(ControlError::NotRunning(dir.to_owned()));
        }
        Err(error) => return Err(fault(error)),
    };
    let mut line = serde_json::to_vec(command).map_err(|error| fault(error.into()))?;
    line.push(b'\n');
    if line.len() as u64 > MAX_COMMAND {
        return Err(ControlError::TooLong(line.len()));
    }
    stream.write_all(&line).await.map_err(fault)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(fault)?;
    match serde_json::from_str(&answer).map_err(|error| fault(error.into()))? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(message) => Err(ControlError::Refused(message)),
    }
}
