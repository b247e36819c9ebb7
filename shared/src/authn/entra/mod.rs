//! Verification of Microsoft Entra access tokens.
//!
//! The rules are Microsoft's rules for the validation of access tokens. Where they leave a choice, the strict one is
//! taken. A tenant must be configured before anything is fetched for it. The token's `ver` selects the metadata document.
//! The issuer must match exactly. A key signs only for the tenant that it is published for. Decision record 0009 gives
//! the reasons.
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | the trusted authority, tenants and principals |
//! | `token` | decoding a token, and the checks of its claims |
//! | `issuer_keys` | when keys are fetched, and how long they are kept |
//! | `documents` | the metadata and the key set of an issuer |

mod documents;
#[cfg(test)]
mod fake;
mod issuer_keys;
pub mod settings;
mod token;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use self::issuer_keys::IssuerKeys;
pub use self::settings::{EntraAuthority, EntraSettings, Principal};
pub(crate) use self::token::is_token_id as is_entra_token_id;
use self::token::{EntraVersion, UnverifiedEntraToken};
use crate::jose::TokenTextError;
use crate::lifetime;
use crate::runtime::Clock;

/// Longest document of an issuer, in bytes. Entra's key sets have fewer than 20 KiB.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// The longest duration of a fetch, and also of a refresh with two fetches. It is below
/// [`lifetime::REQUEST_DEADLINE`], so the request that refreshes still gets a reply when a fetch fails.
pub const FETCH_DEADLINE: Duration = Duration::from_secs(3);

/// The largest lead of a token's `nbf` and `iat` over the local clock. It does not extend the validity of a token, because
/// `exp` has no leeway.
pub const NOT_BEFORE_LEEWAY: time::Duration = time::Duration::minutes(5);

const _: () = assert!(FETCH_DEADLINE.as_millis() < lifetime::REQUEST_DEADLINE.as_millis());

/// Fetches the documents that issuers publish.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The body of a reply with status 200, with at most [`MAX_DOCUMENT`] bytes, within [`FETCH_DEADLINE`]. No redirect is
    /// followed.
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError>;
}

/// The reason why a fetch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the connection failed")]
    Connection,
    #[error("the reply is a redirect")]
    Redirect,
    #[error("the reply has status {0}")]
    Status(u16),
    #[error("the reply took too long")]
    Timeout,
    #[error("the reply is too large")]
    TooLarge,
    #[error("not an https URL")]
    Url,
}

/// The required audience of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The service operations, for users and applications.
    Service,
    /// The exchange of a Teams user's token, for users only.
    Teams,
    /// The exchange of an Entra user's token, for users only.
    Clients,
}

/// A token that is valid at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraToken {
    /// The tenant. All other ids are unique only inside it.
    pub tenant: Uuid,
    /// The user, application or managed identity.
    pub object: Uuid,
    /// The client that received the token.
    pub app: Uuid,
    /// The names in `scp` of a delegated token, or in `roles` of an application's token.
    pub permissions: Vec<String>,
    /// The groups, if the token lists them.
    pub groups: Vec<Uuid>,
    pub kind: TokenKind,
    /// Seconds since the epoch, like `expires_at`.
    pub issued_at: i64,
    pub expires_at: i64,
    /// `uti`, if its characters are safe to log.
    pub token_id: Option<String>,
}

impl EntraToken {
    /// The principal that the token was issued to.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal { tenant: self.tenant, object: self.object }
    }

    /// Checks that this is a user's token with at least one of these permissions.
    ///
    /// # Errors
    /// [`EntraTokenError::ApplicationOnly`] or [`EntraTokenError::Permission`].
    pub fn require_one_of(&self, permissions: &[&str]) -> Result<(), EntraTokenError> {
        match self.kind {
            TokenKind::Application => Err(EntraTokenError::ApplicationOnly),
            TokenKind::Delegated
                if self.permissions.iter().any(|held| permissions.contains(&held.as_str())) =>
            {
                Ok(())
            }
            TokenKind::Delegated => Err(EntraTokenError::Permission),
        }
    }
}

/// The kind of principal that a token was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An application, without a user.
    Application,
    /// An application on behalf of a user.
    Delegated,
}

/// The check that a token failed. It contains no text of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntraTokenError {
    #[error("the Entra token is not signed with RS256")]
    Algorithm,
    #[error("appid or azp of the Entra token is missing, is not a GUID, or does not belong to its version")]
    App,
    #[error("the Entra token was issued to an application without a user; send a user's token")]
    ApplicationOnly,
    #[error("the Entra token has another audience")]
    Audience,
    #[error("the claims are not those of an Entra access token")]
    Claims,
    #[error("the Entra token has expired")]
    Expired,
    #[error(
        "the Entra token was obtained for Microsoft Graph, and only Graph can verify it; request a token for this \
         service"
    )]
    GraphToken,
    #[error("the header is not that of an Entra access token")]
    Header,
    #[error(
        "an id token, or a token that is neither a user's nor an application's; send an Entra access token"
    )]
    IdToken,
    #[error("the issuer of the Entra token is not the issuer of its tenant for its version")]
    Issuer,
    #[error("iss of the Entra token does not name the tenant of its tid")]
    IssuerTenant,
    #[error("the key that signed the Entra token belongs to another issuer")]
    KeyIssuer,
    #[error("the issuer does not publish the key that the Entra token names")]
    KeyUnknown,
    #[error("the key that signed the Entra token is too weak, or not for RS256 signatures")]
    KeyUnusable,
    #[error("idtyp, scp and roles of the Entra token contradict one another")]
    Kind,
    #[error("the Entra token is not valid yet")]
    NotYetValid,
    #[error("oid of the Entra token is missing or not a GUID")]
    ObjectId,
    #[error("the Entra token lacks the required permission")]
    Permission,
    #[error("the signature of the Entra token does not verify")]
    Signature,
    #[error("not a compact token")]
    Structure,
    #[error("{0}")]
    Text(TokenTextError),
    #[error("the tenant of the Entra token is not configured")]
    TenantNotConfigured,
    #[error("tid of the Entra token is not a GUID")]
    TenantMalformed,
    #[error("ver of the Entra token is neither 1.0 nor 2.0")]
    Version,
}

/// A verification that did not accept the token.
#[derive(Debug, thiserror::Error)]
pub enum EntraError {
    /// The token is invalid.
    #[error(transparent)]
    Refused(#[from] EntraTokenError),
    /// The token of this principal is valid, its signature included, but for another purpose.
    #[error("{0}")]
    OtherPurpose(EntraTokenError, Principal),
    /// The keys cannot be fetched, so the result is unknown. The client is to retry.
    #[error("the keys of the Entra issuer cannot be fetched")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Verifies the tokens of the configured tenants.
pub struct Entra {
    principals: Vec<Principal>,
    /// Both versions of every configured tenant. No other issuer is ever added.
    issuers: HashMap<(Uuid, EntraVersion), IssuerKeys>,
    clock: Arc<dyn Clock>,
}

impl Entra {
    /// A verifier without any keys. It fetches them when a token needs them.
    #[must_use]
    pub fn new(settings: EntraSettings, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) -> Self {
        let EntraSettings { authority, tenants, principals } = settings;
        let versions = |tenant| [(tenant, EntraVersion::V1), (tenant, EntraVersion::V2)];
        let issuer = |(tenant, version)| {
            let keys = IssuerKeys::new(authority.clone(), tenant, version, fetch.clone(), clock.clone());
            ((tenant, version), keys)
        };
        let issuers = tenants.into_iter().flat_map(versions).map(issuer).collect();
        Self { principals, issuers, clock }
    }

    /// Verifies that the token is valid now, for this audience. The claims are checked before the keys are needed. So most
    /// invalid tokens cause no fetch, and a token of a tenant that is not configured never does.
    ///
    /// # Errors
    /// [`EntraError::Refused`] and [`EntraError::OtherPurpose`] for a token that is not accepted,
    /// [`EntraError::Unavailable`] when the result is unknown.
    pub async fn verify(&self, token: &str, audience: Audience) -> Result<EntraToken, EntraError> {
        let unverified = UnverifiedEntraToken::read(token)?;
        let origin = unverified.origin()?;
        let issuer = self.issuers.get(&origin).ok_or(EntraTokenError::TenantNotConfigured)?;
        let claimed = unverified.check(origin, self.clock.now())?;
        let purpose = unverified.check_purpose(claimed.kind, audience);
        let verified = self.verify_signature(&unverified, issuer, claimed).await;
        match (purpose, verified) {
            (Ok(()), verified) => verified,
            (Err(fault), Ok(token)) => Err(EntraError::OtherPurpose(fault, token.principal())),
            // Another purpose is a refusal also if the keys cannot be fetched. Then the principal is unknown.
            (Err(fault), Err(_)) => Err(fault.into()),
        }
    }

    async fn verify_signature(
        &self,
        unverified: &UnverifiedEntraToken<'_>,
        issuer: &IssuerKeys,
        claimed: EntraToken,
    ) -> Result<EntraToken, EntraError> {
        let key = issuer.find(unverified.key_reference()).await?;
        if !unverified.is_signed_by(&key) {
            return Err(EntraTokenError::Signature.into());
        }
        // The fetch took time, so the token may have expired.
        if lifetime::has_expired(claimed.expires_at, self.clock.now()) {
            return Err(EntraTokenError::Expired.into());
        }
        Ok(claimed)
    }

    /// Whether the token's principal is on the list of principals that may call as a service.
    #[must_use]
    pub fn allows(&self, token: &EntraToken) -> bool {
        self.principals.contains(&token.principal())
    }

    /// Whether a tenant is configured.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.issuers.is_empty()
    }
}

impl EntraError {
    /// The principal of the refused token, if its signature was verified.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        match self {
            Self::OtherPurpose(_, principal) => Some(*principal),
            Self::Refused(_) | Self::Unavailable(_) => None,
        }
    }
}

impl Audience {
    /// Whether `aud` is the resource's identifier URI, with or without a trailing slash, or its application id.
    fn accepts(self, aud: &str) -> bool {
        let (uri, app) = match self {
            Self::Service => ("https://communication.azure.com", "632ec9eb-fad7-4cbd-993a-e72973ba2acc"),
            Self::Teams => {
                ("https://auth.msft.communication.azure.com", "1fd5118e-2576-4263-8130-9503064c837a")
            }
            Self::Clients => {
                ("https://communication.azure.com/clients", "2a04943b-b6a7-4f65-8786-2bb6131b59f6")
            }
        };
        aud.strip_suffix('/').unwrap_or(aud) == uri || aud.eq_ignore_ascii_case(app)
    }

    /// Whether an application's token is refused.
    fn is_for_users(self) -> bool {
        matches!(self, Self::Teams | Self::Clients)
    }
}

/// Whether the path of an `https` URL has the tenant as a segment, as Entra writes it: hyphenated and in lower case.
fn names_tenant(url: &str, tenant: Uuid) -> bool {
    let tenant = tenant.hyphenated().to_string();
    url.strip_prefix("https://").is_some_and(|rest| rest.split('/').skip(1).any(|segment| segment == tenant))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::fake::{
        APP, CONSUMERS, OBJECT, OTHER_TENANT, TEAMS, TENANT, TestService, claims, header, issuer, key,
        keys_url, metadata_url, sign, token, with,
    };
    use super::*;

    #[tokio::test]
    async fn a_valid_token_of_each_version_is_accepted() {
        for version in ["1.0", "2.0"] {
            let service = TestService::new();
            let verified = service.verify(&sign(0, &header(0), &claims(version))).await.unwrap();
            let now = crate::testing::NOON.unix_timestamp();
            let expected = EntraToken {
                tenant: TENANT,
                object: OBJECT,
                app: APP,
                permissions: vec!["Teams.ManageCalls".to_owned(), "Teams.ManageChats".to_owned()],
                groups: vec![],
                kind: TokenKind::Delegated,
                issued_at: now - 300,
                expires_at: now + 4_500,
                token_id: Some("Ab-c_0123".to_owned()),
            };
            assert_eq!(verified, expected);
            let urls = [metadata_url(TENANT, version), keys_url(TENANT, version)];
            assert_eq!(service.issuer.take_fetched(), urls, "only the documents of its version and tenant");
            assert!(service.entra.allows(&verified));
            assert!(!service.entra.allows(&EntraToken { tenant: OTHER_TENANT, ..verified.clone() }));
            assert!(!service.entra.allows(&EntraToken { object: APP, ..verified }));
        }
    }

    #[tokio::test]
    async fn only_users_with_one_of_the_permissions_are_accepted() {
        let verified = TestService::new().verify(&token(0)).await.unwrap();
        let of =
            |kind, permissions: &[&str]| EntraToken { kind, ..verified.clone() }.require_one_of(permissions);
        assert_eq!(of(TokenKind::Delegated, &["Other", "Teams.ManageChats"]), Ok(()));
        assert_eq!(of(TokenKind::Delegated, &["Other"]), Err(EntraTokenError::Permission));
        assert_eq!(of(TokenKind::Application, &["Teams.ManageChats"]), Err(EntraTokenError::ApplicationOnly));
    }

    #[tokio::test]
    async fn an_unconfigured_tenant_never_causes_a_fetch() {
        let service = TestService::new();
        service.issuer.publish(CONSUMERS, "2.0", &[key(0)]);
        let foreign = [("tid", json!(CONSUMERS.to_string())), ("iss", json!(issuer(CONSUMERS, "2.0")))];
        let evil = [("tid", json!(CONSUMERS.to_string())), ("iss", json!("https://evil.example/metadata"))];
        for changes in [foreign, evil] {
            let token = sign(0, &header(0), &with(&claims("2.0"), &changes));
            assert_eq!(service.error(&token).await, Some(EntraTokenError::TenantNotConfigured));
        }
        let unconfigured =
            Entra::new(EntraSettings::default(), service.issuer.clone(), service.clock.clone());
        let refused = unconfigured.verify(&token(0), Audience::Teams).await;
        assert!(matches!(refused, Err(EntraError::Refused(EntraTokenError::TenantNotConfigured))));
        assert!(!unconfigured.is_configured() && service.entra.is_configured());
        assert_eq!(service.issuer.take_fetched(), [""; 0]);
    }

    #[tokio::test]
    async fn tenants_do_not_share_principals_or_keys() {
        let service = TestService::new();
        service.issuer.publish(OTHER_TENANT, "2.0", &[key(1)]);
        let other = with(
            &claims("2.0"),
            &[("tid", json!(OTHER_TENANT.to_string())), ("iss", json!(issuer(OTHER_TENANT, "2.0")))],
        );
        let verified = service.verify(&sign(1, &header(1), &other)).await.unwrap();
        assert_eq!(verified.tenant, OTHER_TENANT);
        assert!(
            !service.entra.allows(&verified),
            "the same object id in another tenant is another principal"
        );
        // A key of one tenant does not sign for the other.
        assert_eq!(
            service.error(&sign(1, &header(1), &claims("2.0"))).await,
            Some(EntraTokenError::KeyUnknown)
        );
        assert_eq!(service.error(&sign(0, &header(0), &other)).await, Some(EntraTokenError::KeyUnknown));
        assert_eq!(service.error(&sign(0, &header(1), &other)).await, Some(EntraTokenError::Signature));
    }

    #[tokio::test]
    async fn the_issuer_matches_tenant_and_version() {
        let service = TestService::new();
        let (v1, v2) = (issuer(TENANT, "1.0"), issuer(TENANT, "2.0"));
        for (version, iss) in [
            ("1.0", v2.clone()),
            ("2.0", v1.clone()),
            ("1.0", v1.trim_end_matches('/').to_owned()),
            ("2.0", format!("{v2}/")),
            ("2.0", v2.replace("/v2.0", "")),
            ("2.0", v2.replace("login.example.com", "login.example.us")),
            ("1.0", v1.replace("sts.example.net", "sts.example.cn")),
            ("2.0", v2.replace("https://", "https://user@")),
            ("2.0", v2.replace("https", "HTTPS")),
        ] {
            let token = sign(0, &header(0), &with(&claims(version), &[("iss", json!(iss))]));
            let error = service.error(&token).await;
            assert!(
                matches!(error, Some(EntraTokenError::Issuer | EntraTokenError::IssuerTenant)),
                "{iss}: {error:?}"
            );
        }
    }

    #[tokio::test]
    async fn each_audience_is_a_uri_or_an_application_id() {
        let service = TestService::new();
        for (audience, uri, app) in [
            (Audience::Service, "https://communication.azure.com", "632ec9eb-fad7-4cbd-993a-e72973ba2acc"),
            (Audience::Teams, TEAMS, "1fd5118e-2576-4263-8130-9503064c837a"),
            (
                Audience::Clients,
                "https://communication.azure.com/clients",
                "2a04943b-b6a7-4f65-8786-2bb6131b59f6",
            ),
        ] {
            let accepts = async |aud: &str| {
                let token = sign(0, &header(0), &with(&claims("2.0"), &[("aud", json!(aud))]));
                match service.entra.verify(&token, audience).await {
                    Ok(_) => true,
                    Err(EntraError::OtherPurpose(EntraTokenError::Audience, principal)) => {
                        assert_eq!(principal, Principal { tenant: TENANT, object: OBJECT });
                        false
                    }
                    Err(error) => panic!("{aud}: {error}"),
                }
            };
            for aud in [uri, &format!("{uri}/"), app, &app.to_uppercase()] {
                assert!(accepts(aud).await, "{aud}");
            }
            for aud in [
                &format!("{uri}//"),
                &format!("{uri}.evil.example"),
                &uri.replace("https", "http"),
                &uri.to_uppercase(),
                &format!("api://{app}"),
                "https://graph.microsoft.com",
                "00000003-0000-0000-c000-000000000000",
                "",
            ] {
                assert!(!accepts(aud).await, "{aud}");
            }
        }
        assert_eq!(service.issuer.take_fetched().len(), 2);
    }

    #[tokio::test]
    async fn an_application_may_only_call_the_service() {
        let service = TestService::new();
        for (idtyp, roles) in [("app", json!(null)), ("app", json!(["A.All"])), ("", json!(["A.All"]))] {
            let idtyp = if idtyp.is_empty() { json!(null) } else { json!(idtyp) };
            let application =
                with(&claims("1.0"), &[("scp", json!(null)), ("idtyp", idtyp), ("roles", roles.clone())]);
            for (audience, aud) in
                [(Audience::Teams, TEAMS), (Audience::Clients, "https://communication.azure.com/clients/")]
            {
                let token = sign(0, &header(0), &with(&application, &[("aud", json!(aud))]));
                let refused = service.entra.verify(&token, audience).await;
                let expected = EntraTokenError::ApplicationOnly;
                assert!(matches!(refused, Err(EntraError::OtherPurpose(fault, _)) if fault == expected));
            }
            let service = with(&application, &[("aud", json!("https://communication.azure.com/"))]);
            let valid =
                TestService::new().entra.verify(&sign(0, &header(0), &service), Audience::Service).await;
            let valid = valid.unwrap();
            assert_eq!(valid.kind, TokenKind::Application);
            assert_eq!(json!(valid.permissions), if roles.is_null() { json!([]) } else { roles });
        }
    }

    #[tokio::test]
    async fn a_principal_is_named_only_after_its_signature() {
        let service = TestService::new();
        let graph = with(&claims("2.0"), &[("aud", json!("https://graph.microsoft.com"))]);
        let refusal = async |token: &str| service.verify(token).await.unwrap_err();
        let named = refusal(&sign(0, &header(0), &graph)).await.principal();
        assert_eq!(named, Some(Principal { tenant: TENANT, object: OBJECT }));
        let unknown_key = refusal(&sign(1, &header(1), &graph)).await;
        let forged = refusal(&sign(1, &header(0), &graph)).await;
        let expired = with(&graph, &[("exp", json!(crate::testing::NOON.unix_timestamp()))]);
        for error in [unknown_key, forged] {
            assert_eq!(error.principal(), None);
            assert!(matches!(error, EntraError::Refused(EntraTokenError::Audience)));
        }
        assert_eq!(refusal(&sign(0, &header(0), &expired)).await.principal(), None);
        // The keys cannot be fetched. The token is refused nevertheless, because its audience is certain.
        let service = TestService::new();
        service.issuer.answer(&keys_url(TENANT, "2.0"), Err(FetchError::Timeout));
        let error = service.verify(&sign(0, &header(0), &graph)).await.unwrap_err();
        assert_eq!(error.principal(), None);
        assert!(matches!(error, EntraError::Refused(EntraTokenError::Audience)));
    }

    #[tokio::test]
    async fn a_token_with_a_changed_byte_is_refused() {
        let service = TestService::new();
        let valid = token(0);
        service.verify(&valid).await.unwrap();
        for at in (0..valid.len()).step_by(7) {
            for replacement in ["A", "_", ".", "=", "\u{e9}"] {
                let mut changed = valid.clone();
                changed.replace_range(at..=at, replacement);
                assert!(changed == valid || service.verify(&changed).await.is_err(), "{at}: {replacement}");
            }
        }
        // The last character of a 256-byte signature has four spare bits, which must be zero.
        let (start, last) = valid.split_at(valid.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for other in alphabet.chars().map(String::from).filter(|other| other != last) {
            assert!(service.verify(&format!("{start}{other}")).await.is_err());
        }
    }

    /// Each fetch takes a second of the clock.
    struct SlowFetch(Arc<fake::FakeIssuer>, Arc<crate::testing::FrozenClock>);

    #[async_trait]
    impl Fetch for SlowFetch {
        async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
            self.1.advance(1_000);
            self.0.get(url).await
        }
    }

    #[tokio::test]
    async fn a_token_that_expires_during_the_fetch_is_refused() {
        for (life, valid) in [(1, false), (2, false), (3, true)] {
            let service = TestService::new();
            let settings = EntraSettings {
                authority: fake::AUTHORITY.parse().unwrap(),
                tenants: vec![TENANT],
                principals: vec![],
            };
            let fetch = Arc::new(SlowFetch(service.issuer.clone(), service.clock.clone()));
            let entra = Entra::new(settings, fetch, service.clock.clone());
            let exp = crate::testing::NOON.unix_timestamp() + life;
            let token = sign(0, &header(0), &with(&claims("2.0"), &[("exp", json!(exp))]));
            assert_eq!(entra.verify(&token, Audience::Teams).await.is_ok(), valid, "{life}");
        }
    }
}
