//! Starts the local platform.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use identity::keys::Algorithm;
use identity::settings::Place;
use local::gateway::Listeners;
use local::platform::{Options, Platform};
use local::{console, start_page};
use tokio::signal::unix::{SignalKind, signal};

/// A local communication identity service: everything on this machine, nothing else to install.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Port for HTTPS; 0 takes any free one.
    #[arg(long, default_value_t = 8443)]
    https_port: u16,
    /// Port for HTTP; 0 takes any free one.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Where state is kept: identities, keys, the certificate authority, the env file.
    #[arg(long, default_value = ".local")]
    data_dir: PathBuf,
    /// An address to listen on instead of loopback. Anyone who reaches it can try to sign requests.
    #[arg(long)]
    listen: Option<IpAddr>,
    /// A further host name clients may use; repeatable.
    #[arg(long = "host")]
    hosts: Vec<String>,
    /// The signature algorithm of a new resource: RS256 or ES256.
    #[arg(long, value_parser = parse_algorithm)]
    algorithm: Option<Algorithm>,
    /// The location of a new resource, as tokens carry it [default: unitedstates].
    #[arg(long, value_parser = parse_place)]
    location: Option<Place>,
    /// The region of a new resource, as tokens carry it [default: amer].
    #[arg(long, value_parser = parse_place)]
    region: Option<Place>,
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    text.parse().map_err(|_| "neither RS256 nor ES256".to_owned())
}

fn parse_place(text: &str) -> Result<Place, String> {
    text.parse()
        .map_err(|()| "not of lower-case letters, digits and hyphens".to_owned())
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "a failed start is told on the terminal")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the start page is the program's output")]
async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // Asked for first: a signal that arrives during the start must not be lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listeners = Listeners::bind(arguments.listen, arguments.https_port, arguments.http_port)?;
    let options = Options {
        data_dir: arguments.data_dir,
        hosts: arguments.hosts,
        https_port: listeners.https_port(),
        http_port: listeners.http_port(),
        algorithm: arguments.algorithm,
        location: arguments.location,
        region: arguments.region,
    };
    let platform = Platform::open(options, console::audit()).await?;
    let page = start_page::write(&platform)?;
    print!("{page}");
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    listeners
        .serve(platform.service.clone(), platform.tls.clone(), stop)
        .await;
    println!("Stopped.");
    Ok(())
}
