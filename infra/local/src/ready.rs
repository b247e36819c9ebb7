//! `ready.json`: the signal to other programs that the server answers, with its real ports. The file holds no
//! secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use identity::ids::ResourceId;
use serde_json::json;

use crate::files::{self, FileError, Readers};

/// The signal. Dropping it removes the file.
pub struct ReadySignal {
    path: PathBuf,
}

impl ReadySignal {
    /// Writes `ready.json` into the state directory. Call this when everything answers. `endpoints` are pairs of
    /// a name, such as `https`, and a URL.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be written.
    pub fn send(
        data_dir: &Path,
        resource_id: ResourceId,
        endpoints: &[(&str, &str)],
    ) -> Result<Self, FileError> {
        let document = json!({
            "version": env!("CARGO_PKG_VERSION"),
            // So that a reader can recognise the file of a process that was killed.
            "pid": std::process::id(),
            "endpoints": endpoints.iter().copied().collect::<BTreeMap<_, _>>(),
            "resourceId": resource_id.to_string(),
        });
        let path = path(data_dir);
        files::replace_json(&path, &document, Readers::Everyone)?;
        Ok(Self { path })
    }
}

impl Drop for ReadySignal {
    fn drop(&mut self) {
        // The process is ending. The next start removes a file that is left.
        let _ = files::remove(&self.path);
    }
}

/// Removes the signal of a process that was killed. The caller must hold the lock of the state directory.
pub(crate) fn withdraw(data_dir: &Path) -> Result<(), FileError> {
    files::remove(&path(data_dir))
}

/// The path of the file.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("ready.json")
}
