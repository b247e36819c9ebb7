//! The file of the secrets: one JSON document, replaced whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::versions::Secrets;
use crate::files::{self, Readers};

const FORMAT: u32 = 1;

/// The secrets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, its lock or its directory could not be used.
    #[error("cannot use {}; check its owner and its permissions", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Another process uses the file. Two processes with one file would undo each other's changes.
    #[error(
        "the secrets file {} is in use by another process; stop that server, or choose another --data-dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file has the keys of another resource.
    #[error(
        "the secrets file {} belongs to the resource {kept}, and resource.json to {given}; restore the files of one \
         resource together",
        path.display()
    )]
    OtherResource {
        /// The file.
        path: PathBuf,
        /// The resource of the file.
        kept: String,
        /// The resource of the directory.
        given: String,
    },
    /// The file has another format. It stays unchanged, because it may hold the only copy of a key.
    #[error(
        "the secrets file {} cannot be read ({reason}); restore the file, or remove its directory to start with a new \
         resource",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The place or the cause, without any content of the file.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Document<S> {
    format: u32,
    /// The id of the resource. Earlier versions wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    secrets: S,
}

/// A file of secrets, locked against other processes until it is dropped.
pub(super) struct StateFile {
    path: PathBuf,
    resource: OnceLock<String>,
    _lock: Lock,
}

/// Keeps other processes away until it is dropped. The file can be deleted under a running server, so its directory is
/// locked too. Some network file systems lock no directory.
pub(super) struct Lock {
    _file: File,
    _directory: Option<File>,
}

impl StateFile {
    /// Locks the file and reads it. A missing file holds no secrets.
    pub(super) fn open(path: &Path) -> Result<(Self, Secrets), OpenError> {
        let file_error = |source| OpenError::File { path: path.to_path_buf(), source };
        let lock = lock(path)?;
        let (resource, secrets) = match fs::read(path).map(Zeroizing::new) {
            Ok(text) => {
                parse(&text).map_err(|reason| OpenError::Content { path: path.to_path_buf(), reason })?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => (None, Secrets::default()),
            Err(error) => return Err(file_error(error)),
        };
        let resource = resource.map(OnceLock::from).unwrap_or_default();
        Ok((Self { path: path.to_path_buf(), resource, _lock: lock }, secrets))
    }

    /// Names the resource in the file. A file of another resource is refused.
    pub(super) fn bind(&self, resource: &str, secrets: &Secrets) -> Result<(), OpenError> {
        let path = || self.path.clone();
        match self.resource.get() {
            Some(kept) if kept == resource => Ok(()),
            Some(kept) => {
                let (kept, given) = (kept.clone(), resource.to_owned());
                Err(OpenError::OtherResource { path: path(), kept, given })
            }
            None => {
                // No other thread sets the value, because the file is opened by one.
                let _ = self.resource.set(resource.to_owned());
                if !self.path.exists() {
                    return Ok(());
                }
                self.save(secrets).map_err(|source| OpenError::File { path: path(), source })
            }
        }
    }

    /// Replaces the content. After a success, the new content is on the disk. After an error, the disk has either the old
    /// or the new content, whole.
    pub(super) fn save(&self, secrets: &Secrets) -> io::Result<()> {
        let document = Document { format: FORMAT, resource: self.resource.get().cloned(), secrets };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&document)?);
        files::replace(&self.path, &text, Readers::Owner).map_err(io::Error::other)
    }
}

/// Locks the file against other processes until the result is dropped.
pub(super) fn lock(path: &Path) -> Result<Lock, OpenError> {
    let lock_path = path.with_added_extension("lock");
    let file_error = |source| OpenError::File { path: lock_path.clone(), source };
    let file = private().create(true).truncate(false).open(&lock_path).map_err(file_error)?;
    file.try_lock().map_err(|refused| match refused {
        TryLockError::WouldBlock => OpenError::InUse(path.to_path_buf()),
        TryLockError::Error(source) => file_error(source),
    })?;
    let directory = path.parent().and_then(|directory| File::open(directory).ok());
    let directory = match directory.as_ref().map(File::try_lock) {
        Some(Err(TryLockError::WouldBlock)) => return Err(OpenError::InUse(path.to_path_buf())),
        Some(Ok(())) => directory,
        _ => None,
    };
    Ok(Lock { _file: file, _directory: directory })
}

/// The secrets in `text`, or the place where reading stopped. The decoder's message is not used, because it may quote the
/// text.
fn parse(text: &[u8]) -> Result<(Option<String>, Secrets), String> {
    let document: Document<Secrets> = serde_json::from_slice(text)
        .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
    match document.format {
        FORMAT => Ok((document.resource, document.secrets)),
        other => Err(format!("its format is {other}, not {FORMAT}")),
    }
}

/// Options for writing a file that its owner alone can use.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    options.mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

#[cfg(test)]
mod tests {
    use super::super::versions::{Secret, SecretText};
    use super::*;

    /// An empty directory of this test's own.
    fn scratch(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("secrets-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn text(text: &str) -> SecretText {
        serde_json::from_value(text.into()).unwrap()
    }

    /// One secret with one version, `value` under the id `id`.
    fn secrets(id: &str, value: &str) -> Secrets {
        let mut secret = Secret::new("name".to_owned(), "arn".to_owned(), None, 1);
        secret.put(id, text(value), &[], 2).unwrap();
        let mut secrets = Secrets::default();
        secrets.add(secret);
        secrets
    }

    #[test]
    fn saved_secrets_are_read_again() {
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
        assert!(version.value == Some(text("two")));
    }

    #[test]
    fn a_second_holder_is_refused() {
        let path = scratch("held").join("secrets.json");
        let held = StateFile::open(&path).unwrap();
        let refused = StateFile::open(&path).err().unwrap();
        assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
        drop(held);
        StateFile::open(&path).unwrap();
    }

    #[test]
    fn a_second_holder_is_refused_without_the_lock_file() {
        let path = scratch("held-directory").join("secrets.json");
        let held = StateFile::open(&path).unwrap();
        fs::remove_file(path.with_added_extension("lock")).unwrap();
        let refused = StateFile::open(&path).err().unwrap();
        assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
        drop(held);
        StateFile::open(&path).unwrap();
    }

    #[test]
    fn a_file_of_another_resource_is_refused() {
        let path = scratch("resource").join("secrets.json");
        let (file, _) = StateFile::open(&path).unwrap();
        // The file of an earlier version.
        file.save(&secrets("v1", "one")).unwrap();
        drop(file);
        let (file, secrets) = StateFile::open(&path).unwrap();
        file.bind("mine", &secrets).unwrap();
        drop(file);
        let (file, secrets) = StateFile::open(&path).unwrap();
        let refused = file.bind("other", &secrets).unwrap_err().to_string();
        assert!(refused.contains("the resource mine, and resource.json to other"), "{refused}");
        file.bind("mine", &secrets).unwrap();
        assert!(secrets.find("name").is_some());
    }

    #[test]
    fn an_unusable_lock_is_named() {
        let path = scratch("lock").join("secrets.json");
        fs::create_dir(path.with_added_extension("lock")).unwrap();
        let refused = StateFile::open(&path).err().unwrap().to_string();
        assert!(refused.contains("secrets.json.lock; check its owner"), "{refused}");
    }

    #[test]
    fn an_unreadable_file_is_refused_kept_and_not_quoted() {
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
    fn a_save_that_fails_leaves_the_old_content() {
        let directory = scratch("fails");
        let path = directory.join("secrets.json");
        let (file, _) = StateFile::open(&path).unwrap();
        file.save(&secrets("v1", "one")).unwrap();
        let old = fs::read(&path).unwrap();
        // A directory where the new content is to be written.
        fs::create_dir(directory.join("secrets.json.new")).unwrap();
        file.save(&secrets("v2", "two")).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), old);
    }

    #[cfg(unix)]
    #[test]
    fn files_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = scratch("mode");
        let path = directory.join("secrets.json");
        // Left by a crash, by a version that knew no better.
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
