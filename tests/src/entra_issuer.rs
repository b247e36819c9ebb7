//! An Entra issuer in this process, and a service that trusts it.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use identity::api::pipeline::{Body, Request};
use identity::api::service::Service;
use identity::authn::entra::{Entra, EntraAuthority, EntraSettings, Fetch, FetchError, Principal};
use identity::authn::target::Target;
use identity::keys::Algorithm;
use identity::testing::{NOON, settings, signing_key};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::test_service::{Reply, TestService};

pub const TENANT: Uuid = Uuid::from_u128(0xaaaa_0000_0000_4000_8000_0000_0000_0001);
/// The only principal that may call as a service.
pub const SERVICE: Uuid = Uuid::from_u128(0xcccc_0000_0000_4000_8000_0000_0000_0003);
pub const APP: Uuid = Uuid::from_u128(0xdddd_0000_0000_4000_8000_0000_0000_0004);

/// The application ids of the audiences (docs/wire-contract.md#scopes).
pub const CLIENTS: &str = "2a04943b-b6a7-4f65-8786-2bb6131b59f6";
pub const TEAMS: &str = "1fd5118e-2576-4263-8130-9503064c837a";
pub const SERVICES: &str = "632ec9eb-fad7-4cbd-993a-e72973ba2acc";

struct Issuer;

#[async_trait]
impl Fetch for Issuer {
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let origin = EntraAuthority::default().to_string();
        let keys_url = format!("{origin}/{TENANT}/discovery/v2.0/keys");
        let document = if url == keys_url {
            let mut key = serde_json::to_value(signing_key(Algorithm::Rs256, 0).jwk()).unwrap_or_default();
            key.as_object_mut().map(|members| members.remove("alg"));
            json!({ "keys": [key] })
        } else {
            json!({ "issuer": format!("{origin}/{TENANT}/v2.0"), "jwks_uri": keys_url })
        };
        Ok(document.to_string().into_bytes())
    }
}

/// The service of a resource that trusts the issuer for [`TENANT`].
#[must_use]
pub fn trusting(service: &TestService) -> Service {
    let principals = vec![Principal { tenant: TENANT, object: SERVICE }];
    let entra = EntraSettings { tenants: vec![TENANT], principals, ..EntraSettings::default() };
    Service {
        entra: Arc::new(Entra::new(entra, Arc::new(Issuer), service.clock.clone())),
        ..service.with_settings(settings())
    }
}

/// `POST /access/entra/:exchangeAccessToken` for a user in these groups.
pub async fn exchange(service: &Service, user: Uuid, groups: &[Uuid]) -> Reply {
    let token = token(CLIENTS, user, json!({"scp": "Chat VoIP", "groups": groups}));
    send(service, "/access/entra/:exchangeAccessToken?api-version=2025-03-02-preview", &token).await
}

/// `POST /access/teamsExtension/:exchangeAccessToken` for a user.
pub async fn exchange_teams_extension(service: &Service, user: Uuid) -> Reply {
    let token = token(TEAMS, user, json!({"scp": "TeamsExtension.ManageCalls"}));
    send(service, "/access/teamsExtension/:exchangeAccessToken?api-version=2025-06-30", &token).await
}

/// An Entra token of a Teams user.
#[must_use]
pub fn teams_token(user: Uuid) -> String {
    token(TEAMS, user, json!({"scp": "Teams.ManageCalls"}))
}

/// `POST` with an empty JSON object and `Authorization: Bearer <token>`.
pub async fn send(service: &Service, target: &str, token: &str) -> Reply {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::try_from(format!("Bearer {token}")).unwrap());
    let (target, body) = (Target::from_wire(target), Body::Complete(Bytes::from_static(b"{}")));
    Reply::of(service.handle(Request { method: Method::POST, target, headers, body }).await)
}

/// A token for this audience with further claims.
#[must_use]
pub fn token(audience: &str, object: Uuid, further: Value) -> String {
    let key = signing_key(Algorithm::Rs256, 0);
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": key.id().as_str() });
    let now = NOON.unix_timestamp();
    let mut claims = json!({
        "aud": audience, "iss": format!("{}/{TENANT}/v2.0", EntraAuthority::default()), "tid": TENANT,
        "oid": object, "azp": APP, "ver": "2.0", "iat": now, "nbf": now, "exp": now + 86_400,
    });
    if let (Value::Object(claims), Value::Object(further)) = (&mut claims, further) {
        claims.extend(further);
    }
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = key.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
