//! The output of the commands about keys.

use std::path::Path;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::report::Report;
use super::{env_file, start_page};
use crate::files::FileError;

/// The signing keys of a state that `rotate-keys` returned, without secrets.
#[must_use]
pub fn keys(state: &Value) -> Report {
    let keys = state.pointer("/signingKeys/keys").cloned().unwrap_or_else(|| json!([]));
    Report::list(keys, &["slot", "keyId", "algorithm", "publishedAt"])
}

/// The report after an access key was replaced, with the new connection string.
///
/// # Errors
/// When the file cannot be read.
pub fn regenerated(data_dir: &Path, slot: &str) -> Result<Zeroizing<String>, FileError> {
    let value = new_connection_string(data_dir, slot)?;
    Ok(Zeroizing::new(format!(
        "The {slot} access key is new. The former key is refused, and every token issued through it is revoked.\n\n\
         connection string   {}\nwritten to          {}\n\n",
        value.as_str(),
        start_page::path_of_env(data_dir).display()
    )))
}

/// The connection string of a slot, from the `env` file that the server has rewritten.
///
/// # Errors
/// When the file cannot be read.
pub fn new_connection_string(data_dir: &Path, slot: &str) -> Result<Zeroizing<String>, FileError> {
    let name = match slot {
        "secondary" => start_page::SECONDARY,
        _ => start_page::PRIMARY,
    };
    Ok(env_file::value(data_dir, name)?.unwrap_or_else(|| Zeroizing::new("-".to_owned())))
}
