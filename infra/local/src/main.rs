//! The local platform's command line: starts it, or sends an operator's command to the one that runs.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use acs_identity::aws_endpoint::AwsEndpoint;
use acs_identity::control::{self, Command};
use acs_identity::gateway::{Limits, Listeners};
use acs_identity::names::{Host, MalformedHost, Names};
use acs_identity::platform::{ConnectionStrings, Options, Platform};
use acs_identity::trust::EntraOptions;
use acs_identity::{certificates, console, functions_page, key_page, schedule, start_page, token_page};
use clap::{Parser, Subcommand, ValueEnum};
use identity::api::cors::Origin;
use identity::authn::entra::{EntraAuthority, Principal};
use identity::error_chain::error_chain;
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use identity::settings::Location;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

/// A local communication identity service: everything on this machine, nothing else to install.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = false)]
struct Arguments {
    /// Where state is kept: identities, keys, the certificate authority, the env file.
    #[arg(long, global = true, default_value = ".local")]
    data_dir: PathBuf,
    #[command(flatten)]
    start: Start,
    #[command(subcommand)]
    action: Option<Action>,
}

/// How it is started, when no command is given.
#[derive(clap::Args)]
struct Start {
    /// Port for HTTPS; 0 takes any free one.
    #[arg(long, default_value_t = 8443)]
    https_port: u16,
    /// Port for HTTP; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// An address to listen on instead of loopback. Anyone who reaches it can try to sign requests.
    #[arg(long, value_parser = parse_address)]
    listen: Option<IpAddr>,
    /// A further host name or address clients may use; repeatable. With --listen, the first one is what
    /// clients are told.
    #[arg(long = "host")]
    hosts: Vec<Host>,
    /// An origin whose web pages may call the server, like https://app.example.com; repeatable. Pages of localhost,
    /// 127.0.0.1 and [::1] always may.
    #[arg(long = "allow-origin")]
    allowed_origins: Vec<Origin>,
    /// The signature algorithm of a new resource: RS256 or ES256 [default: RS256].
    #[arg(long, value_parser = parse_algorithm)]
    algorithm: Option<Algorithm>,
    /// The location of a new resource, as tokens carry it [default: unitedstates].
    #[arg(long, value_parser = parse_location)]
    location: Option<Location>,
    /// The region of a new resource, as tokens carry it [default: amer].
    #[arg(long, value_parser = parse_location)]
    region: Option<Location>,
    /// A real Entra authority, like https://login.microsoftonline.com, instead of the local stand-in.
    #[arg(long)]
    entra_authority: Option<EntraAuthority>,
    /// An Entra tenant whose tokens are accepted; repeatable.
    #[arg(long = "entra-tenant")]
    entra_tenants: Vec<Uuid>,
    /// An Entra principal that may call as a service, as tenant/objectId; repeatable.
    #[arg(long = "entra-service-principal")]
    entra_principals: Vec<Principal>,
    /// A file of route rules for the authorizer, besides those for chat.
    #[arg(long)]
    route_rules: Option<PathBuf>,
    /// Rotate the signing keys so often, like 12h or 30m.
    #[arg(long, value_parser = schedule::parse_duration)]
    rotate_every: Option<Duration>,
}

/// Commands for the server that is running.
#[derive(Subcommand)]
enum Action {
    #[command(flatten)]
    Keys(KeyAction),
    /// Serve the embedded DynamoDB and Secrets Manager, for functions that run as processes of their own.
    Platform {
        /// Port for `AWS_ENDPOINT_URL`; 0 takes any free one.
        #[arg(long, default_value_t = 4566)]
        aws_port: u16,
        /// Port under which the functions will be served, which clients are told.
        #[arg(long, default_value_t = 9000)]
        functions_port: u16,
    },
    /// About access tokens.
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
}

#[derive(Subcommand)]
enum KeyAction {
    /// Replace every signing key: every token issued so far dies.
    Rotate,
    /// Replace an access key and its signing key: every token issued through it dies.
    Regenerate { slot: Slot },
    /// List the signing keys in force.
    Keys,
}

#[derive(Subcommand)]
enum TokenAction {
    /// Explain a token: header, claims, scopes, what it permits, and whether it is active.
    Inspect {
        /// The token; `-` reads it from standard input.
        token: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Slot {
    Primary,
    Secondary,
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(Host::Address(address)) => Ok(address),
        Ok(Host::Name(_)) | Err(MalformedHost) => Err("not an IP address".to_owned()),
    }
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    text.parse().map_err(|_| "neither RS256 nor ES256".to_owned())
}

fn parse_location(text: &str) -> Result<Location, String> {
    text.parse().map_err(|()| "not of lower-case letters, digits and hyphens".to_owned())
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "what failed is told on the terminal")]
async fn main() -> ExitCode {
    let Arguments { data_dir, start, action } = Arguments::parse();
    let outcome = match action {
        None => serve(data_dir, start).await,
        Some(Action::Platform { aws_port, functions_port }) => {
            serve_aws(data_dir, start, aws_port, functions_port).await
        }
        Some(Action::Keys(action)) => keys(&data_dir, &action).await,
        Some(Action::Token { action: TokenAction::Inspect { token } }) => inspect(&data_dir, &token).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the start page is the program's output")]
async fn serve(data_dir: PathBuf, start: Start) -> Result<(), Box<dyn Error>> {
    let stop = Stop::listen()?;
    let listeners = Listeners::bind(start.listen, start.https_port, start.http_port)?;
    let ports = (listeners.https_port(), listeners.http_port());
    let (platform, connection_strings) = open(data_dir, start, ports).await?;
    print!("{}", start_page::page(&platform, &connection_strings));
    listeners.serve(platform.router.clone(), platform.tls.clone(), Limits::default(), stop.asked()).await;
    println!("Stopped.");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the start page is the program's output")]
async fn serve_aws(
    data_dir: PathBuf,
    start: Start,
    aws_port: u16,
    functions_port: u16,
) -> Result<(), Box<dyn Error>> {
    let stop = Stop::listen()?;
    let listener = AwsEndpoint::bind(aws_port).await?;
    let aws_endpoint = format!("http://{}", listener.local_addr()?);
    let names = Names::new(start.listen, start.hosts.clone()).certified();
    let (platform, _) = open(data_dir, start, (functions_port, functions_port)).await?;
    let tls = certificates::write_server(&platform.data_dir, &names, platform.adapters.system.now())?;
    let env = functions_page::write_env(&platform, &aws_endpoint)?;
    print!("{}", functions_page::page(&platform, &aws_endpoint, &env, &tls));
    tokio::select! {
        () = platform.aws_endpoint.clone().serve(listener) => {}
        () = stop.asked() => {}
    }
    println!("Stopped.");
    Ok(())
}

/// Opens the state, tells clients how to connect, and starts what runs beside the listeners.
async fn open(
    data_dir: PathBuf,
    start: Start,
    (https_port, http_port): (u16, u16),
) -> Result<(Arc<Platform>, ConnectionStrings), Box<dyn Error>> {
    let options = Options {
        data_dir,
        names: Names::new(start.listen, start.hosts),
        https_port,
        http_port,
        allowed_origins: start.allowed_origins,
        algorithm: start.algorithm,
        location: start.location,
        region: start.region,
        entra: EntraOptions {
            authority: start.entra_authority,
            tenants: start.entra_tenants,
            principals: start.entra_principals,
        },
        route_rules: start.route_rules,
    };
    let platform = Arc::new(Platform::open(options, console::audit()).await?);
    tokio::spawn(control::serve(control::bind(&platform.data_dir)?, Arc::clone(&platform)));
    if let Some(period) = start.rotate_every {
        let platform = Arc::clone(&platform);
        // The audit lines tell of each step; the next rotation is a fresh one.
        tokio::spawn(async move { schedule::rotate_every(&platform, period, |_| {}).await });
    }
    let connection_strings = platform.connection_strings().await?;
    start_page::write_env(&platform, &connection_strings)?;
    Ok((platform, connection_strings))
}

/// The signals that end the program. Listened to first: one that arrives during the start must not be lost.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    async fn asked(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer is the program's output")]
async fn keys(data_dir: &Path, action: &KeyAction) -> Result<(), Box<dyn Error>> {
    let command = match action {
        KeyAction::Rotate => Command::Invoke(json!({"rotate": "signing-keys"})),
        KeyAction::Regenerate { slot } => Command::Invoke(json!({"regenerate": slot.name()})),
        KeyAction::Keys => Command::Keys,
    };
    let state = control::send(data_dir, &command).await?;
    match action {
        KeyAction::Rotate => println!("Every token issued before now is dead.\n"),
        KeyAction::Regenerate { slot } => println!("{}", key_page::regenerated(data_dir, slot.name())?),
        KeyAction::Keys => {}
    }
    print!("{}", key_page::keys(&state));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer is the program's output")]
async fn inspect(data_dir: &Path, token: &str) -> Result<(), Box<dyn Error>> {
    let token = if token == "-" { std::io::read_to_string(std::io::stdin())? } else { token.to_owned() };
    let token = token.trim();
    let verdict = control::send(data_dir, &Command::Inspect(token.to_owned())).await?;
    print!("{}", token_page::page(token, &verdict));
    Ok(())
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}
