//! The identities in the table, for commands and pages of this program. A list needs a `Scan`, and no deployed function
//! has the permission for it.

use dynoxide::DynoxideError;
use functions::aws::table::IDENTITY_PREFIX;
use identity::ids::RawId;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::dynamodb::EmbeddedDynamoDb;
use crate::embedded;

/// An identity, as its record in the table describes it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ListedIdentity {
    /// The raw id.
    pub id: String,
    pub origin: Origin,
    /// The time of the creation in UTC (RFC 3339), in whole seconds.
    pub created: String,
    /// The number that a revocation increases.
    pub revision: u64,
    pub state: State,
}

/// The operation that created an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// Created without a custom id, or deleted: a tombstone has no custom id.
    Created,
    /// Created with a custom id.
    CustomId,
    /// The exchange of an Entra user's token.
    Entra,
    /// The exchange of a Teams user's token.
    Teams,
    /// The exchange of a token for Teams phone extensibility.
    TeamsExtension,
}

/// Whether an identity can have tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Live,
    Deleted,
}

/// The identities in the table.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error("cannot read the table: {0}")]
    Table(#[from] DynoxideError),
    #[error("the record of an identity has an unknown form")]
    Record,
}

/// All identities, the newest first. Each call reads the whole table.
///
/// # Errors
/// [`ListingError`].
pub fn identities(database: &EmbeddedDynamoDb) -> Result<Vec<ListedIdentity>, ListingError> {
    let mut listed = Vec::new();
    for item in database.items(embedded::TABLE)? {
        if key(&item).is_some_and(|key| key.starts_with(IDENTITY_PREFIX)) {
            listed.push(parse(&item).ok_or(ListingError::Record)?);
        }
    }
    // The ids of users sort by creation, which decides within a second.
    listed.sort_by(|(a, one), (b, other)| (b, &other.id).cmp(&(a, &one.id)));
    Ok(listed.into_iter().map(|(_, identity)| identity).collect())
}

/// The partition key of an item.
pub(crate) fn key(item: &Value) -> Option<&str> {
    item.get("pk")?.get("S")?.as_str()
}

/// The identity and the second of its creation.
fn parse(item: &Value) -> Option<(i64, ListedIdentity)> {
    let text = |name: &str| item.get(name)?.get("S")?.as_str();
    let number = |name: &str| item.get(name)?.get("N")?.as_str();
    let id = text("pk")?.strip_prefix(IDENTITY_PREFIX)?.to_owned();
    let created: i64 = number("created_at")?.parse().ok()?;
    let origin = match id.parse().ok()? {
        RawId::EntraUser { .. } => Origin::Entra,
        RawId::TeamsUser { .. } => Origin::Teams,
        RawId::TeamsExtensionUser { .. } => Origin::TeamsExtension,
        _ if item.get("custom_id").is_some() => Origin::CustomId,
        _ => Origin::Created,
    };
    let state = match text("state")? {
        "live" => State::Live,
        "deleted" => State::Deleted,
        _ => return None,
    };
    let revision = number("revision")?.parse().ok()?;
    let date = OffsetDateTime::from_unix_timestamp(created).ok()?.format(&Rfc3339).ok()?;
    Some((created, ListedIdentity { id, origin, created: date, revision, state }))
}

#[cfg(test)]
mod tests {
    use identity::ids::Cloud;
    use identity::store::custom_ids::Profile;
    use identity::store::{CreationId, NewIdentity, Revision, Store as _};
    use time::Duration;
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;
    use crate::platform::tests::open;

    fn listed(id: &RawId, origin: Origin, created: &str, revision: u64, state: State) -> ListedIdentity {
        ListedIdentity { id: id.to_string(), origin, created: created.to_owned(), revision, state }
    }

    #[tokio::test]
    async fn identities_are_listed_from_the_newest_with_origin_and_state() {
        let dir = tempfile::tempdir().unwrap();
        let platform = open(dir.path()).await;
        assert_eq!(identities(&platform.database).unwrap(), []);
        let table = &platform.adapters.table;
        let start = datetime!(2024-03-01 12:00 UTC);
        let create = async |id: &RawId, custom_id: Option<&str>, seconds: i64| {
            let custom_id = custom_id.map(|text| text.parse().unwrap());
            let profile = Some(Profile { custom_id, last_token_issued_at: None });
            let creation = CreationId::random(platform.adapters.system.as_ref());
            let new = NewIdentity { id: id.clone(), creation, profile, last_creation: None };
            table.create(&new, start + Duration::seconds(seconds)).await.unwrap();
        };
        let object = Uuid::from_u128(7);
        let teams = RawId::TeamsUser { cloud: Cloud::Public, object };
        let resource = platform.resource.resource.id;
        let user = |number: u128| -> RawId {
            format!("8:acs:{resource}_{}", Uuid::from_u128(number)).parse().unwrap()
        };
        let entra = RawId::EntraUser { cloud: Cloud::Public, resource, tenant: object, object };
        create(&user(1), None, 0).await;
        create(&teams, None, 1).await;
        create(&user(2), Some("alice"), 2).await;
        create(&entra, None, 3).await;
        table.revoke(&user(1), Revision::FIRST).await.unwrap();
        table.delete(&teams, None, start + Duration::days(40_000)).await.unwrap();
        let expected = [
            listed(&entra, Origin::Entra, "2024-03-01T12:00:03Z", 1, State::Live),
            listed(&user(2), Origin::CustomId, "2024-03-01T12:00:02Z", 1, State::Live),
            listed(&teams, Origin::Teams, "2024-03-01T12:00:01Z", 1, State::Deleted),
            listed(&user(1), Origin::Created, "2024-03-01T12:00:00Z", 2, State::Live),
        ];
        assert_eq!(identities(&platform.database).unwrap(), expected);
    }
}
