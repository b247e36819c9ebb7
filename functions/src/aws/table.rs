//! The store over one DynamoDB table.
//!
//! Key schema: `pk`, a string. Three kinds of item:
//!
//! | `pk` | attributes |
//! |---|---|
//! | `identity#<raw id>` | `state` (`live`, `deleted`), `revision` (N), `creation` (32 hex digits), `created_at` (N, epoch seconds); a tombstone also `expires_at` (N, epoch seconds, the table's TTL attribute) |
//! | `pointer#<n>`, n in `0..copies` | `generation` (N), `copies` (N), `access_keys`, `signing_keys` (version ids), `access_keys_sequence`, `signing_keys_sequence` (N), `published` (JSON) |
//! | `assignments#<book>` | `version` (N), `entries` (JSON) |
//!
//! Every read is strongly consistent. Every write is conditional on what it changes, so that an attempt
//! that arrives late, or twice, changes nothing (decision record 0002). TTL deletes tombstones some time
//! after `expires_at`; nothing depends on when.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};
use identity::ids::RawId;
use identity::keys::pointer::{Pointer, Published};
use identity::runtime::Random;
use identity::secrets::VersionId;
use identity::store::assignments::{Book, BookName};
use identity::store::{
    BookChange, CreateOutcome, CreationId, IdentityState, PointerWriteOutcome, PointerWriter, ReadRequest,
    Revision, Revocation, Snapshot, Store, StoreError,
};
use time::OffsetDateTime;

use super::AwsFault;

type Item = HashMap<String, AttributeValue>;

/// The items of one read, a few, in any order.
struct Found(Vec<Item>);

impl Found {
    fn item(&self, key: &str) -> Option<&Item> {
        self.0.iter().find(|item| text(item, "pk").is_ok_and(|pk| pk == key))
    }
}

/// How often a batch answer that left keys unprocessed is asked again, and the pause before the first.
const BATCH_ATTEMPTS: u32 = 4;
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// The store over a table.
pub struct Table {
    client: Client,
    name: String,
    random: Arc<dyn Random>,
    /// How many copies of the pointer exist, as last read. A hint: copy 0 always exists.
    copies: AtomicU32,
}

impl Table {
    /// The store over the table `name`.
    #[must_use]
    pub fn new(client: Client, name: String, random: Arc<dyn Random>) -> Self {
        Self { client, name, random, copies: AtomicU32::new(1) }
    }

    /// Any copy of the pointer, so that reads spread over partitions.
    fn some_copy(&self) -> u32 {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        u32::from_le_bytes(bytes).checked_rem(self.copies.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Reads items by key, strongly consistent, in one call; keys the service left unprocessed again.
    async fn batch(&self, keys: &[String]) -> Result<Found, StoreError> {
        const CALL: &str = "BatchGetItem";
        let unavailable = |code: &str| StoreError::Unavailable(AwsFault::boxed(CALL, code));
        let mut found = Found(Vec::with_capacity(keys.len()));
        let mut request =
            self.request_for(keys).map_err(|_| unavailable("the request could not be built"))?;
        for attempt in 0..BATCH_ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(BATCH_PAUSE * 2_u32.pow(attempt - 1)).await;
            }
            let answer = self.client.batch_get_item().request_items(&self.name, request).send().await;
            let answer = answer.map_err(|error| StoreError::Unavailable(AwsFault::of(CALL, &error)))?;
            for item in answer.responses.unwrap_or_default().remove(&self.name).unwrap_or_default() {
                text(&item, "pk")?;
                found.0.push(item);
            }
            match answer.unprocessed_keys.unwrap_or_default().remove(&self.name) {
                Some(rest) if !rest.keys().is_empty() => request = rest,
                _ => return Ok(found),
            }
        }
        Err(unavailable("keys left unprocessed"))
    }

    fn request_for(
        &self,
        keys: &[String],
    ) -> Result<KeysAndAttributes, aws_smithy_types::error::operation::BuildError> {
        let key = |pk: &String| HashMap::from([("pk".to_owned(), AttributeValue::S(pk.clone()))]);
        KeysAndAttributes::builder()
            .set_keys(Some(keys.iter().map(key).collect()))
            .consistent_read(true)
            .build()
    }

    fn learn(&self, pointer: &Pointer) {
        self.copies.store(pointer.copies.max(1), Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for Table {
    async fn read(&self, request: ReadRequest<'_>) -> Result<Snapshot, StoreError> {
        let identity_key = request.identity.map(identity_key);
        let book_key = request.book.map(book_key);
        let pointer_key = pointer_key(self.some_copy());
        let further = identity_key.iter().chain(&book_key).cloned();
        let keys: Vec<String> = std::iter::once(pointer_key.clone()).chain(further).collect();
        let found = self.batch(&keys).await?;
        let pointer = pointer(found.item(&pointer_key).ok_or(StoreError::NotSetUp)?)?;
        self.learn(&pointer);
        let item = |key: Option<String>| key.and_then(|key| found.item(&key));
        let identity = item(identity_key).map_or(Ok(IdentityState::Absent), identity_state)?;
        Ok(Snapshot { pointer, identity, book: item(book_key).map_or(Ok(Book::default()), book)? })
    }

    async fn create(
        &self,
        identity: &RawId,
        creation: CreationId,
        now: OffsetDateTime,
    ) -> Result<CreateOutcome, StoreError> {
        let written = self
            .client
            .put_item()
            .table_name(&self.name)
            .item("pk", AttributeValue::S(identity_key(identity)))
            .item("state", AttributeValue::S(LIVE.to_owned()))
            .item("revision", number(Revision::FIRST.get()))
            .item("creation", AttributeValue::S(creation.to_string()))
            .item("created_at", number(now.unix_timestamp()))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = written else {
            return Ok(CreateOutcome::Created);
        };
        let fault = AwsFault::of("PutItem", &error);
        match error.into_service_error() {
            PutItemError::ConditionalCheckFailedException(failed) => {
                let stored = failed.item.as_ref().map(|item| text(item, "creation")).transpose()?;
                let ours = stored == Some(creation.to_string().as_str());
                Ok(if ours { CreateOutcome::Created } else { CreateOutcome::Taken })
            }
            _ => Err(StoreError::Unavailable(fault)),
        }
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

    async fn delete(&self, identity: &RawId, until: OffsetDateTime) -> Result<(), StoreError> {
        let deleted = AttributeValue::S(DELETED.to_owned());
        let until = number(until.unix_timestamp());
        let change = "SET #state = :deleted, expires_at = :until";
        self.update(identity, change, "#state = :live", [(":deleted", deleted), (":until", until)]).await?;
        Ok(())
    }

    async fn write_book(&self, name: BookName, book: &Book) -> Result<BookChange, StoreError> {
        let entries = serde_json::to_string(&book.entries).map_err(|_| StoreError::Corrupt("entries"))?;
        let put = self
            .client
            .put_item()
            .table_name(&self.name)
            .item("pk", AttributeValue::S(book_key(name)))
            .item("version", number(book.version + 1))
            .item("entries", AttributeValue::S(entries))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match book.version {
            0 => put.condition_expression("attribute_not_exists(pk)"),
            read => {
                put.condition_expression("version = :read").expression_attribute_values(":read", number(read))
            }
        };
        let Err(error) = put.send().await else { return Ok(BookChange::Changed) };
        let fault = AwsFault::of("PutItem", &error);
        match error.into_service_error() {
            // The SDK may have sent this very change before, and lost the answer.
            PutItemError::ConditionalCheckFailedException(failed) => {
                let stored = failed.item.as_ref().map(self::book).transpose()?;
                Ok(BookChange::over(&stored.unwrap_or_default(), book))
            }
            _ => Err(StoreError::Unavailable(fault)),
        }
    }
}

/// What a conditional update met.
enum Updated {
    Done,
    /// The condition failed over this state.
    Refused(IdentityState),
}

impl Table {
    async fn update<const N: usize>(
        &self,
        identity: &RawId,
        change: &str,
        condition: &str,
        values: [(&str, AttributeValue); N],
    ) -> Result<Updated, StoreError> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.name)
            .key("pk", AttributeValue::S(identity_key(identity)))
            .update_expression(change)
            .condition_expression(condition)
            .expression_attribute_names("#state", "state")
            .expression_attribute_values(":live", AttributeValue::S(LIVE.to_owned()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, value) in values {
            update = update.expression_attribute_values(name, value);
        }
        let Err(error) = update.send().await else {
            return Ok(Updated::Done);
        };
        let fault = AwsFault::of("UpdateItem", &error);
        match error.into_service_error() {
            UpdateItemError::ConditionalCheckFailedException(failed) => {
                let state = failed.item.as_ref().map_or(Ok(IdentityState::Absent), identity_state)?;
                Ok(Updated::Refused(state))
            }
            _ => Err(StoreError::Unavailable(fault)),
        }
    }
}

#[async_trait]
impl PointerWriter for Table {
    async fn pointer(&self) -> Result<Option<Pointer>, StoreError> {
        let first = pointer_key(0);
        let found = self.batch(std::slice::from_ref(&first)).await?;
        found.item(&first).map(pointer).transpose()
    }

    async fn write_pointer(&self, pointer: &Pointer) -> Result<PointerWriteOutcome, StoreError> {
        let mut transaction = self.client.transact_write_items();
        for copy in 0..pointer.copies {
            let put = pointer_put(&self.name, copy, pointer);
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

const LIVE: &str = "live";
const DELETED: &str = "deleted";

fn identity_key(identity: &RawId) -> String {
    format!("identity#{identity}")
}

fn book_key(name: BookName) -> String {
    format!("assignments#{}", name.as_str())
}

fn book(item: &Item) -> Result<Book, StoreError> {
    let entries = serde_json::from_str(text(item, "entries")?);
    Ok(Book {
        version: integer(item, "version")?,
        entries: entries.map_err(|_| StoreError::Corrupt("entries"))?,
    })
}

fn pointer_key(copy: u32) -> String {
    format!("pointer#{copy}")
}

/// Replaces one copy, if it holds the generation before.
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
        .item("published", AttributeValue::S(pointer.published.as_str().to_owned()));
    let put = match pointer.generation.saturating_sub(1) {
        0 => put.condition_expression("attribute_not_exists(pk)"),
        previous => put
            // The number of copies never changes: a copy left behind would go on being read.
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
        published: Published::from_stored(text(item, "published")?.to_owned()),
    })
}

fn identity_state(item: &Item) -> Result<IdentityState, StoreError> {
    match text(item, "state")? {
        LIVE => Ok(IdentityState::Live(Revision::new(integer(item, "revision")?))),
        DELETED => Ok(IdentityState::Deleted),
        _ => Err(StoreError::Corrupt("state")),
    }
}

fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, StoreError> {
    match item.get(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(StoreError::Corrupt(name)),
    }
}

fn integer<T: std::str::FromStr>(item: &Item, name: &'static str) -> Result<T, StoreError> {
    match item.get(name) {
        Some(AttributeValue::N(digits)) => digits.parse().map_err(|_| StoreError::Corrupt(name)),
        _ => Err(StoreError::Corrupt(name)),
    }
}
