//! The store over two DynamoDB tables. The state table has the key `pk`, a string:
//!
//! | `pk` | attributes |
//! |---|---|
//! | `identity#<raw id>` | `state` (`live`, `deleted`), `revision` (N), `creation` (32 hexadecimal digits), `created_at` (N, epoch seconds); with a profile also `last_token_issued_at` (N, epoch seconds, 0 before the first token) and, if there is one, `custom_id`; a tombstone also `expires_at` |
//! | `custom-id#<SHA-256 of resource and custom id>` | `creation` of the last identity with the custom id; while the identity lives `identity` (raw id), then `expires_at` |
//! | `pointer#<n>`, n in `0..copies` | `generation` (N), `copies` (N), `access_keys`, `signing_keys` (version ids), `access_keys_sequence`, `signing_keys_sequence` (N), `published` (JSON), `standby` (JSON, may be missing) |
//! | `resource-servers#all` | `version` (N), `credentials` (JSON) of every resource server |
//! | `resource-server#<name>` | `credential` (JSON), a copy of its part of the former item, for the read of a request; after a removal also `expires_at` |
//! | `assignments#<kind>` | the list of a former release, see [`former_list`] |
//!
//! The assignments table has the keys `pk` and `sk`, two strings:
//!
//! | `pk` | `sk` | attributes |
//! |---|---|---|
//! | `entra#<first digit of the object id>` | `<object id>` | `version` (32 hexadecimal digits), `assignments` (JSON); after a removal also `expires_at` |
//! | `teams-extension#<first digit of the object id>` | `<object id>#<tenant id>` | the same |
//! | `revocations` | `<sequence>`, 20 digits | `place` (cursor), `ends` (JSON), `expires_at` |
//! | `revocations` | `head` | `place` (cursor) of the last batch |
//!
//! `expires_at` (N, epoch seconds) is the TTL attribute of both tables. The service does not depend on the moment of a
//! deletion, only on its being no earlier.
//!
//! Every read is strongly consistent. Every write is conditional on the state that it changes, so an attempt that
//! arrives twice or late never undoes a newer change (decision records 0002, 0012 and 0015).

mod assignments;
mod changes;
mod feed;
mod former_list;
mod identities;
mod item;
mod resource_servers;

pub use changes::{ends_of, ends_of_keys};
pub use feed::FEED_PARTITION;
pub use identities::IDENTITY_PREFIX;
pub use item::Item;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, Put, TransactWriteItem};
use identity::ids::RawId;
use identity::keys::pointer::{Pointer, Published};
use identity::runtime::Random;
use identity::secrets::VersionId;
use identity::store::assignments::{AssignmentChange, AssignmentPage, AssignmentWriteOutcome};
use identity::store::custom_ids::{CustomId, CustomIdKey, CustomIdState};
use identity::store::resource_servers::Credential;
use identity::store::{
    CreateOutcome, IdentityState, NewIdentity, PointerWriteOutcome, PointerWriter, ReadRequest, Revision,
    Revocation, Snapshot, Store, StoreError,
};
use time::OffsetDateTime;
use uuid::Uuid;

use self::former_list::MovedLists;
use self::identities::{Updated, custom_id_state, identity_state, profile};
use self::item::{Found, ItemKey, integer, number, text};
use self::resource_servers::credential_of;
use super::AwsFault;

/// Most keys in one `BatchGetItem`.
const BATCH_KEYS: usize = 100;

/// Attempts for the keys that a batch answer leaves unprocessed, and the pause before the second attempt.
const BATCH_ATTEMPTS: u32 = 4;
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// The store over the two tables.
pub struct Table {
    client: Client,
    state: String,
    /// The name of the assignments table. Empty in a function that reads no assignment.
    assignments: String,
    random: Arc<dyn Random>,
    /// The number of copies of the pointer, as last read. Copy 0 always exists.
    copies: AtomicU32,
    moved_lists: MovedLists,
}

impl Table {
    /// The store over the tables with these names.
    #[must_use]
    pub fn new(client: Client, state: String, assignments: String, random: Arc<dyn Random>) -> Self {
        let (copies, moved_lists) = (AtomicU32::new(1), MovedLists::default());
        Self { client, state, assignments, random, copies, moved_lists }
    }

    /// The key of a random copy of the pointer, so that reads spread over partitions.
    fn some_pointer(&self) -> ItemKey {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        let copy = u32::from_le_bytes(bytes).checked_rem(self.copies.load(Ordering::Relaxed));
        self.state_key(pointer_key(copy.unwrap_or(0)))
    }

    fn state_key(&self, pk: String) -> ItemKey {
        ItemKey { table: self.state.clone(), pk, sk: None }
    }

    /// Reads items strongly consistently, up to 100 in each call.
    async fn batch(&self, keys: &[ItemKey]) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for chunk in keys.chunks(BATCH_KEYS) {
            let request = item::requests(chunk);
            let request = request.map_err(|_| batch_error("the request could not be built"))?;
            self.batch_chunk(request, &mut found).await?;
        }
        Ok(found)
    }

    /// Reads items in one call. Keys that the answer leaves unprocessed are requested again.
    async fn batch_chunk(
        &self,
        mut request: HashMap<String, KeysAndAttributes>,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        for attempt in 0..BATCH_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(BATCH_PAUSE * 2_u32.pow(attempt - 1)).await;
            }
            let answer = self.client.batch_get_item().set_request_items(Some(request)).send().await;
            let answer = answer.map_err(|error| StoreError::Unavailable(AwsFault::of(BATCH_CALL, &error)))?;
            for item in answer.responses.unwrap_or_default().into_values().flatten() {
                found.insert(item)?;
            }
            request = answer.unprocessed_keys.unwrap_or_default();
            request.retain(|_, rest| !rest.keys().is_empty());
            if request.is_empty() {
                return Ok(());
            }
        }
        Err(batch_error("keys left unprocessed"))
    }

    fn learn(&self, pointer: &Pointer) {
        self.copies.store(pointer.copies.max(1), Ordering::Relaxed);
    }
}

const BATCH_CALL: &str = "BatchGetItem";

fn batch_error(code: &str) -> StoreError {
    StoreError::Unavailable(AwsFault::boxed(BATCH_CALL, code))
}

#[async_trait]
impl Store for Table {
    async fn read(&self, request: ReadRequest<'_>) -> Result<Snapshot, StoreError> {
        let (pointer_key, lists) = (self.some_pointer(), self.unmoved_lists(request.assignments));
        let identity_key = request.identity.map(|identity| self.identity_key(identity));
        let custom_id_key = request.custom_id.map(|key| self.custom_id_key(key));
        let assignment_keys: Vec<_> =
            request.assignments.iter().map(|key| self.assignment_key(*key)).collect();
        let resource_server_key = request.resource_server.map(|id| self.resource_server_key(id));
        let list_keys = lists.iter().map(|kind| self.former_list_key(*kind));
        let keys: Vec<_> = std::iter::once(pointer_key.clone())
            .chain(identity_key.clone())
            .chain(custom_id_key.clone())
            .chain(resource_server_key.clone())
            .chain(list_keys)
            .chain(assignment_keys.iter().cloned())
            .collect();
        let found = self.batch(&keys).await?;
        let pointer = pointer(found.item(&pointer_key).ok_or(StoreError::NotSetUp)?)?;
        self.learn(&pointer);
        let item = identity_key.and_then(|key| found.item(&key));
        let identity = identity_state(item)?;
        let profile = item.map_or(Ok(None), profile)?;
        let custom_id = custom_id_key.and_then(|key| found.item(&key));
        let custom_id = custom_id.map_or(Ok(CustomIdState::Free(None)), custom_id_state)?;
        let credential = resource_server_key.and_then(|key| found.item(&key));
        let credential = credential.map_or(Ok(Credential::default()), credential_of)?;
        let assignments = match self.records(&request, &assignment_keys, &lists, &found).await? {
            Some(records) => records,
            None => return self.read(request).await,
        };
        Ok(Snapshot { pointer, identity, profile, custom_id, credential, assignments })
    }

    async fn create(&self, new: &NewIdentity, now: OffsetDateTime) -> Result<CreateOutcome, StoreError> {
        self.create_identity(new, now).await
    }

    async fn revoke(&self, identity: &RawId, from: Revision) -> Result<Revocation, StoreError> {
        let stored = self
            .update(
                identity,
                "SET revision = :next",
                "#state = :live AND revision = :from",
                [(":next", number(from.next().get())), (":from", number(from.get()))],
            )
            .await?;
        match stored {
            Updated::Done => Ok(Revocation::Revoked),
            Updated::Refused(IdentityState::Live(revision)) if revision > from => Ok(Revocation::Revoked),
            Updated::Refused(IdentityState::Live(_)) => Err(StoreError::Corrupt("a revision went back")),
            Updated::Refused(IdentityState::Absent | IdentityState::Deleted) => Ok(Revocation::Gone),
        }
    }

    async fn delete(
        &self,
        identity: &RawId,
        custom_id: Option<&CustomId>,
        until: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.delete_identity(identity, custom_id, until).await
    }

    async fn free_custom_id(
        &self,
        custom_id: CustomIdKey,
        deleted: &RawId,
        until: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.free_custom_id_record(custom_id, deleted, until).await
    }

    async fn record_token(&self, identity: &RawId, issued_at: i64) -> Result<(), StoreError> {
        self.update_last_token(identity, issued_at).await
    }

    async fn change_assignments(
        &self,
        changes: &[AssignmentChange],
        now: OffsetDateTime,
    ) -> Result<AssignmentWriteOutcome, StoreError> {
        self.change_records(changes, now).await
    }

    async fn list_entra_assignments(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<AssignmentPage, StoreError> {
        self.list_entra_records(after, limit).await
    }
}

#[async_trait]
impl PointerWriter for Table {
    async fn pointer(&self) -> Result<Option<Pointer>, StoreError> {
        let first = self.state_key(pointer_key(0));
        let found = self.batch(std::slice::from_ref(&first)).await?;
        found.item(&first).map(pointer).transpose()
    }

    async fn write_pointer(&self, pointer: &Pointer) -> Result<PointerWriteOutcome, StoreError> {
        if pointer.copies == 1 {
            return self.write_only_pointer(pointer).await;
        }
        let mut transaction = self.client.transact_write_items();
        for copy in 0..pointer.copies {
            let put = pointer_put(&self.state, copy, pointer);
            transaction = transaction.transact_items(TransactWriteItem::builder().put(put?).build());
        }
        let Err(error) = transaction.send().await else {
            return Ok(PointerWriteOutcome::Changed);
        };
        let fault = AwsFault::of("TransactWriteItems", &error);
        match error.into_service_error() {
            TransactWriteItemsError::TransactionCanceledException(canceled)
                if canceled
                    .cancellation_reasons()
                    .iter()
                    .any(|reason| reason.code() == Some("ConditionalCheckFailed")) =>
            {
                Ok(PointerWriteOutcome::Conflict)
            }
            _ => Err(StoreError::Unavailable(fault)),
        }
    }
}

impl Table {
    /// Writes a pointer with one copy. One item needs no transaction. If the answer is lost, the client's retry meets its own
    /// write and reports a conflict. A caller reads the pointer after a conflict.
    async fn write_only_pointer(&self, pointer: &Pointer) -> Result<PointerWriteOutcome, StoreError> {
        let put = pointer_put(&self.state, 0, pointer)?;
        let request = self.client.put_item().table_name(put.table_name).set_item(Some(put.item));
        let request = request
            .set_condition_expression(put.condition_expression)
            .set_expression_attribute_values(put.expression_attribute_values);
        let Err(error) = request.send().await else {
            return Ok(PointerWriteOutcome::Changed);
        };
        let fault = AwsFault::of("PutItem", &error);
        match error.into_service_error() {
            PutItemError::ConditionalCheckFailedException(_) => Ok(PointerWriteOutcome::Conflict),
            _ => Err(StoreError::Unavailable(fault)),
        }
    }
}

/// The partition key of a copy of the pointer.
#[must_use]
pub fn pointer_key(copy: u32) -> String {
    format!("pointer#{copy}")
}

/// Replaces one copy if it has the generation before.
fn pointer_put(table: &str, copy: u32, pointer: &Pointer) -> Result<Put, StoreError> {
    let put = Put::builder()
        .table_name(table)
        .item("pk", AttributeValue::S(pointer_key(copy)))
        .item("generation", number(pointer.generation))
        .item("copies", number(pointer.copies))
        .item("access_keys", AttributeValue::S(pointer.access_keys.to_string()))
        .item("access_keys_sequence", number(pointer.access_keys_sequence))
        .item("signing_keys", AttributeValue::S(pointer.signing_keys.to_string()))
        .item("signing_keys_sequence", number(pointer.signing_keys_sequence))
        .item("published", AttributeValue::S(pointer.published.in_force().to_owned()));
    let put = match pointer.published.standby() {
        Some(standby) => put.item("standby", AttributeValue::S(standby.to_owned())),
        None => put,
    };
    let put = match pointer.generation.saturating_sub(1) {
        0 => put.condition_expression("attribute_not_exists(pk)"),
        previous => put
            // The number of copies never changes, because a copy with a former generation would still be read.
            .condition_expression("generation = :previous AND copies = :copies")
            .expression_attribute_values(":previous", number(previous))
            .expression_attribute_values(":copies", number(pointer.copies)),
    };
    put.build().map_err(|_| StoreError::Corrupt("a pointer without items"))
}

fn pointer(item: &Item) -> Result<Pointer, StoreError> {
    Ok(Pointer {
        generation: integer(item, "generation")?,
        copies: integer(item, "copies")?,
        access_keys: VersionId::new(text(item, "access_keys")?),
        access_keys_sequence: integer(item, "access_keys_sequence")?,
        signing_keys: VersionId::new(text(item, "signing_keys")?),
        signing_keys_sequence: integer(item, "signing_keys_sequence")?,
        published: published(item)?,
    })
}

fn published(item: &Item) -> Result<Published, StoreError> {
    // A former release writes none.
    let standby = item.get("standby").map(|_| text(item, "standby").map(str::to_owned)).transpose()?;
    Ok(Published::from_stored(text(item, "published")?.to_owned(), standby))
}
