//! Claims for tests.

use super::claims::{Claims, Grant};
use super::scope::ScopeSet;
use crate::ids::{RawId, UserId};
use crate::store::Revision;
use crate::testing::{NOON, SeededRandom, settings};

/// One identity, and the claims of its token of an hour. `issued_at` is in seconds since the epoch.
pub(super) fn claims(revision: u64, issued_at: i64) -> (RawId, Claims) {
    let resource = settings().resource;
    let identity: RawId = UserId::mint(resource.id, NOON, &SeededRandom::new(1)).into();
    let grant = Grant {
        identity: &identity,
        scopes: &ScopeSet::parse(["chat"]).unwrap(),
        revision: Revision::new(revision),
        issued_at,
        expires_at: issued_at + 3_600,
        token_id: [7; 16],
        teams: None,
    };
    let claims = Claims::of(&resource, &grant);
    (identity, claims)
}
