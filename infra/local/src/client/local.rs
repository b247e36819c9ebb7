//! The running local server, as its state directory describes it, and the choice between it and other endpoints.

use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use super::Client;
use super::connection::{Connection, ConnectionError, Endpoint};
use crate::control::ControlError;
use crate::files;
use crate::output::{env_file, environment};
use crate::ready;

/// There is no endpoint to call.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    NotRunning(#[from] ControlError),
    #[error("{origin}: {source}")]
    Connection { origin: String, source: ConnectionError },
}

/// The URL of an endpoint, such as `https`, of the server on a state directory.
///
/// # Errors
/// [`ControlError`] when no server is running there.
pub fn endpoint(data_dir: &Path, name: &str) -> Result<Option<String>, ControlError> {
    let text = files::read(&ready::path(data_dir))?;
    let ready = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let ready = ready.ok_or_else(|| ControlError::NotRunning(data_dir.to_owned()))?;
    let endpoint = ready.pointer(&format!("/endpoints/{name}"));
    Ok(endpoint.and_then(Value::as_str).map(str::to_owned))
}

/// A client for a connection string. Without one, a client for the running server. `origin` names the option or the
/// variable with the connection string.
///
/// # Errors
/// [`EndpointError`].
pub fn client(given: Option<(String, Zeroizing<String>)>, data_dir: &Path) -> Result<Client, EndpointError> {
    let https = endpoint(data_dir, "https");
    let (origin, text) = match given {
        Some(given) => given,
        None => {
            https.as_ref().map_err(|_| ControlError::NotRunning(data_dir.to_owned()))?;
            let path = environment::path(data_dir);
            let text = env_file::value(data_dir, environment::PRIMARY).map_err(ControlError::from)?;
            (path.display().to_string(), text.unwrap_or_default())
        }
    };
    let connection: Connection =
        text.parse().map_err(|source| EndpointError::Connection { origin, source })?;
    let https = https.ok().flatten().and_then(|https| https.parse::<Endpoint>().ok());
    let is_local = https.is_some_and(|https| https == connection.endpoint);
    let authority: Option<PathBuf> = is_local.then(|| absolute(&data_dir.join("ca.pem")));
    Ok(Client::new(connection, authority))
}

/// The path as an option of another program, which may run elsewhere.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
