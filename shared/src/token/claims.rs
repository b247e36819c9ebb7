//! The claims of a token: name, order, type and meaning (docs/wire-contract.md#token-claims, decision record 0004).

use serde::{Deserialize, Serialize};

use crate::authn::entra::{EntraToken, is_entra_token_id};
use crate::ids::{RawId, guid};
use crate::json::not_null;
use crate::settings::{Location, Resource};
use crate::store::Revision;
use crate::token::scope::ScopeSet;

/// The claims in the order of the token: first the claims of ACS, then the claims of this service. The set is closed. A
/// token with a further claim, or with one claim twice, is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The raw id without its leading `8:`.
    pub skypeid: String,
    /// 1792, or 1024 for a Teams user. It does not depend on the scopes.
    pub scp: u32,
    /// `iat` as text. For a Teams user, `iat` of the Entra token.
    pub csi: String,
    /// The expiry, in seconds since the epoch.
    pub exp: i64,
    /// The region claim of the resource.
    pub rgn: String,
    /// The tenant's GUID, for a Teams user only. Clients recognize a Teams user by this claim.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub tid: Option<String>,
    /// The scopes in request order, separated by commas.
    #[serde(rename = "acsScope")]
    pub scopes: ScopeSet,
    /// The resource's GUID.
    #[serde(rename = "resourceId")]
    pub resource_id: String,
    /// The resource's location. A Teams user's token does not have it.
    #[serde(
        rename = "resourceLocation",
        default,
        deserialize_with = "not_null",
        skip_serializing_if = "Option::is_none"
    )]
    pub resource_location: Option<String>,
    /// `iat` of the Entra token, for a Teams user only.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub aad_iat: Option<String>,
    /// `uti` of the Entra token, for a Teams user only.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub aad_uti: Option<String>,
    /// The Entra application, for a Teams user only.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub aad_appid: Option<String>,
    /// The time of issue, in seconds since the epoch.
    pub iat: i64,
    /// The issuer, an `https` URL.
    pub iss: String,
    /// The audience: the resource's GUID.
    pub aud: String,
    /// The identity's raw id.
    pub sub: String,
    /// The token's id: 32 hexadecimal digits.
    pub jti: String,
    /// The identity's revision when the token was minted.
    pub rev: Revision,
    /// The scopes in request order, separated by spaces (RFC 8693 section 4.2), for gateways and frameworks. Absent in
    /// the tokens of a resource with [`Resource::scope_claim`] off.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// The data that a token is minted from.
pub struct Grant<'a> {
    pub identity: &'a RawId,
    pub scopes: &'a ScopeSet,
    pub revision: Revision,
    /// Seconds since the epoch.
    pub issued_at: i64,
    /// Seconds since the epoch.
    pub expires_at: i64,
    pub token_id: [u8; 16],
    /// The exchanged Entra token, for a Teams user only.
    pub teams: Option<&'a EntraToken>,
}

/// `scp` for this kind of user.
#[must_use]
pub fn scp_of(identity: &RawId) -> u32 {
    match identity {
        RawId::TeamsUser { .. } => 1024,
        _ => 1792,
    }
}

impl Claims {
    /// The claims of this grant.
    #[must_use]
    pub fn of(resource: &Resource, grant: &Grant<'_>) -> Self {
        let location = resource.location.as_str().to_owned();
        let csi = grant.teams.map_or(grant.issued_at, |entra| entra.issued_at).to_string();
        Self {
            skypeid: grant.identity.skype_id(),
            scp: scp_of(grant.identity),
            exp: grant.expires_at,
            rgn: resource.region.as_str().to_owned(),
            tid: grant.teams.map(|entra| entra.tenant.hyphenated().to_string()),
            scopes: grant.scopes.clone(),
            resource_id: resource.id.to_string(),
            resource_location: grant.teams.is_none().then_some(location),
            aad_iat: grant.teams.map(|_| csi.clone()),
            aad_uti: grant.teams.and_then(|entra| entra.token_id.clone()),
            aad_appid: grant.teams.map(|entra| entra.app.hyphenated().to_string()),
            csi,
            iat: grant.issued_at,
            iss: resource.issuer.as_str().to_owned(),
            aud: resource.id.to_string(),
            sub: grant.identity.to_string(),
            jti: format!("{:032x}", u128::from_be_bytes(grant.token_id)),
            rev: grant.revision,
            scope: resource.scope_claim.then(|| grant.scopes.spaced()),
        }
    }

    /// Whether the claims have their form and agree with one another, as [`Self::of`] writes them for this identity.
    #[must_use]
    pub fn agree_on(&self, identity: &RawId) -> bool {
        let is_teams = matches!(identity, RawId::TeamsUser { .. });
        let csi = if is_teams {
            self.aad_iat.as_ref() == Some(&self.csi) && is_time(&self.csi)
        } else {
            self.csi == self.iat.to_string()
        };
        let belongs =
            is_teams || identity.resource().is_some_and(|owner| owner.to_string() == self.resource_id);
        let is_location = |text: &str| text.parse::<Location>().is_ok();
        csi && belongs
            && is_location(&self.rgn)
            && self.resource_location.as_deref().is_none_or(is_location)
            && is_token_id(&self.jti)
            && identity.to_string() == self.sub
            && identity.skype_id() == self.skypeid
            && self.scp == scp_of(identity)
            && self.scope.as_ref().is_none_or(|scope| *scope == self.scopes.spaced())
            && self.tid.is_some() == is_teams
            && self.tid.as_deref().is_none_or(is_guid)
            && self.aad_appid.is_some() == is_teams
            && self.aad_appid.as_deref().is_none_or(is_guid)
            && self.aad_iat.is_some() == is_teams
            && (is_teams || self.aad_uti.is_none())
            && self.aad_uti.as_deref().is_none_or(is_entra_token_id)
            && self.resource_location.is_none() == is_teams
    }
}

/// The form of `jti`: 32 hexadecimal digits in lower case.
fn is_token_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A whole number of seconds, written as the service writes it.
fn is_time(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|seconds| seconds.to_string() == text)
}

/// A GUID, written as the service writes it.
fn is_guid(text: &str) -> bool {
    guid(text).is_ok_and(|guid| guid.hyphenated().to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::authn::entra::TokenKind;
    use crate::ids::{Cloud, UserId};
    use crate::testing::{self, NOON, SeededRandom};
    use crate::token::scope::Scope;

    fn of_teams_user() -> (RawId, Claims) {
        let entra = EntraToken {
            tenant: Uuid::from_u128(1),
            object: Uuid::from_u128(2),
            app: Uuid::from_u128(3),
            permissions: vec![],
            groups: vec![],
            kind: TokenKind::Delegated,
            issued_at: NOON.unix_timestamp() - 60,
            expires_at: NOON.unix_timestamp() + 60,
            token_id: Some("uti-1".to_owned()),
        };
        let identity = RawId::TeamsUser { cloud: Cloud::Public, object: entra.object };
        let grant = Grant {
            identity: &identity,
            scopes: &ScopeSet::parse(["chat"]).unwrap(),
            revision: Revision::FIRST,
            issued_at: NOON.unix_timestamp(),
            expires_at: entra.expires_at,
            token_id: [7; 16],
            teams: Some(&entra),
        };
        let claims = Claims::of(&testing::settings().resource, &grant);
        (identity, claims)
    }

    #[test]
    fn claims_from_entra_have_their_form() {
        let (identity, claims) = of_teams_user();
        assert!(claims.agree_on(&identity));
        assert_eq!(claims.scp, 1024, "the number of a Teams user");
        let text = |change: &str| Some(change.to_owned());
        for time in ["", "now", "1709294400.0", "+1709294400", "01", " 1", "9223372036854775808"] {
            let changed = Claims { csi: time.to_owned(), aad_iat: text(time), ..claims.clone() };
            assert!(!changed.agree_on(&identity), "{time:?}");
        }
        let braced = format!("{{{}}}", Uuid::from_u128(1));
        let upper = "AAAAAAAA-0000-4000-8000-000000000001";
        for guid in ["", "contoso.com", &braced, upper, &Uuid::from_u128(1).simple().to_string()] {
            assert!(!Claims { tid: text(guid), ..claims.clone() }.agree_on(&identity), "{guid:?}");
            assert!(!Claims { aad_appid: text(guid), ..claims.clone() }.agree_on(&identity), "{guid:?}");
        }
        for id in ["", "a b", "a\nb", "\u{e4}", &"a".repeat(65)] {
            assert!(!Claims { aad_uti: text(id), ..claims.clone() }.agree_on(&identity), "{id:?}");
        }
        for id in ["", &"a".repeat(31), &"a".repeat(33), &"A".repeat(32), &"g".repeat(32)] {
            assert!(!Claims { jti: id.to_owned(), ..claims.clone() }.agree_on(&identity), "{id:?}");
        }
        assert!(Claims { aad_uti: None, ..claims }.agree_on(&identity));
    }

    /// A Teams user has the claims of Entra, and any other identity has none of them.
    #[test]
    fn claims_of_entra_belong_to_teams_users_only() {
        let (teams_user, full) = of_teams_user();
        let (user, bare) = claims(false, &ScopeSet::of(&[Scope::Chat]).unwrap());
        assert!(full.agree_on(&teams_user) && bare.agree_on(&user));
        let location = bare.resource_location.clone();
        for (teams, other) in [
            (Claims { tid: None, ..full.clone() }, Claims { tid: full.tid.clone(), ..bare.clone() }),
            (
                Claims { aad_appid: None, ..full.clone() },
                Claims { aad_appid: full.aad_appid.clone(), ..bare.clone() },
            ),
            (
                Claims { resource_location: location, ..full.clone() },
                Claims { resource_location: None, ..bare.clone() },
            ),
            (
                Claims { aad_iat: None, ..full.clone() },
                Claims { aad_iat: full.aad_iat.clone(), ..bare.clone() },
            ),
        ] {
            assert!(!teams.agree_on(&teams_user), "a Teams user");
            assert!(!other.agree_on(&user), "another user");
        }
        assert!(!Claims { aad_uti: full.aad_uti.clone(), ..bare }.agree_on(&user), "another user");
    }

    fn claims(scope_claim: bool, scopes: &ScopeSet) -> (RawId, Claims) {
        let resource = Resource { scope_claim, ..testing::settings().resource };
        let identity = UserId::mint(resource.id, NOON, &SeededRandom::new(1)).into();
        let grant = Grant {
            identity: &identity,
            scopes,
            revision: Revision::new(1),
            issued_at: 1_709_294_400,
            expires_at: 1_709_298_000,
            token_id: [7; 16],
            teams: None,
        };
        let claims = Claims::of(&resource, &grant);
        (identity, claims)
    }

    /// The previous release refuses tokens with the claim.
    #[test]
    fn scope_claim_is_absent_unless_it_is_on() {
        let scopes = ScopeSet::of(&[Scope::Voip, Scope::ChatJoin]).unwrap();
        let (identity, without) = claims(false, &scopes);
        assert!(without.agree_on(&identity));
        assert!(!serde_json::to_string(&without).unwrap().contains(r#""scope""#));
        let (_, with) = claims(true, &scopes);
        assert_eq!(with.scope.as_deref(), Some("voip chat.join"));
    }

    fn any_scopes() -> impl Strategy<Value = ScopeSet> {
        prop::collection::vec(0_usize..5, 1..6)
            .prop_map(|picks| ScopeSet::parse(picks.iter().map(|pick| Scope::ALL[*pick].as_str())).unwrap())
    }

    proptest! {
        #[test]
        fn claims_agree_only_with_their_own_scope(scopes in any_scopes(), other in any_scopes()) {
            let (identity, mut claims) = claims(true, &scopes);
            prop_assert!(claims.agree_on(&identity));
            claims.scope = Some(other.spaced());
            prop_assert_eq!(claims.agree_on(&identity), scopes == other);
        }
    }
}
