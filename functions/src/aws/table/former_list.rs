//! The former shape of the assignments: one item of the state table held all assignments of a kind.
//!
//! The item `assignments#<kind>` has these states, one after another:
//!
//! 1. Absent, or open: a former release may change it. Attributes `version` (N), `entries` (JSON).
//! 2. Moving: `version`, `moving` (JSON). A former release cannot read it, so it answers 503 and changes nothing. The
//!    list itself never changes again. This release copies each assignment to its own record, without a version, on
//!    the condition that there is no record.
//! 3. Moved: `version` only. It stays, so that a former release never makes a list again.
//!
//! Every step is conditional and idempotent, so any number of instances may move a list at once, and a crash leaves
//! the rest to the next request. An assignment changes only after its list was moved. So a record, if there is one, is
//! newer than the entry of the list. This file can go when no deployment has such a list any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use identity::store::assignments::{
    Assignment, AssignmentKey, AssignmentKind, AssignmentRecord, AssignmentVersion, MAX_CHANGES,
};
use identity::store::{ReadRequest, StoreError};

use super::Table;
use super::assignments::{PutCondition, is_failed_condition, record};
use super::item::{Found, Item, ItemKey, integer, number, text};
use crate::aws::AwsFault;

/// The steps of moving a list, with some for conflicts with other instances.
const STEPS: usize = 8;

/// The time that a read may spend on moving a list. The next read goes on.
const MOVE_TIME: Duration = Duration::from_secs(1);

/// The lists that this instance has seen moved.
#[derive(Default)]
pub(super) struct MovedLists {
    entra: AtomicBool,
    teams_extension: AtomicBool,
}

/// A former list, as read.
enum FormerList {
    Absent,
    Open { version: u64, entries: String },
    Moving { version: u64, assignments: Vec<Assignment> },
    Moved,
}

impl MovedLists {
    fn of(&self, kind: AssignmentKind) -> &AtomicBool {
        match kind {
            AssignmentKind::Entra => &self.entra,
            AssignmentKind::TeamsExtension => &self.teams_extension,
        }
    }
}

impl FormerList {
    fn of(item: Option<&Item>) -> Result<Self, StoreError> {
        let Some(item) = item else { return Ok(Self::Absent) };
        let version = integer(item, "version")?;
        if item.contains_key("entries") {
            Ok(Self::Open { version, entries: text(item, "entries")?.to_owned() })
        } else if item.contains_key("moving") {
            Ok(Self::Moving { version, assignments: entries(text(item, "moving")?)? })
        } else {
            Ok(Self::Moved)
        }
    }

    /// The assignments that may have no record yet.
    fn assignments(self) -> Result<Vec<Assignment>, StoreError> {
        match self {
            Self::Absent | Self::Moved => Ok(Vec::new()),
            Self::Open { entries: text, .. } => entries(&text),
            Self::Moving { assignments, .. } => Ok(assignments),
        }
    }
}

fn entries(text: &str) -> Result<Vec<Assignment>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("entries"))
}

impl Table {
    pub(super) fn former_list_key(&self, kind: AssignmentKind) -> ItemKey {
        self.state_key(format!("assignments#{}", kind.as_str()))
    }

    /// The kinds of these keys whose list this instance has not seen moved.
    pub(super) fn unmoved_lists(&self, keys: &[AssignmentKey]) -> Vec<AssignmentKind> {
        let is_needed = |kind: &AssignmentKind| {
            keys.iter().any(|key| key.kind() == *kind) && !self.moved_lists.of(*kind).load(Ordering::Acquire)
        };
        [AssignmentKind::Entra, AssignmentKind::TeamsExtension].into_iter().filter(is_needed).collect()
    }

    /// The records of the requested keys, from their items or from the lists. `None` means that the read must be
    /// repeated: a list was moved while the batch was read, so an item may have been read before it was written.
    pub(super) async fn records(
        &self,
        request: &ReadRequest<'_>,
        item_keys: &[ItemKey],
        lists: &[AssignmentKind],
        found: &Found,
    ) -> Result<Option<Vec<AssignmentRecord>>, StoreError> {
        let mut listed: BTreeMap<AssignmentKey, Vec<Assignment>> = BTreeMap::new();
        let (mut unmoved, mut just_moved) = (Vec::new(), false);
        for kind in lists {
            let list = FormerList::of(found.item(&self.former_list_key(*kind)))?;
            if matches!(list, FormerList::Moved) {
                self.moved_lists.of(*kind).store(true, Ordering::Release);
                just_moved = true;
            } else {
                unmoved.push(*kind);
                by_key(*kind, list.assignments()?, &mut listed);
            }
        }
        let mut records = Vec::with_capacity(item_keys.len());
        for (key, item_key) in request.assignments.iter().zip(item_keys) {
            let item = found.item(item_key);
            if item.is_none() && just_moved {
                return Ok(None);
            }
            records.push(match item {
                Some(item) => record(item)?,
                None => never_changed(listed.remove(key).unwrap_or_default()),
            });
        }
        for kind in unmoved {
            // An error or a delay must not fail this read. The next one goes on with the move.
            let _ = tokio::time::timeout(MOVE_TIME, self.move_former_list(kind)).await;
        }
        Ok(Some(records))
    }

    /// Moves a former list until it is moved.
    pub(super) async fn move_former_list(&self, kind: AssignmentKind) -> Result<(), StoreError> {
        for _ in 0..STEPS {
            if self.moved_lists.of(kind).load(Ordering::Acquire) {
                return Ok(());
            }
            let key = self.former_list_key(kind);
            let found = self.batch(std::slice::from_ref(&key)).await?;
            match FormerList::of(found.item(&key))? {
                FormerList::Absent => self.put_list(kind, None, None).await?,
                FormerList::Open { version, entries } => {
                    self.put_list(kind, Some(version), Some(entries)).await?;
                }
                FormerList::Moving { version, assignments } => {
                    self.copy(kind, assignments).await?;
                    self.put_list(kind, Some(version), None).await?;
                }
                FormerList::Moved => self.moved_lists.of(kind).store(true, Ordering::Release),
            }
        }
        Err(StoreError::Unavailable("the former list keeps changing".into()))
    }

    /// Writes the next state of a list if it still has the version that was read. A failed condition is no error,
    /// because the caller reads the list again.
    async fn put_list(
        &self,
        kind: AssignmentKind,
        read_version: Option<u64>,
        moving: Option<String>,
    ) -> Result<(), StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.state)
            .set_item(Some(self.former_list_key(kind).attributes()))
            .item("version", number(read_version.unwrap_or(0) + 1));
        let put = match moving {
            Some(moving) => put.item("moving", AttributeValue::S(moving)),
            None => put,
        };
        let put = match read_version {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(version) => put
                .condition_expression("version = :read")
                .expression_attribute_values(":read", number(version)),
        };
        let Err(error) = put.send().await else { return Ok(()) };
        let fault = AwsFault::of("PutItem", &error);
        match error.into_service_error() {
            PutItemError::ConditionalCheckFailedException(_) => Ok(()),
            _ => Err(StoreError::Unavailable(fault)),
        }
    }

    /// Writes a record for each assignment that has none.
    async fn copy(&self, kind: AssignmentKind, assignments: Vec<Assignment>) -> Result<(), StoreError> {
        let mut records = BTreeMap::new();
        by_key(kind, assignments, &mut records);
        let records: Vec<_> =
            records.into_iter().map(|(key, assignments)| (key, never_changed(assignments))).collect();
        for chunk in records.chunks(MAX_CHANGES) {
            let mut missing: Vec<_> = chunk.iter().collect();
            while !missing.is_empty() {
                let puts =
                    missing.iter().map(|(key, record)| self.record_put(*key, record, PutCondition::NoRecord));
                let Err(reasons) = self.transact(puts.collect::<Result<_, _>>()?).await? else { break };
                // At least one record exists already, so the rest is shorter.
                let kept =
                    missing.into_iter().zip(&reasons).filter(|(_, reason)| !is_failed_condition(reason));
                missing = kept.map(|(record, _)| record).collect();
            }
        }
        Ok(())
    }
}

/// The record of assignments that only the list has changed.
fn never_changed(assignments: Vec<Assignment>) -> AssignmentRecord {
    AssignmentRecord { version: AssignmentVersion::NONE, assignments }
}

/// Adds the assignments of a list to a map. A list can have several tenants for one object id.
fn by_key(
    kind: AssignmentKind,
    assignments: Vec<Assignment>,
    map: &mut BTreeMap<AssignmentKey, Vec<Assignment>>,
) {
    for assignment in assignments {
        map.entry(AssignmentKey::of(kind, &assignment)).or_default().push(assignment);
    }
}
