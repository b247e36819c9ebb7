//! The tenant: its user, clients and keys. The first start creates them and keeps them in `entra.json`, because clients
//! are configured with them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::keys::KeyMaterialError;
use identity::keys::signing::{SigningKey, SigningKeys};
use identity::runtime::Random;
use identity::secrets::Secret;
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};
use zeroize::Zeroizing;

use crate::files::{self, FileError, Readers};

/// The domain of user names. `.test` is never a real domain (RFC 6761 section 6.2).
pub(super) const DOMAIN: &str = "local.test";

/// The stand-in cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDirectoryError {
    #[error("{0} is not an https URL without a query; choose another --host")]
    BaseUrl(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{} is not a file of this program; restore it, or remove it to create a new tenant",
        .0.display()
    )]
    Content(PathBuf),
    #[error(transparent)]
    Key(#[from] KeyMaterialError),
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Directory {
    #[serde(with = "guid")]
    pub(super) tenant: Uuid,
    pub(super) user: User,
    /// The client id of the application with which the user signs in. It is a public client, so it has no secret.
    #[serde(with = "guid")]
    pub(super) user_app: Uuid,
    pub(super) service_principal: ServicePrincipal,
    /// Three keys, in the format of the secret `signing-keys`. All are published, as Entra publishes keys before it
    /// uses them.
    signing_keys: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    #[serde(with = "guid")]
    pub(super) object_id: Uuid,
    pub(super) name: String,
    /// The `sub` of the user's tokens. Entra has another one for each pair of user and application.
    pub(super) subject: String,
    pub(super) password: Zeroizing<String>,
    /// The only refresh token. It never expires.
    pub(super) refresh_token: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServicePrincipal {
    #[serde(with = "guid")]
    pub(super) client_id: Uuid,
    #[serde(with = "guid")]
    pub(super) object_id: Uuid,
    pub(super) client_secret: Zeroizing<String>,
}

/// Reads the file in `dir`, or creates it.
pub(super) fn open(
    dir: &Path,
    random: &dyn Random,
    generate: impl Fn() -> Result<SigningKey, KeyMaterialError>,
) -> Result<(Directory, SigningKeys), OpenDirectoryError> {
    let path = dir.join("entra.json");
    let directory = match files::read(&path)? {
        // The decoder's message is dropped, because it may quote the text.
        Some(text) => serde_json::from_slice(&text).map_err(|_| OpenDirectoryError::Content(path.clone()))?,
        None => {
            let made = create(random, &SigningKeys::generate(1, generate)?)?;
            files::replace_json(&path, &made, Readers::Owner)?;
            made
        }
    };
    let keys = SigningKeys::parse(&Secret::new(directory.signing_keys.as_bytes().to_vec()));
    let keys = keys.map_err(|_| OpenDirectoryError::Content(path.clone()))?;
    Ok((directory, keys))
}

fn create(random: &dyn Random, keys: &SigningKeys) -> Result<Directory, KeyMaterialError> {
    const UNWRITABLE: KeyMaterialError = KeyMaterialError::GENERATION;
    let signing_keys = str::from_utf8(keys.to_document().expose()).map_err(|_| UNWRITABLE)?.to_owned();
    let guid = || Builder::from_random_bytes(bytes(random)).into_uuid();
    Ok(Directory {
        tenant: guid(),
        user: User {
            object_id: guid(),
            name: format!("user@{DOMAIN}"),
            subject: text::<32>(random),
            password: Zeroizing::new(text::<18>(random)),
            refresh_token: Zeroizing::new(text::<48>(random)),
        },
        user_app: guid(),
        service_principal: ServicePrincipal {
            client_id: guid(),
            object_id: guid(),
            client_secret: Zeroizing::new(text::<30>(random)),
        },
        signing_keys: Zeroizing::new(signing_keys),
    })
}

fn bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// Random text that needs no escaping in a URL, form, header or shell.
fn text<const N: usize>(random: &dyn Random) -> String {
    URL_SAFE_NO_PAD.encode(bytes::<N>(random))
}

/// A GUID as its usual text.
mod guid {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(guid: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(guid)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| D::Error::custom("not a GUID"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::tempdir;

    use super::super::tests::{BASE, open};
    use super::*;

    #[test]
    fn the_tenant_is_created_once_and_kept() {
        let dir = tempdir().unwrap();
        let made = open(&dir, BASE, 1).unwrap();
        // Another random source, and another port.
        let kept = open(&dir, "https://localhost:9443/entra", 2).unwrap();
        assert_eq!(kept.tenant(), made.tenant());
        assert_eq!(kept.user_object_id(), made.user_object_id());
        assert_eq!(kept.user_app_id(), made.user_app_id());
        assert_eq!(kept.service_principal_object_id(), made.service_principal_object_id());
        let secrets = ["AZURE_CLIENT_SECRET", "COMMUNICATION_MSAL_PASSWORD"];
        let secret = |env: Vec<(&'static str, Zeroizing<String>)>| {
            env.into_iter().filter(|(name, _)| secrets.contains(name)).collect::<Vec<_>>()
        };
        assert!(secret(kept.env()) == secret(made.env()));
        assert_eq!(secret(made.env()).len(), 2);
        assert!(secret(open(&tempdir().unwrap(), BASE, 2).unwrap().env()) != secret(made.env()));
    }

    #[test]
    fn the_file_is_private() {
        let dir = tempdir().unwrap();
        // A crash may leave such a file.
        fs::write(dir.path().join("entra.json.new"), "").unwrap();
        open(&dir, BASE, 1).unwrap();
        let mode = fs::metadata(dir.path().join("entra.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!dir.path().join("entra.json.new").exists());
    }

    #[test]
    fn malformed_files_are_refused_kept_and_not_quoted() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("entra.json");
        open(&dir, BASE, 1).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let mut no_key: serde_json::Value = serde_json::from_str(&good).unwrap();
        no_key["signing_keys"] = "hidden".into();
        let mut no_guid: serde_json::Value = serde_json::from_str(&good).unwrap();
        no_guid["tenant"] = "hidden".into();
        for text in ["", "{\"hidden\":", &good[..good.len() - 3], &no_key.to_string(), &no_guid.to_string()] {
            fs::write(&path, text).unwrap();
            let refused = open(&dir, BASE, 1).err().unwrap();
            assert!(matches!(refused, OpenDirectoryError::Content(_)), "{refused}");
            let said = format!("{refused} {refused:?}");
            assert!(said.contains("entra.json") && !said.contains("hidden"), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
