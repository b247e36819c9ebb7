//! The output of the commands about keys.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::Value;

use super::start_page;

/// The signing keys of a state that `rotate-keys` returned, one on each line, without secrets.
#[must_use]
pub fn keys(state: &Value) -> String {
    let text = |value: &Value, pointer: &str| {
        value.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned()
    };
    let mut page = format!("{:<10} {:<44} {:<10} since\n", "slot", "key id", "algorithm");
    for key in state.pointer("/signingKeys/keys").and_then(Value::as_array).into_iter().flatten() {
        let (slot, id) = (text(key, "/slot"), text(key, "/keyId"));
        let (algorithm, since) = (text(key, "/algorithm"), text(key, "/publishedAt"));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "{slot:<10} {id:<44} {algorithm:<10} {since}");
    }
    page
}

/// The report after an access key was replaced: the new connection string, from the `env` file that the server has
/// rewritten.
///
/// # Errors
/// When the file cannot be read.
pub fn regenerated(data_dir: &Path, slot: &str) -> io::Result<String> {
    let path = start_page::path_of_env(data_dir);
    let env = std::fs::read_to_string(&path)?;
    let name = match slot {
        "secondary" => start_page::SECONDARY,
        _ => start_page::PRIMARY,
    };
    let value = env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''));
    Ok(format!(
        "The {slot} access key is new. The former key is refused, and every token issued through it is revoked.\n\n\
         connection string   {}\nwritten to          {}\n",
        value.unwrap_or("-"),
        path.display()
    ))
}
