//! The ends of tokens in a change of a record of the state table.

use identity::ids::RawId;
use identity::keys::pointer::Published;
use identity::store::StoreError;
use identity::store::feed::End;

use super::identities::identity_state;
use super::item::{Item, text};
use super::{IDENTITY_PREFIX, pointer_key, published};

/// The ends in a change. The copies of the pointer change together, so a change of the first copy stands for all of them.
///
/// # Errors
/// [`StoreError::Corrupt`] when no release has written such a record.
pub fn ends_of(before: Option<&Item>, after: Option<&Item>) -> Result<Vec<End>, StoreError> {
    let Some(record) = before.or(after) else { return Ok(Vec::new()) };
    let key = text(record, "pk")?;
    if let Some(id) = key.strip_prefix(IDENTITY_PREFIX) {
        let id: RawId = id.parse().map_err(|_| StoreError::Corrupt("pk"))?;
        let end = End::of_identity(&id, identity_state(before)?, identity_state(after)?);
        return Ok(end.into_iter().collect());
    }
    match (before, after) {
        (Some(before), Some(after)) if key == pointer_key(0) => {
            ends_of_keys(&published(before)?, &published(after)?)
        }
        _ => Ok(Vec::new()),
    }
}

/// The ends in a change of the published keys.
///
/// # Errors
/// [`StoreError::Corrupt`] when a record has no usable keys.
pub fn ends_of_keys(before: &Published, after: &Published) -> Result<Vec<End>, StoreError> {
    End::of_keys(before, after).map_err(|_| StoreError::Corrupt("published"))
}
