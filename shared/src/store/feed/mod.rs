//! The revocation feed: the ends of identities' tokens and of signing keys, in the order in which they were appended.
//!
//! A resource server follows the feed to bound the age of an offline decision. The feed promises nothing about the moment
//! of an entry, so an online verification never reads it. Decision record 0020 gives the order and its reasons.

#[cfg(any(test, feature = "testing"))]
pub mod contract;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;

use super::{IdentityState, Revision, StoreError};
use crate::ids::RawId;
use crate::keys::KeyMaterialError;
use crate::keys::pointer::{Published, PublishedKeys};

/// Most ends in one batch, so that its item stays far below the limit of 400 KB.
pub const MAX_BATCH: usize = 100;

/// An end of tokens. The order of ends does not matter, and an end may come twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum End {
    /// The tokens of an identity below this revision ended.
    Revoked {
        #[serde(with = "raw_id")]
        identity: RawId,
        lowest_revision: Revision,
    },
    /// Every token of an identity ended.
    Deleted {
        #[serde(with = "raw_id")]
        identity: RawId,
    },
    /// Every token with this key id ended.
    KeyReplaced { kid: String },
}

/// A place in the feed: the batch that a reader has read last. The text is `<epoch>-<sequence>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    epoch: u128,
    sequence: u64,
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of the feed")]
pub struct MalformedCursorError;

/// The answer to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedPage {
    /// The ends after the cursor, in one or more whole batches, and the cursor after them. Without an end, the reader has
    /// read everything.
    Ends { ends: Vec<End>, cursor: Cursor },
    /// Batches after the cursor may be missing. The reader must start at the head, and must ask about earlier tokens.
    UnknownCursor,
}

/// The ends that one append stored together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub at: Cursor,
    pub ends: Vec<End>,
}

/// The batches after a cursor that one query returned, in their order. The query is not a snapshot, so a batch can be
/// missing that was written while the query ran.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub batches: Vec<Batch>,
    /// `None` if the query ended before the head, or if there is no head yet.
    pub head: Option<Cursor>,
}

/// Stores the feed. A batch stays for [`crate::lifetime::FEED_RETENTION`].
#[async_trait]
pub trait Feed: Send + Sync {
    /// The place after every stored batch, strongly consistent. [`Cursor::START`] before the first batch.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn feed_head(&self) -> Result<Cursor, StoreError>;

    /// The ends after a cursor, strongly consistent. No batch is ever appended at or before a cursor that was returned.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read_feed(&self, after: Cursor) -> Result<FeedPage, StoreError>;

    /// Appends ends, in batches of at most [`MAX_BATCH`]. An append without an end writes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear. A repetition may store an end twice.
    async fn append_to_feed(&self, ends: &[End], now: OffsetDateTime) -> Result<(), StoreError>;

    /// Makes every earlier cursor unknown. A source of ends calls this when it may have missed one.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn begin_feed_epoch(&self) -> Result<(), StoreError>;
}

impl End {
    /// The ends that follow from a change of the published keys. A discarded standby key is one of them. It has signed no
    /// token, but it may have leaked, and offline verifiers accept it.
    ///
    /// # Errors
    /// [`KeyMaterialError`] when a record cannot be read.
    pub fn of_keys(before: &Published, after: &Published) -> Result<Vec<Self>, KeyMaterialError> {
        let (before, after) = (PublishedKeys::parse(before)?, PublishedKeys::parse(after)?);
        let is_gone = |kid: &&str| !after.ids().any(|known| known == *kid);
        Ok(before.ids().filter(is_gone).map(|kid| Self::KeyReplaced { kid: kid.to_owned() }).collect())
    }

    /// The end that a change of an identity's record means. The expiry of a tombstone means none.
    #[must_use]
    pub fn of_identity(identity: &RawId, before: IdentityState, after: IdentityState) -> Option<Self> {
        let identity = identity.clone();
        match (before, after) {
            (IdentityState::Live(before), IdentityState::Live(after)) if after > before => {
                Some(Self::Revoked { identity, lowest_revision: after })
            }
            (IdentityState::Live(_), IdentityState::Deleted | IdentityState::Absent) => {
                Some(Self::Deleted { identity })
            }
            _ => None,
        }
    }
}

impl Cursor {
    /// The place before the first batch of a new feed.
    pub const START: Self = Self { epoch: 0, sequence: 0 };

    /// A place. An epoch of 0 has no batch.
    #[must_use]
    pub const fn new(epoch: u128, sequence: u64) -> Self {
        Self { epoch, sequence }
    }

    /// The place of the next batch in the same epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, sequence: self.sequence.saturating_add(1) }
    }

    /// This place in another epoch.
    #[must_use]
    pub const fn in_epoch(self, epoch: u128) -> Self {
        Self { epoch, sequence: self.sequence }
    }

    /// The number of batches up to here, in all epochs.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// 32 hexadecimal digits, a hyphen and a decimal number.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.epoch, self.sequence)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Cursor {
    type Err = MalformedCursorError;

    fn from_str(text: &str) -> Result<Self, MalformedCursorError> {
        let (epoch, sequence) = text.split_once('-').ok_or(MalformedCursorError)?;
        let epoch = u128::from_str_radix(epoch, 16).map_err(|_| MalformedCursorError)?;
        let cursor = Self { epoch, sequence: sequence.parse().map_err(|_| MalformedCursorError)? };
        // One text for each cursor: neither signs nor other digits.
        if cursor.to_string() == text { Ok(cursor) } else { Err(MalformedCursorError) }
    }
}

impl Reading {
    /// The page for a reader at `after`: the batches that follow one another without a gap. `None` if the reading proves
    /// that a batch exists which it does not have. Then another reading has it, or it is lost to this reader.
    #[must_use]
    pub fn page(self, after: Cursor) -> Option<FeedPage> {
        let has_batches = !self.batches.is_empty();
        let (mut ends, mut cursor) = (Vec::new(), after);
        for batch in self.batches {
            if batch.at != cursor.next() {
                break;
            }
            ends.extend(batch.ends);
            cursor = batch.at;
        }
        let is_at_head = !has_batches && self.head.unwrap_or(Cursor::START) == after;
        (cursor != after || is_at_head).then_some(FeedPage::Ends { ends, cursor })
    }
}

mod raw_id {
    use super::{Deserialize as _, Deserializer, RawId, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &RawId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RawId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;
    use crate::testing::{NOON, SeededRandom, settings};

    const FIRST: Cursor = Cursor::new(7, 1);

    fn batch(at: Cursor) -> Batch {
        Batch { at, ends: vec![End::KeyReplaced { kid: at.to_string() }] }
    }

    /// The cursor after the page, and the number of its ends.
    fn page(after: Cursor, batches: &[Cursor], head: Option<Cursor>) -> Option<(Cursor, usize)> {
        let batches = batches.iter().copied().map(batch).collect();
        match (Reading { batches, head }).page(after)? {
            FeedPage::Ends { ends, cursor } => Some((cursor, ends.len())),
            FeedPage::UnknownCursor => None,
        }
    }

    #[test]
    fn page_ends_before_the_first_gap() {
        let [second, third, fourth] = [2, 3, 4].map(|sequence| Cursor::new(7, sequence));
        assert_eq!(page(FIRST, &[second, third], Some(third)), Some((third, 2)));
        assert_eq!(page(FIRST, &[second, fourth], Some(fourth)), Some((second, 1)));
        assert_eq!(page(FIRST, &[second, third.in_epoch(8)], None), Some((second, 1)));
        // A batch that was stored after the query had passed its place.
        assert_eq!(page(FIRST, &[], Some(second)), None);
        assert_eq!(page(FIRST, &[third], Some(third)), None);
    }

    #[test]
    fn only_a_reader_at_the_head_gets_an_empty_page() {
        assert_eq!(page(FIRST, &[], Some(FIRST)), Some((FIRST, 0)));
        assert_eq!(page(Cursor::START, &[], None), Some((Cursor::START, 0)));
        // Another epoch, a feed that went back, and a feed that was lost.
        for head in [Some(FIRST.in_epoch(8)), Some(Cursor::new(7, 0)), None] {
            assert_eq!(page(FIRST, &[], head), None, "{head:?}");
        }
        assert_eq!(page(Cursor::START, &[FIRST], Some(FIRST)), None);
    }

    #[test]
    fn cursor_has_one_text() {
        for cursor in [Cursor::START, FIRST, Cursor::new(u128::MAX, u64::MAX)] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let text = FIRST.to_string();
        let upper = Cursor::new(0xab, 1).to_string().to_uppercase();
        let others = ["", "-", "7-1", "0", &text[1..], &format!("{text} "), &format!("{text}-1"), &upper];
        for text in others.into_iter().map(str::to_owned).chain([text.replace("-1", "-+1")]) {
            assert_eq!(text.parse::<Cursor>(), Err(MalformedCursorError), "{text}");
        }
    }

    #[test]
    fn change_of_a_record_ends_tokens_only_if_it_moves_on() {
        use IdentityState::{Absent, Deleted, Live};
        let identity: RawId = UserId::mint(settings().resource.id, NOON, &SeededRandom::new(1)).into();
        let [one, two] = [1, 2].map(|number| Live(Revision::new(number)));
        let revoked = End::Revoked { identity: identity.clone(), lowest_revision: Revision::new(2) };
        let deleted = End::Deleted { identity: identity.clone() };
        for (before, after, expected) in [
            (Absent, one, None),
            (one, one, None),
            (two, one, None),
            (one, two, Some(&revoked)),
            (one, Deleted, Some(&deleted)),
            (one, Absent, Some(&deleted)),
            (Deleted, Deleted, None),
            (Deleted, Absent, None),
            (Absent, Absent, None),
        ] {
            let end = End::of_identity(&identity, before, after);
            assert_eq!(end.as_ref(), expected, "{before:?} {after:?}");
        }
        let text = serde_json::to_string(&revoked).unwrap();
        let expected = format!(r#"{{"event":"revoked","identity":"{identity}","lowestRevision":2}}"#);
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<End>(&text).unwrap(), revoked);
    }
}
