//! Every claim of a token: name, order, type and meaning (wire-contract section 10.2; decision record 0004).

use serde::{Deserialize, Serialize};

use crate::ids::RawId;
use crate::scope::ScopeSet;
use crate::settings::Resource;
use crate::store::Revision;

/// `scp` of a communication user's token: constant, whatever the scopes.
pub const SCP_USER: u32 = 1792;

/// The claims, in the order they are written: the ones ACS clients know, then ours. A closed set: a
/// token with another claim, or with one twice, is not ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The raw id without its leading `8:`.
    pub skypeid: String,
    /// [`SCP_USER`].
    pub scp: u32,
    /// `iat` as text.
    pub csi: String,
    /// When the token ends, seconds since the epoch.
    pub exp: i64,
    /// The region claim of the resource.
    pub rgn: String,
    /// The scopes, a comma list in request order.
    #[serde(rename = "acsScope")]
    pub scopes: ScopeSet,
    /// The resource's GUID.
    #[serde(rename = "resourceId")]
    pub resource_id: String,
    /// The resource's location.
    #[serde(rename = "resourceLocation")]
    pub resource_location: String,
    /// When the token was issued, seconds since the epoch.
    pub iat: i64,
    /// The issuer, an `https` URL.
    pub iss: String,
    /// The audience: the resource's GUID.
    pub aud: String,
    /// The identity's raw id.
    pub sub: String,
    /// The token's own id: 32 hexadecimal digits.
    pub jti: String,
    /// The identity's revision when the token was minted.
    pub rev: Revision,
}

/// What a token is minted from.
pub struct Grant<'a> {
    pub identity: &'a RawId,
    pub scopes: &'a ScopeSet,
    pub revision: Revision,
    /// Seconds since the epoch.
    pub issued_at: i64,
    /// Seconds since the epoch.
    pub expires_at: i64,
    pub token_id: [u8; 16],
}

impl Claims {
    /// The claims that say this grant.
    #[must_use]
    pub fn of(resource: &Resource, grant: &Grant<'_>) -> Self {
        Self {
            skypeid: grant.identity.skype_id(),
            scp: SCP_USER,
            csi: grant.issued_at.to_string(),
            exp: grant.expires_at,
            rgn: resource.region.as_str().to_owned(),
            scopes: grant.scopes.clone(),
            resource_id: resource.id.to_string(),
            resource_location: resource.location.as_str().to_owned(),
            iat: grant.issued_at,
            iss: resource.issuer.as_str().to_owned(),
            aud: resource.id.to_string(),
            sub: grant.identity.to_string(),
            jti: format!("{:032x}", u128::from_be_bytes(grant.token_id)),
            rev: grant.revision,
        }
    }
}
