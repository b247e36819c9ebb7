//! The page that is printed at start, and the `env` file for shells.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::files::{self, FileError, Readers};
use crate::platform::{ConnectionStrings, Platform};

/// The variables of the `env` file that hold the connection strings.
pub(crate) const PRIMARY: &str = "COMMUNICATION_SERVICES_CONNECTION_STRING";
pub(crate) const SECONDARY: &str = "COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING";

/// Writes `env` into the state directory, at start and after an access key was replaced.
///
/// # Errors
/// When the file cannot be written.
pub fn write_env(platform: &Platform, connection_strings: &ConnectionStrings) -> Result<(), FileError> {
    let text = Zeroizing::new(env(platform, connection_strings));
    files::replace(&path_of_env(&platform.data_dir), text.as_bytes(), Readers::Owner)
}

pub(crate) fn path_of_env(data_dir: &Path) -> PathBuf {
    data_dir.join("env")
}

/// `KEY='value'` lines, for `set -a; . .local/env`.
fn env(platform: &Platform, ConnectionStrings { primary, secondary }: &ConnectionStrings) -> String {
    let authority = platform.data_dir.join("ca.pem").display().to_string();
    let values = [
        (PRIMARY, primary.as_str()),
        (SECONDARY, secondary.as_str()),
        ("COMMUNICATION_SERVICES_ENDPOINT", platform.endpoint()),
        ("SSL_CERT_FILE", &authority),
        ("REQUESTS_CA_BUNDLE", &authority),
        ("NODE_EXTRA_CA_CERTS", &authority),
    ];
    let of_entra = platform.router.entra.as_ref().map(|entra| entra.env()).unwrap_or_default();
    lines(values.into_iter().chain(of_entra.iter().map(|(name, value)| (*name, value.as_str()))))
}

/// Lines from which a shell reads these values.
#[must_use]
pub fn lines<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in values {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}={}", super::quoted(value));
    }
    text
}

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

In the shell your program runs in:   set -a; . {env}; set +a

Python (pip install azure-communication-identity):

  import os; from azure.communication.identity import CommunicationIdentityClient
  client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
  print(client.create_user_and_token(scopes=["chat", "voip"]))

JavaScript (npm install @azure/communication-identity):

  const {{ CommunicationIdentityClient }} = require("@azure/communication-identity");
  const client = new CommunicationIdentityClient(process.env.COMMUNICATION_SERVICES_CONNECTION_STRING);
  client.createUserAndToken(["chat", "voip"]).then(console.log);

{entra}{new_authority}Each request has a line here. The line of a refused request ends with the reason and the next step.
Ctrl-C stops the server. Identities, keys and tokens stay in {dir}.

"#,
        endpoint = platform.endpoint(),
        http = platform.http_endpoint(),
        primary = primary.as_str(),
        ca = platform.data_dir.join("ca.pem").display(),
        resource = platform.resource.resource.id,
        algorithm = platform.resource.algorithm.as_str(),
        entra = entra(platform),
        new_authority = new_authority(platform),
        env = path_of_env(&platform.data_dir).display(),
        dir = platform.data_dir.display(),
    )
}

/// The clients that must trust a new certificate authority, or an empty text if it is the former one.
fn new_authority(platform: &Platform) -> String {
    if !platform.is_new_authority {
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
        entra.base_url(),
        entra.tenant(),
        of("AZURE_CLIENT_ID"),
        of("COMMUNICATION_MSAL_USERNAME"),
        entra.user_object_id(),
        entra.user_app_id(),
    )
}
