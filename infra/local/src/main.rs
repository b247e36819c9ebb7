//! The command line of the local platform: it starts the server, or runs a command.

mod cli;

use std::env::consts::{ARCH, OS};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use acs_identity::output::environment::Format;
use acs_identity::output::report::Form;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use cli::failure::Failure;
use cli::keys::KeyAction;
use cli::options::{self, Start};
use cli::resource_server::ResourceServerAction;
use cli::verbs::{Context, TokenAction, UserAction};
use cli::{environment, exec, place, serve};

/// A communication identity service on this machine. Without a command, it starts the server.
#[derive(Parser)]
#[command(version = VERSION.as_str(), args_conflicts_with_subcommands = false)]
struct Arguments {
    /// The state directory: identities, keys, the certificate authority, `env` for shells, and `ready.json`, which
    /// holds the endpoints while the server runs [default: .local].
    #[arg(long, global = true)]
    data_dir: Option<PathBuf>,
    /// The form of a command's output [default: table on a terminal, otherwise json].
    #[arg(long = "output", short = 'o', global = true)]
    form: Option<Form>,
    #[command(flatten)]
    start: Start,
    #[command(subcommand)]
    action: Option<Action>,
}

/// The version, the commit and the target of this build.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("ACS_IDENTITY_COMMIT").unwrap_or("unknown");
    let environment = match () {
        () if cfg!(target_env = "musl") => "-musl",
        () if cfg!(target_env = "gnu") => "-gnu",
        () => "",
    };
    format!("{} (commit {commit}, {ARCH}-{OS}{environment})", env!("CARGO_PKG_VERSION"))
});

/// The commands.
#[derive(Subcommand)]
enum Action {
    #[command(flatten)]
    Keys(KeyAction),
    /// Serve the embedded DynamoDB and Secrets Manager to functions that run in other processes.
    Platform {
        /// Port for `AWS_ENDPOINT_URL`. Port 0 takes a free one.
        #[arg(long, default_value_t = 4566)]
        aws_port: u16,
        /// Port on which the functions will be served. It becomes part of the endpoint.
        #[arg(long, default_value_t = 9000)]
        functions_port: u16,
    },
    /// Commands about users.
    User {
        #[command(subcommand)]
        action: UserAction,
    },
    /// Commands about access tokens.
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Commands about credentials of resource servers, which only ask about tokens.
    ResourceServer {
        #[command(subcommand)]
        action: ResourceServerAction,
    },
    /// Print the variables for programs that use the running local server. They hold secrets.
    Env {
        /// The form of the text.
        #[arg(long, value_enum, default_value_t = Format::Sh)]
        format: Format,
    },
    /// Run a command beside a server of its own. The state of the server is temporary, and its variables are set for
    /// the command only.
    Exec {
        #[command(flatten)]
        start: Box<Start>,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Check whether the running local server can do its work. The exit status is 0 or 1.
    Healthcheck,
}

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|failure| failure.report())
}

fn arguments() -> Result<Arguments, Failure> {
    let set: Vec<_> = std::env::vars_os().collect();
    let command = environment::with_variables(Arguments::command(), &set);
    environment::check(&command, &set)?;
    let matches = command.get_matches();
    let mut arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    arguments.start.settle(&matches)?;
    if let Some((name, of_command)) = matches.subcommand() {
        options::check_place(name, &matches)?;
        if let Some(Action::Exec { start, .. }) = &mut arguments.action {
            start.settle(of_command)?;
        }
    }
    Ok(arguments)
}

async fn run() -> Result<ExitCode, Failure> {
    let Arguments { data_dir, form, start, action } = arguments()?;
    let context = || Context { data_dir: data_dir.clone().unwrap_or_else(place::of_running_server), form };
    let has_report = !matches!(
        action,
        None | Some(Action::Platform { .. } | Action::Exec { .. } | Action::Env { .. } | Action::Healthcheck)
    );
    if form.is_some() && !has_report {
        let message = "-o is for commands about users, tokens and keys; env has --format";
        return Err(Failure::Usage(message.to_owned()));
    }
    match action {
        None => serve::serve(data_dir, start).await?,
        Some(Action::Platform { aws_port, functions_port }) => {
            serve::serve_aws(data_dir, start, aws_port, functions_port).await?;
        }
        Some(Action::Exec { start, command }) => return exec::exec(*start, command).await,
        Some(Action::Keys(action)) => context().keys(&action).await?,
        Some(Action::User { action }) => context().user(action).await?,
        Some(Action::Token { action }) => context().token(action).await?,
        Some(Action::ResourceServer { action }) => context().resource_server(action).await?,
        Some(Action::Env { format }) => context().env(format)?,
        Some(Action::Healthcheck) => context().healthcheck().await?,
    }
    Ok(ExitCode::SUCCESS)
}
