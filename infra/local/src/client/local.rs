//! The running local server, as its state directory describes it, and the choice between it and other endpoints.

use std::path::Path;

use http::Uri;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Client;
use super::connection::{Connection, ConnectionError};
use crate::control::{self, ControlError};
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

/// The URL of an endpoint, such as `https`, of the running server on a state directory. A killed server leaves the file,
/// so the server must also listen on its control socket.
///
/// # Errors
/// [`ControlError`] when no server with this endpoint is running there.
fn endpoint(data_dir: &Path, name: &str) -> Result<String, ControlError> {
    let text = files::read(&ready::path(data_dir))?.filter(|_| control::is_running(data_dir));
    let ready = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok()).unwrap_or_default();
    let endpoint = ready.pointer(&format!("/endpoints/{name}")).and_then(Value::as_str);
    endpoint.map(str::to_owned).ok_or_else(|| ControlError::NotRunning(data_dir.to_owned()))
}

/// The port of plain HTTP of the running server, on loopback.
///
/// # Errors
/// [`ControlError`] when no server with this port is running.
pub fn http_port(data_dir: &Path) -> Result<u16, ControlError> {
    let port = endpoint(data_dir, "http")?.parse::<Uri>().ok().and_then(|http| http.port_u16());
    port.ok_or_else(|| ControlError::NotRunning(data_dir.to_owned()))
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
    let mut connection: Connection =
        text.parse().map_err(|source| EndpointError::Connection { origin, source })?;
    // The public name and port may be those of a container's host or of a proxy, which this machine cannot always reach.
    if https.is_ok_and(|https| https.parse() == Ok(connection.endpoint.clone()))
        && let Ok(Ok(endpoint)) = http_port(data_dir).map(|port| format!("http://localhost:{port}/").parse())
    {
        connection.endpoint = endpoint;
    }
    Ok(Client::new(connection))
}
