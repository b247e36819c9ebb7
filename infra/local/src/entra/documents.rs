//! The public documents: metadata, published keys, user realms.

use identity::keys::Slot;
use serde_json::{Value, json};

use super::tokens::Version;
use super::{ADFS, DOMAIN, EntraStandIn, RequestedTenant};

impl RequestedTenant<'_> {
    /// The tenant in an issuer. Entra uses a placeholder in documents for every tenant.
    fn in_issuer(self, tenant: &str) -> &str {
        match self {
            RequestedTenant::Tenant | RequestedTenant::Adfs => tenant,
            RequestedTenant::Any(_) => "{tenantid}",
        }
    }
}

impl EntraStandIn {
    /// A document of this authority. `origin` is scheme, host and port of the authority `/adfs`.
    pub(super) fn published(
        &self,
        authority: RequestedTenant<'_>,
        origin: &str,
        endpoint: &str,
    ) -> Option<Value> {
        if authority == RequestedTenant::Adfs {
            return match endpoint {
                ".well-known/openid-configuration" => Some(adfs_metadata(origin)),
                "discovery/v2.0/keys" => self.key_set(Version::Two, authority),
                _ => None,
            };
        }
        match endpoint {
            ".well-known/openid-configuration" => Some(self.metadata(Version::One, authority)),
            "v2.0/.well-known/openid-configuration" => Some(self.metadata(Version::Two, authority)),
            "discovery/keys" => self.key_set(Version::One, authority),
            "discovery/v2.0/keys" => self.key_set(Version::Two, authority),
            _ => endpoint.strip_prefix("userrealm/").map(user_realm),
        }
    }

    /// The issuer of tokens of this version. Unlike in the cloud, both issuers are on the host of the authority.
    pub(super) fn issuer(&self, version: Version, tenant: &str) -> String {
        match version {
            Version::One => format!("{}/{tenant}/", self.base),
            Version::Two => format!("{}/{tenant}/v2.0", self.base),
        }
    }

    fn metadata(&self, version: Version, authority: RequestedTenant<'_>) -> Value {
        let tenant = self.tenant.to_string();
        let at = match authority {
            RequestedTenant::Tenant | RequestedTenant::Adfs => format!("{}/{tenant}", self.base),
            RequestedTenant::Any(name) => format!("{}/{name}", self.base),
        };
        let (oauth2, keys) = match version {
            Version::One => ("oauth2", "discovery/keys"),
            Version::Two => ("oauth2/v2.0", "discovery/v2.0/keys"),
        };
        metadata(&self.issuer(version, authority.in_issuer(&tenant)), &at, oauth2, keys)
    }

    /// The public keys with the members of Entra: no `alg`, and only at the version 2.0 endpoint the issuer that each
    /// key may sign for.
    pub(super) fn key_set(&self, version: Version, authority: RequestedTenant<'_>) -> Option<Value> {
        let keys = self.keys().ok()?;
        let tenant = self.tenant.to_string();
        let issuer = self.issuer(Version::Two, authority.in_issuer(&tenant));
        let published = |slot| {
            let mut key = serde_json::to_value(keys.of(slot).jwk()).unwrap_or_default();
            if let Some(members) = key.as_object_mut() {
                members.remove("alg");
                if version == Version::Two {
                    members.insert("issuer".to_owned(), issuer.as_str().into());
                }
            }
            key
        };
        Some(json!({"keys": Slot::ALL.map(published)}))
    }
}

/// The metadata of the authority `/adfs`. Its issuer has the scheme, host and port of the authority, because clients compare
/// them. Every endpoint is below `/adfs`, because MSAL for Python takes the tenant from the path. Tokens have another issuer.
fn adfs_metadata(origin: &str) -> Value {
    let at = format!("{origin}/{ADFS}");
    metadata(&at, &at, "oauth2/v2.0", "discovery/v2.0/keys")
}

fn metadata(issuer: &str, at: &str, oauth2: &str, keys: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{at}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{at}/{oauth2}/token"),
        "jwks_uri": format!("{at}/{keys}"),
        "grant_types_supported": ["authorization_code", "client_credentials", "password", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

/// User realm discovery: `Managed` for the own domain, `Unknown` for any other domain.
fn user_realm(user: &str) -> Value {
    let user = user.to_ascii_lowercase();
    let at = user.strip_suffix(DOMAIN).unwrap_or_default();
    let ours = at.ends_with('@') || at.ends_with("%40");
    let (account, domain) = if ours { ("Managed", Some(DOMAIN)) } else { ("Unknown", None) };
    json!({"ver": "1.0", "account_type": account, "domain_name": domain})
}

#[cfg(test)]
mod tests {
    use http::header::HOST;
    use http::{HeaderMap, HeaderValue, Method};

    use super::super::tests::{BASE, jwks, stand_in};
    use super::*;

    /// The sorted names of the members. The order in a JSON value depends on the library's build features.
    fn members(value: &Value) -> Vec<&str> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn metadata_leads_to_the_endpoints_of_its_version() {
        let stand_in = stand_in();
        let own = stand_in.tenant.to_string();
        for (version, prefix, oauth2, keys) in [
            (Version::One, "", "oauth2/token", "discovery/keys"),
            (Version::Two, "v2.0/", "oauth2/v2.0/token", "discovery/v2.0/keys"),
        ] {
            for (at, tenant, authority) in [
                (own.as_str(), own.as_str(), RequestedTenant::Tenant),
                ("organizations", "{tenantid}", RequestedTenant::Any("organizations")),
            ] {
                let endpoint = format!("{prefix}.well-known/openid-configuration");
                let metadata = stand_in.published(authority, BASE, &endpoint).unwrap();
                assert_eq!(metadata["issuer"], stand_in.issuer(version, tenant));
                assert_eq!(metadata["token_endpoint"], format!("{BASE}/{at}/{oauth2}"));
                assert_eq!(metadata["jwks_uri"], format!("{BASE}/{at}/{keys}"));
                assert_eq!(stand_in.published(authority, BASE, keys), stand_in.key_set(version, authority));
            }
        }
        assert_eq!(stand_in.issuer(Version::One, "t"), format!("{BASE}/t/"));
        assert_eq!(stand_in.issuer(Version::Two, "t"), format!("{BASE}/t/v2.0"));
    }

    #[test]
    fn documents_of_adfs_follow_the_accepted_host() {
        let stand_in = stand_in();
        for (host, origin) in [
            (Some("localhost:8443"), "https://localhost:8443"),
            (Some("LocalHost:32768"), "https://localhost:32768"),
            (Some("127.0.0.1"), "https://127.0.0.1"),
            (Some("evil.example"), "https://localhost:8443"),
            (None, "https://localhost:8443"),
        ] {
            let host = host.map(|host| (HOST, HeaderValue::from_str(host).unwrap()));
            let headers = HeaderMap::from_iter(host);
            let get = |path: &str| {
                let response = stand_in.handle(&Method::GET, path, &headers, b"");
                serde_json::from_slice::<Value>(response.body()).unwrap_or_default()
            };
            let metadata = get("/adfs/.well-known/openid-configuration");
            assert_eq!(metadata["issuer"], format!("{origin}/adfs"));
            for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
                let url = metadata[name].as_str().unwrap();
                assert!(url.starts_with(&format!("{origin}/adfs/")), "{url}");
            }
            assert_eq!(metadata["token_endpoint"], format!("{origin}/adfs/oauth2/v2.0/token"));
            assert_eq!(get("/adfs/discovery/v2.0/keys"), jwks(&stand_in));
            assert_eq!(get("/adfs/v2.0/.well-known/openid-configuration"), Value::Null);
        }
    }

    #[test]
    fn published_keys_have_only_the_members_of_entra() {
        let stand_in = stand_in();
        let issuer = format!("{BASE}/{}/v2.0", stand_in.tenant);
        for (version, authority, expected, issuer) in [
            (Version::One, RequestedTenant::Tenant, vec!["e", "kid", "kty", "n", "use"], None),
            (
                Version::Two,
                RequestedTenant::Tenant,
                vec!["e", "issuer", "kid", "kty", "n", "use"],
                Some(issuer.as_str()),
            ),
            (
                Version::Two,
                RequestedTenant::Any("common"),
                vec!["e", "issuer", "kid", "kty", "n", "use"],
                Some("https://localhost:8443/entra/{tenantid}/v2.0"),
            ),
        ] {
            let set = stand_in.key_set(version, authority).unwrap();
            for key in set["keys"].as_array().unwrap() {
                assert_eq!(members(key), expected);
                assert_eq!((&key["kty"], &key["use"]), (&"RSA".into(), &"sig".into()));
                assert_eq!(key.get("issuer").and_then(Value::as_str), issuer);
            }
            assert_eq!(set["keys"].as_array().unwrap().len(), 3);
        }
    }

    #[test]
    fn users_of_the_domain_are_managed() {
        for (user, account) in [
            ("user@local.test", "Managed"),
            ("User%40LOCAL.TEST", "Managed"),
            ("user@example.com", "Unknown"),
            ("user@notlocal.test", "Unknown"),
            ("", "Unknown"),
        ] {
            assert_eq!(user_realm(user)["account_type"], account, "{user}");
        }
    }
}
