//! Appends the ends of tokens to the revocation feed. A deployment does this from the stream of its table.
//!
//! The recorder watches all writes of the embedded table: those of the server, of functions in other processes, and of the
//! control API. It reads each changed record again and appends the ends that follow from its state. So an end may come
//! twice. No end is missed while the recorder runs. A start begins a new epoch, because writes may have been missed.
//!
//! The recorder gathers the writes of [`GATHERING`], so many revocations share a read and an append.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use functions::aws::table::{self, IDENTITY_PREFIX, Table, pointer_key};
use functions::system::System;
use identity::ids::RawId;
use identity::keys::pointer::Published;
use identity::runtime::Clock as _;
use identity::store::feed::{End, Feed as _};
use identity::store::{IdentityState, PointerWriter as _, Revision, StoreError};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::platform::Platform;

/// Most identities whose last end is remembered. A record also changes when a token is issued.
const REMEMBERED: usize = 10_000;

/// The time from the first write that is not yet recorded until the recorder reads.
const GATHERING: Duration = Duration::from_millis(50);

/// The pause before another attempt to write.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the writes of one table.
pub struct Recorder {
    table: Arc<Table>,
    system: Arc<System>,
    writes: UnboundedReceiver<Bytes>,
    published: Option<Published>,
    recorded: HashMap<RawId, IdentityState>,
}

impl Recorder {
    /// A recorder from now on. Every earlier cursor becomes unknown. `None` if another one runs.
    ///
    /// # Errors
    /// [`StoreError`] when the table cannot be read or written.
    pub async fn begin(platform: &Platform) -> Result<Option<Self>, StoreError> {
        let (table, system) = (platform.adapters.table.clone(), platform.adapters.system.clone());
        let Some(writes) = platform.database.watch() else { return Ok(None) };
        table.begin_feed_epoch().await?;
        let published = table.pointer().await?.map(|pointer| pointer.published);
        Ok(Some(Self { table, system, writes, published, recorded: HashMap::new() }))
    }

    /// Records until the table is gone.
    pub async fn run(mut self) {
        while let Some(first) = self.writes.recv().await {
            tokio::time::sleep(GATHERING).await;
            let mut changed = HashSet::new();
            collect(&first, &mut changed);
            while let Ok(next) = self.writes.try_recv() {
                collect(&next, &mut changed);
            }
            if self.record(changed).await.is_err() {
                // The ends are lost, so readers must begin again.
                while self.table.begin_feed_epoch().await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn record(&mut self, changed: HashSet<String>) -> Result<(), StoreError> {
        let mut ends = Vec::new();
        if changed.contains(&pointer_key(0)) {
            ends.extend(self.ends_of_keys().await?);
        }
        let ids: Vec<RawId> =
            changed.iter().filter_map(|key| key.strip_prefix(IDENTITY_PREFIX)?.parse().ok()).collect();
        let states = self.table.identity_states(&ids).await?;
        ends.extend(ids.into_iter().zip(states).filter_map(|(id, state)| self.end_of(id, state)));
        self.table.append_to_feed(&ends, self.system.now()).await
    }

    fn end_of(&mut self, id: RawId, state: IdentityState) -> Option<End> {
        if self.recorded.len() >= REMEMBERED {
            self.recorded.clear();
        }
        if self.recorded.get(&id) == Some(&state) {
            return None;
        }
        let end = End::of_identity(&id, IdentityState::Live(Revision::FIRST), state);
        self.recorded.insert(id, state);
        end
    }

    async fn ends_of_keys(&mut self) -> Result<Vec<End>, StoreError> {
        let after = self.table.pointer().await?.map(|pointer| pointer.published);
        let ends = match (&self.published, &after) {
            (Some(before), Some(after)) if before != after => table::ends_of_keys(before, after),
            _ => Ok(Vec::new()),
        };
        self.published = after;
        ends
    }
}

/// The keys of the records that a write can have ended tokens with. A put of an identity is its creation.
fn collect(body: &[u8], changed: &mut HashSet<String>) {
    let Ok(request) = serde_json::from_slice::<Value>(body) else { return };
    let is_creation = request.get("Item").is_some();
    let pointer = pointer_key(0);
    let mut keys = HashSet::new();
    partition_keys(&request, &mut keys);
    changed.extend(
        keys.into_iter().filter(|key| *key == pointer || (key.starts_with(IDENTITY_PREFIX) && !is_creation)),
    );
}

/// Every `{"pk":{"S":...}}` in a request.
fn partition_keys(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Object(members) => {
            let key = members.get("pk").and_then(|key| key.get("S")).and_then(Value::as_str);
            found.extend(key.map(str::to_owned));
            members.values().for_each(|member| partition_keys(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| partition_keys(element, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use identity::ids::UserId;
    use identity::store::feed::{Cursor, FeedPage, MAX_BATCH};
    use identity::store::{CreationId, NewIdentity, Store as _};
    use serde_json::json;

    use super::*;
    use crate::platform::tests::open;

    async fn page(platform: &Platform, after: Cursor) -> FeedPage {
        platform.adapters.table.read_feed(after).await.unwrap()
    }

    /// Waits for the next ends.
    async fn ends(platform: &Platform, cursor: &mut Cursor) -> Vec<End> {
        loop {
            if let FeedPage::Ends { ends, cursor: next } = page(platform, *cursor).await
                && !ends.is_empty()
            {
                *cursor = next;
                return ends;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn revocations_deletions_and_replaced_keys_reach_the_feed() {
        let dir = tempfile::tempdir().unwrap();
        let platform = open(dir.path()).await;
        let before = platform.adapters.table.feed_head().await.unwrap();
        let recorder = Recorder::begin(&platform).await.unwrap().unwrap();
        assert!(Recorder::begin(&platform).await.unwrap().is_none(), "one recorder");
        assert_eq!(page(&platform, before.next()).await, FeedPage::UnknownCursor, "a start begins an epoch");
        tokio::spawn(recorder.run());
        let mut cursor = platform.adapters.table.feed_head().await.unwrap();

        let (table, system) = (&platform.adapters.table, platform.adapters.system.as_ref());
        let id: RawId = UserId::mint(platform.resource.resource.id, system.now(), system).into();
        let new = NewIdentity::plain(id.clone(), CreationId::random(system));
        table.create(&new, system.now()).await.unwrap();
        table.revoke(&id, Revision::FIRST).await.unwrap();
        let second = Revision::FIRST.next();
        let expected = End::Revoked { identity: id.clone(), lowest_revision: second };
        assert_eq!(ends(&platform, &mut cursor).await, [expected]);
        table.delete(&id, None, system.now()).await.unwrap();
        assert_eq!(ends(&platform, &mut cursor).await, [End::Deleted { identity: id }]);

        let many: Vec<RawId> = (0..=MAX_BATCH)
            .map(|_| UserId::mint(platform.resource.resource.id, system.now(), system).into())
            .collect();
        for id in &many {
            let new = NewIdentity::plain(id.clone(), CreationId::random(system));
            table.create(&new, system.now()).await.unwrap();
            table.revoke(id, Revision::FIRST).await.unwrap();
        }
        let mut found = Vec::new();
        while found.len() < many.len() {
            found.extend(ends(&platform, &mut cursor).await);
        }
        let revoked = |id| End::Revoked { identity: id, lowest_revision: second };
        let mut expected: Vec<_> = many.into_iter().map(revoked).collect();
        for list in [&mut found, &mut expected] {
            list.sort_unstable_by_key(|end| format!("{end:?}"));
        }
        assert_eq!(found, expected, "each once");

        let regenerate = json!({"regenerate": "secondary"});
        let former = table.pointer().await.unwrap().unwrap().published;
        platform.rotate_keys.handle(regenerate).await.unwrap();
        let found = ends(&platform, &mut cursor).await;
        let after = table.pointer().await.unwrap().unwrap().published;
        assert_eq!(found, End::of_keys(&former, &after).unwrap());
        assert_eq!(found.len(), 2, "the key and the standby key of the slot");
    }

    #[test]
    fn creations_are_not_read_again() {
        let keys = |request: Value| {
            let mut keys = HashSet::new();
            collect(request.to_string().as_bytes(), &mut keys);
            keys.into_iter().collect::<Vec<_>>()
        };
        let item = |pk: &str| json!({"TableName": "t", "Item": {"pk": {"S": pk}}});
        assert!(keys(item("identity#a")).is_empty() && keys(item("custom-id#a")).is_empty());
        assert_eq!(keys(item("pointer#0")), ["pointer#0"]);
        assert_eq!(keys(json!({"TableName": "t", "Key": {"pk": {"S": "identity#a"}}})), ["identity#a"]);
        let both = json!({"TransactItems": [{"Update": {"Key": {"pk": {"S": "identity#b"}}}}, {"Put": item("pointer#1")}]});
        assert_eq!(keys(both), ["identity#b"]);
    }
}
