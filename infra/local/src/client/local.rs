//! The running local server, as its state directory describes it, and the choice between it and other endpoints.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::Client;
use super::connection::{Connection, ConnectionError, Endpoint};
use crate::control::ControlError;
use crate::files;
use crate::output::{env_file, start_page};
use crate::ready;

/// The endpoints of a running server.
#[derive(Deserialize)]
pub struct Endpoints {
    https: Option<String>,
    http: Option<String>,
}

/// There is no endpoint to call.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    NotRunning(#[from] ControlError),
    #[error("{origin}: {source}")]
    Connection { origin: String, source: ConnectionError },
}

impl Endpoints {
    /// The endpoints of the server on a state directory.
    ///
    /// # Errors
    /// [`ControlError`] when no server is running there.
    pub fn read(data_dir: &Path) -> Result<Self, ControlError> {
        #[derive(Deserialize)]
        struct Ready {
            endpoints: Endpoints,
        }
        let text = files::read(&ready::path(data_dir))?;
        let ready = text.and_then(|text| serde_json::from_slice::<Ready>(&text).ok());
        ready.map(|ready| ready.endpoints).ok_or_else(|| ControlError::NotRunning(data_dir.to_owned()))
    }

    /// The port of plain HTTP on loopback.
    #[must_use]
    pub fn http_port(&self) -> Option<u16> {
        self.http.as_ref()?.trim_end_matches('/').rsplit_once(':')?.1.parse().ok()
    }
}

/// A client for a connection string. Without one, a client for the running server. `origin` names the option or the
/// variable with the connection string.
///
/// # Errors
/// [`EndpointError`].
pub fn client(given: Option<(String, Zeroizing<String>)>, data_dir: &Path) -> Result<Client, EndpointError> {
    let local = Endpoints::read(data_dir);
    let (origin, text) = match given {
        Some(given) => given,
        None => {
            local.as_ref().map_err(|_| ControlError::NotRunning(data_dir.to_owned()))?;
            let path = start_page::path_of_env(data_dir);
            let text = env_file::value(data_dir, start_page::PRIMARY).map_err(ControlError::from)?;
            (path.display().to_string(), text.unwrap_or_default())
        }
    };
    let connection: Connection =
        text.parse().map_err(|source| EndpointError::Connection { origin, source })?;
    let https = local.ok().and_then(|local| local.https?.parse::<Endpoint>().ok());
    let is_local = https.is_some_and(|https| https == connection.endpoint);
    let authority: Option<PathBuf> = is_local.then(|| absolute(&data_dir.join("ca.pem")));
    Ok(Client::new(connection, authority))
}

/// The path as an option of another program, which may run elsewhere.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
