//! A stand-in for Microsoft Entra ID, for development: MSAL and azure-identity clients get real signed tokens from it,
//! without a tenant in the cloud.
//!
//! It is not an identity provider. Its secrets are in a file of the state directory, in memory or published, and a reader of
//! the `env` file can sign in. It has one tenant with a few people and applications, no conditional access, no second factor,
//! and no consent except its lack. Its sign-in page asks for no password.
//!
//! Clients use it as the authority `https://<host>/adfs`. MSAL and azure-identity ask no server of Microsoft about an
//! authority with this name, so they need no change. `<base>/<tenant>` serves code that needs the GUID of a tenant.
//!
//! Its answers are those of Entra, as far as these clients and a verifier of access tokens can observe, with four
//! differences:
//!
//! - The issuers of its tokens are `<base>/<tenant>/v2.0` and `<base>/<tenant>/`, also at the authority `/adfs`. The version
//!   1.0 issuer of Entra is on another host.
//! - Every endpoint issues version 1.0 access tokens, as Entra does for Microsoft's own APIs. A request with
//!   `token_version=2` in its form or its query gets version 2.0, because tests need both.
//! - Tokens of a service principal have none of `idtyp`, `roles` and `scp`, as most tokens of applications. A request with
//!   `optional_claims=idtyp` gets `idtyp`, and so does an application with `idtyp` in the directory. In Entra, the
//!   registration of the API decides this.
//! - Refresh tokens are in memory, so a restart ends them. In Entra they last 90 days.
//!
//! It does no network I/O. The gateway passes requests to it, and [`EntraStandIn::document`] reads from inside the
//! process.
//!
//! | module | owns |
//! |---|---|
//! | [`directory`] | the tenant with its people, applications and keys, kept in `entra.json` |
//! | [`people`] | people, applications, and the rules for adding a person |
//! | [`published`] | the published directory for development |
//! | [`identifiers`] | the ids and secrets of a tenant |
//! | [`apis`] | the APIs of access tokens, their permissions and scopes |
//! | [`authorize`] | the authorization endpoint |
//! | [`redirect_uri`] | the places to which a code may go |
//! | [`sign_in_page`] | the HTML of the authorization endpoint |
//! | [`codes`] | authorization codes, refresh tokens, open sign-in pages |
//! | [`grants`] | the token endpoints |
//! | [`form`] | the members of a request |
//! | [`tokens`] | claims and signatures |
//! | [`documents`] | metadata, published keys, user realms |
//! | [`oauth_error`] | the errors, with the codes of Entra |

mod apis;
mod authorize;
mod codes;
mod directory;
mod documents;
mod form;
mod grants;
mod identifiers;
mod oauth_error;
mod people;
mod published;
mod redirect_uri;
mod sign_in_page;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HOST};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use identity::api::reply;
use identity::host::Hosts;
use identity::keys::KeyMaterialError;
use identity::keys::signing::{SigningKey, SigningKeys};
use identity::runtime::{Clock, Random};
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use codes::Grants;
pub use directory::OpenDirectoryError;
use directory::{DOMAIN, Directory};
use oauth_error::OAuthError;
pub use people::{Application, NewPerson, Person, PersonKind, PutPersonError};
use tokens::Version;

use crate::files::FileError;
use crate::state::StateKind;

/// The name of the tenant in the authority for clients. They ask no server of Microsoft about it.
const ADFS: &str = "adfs";

/// The stand-in: one tenant.
pub struct EntraStandIn {
    /// The base URL without a trailing slash.
    base: String,
    /// The path of `base`, without a trailing slash.
    prefix: String,
    /// The accepted values of `Host`.
    hosts: Hosts,
    pub tenant: Uuid,
    directory: Mutex<Directory>,
    /// The file with the directory, if it is kept.
    path: Option<PathBuf>,
    grants: Mutex<Grants>,
    /// The keys, after their first use.
    keys: Mutex<Option<Arc<SigningKeys>>>,
    generate: Box<dyn Fn() -> Result<SigningKey, KeyMaterialError> + Send + Sync>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// The tenant in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestedTenant<'a> {
    Tenant,
    /// `common` or `organizations`: the tenant of the user.
    Any(&'a str),
    /// The authority `/adfs` at the root.
    Adfs,
}

impl EntraStandIn {
    /// Opens the directory of this kind of state. Its RSA keys come from `generate` at their first use. `base_url` is the
    /// authority host with a path, such as `https://localhost:8443/entra`. `hosts` are the accepted values of `Host`.
    ///
    /// # Errors
    /// [`OpenDirectoryError`].
    pub fn open(
        state: StateKind,
        data_dir: &Path,
        base_url: &str,
        hosts: Hosts,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        generate: impl Fn() -> Result<SigningKey, KeyMaterialError> + Send + Sync + 'static,
    ) -> Result<Self, OpenDirectoryError> {
        let base = base_url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|_| OpenDirectoryError::BaseUrl(base_url.to_owned()))?;
        if uri.scheme_str() != Some("https") || uri.query().is_some() {
            return Err(OpenDirectoryError::BaseUrl(base_url.to_owned()));
        }
        let prefix = uri.path().trim_end_matches('/').to_ascii_lowercase();
        let (directory, keys, path) = directory::open(state, data_dir, random.as_ref())?;
        let (tenant, grants, generate) = (directory.tenant, Mutex::default(), Box::new(generate));
        let (directory, keys) = (Mutex::new(directory), Mutex::new(keys.map(Arc::new)));
        Ok(Self { base, prefix, hosts, tenant, directory, path, grants, keys, generate, clock, random })
    }

    /// Whether [`Self::handle`] answers requests for this path: a path under the base URL, or a path at the root that
    /// begins with the tenant. MSAL for Python reads user realms at the root, and so does MSAL for Java with an
    /// authority of host and tenant only.
    #[must_use]
    pub fn answers(&self, path: &str) -> bool {
        self.relative(&routed(path)).is_some()
    }

    /// The methods of a path, as in `Allow`.
    #[must_use]
    pub fn methods(&self, path: &str) -> &'static str {
        match routed(path).rsplit('/').next() {
            Some("token") => "POST",
            Some("authorize") => "GET, HEAD, POST",
            _ => "GET, HEAD",
        }
    }

    /// Whether this path has pages for people. Pages of other origins may not read them.
    #[must_use]
    pub fn is_page(&self, path: &str) -> bool {
        routed(path).ends_with("/authorize")
    }

    /// The rest of a routed path after the path of the base URL, or after the root.
    fn relative<'a>(&self, path: &'a str) -> Option<&'a str> {
        let under = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix('/');
        let named = |rest: &&str| rest.split('/').next().is_some_and(|name| self.authority(name).is_some());
        let at_root = || under("").filter(named);
        if self.prefix.is_empty() { at_root() } else { under(&self.prefix).or_else(at_root) }
    }

    fn authority<'a>(&self, name: &'a str) -> Option<RequestedTenant<'a>> {
        match name {
            "common" | "organizations" => Some(RequestedTenant::Any(name)),
            ADFS => Some(RequestedTenant::Adfs),
            _ => (name.parse() == Ok(self.tenant)).then_some(RequestedTenant::Tenant),
        }
    }

    /// Answers a request. `target` is its path with its query.
    #[must_use]
    pub fn handle(&self, method: &Method, target: &str, headers: &HeaderMap, body: &[u8]) -> Response<Bytes> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match self.route(method, path, query, headers, body) {
            Ok(response) => response,
            Err(error) => {
                let correlation =
                    headers.get("client-request-id").and_then(|id| id.to_str().ok()?.parse().ok());
                let correlation = correlation.unwrap_or_else(|| self.random.guid());
                json(error.status(), &error.to_json(self.clock.now(), self.random.guid(), correlation))
            }
        }
    }

    fn route(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Response<Bytes>, OAuthError> {
        let path = routed(path);
        let not_found = || Ok(reply::empty(StatusCode::NOT_FOUND));
        let Some(rest) = self.relative(&path) else { return not_found() };
        let (authority, endpoint) = match rest.split_once('/') {
            // MSAL for Java takes the path of the base URL for the tenant, and drops the tenant.
            Some(("oauth2", _)) => (RequestedTenant::Any("organizations"), rest),
            Some((tenant, endpoint)) => {
                (self.authority(tenant).ok_or_else(|| OAuthError::unknown_tenant(tenant))?, endpoint)
            }
            None => return not_found(),
        };
        let endpoint = match endpoint {
            "oauth2/token" => Version::One,
            "oauth2/v2.0/token" => Version::Two,
            "oauth2/v2.0/authorize" => return Ok(self.authorize(method, query, headers, body)),
            _ if method == Method::GET => {
                let origin = self.origin(headers);
                let document = self.published(authority, &origin, endpoint);
                return document.map_or_else(not_found, |document| Ok(json(StatusCode::OK, &document)));
            }
            _ => return not_found(),
        };
        if method != Method::POST {
            return Err(OAuthError::not_posted(method));
        }
        Ok(json(StatusCode::OK, &self.token(endpoint, query, headers, body)?))
    }

    /// Scheme, host and port for the documents of `/adfs`: the `Host` of the request if it is an accepted one, because a
    /// container or a proxy may map the port. Clients compare them with the authority.
    fn origin(&self, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match host.filter(|host| self.hosts.candidates(host).is_ok()) {
            Some(host) => format!("https://{}", host.to_ascii_lowercase()),
            None => self.public_origin().to_owned(),
        }
    }

    fn public_origin(&self) -> &str {
        self.base.get(..self.base.len() - self.prefix.len()).unwrap_or(&self.base)
    }

    /// The answer to a GET of this absolute URL: metadata or keys.
    #[must_use]
    pub fn document(&self, url: &str) -> Option<Bytes> {
        let (tenant, endpoint) = url.strip_prefix(&self.base)?.strip_prefix('/')?.split_once('/')?;
        let document = self.published(self.authority(tenant)?, self.public_origin(), endpoint)?;
        Some(document.to_string().into())
    }

    /// The authority of clients.
    #[must_use]
    pub fn authority_url(&self) -> String {
        format!("{}/{ADFS}", self.public_origin())
    }

    /// The object id of the service principal that may call the service, the `oid` of its tokens.
    #[must_use]
    pub fn service_principal_object_id(&self) -> Uuid {
        self.directory().service.object_id
    }

    /// The object id of the user in the `env` file.
    #[must_use]
    pub fn user_object_id(&self) -> Uuid {
        self.directory().people().first.object_id
    }

    /// The client id of the public client that people sign in with.
    #[must_use]
    pub fn user_app_id(&self) -> Uuid {
        self.directory().user_app.client_id
    }

    /// The people with their passwords. The first one is in the `env` file.
    #[must_use]
    pub fn people(&self) -> Vec<Person> {
        self.directory().people().iter().cloned().collect()
    }

    /// The applications with their secrets: the public client, the client with a secret, and further ones of the file.
    #[must_use]
    pub fn applications(&self) -> Vec<Application> {
        self.directory().applications().cloned().collect()
    }

    /// Adds a person. If a person has the object id or the name, the new one replaces it. A new password ends the codes and
    /// the refresh tokens, as in Entra.
    ///
    /// # Errors
    /// [`PutPersonError`].
    pub fn put_person(&self, person: NewPerson) -> Result<Person, PutPersonError> {
        let random = directory::random_person(self.random.as_ref());
        let (former, person) = self.change(|directory| {
            let former = directory.people().with_id_or_name(&person).map(|former| former.password.clone());
            directory.people_mut().put(person, random).map(|person| (former, person))
        })?;
        if former.is_some_and(|password| *password != *person.password) {
            self.grants().end(person.object_id);
        }
        Ok(person)
    }

    /// Returns to the people of the first start. Every code and refresh token ends. Applications and keys stay.
    ///
    /// # Errors
    /// [`FileError`]. The people then stay as they are.
    pub fn reset(&self) -> Result<(), FileError> {
        self.change(|directory| {
            directory.reset();
            Ok::<_, FileError>(())
        })?;
        *self.grants() = Grants::default();
        Ok(())
    }

    /// Changes the directory, and its file before that, if it has one.
    fn change<T, E: From<FileError>>(
        &self,
        change: impl FnOnce(&mut Directory) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut directory = self.directory();
        let mut changed = directory.clone();
        let outcome = change(&mut changed)?;
        if let Some(path) = &self.path {
            directory::write(path, &changed)?;
        }
        *directory = changed;
        Ok(outcome)
    }

    /// The keys. The first use makes them, because three RSA keys take longer than the rest of a start.
    fn keys(&self) -> Result<Arc<SigningKeys>, KeyMaterialError> {
        let mut kept = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = &*kept {
            return Ok(keys.clone());
        }
        let keys = Arc::new(SigningKeys::generate(1, &self.generate)?);
        let saved: Result<(), FileError> = self.change(|directory| {
            directory.keep_keys(&keys);
            Ok(())
        });
        // A token of keys that are lost at the end would be refused after the next start.
        saved.map_err(|_| KeyMaterialError::GENERATION)?;
        *kept = Some(keys.clone());
        Ok(keys)
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The environment variables that clients and the tests of the Azure SDKs read. They hold secrets.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let directory = self.directory();
        let Directory { tenant, service, user_app, .. } = &*directory;
        let user = &directory.people().first;
        let value = |text: &str| Zeroizing::new(text.to_owned());
        let mut env = vec![
            ("AZURE_AUTHORITY_HOST", value(self.public_origin())),
            ("AZURE_TENANT_ID", value(ADFS)),
            ("AZURE_CLIENT_ID", value(&service.client_id.to_string())),
            ("AZURE_CLIENT_SECRET", service.secret.clone().unwrap_or_default()),
            ("COMMUNICATION_ENTRA_TENANT_ID", value(&tenant.to_string())),
            ("COMMUNICATION_M365_AAD_AUTHORITY", value(self.public_origin())),
            ("COMMUNICATION_M365_AAD_TENANT", value(ADFS)),
            ("COMMUNICATION_M365_APP_ID", value(&user_app.client_id.to_string())),
            ("COMMUNICATION_M365_REDIRECT_URI", value("http://localhost")),
            ("COMMUNICATION_M365_SCOPE", value("https://auth.msft.communication.azure.com/.default")),
            ("COMMUNICATION_MSAL_USERNAME", value(&user.name)),
            ("COMMUNICATION_MSAL_PASSWORD", user.password.clone()),
        ];
        let expired = self.expired_teams_token(user, user_app);
        env.extend(expired.map(|token| ("COMMUNICATION_EXPIRED_TEAMS_TOKEN", token)));
        env
    }

    fn random_bytes<const N: usize>(&self) -> [u8; N] {
        directory::bytes(self.random.as_ref())
    }
}

/// The path as it is routed, by the rules of the service: in lower case, without one slash at its end.
fn routed(path: &str) -> String {
    let shorter = path.strip_suffix('/').filter(|shorter| !shorter.ends_with('/'));
    shorter.unwrap_or(path).to_ascii_lowercase()
}

fn json(status: StatusCode, document: &Value) -> Response<Bytes> {
    let mut response = reply::json(status, "application/json; charset=utf-8", document);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use identity::keys::Algorithm;
    use identity::testing::{self, FrozenClock, SeededRandom};
    use serde_json::from_slice;
    use tempfile::{TempDir, tempdir};

    use super::*;

    pub(super) const BASE: &str = "https://localhost:8443/entra";

    pub(super) fn open(dir: &TempDir, base_url: &str, seed: u64) -> Result<EntraStandIn, OpenDirectoryError> {
        open_at(StateKind::Kept, dir.path(), base_url, seed)
    }

    pub(super) fn in_memory(state: StateKind, seed: u64) -> EntraStandIn {
        open_at(state, Path::new("unused"), BASE, seed).unwrap()
    }

    fn open_at(
        state: StateKind,
        data_dir: &Path,
        base_url: &str,
        seed: u64,
    ) -> Result<EntraStandIn, OpenDirectoryError> {
        let hosts: Hosts = "localhost:8443,127.0.0.1:8443".parse().unwrap();
        let (clock, random) = (FrozenClock::at_noon(), Arc::new(SeededRandom::new(seed)));
        EntraStandIn::open(state, data_dir, base_url, hosts.at_any_port(), clock, random, || {
            Ok(testing::signing_key(Algorithm::Rs256, 0))
        })
    }

    pub(super) fn stand_in() -> EntraStandIn {
        in_memory(StateKind::Ephemeral, 1)
    }

    /// The published keys of the tenant.
    pub(super) fn jwks(stand_in: &EntraStandIn) -> Value {
        stand_in.key_set(Version::Two, RequestedTenant::Tenant).unwrap()
    }

    fn get(stand_in: &EntraStandIn, target: &str) -> (u16, Value) {
        let response = stand_in.handle(&Method::GET, target, &HeaderMap::new(), b"");
        (response.status().as_u16(), from_slice(response.body()).unwrap_or_default())
    }

    #[test]
    fn other_base_urls_are_refused() {
        let dir = tempdir().unwrap();
        for base in
            ["", "localhost:8443/entra", "http://localhost/entra", "https://localhost/entra?a=b", "/entra"]
        {
            assert!(matches!(open(&dir, base, 1), Err(OpenDirectoryError::BaseUrl(_))), "{base}");
        }
        assert_eq!(open(&dir, "https://localhost:8443/entra/", 1).unwrap().base, BASE);
    }

    #[test]
    fn paths_of_base_and_tenant_are_answered() {
        let dir = tempdir().unwrap();
        let below = open(&dir, BASE, 1).unwrap();
        let at_root = open(&dir, "https://localhost:8443", 1).unwrap();
        let tenant = below.tenant;
        for (path, with_base, without) in [
            ("/entra/anything/at/all", true, false),
            ("/entra", false, false),
            ("/entrance/common", false, false),
            ("/common/userrealm/a", true, true),
            ("/Entra/anything", true, false),
            ("/Common/UserRealm/a/", true, true),
            ("/organizations/oauth2/v2.0/token", true, true),
            (&format!("/{tenant}/oauth2/v2.0/token"), true, true),
            ("/00000000-0000-0000-0000-000000000000/oauth2/v2.0/token", false, false),
            ("/adfs/anything", true, true),
            ("/identities", false, false),
            ("/", false, false),
            ("", false, false),
        ] {
            assert_eq!((below.answers(path), at_root.answers(path)), (with_base, without), "{path}");
        }
    }

    #[test]
    fn letter_case_and_final_slash_do_not_change_the_endpoint() {
        let stand_in = stand_in();
        let tenant = stand_in.tenant.to_string().to_uppercase();
        let keys = get(&stand_in, &format!("/Entra/{tenant}/Discovery/v2.0/KEYS/"));
        assert_eq!(keys.0, 200);
        assert_eq!(keys, get(&stand_in, &format!("/entra/{}/discovery/v2.0/keys", stand_in.tenant)));
        assert_eq!(get(&stand_in, "/ENTRA/Common/.well-known/openid-configuration").0, 200);
        assert_eq!(get(&stand_in, "/entra/common/discovery/keys//").0, 404);
        assert_eq!(stand_in.methods("/entra/common/OAuth2/Token/"), "POST");
    }

    #[test]
    fn unknown_endpoints_get_404_and_unsupported_tenants_400() {
        let stand_in = stand_in();
        let tenant = stand_in.tenant;
        assert_eq!(get(&stand_in, &format!("/entra/{tenant}/oauth2/authorize")).0, 404);
        assert_eq!(get(&stand_in, "/entra/").0, 404);
        assert_eq!(get(&stand_in, "/elsewhere").0, 404);
        let (status, refused) = get(&stand_in, "/entra/consumers/discovery/keys");
        assert_eq!((status, &refused["error_codes"][0]), (400, &90_002.into()));
        let (status, refused) = get(&stand_in, "/entra/common/oauth2/token");
        assert_eq!((status, &refused["error_codes"][0]), (400, &900_561.into()));
        let (status, refused) = get(&stand_in, "/entra/oauth2/v2.0/token");
        assert_eq!((status, &refused["error_codes"][0]), (400, &900_561.into()));
    }

    #[test]
    fn documents_equal_the_answers_to_get() {
        let stand_in = stand_in();
        let tenant = stand_in.tenant;
        for path in ["v2.0/.well-known/openid-configuration", "discovery/v2.0/keys", "discovery/keys"] {
            let document = stand_in.document(&format!("{BASE}/{tenant}/{path}")).unwrap();
            let answered = get(&stand_in, &format!("/entra/{tenant}/{path}"));
            assert_eq!(answered, (200, from_slice(&document).unwrap()));
        }
        let keys = stand_in.document(&format!("{BASE}/{tenant}/discovery/v2.0/keys")).unwrap();
        assert_eq!(jwks(&stand_in).to_string(), str::from_utf8(&keys).unwrap());
        for url in [
            format!("{BASE}x/{tenant}/discovery/keys"),
            format!("{BASE}/{tenant}/oauth2/token"),
            format!("https://login.microsoftonline.com/{tenant}/discovery/keys"),
        ] {
            assert!(stand_in.document(&url).is_none(), "{url}");
        }
    }

    #[test]
    fn environment_variables_are_distinct_and_need_no_quoting() {
        let env = stand_in().env();
        for (name, value) in &env {
            assert_eq!(env.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
            assert!(!value.is_empty() && value.chars().all(plain), "{name}");
        }
    }
}
