//! When the keys of an issuer are fetched, and how long they are kept.
//!
//! Cached keys are used without waiting. They are refreshed when they are an hour old, and when a token names a key that
//! is not among them. One refresh runs at a time, within the request that needs it. A failed refresh changes nothing: the
//! cached keys stay in use until they are a day old.
//!
//! An issuer may publish a key within the pause after a refresh. So a key is unknown only by a refresh during the request.
//! Otherwise the client is to retry.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::ParsedPublicKey;
use uuid::Uuid;

use super::documents::{IssuerError, KeyReference, KeySet, Metadata};
use super::settings::EntraAuthority;
use super::token::EntraVersion;
use super::{EntraError, EntraTokenError, FETCH_DEADLINE, Fetch, FetchError};
use crate::runtime::{Clock, timeout};

/// Age from which cached keys are refreshed.
const REFRESH_AFTER: Duration = Duration::from_secs(60 * 60);

/// Age from which cached keys are no longer used.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Shortest time between two refreshes because of unknown keys, and between two attempts to replace cached keys. So a
/// flood of tokens with invented key ids causes few fetches.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// Shortest time between two attempts to fetch keys while there are none.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The keys of one tenant's issuer for one token version.
pub(super) struct IssuerKeys {
    authority: EntraAuthority,
    tenant: Uuid,
    version: EntraVersion,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    refreshing: async_lock::Mutex<()>,
}

/// Every time is the uptime at which a refresh began.
#[derive(Default)]
struct State {
    cached: Option<(Arc<KeySet>, Duration)>,
    last: Option<Attempt>,
    /// The last refresh because of an unknown key.
    last_for_unknown_key: Option<Duration>,
    /// The number of refreshes that have ended.
    finished: u64,
}

struct Attempt {
    began: Duration,
    error: Option<IssuerError>,
}

/// The reason for a refresh.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// There are no keys that may be used.
    NoKeys,
    /// The cached keys are an hour old.
    Outdated,
    /// The token's key is not among the cached keys.
    UnknownKey,
}

impl IssuerKeys {
    /// An empty cache.
    pub(super) fn new(
        authority: EntraAuthority,
        tenant: Uuid,
        version: EntraVersion,
        fetch: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (state, refreshing) = (Mutex::default(), async_lock::Mutex::new(()));
        Self { authority, tenant, version, fetch, clock, state, refreshing }
    }

    /// The key that a token names.
    pub(super) async fn find(&self, key: KeyReference<'_>) -> Result<Arc<ParsedPublicKey>, EntraError> {
        let (need, finished) = {
            let state = self.state();
            (state.need(key, self.clock.uptime()), state.finished)
        };
        let turn = match need {
            None => None,
            // While another request refreshes outdated keys, they are still used.
            Some(Need::Outdated) => self.refreshing.try_lock(),
            Some(Need::NoKeys | Need::UnknownKey) => Some(self.refreshing.lock().await),
        };
        if turn.is_some() && self.begin(key, finished) {
            self.refresh().await;
        }
        drop(turn);
        self.state().result(key, self.clock.uptime(), finished)
    }

    /// Whether this request is to refresh the keys. It is not if a refresh ended while the request waited for its turn, or
    /// if the last refresh is too recent. The attempt is recorded before it is made, because the request may be cancelled
    /// during the fetch.
    fn begin(&self, key: KeyReference<'_>, finished: u64) -> bool {
        let began = self.clock.uptime();
        let mut state = self.state();
        let Some(need) = state.need(key, began) else { return false };
        if state.finished != finished || !state.may_refresh(need, began) {
            return false;
        }
        if need == Need::UnknownKey {
            state.last_for_unknown_key = Some(began);
        }
        state.last = Some(Attempt { began, error: Some(IssuerError::Unfinished) });
        true
    }

    async fn refresh(&self) {
        let began = self.clock.uptime();
        let loaded = timeout(self.clock.as_ref(), FETCH_DEADLINE, pin!(self.load())).await;
        let loaded = loaded.unwrap_or(Err(FetchError::Timeout.into()));
        let mut state = self.state();
        state.finished += 1;
        let error = match loaded {
            Ok(keys) => {
                state.cached = Some((Arc::new(keys), began));
                None
            }
            Err(error) => Some(error),
        };
        state.last = Some(Attempt { began, error });
    }

    async fn load(&self) -> Result<KeySet, IssuerError> {
        let (Self { authority, tenant, fetch, .. }, version) = (self, self.version.path());
        let url = format!("{authority}/{tenant}{version}/.well-known/openid-configuration");
        let metadata = Metadata::parse(&fetch.get(&url).await?, authority, *tenant)?;
        let keys = fetch.get(metadata.keys_url()).await?;
        KeySet::parse(&keys, metadata, *tenant)
    }

    // A poisoned lock is used as it is: no code that holds it can panic, so the state is never half-written.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The cached keys that may still be used, and their age.
    fn usable(&self, uptime: Duration) -> Option<(&KeySet, Duration)> {
        let (keys, since) = self.cached.as_ref()?;
        let age = uptime.saturating_sub(*since);
        (age < KEEP).then_some((keys, age))
    }

    fn need(&self, key: KeyReference<'_>, uptime: Duration) -> Option<Need> {
        let Some((keys, age)) = self.usable(uptime) else { return Some(Need::NoKeys) };
        match keys.find(key) {
            Err(EntraTokenError::KeyUnknown) => Some(Need::UnknownKey),
            _ if age >= REFRESH_AFTER => Some(Need::Outdated),
            _ => None,
        }
    }

    fn may_refresh(&self, need: Need, uptime: Duration) -> bool {
        let last = self.last.as_ref().map(|attempt| attempt.began);
        let (since, pause) = match need {
            Need::NoKeys => (last, FIRST_PAUSE),
            Need::Outdated => (last, PAUSE),
            Need::UnknownKey => (self.last_for_unknown_key, PAUSE),
        };
        since.is_none_or(|since| uptime.saturating_sub(since) >= pause)
    }

    /// The result by the cached keys. A key is reported as unknown only if the last refresh succeeded and ended during the
    /// request, which found `finished` refreshes.
    fn result(
        &self,
        key: KeyReference<'_>,
        uptime: Duration,
        finished: u64,
    ) -> Result<Arc<ParsedPublicKey>, EntraError> {
        let error = self.last.as_ref().map_or(Some(IssuerError::Unfinished), |attempt| attempt.error);
        let unavailable = |error: IssuerError| Err(EntraError::Unavailable(Box::new(error)));
        match (self.usable(uptime).map(|(keys, _)| keys.find(key)), error) {
            (None, error) => unavailable(error.unwrap_or(IssuerError::Unfinished)),
            (Some(Err(EntraTokenError::KeyUnknown)), Some(error)) => unavailable(error),
            (Some(Err(EntraTokenError::KeyUnknown)), None) if self.finished == finished => {
                unavailable(IssuerError::KeyMayBeNew)
            }
            (Some(found), _) => Ok(found?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::task::{Context, Waker};

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};
    use tokio::task::JoinSet;

    use super::super::fake::{
        AUTHORITY, CONSUMERS, TENANT, TestService, claims, header, key, keys_url, metadata, metadata_url,
        sign, token, with,
    };
    use super::*;

    const HOUR: i64 = 60 * 60;
    const DAY: i64 = 24 * HOUR;

    fn publish(service: &TestService, keys: &[Value]) {
        service.issuer.publish(TENANT, "2.0", keys);
    }

    fn fail(service: &TestService) {
        service.issuer.answer(&metadata_url(TENANT, "2.0"), Err(FetchError::Status(500)));
    }

    /// A token that expires in a week.
    fn long_token(index: usize) -> String {
        let exp = crate::testing::NOON.unix_timestamp() + 7 * DAY;
        sign(index, &header(index), &with(&claims("2.0"), &[("exp", json!(exp))]))
    }

    fn with_kid(kid: &str) -> String {
        sign(0, &with(&header(0), &[("kid", json!(kid))]), &claims("2.0"))
    }

    async fn is_unavailable(service: &TestService, token: &str) -> bool {
        matches!(service.verify(token).await, Err(EntraError::Unavailable(_)))
    }

    /// Verifies `count` tokens at the same time. Returns how many were accepted.
    async fn at_once(service: &TestService, count: usize, token: impl Fn(usize) -> String) -> usize {
        let mut verifications = JoinSet::new();
        for n in 0..count {
            let (entra, token) = (service.entra.clone(), token(n));
            verifications
                .spawn(async move { entra.verify(&token, super::super::Audience::Teams).await.is_ok() });
        }
        verifications.join_all().await.into_iter().filter(|accepted| *accepted).count()
    }

    #[tokio::test]
    async fn cached_keys_need_no_fetch() {
        let service = TestService::new();
        service.verify(&token(0)).await.unwrap();
        assert_eq!(service.issuer.take_fetched().len(), 2);
        service.advance(HOUR - 1);
        for _ in 0..100 {
            service.verify(&token(0)).await.unwrap();
        }
        assert_eq!(service.issuer.take_fetched(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_share_one_refresh() {
        let service = TestService::new();
        service.issuer.delay(Duration::from_millis(20));
        // First an empty cache, then a key that is new at the issuer.
        assert_eq!(at_once(&service, 100, |_| token(0)).await, 100);
        assert_eq!(service.issuer.take_fetched().len(), 2);
        publish(&service, &[key(0), key(1)]);
        let token = token(1);
        assert_eq!(at_once(&service, 100, |_| token.clone()).await, 100);
        assert_eq!(service.issuer.take_fetched(), [metadata_url(TENANT, "2.0"), keys_url(TENANT, "2.0")]);
    }

    #[tokio::test]
    async fn invented_key_ids_cause_one_refresh_in_five_minutes() {
        let service = TestService::new();
        service.verify(&token(0)).await.unwrap();
        service.issuer.take_fetched();
        let valid = token(0);
        let (start, signature) = valid.rsplit_once('.').unwrap();
        let (_, payload) = start.split_once('.').unwrap();
        let template = header(0);
        let invented = |n: usize| {
            let header = with(&template, &[("kid", json!(format!("invented-{n}")))]);
            format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()))
        };
        assert_eq!(service.error(&invented(0)).await, Some(EntraTokenError::KeyUnknown));
        for n in 1..9_900 {
            assert!(is_unavailable(&service, &invented(n)).await);
        }
        assert_eq!(at_once(&service, 100, |n| invented(9_900 + n)).await, 0);
        service.verify(&valid).await.unwrap();
        assert_eq!(service.issuer.take_fetched().len(), 2);
        // One more refresh after five minutes.
        for (seconds, fetches) in [(299, 0), (1, 2), (299, 0), (1, 2)] {
            service.advance(seconds);
            assert_eq!(is_unavailable(&service, &invented(0)).await, fetches == 0);
            assert!(is_unavailable(&service, &invented(1)).await);
            assert_eq!(service.issuer.take_fetched().len(), fetches, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_key_published_within_the_pause_is_not_refused() {
        let service = TestService::new();
        service.verify(&token(0)).await.unwrap();
        assert_eq!(service.error(&with_kid("invented")).await, Some(EntraTokenError::KeyUnknown));
        publish(&service, &[key(0), key(1)]);
        service.advance(299);
        assert!(is_unavailable(&service, &token(1)).await);
        service.advance(1);
        service.verify(&token(1)).await.unwrap();
        assert_eq!(service.error(&with_kid("")).await, Some(EntraTokenError::Header), "no retry repairs it");
    }

    #[tokio::test]
    async fn a_removed_key_is_refused_after_an_hour() {
        let service = TestService::new();
        let tokens = [long_token(0), long_token(1)];
        publish(&service, &[key(0), key(1)]);
        service.verify(&tokens[1]).await.unwrap();
        publish(&service, &[key(0)]);
        for _ in 0..59 {
            service.advance(60);
            service.verify(&tokens[1]).await.unwrap();
        }
        service.advance(60);
        assert_eq!(service.error(&tokens[1]).await, Some(EntraTokenError::KeyUnknown));
        service.verify(&tokens[0]).await.unwrap();
    }

    #[tokio::test]
    async fn cached_keys_are_used_for_a_day_while_refreshes_fail() {
        let service = TestService::new();
        let token = long_token(0);
        service.verify(&token).await.unwrap();
        fail(&service);
        for _ in 0..23 {
            service.advance(HOUR);
            service.issuer.take_fetched();
            for _ in 0..10 {
                service.verify(&token).await.unwrap();
            }
            assert_eq!(service.issuer.take_fetched().len(), 1, "a failed refresh is not repeated at once");
        }
        service.advance(HOUR - 1);
        service.verify(&token).await.unwrap();
        service.advance(1);
        assert!(is_unavailable(&service, &token).await, "after a day the service fails closed");
        publish(&service, &[key(0)]);
        service.advance(1);
        service.verify(&token).await.unwrap();
    }

    #[tokio::test]
    async fn hostile_documents_change_nothing() {
        let broken = |name: &str, value: Value| with(&metadata(TENANT, "2.0"), &[(name, value)]).to_string();
        let weak = json!({"keys": [with(&key(0), &[("e", json!("AQ"))])]}).to_string();
        let (metadata_at, keys_at) = (metadata_url(TENANT, "2.0"), keys_url(TENANT, "2.0"));
        let documents: [(&str, Result<String, FetchError>); 16] = [
            (&metadata_at, Ok(broken("jwks_uri", json!("https://evil.example/keys")))),
            (&metadata_at, Ok(broken("issuer", json!(format!("{AUTHORITY}/{CONSUMERS}/v2.0"))))),
            (&metadata_at, Ok("<html>Service unavailable</html>".to_owned())),
            (&metadata_at, Err(FetchError::Status(500))),
            (&metadata_at, Err(FetchError::Redirect)),
            (&metadata_at, Err(FetchError::Timeout)),
            (&metadata_at, Err(FetchError::TooLarge)),
            (&metadata_at, Err(FetchError::Connection)),
            (&keys_at, Ok("<html></html>".to_owned())),
            (&keys_at, Ok(json!({"keys": []}).to_string())),
            (&keys_at, Ok(json!({"keys": [key(1), key(1)]}).to_string())),
            (&keys_at, Ok(json!({"keys": vec![key(0); 101]}).to_string())),
            (&keys_at, Ok(weak)),
            (&keys_at, Err(FetchError::Status(503))),
            (&keys_at, Err(FetchError::TooLarge)),
            (&keys_at, Err(FetchError::Timeout)),
        ];
        for (at, answer) in documents {
            let name = format!("{answer:?}");
            let answer = answer.map(String::into_bytes);
            // Cached keys stay in use.
            let service = TestService::new();
            service.verify(&long_token(0)).await.unwrap();
            service.issuer.answer(at, answer.clone());
            service.advance(HOUR);
            service.verify(&long_token(0)).await.unwrap();
            assert!(
                is_unavailable(&service, &long_token(1)).await,
                "{name}: a key is not reported as unknown"
            );
            // An empty cache stays empty.
            let service = TestService::new();
            service.issuer.answer(at, answer);
            assert!(is_unavailable(&service, &long_token(0)).await, "{name}");
            let fetched = service.issuer.take_fetched();
            assert!(fetched.iter().all(|url| url.starts_with(AUTHORITY)), "{fetched:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_first_fetch_is_repeated_after_a_second() {
        let service = TestService::new();
        service.issuer.delay(Duration::from_millis(20));
        fail(&service);
        assert_eq!(at_once(&service, 100, |_| token(0)).await, 0);
        assert!(is_unavailable(&service, &token(0)).await);
        assert_eq!(service.issuer.take_fetched().len(), 1);
        publish(&service, &[key(0)]);
        service.clock.advance(999);
        assert!(is_unavailable(&service, &token(0)).await);
        assert_eq!(service.issuer.take_fetched(), [""; 0]);
        service.clock.advance(1);
        service.verify(&token(0)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_do_not_repeat_a_failed_refresh() {
        let service = TestService::new();
        service.issuer.delay(Duration::from_millis(20));
        fail(&service);
        let token = token(0);
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = [(); 3].map(|()| Box::pin(is_unavailable(&service, &token)));
        for verification in &mut waiting {
            assert!(verification.as_mut().poll(&mut context).is_pending());
        }
        service.advance(2);
        for verification in waiting {
            assert!(verification.await);
        }
        assert_eq!(service.issuer.take_fetched().len(), 1);
    }

    #[tokio::test]
    async fn a_key_is_not_called_unknown_after_a_failed_refresh() {
        let service = TestService::new();
        service.verify(&token(0)).await.unwrap();
        fail(&service);
        assert!(is_unavailable(&service, &with_kid("invented")).await);
        assert!(is_unavailable(&service, &with_kid("invented")).await);
        service.verify(&token(0)).await.unwrap();
        assert_eq!(service.issuer.take_fetched().len(), 3, "two fetches, and the failed one");
        publish(&service, &[key(0)]);
        service.advance(300);
        assert_eq!(service.error(&with_kid("invented")).await, Some(EntraTokenError::KeyUnknown));
    }

    #[tokio::test(start_paused = true)]
    async fn cached_keys_are_served_during_a_refresh() {
        let service = TestService::new();
        service.verify(&token(0)).await.unwrap();
        service.issuer.take_fetched();
        service.advance(HOUR);
        service.issuer.delay(Duration::from_secs(60));
        let (first, second) = (token(0), token(0));
        let mut context = Context::from_waker(Waker::noop());
        let mut refreshing = Box::pin(service.verify(&first));
        assert!(refreshing.as_mut().poll(&mut context).is_pending());
        let mut other = Box::pin(service.verify(&second));
        assert!(matches!(other.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
        assert_eq!(service.issuer.take_fetched().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_request_does_not_block_the_next_refresh() {
        let service = TestService::new();
        service.issuer.delay(Duration::from_secs(60));
        let token = token(0);
        for _ in 0..3 {
            let mut context = Context::from_waker(Waker::noop());
            let mut cancelled = Box::pin(service.verify(&token));
            assert!(cancelled.as_mut().poll(&mut context).is_pending());
            drop(cancelled);
            service.issuer.delay(Duration::ZERO);
            assert!(is_unavailable(&service, &token).await, "too soon for another refresh");
            service.issuer.delay(Duration::from_secs(60));
            service.advance(1);
        }
        assert_eq!(service.issuer.take_fetched().len(), 3);
        service.issuer.delay(Duration::ZERO);
        service.verify(&token).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn cached_keys_are_used_when_a_refresh_times_out() {
        let service = TestService::new();
        service.verify(&token(0)).await.unwrap();
        service.advance(HOUR);
        service.issuer.delay(Duration::from_secs(60));
        let began = tokio::time::Instant::now();
        service.verify(&token(0)).await.unwrap();
        let deadline = FETCH_DEADLINE..FETCH_DEADLINE + Duration::from_millis(10);
        assert!(deadline.contains(&began.elapsed()));
    }
}
