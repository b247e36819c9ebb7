//! The directory of a server that was started without `--data-dir`.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use acs_identity::control;
use acs_identity::state::StateKind;
use tempfile::TempDir;

const KEPT: &str = ".local";
const PUBLISHED: &str = ".local/dev";

/// The directory of a server.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// Removes a temporary directory with the value.
    temporary: Option<TempDir>,
}

impl Place {
    /// The given directory, or the default one of this kind of state.
    pub(crate) fn new(given: Option<PathBuf>, state: StateKind) -> io::Result<Self> {
        match (given, state) {
            (Some(directory), _) => Ok(Self { directory, temporary: None }),
            (None, StateKind::Kept) => Ok(Self { directory: KEPT.into(), temporary: None }),
            (None, StateKind::Published) => Ok(Self { directory: PUBLISHED.into(), temporary: None }),
            (None, StateKind::Ephemeral) => Self::temporary(),
        }
    }

    /// A new directory that is private to its owner.
    pub(crate) fn temporary() -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let directory =
            builder.prefix("acs-identity-").permissions(Permissions::from_mode(0o700)).tempdir()?;
        Ok(Self { directory: directory.path().to_owned(), temporary: Some(directory) })
    }

    /// Removes a temporary directory.
    pub(crate) fn close(self) -> io::Result<()> {
        self.temporary.map_or(Ok(()), TempDir::close)
    }
}

/// The default directory in which a server is running, the one of kept state first.
pub(crate) fn of_running_server() -> PathBuf {
    let runs = |directory: &&str| control::is_running(directory.as_ref());
    [KEPT, PUBLISHED].into_iter().find(runs).unwrap_or(KEPT).into()
}
