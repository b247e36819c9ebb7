//! The options as variables: `--https-port` is `ACS_IDENTITY_HTTPS_PORT`. An option beats a variable.

use std::ffi::OsString;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Command};

use super::failure::UsageError;

const PREFIX: &str = "ACS_IDENTITY_";

/// The variable of `--data-dir`.
pub(crate) const DATA_DIR: &str = "ACS_IDENTITY_DATA_DIR";

/// A variable that builds read and the program does not.
const OF_BUILDS: &str = "ACS_IDENTITY_COMMIT";

/// The commands whose options include those of the server.
const COMMANDS: [&str; 2] = ["exec", "platform"];

/// Gives each option of the server a variable. An empty variable counts as absent, because compose files write one for a
/// value that is not set.
pub(crate) fn with_variables(command: Command, set: &[(OsString, OsString)]) -> Command {
    let command = of_options(command, set);
    COMMANDS
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |command| of_options(command, set)))
}

fn of_options(command: Command, set: &[(OsString, OsString)]) -> Command {
    command.mut_args(|arg| {
        let Some(name) = arg.get_long().map(variable) else { return arg };
        if set.iter().any(|(other, value)| *other == *name && value.is_empty()) {
            return arg;
        }
        let arg = arg.env(name).hide_env_values(true);
        match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            _ => arg,
        }
    })
}

fn variable(option: &str) -> String {
    PREFIX.to_owned() + &option.replace('-', "_").to_ascii_uppercase()
}

/// The variables that keep the requests of the SDKs for this machine from a proxy. They also have the names that are set
/// already.
#[expect(clippy::disallowed_methods, reason = "the composition root of a command reads its settings")]
pub(crate) fn without_proxy() -> [(&'static str, String); 2] {
    const LOOPBACK: &str = "localhost,127.0.0.1,::1";
    let set = ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| std::env::var(name).ok());
    let names = set.filter(|names| !names.is_empty()).map(|names| names + ",").unwrap_or_default() + LOOPBACK;
    [("NO_PROXY", names.clone()), ("no_proxy", names)]
}

/// Refuses a variable with the prefix that is no option, because it may be misspelled.
///
/// # Errors
/// [`UsageError`] with the most similar name.
pub(crate) fn check(command: &Command, set: &[(OsString, OsString)]) -> Result<(), UsageError> {
    let commands = COMMANDS.into_iter().filter_map(|name| command.find_subcommand(name));
    let options = std::iter::once(command).chain(commands).flat_map(Command::get_arguments);
    let known: Vec<String> =
        options.filter_map(|option| option.get_long()).map(variable).chain([OF_BUILDS.to_owned()]).collect();
    let names = set.iter().filter_map(|(name, _)| name.to_str());
    let Some(unknown) =
        names.filter(|name| name.starts_with(PREFIX)).find(|name| !known.iter().any(|known| known == name))
    else {
        return Ok(());
    };
    let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, unknown));
    let nearest = nearest.map(|name| format!("; the most similar one is {name}")).unwrap_or_default();
    Err(UsageError(format!("{unknown} is no variable of this program{nearest}")))
}
