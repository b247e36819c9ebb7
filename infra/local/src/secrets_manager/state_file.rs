//! The file with the secrets: one JSON document. Every save replaces the whole file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::versions::Secrets;
use crate::files::{self, Readers};

const FORMAT: u32 = 1;

/// The secrets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, its lock file or its directory could not be used.
    #[error("cannot use the secrets file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process uses the file. Two processes would undo each other's changes.
    #[error("the secrets file {} is in use by another process; stop that process first", .0.display())]
    InUse(PathBuf),
    /// The file has another format. It is left unchanged, because it may contain the only copy of a key.
    #[error(
        "the secrets file {} cannot be read ({reason}); move it away to start without secrets",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The position or the reason of the fault, without any of the content.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Document<S> {
    format: u32,
    secrets: S,
}

/// An open file of secrets. Its lock excludes other processes until the value is dropped.
pub(super) struct StateFile {
    path: PathBuf,
    _lock: File,
}

impl StateFile {
    /// Locks the file and reads it. A missing file counts as a file without secrets.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read, has another format or is in use.
    pub(super) fn open(path: &Path) -> Result<(Self, Secrets), OpenError> {
        let file_error = |source| OpenError::File { path: path.to_path_buf(), source };
        let lock = private()
            .create(true)
            .truncate(false)
            .open(path.with_added_extension("lock"))
            .map_err(file_error)?;
        lock.try_lock().map_err(|refused| match refused {
            TryLockError::WouldBlock => OpenError::InUse(path.to_path_buf()),
            TryLockError::Error(source) => file_error(source),
        })?;
        let secrets = match fs::read(path).map(Zeroizing::new) {
            Ok(text) => {
                parse(&text).map_err(|reason| OpenError::Content { path: path.to_path_buf(), reason })?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Secrets::default(),
            Err(error) => return Err(file_error(error)),
        };
        let path = path.to_path_buf();
        Ok((Self { path, _lock: lock }, secrets))
    }

    /// Replaces the content. After success the new content is on the disk. After a failure the disk has either the
    /// complete old content or the complete new content.
    pub(super) fn save(&self, secrets: &Secrets) -> io::Result<()> {
        let document = Document { format: FORMAT, secrets };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&document)?);
        files::replace(&self.path, &text, Readers::Owner).map_err(io::Error::other)
    }
}

/// The secrets in `text`, or the position or the reason of the fault. The decoder's message is left out, because it may
/// quote the text.
fn parse(text: &[u8]) -> Result<Secrets, String> {
    let document: Document<Secrets> = serde_json::from_slice(text)
        .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
    match document.format {
        FORMAT => Ok(document.secrets),
        other => Err(format!("its format is {other}, expected {FORMAT}")),
    }
}

/// Options for writing a file that only its owner can read and write.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::super::versions::Secret;
    use super::*;

    /// An empty directory for one test.
    fn scratch(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("secrets-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// One secret with one version, which has the id `id` and the value `value`.
    fn secrets(id: &str, value: &str) -> Secrets {
        let mut secret = Secret::new("name".to_owned(), "arn".to_owned(), None, 1);
        secret.put(id, value.to_owned().into(), &[], 2).unwrap();
        let mut secrets = Secrets::default();
        secrets.add(secret);
        secrets
    }

    #[test]
    fn saved_secrets_are_read_after_reopening() {
        let path = scratch("saved").join("secrets.json");
        let (file, none) = StateFile::open(&path).unwrap();
        assert!(none.find("name").is_none());
        assert!(!path.exists());
        file.save(&secrets("v1", "one")).unwrap();
        file.save(&secrets("v2", "two")).unwrap();
        drop(file);
        let (_file, read) = StateFile::open(&path).unwrap();
        let secret = read.find("name").unwrap();
        assert!(secret.version("v1").is_none());
        assert_eq!(secret.labels_of("v2"), ["AWSCURRENT"]);
        let version = secret.version("v2").unwrap();
        assert!(version.value == Some("two".to_owned().into()));
    }

    #[test]
    fn file_in_use_is_refused() {
        let path = scratch("held").join("secrets.json");
        let held = StateFile::open(&path).unwrap();
        let refused = StateFile::open(&path).err().unwrap();
        assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
        drop(held);
        StateFile::open(&path).unwrap();
    }

    #[test]
    fn invalid_file_is_refused_kept_and_not_quoted() {
        let path = scratch("unreadable").join("secrets.json");
        let rows = [
            r#"{"format":1,"secrets":["#,
            r#"{"format":1,"secrets":"hidden"}"#,
            r#"{"format":2,"secrets":[]}"#,
            "",
        ];
        for text in rows {
            fs::write(&path, text).unwrap();
            let refused = StateFile::open(&path).err().unwrap();
            assert!(matches!(refused, OpenError::Content { .. }), "{text}");
            let said = format!("{refused} {refused:?}");
            assert!(said.contains("secrets.json"), "{said}");
            assert!(!said.contains("hidden"), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn failed_save_keeps_the_old_content() {
        let directory = scratch("fails");
        let path = directory.join("secrets.json");
        let (file, _) = StateFile::open(&path).unwrap();
        file.save(&secrets("v1", "one")).unwrap();
        let old = fs::read(&path).unwrap();
        // A directory at the path of the new content makes the save fail.
        fs::create_dir(directory.join("secrets.json.new")).unwrap();
        file.save(&secrets("v2", "two")).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), old);
    }

    #[cfg(unix)]
    #[test]
    fn files_are_accessible_to_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = scratch("mode");
        let path = directory.join("secrets.json");
        // A file of a crashed earlier release, which created it with wider permissions.
        fs::write(directory.join("secrets.json.new"), "").unwrap();
        let (file, _) = StateFile::open(&path).unwrap();
        file.save(&secrets("v1", "one")).unwrap();
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        }
    }
}
