//! The server, and the embedded services for functions in other processes.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use acs_identity::aws_endpoint::AwsEndpoint;
use acs_identity::control_api::{self, ControlApi};
use acs_identity::files::FileError;
use acs_identity::gateway::{Limits, Listeners};
use acs_identity::output::start_page::PUBLISHED_WARNING;
use acs_identity::output::{environment, functions_page, print, start_page};
use acs_identity::platform::{ConnectionStrings, Platform};
use acs_identity::ready::ReadySignal;
use acs_identity::recorder::Recorder;
use acs_identity::state::StateKind;
use acs_identity::{certificates, console, control, schedule};
use identity::runtime::Clock as _;

use super::failure::UsageError;
use super::options::Start;
use super::place::Place;
use super::signals::Signals;

const HTTPS_PORT: u16 = 8443;
const HTTP_PORT: u16 = 8080;

/// Serves until a signal.
pub(crate) async fn serve(data_dir: Option<PathBuf>, start: Start) -> Result<(), Box<dyn Error>> {
    let mut stop = Signals::listen(&Signals::STOP)?;
    let (https, http) = (start.https_port.unwrap_or(HTTPS_PORT), start.http_port.unwrap_or(HTTP_PORT));
    let listeners = Listeners::bind(start.listen, https, http)?;
    let ports = (listeners.https_port, listeners.http_port);
    let place = Place::new(data_dir, start.state())?;
    let (platform, connection_strings) = open_with_control(place.directory.clone(), start, ports).await?;
    if platform.state == StateKind::Published {
        console::warn(PUBLISHED_WARNING);
    }
    print(&start_page::page(&platform, &connection_strings))?;
    let ready = ready(&platform)?;
    let stop = async {
        stop.next().await;
        platform.controlled.notices.stop();
        drop(ready);
    };
    listeners.serve(platform.router.clone(), platform.tls.clone(), Limits::default(), stop).await;
    place.close()?;
    Ok(print("Stopped.\n")?)
}

/// Serves the embedded services until a signal.
pub(crate) async fn serve_aws(
    data_dir: Option<PathBuf>,
    start: Start,
    aws_port: u16,
    functions_port: u16,
) -> Result<(), Box<dyn Error>> {
    let mut stop = Signals::listen(&Signals::STOP)?;
    let listener = AwsEndpoint::bind(aws_port)?;
    let aws_endpoint = format!("http://{}", listener.local_addr()?);
    if start.state().is_in_memory() {
        let message = "`platform` keeps its state; leave out --ephemeral and --dev";
        return Err(UsageError(message.to_owned()).into());
    }
    let place = Place::new(data_dir, StateKind::Kept)?;
    let names = start.names().certified();
    let (platform, _) = open(place.directory, start, (functions_port, functions_port)).await?;
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

/// Tells other programs that the server answers.
pub(crate) fn ready(platform: &Platform) -> Result<ReadySignal, FileError> {
    let endpoints = [("https", platform.endpoint.as_str()), ("http", platform.http_endpoint.as_str())];
    ReadySignal::send(&platform.data_dir, platform.resource.resource.id, &endpoints)
}

/// As [`open`], with the control API and the seed.
pub(crate) async fn open_with_control(
    data_dir: PathBuf,
    start: Start,
    ports: (u16, u16),
) -> Result<(Arc<Platform>, ConnectionStrings), Box<dyn Error>> {
    let (has_control, has_remote_console, seed) = (!start.no_control, start.console, start.seed.clone());
    let (platform, connection_strings) = open(data_dir, start, ports).await?;
    control_api::remove_former_files(&platform.data_dir)?;
    if has_control {
        ControlApi::start(&platform, has_remote_console)?;
    }
    if let Some(file) = &seed {
        control_api::seed::apply_file(&platform, file).await?;
    }
    Ok((platform, connection_strings))
}

/// Opens the state, writes the `env` file, and starts the tasks that run beside the listeners.
pub(crate) async fn open(
    data_dir: PathBuf,
    start: Start,
    ports: (u16, u16),
) -> Result<(Arc<Platform>, ConnectionStrings), Box<dyn Error>> {
    Signals::survive_file_size_limit()?;
    let rotate_every = start.rotate_every;
    let options = start.into_options(data_dir, ports)?;
    let platform = Arc::new(Platform::open(options, console::audit()).await?);
    tokio::spawn(control::serve(control::bind(&platform.data_dir)?, Arc::clone(&platform)));
    if let Some(recorder) = Recorder::begin(&platform).await? {
        tokio::spawn(recorder.run());
    }
    if let Some(period) = rotate_every {
        let platform = Arc::clone(&platform);
        // The audit lines report each failed step. The next rotation starts from the beginning.
        tokio::spawn(async move { schedule::rotate_every(&platform, period, |_| {}).await });
    }
    let connection_strings = platform.connection_strings().await?;
    environment::write(&platform, &connection_strings)?;
    Ok((platform, connection_strings))
}
