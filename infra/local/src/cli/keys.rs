//! The commands about keys.

use std::io::{self, IsTerminal as _, Write as _};

use acs_identity::control::{self, Command};
use acs_identity::output::key_page;
use acs_identity::output::report::{Form, FormError, Report};
use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::verbs::{Context, write};

/// The commands about keys.
#[derive(Subcommand)]
pub(crate) enum KeyAction {
    /// Replace every signing key of the running server. Every token that was issued before is revoked.
    Rotate,
    /// Replace an access key of the running server and its signing key. Every token that was issued through it is
    /// revoked.
    Regenerate {
        #[arg(value_parser = ["primary", "secondary"])]
        slot: String,
    },
    /// List the signing keys in force at the running server.
    Keys,
}

impl Context {
    pub(crate) async fn keys(&self, action: &KeyAction) -> Result<(), Failure> {
        if self.form == Some(Form::Env) {
            return Err(Failure::Usage(FormError.to_string()));
        }
        let command = match action {
            KeyAction::Rotate => Command::Invoke(json!({"rotate": "signing-keys"})),
            KeyAction::Regenerate { slot } => Command::Invoke(json!({"regenerate": slot})),
            KeyAction::Keys => Command::Keys,
        };
        let keys = key_page::keys(&control::send(&self.data_dir, &command).await?);
        let printed = match action {
            KeyAction::Keys => return self.print(&keys),
            KeyAction::Rotate => self.print_rotated(&keys),
            KeyAction::Regenerate { slot } => self.print_regenerated(slot, &keys),
        };
        printed
            .map_err(|failure| failure.after_effect("the command has taken effect, but its answer is lost"))
    }

    fn print_rotated(&self, keys: &Report) -> Result<(), Failure> {
        if self.form() == Form::Table {
            write("Every token issued before now is revoked.\n\n")?;
        }
        self.print(keys)
    }

    /// Prints the new connection string too, if standard output is a terminal or the user has chosen a form.
    fn print_regenerated(&self, slot: &str, keys: &Report) -> Result<(), Failure> {
        if self.form() == Form::Table {
            write(&key_page::regenerated(&self.data_dir, slot).map_err(Failure::other)?)?;
            return self.print(keys);
        }
        if self.form.is_none() && !io::stdout().is_terminal() {
            let note = "The new connection string is in the env file; give -o json to print it.\n";
            // The note is not part of the output.
            let _ = io::stderr().write_all(note.as_bytes());
            return self.print(keys);
        }
        let string: Zeroizing<String> =
            key_page::new_connection_string(&self.data_dir, slot).map_err(Failure::other)?;
        let json = json!({"connectionString": *string, "keys": keys.json});
        self.print(&Report::single(json, &["connection_string"], vec![string.to_string()]))
    }
}
