//! The page that is printed at start.

use std::io::IsTerminal as _;

use zeroize::Zeroizing;

use super::environment;
use crate::platform::{ConnectionStrings, Platform};
use crate::state::StateKind;

/// The warning about published keys.
pub const PUBLISHED_WARNING: &str = "DEVELOPMENT KEYS: anyone who reaches this server can mint tokens";

/// The text of the page.
#[must_use]
pub fn page(platform: &Platform, ConnectionStrings { primary, .. }: &ConnectionStrings) -> String {
    format!(
        r#"
Communication identity service, running on this machine

  endpoint            {endpoint}   (HTTP on {http})
  connection string   {primary}
  certificate         {ca}
  resource            {resource}, tokens signed with {algorithm}
{console}
In the shell your program runs in:   set -a; . {env}; set +a

Python (pip install azure-communication-identity):

  import os; from azure.communication.identity import CommunicationIdentityClient
  client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
  print(client.create_user_and_token(scopes=["chat", "voip"]))

JavaScript (npm install @azure/communication-identity):

  const {{ CommunicationIdentityClient }} = require("@azure/communication-identity");
  const client = new CommunicationIdentityClient(process.env.COMMUNICATION_SERVICES_CONNECTION_STRING);
  client.createUserAndToken(["chat", "voip"]).then(console.log);

{entra}{new_authority}{published}Each request has a line here. The line of a refused request ends with the reason and the next step.
Ctrl-C stops the server. {place}

"#,
        endpoint = platform.endpoint,
        http = platform.http_endpoint,
        primary = primary.as_str(),
        ca = platform.data_dir.join("ca.pem").display(),
        resource = platform.resource.resource.id,
        algorithm = platform.resource.algorithm.as_str(),
        console = console(platform),
        entra = entra(platform),
        new_authority = new_authority(platform),
        env = environment::path(&platform.data_dir).display(),
        published = published(platform),
        place = place(platform),
    )
}

/// The link to the console. Only a terminal shows the control token, because other output often ends in logs of CI systems.
/// Without `--console`, only browsers of this machine get it, at a name of loopback.
fn console(platform: &Platform) -> String {
    let Some(control) = platform.router.control.get() else { return String::new() };
    let key = if std::io::stdout().is_terminal() { control.console_key() } else { Zeroizing::default() };
    let endpoint = match control.has_remote_console() {
        true => platform.http_endpoint.clone(),
        false => format!("http://localhost:{}/", platform.http_port),
    };
    format!("  console             {endpoint}_local/{}\n", key.as_str())
}

fn published(platform: &Platform) -> String {
    match platform.state {
        StateKind::Published => format!("{PUBLISHED_WARNING}\n\n"),
        StateKind::Kept | StateKind::Ephemeral => String::new(),
    }
}

fn place(platform: &Platform) -> String {
    match platform.state {
        StateKind::Kept => format!("Identities, keys and tokens stay in {}.", platform.data_dir.display()),
        StateKind::Ephemeral | StateKind::Published => {
            "Identities, keys, tokens and the certificate authority end with it.".to_owned()
        }
    }
}

/// The clients that must trust a new certificate authority, or an empty text if it is the former one.
fn new_authority(platform: &Platform) -> String {
    if !platform.is_new_authority || platform.state.is_in_memory() {
        return String::new();
    }
    format!(
        "The certificate authority is new, because the former one may not sign for every name of this server. These \
         clients must trust\n{}:\n\n  browsers and operating systems that trust the former file\n  containers \
         and Java trust stores with a copy of it\n  programs that are running since before this start\n\n",
        platform.data_dir.join("ca.pem").display()
    )
}

/// The accounts of the stand-in for Entra, or an empty text when it is off. Passwords are only in the `env` file.
fn entra(platform: &Platform) -> String {
    let Some(entra) = &platform.router.entra else { return String::new() };
    let of = |name: &str| {
        let env = entra.env();
        env.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string()).unwrap_or_default()
    };
    format!(
        "Microsoft Entra ID, a stand-in for development (secrets are in the env file):\n\n  \
         authority           {}\n  tenant              {}\n  service principal   {}\n  \
         Teams user          {} ({}), application {}\n\n",
        entra.authority_url(),
        entra.tenant,
        of("AZURE_CLIENT_ID"),
        of("COMMUNICATION_MSAL_USERNAME"),
        entra.user_object_id(),
        entra.user_app_id(),
    )
}
