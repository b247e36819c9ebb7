//! The variables of the `env` file, read back.

use std::path::Path;

use zeroize::Zeroizing;

use super::start_page;
use crate::files::{self, FileError};

/// Names and values of variables.
pub type Variables = Vec<(String, Zeroizing<String>)>;

/// The names and values of the file in a state directory. `None` if there is no such file.
///
/// # Errors
/// [`FileError`] when the file cannot be read.
pub fn read(data_dir: &Path) -> Result<Option<Variables>, FileError> {
    let text = files::read(&start_page::path_of_env(data_dir))?;
    let text = text.as_ref().map(|text| String::from_utf8_lossy(text));
    Ok(text.map(|text| text.lines().filter_map(parse).collect()))
}

/// Reads one value of the file.
///
/// # Errors
/// [`FileError`] when the file cannot be read.
pub fn value(data_dir: &Path, name: &str) -> Result<Option<Zeroizing<String>>, FileError> {
    let variables = read(data_dir)?.unwrap_or_default();
    Ok(variables.into_iter().find_map(|(other, value)| (other == name).then_some(value)))
}

/// `NAME='value'`, as [`super::quoted`] writes the value.
fn parse(line: &str) -> Option<(String, Zeroizing<String>)> {
    let (name, value) = line.split_once("='")?;
    Some((name.to_owned(), Zeroizing::new(value.strip_suffix('\'')?.replace(r"'\''", "'"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_quotes_survive_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        let written = [("PLAIN", "a=b;c"), ("QUOTED", "it's 'quoted'"), ("EMPTY", "")];
        std::fs::write(dir.path().join("env"), start_page::lines(written.into_iter())).unwrap();
        let variables = read(dir.path()).unwrap().unwrap();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(variables, written);
        assert_eq!(value(dir.path(), "PLAIN").unwrap().unwrap().as_str(), "a=b;c");
    }
}
