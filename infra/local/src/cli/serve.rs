//! The server, and the embedded services for functions in other processes.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use acs_identity::aws_endpoint::AwsEndpoint;
use acs_identity::gateway::{Limits, Listeners};
use acs_identity::output::{functions_page, print, start_page};
use acs_identity::platform::{ConnectionStrings, Platform};
use acs_identity::ready::ReadySignal;
use acs_identity::{certificates, console, control, schedule};
use identity::runtime::Clock as _;

use super::options::Start;
use super::signals::Signals;

const HTTPS_PORT: u16 = 8443;
const HTTP_PORT: u16 = 8080;

/// Serves until a signal.
pub(crate) async fn serve(data_dir: PathBuf, start: Start) -> Result<(), Box<dyn Error>> {
    let mut stop = Signals::listen(&Signals::STOP)?;
    let (https, http) = (start.https_port.unwrap_or(HTTPS_PORT), start.http_port.unwrap_or(HTTP_PORT));
    let listeners = Listeners::bind(start.listen, https, http)?;
    let ports = (listeners.https_port(), listeners.http_port());
    let (platform, connection_strings) = open(data_dir, start, ports).await?;
    print(&start_page::page(&platform, &connection_strings))?;
    let endpoints = [("https", platform.endpoint()), ("http", platform.http_endpoint())];
    let ready = ReadySignal::send(&platform.data_dir, platform.resource.resource.id, &endpoints)?;
    let stop = async {
        stop.next().await;
        drop(ready);
    };
    listeners.serve(platform.router.clone(), platform.tls.clone(), Limits::default(), stop).await;
    Ok(print("Stopped.\n")?)
}

/// Serves the embedded services until a signal.
pub(crate) async fn serve_aws(
    data_dir: PathBuf,
    start: Start,
    aws_port: u16,
    functions_port: u16,
) -> Result<(), Box<dyn Error>> {
    let mut stop = Signals::listen(&Signals::STOP)?;
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
        _ = stop.next() => {}
    }
    drop(ready);
    Ok(print("Stopped.\n")?)
}

/// Opens the state, writes the `env` file, and starts the tasks that run beside the listeners.
pub(crate) async fn open(
    data_dir: PathBuf,
    start: Start,
    ports: (u16, u16),
) -> Result<(Arc<Platform>, ConnectionStrings), Box<dyn Error>> {
    let rotate_every = start.rotate_every;
    let options = start.into_options(data_dir, ports);
    let platform = Arc::new(Platform::open(options, console::audit()).await?);
    tokio::spawn(control::serve(control::bind(&platform.data_dir)?, Arc::clone(&platform)));
    if let Some(period) = rotate_every {
        let platform = Arc::clone(&platform);
        // The audit lines report each failed step. The next rotation starts from the beginning.
        tokio::spawn(async move { schedule::rotate_every(&platform, period, |_| {}).await });
    }
    let connection_strings = platform.connection_strings().await?;
    start_page::write_env(&platform, &connection_strings)?;
    Ok((platform, connection_strings))
}
