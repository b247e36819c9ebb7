//! The variables that clients and samples read, and the files of the state directory that hold them
//! (docs/environment.md).

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::files::{self, FileError, Readers};
use crate::platform::{ConnectionStrings, Platform};
use crate::trust_files;

/// The variables that hold the connection strings.
pub(crate) const PRIMARY: &str = "COMMUNICATION_SERVICES_CONNECTION_STRING";
pub(crate) const SECONDARY: &str = "COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING";

/// Further names of the primary connection string: the Azure CLI, the samples and the tests of the SDKs, and samples of
/// applications (docs/environment.md).
const CONNECTION_STRINGS: [&str; 7] = [
    "AZURE_COMMUNICATION_CONNECTION_STRING",
    "COMMUNICATION_SAMPLES_CONNECTION_STRING",
    "COMMUNICATION_CONNECTION_STRING",
    "COMMUNICATION_LIVETEST_DYNAMIC_CONNECTION_STRING",
    "COMMUNICATION_LIVETEST_STATIC_CONNECTION_STRING",
    "ResourceConnectionString",
    "communicationServices_connectionString",
];

/// The names of the endpoint.
const ENDPOINTS: [&str; 5] = [
    "COMMUNICATION_SERVICES_ENDPOINT",
    "AZURE_COMMUNICATION_SERVICE_ENDPOINT",
    "COMMUNICATION_SERVICE_ENDPOINT",
    "COMMUNICATION_ENDPOINT",
    "EndpointUrl",
];

/// The primary access key.
const ACCESS_KEY: &str = "COMMUNICATION_SERVICES_ACCESSKEY";

/// A form of the variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `NAME='value'`, for `set -a; . FILE; set +a`.
    Sh,
    /// `NAME=value`, for `docker --env-file`, `node --env-file`, dotenv and files of CI systems.
    Docker,
    /// `$env:NAME = 'value'`.
    Powershell,
    /// `set "NAME=value"`, for a batch file.
    Cmd,
    /// An object.
    Json,
}

/// The files, each with its form.
const FILES: [(&str, Format); 4] = [
    ("env", Format::Sh),
    ("docker.env", Format::Docker),
    ("env.ps1", Format::Powershell),
    ("env.cmd", Format::Cmd),
];

/// Writes the files, at start and after an access key was replaced.
///
/// # Errors
/// When a file cannot be written.
pub fn write(platform: &Platform, connection_strings: &ConnectionStrings) -> Result<(), FileError> {
    let variables = variables(platform, connection_strings);
    for (file, format) in FILES {
        let text = render(variables.iter().map(|(name, value)| (*name, value.as_str())), format);
        files::update(&platform.data_dir.join(file), text.as_bytes(), Readers::Owner)?;
    }
    Ok(())
}

/// The file for shells.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILES[0].0)
}

fn variables(
    platform: &Platform,
    ConnectionStrings { primary, secondary }: &ConnectionStrings,
) -> Vec<(&'static str, Zeroizing<String>)> {
    let value = |text: &str| Zeroizing::new(text.to_owned());
    let in_dir = |file: &str| Zeroizing::new(platform.data_dir.join(file).display().to_string());
    let key = primary.split_once(";accesskey=").map(|(_, key)| key).unwrap_or_default();
    let mut all = vec![(PRIMARY, primary.clone()), (SECONDARY, secondary.clone()), (ACCESS_KEY, value(key))];
    all.extend(CONNECTION_STRINGS.map(|name| (name, primary.clone())));
    all.extend(ENDPOINTS.map(|name| (name, value(&platform.endpoint))));
    all.extend([
        ("SSL_CERT_FILE", in_dir(trust_files::BUNDLE)),
        ("REQUESTS_CA_BUNDLE", in_dir(trust_files::BUNDLE)),
        ("NODE_EXTRA_CA_CERTS", in_dir("ca.pem")),
    ]);
    all.extend(platform.router.entra.iter().flat_map(|entra| entra.env()));
    all
}

/// The text of these variables in a form.
#[must_use]
pub fn render<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>, format: Format) -> Zeroizing<String> {
    if format == Format::Json {
        let object: Map<String, Value> =
            variables.map(|(name, value)| (name.to_owned(), value.into())).collect();
        return Zeroizing::new(serde_json::to_string_pretty(&object).unwrap_or_default() + "\n");
    }
    let mut text = Zeroizing::new(String::new());
    for (name, value) in variables {
        let line = match format {
            Format::Sh => format!("{name}={}", super::quoted(value)),
            Format::Powershell => format!("$env:{name} = '{}'", doubled(value)),
            Format::Cmd => format!("set \"{name}={}\"", value.replace('%', "%%")),
            Format::Docker | Format::Json => format!("{name}={value}"),
        };
        let end = if format == Format::Cmd { "\r\n" } else { "\n" };
        text.extend([line.as_str(), end]);
    }
    text
}

/// The text between single quotes of PowerShell, which takes typographic quotes for the same.
fn doubled(text: &str) -> String {
    text.chars().flat_map(|c| std::iter::repeat_n(c, if "'‘’‚‛".contains(c) { 2 } else { 1 })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_its_own_quotes() {
        let variables = [("KEY", "endpoint=https://a/;accesskey=b+/="), ("PATH_OF", "/it’s it's 100%")];
        for (format, text) in [
            (Format::Sh, "KEY='endpoint=https://a/;accesskey=b+/='\nPATH_OF='/it’s it'\\''s 100%'\n"),
            (Format::Docker, "KEY=endpoint=https://a/;accesskey=b+/=\nPATH_OF=/it’s it's 100%\n"),
            (
                Format::Powershell,
                "$env:KEY = 'endpoint=https://a/;accesskey=b+/='\n$env:PATH_OF = '/it’’s it''s 100%'\n",
            ),
            (
                Format::Cmd,
                "set \"KEY=endpoint=https://a/;accesskey=b+/=\"\r\nset \"PATH_OF=/it’s it's 100%%\"\r\n",
            ),
        ] {
            assert_eq!(render(variables.into_iter(), format).as_str(), text, "{format:?}");
        }
    }
}
