//! Claims and signatures: access tokens of both versions, and id tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::keys::{KeyMaterialError, Slot};
use serde_json::{Map, Value, json};
use time::Duration;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::EntraStandIn;
use super::apis::{self, Access};
use super::people::{Application, Person, PersonKind};

/// The versions of endpoints and tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// The subject of a token.
pub(super) enum Subject {
    /// The client itself. Its tokens have `idtyp` only on request, because the claim is optional in Entra.
    Service {
        object_id: Uuid,
        idtyp: bool,
    },
    User(Person),
}

/// The validity of a token, in seconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    pub(super) not_before: i64,
    pub(super) expires: i64,
}

/// Entra dates tokens back by this many seconds, because the clock of a verifier may be slow.
const BACKDATED: i64 = 300;

/// The identity provider of guests: the issuer of a tenant that does not exist.
const HOME_OF_GUESTS: &str = "https://sts.windows.net/00000000-0000-4000-8000-000000000000/";

impl Version {
    fn as_str(self) -> &'static str {
        match self {
            Self::One => "1.0",
            Self::Two => "2.0",
        }
    }
}

impl EntraStandIn {
    /// Validity from now, for a random time of 60 to 90 minutes.
    pub(super) fn validity(&self) -> Validity {
        let now = self.clock.now().unix_timestamp();
        let more = u16::from_be_bytes(self.random_bytes()) % 1801;
        Validity { not_before: now - BACKDATED, expires: now + 3_600 + i64::from(more) }
    }

    /// The claims of an access token. A client with a secret has presented it.
    pub(super) fn access_claims(
        &self,
        version: Version,
        access: &Access,
        client: &Application,
        subject: &Subject,
        validity: Validity,
    ) -> Map<String, Value> {
        let (audience, app, proof) = match version {
            Version::One => (access.resource.as_str(), "appid", "appidacr"),
            Version::Two => (access.api.app_id, "azp", "azpacr"),
        };
        let mut claims = self.claims(version, audience, subject, validity);
        let mut add = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        add(app, client.client_id.to_string().into());
        add(proof, if client.secret.is_some() { "1" } else { "0" }.into());
        match subject {
            Subject::Service { idtyp, .. } => {
                if *idtyp {
                    add("idtyp", "app".into());
                }
            }
            Subject::User(user) => {
                add("scp", access.permissions.join(" ").into());
                if version == Version::One {
                    add("acr", "1".into());
                    add("amr", json!(["pwd"]));
                    add("unique_name", user.name.as_str().into());
                } else {
                    add("preferred_username", user.name.as_str().into());
                }
                if user.kind == PersonKind::Guest {
                    add("idp", HOME_OF_GUESTS.into());
                } else if version == Version::One {
                    add("upn", user.name.as_str().into());
                }
            }
        }
        claims
    }

    /// The id token, which names the signed-in user to the client.
    pub(super) fn id_token(
        &self,
        client: &Application,
        user: &Person,
        nonce: Option<&str>,
        validity: Validity,
    ) -> Result<Zeroizing<String>, KeyMaterialError> {
        let (audience, subject) = (client.client_id.to_string(), Subject::User(user.clone()));
        let mut claims = self.claims(Version::Two, &audience, &subject, validity);
        claims.insert("preferred_username".to_owned(), user.name.as_str().into());
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        self.sign(&claims)
    }

    /// A token of this user for the Teams exchange that expired an hour ago. Its signature is random, so the start needs no
    /// key. Verifiers refuse an expired token before they look at its signature.
    pub(super) fn expired_teams_token(&self, user: &Person, app: &Application) -> Option<Zeroizing<String>> {
        let access = Access::of_resource(apis::TEAMS).ok()?;
        let expires = (self.clock.now() - Duration::HOUR).unix_timestamp();
        let validity = Validity { not_before: expires - 3_600 - BACKDATED, expires };
        let subject = Subject::User(user.clone());
        let claims = self.access_claims(Version::One, &access, app, &subject, validity);
        let key_id = URL_SAFE_NO_PAD.encode(self.random_bytes::<32>());
        compact(&key_id, &claims, |_| Ok(self.random_bytes::<256>().to_vec())).ok()
    }

    /// The claims of every token.
    fn claims(
        &self,
        version: Version,
        audience: &str,
        subject: &Subject,
        validity: Validity,
    ) -> Map<String, Value> {
        let tenant = self.tenant.to_string();
        let (object, subject, name) = match subject {
            Subject::Service { object_id, .. } => (*object_id, object_id.to_string(), None),
            Subject::User(user) => (user.object_id, user.subject.to_string(), Some("Local User")),
        };
        let mut claims = Map::new();
        let mut add = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        add("aud", audience.into());
        add("iss", self.issuer(version, &tenant).into());
        add("iat", validity.not_before.into());
        add("nbf", validity.not_before.into());
        add("exp", validity.expires.into());
        add("oid", object.to_string().into());
        add("sub", subject.into());
        add("tid", tenant.into());
        add("uti", URL_SAFE_NO_PAD.encode(self.random_bytes::<16>()).into());
        add("ver", version.as_str().into());
        if let Some(name) = name {
            add("name", name.into());
        }
        claims
    }

    pub(super) fn sign(&self, claims: &Map<String, Value>) -> Result<Zeroizing<String>, KeyMaterialError> {
        let keys = self.keys()?;
        let key = keys.of(Slot::Primary);
        compact(key.id().as_str(), claims, |input| key.sign(input))
    }
}

/// A compact JWS (RFC 7515 section 3.1).
fn compact(
    key_id: &str,
    claims: &Map<String, Value>,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyMaterialError>,
) -> Result<Zeroizing<String>, KeyMaterialError> {
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": key_id});
    let mut token = Zeroizing::new(String::with_capacity(2048));
    URL_SAFE_NO_PAD.encode_string(header.to_string(), &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(Value::Object(claims.clone()).to_string(), &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

#[cfg(test)]
mod tests {
    use identity::keys::signing::VerifyingKey;
    use identity::testing::NOON;
    use serde_json::from_slice;

    use super::super::tests::stand_in;
    use super::super::{RequestedTenant, apis::RequestedScopes};
    use super::*;

    /// The claims of a token that a published key verifies.
    fn verified(stand_in: &EntraStandIn, token: &str) -> Value {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let read = |part: &str| from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let header = read(header);
        assert_eq!((&header["alg"], &header["typ"]), (&"RS256".into(), &"JWT".into()));
        let keys = stand_in.key_set(Version::Two, RequestedTenant::Tenant).unwrap();
        let mut key =
            keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).cloned().unwrap();
        key["alg"] = "RS256".into();
        let key = VerifyingKey::from_jwk(&serde_json::from_value(key).unwrap()).unwrap();
        assert!(key.verifies(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()));
        read(claims)
    }

    fn without(mut claims: Value, names: &[&str]) -> Value {
        for name in names {
            assert!(claims.as_object_mut().unwrap().remove(*name).is_some(), "{name}");
        }
        claims
    }

    #[test]
    fn each_version_has_the_claims_of_entra() {
        let stand_in = stand_in();
        let (tenant, user) = (stand_in.tenant.to_string(), &stand_in.people().remove(0));
        let (app, oid) = (stand_in.user_app_id().to_string(), user.object_id.to_string());
        let validity = Validity { not_before: 1, expires: 2 };
        let (client, subject) = (stand_in.applications().remove(0), Subject::User(user.clone()));
        let scope =
            "https://communication.azure.com/clients/VoIP https://communication.azure.com/clients/Chat";
        let access = RequestedScopes::parse(scope).unwrap_or_else(|_| panic!()).access;
        let claims = |version| {
            let claims = stand_in.access_claims(version, &access, &client, &subject, validity);
            let token = stand_in.sign(&claims).unwrap();
            without(verified(&stand_in, &token), &["uti"])
        };
        let both = json!({"oid": oid, "sub": user.subject.as_str(), "tid": tenant, "name": "Local User",
            "iat": 1, "nbf": 1, "exp": 2, "scp": "VoIP Chat"});
        let one = json!({"aud": "https://communication.azure.com/clients", "ver": "1.0", "appid": app,
            "appidacr": "0", "iss": format!("https://localhost:8443/entra/{tenant}/"), "acr": "1",
            "amr": ["pwd"], "unique_name": "user@local.test", "upn": "user@local.test"});
        let two = json!({"aud": "2a04943b-b6a7-4f65-8786-2bb6131b59f6", "ver": "2.0", "azp": app,
            "azpacr": "0", "iss": format!("https://localhost:8443/entra/{tenant}/v2.0"),
            "preferred_username": "user@local.test"});
        for (version, own) in [(Version::One, one), (Version::Two, two)] {
            let mut expected = both.clone();
            expected.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            assert_eq!(claims(version), expected);
        }
    }

    #[test]
    fn service_principals_have_no_permissions_and_no_name() {
        let stand_in = stand_in();
        let principal = stand_in.applications().remove(1);
        let access = Access::of_resource("https://communication.azure.com/").unwrap_or_else(|_| panic!());
        for (version, idtyp) in
            [(Version::One, false), (Version::Two, false), (Version::One, true), (Version::Two, true)]
        {
            let subject = Subject::Service { object_id: principal.object_id, idtyp };
            let claims = stand_in.access_claims(version, &access, &principal, &subject, stand_in.validity());
            let token = stand_in.sign(&claims).unwrap();
            let claims = verified(&stand_in, &token);
            assert_eq!(claims.get("idtyp"), idtyp.then_some(&"app".into()));
            assert_eq!(
                (&claims["oid"], &claims["sub"]),
                (&principal.object_id.to_string().into(), &claims["oid"])
            );
            let proof = if version == Version::One { "appidacr" } else { "azpacr" };
            assert_eq!(claims[proof], "1");
            for absent in ["scp", "roles", "name", "upn", "unique_name", "preferred_username", "amr"] {
                assert!(claims.get(absent).is_none(), "{absent}");
            }
        }
    }

    #[test]
    fn tokens_are_valid_for_60_to_90_minutes() {
        let stand_in = stand_in();
        let now = NOON.unix_timestamp();
        let lives: Vec<i64> = (0..50)
            .map(|_| {
                let validity = stand_in.validity();
                assert_eq!(validity.not_before, now - 300);
                validity.expires - now
            })
            .collect();
        assert!(lives.iter().all(|seconds| (3_600..=5_400).contains(seconds)));
        assert!(lives.iter().any(|seconds| *seconds != lives[0]));
    }

    #[test]
    fn expired_token_of_the_start_needs_no_key() {
        let (stand_in, now) = (stand_in(), NOON.unix_timestamp());
        let env = stand_in.env();
        let (_, token) = env.iter().find(|(name, _)| *name == "COMMUNICATION_EXPIRED_TEAMS_TOKEN").unwrap();
        assert!(stand_in.keys.lock().unwrap().is_none());
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let expired: Value = from_slice(&payload).unwrap();
        assert_eq!(expired["exp"], now - 3_600);
        assert_eq!(expired["aud"], "https://auth.msft.communication.azure.com");
        assert!(expired["nbf"].as_i64() < expired["exp"].as_i64());
    }
}
