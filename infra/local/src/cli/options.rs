//! The options of the server. Each one is also a variable: `super::environment`.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acs_identity::names::{Host, PublicAuthority, ServerNames};
use acs_identity::platform::Options;
use acs_identity::schedule;
use acs_identity::state::StateKind;
use acs_identity::trust::EntraOptions;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command};
use functions::aws::published_keys::ACCESS_KEYS;
use identity::api::cors::Origin;
use identity::authn::entra::{EntraAuthority, Principal};
use identity::keys::Algorithm;
use identity::keys::access::AccessKeys;
use identity::settings::Location;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::failure::UsageError;

/// The options of the server.
#[derive(clap::Args)]
pub(crate) struct Start {
    /// Keep all state in memory. Without --data-dir, the files for clients are in a temporary directory.
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Serve the published development resource: its id, access keys and Entra passwords are public and the same on every
    /// machine. The state is in memory [default directory: .local/dev].
    #[arg(long)]
    pub(crate) dev: bool,
    /// The access keys of a new resource: primary=BASE64,secondary=BASE64, or @FILE with this text. Other users of the
    /// machine can read the options of a process, so a file is the better place.
    #[arg(long, value_parser = opaque)]
    keys: Option<Zeroizing<String>>,
    /// Port for HTTPS. Port 0 takes a free one [default: 8443, or a free one for exec].
    #[arg(long)]
    pub(crate) https_port: Option<u16>,
    /// Port for HTTP. Port 0 takes a free one [default: 8080, or a free one for exec].
    #[arg(long)]
    pub(crate) http_port: Option<u16>,
    /// An address to listen on in addition to loopback. Every machine that reaches the address can send requests. 0.0.0.0
    /// and [::] both listen on every address of the machine.
    #[arg(long, value_parser = parse_address)]
    pub(crate) listen: Option<IpAddr>,
    /// A further host name or address of this server; repeatable. With --listen, the endpoint has the first one.
    #[arg(long = "host", value_delimiter = ',')]
    pub(crate) hosts: Vec<Host>,
    /// The host and port that clients address, like localhost:32768, if a container or a proxy maps the port. Endpoint,
    /// connection strings and published addresses have it.
    #[arg(long)]
    pub(crate) public_authority: Option<PublicAuthority>,
    /// An origin whose web pages may call the server, like https://app.example.com; repeatable. Pages of localhost,
    /// 127.0.0.1 and [::1] always may.
    #[arg(long = "allow-origin", value_delimiter = ',')]
    pub(crate) allowed_origins: Vec<Origin>,
    /// The signature algorithm of a new resource: RS256 or ES256 [default: RS256].
    #[arg(long, value_parser = parse_algorithm)]
    pub(crate) algorithm: Option<Algorithm>,
    /// The location of a new resource, as in its tokens [default: unitedstates].
    #[arg(long, value_parser = parse_location)]
    pub(crate) location: Option<Location>,
    /// The region of a new resource, as in its tokens [default: amer].
    #[arg(long, value_parser = parse_location)]
    pub(crate) region: Option<Location>,
    /// A real Entra authority instead of the local stand-in, such as https://login.microsoftonline.com.
    #[arg(long)]
    pub(crate) entra_authority: Option<EntraAuthority>,
    /// An Entra tenant whose tokens are accepted; repeatable.
    #[arg(long = "entra-tenant", value_delimiter = ',')]
    pub(crate) entra_tenants: Vec<Uuid>,
    /// An Entra principal that may call service operations, as tenant/objectId; repeatable.
    #[arg(long = "entra-service-principal", value_delimiter = ',')]
    pub(crate) entra_principals: Vec<Principal>,
    /// A file with route rules for the authorizer, in addition to the rules for chat.
    #[arg(long)]
    pub(crate) route_rules: Option<PathBuf>,
    /// Switches the control API below /_local/v1 off.
    #[arg(long)]
    pub(crate) no_control: bool,
    /// Shows the console also to browsers of other machines, which --listen lets in.
    #[arg(long)]
    pub(crate) console: bool,
    /// A file with identities, people and assignments to create at the start (docs/control.md). The ids and tokens are then in
    /// seed.json in the state directory.
    #[arg(long)]
    pub(crate) seed: Option<PathBuf>,
    /// The period of scheduled rotations of the signing keys, such as 30m, 12h or 1d.
    #[arg(long, value_parser = schedule::parse_period)]
    pub(crate) rotate_every: Option<Duration>,
}

impl Start {
    pub(crate) fn names(&self) -> ServerNames {
        ServerNames::new(self.listen, self.hosts.clone()).with_authority(self.public_authority.clone())
    }

    pub(crate) fn state(&self) -> StateKind {
        match (self.dev, self.ephemeral) {
            (true, _) => StateKind::Published,
            (false, true) => StateKind::Ephemeral,
            (false, false) => StateKind::Kept,
        }
    }

    /// Settles options that exclude each other. An option beats a variable. `matches` are those of the command.
    ///
    /// # Errors
    /// [`UsageError`] for two options, or for two variables.
    pub(crate) fn settle(&mut self, matches: &ArgMatches) -> Result<(), UsageError> {
        let is_option = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let [dev, ephemeral, keys] = ["dev", "ephemeral", "keys"].map(is_option);
        let excluded = |other: &str| Err(UsageError(format!("--dev cannot be used with {other}")));
        if self.dev && self.ephemeral {
            match (dev, ephemeral) {
                (true, false) => self.ephemeral = false,
                (false, true) => self.dev = false,
                _ => return excluded("--ephemeral"),
            }
        }
        if self.dev && self.keys.is_some() {
            match (dev, keys) {
                (true, false) => self.keys = None,
                (false, true) => self.dev = false,
                _ => return excluded("--keys"),
            }
        }
        Ok(())
    }

    fn access_keys(&self) -> Result<Option<Arc<AccessKeys>>, UsageError> {
        if self.dev {
            let [primary, secondary] = ACCESS_KEYS;
            return AccessKeys::from_encoded(primary, secondary)
                .map(|keys| Some(Arc::new(keys)))
                .map_err(|error| UsageError(error.to_string()));
        }
        self.keys.as_deref().map(|keys| parse_keys(keys).map(Arc::new)).transpose()
    }

    /// The options of the platform, for a server with these ports of HTTPS and HTTP.
    ///
    /// # Errors
    /// [`UsageError`] for access keys that cannot be used.
    pub(crate) fn into_options(
        self,
        data_dir: PathBuf,
        (https_port, http_port): (u16, u16),
    ) -> Result<Options, UsageError> {
        Ok(Options {
            data_dir,
            state: self.state(),
            access_keys: self.access_keys()?,
            names: self.names(),
            https_port,
            http_port,
            allowed_origins: self.allowed_origins,
            algorithm: self.algorithm,
            location: self.location,
            region: self.region,
            entra: EntraOptions {
                authority: self.entra_authority,
                tenants: self.entra_tenants,
                principals: self.entra_principals,
            },
            route_rules: self.route_rules,
        })
    }
}

/// Refuses options that would have no effect on a command: those of the server before the name of the command.
///
/// # Errors
/// [`UsageError`] with the first such option.
pub(crate) fn check_place(command: &str, matches: &ArgMatches) -> Result<(), UsageError> {
    let is_option = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    let of_server = Start::augment_args(Command::new(""));
    let mut given = of_server.get_arguments().filter(|option| is_option(option.get_id().as_str()));
    match (command, given.next().and_then(|option| option.get_long())) {
        ("platform", _) => Ok(()),
        ("exec", Some(option)) => Err(UsageError(format!("give --{option} after exec"))),
        ("exec", None) if is_option("data_dir") => {
            Err(UsageError("exec has a temporary state directory; leave out --data-dir".to_owned()))
        }
        (_, Some(option)) => {
            Err(UsageError(format!("--{option} is for the server; {command} does not start one")))
        }
        (_, None) => Ok(()),
    }
}

/// A value that no message quotes.
fn opaque(text: &str) -> Result<Zeroizing<String>, Infallible> {
    Ok(Zeroizing::new(text.to_owned()))
}

/// Reads `primary=BASE64,secondary=BASE64`, or a file with this text. No message quotes a key.
fn parse_keys(text: &str) -> Result<AccessKeys, UsageError> {
    const FORM: &str = "--keys is not primary=BASE64,secondary=BASE64";
    let text = match text.strip_prefix('@') {
        None => Zeroizing::new(text.to_owned()),
        Some(file) => std::fs::read_to_string(file)
            .map(Zeroizing::new)
            .map_err(|error| UsageError(format!("--keys: cannot read {file}: {error}")))?,
    };
    let value = |slot: &str| {
        let mut pairs = text.split([',', '\n']).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == slot).map(|(_, key)| key)
    };
    let (Some(primary), Some(secondary)) = (value("primary"), value("secondary")) else {
        return Err(UsageError(FORM.to_owned()));
    };
    AccessKeys::from_encoded(primary, secondary).map_err(|error| UsageError(format!("--keys: {error}")))
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
