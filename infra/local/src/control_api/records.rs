//! The records of identities, custom ids and assignments as a whole: removed by a reset, saved and loaded as a snapshot.
//! The pointer is not one of these records, so a snapshot has no keys.
//!
//! Callers must keep other requests out.

use dynoxide::DynoxideError;
use functions::aws::table::{FEED_PARTITION, IDENTITY_PREFIX};
use identity::ids::RawId;
use serde_json::{Value, json};

use crate::dynamodb::EmbeddedDynamoDb;
use crate::embedded::{ASSIGNMENTS_TABLE, TABLE};
use crate::listing::key;

/// The starts of the partition keys in the state table.
const KINDS: [&str; 3] = [IDENTITY_PREFIX, "custom-id#", "assignments#"];

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

    /// Whether every record has a partition key of these records.
    pub(super) fn have_known_kinds(&self) -> bool {
        self.state.iter().all(is_kept_in_state) && self.assignments.iter().all(is_assignment)
    }

    pub(super) fn write(self, database: &EmbeddedDynamoDb) -> Result<(), DynoxideError> {
        let put = |table: &str, item: Value| json!({"Put": {"TableName": table, "Item": item}});
        let state = self.state.into_iter().map(|item| put(TABLE, item));
        let assignments = self.assignments.into_iter().map(|item| put(ASSIGNMENTS_TABLE, item));
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

fn transact(database: &EmbeddedDynamoDb, writes: &[Value]) -> Result<(), DynoxideError> {
    writes.chunks(TRANSACTION).try_for_each(|chunk| database.transact_write(&json!({"TransactItems": chunk})))
}
