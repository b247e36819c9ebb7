//! Watches accepted tokens by the revocation feed, for resource servers that keep connections open or verify offline.
//!
//! A verification is true for its moment. A [`Watcher`] tells within seconds when it is no longer true, without a read for
//! each token. It promises less than a [`Verifier`]: an end reaches the feed after the call that caused it has returned
//! (decision record 0020).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::verify::{OfflineVerified, TokenContent, Verifier, VerifyError};
use crate::ids::RawId;
use crate::lifetime::{FEED_PAUSE, ISSUED_AT_LEEWAY, Lifetime};
use crate::runtime::Clock;
use crate::store::feed::{Cursor, End, Feed, FeedPage};
use crate::store::{Revision, StoreError};

/// The longest age of the last reading. Then the watcher knows nothing about any token.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

/// The age at which an end is forgotten: every token that ended with it has expired.
const END_AGE: Duration = Duration::from_secs(Lifetime::MAX_SECONDS as u64 + 3_600);

/// Follows the feed.
pub struct Watcher {
    feed: Arc<dyn Feed>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

/// An accepted token under watch.
pub struct Watched {
    token: TokenContent,
    /// The beginning of the feed that covers the token. `None` if it may have ended before.
    beginning: Option<u64>,
}

/// The verdict of the watcher on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The token had not ended when the feed was read last.
    Good,
    /// The token has ended.
    Ended,
    /// The token must be verified again: the feed has begun again, is silent, or does not cover the token.
    Unknown,
}

#[derive(Default)]
struct Known {
    cursor: Option<Cursor>,
    /// Counts the beginnings, from 1.
    beginnings: u64,
    /// Seconds since the epoch.
    begun_at: i64,
    read_at: Option<Duration>,
    /// The lowest good revision of an identity, or `None` for a deleted one, and the time of the end.
    identities: HashMap<RawId, (Option<Revision>, Duration)>,
    keys: HashMap<String, Duration>,
}

impl Watcher {
    /// A watcher of this feed. It knows nothing until [`Self::read`] has succeeded.
    #[must_use]
    pub fn new(feed: Arc<dyn Feed>, clock: Arc<dyn Clock>) -> Self {
        Self { feed, clock, known: Mutex::default() }
    }

    /// Reads the feed again and again. This future never completes.
    pub async fn follow(&self) {
        loop {
            // While the feed cannot be read, every token becomes `Unknown`.
            let _ = self.read().await;
            self.clock.sleep(FEED_PAUSE).await;
        }
    }

    /// Reads the ends since the last reading.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self) -> Result<(), StoreError> {
        let cursor = self.known().cursor;
        let Some(after) = cursor else {
            let head = self.feed.feed_head().await?;
            let mut known = self.known();
            known.beginnings += 1;
            known.begun_at = self.clock.now().unix_timestamp();
            known.cursor = Some(head);
            known.read_at = Some(self.clock.uptime());
            return Ok(());
        };
        let page = self.feed.read_feed(after).await?;
        let now = self.clock.uptime();
        let mut known = self.known();
        match page {
            FeedPage::UnknownCursor => known.cursor = None,
            FeedPage::Ends { ends, cursor } => {
                known.cursor = Some(cursor);
                known.read_at = Some(now);
                if !ends.is_empty() {
                    known.forget(now);
                }
                ends.into_iter().for_each(|end| known.add(end, now));
            }
        }
        Ok(())
    }

    /// Verifies a token online and watches it.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub async fn verify(&self, verifier: &Verifier, token: &str) -> Result<Watched, VerifyError> {
        // The feed must begin before the verification, or an end between both would be missed.
        let beginning = self.beginning();
        let verified = verifier.verify(token).await?;
        Ok(Watched { token: (*verified).clone(), beginning })
    }

    /// Watches a token that was verified offline. A token from before the feed began may have ended unseen, so its standing
    /// is unknown.
    #[must_use]
    pub fn watch(&self, token: &OfflineVerified) -> Watched {
        let begun_at = self.known().begun_at;
        let is_covered = token.claims.iat > begun_at + ISSUED_AT_LEEWAY.whole_seconds();
        Watched { token: (**token).clone(), beginning: self.beginning().filter(|_| is_covered) }
    }

    /// What is known about a token.
    #[must_use]
    pub fn standing(&self, watched: &Watched) -> Standing {
        let (known, now) = (self.known(), self.clock.uptime());
        let is_silent = known.read_at.is_none_or(|at| now.saturating_sub(at) > LONGEST_SILENCE);
        if known.has_ended(&watched.token) {
            Standing::Ended
        } else if is_silent || known.cursor.is_none() || watched.beginning != Some(known.beginnings) {
            Standing::Unknown
        } else {
            Standing::Good
        }
    }

    /// Waits until a token is no longer good. Meanwhile [`Self::follow`] must run.
    pub async fn until_not_good(&self, watched: &Watched) -> Standing {
        loop {
            match self.standing(watched) {
                Standing::Good => self.clock.sleep(FEED_PAUSE).await,
                standing => return standing,
            }
        }
    }

    fn beginning(&self) -> Option<u64> {
        let known = self.known();
        known.cursor.map(|_| known.beginnings)
    }

    // A panic elsewhere can leave out an end only together with the cursor after it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, now: Duration) {
        self.identities.retain(|_, (_, at)| now.saturating_sub(*at) < END_AGE);
        self.keys.retain(|_, at| now.saturating_sub(*at) < END_AGE);
    }

    fn add(&mut self, end: End, now: Duration) {
        match end {
            End::KeyReplaced { kid } => {
                self.keys.insert(kid, now);
            }
            End::Deleted { identity } => {
                self.identities.insert(identity, (None, now));
            }
            End::Revoked { identity, lowest_revision } => {
                let entry = self.identities.entry(identity).or_insert((Some(lowest_revision), now));
                entry.0 = entry.0.map(|known| known.max(lowest_revision));
                entry.1 = now;
            }
        }
    }

    fn has_ended(&self, token: &TokenContent) -> bool {
        let is_old = |(lowest, _): &(Option<Revision>, _)| lowest.is_none_or(|it| token.claims.rev < it);
        self.keys.contains_key(token.key_id.as_str())
            || self.identities.get(&token.identity).is_some_and(is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Algorithm;
    use crate::keys::signing::VerifyingKeys;
    use crate::memory::Memory;
    use crate::testing::{FrozenClock, NOON, settings, signing_key};
    use crate::token::fake::claims;
    use crate::token::mint::mint;
    use crate::token::verify::OfflineVerifier;

    struct World {
        feed: Arc<Memory>,
        clock: Arc<FrozenClock>,
        watcher: Watcher,
    }

    impl World {
        async fn new() -> Self {
            let (feed, clock) = (Arc::new(Memory::default()), FrozenClock::at_noon());
            feed.begin_feed_epoch().await.unwrap();
            let watcher = Watcher::new(feed.clone(), clock.clone());
            watcher.read().await.unwrap();
            Self { feed, clock, watcher }
        }

        async fn append(&self, end: End) {
            self.feed.append_to_feed(&[end], NOON).await.unwrap();
            self.watcher.read().await.unwrap();
        }

        fn watched(&self, revision: u64) -> Watched {
            Watched { token: token(revision), beginning: self.watcher.beginning() }
        }

        fn standing(&self, revision: u64) -> Standing {
            self.watcher.standing(&self.watched(revision))
        }
    }

    fn token(revision: u64) -> TokenContent {
        let (identity, claims) = claims(revision, NOON.unix_timestamp());
        TokenContent { identity, claims, key_id: signing_key(Algorithm::Es256, 0).id().clone() }
    }

    #[tokio::test]
    async fn ends_of_the_feed_end_the_tokens_that_they_name() {
        let world = World::new().await;
        let identity = token(1).identity;
        assert_eq!(world.standing(1), Standing::Good);
        let revoked =
            |lowest| End::Revoked { identity: identity.clone(), lowest_revision: Revision::new(lowest) };
        world.append(revoked(3)).await;
        world.append(revoked(2)).await;
        assert_eq!(
            [1, 2, 3].map(|it| world.standing(it)),
            [Standing::Ended, Standing::Ended, Standing::Good]
        );
        world.append(End::KeyReplaced { kid: "another".to_owned() }).await;
        assert_eq!(world.standing(3), Standing::Good);
        world.append(End::KeyReplaced { kid: token(3).key_id.to_string() }).await;
        assert_eq!(world.standing(3), Standing::Ended);

        let world = World::new().await;
        world.append(End::Deleted { identity: identity.clone() }).await;
        world.append(revoked(2)).await;
        assert_eq!(world.standing(9), Standing::Ended, "a deletion is for ever");
    }

    #[tokio::test]
    async fn silence_and_another_beginning_leave_every_token_unknown() {
        let world = World::new().await;
        let watched = world.watched(1);
        world.clock.advance(10_000);
        assert_eq!(world.watcher.standing(&watched), Standing::Good);
        world.clock.advance(1);
        assert_eq!(world.watcher.standing(&watched), Standing::Unknown);
        world.watcher.read().await.unwrap();
        assert_eq!(world.watcher.standing(&watched), Standing::Good);

        world.feed.begin_feed_epoch().await.unwrap();
        for _ in 0..2 {
            world.watcher.read().await.unwrap();
            assert_eq!(world.watcher.standing(&watched), Standing::Unknown);
        }
        assert_eq!(world.standing(1), Standing::Good, "after another verification");
        let unread = Watcher::new(world.feed.clone(), world.clock.clone());
        assert_eq!(unread.standing(&watched), Standing::Unknown);
    }

    #[tokio::test]
    async fn tokens_verified_offline_are_known_if_they_are_younger_than_the_feed() {
        let world = World::new().await;
        world.clock.advance(301_000);
        world.watcher.read().await.unwrap();
        let key = signing_key(Algorithm::Es256, 0);
        let set = serde_json::json!({"keys": [key.jwk()]}).to_string();
        let keys = VerifyingKeys::from_jwks(set.as_bytes()).unwrap();
        let verifier = OfflineVerifier::new((&settings().resource).into(), keys, world.clock.clone());
        for (seconds, expected) in [(0, Standing::Unknown), (300, Standing::Unknown), (301, Standing::Good)] {
            let (_, claims) = claims(1, NOON.unix_timestamp() + seconds);
            let token = mint(&claims, &key).unwrap();
            let watched = world.watcher.watch(&verifier.verify(&token.0).unwrap());
            assert_eq!(world.watcher.standing(&watched), expected, "{seconds} s after the feed began");
        }
    }

    #[tokio::test]
    async fn ends_are_forgotten_after_every_token_has_expired() {
        let world = World::new().await;
        let kid = token(1).key_id.to_string();
        let identity = token(1).identity;
        let ends = [End::Deleted { identity }, End::KeyReplaced { kid }];
        world.feed.append_to_feed(&ends, NOON).await.unwrap();
        world.watcher.read().await.unwrap();
        for (milliseconds, remembered) in [(25 * 3_600 * 1_000 - 1, 1), (1, 0)] {
            world.clock.advance(milliseconds);
            world.append(End::KeyReplaced { kid: "another".to_owned() }).await;
            let known = world.watcher.known();
            assert_eq!((known.identities.len(), known.keys.len() - 1), (remembered, remembered));
        }
    }
}
