//! The records of identities, custom ids and assignments as a whole: removed by a reset, saved and loaded as a snapshot.
//! The pointer is not one of these records, so a snapshot has no keys.
//!
//! Callers must keep other requests out.

use dynoxide::DynoxideError;
use functions::aws::table::{FEED_PARTITION, IDENTITY_PREFIX};
use identity::ids::RawId;
use identity::store::CreationId;
use identity::store::assignments::{Assignment, AssignmentVersion};
use serde_json::{Value, json};

use crate::dynamodb::EmbeddedDynamoDb;
use crate::embedded::{ASSIGNMENTS_TABLE, TABLE};
use crate::listing::key;

/// The starts of the partition keys in the state table.
const KINDS: [&str; 3] = [IDENTITY_PREFIX, CUSTOM_ID_PREFIX, "assignments#"];

const CUSTOM_ID_PREFIX: &str = "custom-id#";

/// Most writes in one transaction.
const TRANSACTION: usize = 100;

/// The records that a removal leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// No record is left. The caller has replaced the signing keys, so no earlier token is active.
    Nothing,
    /// The identities that come from Entra, each at its next revision. Their ids are made from Entra's ids, so the next
    /// exchange would find no record, begin at the first revision, and make revoked tokens active again.
    RevokedEntraIdentities,
}

/// The records of both tables.
pub(super) struct Records {
    pub(super) state: Vec<Value>,
    pub(super) assignments: Vec<Value>,
}

impl Records {
    pub(super) fn read(database: &EmbeddedDynamoDb) -> Result<Self, DynoxideError> {
        let state = database.items(TABLE)?.into_iter().filter(is_kept_in_state).collect();
        let assignments = database.items(ASSIGNMENTS_TABLE)?.into_iter().filter(is_assignment).collect();
        Ok(Self { state, assignments })
    }

    /// Checks the forms of the records that a list of identities does not read.
    ///
    /// # Errors
    /// A message that names the first record of another form.
    pub(super) fn check_forms(&self) -> Result<(), String> {
        let of_state = |item| is_kept_in_state(item) && has_custom_id_form(item);
        let wrong = |list: &str, place: Option<usize>| {
            place.map_or(Ok(()), |index| Err(format!("{list}[{index}]: give a record of a snapshot")))
        };
        wrong("records", self.state.iter().position(|item| !of_state(item)))?;
        let of_assignments = |item| is_assignment(item) && has_assignment_form(item);
        wrong("assignments", self.assignments.iter().position(|item| !of_assignments(item)))
    }

    pub(super) fn write(&self, database: &EmbeddedDynamoDb) -> Result<(), DynoxideError> {
        let put = |table: &str, item: &Value| json!({"Put": {"TableName": table, "Item": item}});
        let state = self.state.iter().map(|item| put(TABLE, item));
        let assignments = self.assignments.iter().map(|item| put(ASSIGNMENTS_TABLE, item));
        transact(database, &state.chain(assignments).collect::<Vec<_>>())
    }
}

/// Removes the records, and the revocation feed, so that every cursor of a resource server becomes unknown.
pub(super) fn remove(database: &EmbeddedDynamoDb, leave: Leave) -> Result<(), DynoxideError> {
    let Records { state, .. } = Records::read(database)?;
    let assignments = database.items(ASSIGNMENTS_TABLE)?;
    let state = state.into_iter().map(|item| match revoked(&item).filter(|_| leave != Leave::Nothing) {
        Some(revoked) => json!({"Put": {"TableName": TABLE, "Item": revoked}}),
        None => json!({"Delete": {"TableName": TABLE, "Key": {"pk": item.get("pk")}}}),
    });
    let assignments = assignments.iter().map(|item| {
        let key = json!({"pk": item.get("pk"), "sk": item.get("sk")});
        json!({"Delete": {"TableName": ASSIGNMENTS_TABLE, "Key": key}})
    });
    transact(database, &state.chain(assignments).collect::<Vec<_>>())
}

/// The next revision of an identity that comes from Entra. `None` for another record, and for a user of this resource,
/// whose id is never used again.
fn revoked(item: &Value) -> Option<Value> {
    let id: RawId = key(item)?.strip_prefix(IDENTITY_PREFIX)?.parse().ok()?;
    if matches!(id, RawId::User(_)) {
        return None;
    }
    let revision: u64 = item.get("revision")?.get("N")?.as_str()?.parse().ok()?;
    let mut revoked = item.clone();
    *revoked.get_mut("revision")? = json!({"N": (revision + 1).to_string()});
    Some(revoked)
}

fn is_kept_in_state(item: &Value) -> bool {
    key(item).is_some_and(|key| KINDS.iter().any(|kind| key.starts_with(kind)))
}

fn is_assignment(item: &Value) -> bool {
    key(item).is_some_and(|key| key != FEED_PARTITION)
}

/// Whether the record is of another kind, or has the members of a custom id's record.
fn has_custom_id_form(item: &Value) -> bool {
    let is_custom_id = key(item).is_some_and(|key| key.starts_with(CUSTOM_ID_PREFIX));
    let has_creation = || text(item, "creation").is_some_and(|text| text.parse::<CreationId>().is_ok());
    let is_identity = |text: &str| text.parse::<RawId>().is_ok();
    !is_custom_id || has_creation() && text(item, "identity").is_none_or(is_identity)
}

fn has_assignment_form(item: &Value) -> bool {
    let is_list = |text: &str| serde_json::from_str::<Vec<Assignment>>(text).is_ok();
    let is_version = |text: &str| text.parse::<AssignmentVersion>().is_ok();
    text(item, "assignments").is_some_and(is_list) && text(item, "version").is_none_or(is_version)
}

/// The text of an attribute, which is empty for another type. `None` if there is no such attribute.
fn text<'a>(item: &'a Value, name: &str) -> Option<&'a str> {
    item.get(name).map(|value| value["S"].as_str().unwrap_or_default())
}

fn transact(database: &EmbeddedDynamoDb, writes: &[Value]) -> Result<(), DynoxideError> {
    writes.chunks(TRANSACTION).try_for_each(|chunk| database.transact_write(&json!({"TransactItems": chunk})))
}
