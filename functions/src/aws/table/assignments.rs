//! The records of assignments, in a table with a sort key so that they can be listed.
//!
//! The first digit of the object id spreads the records over 16 partitions. Both keys begin with it, so the order of
//! the partitions, and of the records in them, is the order of the object ids.

use std::time::Duration;

use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use identity::store::StoreError;
use identity::store::assignments::{
    Assignment, AssignmentChange, AssignmentKey, AssignmentKind, AssignmentPage, AssignmentRecord,
    AssignmentVersion, AssignmentWriteOutcome, REMOVED_RECORD,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Table;
use super::item::{Item, ItemKey, number, text};
use crate::aws::AwsFault;

/// Most queries for one page. With more, many removed records could delay the answer for too long.
const PAGE_QUERIES: usize = 48;

/// Pauses before the next attempts of a transaction that met another one, and the longest first pause. Together they stay
/// far below the deadline of a request.
const CONFLICT_PAUSES: u32 = 5;
const CONFLICT_PAUSE: Duration = Duration::from_millis(25);

/// Sorts before every object id.
const BEFORE_ALL: &str = "0";

impl Table {
    pub(super) fn assignment_key(&self, key: AssignmentKey) -> ItemKey {
        let (AssignmentKey::Entra { object } | AssignmentKey::TeamsExtension { object, .. }) = key;
        let sk = match key {
            AssignmentKey::Entra { object } => object.to_string(),
            AssignmentKey::TeamsExtension { object, tenant } => format!("{object}#{tenant}"),
        };
        let pk = partition(key.kind(), digit(object));
        ItemKey { table: self.assignments.clone(), pk, sk: Some(sk) }
    }

    /// A put of a record. Without a version the record was moved from a former list, and never changed.
    pub(super) fn record_put(
        &self,
        key: AssignmentKey,
        record: &AssignmentRecord,
        condition: PutCondition,
    ) -> Result<TransactWriteItem, StoreError> {
        let assignments =
            serde_json::to_string(&record.assignments).map_err(|_| StoreError::Corrupt("assignments"))?;
        let put = Put::builder()
            .table_name(&self.assignments)
            .set_item(Some(self.assignment_key(key).attributes()))
            .item("assignments", AttributeValue::S(assignments))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match record.version {
            AssignmentVersion::NONE => put,
            version => put.item("version", AttributeValue::S(version.to_string())),
        };
        let put = match condition {
            PutCondition::NoRecord => put.condition_expression("attribute_not_exists(pk)"),
            PutCondition::Version(AssignmentVersion::NONE) => {
                put.condition_expression("attribute_not_exists(version)")
            }
            PutCondition::Version(version) => put
                .condition_expression("version = :read")
                .expression_attribute_values(":read", AttributeValue::S(version.to_string())),
        };
        let put = put.build().map_err(|_| StoreError::Corrupt("a record without attributes"))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Makes all the writes or none. The result is the reason of each write, in their order, if a condition failed. A
    /// transaction that only met other transactions on its items is sent again.
    pub(super) async fn transact(
        &self,
        writes: Vec<TransactWriteItem>,
    ) -> Result<Result<(), Vec<CancellationReason>>, StoreError> {
        let mut attempt = 0;
        loop {
            let transaction = self.client.transact_write_items().set_transact_items(Some(writes.clone()));
            let Err(error) = transaction.send().await else { return Ok(Ok(())) };
            let fault = AwsFault::of("TransactWriteItems", &error);
            let TransactWriteItemsError::TransactionCanceledException(canceled) = error.into_service_error()
            else {
                return Err(StoreError::Unavailable(fault));
            };
            let reasons = canceled.cancellation_reasons.unwrap_or_default();
            if reasons.iter().any(is_failed_condition) {
                return Ok(Err(reasons));
            }
            if attempt == CONFLICT_PAUSES || !reasons.iter().any(is_conflict) {
                return Err(StoreError::Unavailable(fault));
            }
            tokio::time::sleep(self.conflict_pause(attempt)).await;
            attempt += 1;
        }
    }

    /// A random part of a limit that doubles with each attempt, so that transactions do not meet again.
    fn conflict_pause(&self, attempt: u32) -> Duration {
        let mut byte = [0];
        self.random.fill(&mut byte);
        CONFLICT_PAUSE * 2_u32.pow(attempt) * (u32::from(byte[0]) + 1) / 256
    }

    pub(super) async fn change_records(
        &self,
        changes: &[AssignmentChange],
        now: OffsetDateTime,
    ) -> Result<AssignmentWriteOutcome, StoreError> {
        let mut puts = Vec::with_capacity(changes.len());
        for change in changes {
            self.move_former_list(change.key.kind()).await?;
            let condition = PutCondition::Version(change.read_version);
            let mut put = self.record_put(change.key, &change.record(), condition)?;
            if change.assignment.is_none()
                && let Some(put) = &mut put.put
            {
                let expires_at = now.saturating_add(REMOVED_RECORD).unix_timestamp();
                put.item.insert("expires_at".to_owned(), number(expires_at));
            }
            puts.push(put);
        }
        let Err(reasons) = self.transact(puts).await? else { return Ok(AssignmentWriteOutcome::Changed) };
        // The SDK may have sent these changes before and lost the answer.
        let mut all_done = reasons.len() == changes.len();
        for (change, reason) in changes.iter().zip(&reasons) {
            let stored = reason.item.as_ref().map(record).transpose()?.unwrap_or_default();
            all_done = all_done && is_failed_condition(reason) && change.is_done(&stored);
        }
        Ok(if all_done { AssignmentWriteOutcome::Changed } else { AssignmentWriteOutcome::Conflict })
    }

    pub(super) async fn list_entra_records(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<AssignmentPage, StoreError> {
        self.move_former_list(AssignmentKind::Entra).await?;
        // One more than the page holds shows whether another page follows.
        let mut scan = Scan { after, records: Vec::new(), wanted: limit.saturating_add(1) };
        let mut queries = 0;
        for first_digit in after.map_or(0, digit)..16 {
            while queries < PAGE_QUERIES && scan.records.len() < scan.wanted {
                queries += 1;
                if self.query(&mut scan, first_digit).await? {
                    break;
                }
            }
        }
        let mut records = scan.records;
        let next = if records.len() > limit {
            records.truncate(limit);
            records.last().map(|(object, _)| *object)
        } else {
            scan.after.filter(|after| *after != Uuid::max())
        };
        let assignments = records.into_iter().flat_map(|(_, assignments)| assignments).collect();
        Ok(AssignmentPage { assignments, next })
    }

    /// Reads on in one partition. Returns whether the partition is exhausted.
    async fn query(&self, scan: &mut Scan, first_digit: u8) -> Result<bool, StoreError> {
        let after = scan.after.map_or_else(|| BEFORE_ALL.to_owned(), |after| after.to_string());
        let limit = scan.wanted.saturating_sub(scan.records.len());
        let query = self
            .client
            .query()
            .table_name(&self.assignments)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk > :after")
            .expression_attribute_values(
                ":pk",
                AttributeValue::S(partition(AssignmentKind::Entra, first_digit)),
            )
            .expression_attribute_values(":after", AttributeValue::S(after))
            // A removed record has it.
            .filter_expression("attribute_not_exists(expires_at)")
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let answer = query.send().await;
        let answer = answer.map_err(|error| StoreError::Unavailable(AwsFault::of("Query", &error)))?;
        for item in answer.items.unwrap_or_default() {
            scan.records.push((object(&item)?, record(&item)?.assignments));
        }
        let last = answer.last_evaluated_key.as_ref().map(object).transpose()?;
        scan.after = Some(last.unwrap_or_else(|| last_object(first_digit)));
        Ok(last.is_none())
    }
}

/// The condition of a put.
pub(super) enum PutCondition {
    /// There is no record.
    NoRecord,
    /// The record has this version. A key without a record has none.
    Version(AssignmentVersion),
}

/// The progress of one page.
struct Scan {
    /// The last place that was read.
    after: Option<Uuid>,
    records: Vec<(Uuid, Vec<Assignment>)>,
    /// The number of records that ends the scan.
    wanted: usize,
}

pub(super) fn record(item: &Item) -> Result<AssignmentRecord, StoreError> {
    let assignments = serde_json::from_str(text(item, "assignments")?);
    let version = if item.contains_key("version") {
        text(item, "version")?.parse().map_err(|_| StoreError::Corrupt("version"))?
    } else {
        AssignmentVersion::NONE
    };
    Ok(AssignmentRecord {
        version,
        assignments: assignments.map_err(|_| StoreError::Corrupt("assignments"))?,
    })
}

/// Whether the condition of this put failed.
pub(super) fn is_failed_condition(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

/// Whether another transaction, or a write, was under way on the item of this write.
fn is_conflict(reason: &CancellationReason) -> bool {
    reason.code() == Some("TransactionConflict")
}

fn partition(kind: AssignmentKind, first_digit: u8) -> String {
    format!("{}#{first_digit:x}", kind.as_str())
}

/// The first hexadecimal digit of an object id.
fn digit(object: Uuid) -> u8 {
    let [first, ..] = object.into_bytes();
    first >> 4
}

/// The last object id with this first digit.
fn last_object(first_digit: u8) -> Uuid {
    Uuid::from_u128(u128::from(first_digit) << 124 | u128::MAX >> 4)
}

/// The object id of an Entra record.
fn object(item: &Item) -> Result<Uuid, StoreError> {
    text(item, "sk")?.parse().map_err(|_| StoreError::Corrupt("sk"))
}
