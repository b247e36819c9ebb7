//! The files of the state directory: each is replaced as a whole, and only its owner can read a file that holds
//! secrets.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use zeroize::Zeroizing;

/// A file of the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }
}

/// The users that may read a file. The process's umask can only narrow this.
#[derive(Clone, Copy)]
pub(crate) enum Readers {
    Owner,
    Everyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// The content of a file, or `None` when there is no such file. The content is wiped from memory after use.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, FileError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(Zeroizing::new(content))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::new("read", path, source)),
    }
}

/// A file at its path. A deleted or replaced file is another one, although an open descriptor of it still works.
pub(crate) struct FileInPlace {
    path: PathBuf,
    file: (u64, u64),
}

impl FileInPlace {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: file_number(path)? })
    }

    pub(crate) fn is_intact(&self) -> bool {
        file_number(&self.path).is_ok_and(|file| file == self.file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn file_number(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Removes a file. A missing file is no error.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(FileError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// Replaces a file, or creates it. On success the new content is on the disk. On failure the disk has the old
/// content or the new content, whole.
///
/// The content first goes to a new file beside it, with `.new` added to the name. That file is created
/// exclusively (`O_EXCL`), so no link is followed and no other user can have it open. A file of that name, which a
/// crash may have left, is removed before.
pub(crate) fn replace(path: &Path, content: &[u8], readers: Readers) -> Result<(), FileError> {
    remove(&path.with_added_extension("new"))?;
    write_beside_and_rename(path, content, readers).map_err(|source| FileError::new("write", path, source))
}

/// As [`replace`], unless the file has this content and these readers already.
pub(crate) fn update(path: &Path, content: &[u8], readers: Readers) -> Result<(), FileError> {
    let is_private = |file: fs::Metadata| file.is_file() && file.mode() & 0o777 & !readers.mode() == 0;
    let is_current = fs::symlink_metadata(path).is_ok_and(is_private)
        && fs::read(path).map(Zeroizing::new).is_ok_and(|current| *current == content);
    if is_current { Ok(()) } else { replace(path, content, readers) }
}

/// As [`replace`], with a value as JSON.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize, readers: Readers) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(value).map(Zeroizing::new);
    let text = text.map_err(|error| FileError::new("write", path, error.into()))?;
    replace(path, &text, readers)
}

fn write_beside_and_rename(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let path = &std::path::absolute(path)?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidFilename.into());
    };
    let mut file = tempfile::Builder::new()
        .prefix(name)
        .suffix(".new")
        // A fixed name, so that files with secrets do not pile up after crashes.
        .rand_bytes(0)
        .permissions(Permissions::from_mode(readers.mode()))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself reaches the disk with the directory.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn planted_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("env"), dir.path().join("target"));
        for planted in ["env", "env.new"] {
            fs::write(&target, "untouched").unwrap();
            let _ = fs::remove_file(&path);
            symlink(&target, dir.path().join(planted)).unwrap();
            replace(&path, b"secret", Readers::Owner).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), "untouched", "{planted}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "secret", "{planted}");
            assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{planted}");
            assert!(!dir.path().join("env.new").exists(), "{planted}");
        }
    }

    #[test]
    fn open_descriptors_of_planted_files_see_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let planted = dir.path().join("env.new");
        fs::write(&planted, "").unwrap();
        fs::set_permissions(&planted, Permissions::from_mode(0o666)).unwrap();
        let open = File::open(&planted).unwrap();
        replace(&dir.path().join("env"), b"secret", Readers::Owner).unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "");
        assert_eq!(mode(&dir.path().join("env")), 0o600);
    }

    #[test]
    fn modes_are_those_of_the_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        replace(&path, b"new", Readers::Owner).unwrap();
        assert_eq!(mode(&path), 0o600);
        replace(&path, b"new", Readers::Everyone).unwrap();
        // The umask of the test may take the right from others.
        assert_eq!(mode(&path) & !0o044, 0o600);
    }

    #[test]
    fn unchanged_files_are_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        replace(&path, b"secret", Readers::Owner).unwrap();
        let before = FileInPlace::new(&path).unwrap();
        update(&path, b"secret", Readers::Owner).unwrap();
        assert!(before.is_intact());
        update(&path, b"other", Readers::Owner).unwrap();
        assert!(!before.is_intact(), "the content differs");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        update(&path, b"other", Readers::Owner).unwrap();
        assert_eq!(mode(&path), 0o600, "the readers differ");
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        update(&link, b"other", Readers::Owner).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file(), "a link is replaced");
    }

    #[test]
    fn failed_writes_leave_no_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        fs::create_dir(&path).unwrap();
        let refused = replace(&path, b"secret", Readers::Owner).unwrap_err().to_string();
        assert!(refused.starts_with("cannot write ") && refused.contains("env: "), "{refused}");
        assert!(!dir.path().join("env.new").exists());
    }
}
