//! Where the state of a server is: in its directory or in memory.
//!
//! Each server has a directory. The files that clients read are always there: `env`, `ca.pem`, `ready.json`, the control
//! socket. The files that hold the state are there only if the state is kept.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use uuid::{Uuid, uuid};

use crate::certificates;
use crate::entra::DirectorySource;
use crate::files::{self, FileError, Readers};
use crate::resource;

pub(crate) const SECRETS: &str = "secrets.json";
pub(crate) const DATABASE: &str = "dynamodb.sqlite";
const DIRECTORY: &str = "entra.json";

/// The id of the published resource. It is public, as the access keys in `functions::aws::published_keys` and the Entra
/// directory in `entra::published`.
pub(crate) const PUBLISHED_RESOURCE: Uuid = uuid!("00000000-de00-4000-8000-000000000000");

/// The file that marks the directory of a server whose state is in memory.
const MARKER: &str = "state-in-memory";

/// The file that keeps expired records.
const KEEPS_EXPIRED: &str = "keeps-expired-records";

/// The kinds of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// Files, which survive restarts.
    Kept,
    /// Memory, with a new resource at each start.
    Ephemeral,
    /// Memory, with the published resource, access keys and Entra directory.
    Published,
}

/// The directory holds the other kind of state.
#[derive(Debug, thiserror::Error)]
pub enum StateKindError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{} holds a kept resource ({file}), which --ephemeral and --dev do not use; choose another --data-dir",
        dir.display()
    )]
    Kept { dir: PathBuf, file: &'static str },
    #[error(
        "{} is the directory of a server whose state was in memory; choose another --data-dir, or remove it",
        .0.display()
    )]
    InMemory(PathBuf),
}

impl StateKind {
    /// Whether the state ends with the process.
    #[must_use]
    pub fn is_in_memory(self) -> bool {
        self != Self::Kept
    }

    /// The source of the Entra directory.
    pub(crate) fn entra(self, dir: &Path) -> DirectorySource<'_> {
        match self {
            Self::Kept => DirectorySource::File(dir),
            Self::Ephemeral => DirectorySource::Memory,
            Self::Published => DirectorySource::Published,
        }
    }

    /// Refuses a directory of the other kind, and marks the directory of a state in memory. The caller must hold the lock
    /// of the directory.
    pub(crate) fn claim(self, dir: &Path) -> Result<(), StateKindError> {
        let has = |file: &str| dir.join(file).exists();
        if self.is_in_memory() {
            let kept = [resource::FILE, SECRETS, DATABASE, DIRECTORY, certificates::KEY_FILE];
            if let Some(file) = kept.into_iter().find(|file| has(file)) {
                return Err(StateKindError::Kept { dir: dir.to_owned(), file });
            }
            const TEXT: &[u8] =
                b"The state of this server is in memory. Its directory is for clients only.\n";
            return Ok(files::replace(&dir.join(MARKER), TEXT, Readers::Everyone)?);
        }
        if has(MARKER) { Err(StateKindError::InMemory(dir.to_owned())) } else { Ok(()) }
    }
}

/// Marks the directory, so that no later start deletes expired records.
pub(crate) fn keep_expired_records(dir: &Path) -> Result<(), FileError> {
    const TEXT: &[u8] =
        b"The clock of tokens was far ahead, so expired records of this state are not deleted.\n";
    files::replace(&dir.join(KEEPS_EXPIRED), TEXT, Readers::Everyone)
}

/// Whether a start may delete expired records.
pub(crate) fn deletes_expired_records(dir: &Path) -> bool {
    !dir.join(KEEPS_EXPIRED).exists()
}

/// Creates the directory, private to its owner, and returns its absolute path. An existing directory keeps its mode,
/// which is its owner's choice. Each file that holds secrets is private by itself.
pub(crate) fn directory(path: &Path) -> Result<PathBuf, FileError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let absolute = created.and_then(|()| path.canonicalize());
    absolute.map_err(|source| FileError::new("create or open", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_the_other_kind_are_refused() {
        let kept = tempfile::tempdir().unwrap();
        StateKind::Kept.claim(kept.path()).unwrap();
        fs::write(kept.path().join("resource.json"), "{}").unwrap();
        let in_memory = tempfile::tempdir().unwrap();
        for kind in [StateKind::Ephemeral, StateKind::Published] {
            let refused = kind.claim(kept.path()).unwrap_err();
            assert!(matches!(&refused, StateKindError::Kept { file: "resource.json", .. }), "{refused}");
            kind.claim(in_memory.path()).unwrap();
            // A server that was killed leaves the marker.
            kind.claim(in_memory.path()).unwrap();
        }
        let refused = StateKind::Kept.claim(in_memory.path()).unwrap_err();
        assert!(matches!(refused, StateKindError::InMemory(_)), "{refused}");
    }
}
