//! The token endpoints: the client, its grant, and the answer.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::EntraStandIn;
use super::apis::{Access, RequestedScopes};
use super::codes::{Redeemed, SignIn};
use super::form::Form;
use super::oauth_error::OAuthError;
use super::people::{Application, Person};
use super::tokens::{Subject, Version};

/// The subject of a granted token, with the values of the sign-in.
struct Granted {
    subject: Subject,
    /// The scopes of the sign-in, for a request without scopes.
    scope: Option<String>,
    nonce: Option<String>,
    refresh_token: Option<Zeroizing<String>>,
}

impl EntraStandIn {
    pub(super) fn token(
        &self,
        endpoint: Version,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Value, OAuthError> {
        let form = Form::parse(query, body);
        let grant = form.required("grant_type")?;
        let application = self.client(&form, headers)?;
        let mut granted = self.granted(grant, &form, &application)?;
        let requested = match (endpoint, form.get("resource")) {
            (Version::One, Some(resource)) => {
                RequestedScopes { access: Access::of_resource(resource)?, openid: false, offline: true }
            }
            _ => {
                let missing = if endpoint == Version::One { "resource" } else { "scope" };
                let scope = form.get("scope").or(granted.scope.as_deref());
                RequestedScopes::parse(scope.ok_or_else(|| OAuthError::missing(missing))?)?
            }
        };
        match &granted.subject {
            Subject::Service { .. } if !requested.access.default => Err(OAuthError::not_by_default()),
            Subject::Service { .. } => Ok(()),
            Subject::User(person) => person.check(requested.access.api, application.client_id),
        }?;
        if let ("password", Subject::User(person), true) = (grant, &granted.subject, requested.offline) {
            let scope = requested.access.scopes();
            let sign_in = SignIn { person: person.object_id, client: application.client_id, scope };
            let (id, now) = (self.random.guid(), self.clock.now());
            let token = self.grants().start(id, sign_in, now, self.random.as_ref());
            granted.refresh_token = Some(token);
        }
        self.answer(endpoint, &form, &application, &granted, &requested)
    }

    /// The application, authenticated by `client_secret_basic`, `client_secret_post`, or without a secret.
    fn client(&self, form: &Form, headers: &HeaderMap) -> Result<Application, OAuthError> {
        let basic = headers.get(AUTHORIZATION).and_then(|header| basic(header.to_str().ok()?));
        let (id, secret) = match &basic {
            Some((id, secret)) => (id.as_str(), Some(secret.as_str())),
            None => (form.required("client_id")?, form.get("client_secret")),
        };
        let application = self.application_of(id)?;
        match (&application.secret, secret) {
            (None, None) => Ok(application),
            (None, Some(_)) => Err(OAuthError::secret_of_public_client()),
            (Some(own), Some(secret)) if is_equal(own, secret) => Ok(application),
            (Some(_), Some(_)) => Err(OAuthError::wrong_secret(application.client_id)),
            (Some(_), None) => Err(OAuthError::no_secret()),
        }
    }

    /// The application with this client id.
    pub(super) fn application_of(&self, client_id: &str) -> Result<Application, OAuthError> {
        let parsed = client_id.parse().ok();
        let known = parsed.and_then(|id| self.directory().application(id).cloned());
        known.ok_or_else(|| OAuthError::unknown_client(client_id, self.tenant))
    }

    /// Checks the grant.
    fn granted(&self, grant: &str, form: &Form, application: &Application) -> Result<Granted, OAuthError> {
        let (client, now) = (application.client_id, self.clock.now());
        let redeemed = match grant {
            "client_credentials" if application.secret.is_some() => {
                let idtyp = application.idtyp || form.get("optional_claims") == Some("idtyp");
                let subject = Subject::Service { object_id: application.object_id, idtyp };
                return Ok(Granted { subject, scope: None, nonce: None, refresh_token: None });
            }
            "client_credentials" => return Err(OAuthError::public_client_alone()),
            "password" => {
                let subject = Subject::User(self.with_password(form)?);
                let nonce = form.get("nonce").map(str::to_owned);
                return Ok(Granted { subject, scope: None, nonce, refresh_token: None });
            }
            "authorization_code" => {
                let (code, redirect_uri) = (form.required("code")?, form.required("redirect_uri")?);
                let verifier = form.get("code_verifier");
                let mut grants = self.grants();
                grants.redeem(code, client, redirect_uri, verifier, now, self.random.as_ref())?
            }
            "refresh_token" => {
                let token = form.required("refresh_token")?;
                self.grants().refresh(token, client, now, self.random.as_ref())?
            }
            other => return Err(OAuthError::unsupported_grant(other)),
        };
        let Redeemed { sign_in, nonce, refresh_token } = redeemed;
        let person = self.directory().people().with_id(sign_in.person).cloned();
        let person = person.ok_or_else(|| OAuthError::invalid_grant(grant))?;
        // Without the new token, a client could not continue the chain.
        let (scope, refresh_token) = (Some(sign_in.scope), Some(refresh_token));
        Ok(Granted { subject: Subject::User(person), scope, nonce, refresh_token })
    }

    fn with_password(&self, form: &Form) -> Result<Person, OAuthError> {
        let (name, password) = (form.required("username")?, form.required("password")?);
        let person = self.directory().people().named(name).cloned();
        let person = person.ok_or_else(|| OAuthError::unknown_user(name, self.tenant))?;
        if is_equal(&person.password, password) { Ok(person) } else { Err(OAuthError::wrong_password()) }
    }

    fn answer(
        &self,
        endpoint: Version,
        form: &Form,
        client: &Application,
        granted: &Granted,
        requested: &RequestedScopes,
    ) -> Result<Value, OAuthError> {
        let version = match form.get("token_version") {
            Some("2") => Version::Two,
            _ => Version::One,
        };
        let validity = self.validity();
        let seconds = validity.expires - self.clock.now().unix_timestamp();
        let token =
            self.sign(&self.access_claims(version, &requested.access, client, &granted.subject, validity))?;
        let mut answer = Map::new();
        let mut add = |name: &str, value: Value| answer.insert(name.to_owned(), value);
        add("token_type", "Bearer".into());
        add("access_token", token.as_str().into());
        match endpoint {
            // Version 1.0 has numbers as text.
            Version::One => {
                add("expires_in", seconds.to_string().into());
                add("ext_expires_in", seconds.to_string().into());
                add("expires_on", validity.expires.to_string().into());
                add("not_before", validity.not_before.to_string().into());
                add("resource", requested.access.resource.as_str().into());
            }
            Version::Two => {
                add("expires_in", seconds.into());
                add("ext_expires_in", seconds.into());
            }
        }
        if let Subject::User(user) = &granted.subject {
            let scope = match endpoint {
                Version::One => requested.access.permissions.join(" "),
                Version::Two => requested.access.scopes(),
            };
            add("scope", scope.into());
            if let Some(token) = &granted.refresh_token {
                add("refresh_token", token.as_str().into());
            }
            if requested.openid {
                let nonce = granted.nonce.as_deref();
                add("id_token", self.id_token(client, user, nonce, validity)?.as_str().into());
            }
            if form.get("client_info") == Some("1") {
                // MSAL names accounts by these ids in its cache.
                let (user, tenant) = (user.object_id.to_string(), self.tenant.to_string());
                add(
                    "client_info",
                    URL_SAFE_NO_PAD.encode(json!({"uid": user, "utid": tenant}).to_string()).into(),
                );
            }
        }
        Ok(answer.into())
    }
}

/// Compares secrets in constant time.
fn is_equal(own: &str, presented: &str) -> bool {
    verify_slices_are_equal(own.as_bytes(), presented.as_bytes()).is_ok()
}

/// The id and secret of `client_secret_basic` (RFC 6749 section 2.3.1). The own ids and secrets need no escapes.
fn basic(header: &str) -> Option<(String, Zeroizing<String>)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let text = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (id, secret) = str::from_utf8(&text).ok()?.split_once(':')?;
    Some((id.to_owned(), Zeroizing::new(secret.to_owned())))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};
    use serde_json::from_slice;

    use super::super::tests::stand_in;
    use super::*;

    const V1: &str = "oauth2/token";
    const V2: &str = "oauth2/v2.0/token";
    const RESOURCE: &str = "https://communication.azure.com/";
    const SCOPE: &str = "https://communication.azure.com//.default";

    fn post(
        stand_in: &EntraStandIn,
        endpoint: &str,
        headers: &HeaderMap,
        members: &[(&str, &str)],
    ) -> (u16, Value) {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(members).finish();
        let target = format!("/entra/{}/{endpoint}", stand_in.tenant);
        let response = stand_in.handle(&Method::POST, &target, headers, body.as_bytes());
        (response.status().as_u16(), from_slice(response.body()).unwrap())
    }

    fn claims(token: &Value) -> Value {
        let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
        from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn service_principals_get_both_versions_at_both_endpoints() {
        let stand_in = stand_in();
        let principal = stand_in.applications().remove(1);
        let (id, secret) = (principal.client_id.to_string(), principal.secret.unwrap());
        let secret = secret.as_str();
        let basic = STANDARD.encode(format!("{id}:{secret}"));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("basic {basic}")).unwrap());
        for (endpoint, name, value) in [(V1, "resource", RESOURCE), (V2, "scope", SCOPE)] {
            for (requested, version) in [("", "1.0"), ("1", "1.0"), ("2", "2.0")] {
                let grant =
                    [("grant_type", "client_credentials"), (name, value), ("token_version", requested)];
                let posted = [&grant[..], &[("client_id", &id), ("client_secret", secret)]].concat();
                for (headers, members) in [(&headers, &grant[..]), (&HeaderMap::new(), &posted)] {
                    let (status, answer) = post(&stand_in, endpoint, headers, members);
                    assert_eq!(status, 200, "{answer}");
                    assert_eq!(claims(&answer["access_token"])["ver"], version);
                    assert!(claims(&answer["access_token"]).get("idtyp").is_none());
                    let members = [members, &[("optional_claims", "idtyp")]].concat();
                    let (_, answer) = post(&stand_in, endpoint, headers, &members);
                    assert_eq!(claims(&answer["access_token"])["idtyp"], "app");
                    assert_eq!(answer["expires_in"].is_string(), endpoint == V1);
                    for absent in ["id_token", "refresh_token", "scope", "client_info"] {
                        assert!(answer.get(absent).is_none(), "{absent}");
                    }
                }
            }
        }
    }

    #[test]
    fn users_get_the_requested_tokens() {
        let stand_in = stand_in();
        let (app, user) = (stand_in.user_app_id().to_string(), stand_in.people().remove(0));
        let grant = [
            ("grant_type", "password"),
            ("client_id", app.as_str()),
            ("username", "USER@local.test"),
            ("password", user.password.as_str()),
        ];
        let teams = "https://auth.msft.communication.azure.com/Teams.ManageCalls";
        let (status, little) =
            post(&stand_in, V2, &HeaderMap::new(), &[&grant[..], &[("scope", teams)]].concat());
        assert_eq!((status, &little["scope"]), (200, &teams.into()));
        for absent in ["id_token", "refresh_token", "client_info"] {
            assert!(little.get(absent).is_none(), "{absent}");
        }
        let scope = format!("{teams} openid profile offline_access");
        let more = [("scope", scope.as_str()), ("client_info", "1"), ("nonce", "n")];
        let (_, much) = post(&stand_in, V2, &HeaderMap::new(), &[&grant[..], &more].concat());
        let id = claims(&much["id_token"]);
        assert_eq!((&id["aud"], &id["nonce"]), (&app.as_str().into(), &"n".into()));
        assert_eq!(id["oid"], claims(&much["access_token"])["oid"]);
        assert!(much["client_info"].is_string());
        let refresh = [
            ("grant_type", "refresh_token"),
            ("client_id", &app),
            ("refresh_token", much["refresh_token"].as_str().unwrap()),
            ("scope", "https://communication.azure.com/clients/Chat"),
        ];
        let (status, other) = post(&stand_in, V2, &HeaderMap::new(), &refresh);
        assert_eq!((status, &claims(&other["access_token"])["scp"]), (200, &"Chat".into()));
    }

    #[test]
    fn refusals_have_the_codes_of_entra() {
        let stand_in = stand_in();
        let (principal, user) = (stand_in.applications().remove(1), stand_in.people().remove(0));
        let (id, secret) = (principal.client_id.to_string(), principal.secret.unwrap());
        let secret = secret.as_str();
        let (app, password) = (stand_in.user_app_id().to_string(), user.password.as_str());
        let whole = [
            ("grant_type", "client_credentials"),
            ("client_id", id.as_str()),
            ("client_secret", secret),
            ("scope", SCOPE),
            ("username", "user@local.test"),
            ("password", password),
        ];
        let chat = "https://communication.azure.com/clients/Chat";
        // Each row changes some members. An empty value removes the member.
        for (changes, status, error, code) in [
            (vec![("grant_type", "")], 400, "invalid_request", 900_144),
            (vec![("client_id", "")], 400, "invalid_request", 900_144),
            (vec![("scope", "")], 400, "invalid_request", 900_144),
            (vec![("grant_type", "implicit")], 400, "unsupported_grant_type", 70_003),
            (vec![("client_id", "nobody")], 400, "unauthorized_client", 700_016),
            (
                vec![("client_id", "00000000-0000-0000-0000-000000000000")],
                400,
                "unauthorized_client",
                700_016,
            ),
            (vec![("client_secret", "wrong")], 401, "invalid_client", 7_000_215),
            (vec![("client_secret", "")], 401, "invalid_client", 7_000_218),
            (vec![("client_id", app.as_str())], 401, "invalid_client", 700_025),
            (vec![("client_id", app.as_str()), ("client_secret", "")], 401, "invalid_client", 7_000_216),
            (vec![("scope", chat)], 400, "invalid_scope", 1_002_012),
            (vec![("scope", "https://graph.microsoft.com/.default")], 400, "invalid_resource", 500_011),
            (vec![("grant_type", "password"), ("password", "wrong")], 400, "invalid_grant", 50_126),
            (vec![("grant_type", "password"), ("username", "a@local.test")], 400, "invalid_grant", 50_034),
            (vec![("grant_type", "password"), ("username", "")], 400, "invalid_request", 900_144),
            (vec![("grant_type", "refresh_token"), ("refresh_token", "wrong")], 400, "invalid_grant", 70_000),
        ] {
            let mut members = whole.to_vec();
            members.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
            members.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
            let mut headers = HeaderMap::new();
            let correlation = "6f4a2bfb-62a4-4a7c-a2bb-7f4dbe3b0a43";
            headers.insert("client-request-id", HeaderValue::from_static(correlation));
            let (got, answer) = post(&stand_in, V2, &headers, &members);
            assert_eq!(
                (got, &answer["error"], &answer["error_codes"]),
                (status, &error.into(), &json!([code]))
            );
            let description = answer["error_description"].as_str().unwrap();
            assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
            assert_eq!(
                (&answer["correlation_id"], &answer["timestamp"]),
                (&correlation.into(), &"2024-03-01 12:00:00Z".into())
            );
            assert!(!description.contains(secret) && !description.contains(password), "{description}");
        }
    }
}
