//! The page of `platform`, and the environment of function binaries that run as other processes.

use std::path::{Path, PathBuf};

use identity::host::Authority;
use identity::secrets::SecretName;

use super::environment::{self, Format};
use crate::embedded;
use crate::files::{self, FileError, Readers};
use crate::platform::Platform;
use zeroize::Zeroizing;

/// Writes `platform.env` into the state directory: the variables that a deployment's template sets.
///
/// # Errors
/// When the file cannot be written.
pub fn write_env(platform: &Platform, aws_endpoint: &str) -> Result<PathBuf, FileError> {
    let path = platform.data_dir.join("platform.env");
    files::replace(&path, env(platform, aws_endpoint).as_bytes(), Readers::Owner)?;
    Ok(path)
}

fn env(platform: &Platform, aws_endpoint: &str) -> Zeroizing<String> {
    let resource = &platform.resource.resource;
    let mut hosts: Vec<_> = platform.hosts.iter().map(Authority::as_given).collect();
    // Functions have one port. The server has one for each scheme.
    hosts.dedup();
    let values = [
        ("AWS_ENDPOINT_URL", aws_endpoint.to_owned()),
        ("AWS_REGION", embedded::REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", platform.aws_endpoint.access_key_id.to_string()),
        // The endpoint does not check signatures, but the SDK needs a key to make one.
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
        ("TABLE_NAME", embedded::TABLE.to_owned()),
        ("ASSIGNMENTS_TABLE_NAME", embedded::ASSIGNMENTS_TABLE.to_owned()),
        ("ACCESS_KEYS_SECRET", SecretName::AccessKeys.as_str().to_owned()),
        ("SIGNING_KEYS_SECRET", SecretName::SigningKeys.as_str().to_owned()),
        ("RESOURCE_ID", resource.id.to_string()),
        ("RESOURCE_LOCATION", resource.location.as_str().to_owned()),
        ("RESOURCE_REGION", resource.region.as_str().to_owned()),
        ("ISSUER", resource.issuer.to_string()),
        ("SCOPE_CLAIM", resource.scope_claim.to_string()),
        ("ACCEPTED_HOSTS", hosts.join(",")),
        // A development server passes on the path as the client sent it.
        ("GATEWAY_PATH", "wire".to_owned()),
        ("SIGNING_ALGORITHM", platform.resource.algorithm.as_str().to_owned()),
    ];
    environment::render(values.iter().map(|(name, value)| (*name, value.as_str())), Format::Sh)
}

/// The text of the page.
#[must_use]
pub fn page(platform: &Platform, aws_endpoint: &str, env: &Path, tls: &(PathBuf, PathBuf)) -> String {
    format!(
        r#"
DynamoDB and Secrets Manager for functions on this machine

  endpoint            {aws_endpoint}
  table               {table}
  resource            {resource}, tokens signed with {algorithm}

In the shell the functions run in:    set -a; . {env}; set +a
                                      cd functions; cargo lambda watch --invoke-port {port} --tls-cert {cert} --tls-key {key}

In the shell your program runs in:    set -a; . {client}; set +a      (endpoint {endpoint})

Ctrl-C stops the services. Identities, keys and tokens stay in {dir}.

"#,
        table = embedded::TABLE,
        resource = platform.resource.resource.id,
        algorithm = platform.resource.algorithm.as_str(),
        env = env.display(),
        port = platform.port,
        cert = tls.0.display(),
        key = tls.1.display(),
        client = environment::path(&platform.data_dir).display(),
        endpoint = platform.endpoint,
        dir = platform.data_dir.display(),
    )
}
