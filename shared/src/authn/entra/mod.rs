//! Microsoft Entra access tokens: which are good, for what, and who is behind them.
//!
//! The rules are Microsoft's own for validating access tokens, every choice in them made the strict way:
//! a tenant must be configured before anything is fetched for it, the metadata document is chosen by the
//! token's `ver`, its issuer must match exactly, and a key signs only for the tenant it is published for.
//!
//! | module | owns |
//! |---|---|
//! | [`settings`] | the trusted authority, tenants and principals |
//! | `token` | a token taken apart, and what it must say |
//! | `issuer_keys` | when keys are fetched, how long they are kept |
//! | `documents` | what the metadata and key documents of an issuer must be |

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
use self::token::{UnverifiedEntraToken, Version};
use crate::lifetime;
use crate::runtime::Clock;

/// Longest document of an issuer, in bytes. Real key sets have under 20 KiB.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// How long a fetch may take, and how long both fetches of a refresh: below
/// [`lifetime::REQUEST_DEADLINE`], so that the request that refreshes is still answered when they fail.
pub const FETCH_DEADLINE: Duration = Duration::from_secs(3);

/// How far ahead of our clock a token's `nbf` and `iat` may lie. It does not lengthen any life: `exp` is
/// checked without leeway.
pub const NOT_BEFORE_LEEWAY: time::Duration = time::Duration::minutes(5);

const _: () = assert!(FETCH_DEADLINE.as_millis() < lifetime::REQUEST_DEADLINE.as_millis());

/// Gets the documents that issuers publish.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The body of a 200 answer, at most [`MAX_DOCUMENT`] long, within [`FETCH_DEADLINE`]. No redirect is
    /// followed.
    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError>;
}

/// Why a document could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("the connection failed")]
    Connection,
    #[error("the answer is a redirect")]
    Redirect,
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer took too long")]
    Timeout,
    #[error("the answer is too large")]
    TooLarge,
    #[error("not an https URL")]
    Url,
}

/// What a token must be addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The service operations, called by users and applications alike.
    Service,
    /// The exchange of a Teams user's token. Users only.
    Teams,
    /// The exchange of an Entra user's token. Users only.
    Clients,
}

/// A token that is good at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraToken {
    /// Everything else is to be read inside this tenant.
    pub tenant: Uuid,
    /// The user, application or managed identity.
    pub object: Uuid,
    /// The client the token was given to.
    pub app: Uuid,
    /// The names in `scp` of a delegated token, in `roles` of an application's.
    pub permissions: Vec<String>,
    /// The groups, if the token lists them.
    pub groups: Vec<Uuid>,
    pub kind: TokenKind,
    /// Seconds since the epoch, like `expires_at`.
    pub issued_at: i64,
    pub expires_at: i64,
    /// `uti`, if it can be logged as it is.
    pub token_id: Option<String>,
}

impl EntraToken {
    /// Whether this is a user's token with one of these permissions.
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

/// For whom a token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// For an application by itself.
    Application,
    /// For an application on behalf of a user.
    Delegated,
}

/// Why a token is refused: which check failed, with nothing of the token in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntraTokenError {
    #[error("the Entra token is not signed with RS256")]
    Algorithm,
    #[error("appid or azp of the Entra token is missing, no GUID, or not of its version")]
    App,
    #[error("the Entra token was issued to an application by itself; a user's token is needed")]
    ApplicationOnly,
    #[error("the Entra token has another audience")]
    Audience,
    #[error("the claims are not those of an Entra access token")]
    Claims,
    #[error("the Entra token has expired")]
    Expired,
    #[error(
        "the Entra token was obtained for Microsoft Graph, which nobody else can verify; request it for this \
         service"
    )]
    GraphToken,
    #[error("the header is not that of an Entra access token")]
    Header,
    #[error("an id token, or one without scp, roles and idtyp: an Entra access token is needed")]
    IdToken,
    #[error("the Entra token was issued by somebody else than its tenant's issuer for its version")]
    Issuer,
    #[error("iss of the Entra token does not name the tenant of its tid")]
    IssuerTenant,
    #[error("the key that signed the Entra token is bound to another issuer")]
    KeyIssuer,
    #[error("the issuer of the Entra token publishes no such key")]
    KeyUnknown,
    #[error("the key that signed the Entra token is too weak or not for RS256")]
    KeyUnusable,
    #[error("idtyp, scp and roles of the Entra token contradict one another")]
    Kind,
    #[error("the Entra token is not valid yet")]
    NotYetValid,
    #[error("oid of the Entra token is missing or no GUID")]
    ObjectId,
    #[error("the Entra token lacks the permission that is needed here")]
    Permission,
    #[error("the signature of the Entra token does not verify")]
    Signature,
    #[error("not a compact token")]
    Structure,
    #[error("the tenant of the Entra token is not configured")]
    TenantNotConfigured,
    #[error("tid of the Entra token is no GUID")]
    TenantMalformed,
    #[error("the Entra token has neither version 1.0 nor 2.0")]
    Version,
}

/// A verification without a good token at its end.
#[derive(Debug, thiserror::Error)]
pub enum EntraError {
    /// The token is not good.
    #[error(transparent)]
    Refused(#[from] EntraTokenError),
    /// The keys that decide cannot be had: refuse, and say "try again".
    #[error("the keys of the Entra issuer cannot be had")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Verifies the tokens of the configured tenants.
pub struct Entra {
    principals: Vec<Principal>,
    /// Both versions of every configured tenant, and nothing else ever.
    issuers: HashMap<(Uuid, Version), IssuerKeys>,
    clock: Arc<dyn Clock>,
}

impl Entra {
    /// A verifier that has fetched nothing yet.
    #[must_use]
    pub fn new(settings: EntraSettings, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) -> Self {
        let EntraSettings { authority, tenants, principals } = settings;
        let versions = |tenant| [(tenant, Version::V1), (tenant, Version::V2)];
        let issuer = |(tenant, version)| {
            let keys = IssuerKeys::new(authority.clone(), tenant, version, fetch.clone(), clock.clone());
            ((tenant, version), keys)
        };
        let issuers = tenants.into_iter().flat_map(versions).map(issuer).collect();
        Self { principals, issuers, clock }
    }

    /// Whether the token is good now, for this audience. What it says is checked before its keys are asked
    /// for, so that most refusals cost no fetch, and those of foreign tenants never one.
    ///
    /// # Errors
    /// [`EntraError::Refused`] for a token that is not good; the other when that cannot be known.
    pub async fn verify(&self, token: &str, audience: Audience) -> Result<EntraToken, EntraError> {
        let unverified = UnverifiedEntraToken::read(token)?;
        let origin = unverified.origin()?;
        let issuer = self.issuers.get(&origin).ok_or(EntraTokenError::TenantNotConfigured)?;
        let claimed = unverified.check(origin, audience, self.clock.now())?;
        let key = issuer.find(unverified.wanted_key()).await?;
        if !unverified.is_signed_by(&key) {
            return Err(EntraTokenError::Signature.into());
        }
        // The fetch took time: the token must still be good now.
        if lifetime::has_expired(claimed.expires_at, self.clock.now()) {
            return Err(EntraTokenError::Expired.into());
        }
        Ok(claimed)
    }

    /// Whether the token's principal is on the list of those that may call as a service.
    #[must_use]
    pub fn allows(&self, token: &EntraToken) -> bool {
        self.principals.contains(&Principal { tenant: token.tenant, object: token.object })
    }

    /// Whether any tenant is trusted.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.issuers.is_empty()
    }
}

impl Audience {
    /// The resource's identifier URI, with or without a trailing slash, or its application id.
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

    /// Whether only users may come with such a token.
    fn is_for_users(self) -> bool {
        matches!(self, Self::Teams | Self::Clients)
    }
}

/// Whether the path of an `https` URL has the tenant as a segment, in the spelling Entra uses.
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
    async fn a_good_token_of_either_version_is_accepted() {
        for version in ["1.0", "2.0"] {
            let bench = TestService::new();
            let good = bench.verify(&sign(0, &header(0), &claims(version))).await.unwrap();
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
            assert_eq!(good, expected);
            let urls = [metadata_url(TENANT, version), keys_url(TENANT, version)];
            assert_eq!(bench.issuer.take_fetched(), urls, "of its version and tenant only");
            assert!(bench.entra.allows(&good));
            assert!(!bench.entra.allows(&EntraToken { tenant: OTHER_TENANT, ..good.clone() }));
            assert!(!bench.entra.allows(&EntraToken { object: APP, ..good }));
        }
    }

    #[tokio::test]
    async fn a_tenant_that_is_not_configured_never_causes_a_fetch() {
        let bench = TestService::new();
        bench.issuer.publish(CONSUMERS, "2.0", &[key(0)]);
        let foreign = [("tid", json!(CONSUMERS.to_string())), ("iss", json!(issuer(CONSUMERS, "2.0")))];
        let evil = [("tid", json!(CONSUMERS.to_string())), ("iss", json!("https://evil.example/metadata"))];
        for changes in [foreign, evil] {
            let token = sign(0, &header(0), &with(&claims("2.0"), &changes));
            assert_eq!(bench.fault(&token).await, Some(EntraTokenError::TenantNotConfigured));
        }
        let nobody = Entra::new(EntraSettings::default(), bench.issuer.clone(), bench.clock.clone());
        let refused = nobody.verify(&token(0), Audience::Teams).await;
        assert!(matches!(refused, Err(EntraError::Refused(EntraTokenError::TenantNotConfigured))));
        assert!(!nobody.is_configured() && bench.entra.is_configured());
        assert_eq!(bench.issuer.take_fetched(), [""; 0]);
    }

    #[tokio::test]
    async fn a_token_of_one_tenant_is_nobody_elses() {
        let bench = TestService::new();
        bench.issuer.publish(OTHER_TENANT, "2.0", &[key(1)]);
        let other = with(
            &claims("2.0"),
            &[("tid", json!(OTHER_TENANT.to_string())), ("iss", json!(issuer(OTHER_TENANT, "2.0")))],
        );
        let good = bench.verify(&sign(1, &header(1), &other)).await.unwrap();
        assert_eq!(good.tenant, OTHER_TENANT);
        assert!(!bench.entra.allows(&good), "the same object id in another tenant is somebody else");
        // A key of one tenant does not sign for the other.
        assert_eq!(
            bench.fault(&sign(1, &header(1), &claims("2.0"))).await,
            Some(EntraTokenError::KeyUnknown)
        );
        assert_eq!(bench.fault(&sign(0, &header(0), &other)).await, Some(EntraTokenError::KeyUnknown));
        assert_eq!(bench.fault(&sign(0, &header(1), &other)).await, Some(EntraTokenError::Signature));
    }

    #[tokio::test]
    async fn the_issuer_is_that_of_the_tenant_and_the_version() {
        let bench = TestService::new();
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
            let fault = bench.fault(&token).await;
            assert!(
                matches!(fault, Some(EntraTokenError::Issuer | EntraTokenError::IssuerTenant)),
                "{iss}: {fault:?}"
            );
        }
    }

    #[tokio::test]
    async fn each_audience_has_two_spellings_and_an_application_id() {
        let bench = TestService::new();
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
                match bench.entra.verify(&token, audience).await {
                    Ok(_) => true,
                    Err(EntraError::Refused(EntraTokenError::Audience)) => false,
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
        assert_eq!(bench.issuer.take_fetched().len(), 2);
    }

    #[tokio::test]
    async fn an_application_by_itself_may_call_the_service_only() {
        let bench = TestService::new();
        for (idtyp, roles) in [("app", json!(null)), ("app", json!(["A.All"])), ("", json!(["A.All"]))] {
            let idtyp = if idtyp.is_empty() { json!(null) } else { json!(idtyp) };
            let application =
                with(&claims("1.0"), &[("scp", json!(null)), ("idtyp", idtyp), ("roles", roles.clone())]);
            for (audience, aud) in
                [(Audience::Teams, TEAMS), (Audience::Clients, "https://communication.azure.com/clients/")]
            {
                let token = sign(0, &header(0), &with(&application, &[("aud", json!(aud))]));
                let refused = bench.entra.verify(&token, audience).await;
                assert!(matches!(refused, Err(EntraError::Refused(EntraTokenError::ApplicationOnly))));
            }
            assert_eq!(bench.issuer.take_fetched(), [""; 0]);
            let service = with(&application, &[("aud", json!("https://communication.azure.com/"))]);
            let good =
                TestService::new().entra.verify(&sign(0, &header(0), &service), Audience::Service).await;
            let good = good.unwrap();
            assert_eq!(good.kind, TokenKind::Application);
            assert_eq!(json!(good.permissions), if roles.is_null() { json!([]) } else { roles });
        }
    }

    #[tokio::test]
    async fn any_changed_byte_of_a_token_refuses_it() {
        let bench = TestService::new();
        let good = token(0);
        bench.verify(&good).await.unwrap();
        for at in (0..good.len()).step_by(7) {
            for replacement in ["A", "_", ".", "=", "\u{e9}"] {
                let mut changed = good.clone();
                changed.replace_range(at..=at, replacement);
                assert!(changed == good || bench.verify(&changed).await.is_err(), "{at}: {replacement}");
            }
        }
        // The last character of 256 bytes carries four bits that say nothing, and must be zero.
        let (start, last) = good.split_at(good.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for other in alphabet.chars().map(String::from).filter(|other| other != last) {
            assert!(bench.verify(&format!("{start}{other}")).await.is_err());
        }
    }

    /// A clock that moves while a document is fetched.
    struct Slow(Arc<fake::FakeIssuer>, Arc<crate::testing::FrozenClock>);

    #[async_trait]
    impl Fetch for Slow {
        async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
            self.1.advance(1_000);
            self.0.get(url).await
        }
    }

    #[tokio::test]
    async fn a_token_that_expires_while_keys_are_fetched_is_refused() {
        for (life, good) in [(1, false), (2, false), (3, true)] {
            let bench = TestService::new();
            let settings = EntraSettings {
                authority: fake::AUTHORITY.parse().unwrap(),
                tenants: vec![TENANT],
                principals: vec![],
            };
            let slow = Arc::new(Slow(bench.issuer.clone(), bench.clock.clone()));
            let entra = Entra::new(settings, slow, bench.clock.clone());
            let exp = crate::testing::NOON.unix_timestamp() + life;
            let token = sign(0, &header(0), &with(&claims("2.0"), &[("exp", json!(exp))]));
            assert_eq!(entra.verify(&token, Audience::Teams).await.is_ok(), good, "{life}");
        }
    }
}
