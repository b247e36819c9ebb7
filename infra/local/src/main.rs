//! The command line of the local platform: it starts the server, or sends a command to the running server.

use std::error::Error;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use acs_identity::aws_endpoint::AwsEndpoint;
use acs_identity::control::{self, Command};
use acs_identity::gateway::{Limits, Listeners};
use acs_identity::names::{Host, PublicAuthority, ServerNames};
use acs_identity::output::{functions_page, key_page, print, start_page, token_page};
use acs_identity::platform::{ConnectionStrings, Options, Platform};
use acs_identity::ready::ReadySignal;
use acs_identity::trust::EntraOptions;
use acs_identity::{certificates, console, schedule};
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

/// A communication identity service on this machine. Without a command, it starts the server.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = false)]
struct Arguments {
    /// The state directory: identities, keys, the certificate authority, `env` for shells, and `ready.json`, which
    /// holds the endpoints while the server runs.
    #[arg(long, global = true, default_value = ".local")]
    data_dir: PathBuf,
    #[command(flatten)]
    start: Start,
    #[command(subcommand)]
    action: Option<Action>,
}

/// The options of the server.
#[derive(clap::Args)]
struct Start {
    /// Port for HTTPS. Port 0 takes a free one.
    #[arg(long, default_value_t = 8443)]
    https_port: u16,
    /// Port for HTTP. Port 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// An address to listen on in addition to loopback. Every machine that reaches the address can send requests. 0.0.0.0
    /// and [::] both listen on every address of the machine.
    #[arg(long, value_parser = parse_address)]
    listen: Option<IpAddr>,
    /// A further host name or address of this server; repeatable. With --listen, the endpoint has the first one.
    #[arg(long = "host")]
    hosts: Vec<Host>,
    /// The host and port that clients address, like localhost:32768, if a container or a proxy maps the port. Endpoint,
    /// connection strings and published addresses have it.
    #[arg(long)]
    public_authority: Option<PublicAuthority>,
    /// An origin whose web pages may call the server, like https://app.example.com; repeatable. Pages of localhost,
    /// 127.0.0.1 and [::1] always may.
    #[arg(long = "allow-origin")]
    allowed_origins: Vec<Origin>,
    /// The signature algorithm of a new resource: RS256 or ES256 [default: RS256].
    #[arg(long, value_parser = parse_algorithm)]
    algorithm: Option<Algorithm>,
    /// The location of a new resource, as in its tokens [default: unitedstates].
    #[arg(long, value_parser = parse_location)]
    location: Option<Location>,
    /// The region of a new resource, as in its tokens [default: amer].
    #[arg(long, value_parser = parse_location)]
    region: Option<Location>,
    /// A real Entra authority instead of the local stand-in, such as https://login.microsoftonline.com.
    #[arg(long)]
    entra_authority: Option<EntraAuthority>,
    /// An Entra tenant whose tokens are accepted; repeatable.
    #[arg(long = "entra-tenant")]
    entra_tenants: Vec<Uuid>,
    /// An Entra principal that may call service operations, as tenant/objectId; repeatable.
    #[arg(long = "entra-service-principal")]
    entra_principals: Vec<Principal>,
    /// A file with route rules for the authorizer, in addition to the rules for chat.
    #[arg(long)]
    route_rules: Option<PathBuf>,
    /// The period of scheduled rotations of the signing keys, such as 30m, 12h or 1d.
    #[arg(long, value_parser = schedule::parse_period)]
    rotate_every: Option<Duration>,
}

impl Start {
    fn names(&self) -> ServerNames {
        ServerNames::new(self.listen, self.hosts.clone()).with_authority(self.public_authority.clone())
    }
}

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
    /// Commands about access tokens.
    Token {
        #[command(subcommand)]
        action: TokenAction,
    },
}

#[derive(Subcommand)]
enum KeyAction {
    /// Replace every signing key of the running server. Every token that was issued before is revoked.
    Rotate,
    /// Replace an access key of the running server and its signing key. Every token that was issued through it is
    /// revoked.
    Regenerate { slot: AccessKeySlot },
    /// List the signing keys in force at the running server.
    Keys,
}

#[derive(Subcommand)]
enum TokenAction {
    /// Explain a token: header, claims, scopes, permits, and whether the running server finds it active.
    Inspect {
        /// The token; `-` reads it from standard input.
        token: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum AccessKeySlot {
    Primary,
    Secondary,
}

fn parse_address(text: &str) -> Result<IpAddr, &'static str> {
    match text.parse() {
        Ok(Host::Address(address)) => Ok(address),
        _ => Err("not an IP address; give one such as 192.0.2.7, [2001:db8::7] or 0.0.0.0"),
    }
}

fn parse_algorithm(text: &str) -> Result<Algorithm, &'static str> {
    text.parse().map_err(|_| "unknown algorithm; give RS256 or ES256")
}

fn parse_location(text: &str) -> Result<Location, &'static str> {
    text.parse().map_err(|()| {
        "not a location; give 1 to 40 lower-case letters, digits or hyphens, such as unitedstates or amer"
    })
}

#[tokio::main]
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
            // Without standard error, the exit status is all that is left to report.
            let _ = writeln!(std::io::stderr(), "error: {}", error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn serve(data_dir: PathBuf, start: Start) -> Result<(), Box<dyn Error>> {
    let stop = Stop::listen()?;
    let listeners = Listeners::bind(start.listen, start.https_port, start.http_port)?;
    let ports = (listeners.https_port(), listeners.http_port());
    let (platform, connection_strings) = open(data_dir, start, ports).await?;
    print(&start_page::page(&platform, &connection_strings))?;
    let endpoints = [("https", platform.endpoint()), ("http", platform.http_endpoint())];
    let ready = ReadySignal::send(&platform.data_dir, platform.resource.resource.id, &endpoints)?;
    let stop = async {
        stop.requested().await;
        drop(ready);
    };
    listeners.serve(platform.router.clone(), platform.tls.clone(), Limits::default(), stop).await;
    Ok(print("Stopped.\n")?)
}

async fn serve_aws(
    data_dir: PathBuf,
    start: Start,
    aws_port: u16,
    functions_port: u16,
) -> Result<(), Box<dyn Error>> {
    let stop = Stop::listen()?;
    let listener = AwsEndpoint::bind(aws_port).await?;
    let aws_endpoint = format!("http://{}", listener.local_addr()?);
    let names = start.names().certified();
    let (platform, _) = open(data_dir, start, (functions_port, functions_port)).await?;
    let tls = certificates::write_server(&platform.data_dir, &names, platform.adapters.system.now())?;
    let env = functions_page::write_env(&platform, &aws_endpoint)?;
    print(&functions_page::page(&platform, &aws_endpoint, &env, &tls))?;
    let ready =
        ReadySignal::send(&platform.data_dir, platform.resource.resource.id, &[("aws", &aws_endpoint)])?;
    tokio::select! {
        () = platform.aws_endpoint.clone().serve(listener) => {}
        () = stop.requested() => {}
    }
    drop(ready);
    Ok(print("Stopped.\n")?)
}

/// Opens the state, writes the `env` file, and starts the tasks that run beside the listeners.
async fn open(
    data_dir: PathBuf,
    start: Start,
    (https_port, http_port): (u16, u16),
) -> Result<(Arc<Platform>, ConnectionStrings), Box<dyn Error>> {
    let options = Options {
        data_dir,
        names: start.names(),
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
        // The audit lines report each failed step. The next rotation starts from the beginning.
        tokio::spawn(async move { schedule::rotate_every(&platform, period, |_| {}).await });
    }
    let connection_strings = platform.connection_strings().await?;
    start_page::write_env(&platform, &connection_strings)?;
    Ok((platform, connection_strings))
}

/// The signals that end the program. The program subscribes to them first, so that a signal during the start is not
/// lost.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate })
    }

    async fn requested(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn keys(data_dir: &Path, action: &KeyAction) -> Result<(), Box<dyn Error>> {
    let command = match action {
        KeyAction::Rotate => Command::Invoke(json!({"rotate": "signing-keys"})),
        KeyAction::Regenerate { slot } => Command::Invoke(json!({"regenerate": slot.name()})),
        KeyAction::Keys => Command::Keys,
    };
    let state = control::send(data_dir, &command).await?;
    let done = match action {
        KeyAction::Rotate => "Every token issued before now is revoked.\n\n".to_owned(),
        KeyAction::Regenerate { slot } => key_page::regenerated(data_dir, slot.name())? + "\n",
        KeyAction::Keys => String::new(),
    };
    let printed = print(&(done + &key_page::keys(&state)));
    Ok(printed.map_err(|error| format!("the command has taken effect, but its answer is lost: {error}"))?)
}

async fn inspect(data_dir: &Path, token: &str) -> Result<(), Box<dyn Error>> {
    let token = if token == "-" { std::io::read_to_string(std::io::stdin())? } else { token.to_owned() };
    let token = token.trim();
    let verdict = control::send(data_dir, &Command::Inspect(token.to_owned())).await?;
    Ok(print(&token_page::page(token, &verdict))?)
}

impl AccessKeySlot {
    fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}
