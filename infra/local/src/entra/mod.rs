//! A stand-in for Microsoft Entra ID, for development: MSAL and azure-identity clients get real signed tokens from it,
//! without a tenant in the cloud.
//!
//! It is not an identity provider. All its secrets are in one file of the state directory, and a reader of the `env`
//! file can sign in. It has one tenant with one user, one public client and one service principal. It has no consent,
//! no conditional access and no sign-in page: every client gets every permission of an API. Tokens expire, but refresh
//! tokens, passwords and client secrets do not, and nothing can be revoked.
//!
//! Its answers are those of Entra, as far as these clients and a verifier of access tokens can observe, with four
//! differences:
//!
//! - Its issuers are `<base>/<tenant>/v2.0` and `<base>/<tenant>/`. The version 1.0 issuer of Entra is on another host.
//! - Both endpoints issue version 1.0 access tokens, as Entra does for Microsoft's own APIs. A request with
//!   `token_version=2` in its form or its query gets version 2.0, because tests need both.
//! - Tokens of the service principal have none of `idtyp`, `roles` and `scp`, as most tokens of applications. A request
//!   with `optional_claims=idtyp` gets `idtyp`. In Entra, the registration of the API decides this.
//! - The authorization endpoint is not served. It is in the metadata, because clients require it there.
//!
//! It does no network I/O. The gateway passes requests to it, and [`EntraStandIn::document`] reads from inside the
//! process.
//!
//! | module | owns |
//! |---|---|
//! | [`directory`] | the tenant with its user, clients and keys, kept in `entra.json` |
//! | [`apis`] | the APIs of access tokens, their permissions and scopes |
//! | [`grants`] | the token endpoints |
//! | [`tokens`] | claims and signatures |
//! | [`documents`] | metadata, published keys, user realms |
//! | [`oauth_error`] | the errors, with the codes of Entra |

mod apis;
mod directory;
mod documents;
mod grants;
mod oauth_error;
mod tokens;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use identity::keys::KeyMaterialError;
use identity::keys::signing::{SigningKey, SigningKeys};
use identity::runtime::{Clock, Random};
use serde_json::Value;
use uuid::{Builder, Uuid};
use zeroize::Zeroizing;

pub use directory::OpenDirectoryError;
use directory::{DOMAIN, Directory};
use oauth_error::OAuthError;
use tokens::Version;

/// The stand-in: one tenant.
pub struct EntraStandIn {
    base: String,
    /// The path of `base`, without a trailing slash.
    prefix: String,
    directory: Directory,
    keys: SigningKeys,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// The tenant in a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestedTenant<'a> {
    Tenant,
    /// `common` or `organizations`: the tenant of the user.
    Any(&'a str),
}

impl EntraStandIn {
    /// Reads `entra.json` in `dir`. The first start creates it, with RSA keys from `generate`. `base_url` is the
    /// authority host of the clients, such as `https://localhost:8443/entra`.
    ///
    /// # Errors
    /// [`OpenDirectoryError`].
    pub fn open(
        dir: &Path,
        base_url: &str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        generate: impl Fn() -> Result<SigningKey, KeyMaterialError>,
    ) -> Result<Self, OpenDirectoryError> {
        let base = base_url.trim_end_matches('/').to_owned();
        let uri: Uri = base.parse().map_err(|_| OpenDirectoryError::BaseUrl(base_url.to_owned()))?;
        if uri.scheme_str() != Some("https") || uri.query().is_some() {
            return Err(OpenDirectoryError::BaseUrl(base_url.to_owned()));
        }
        let prefix = uri.path().trim_end_matches('/').to_ascii_lowercase();
        let (directory, keys) = directory::open(dir, random.as_ref(), generate)?;
        Ok(Self { base, prefix, directory, keys, clock, random })
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
        if routed(path).ends_with("/token") { "POST" } else { "GET, HEAD" }
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
            _ => (name.parse() == Ok(self.directory.tenant)).then_some(RequestedTenant::Tenant),
        }
    }

    /// Answers a request. `target` is its path with its query.
    #[must_use]
    pub fn handle(&self, method: &Method, target: &str, headers: &HeaderMap, body: &[u8]) -> Response<Bytes> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match self.route(method, path, query, headers, body) {
            Ok(Some(document)) => json(StatusCode::OK, &document),
            Ok(None) => status(StatusCode::NOT_FOUND),
            Err(error) => {
                let correlation =
                    headers.get("client-request-id").and_then(|id| id.to_str().ok()?.parse().ok());
                let correlation = correlation.unwrap_or_else(|| self.guid());
                json(error.status(), &error.to_json(self.clock.now(), self.guid(), correlation))
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
    ) -> Result<Option<Value>, OAuthError> {
        let path = routed(path);
        let Some(rest) = self.relative(&path) else { return Ok(None) };
        let (authority, endpoint) = match rest.split_once('/') {
            // MSAL for Java takes the path of the base URL for the tenant, and drops the tenant.
            Some(("oauth2", _)) => (RequestedTenant::Any("organizations"), rest),
            Some((tenant, endpoint)) => {
                (self.authority(tenant).ok_or_else(|| OAuthError::unknown_tenant(tenant))?, endpoint)
            }
            None => return Ok(None),
        };
        let token = |endpoint| {
            if method == Method::POST {
                self.token(endpoint, query, headers, body).map(Some)
            } else {
                Err(OAuthError::not_posted(method))
            }
        };
        match endpoint {
            "oauth2/token" => token(Version::One),
            "oauth2/v2.0/token" => token(Version::Two),
            _ if method == Method::GET => Ok(self.published(authority, endpoint)),
            _ => Ok(None),
        }
    }

    /// The answer to a GET of this absolute URL: metadata or keys.
    #[must_use]
    pub fn document(&self, url: &str) -> Option<Bytes> {
        let (tenant, endpoint) = url.strip_prefix(&self.base)?.strip_prefix('/')?.split_once('/')?;
        let document = self.published(self.authority(tenant)?, endpoint)?;
        Some(document.to_string().into())
    }

    /// The published keys of the tenant, as in the answer of `discovery/v2.0/keys`.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        self.key_set(Version::Two, RequestedTenant::Tenant).to_string()
    }

    /// The base URL without a trailing slash, for the configuration of verifiers and clients.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// The tenant's id.
    #[must_use]
    pub fn tenant(&self) -> Uuid {
        self.directory.tenant
    }

    /// The object id of the service principal, the `oid` of its tokens.
    #[must_use]
    pub fn service_principal_object_id(&self) -> Uuid {
        self.directory.service_principal.object_id
    }

    /// The object id of the user.
    #[must_use]
    pub fn user_object_id(&self) -> Uuid {
        self.directory.user.object_id
    }

    /// The client id of the public client that the user signs in with.
    #[must_use]
    pub fn user_app_id(&self) -> Uuid {
        self.directory.user_app
    }

    /// The environment variables that clients and the tests of the Azure SDKs read. They hold secrets.
    #[must_use]
    pub fn env(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let Directory { tenant, user, service_principal, user_app, .. } = &self.directory;
        let value = |text: &str| Zeroizing::new(text.to_owned());
        let mut env = vec![
            ("AZURE_AUTHORITY_HOST", value(&self.base)),
            ("AZURE_TENANT_ID", value(&tenant.to_string())),
            ("AZURE_CLIENT_ID", value(&service_principal.client_id.to_string())),
            ("AZURE_CLIENT_SECRET", service_principal.client_secret.clone()),
            ("COMMUNICATION_M365_AAD_AUTHORITY", value(&self.base)),
            ("COMMUNICATION_M365_AAD_TENANT", value(&tenant.to_string())),
            ("COMMUNICATION_M365_APP_ID", value(&user_app.to_string())),
            ("COMMUNICATION_M365_REDIRECT_URI", value("http://localhost")),
            ("COMMUNICATION_M365_SCOPE", value("https://auth.msft.communication.azure.com/.default")),
            ("COMMUNICATION_MSAL_USERNAME", value(&user.name)),
            ("COMMUNICATION_MSAL_PASSWORD", user.password.clone()),
        ];
        if let Ok(token) = self.expired_teams_token() {
            env.push(("COMMUNICATION_EXPIRED_TEAMS_TOKEN", token));
        }
        env
    }

    fn random_bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    fn guid(&self) -> Uuid {
        Builder::from_random_bytes(self.random_bytes()).into_uuid()
    }
}

/// The path as it is routed, by the rules of the service: in lower case, without one slash at its end.
fn routed(path: &str) -> String {
    let shorter = path.strip_suffix('/').filter(|shorter| !shorter.ends_with('/'));
    shorter.unwrap_or(path).to_ascii_lowercase()
}

fn json(status: StatusCode, document: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(document.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
    response
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
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
        let (clock, random) = (FrozenClock::at_noon(), Arc::new(SeededRandom::new(seed)));
        EntraStandIn::open(dir.path(), base_url, clock, random, || {
            Ok(testing::signing_key(Algorithm::Rs256, 0))
        })
    }

    pub(super) fn stand_in() -> EntraStandIn {
        open(&tempdir().unwrap(), BASE, 1).unwrap()
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
        assert_eq!(open(&dir, "https://localhost:8443/entra/", 1).unwrap().base_url(), BASE);
    }

    #[test]
    fn paths_of_base_and_tenant_are_answered() {
        let dir = tempdir().unwrap();
        let below = open(&dir, BASE, 1).unwrap();
        let at_root = open(&dir, "https://localhost:8443", 1).unwrap();
        let tenant = below.tenant();
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
        let tenant = stand_in.tenant().to_string().to_uppercase();
        let keys = get(&stand_in, &format!("/Entra/{tenant}/Discovery/v2.0/KEYS/"));
        assert_eq!(keys.0, 200);
        assert_eq!(keys, get(&stand_in, &format!("/entra/{}/discovery/v2.0/keys", stand_in.tenant())));
        assert_eq!(get(&stand_in, "/ENTRA/Common/.well-known/openid-configuration").0, 200);
        assert_eq!(get(&stand_in, "/entra/common/discovery/keys//").0, 404);
        assert_eq!(stand_in.methods("/entra/common/OAuth2/Token/"), "POST");
    }

    #[test]
    fn unknown_endpoints_get_404_and_unsupported_tenants_400() {
        let stand_in = stand_in();
        let tenant = stand_in.tenant();
        assert_eq!(get(&stand_in, &format!("/entra/{tenant}/oauth2/v2.0/authorize")).0, 404);
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
        let tenant = stand_in.tenant();
        for path in ["v2.0/.well-known/openid-configuration", "discovery/v2.0/keys", "discovery/keys"] {
            let document = stand_in.document(&format!("{BASE}/{tenant}/{path}")).unwrap();
            let answered = get(&stand_in, &format!("/entra/{tenant}/{path}"));
            assert_eq!(answered, (200, from_slice(&document).unwrap()));
        }
        let keys = stand_in.document(&format!("{BASE}/{tenant}/discovery/v2.0/keys")).unwrap();
        assert_eq!(stand_in.jwks_json(), str::from_utf8(&keys).unwrap());
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
