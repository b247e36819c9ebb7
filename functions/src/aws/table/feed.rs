//! The revocation feed, in one partition of the assignments table. The state table has no sort key.
//!
//! The head counts the batches. One transaction moves the head on and writes the batch at the head's place, so batches
//! become visible in the order of their numbers, without a gap (decision record 0020).

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use identity::lifetime::FEED_RETENTION;
use identity::store::StoreError;
use identity::store::feed::{Batch, Cursor, End, Feed, FeedPage, MAX_BATCH, Reading};
use time::OffsetDateTime;

use super::Table;
use super::item::{Item, ItemKey, number, text};
use crate::aws::AwsFault;

/// The partition of the feed.
pub const FEED_PARTITION: &str = "revocations";

/// It sorts after every number, so one query meets it after the batches.
const HEAD: &str = "head";

/// Most attempts of an append that meets other appends.
const APPEND_ATTEMPTS: u32 = 8;

/// Most batches in one page.
const PAGE: i32 = 10;

impl Table {
    fn feed_key(&self, sk: String) -> ItemKey {
        ItemKey { table: self.assignments.clone(), pk: FEED_PARTITION.to_owned(), sk: Some(sk) }
    }

    async fn stored_head(&self) -> Result<Option<Cursor>, StoreError> {
        let key = self.feed_key(HEAD.to_owned());
        let found = self.batch(std::slice::from_ref(&key)).await?;
        found.item(&key).map(place).transpose()
    }

    /// Moves the head from `from` to `to`, with the batch at `to` if there is one. Returns whether the head was at `from`.
    async fn move_head(
        &self,
        from: Option<Cursor>,
        to: Cursor,
        batch: Option<Item>,
    ) -> Result<bool, StoreError> {
        let mut head = self.feed_key(HEAD.to_owned()).attributes();
        head.insert("place".to_owned(), AttributeValue::S(to.to_string()));
        let put = Put::builder().table_name(&self.assignments).set_item(Some(head));
        let head = match from {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(from) => put
                .condition_expression("place = :from")
                .expression_attribute_values(":from", AttributeValue::S(from.to_string())),
        };
        let batch = batch.map(|item| Put::builder().table_name(&self.assignments).set_item(Some(item)));
        let puts = std::iter::once(head).chain(batch).map(|put| {
            let put = put.build().map_err(|_| StoreError::Corrupt("a write without attributes"))?;
            Ok(TransactWriteItem::builder().put(put).build())
        });
        Ok(self.transact(puts.collect::<Result<_, StoreError>>()?).await?.is_ok())
    }

    async fn append_batch(&self, ends: &[End], now: OffsetDateTime) -> Result<(), StoreError> {
        let ends = serde_json::to_string(ends).map_err(|_| StoreError::Corrupt("ends that are no JSON"))?;
        for _ in 0..APPEND_ATTEMPTS {
            let from = self.stored_head().await?;
            let to = from.unwrap_or_else(|| Cursor::new(self.random.number(), 0)).next();
            let mut batch = self.feed_key(batch_key(to.sequence())).attributes();
            batch.insert("place".to_owned(), AttributeValue::S(to.to_string()));
            batch.insert("ends".to_owned(), AttributeValue::S(ends.clone()));
            batch.insert("expires_at".to_owned(), number((now + FEED_RETENTION).unix_timestamp()));
            if self.move_head(from, to, Some(batch)).await? {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("other appends kept coming first".into()))
    }

    /// Reads batches after a number, and the head if it follows them in the same page.
    async fn reading(&self, after: Cursor) -> Result<Reading, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.assignments)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk > :after")
            .expression_attribute_values(":pk", AttributeValue::S(FEED_PARTITION.to_owned()))
            .expression_attribute_values(":after", AttributeValue::S(batch_key(after.sequence())))
            .limit(PAGE);
        let answer = query.send().await;
        let answer = answer.map_err(|error| StoreError::Unavailable(AwsFault::of("Query", &error)))?;
        let mut reading = Reading::default();
        for item in answer.items.unwrap_or_default() {
            let at = place(&item)?;
            if text(&item, "sk")? == HEAD {
                reading.head = Some(at);
            } else {
                let ends = serde_json::from_str(text(&item, "ends")?);
                reading.batches.push(Batch { at, ends: ends.map_err(|_| StoreError::Corrupt("ends"))? });
            }
        }
        Ok(reading)
    }
}

#[async_trait]
impl Feed for Table {
    async fn feed_head(&self) -> Result<Cursor, StoreError> {
        Ok(self.stored_head().await?.unwrap_or(Cursor::START))
    }

    /// A batch that the first query missed was stored before the query ended, so the second query has it.
    async fn read_feed(&self, after: Cursor) -> Result<FeedPage, StoreError> {
        for _ in 0..2 {
            if let Some(page) = self.reading(after).await?.page(after) {
                return Ok(page);
            }
        }
        Ok(FeedPage::UnknownCursor)
    }

    async fn append_to_feed(&self, ends: &[End], now: OffsetDateTime) -> Result<(), StoreError> {
        for batch in ends.chunks(MAX_BATCH) {
            self.append_batch(batch, now).await?;
        }
        Ok(())
    }

    async fn begin_feed_epoch(&self) -> Result<(), StoreError> {
        for _ in 0..APPEND_ATTEMPTS {
            let from = self.stored_head().await?;
            let to = from.unwrap_or(Cursor::START).in_epoch(self.random.number());
            if self.move_head(from, to, None).await? {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("appends kept coming first".into()))
    }
}

/// Sorts like the number.
fn batch_key(sequence: u64) -> String {
    format!("{sequence:020}")
}

fn place(item: &Item) -> Result<Cursor, StoreError> {
    text(item, "place")?.parse().map_err(|_| StoreError::Corrupt("place"))
}
