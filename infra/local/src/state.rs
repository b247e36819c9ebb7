//! Where the state of a server is: in its directory or in memory.
//!
//! Each server has a directory. The files that clients read are always there: `env`, `ca.pem`, `ready.json`, the control
//! socket. The files that hold the state are there only if the state is kept.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;
use uuid::{Uuid, uuid};

use crate::certificates;
use crate::console;
use crate::files::{self, FileError, Readers};

pub(crate) const RESOURCE: &str = "resource.json";
pub(crate) const SECRETS: &str = "secrets.json";
pub(crate) const DATABASE: &str = "dynamodb.sqlite";
pub(crate) const DIRECTORY: &str = "entra.json";
const ROOT: u32 = 0;

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

    /// Refuses a directory of the other kind, and marks the directory of a state in memory. The caller must hold the lock
    /// of the directory.
    pub(crate) fn claim(self, dir: &Path) -> Result<(), StateKindError> {
        let has = |file: &str| dir.join(file).exists();
        if self.is_in_memory() {
            let kept = [RESOURCE, SECRETS, DATABASE, DIRECTORY, certificates::KEY_FILE];
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

/// The free space that a start needs, in bytes. The files of a new resource have half of it. SQLite needs some at every
/// start, and its own error does not say so.
const MIN_SPACE: u64 = 1024 * 1024;

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

/// Creates the directory, private to its owner, and returns its absolute path. An existing directory keeps its mode. A
/// directory of another user is refused, unless the owner is root, or this process. So is a directory on a full disk. A
/// warning reports further users that can replace files.
pub(crate) fn directory(path: &Path) -> Result<PathBuf, FileError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    let absolute = created.and_then(|()| path.canonicalize());
    let checked = absolute.and_then(|path| {
        let directory = path.metadata()?;
        let risk = risk(&path, directory.uid(), directory.mode(), geteuid().as_raw())?;
        risk.iter().for_each(|risk| console::warn(risk));
        let disk = statvfs(&path)?;
        let [size, free] = [disk.blocks(), disk.blocks_available()]
            .map(|blocks| u128::from(blocks) * u128::from(disk.fragment_size()));
        check_space(size, free)?;
        Ok(path)
    });
    checked.map_err(|source| FileError::new("create or open", path, source))
}

/// The warning about users who can replace files of the directory, for a process of `user`.
fn risk(path: &Path, owner: u32, mode: u32, user: u32) -> io::Result<Option<String>> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let path = path.display();
    if owner != user && owner != ROOT {
        let text = format!("it belongs to the user {owner}, and the server runs as the user {user}");
        let refused = io::Error::other(format!("{text}; choose another --data-dir"));
        return if user == ROOT {
            Ok(Some(format!("{path}: {text}, so that user can replace its files")))
        } else {
            Err(refused)
        };
    }
    let is_open = mode & OTHERS_WRITE != 0 && mode & STICKY == 0;
    Ok(is_open
        .then(|| format!("every user of this machine can replace files in {path}; run chmod 700 {path}")))
}

/// Checks that a disk has space for a start. A file system without a size reports no space either.
fn check_space(size: u128, free: u128) -> io::Result<()> {
    if size == 0 || free >= MIN_SPACE.into() {
        return Ok(());
    }
    let needed = MIN_SPACE / 1024;
    Err(io::Error::other(format!(
        "the disk is full: {} kB are free, and a start needs {needed} kB; free some space, and start again",
        free / 1024
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_that_others_can_change_are_reported() {
        let path = Path::new("state");
        let found = |owner, mode, user| risk(path, owner, mode, user);
        assert_eq!(found(7, 0o40_700, 7).unwrap(), None);
        assert_eq!(found(0, 0o40_755, 7).unwrap(), None, "root owns the directory");
        assert_eq!(found(7, 0o41_777, 7).unwrap(), None, "sticky");
        assert!(found(7, 0o40_777, 7).unwrap().unwrap().contains("run chmod 700 state"));
        assert!(found(8, 0o40_700, 0).unwrap().unwrap().contains("belongs to the user 8"));
        let refused = found(8, 0o40_777, 7).unwrap_err().to_string();
        assert!(
            refused.contains("the user 8, and the server runs as the user 7; choose another"),
            "{refused}"
        );
    }

    #[test]
    fn full_disk_is_refused_with_the_remedy() {
        const GIGABYTE: u128 = 1 << 30;
        let refused = check_space(GIGABYTE, 40 * 1024).unwrap_err().to_string();
        assert!(
            refused.starts_with("the disk is full: 40 kB are free, and a start needs 1024 kB; free some"),
            "{refused}"
        );
        assert!(check_space(GIGABYTE, u128::from(MIN_SPACE) - 1).is_err());
        check_space(GIGABYTE, MIN_SPACE.into()).unwrap();
        check_space(0, 0).unwrap();
    }

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
