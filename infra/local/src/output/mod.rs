//! The texts that people read on the terminal, and the environment files that go with them.
//!
//! | module | owns |
//! |---|---|
//! | [`start_page`] | the page printed at start, and the `env` file |
//! | [`functions_page`] | the page of `platform`, and `platform.env` for the function processes |
//! | [`env_file`] | the variables of `env`, read back |
//! | [`report`] | the results of commands as JSON, table, values or variables |
//! | [`key_page`] | the answers of the commands about keys |
//! | [`token_page`] | the answer of `token inspect` |

pub mod env_file;
pub mod functions_page;
pub mod key_page;
pub mod report;
pub mod start_page;
pub mod token_page;

use std::io::{self, Write as _};

/// Standard output cannot be written, because it is closed or its device is full.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct PrintError(#[source] io::Error);

/// Writes a text to standard output.
///
/// # Errors
/// [`PrintError`], where `print!` would panic.
pub fn print(text: &str) -> Result<(), PrintError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(PrintError)
}

/// A text as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The text with every control character escaped, because a terminal would execute it.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_ascii_graphic() || c == ' ' { vec![c] } else { c.escape_debug().collect() })
        .collect()
}
