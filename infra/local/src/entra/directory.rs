//! The tenant: its people, applications and keys. The first start creates them and keeps them in `entra.json`, because
//! clients are configured with them.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::keys::signing::SigningKeys;
use identity::runtime::Random;
use identity::secrets::Secret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::identifiers::{Identifiers, PersonIdentifiers};
use super::people::{Application, People, Person, PersonKind};
use super::published;
use crate::files::{self, FileError, Readers};
use crate::state::{self, StateKind};

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
}

/// The content of the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Directory {
    pub(super) tenant: Uuid,
    /// The people at the first start.
    initial_people: People,
    /// The people now, if some were added or replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed_people: Option<People>,
    /// The public client with which people sign in.
    pub(super) user_app: Application,
    /// The application with a secret that may call the service.
    pub(super) service: Application,
    /// Further applications.
    #[serde(default)]
    applications: Vec<Application>,
    /// Three keys, in the format of the secret `signing-keys`. All are published, as Entra publishes keys before it
    /// uses them. Their first use makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_keys: Option<Zeroizing<String>>,
}

impl Directory {
    fn new(identifiers: Identifiers) -> Self {
        let Identifiers { tenant, user_app, service, client_secret, member, guest, without_teams, disabled } =
            identifiers;
        let person = |kind, name: String, (object_id, subject, password)| Person {
            object_id,
            name,
            subject,
            password,
            kind,
        };
        let application = |(client_id, object_id), secret| Application {
            client_id,
            object_id,
            secret,
            redirect_uris: Vec::new(),
            idtyp: false,
        };
        Self {
            tenant,
            initial_people: People {
                first: person(PersonKind::Member, format!("user@{DOMAIN}"), member),
                others: vec![
                    person(PersonKind::Guest, "guest@partner.test".to_owned(), guest),
                    person(PersonKind::WithoutTeams, format!("noteams@{DOMAIN}"), without_teams),
                    person(PersonKind::Disabled, format!("disabled@{DOMAIN}"), disabled),
                ],
            },
            changed_people: None,
            user_app: application(user_app, None),
            service: application(service, Some(client_secret)),
            applications: Vec::new(),
            signing_keys: None,
        }
    }

    pub(super) fn keep_keys(&mut self, keys: &SigningKeys) {
        let document = keys.to_document();
        self.signing_keys = Some(Zeroizing::new(String::from_utf8_lossy(document.expose()).into_owned()));
    }

    pub(super) fn people(&self) -> &People {
        self.changed_people.as_ref().unwrap_or(&self.initial_people)
    }

    /// The people, for a change. The initial people stay.
    pub(super) fn people_mut(&mut self) -> &mut People {
        self.changed_people.get_or_insert_with(|| self.initial_people.clone())
    }

    /// Returns to the people of the first start.
    pub(super) fn reset(&mut self) {
        self.changed_people = None;
    }

    pub(super) fn applications(&self) -> impl Iterator<Item = &Application> {
        [&self.user_app, &self.service].into_iter().chain(&self.applications)
    }

    pub(super) fn application(&self, client_id: Uuid) -> Option<&Application> {
        self.applications().find(|application| application.client_id == client_id)
    }
}

/// The file of versions before 0.2: one user, one public client, one service principal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerDirectory {
    tenant: Uuid,
    user: FormerUser,
    user_app: Uuid,
    service_principal: FormerPrincipal,
    signing_keys: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerUser {
    object_id: Uuid,
    name: String,
    subject: Zeroizing<String>,
    password: Zeroizing<String>,
    /// It never expired. Refresh tokens are not kept any more.
    #[serde(rename = "refresh_token")]
    _refresh_token: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerPrincipal {
    client_id: Uuid,
    object_id: Uuid,
    client_secret: Zeroizing<String>,
}

impl FormerDirectory {
    /// The same tenant with the same ids, secrets and keys, and with the further people of a new tenant.
    fn migrate(self, random: &dyn Random) -> Directory {
        let FormerPrincipal { client_id, object_id, client_secret } = self.service_principal;
        let mut identifiers = random_identifiers(random);
        identifiers.tenant = self.tenant;
        identifiers.user_app.0 = self.user_app;
        identifiers.service = (client_id, object_id);
        identifiers.client_secret = client_secret;
        let mut directory = Directory::new(identifiers);
        let FormerUser { object_id, name, subject, password, .. } = self.user;
        directory.initial_people.first =
            Person { object_id, name, subject, password, kind: PersonKind::Member };
        directory.signing_keys = Some(self.signing_keys);
        directory
    }
}

/// The directory of this kind of state, its keys if it has them, and the file in which changes are kept. Only a kept
/// directory has keys and a file.
pub(super) fn open(
    state: StateKind,
    data_dir: &Path,
    random: &dyn Random,
) -> Result<(Directory, Option<SigningKeys>, Option<PathBuf>), OpenDirectoryError> {
    match state {
        StateKind::Kept => {}
        StateKind::Ephemeral => return Ok((Directory::new(random_identifiers(random)), None, None)),
        StateKind::Published => return Ok((Directory::new(published::identifiers()), None, None)),
    }
    let path = data_dir.join(state::DIRECTORY);
    let directory = match files::read(&path)? {
        Some(text) => read(&path, &text, random)?,
        None => {
            let made = Directory::new(random_identifiers(random));
            write(&path, &made)?;
            made
        }
    };
    let keys = directory.signing_keys.as_deref().map(|text| parse_keys(text));
    match keys {
        Some(None) => Err(OpenDirectoryError::Content(path)),
        keys => Ok((directory, keys.flatten(), Some(path))),
    }
}

/// Reads the content of the file. The content of an earlier version is replaced.
fn read(path: &Path, text: &[u8], random: &dyn Random) -> Result<Directory, OpenDirectoryError> {
    if let Ok(directory) = serde_json::from_slice(text) {
        return Ok(directory);
    }
    // The decoder's message is dropped, because it may quote the text.
    let former = serde_json::from_slice::<FormerDirectory>(text).ok();
    let former = former.ok_or_else(|| OpenDirectoryError::Content(path.to_owned()))?;
    let migrated = former.migrate(random);
    write(path, &migrated)?;
    Ok(migrated)
}

pub(super) fn write(path: &Path, directory: &Directory) -> Result<(), FileError> {
    files::replace_json(path, directory, Readers::Owner)
}

fn parse_keys(text: &str) -> Option<SigningKeys> {
    SigningKeys::parse(&Secret::new(text.as_bytes().to_vec())).ok()
}

fn random_identifiers(random: &dyn Random) -> Identifiers {
    let guid = || random.guid();
    Identifiers {
        tenant: guid(),
        user_app: (guid(), guid()),
        service: (guid(), guid()),
        client_secret: Zeroizing::new(text::<30>(random)),
        member: random_person(random),
        guest: random_person(random),
        without_teams: random_person(random),
        disabled: random_person(random),
    }
}

pub(super) fn random_person(random: &dyn Random) -> PersonIdentifiers {
    (random.guid(), text::<32>(random).into(), text::<18>(random).into())
}

pub(super) fn bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// Random text that needs no escaping in a URL, form, header or shell.
pub(super) fn text<const N: usize>(random: &dyn Random) -> String {
    URL_SAFE_NO_PAD.encode(bytes::<N>(random))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use identity::keys::Algorithm;
    use identity::testing;
    use tempfile::tempdir;

    use super::super::EntraStandIn;
    use super::super::tests::{BASE, in_memory, jwks, open};
    use super::*;

    #[test]
    fn the_tenant_is_created_once_and_kept() {
        let dir = tempdir().unwrap();
        let made = open(&dir, BASE, 1).unwrap();
        // Another random source, and another port.
        let kept = open(&dir, "https://localhost:9443/entra", 2).unwrap();
        assert_eq!(kept.tenant, made.tenant);
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

    /// The file that versions before 0.2 wrote.
    const FORMER: &str = r#"{
        "tenant": "11111111-0000-4000-8000-000000000001",
        "user": {
            "object_id": "11111111-0000-4000-8000-000000000002",
            "name": "user@local.test",
            "subject": "former-subject",
            "password": "former-password",
            "refresh_token": "former-refresh-token"
        },
        "user_app": "11111111-0000-4000-8000-000000000003",
        "service_principal": {
            "client_id": "11111111-0000-4000-8000-000000000004",
            "object_id": "11111111-0000-4000-8000-000000000005",
            "client_secret": "former-secret"
        },
        "signing_keys": ""
    }"#;

    #[test]
    fn former_files_keep_tenant_user_ids_secrets_and_keys() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("entra.json");
        let keys = SigningKeys::generate(1, || Ok(testing::signing_key(Algorithm::Rs256, 0))).unwrap();
        let mut former: serde_json::Value = serde_json::from_str(FORMER).unwrap();
        former["signing_keys"] = str::from_utf8(keys.to_document().expose()).unwrap().into();
        fs::write(&path, former.to_string()).unwrap();
        let migrated = open(&dir, BASE, 1).unwrap();
        let id = |number: u128| Uuid::from_u128(0x11111111_0000_4000_8000_000000000000 + number);
        assert_eq!(
            (migrated.tenant, migrated.user_object_id(), migrated.user_app_id()),
            (id(1), id(2), id(3))
        );
        assert_eq!(migrated.service_principal_object_id(), id(5));
        let service = migrated.applications().remove(1);
        assert_eq!((service.client_id, service.secret.unwrap().as_str()), (id(4), "former-secret"));
        let people = migrated.people();
        assert!(
            people[0].password.as_str() == "former-password"
                && people[0].subject.as_str() == "former-subject"
        );
        assert_eq!(people.len(), 4);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("former-refresh-token"));
        let again = open(&dir, BASE, 2).unwrap();
        assert_eq!(jwks(&again), jwks(&migrated));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn published_directories_are_the_same_and_memory_is_not() {
        let facts = |stand_in: &EntraStandIn| {
            let env =
                stand_in.env().into_iter().filter(|(name, _)| *name != "COMMUNICATION_EXPIRED_TEAMS_TOKEN");
            let people = stand_in.people().into_iter().map(|person| (person.object_id, person.password));
            (env.collect::<Vec<_>>(), people.collect::<Vec<_>>(), stand_in.service_principal_object_id())
        };
        let published = facts(&in_memory(StateKind::Published, 1));
        assert!(published == facts(&in_memory(StateKind::Published, 2)));
        let memory = facts(&in_memory(StateKind::Ephemeral, 1));
        assert!(memory != facts(&in_memory(StateKind::Ephemeral, 2)) && memory != published);
    }
}
