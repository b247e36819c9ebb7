//! Issuers for tests. Their documents and tokens are valid unless a test changes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Audience, Entra, EntraError, EntraSettings, EntraToken, EntraTokenError, Fetch, FetchError, Principal,
};
use crate::keys::Algorithm;
use crate::testing::{self, FrozenClock, NOON};

pub(super) const TENANT: Uuid = Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0001);
pub(super) const OTHER_TENANT: Uuid = Uuid::from_u128(0xbbbb_0000_0000_4000_8000_0000_0000_0002);
/// The tenant of personal accounts.
pub(super) const CONSUMERS: Uuid = Uuid::from_u128(0x9188_040d_6c67_4c5b_b112_36a3_04b6_6dad);
pub(super) const OBJECT: Uuid = Uuid::from_u128(0xcccc_0000_0000_4000_8000_0000_0000_0003);
pub(super) const APP: Uuid = Uuid::from_u128(0xdddd_0000_0000_4000_8000_0000_0000_0004);

pub(super) const AUTHORITY: &str = "https://login.example.com";
pub(super) const TEAMS: &str = "https://auth.msft.communication.azure.com";

type Answer = Result<Vec<u8>, FetchError>;

/// Serves documents and records the fetches.
#[derive(Default)]
pub(super) struct FakeIssuer {
    answers: Mutex<HashMap<String, Answer>>,
    fetched: Mutex<Vec<String>>,
    delay: Mutex<Duration>,
}

/// An [`Entra`] over a [`FakeIssuer`].
pub(super) struct TestService {
    pub(super) entra: Arc<Entra>,
    pub(super) issuer: Arc<FakeIssuer>,
    pub(super) clock: Arc<FrozenClock>,
}

#[async_trait]
impl Fetch for FakeIssuer {
    async fn get(&self, url: &str) -> Answer {
        self.fetched.lock().unwrap().push(url.to_owned());
        let (answer, delay) = (self.answers.lock().unwrap().get(url).cloned(), *self.delay.lock().unwrap());
        tokio::time::sleep(delay).await;
        answer.unwrap_or(Err(FetchError::Status(404)))
    }
}

impl FakeIssuer {
    pub(super) fn answer(&self, url: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(url.to_owned(), answer);
    }

    /// Sets the duration of every fetch, in the runtime's time.
    pub(super) fn delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    /// Publishes both documents of a tenant for a version, with these keys.
    pub(super) fn publish(&self, tenant: Uuid, version: &str, keys: &[Value]) {
        self.answer(&metadata_url(tenant, version), Ok(metadata(tenant, version).to_string().into()));
        self.answer(&keys_url(tenant, version), Ok(json!({"keys": keys}).to_string().into()));
    }

    /// The fetches since the last call.
    pub(super) fn take_fetched(&self) -> Vec<String> {
        std::mem::take(&mut self.fetched.lock().unwrap())
    }
}

impl TestService {
    /// Two configured tenants. Both versions of the first one are published, with key 0.
    pub(super) fn new() -> Self {
        let settings = EntraSettings {
            authority: AUTHORITY.parse().unwrap(),
            tenants: vec![TENANT, OTHER_TENANT],
            principals: vec![Principal { tenant: TENANT, object: OBJECT }],
        };
        let (issuer, clock) = (Arc::new(FakeIssuer::default()), FrozenClock::at_noon());
        for version in ["1.0", "2.0"] {
            issuer.publish(TENANT, version, &[key(0)]);
        }
        let entra = Arc::new(Entra::new(settings, issuer.clone(), clock.clone()));
        Self { entra, issuer, clock }
    }

    pub(super) async fn verify(&self, token: &str) -> Result<EntraToken, EntraError> {
        self.entra.verify(token, Audience::Teams).await
    }

    /// The error of an invalid token.
    pub(super) async fn error(&self, token: &str) -> Option<EntraTokenError> {
        match self.verify(token).await {
            Err(EntraError::Refused(error)) => Some(error),
            _ => None,
        }
    }

    pub(super) fn advance(&self, seconds: i64) {
        self.clock.advance(seconds * 1_000);
    }
}

fn path(version: &str) -> &'static str {
    if version == "1.0" { "" } else { "/v2.0" }
}

pub(super) fn metadata_url(tenant: Uuid, version: &str) -> String {
    format!("{AUTHORITY}/{tenant}{}/.well-known/openid-configuration", path(version))
}

pub(super) fn keys_url(tenant: Uuid, version: &str) -> String {
    format!("{AUTHORITY}/{tenant}/discovery{}/keys", path(version))
}

pub(super) fn issuer(tenant: Uuid, version: &str) -> String {
    match version {
        "1.0" => format!("https://sts.example.net/{tenant}/"),
        _ => format!("{AUTHORITY}/{tenant}/v2.0"),
    }
}

pub(super) fn metadata(tenant: Uuid, version: &str) -> Value {
    json!({
        "issuer": issuer(tenant, version),
        "jwks_uri": keys_url(tenant, version),
        "token_endpoint": format!("{AUTHORITY}/{tenant}/oauth2/token"),
        "response_types_supported": ["code", "id_token"],
    })
}

/// A public key in the form that Entra publishes.
pub(super) fn key(index: usize) -> Value {
    let mut jwk = serde_json::to_value(testing::signing_key(Algorithm::Rs256, index).jwk()).unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    with(&jwk, &[("x5t", json!("AAAA")), ("x5c", json!(["MIIC"])), ("issuer", json!(issuer_template()))])
}

fn issuer_template() -> String {
    format!("{AUTHORITY}/{{tenantid}}/v2.0")
}

pub(super) fn header(index: usize) -> Value {
    let key = testing::signing_key(Algorithm::Rs256, index);
    json!({"typ": "JWT", "alg": "RS256", "x5t": "AAAA", "kid": key.id().as_str()})
}

/// The claims of a user's token for the Teams exchange.
pub(super) fn claims(version: &str) -> Value {
    let now = NOON.unix_timestamp();
    let app = if version == "1.0" { "appid" } else { "azp" };
    json!({
        "aud": if version == "1.0" { TEAMS } else { "1fd5118e-2576-4263-8130-9503064c837a" },
        "iss": issuer(TENANT, version), "tid": TENANT.to_string(), "oid": OBJECT.to_string(), app: APP.to_string(), "ver": version,
        "iat": now - 300, "nbf": now - 300, "exp": now + 4_500,
        "scp": "Teams.ManageCalls Teams.ManageChats", "sub": "pairwise", "uti": "Ab-c_0123",
        "name": "A User", "amr": ["pwd", "mfa"], "xms_cc": ["CP1"], "idp": "https://idp.example/",
    })
}

/// The object with these members changed. `null` removes a member.
pub(super) fn with(object: &Value, changes: &[(&str, Value)]) -> Value {
    let mut changed = object.clone();
    for (name, value) in changes {
        let members = changed.as_object_mut().unwrap();
        members.remove(*name);
        if !value.is_null() {
            members.insert((*name).to_owned(), value.clone());
        }
    }
    changed
}

/// The compact token, signed with a key.
pub(super) fn sign(index: usize, header: &Value, claims: &Value) -> String {
    sign_text(index, &header.to_string(), &claims.to_string())
}

/// Like [`sign`], with any texts.
pub(super) fn sign_text(index: usize, header: &str, claims: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = testing::signing_key(Algorithm::Rs256, index).sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A valid token of the tenant, signed with a key.
pub(super) fn token(index: usize) -> String {
    sign(index, &header(index), &claims("2.0"))
}
