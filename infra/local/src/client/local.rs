//! The running local server, as its state directory describes it, and the choice between it and other endpoints.

use std::collections::HashMap;
use std::path::Path;

use http::Uri;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::Client;
use super::connection::{Connection, ConnectionError, Endpoint};
use crate::control::{self, ControlError};
use crate::files;
use crate::output::{env_file, environment};
use crate::ready;

/// The running server of a state directory, as `ready.json` describes it.
#[derive(Deserialize)]
pub struct Running {
    /// The URLs by their names, such as `https`.
    endpoints: HashMap<String, String>,
}

/// There is no endpoint to call.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    NotRunning(#[from] ControlError),
    #[error("{origin}: {source}")]
    Connection { origin: String, source: ConnectionError },
}

impl Running {
    /// Reads the file. A killed server leaves it, so the server must also listen on its control socket.
    ///
    /// # Errors
    /// [`ControlError`] when no server is running there.
    pub fn read(data_dir: &Path) -> Result<Self, ControlError> {
        let text = files::read(&ready::path(data_dir))?.filter(|_| control::is_running(data_dir));
        let running = text.and_then(|text| serde_json::from_slice(&text).ok());
        running.ok_or_else(|| ControlError::NotRunning(data_dir.to_owned()))
    }

    /// The port of plain HTTP on loopback. `platform` has none.
    #[must_use]
    pub fn http_port(&self) -> Option<u16> {
        self.endpoints.get("http")?.parse::<Uri>().ok()?.port_u16()
    }

    /// The endpoint on loopback, if `endpoint` is the one for clients. Its name and its port may be those of a container's
    /// host or of a proxy, which this machine cannot always reach.
    fn on_loopback(&self, endpoint: &Endpoint) -> Option<Endpoint> {
        let public: Endpoint = self.endpoints.get("https")?.parse().ok()?;
        let port = self.http_port().filter(|_| public == *endpoint)?;
        format!("http://localhost:{port}/").parse().ok()
    }
}

/// A client for a connection string. Without one, a client for the running server. `origin` names the option or the
/// variable with the connection string.
///
/// # Errors
/// [`EndpointError`].
pub fn client(given: Option<(String, Zeroizing<String>)>, data_dir: &Path) -> Result<Client, EndpointError> {
    let running = Running::read(data_dir);
    let (origin, text) = match given {
        Some(given) => given,
        None => {
            running.as_ref().map_err(|_| ControlError::NotRunning(data_dir.to_owned()))?;
            let path = environment::path(data_dir);
            let text = env_file::value(data_dir, environment::PRIMARY).map_err(ControlError::from)?;
            (path.display().to_string(), text.unwrap_or_default())
        }
    };
    let mut connection: Connection =
        text.parse().map_err(|source| EndpointError::Connection { origin, source })?;
    if let Some(endpoint) = running.ok().and_then(|running| running.on_loopback(&connection.endpoint)) {
        connection.endpoint = endpoint;
    }
    Ok(Client::new(connection))
}
