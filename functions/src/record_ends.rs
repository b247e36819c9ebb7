//! The events of the function `record-ends`: changes of the state table, from its stream. The function appends the
//! ends of tokens in them to the revocation feed (decision record 0020).
//!
//! After a restore of the assignments table, an operator invokes the function with `{"beginEpoch":true}`. Then every cursor
//! of a resource server is unknown, because the restored feed lacks ends that a cursor counts as read.
//!
//! Lambda repeats an event until the function returns success, and delivers the changes of one record in their order.

use std::collections::HashMap;
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use identity::error_chain::error_chain;
use identity::runtime::Clock;
use identity::store::StoreError;
use identity::store::feed::{End, Feed};
use serde::Deserialize;
use serde_json::Value;

use crate::adapters::Adapters;
use crate::aws::table::{self, Item};

/// The function `record-ends`.
pub struct RecordEnds {
    feed: Arc<dyn Feed>,
    clock: Arc<dyn Clock>,
}

/// The event had no effect, or its effect is unclear. Lambda sends it again.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(
        "not an event of this function: it takes the records of a DynamoDB stream with new and old images, or \
         {{\"beginEpoch\":true}}"
    )]
    Event,
    #[error("the feed: {}", error_chain(.0))]
    Feed(#[from] StoreError),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Changes {
        #[serde(rename = "Records")]
        records: Vec<Record>,
    },
    #[serde(rename_all = "camelCase")]
    Restored { begin_epoch: bool },
}

#[derive(Deserialize)]
struct Record {
    dynamodb: Value,
}

/// A record before and after a change, in the JSON of DynamoDB.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    old_image: Option<Image>,
    new_image: Option<Image>,
}

type Image = HashMap<String, Value>;

/// The change cannot be read, so it may have ended tokens.
struct UnreadableChange;

impl RecordError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Event => "InvalidEvent",
            Self::Feed(_) => "Unavailable",
        }
    }
}

impl RecordEnds {
    /// The function over these adapters.
    #[must_use]
    pub fn new(adapters: &Adapters) -> Self {
        Self { feed: adapters.table.clone(), clock: adapters.system.clone() }
    }

    /// Appends the ends of an event. A change that cannot be read may have ended tokens, so it begins a new epoch: readers
    /// then ask about each token that they know.
    ///
    /// # Errors
    /// [`RecordError`].
    pub async fn handle(&self, event: Value) -> Result<(), RecordError> {
        let records = match serde_json::from_value(event) {
            Ok(Event::Changes { records }) => records,
            Ok(Event::Restored { begin_epoch: true }) => return Ok(self.feed.begin_feed_epoch().await?),
            Ok(Event::Restored { begin_epoch: false }) | Err(_) => return Err(RecordError::Event),
        };
        let (mut ends, mut is_unreadable) = (Vec::new(), false);
        for record in records {
            match ends_of(record.dynamodb) {
                Ok(found) => ends.extend(found),
                Err(UnreadableChange) => is_unreadable = true,
            }
        }
        self.feed.append_to_feed(&ends, self.clock.now()).await?;
        if is_unreadable {
            self.feed.begin_feed_epoch().await?;
        }
        Ok(())
    }
}

fn ends_of(change: Value) -> Result<Vec<End>, UnreadableChange> {
    let Change { old_image, new_image } = serde_json::from_value(change).map_err(|_| UnreadableChange)?;
    let (before, after) = (old_image.map(item), new_image.map(item));
    table::ends_of(before.as_ref(), after.as_ref()).map_err(|_| UnreadableChange)
}

/// The texts and numbers of an image. The table has no other attributes.
fn item(image: Image) -> Item {
    let attribute = |(name, value): (String, Value)| {
        let (kind, value) = value.as_object()?.iter().next()?;
        let text = value.as_str()?.to_owned();
        match kind.as_str() {
            "S" => Some((name, AttributeValue::S(text))),
            "N" => Some((name, AttributeValue::N(text))),
            _ => None,
        }
    };
    image.into_iter().filter_map(attribute).collect()
}

#[cfg(test)]
mod tests {
    use identity::ids::{RawId, UserId};
    use identity::keys::Algorithm;
    use identity::keys::pointer::Published;
    use identity::memory::Memory;
    use identity::store::Revision;
    use identity::store::feed::{Cursor, FeedPage};
    use identity::testing::{FrozenClock, NOON, SeededRandom, settings, signing_key, signing_keys};
    use serde_json::json;

    use super::*;

    fn id() -> RawId {
        UserId::mint(settings().resource.id, NOON, &SeededRandom::new(1)).into()
    }

    fn identity(state: &str, revision: &str) -> Value {
        json!({"pk": {"S": format!("identity#{}", id())}, "state": {"S": state}, "revision": {"N": revision},
            "creation": {"S": "x"}})
    }

    fn modified(old: Value, new: Value) -> Value {
        json!({"eventID": "1", "eventName": "MODIFY", "dynamodb": {"Keys": {}, "OldImage": old, "NewImage": new}})
    }

    /// The ends that these records append. `None` if the cursor of a reader is unknown afterwards.
    async fn ends(feed: &Arc<Memory>, records: &[Value]) -> Option<Vec<End>> {
        let clock = FrozenClock::at_noon();
        let function = RecordEnds { feed: feed.clone(), clock };
        let before = feed.feed_head().await.unwrap();
        function.handle(json!({"Records": records})).await.unwrap();
        let FeedPage::Ends { ends, cursor } = feed.read_feed(before).await.unwrap() else { return None };
        let is_known = feed.read_feed(cursor).await.unwrap() != FeedPage::UnknownCursor;
        is_known.then_some(ends)
    }

    async fn begun() -> Arc<Memory> {
        let feed = Arc::new(Memory::default());
        feed.begin_feed_epoch().await.unwrap();
        feed
    }

    #[tokio::test]
    async fn changes_of_identities_end_tokens() {
        let feed = begun().await;
        let created = json!({"dynamodb": {"NewImage": identity("live", "1")}});
        let expired = json!({"dynamodb": {"OldImage": identity("deleted", "2")}});
        let other = json!({"dynamodb": {"NewImage": {"pk": {"S": "custom-id#1"}, "identity": {"S": "x"}}}});
        let revoked = modified(identity("live", "1"), identity("live", "2"));
        let deleted = modified(identity("live", "2"), identity("deleted", "2"));
        assert_eq!(ends(&feed, &[created, expired, other]).await, Some(Vec::new()));
        let lowest_revision = Revision::new(2);
        let expected =
            vec![End::Revoked { identity: id(), lowest_revision }, End::Deleted { identity: id() }];
        assert_eq!(ends(&feed, &[revoked, deleted]).await, Some(expected));
    }

    #[tokio::test]
    async fn replaced_keys_are_named_once() {
        let feed = begun().await;
        let keys = signing_keys(Algorithm::Es256, 0);
        let keys = keys.with_standby(|| Ok(signing_key(Algorithm::Es256, usize::MAX))).unwrap();
        let image = |keys: &identity::keys::signing::SigningKeys, copy: u32| {
            let published = Published::of(keys, 1).unwrap();
            json!({"pk": {"S": format!("pointer#{copy}")}, "published": {"S": published.in_force()},
                "standby": {"S": published.standby().unwrap()}})
        };
        let before = [image(&keys, 0), image(&keys, 1)];
        let former = signing_keys(Algorithm::Es256, 0);
        let rotated = keys.rotated(|| Ok(signing_key(Algorithm::Es256, usize::MAX))).unwrap();
        let changes: Vec<_> =
            before.into_iter().zip([0, 1]).map(|(old, copy)| modified(old, image(&rotated, copy))).collect();
        let kids: Vec<_> = ends(&feed, &changes).await.unwrap();
        let expected: Vec<_> = identity::keys::Slot::ALL
            .map(|slot| End::KeyReplaced { kid: former.of(slot).id().to_string() })
            .into();
        assert_eq!(kids, expected, "the standby keys are in force now");
    }

    #[tokio::test]
    async fn unreadable_change_makes_every_cursor_unknown() {
        let unreadable = [
            modified(identity("live", "1"), identity("archived", "1")),
            modified(identity("live", "x"), identity("live", "2")),
            modified(json!({"pk": {"S": "identity#x"}}), json!({"pk": {"S": "identity#x"}})),
            modified(json!({"pk": {"S": "pointer#0"}}), json!({"pk": {"S": "pointer#0"}})),
            json!({"dynamodb": {"NewImage": {"state": {"S": "live"}}}}),
        ];
        for change in unreadable {
            let feed = begun().await;
            let revoked = modified(identity("live", "1"), identity("live", "2"));
            assert_eq!(ends(&feed, &[change.clone(), revoked]).await, None, "{change}");
            assert_ne!(feed.feed_head().await.unwrap(), Cursor::START);
        }
    }

    #[tokio::test]
    async fn operator_makes_every_cursor_unknown() {
        let feed = begun().await;
        let before = feed.feed_head().await.unwrap();
        let function = RecordEnds { feed: feed.clone(), clock: FrozenClock::at_noon() };
        function.handle(json!({"beginEpoch": true})).await.unwrap();
        assert_eq!(feed.read_feed(before).await.unwrap(), FeedPage::UnknownCursor);
    }

    #[tokio::test]
    async fn other_events_are_refused() {
        let function = RecordEnds { feed: begun().await, clock: FrozenClock::at_noon() };
        for event in [json!({}), json!([]), json!({"Records": [{"s3": {}}]}), json!({"beginEpoch": false})] {
            assert!(matches!(function.handle(event.clone()).await, Err(RecordError::Event)), "{event}");
        }
    }
}
