//! The contract of the feed. Its tests run against each implementation.

#![expect(clippy::unwrap_used, reason = "a broken contract fails the test that runs it")]

use super::{Cursor, End, Feed, FeedPage, MAX_BATCH};
use crate::testing::NOON;

/// Runs the whole contract against an empty feed.
///
/// # Panics
/// When the feed breaks the contract.
pub async fn holds(feed: &dyn Feed) {
    empty_feed_has_a_place(feed).await;
    reader_gets_each_end_in_order(feed).await;
    new_epoch_makes_earlier_cursors_unknown(feed).await;
    concurrent_appends_leave_no_gap(feed).await;
}

async fn empty_feed_has_a_place(feed: &dyn Feed) {
    assert_eq!(feed.feed_head().await.unwrap(), Cursor::START);
    feed.append_to_feed(&[], NOON).await.unwrap();
    assert_eq!(all_after(feed, Cursor::START).await, Some((vec![], Cursor::START)));
    assert_eq!(all_after(feed, Cursor::new(u128::MAX, 0)).await, None);
    // The first batch begins an epoch, which makes this place unknown.
    append(feed, 0..1).await;
    assert_eq!(all_after(feed, Cursor::START).await, None);
}

async fn reader_gets_each_end_in_order(feed: &dyn Feed) {
    let start = feed.feed_head().await.unwrap();
    append(feed, 1..2).await;
    let second = feed.feed_head().await.unwrap();
    append(feed, 2..3 + 2 * MAX_BATCH).await;
    let head = feed.feed_head().await.unwrap();
    assert!(start != second && second != head);
    assert_eq!(all_after(feed, start).await, Some((ends(1..3 + 2 * MAX_BATCH), head)));
    assert_eq!(all_after(feed, second).await, Some((ends(2..3 + 2 * MAX_BATCH), head)));
    assert_eq!(all_after(feed, head).await, Some((vec![], head)));
    assert_eq!(all_after(feed, head.next()).await, None);
    assert_eq!(all_after(feed, second.in_epoch(u128::MAX)).await, None);
}

async fn new_epoch_makes_earlier_cursors_unknown(feed: &dyn Feed) {
    let former = feed.feed_head().await.unwrap();
    feed.begin_feed_epoch().await.unwrap();
    let head = feed.feed_head().await.unwrap();
    assert_eq!(head.sequence(), former.sequence(), "a sequence is never used twice");
    assert_eq!(all_after(feed, former).await, None);
    append(feed, 0..1).await;
    assert_eq!(all_after(feed, former).await, None);
    let next = feed.feed_head().await.unwrap();
    assert_eq!(all_after(feed, head).await, Some((ends(0..1), next)));
}

async fn concurrent_appends_leave_no_gap(feed: &dyn Feed) {
    let start = feed.feed_head().await.unwrap();
    tokio::join!(append(feed, 0..1), append(feed, 1..2), append(feed, 2..3));
    let (mut found, cursor) = all_after(feed, start).await.unwrap();
    found.sort_by_key(|end| format!("{end:?}"));
    found.dedup();
    assert_eq!(found, ends(0..3));
    assert_eq!(feed.feed_head().await.unwrap(), cursor);
}

/// Reads to the end of the feed. `None` if a cursor is unknown.
async fn all_after(feed: &dyn Feed, after: Cursor) -> Option<(Vec<End>, Cursor)> {
    let (mut found, mut after) = (Vec::new(), after);
    loop {
        match feed.read_feed(after).await.unwrap() {
            FeedPage::UnknownCursor => return None,
            FeedPage::Ends { ends, .. } if ends.is_empty() => return Some((found, after)),
            FeedPage::Ends { ends, cursor } => {
                // A lost answer may store a batch twice.
                found.extend(ends);
                found.dedup();
                after = cursor;
            }
        }
    }
}

async fn append(feed: &dyn Feed, numbers: std::ops::Range<usize>) {
    feed.append_to_feed(&ends(numbers), NOON).await.unwrap();
}

fn ends(numbers: std::ops::Range<usize>) -> Vec<End> {
    numbers.map(|number| End::KeyReplaced { kid: number.to_string() }).collect()
}
