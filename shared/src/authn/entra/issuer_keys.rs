//! When an issuer's keys are fetched, and how long they are kept.
//!
//! Good keys answer without waiting for anybody. They are refreshed every hour by the request that finds
//! them due, and when a token names a key that is not among them; one refresh at a time. A refresh that
//! fails changes nothing: the last good keys stay, for a day at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::ParsedPublicKey;
use uuid::Uuid;

use super::documents::{IssuerError, KeySet, Metadata, WantedKey};
use super::settings::EntraAuthority;
use super::token::Version;
use super::{EntraError, EntraTokenError, FETCH_DEADLINE, Fetch, FetchError};
use crate::runtime::{Clock, timeout};

/// How old keys are refreshed.
const REFRESH_AFTER: Duration = Duration::from_secs(60 * 60);

/// How old keys are used no more.
const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// Pause between two refreshes because of unknown keys, and after one that failed while good keys are
/// there: a flood of invented key ids costs next to nothing.
const PAUSE: Duration = Duration::from_secs(5 * 60);

/// Pause between two attempts to have any keys at all.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The keys of one tenant's issuer for one version of tokens.
pub(super) struct IssuerKeys {
    authority: EntraAuthority,
    tenant: Uuid,
    version: Version,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    refreshing: async_lock::Mutex<()>,
}

/// All times are uptimes at which a refresh began.
#[derive(Default)]
struct State {
    good: Option<(Arc<KeySet>, Duration)>,
    last: Option<Attempt>,
    /// The last refresh because of an unknown key.
    looked_at: Option<Duration>,
    /// How many refreshes came to an end.
    finished: u64,
}

struct Attempt {
    began: Duration,
    fault: Option<IssuerError>,
}

/// Why keys should be fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// There are no keys that may be used.
    Any,
    /// The keys that are there are due.
    Newer,
    /// The key that is wanted is not among them.
    Unknown,
}

impl IssuerKeys {
    /// No keys yet.
    pub(super) fn new(
        authority: EntraAuthority,
        tenant: Uuid,
        version: Version,
        fetch: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (state, refreshing) = (Mutex::default(), async_lock::Mutex::new(()));
        Self { authority, tenant, version, fetch, clock, state, refreshing }
    }

    /// The key a token names.
    pub(super) async fn find(&self, wanted: WantedKey<'_>) -> Result<Arc<ParsedPublicKey>, EntraError> {
        let (need, finished) = {
            let state = self.state();
            (state.need(wanted, self.clock.uptime()), state.finished)
        };
        let turn = match need {
            None => None,
            // Whoever finds a refresh under way goes on with what there is.
            Some(Need::Newer) => self.refreshing.try_lock(),
            Some(Need::Any | Need::Unknown) => Some(self.refreshing.lock().await),
        };
        if turn.is_some() && self.begin(wanted, finished) {
            self.refresh().await;
        }
        drop(turn);
        self.state().answer(wanted, self.clock.uptime())
    }

    /// Whether this request shall refresh the keys, now that it is its turn: not if they were refreshed
    /// while it waited, nor too soon after the last time. The attempt is noted before it is made, for the
    /// request may be given up in the midst of it.
    fn begin(&self, wanted: WantedKey<'_>, finished: u64) -> bool {
        let began = self.clock.uptime();
        let mut state = self.state();
        let Some(need) = state.need(wanted, began) else { return false };
        if state.finished != finished || !state.may_refresh(need, began) {
            return false;
        }
        if need == Need::Unknown {
            state.looked_at = Some(began);
        }
        state.last = Some(Attempt { began, fault: Some(IssuerError::Unfinished) });
        true
    }

    async fn refresh(&self) {
        let began = self.clock.uptime();
        let loaded = timeout(self.clock.sleep(FETCH_DEADLINE), self.load()).await;
        let loaded = loaded.unwrap_or(Err(FetchError::Timeout.into()));
        let mut state = self.state();
        state.finished += 1;
        let fault = match loaded {
            Ok(keys) => {
                state.good = Some((Arc::new(keys), began));
                None
            }
            Err(fault) => Some(fault),
        };
        state.last = Some(Attempt { began, fault });
    }

    async fn load(&self) -> Result<KeySet, IssuerError> {
        let (Self { authority, tenant, fetch, .. }, version) = (self, self.version.path());
        let url = format!("{authority}/{tenant}{version}/.well-known/openid-configuration");
        let metadata = Metadata::parse(&fetch.get(&url).await?, authority, *tenant)?;
        let keys = fetch.get(metadata.keys_url()).await?;
        KeySet::parse(&keys, metadata, *tenant)
    }

    // A panic elsewhere cannot leave the state half-written: nothing in between can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn good(&self, uptime: Duration) -> Option<(&KeySet, Duration)> {
        let (keys, since) = self.good.as_ref()?;
        let age = uptime.saturating_sub(*since);
        (age < KEEP).then_some((keys, age))
    }

    fn need(&self, wanted: WantedKey<'_>, uptime: Duration) -> Option<Need> {
        let Some((keys, age)) = self.good(uptime) else { return Some(Need::Any) };
        match keys.find(wanted) {
            Err(EntraTokenError::KeyUnknown) => Some(Need::Unknown),
            _ if age >= REFRESH_AFTER => Some(Need::Newer),
            _ => None,
        }
    }

    fn may_refresh(&self, need: Need, uptime: Duration) -> bool {
        let last = self.last.as_ref().map(|attempt| attempt.began);
        let (since, pause) = match need {
            Need::Any => (last, FIRST_PAUSE),
            Need::Newer => (last, PAUSE),
            Need::Unknown => (self.looked_at, PAUSE),
        };
        since.is_none_or(|since| uptime.saturating_sub(since) >= pause)
    }

    /// What can be said by the keys there are. That a key is unknown can be said only if the last refresh
    /// went well.
    fn answer(&self, wanted: WantedKey<'_>, uptime: Duration) -> Result<Arc<ParsedPublicKey>, EntraError> {
        let fault = self.last.as_ref().map_or(Some(IssuerError::Unfinished), |attempt| attempt.fault);
        let unavailable = |fault: IssuerError| Err(EntraError::Unavailable(Box::new(fault)));
        match (self.good(uptime).map(|(keys, _)| keys.find(wanted)), fault) {
            (None, fault) => unavailable(fault.unwrap_or(IssuerError::Unfinished)),
            (Some(Err(EntraTokenError::KeyUnknown)), Some(fault)) => unavailable(fault),
            (Some(found), _) => Ok(found?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
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

    fn publish(bench: &TestService, keys: &[Value]) {
        bench.issuer.publish(TENANT, "2.0", keys);
    }

    fn fail(bench: &TestService) {
        bench.issuer.answer(&metadata_url(TENANT, "2.0"), Err(FetchError::Status(500)));
    }

    /// A token that is good for a week.
    fn long_token(index: usize) -> String {
        let exp = crate::testing::NOON.unix_timestamp() + 7 * DAY;
        sign(index, &header(index), &with(&claims("2.0"), &[("exp", json!(exp))]))
    }

    fn with_kid(kid: &str) -> String {
        sign(0, &with(&header(0), &[("kid", json!(kid))]), &claims("2.0"))
    }

    async fn is_unavailable(bench: &TestService, token: &str) -> bool {
        matches!(bench.verify(token).await, Err(EntraError::Unavailable(_)))
    }

    /// Verifies so many at the same time; how many were good.
    async fn at_once(bench: &TestService, count: usize, token: impl Fn(usize) -> String) -> usize {
        let mut verifications = JoinSet::new();
        for n in 0..count {
            let (entra, token) = (bench.entra.clone(), token(n));
            verifications
                .spawn(async move { entra.verify(&token, super::super::Audience::Teams).await.is_ok() });
        }
        verifications.join_all().await.into_iter().filter(|good| *good).count()
    }

    #[tokio::test]
    async fn a_warm_verification_fetches_nothing() {
        let bench = TestService::new();
        bench.verify(&token(0)).await.unwrap();
        assert_eq!(bench.issuer.take_fetched().len(), 2);
        bench.advance(HOUR - 1);
        for _ in 0..100 {
            bench.verify(&token(0)).await.unwrap();
        }
        assert_eq!(bench.issuer.take_fetched(), [""; 0]);
    }

    #[tokio::test]
    async fn a_hundred_tokens_of_a_rolled_key_cost_one_fetch_of_each_document() {
        let bench = TestService::new();
        bench.issuer.delay(Duration::from_millis(20));
        // Cold, then rolled.
        assert_eq!(at_once(&bench, 100, |_| token(0)).await, 100);
        assert_eq!(bench.issuer.take_fetched().len(), 2);
        publish(&bench, &[key(0), key(1)]);
        let token = token(1);
        assert_eq!(at_once(&bench, 100, |_| token.clone()).await, 100);
        assert_eq!(bench.issuer.take_fetched(), [metadata_url(TENANT, "2.0"), keys_url(TENANT, "2.0")]);
    }

    #[tokio::test]
    async fn ten_thousand_invented_keys_cost_one_fetch() {
        let bench = TestService::new();
        bench.verify(&token(0)).await.unwrap();
        bench.issuer.take_fetched();
        let good = token(0);
        let (start, signature) = good.rsplit_once('.').unwrap();
        let (_, payload) = start.split_once('.').unwrap();
        let template = header(0);
        let invented = |n: usize| {
            let header = with(&template, &[("kid", json!(format!("invented-{n}")))]);
            format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()))
        };
        for n in 0..9_900 {
            assert_eq!(bench.fault(&invented(n)).await, Some(EntraTokenError::KeyUnknown));
        }
        assert_eq!(at_once(&bench, 100, |n| invented(9_900 + n)).await, 0);
        bench.verify(&good).await.unwrap();
        assert_eq!(bench.issuer.take_fetched().len(), 2);
        // Five minutes later, one more.
        for (seconds, fetches) in [(299, 0), (1, 2), (299, 0), (1, 2)] {
            bench.advance(seconds);
            assert_eq!(bench.fault(&invented(0)).await, Some(EntraTokenError::KeyUnknown));
            assert_eq!(bench.fault(&invented(1)).await, Some(EntraTokenError::KeyUnknown));
            assert_eq!(bench.issuer.take_fetched().len(), fetches, "{seconds}");
        }
    }

    #[tokio::test]
    async fn a_removed_key_is_refused_after_the_hourly_refresh_whatever_the_traffic() {
        let bench = TestService::new();
        let tokens = [long_token(0), long_token(1)];
        publish(&bench, &[key(0), key(1)]);
        bench.verify(&tokens[1]).await.unwrap();
        publish(&bench, &[key(0)]);
        for _ in 0..59 {
            bench.advance(60);
            bench.verify(&tokens[1]).await.unwrap();
        }
        bench.advance(60);
        assert_eq!(bench.fault(&tokens[1]).await, Some(EntraTokenError::KeyUnknown));
        bench.verify(&tokens[0]).await.unwrap();
    }

    #[tokio::test]
    async fn good_keys_are_kept_for_a_day_when_refreshing_fails() {
        let bench = TestService::new();
        let token = long_token(0);
        bench.verify(&token).await.unwrap();
        fail(&bench);
        for _ in 0..23 {
            bench.advance(HOUR);
            bench.issuer.take_fetched();
            for _ in 0..10 {
                bench.verify(&token).await.unwrap();
            }
            assert_eq!(bench.issuer.take_fetched().len(), 1, "a failure is not repeated at once");
        }
        bench.advance(HOUR - 1);
        bench.verify(&token).await.unwrap();
        bench.advance(1);
        assert!(is_unavailable(&bench, &token).await, "then fail closed");
        publish(&bench, &[key(0)]);
        bench.advance(1);
        bench.verify(&token).await.unwrap();
    }

    #[tokio::test]
    async fn a_hostile_document_changes_nothing() {
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
            let said = format!("{answer:?}");
            let answer = answer.map(String::into_bytes);
            // To a good set, it changes nothing.
            let bench = TestService::new();
            bench.verify(&long_token(0)).await.unwrap();
            bench.issuer.answer(at, answer.clone());
            bench.advance(HOUR);
            bench.verify(&long_token(0)).await.unwrap();
            assert!(
                is_unavailable(&bench, &long_token(1)).await,
                "{said}: it cannot be said that a key is unknown"
            );
            // As the first set, it is none.
            let bench = TestService::new();
            bench.issuer.answer(at, answer);
            assert!(is_unavailable(&bench, &long_token(0)).await, "{said}");
            let fetched = bench.issuer.take_fetched();
            assert!(fetched.iter().all(|url| url.starts_with(AUTHORITY)), "{fetched:?}");
        }
    }

    #[tokio::test]
    async fn a_failed_first_fetch_is_tried_again_after_a_second() {
        let bench = TestService::new();
        bench.issuer.delay(Duration::from_millis(20));
        fail(&bench);
        assert_eq!(at_once(&bench, 100, |_| token(0)).await, 0);
        assert!(is_unavailable(&bench, &token(0)).await);
        assert_eq!(bench.issuer.take_fetched().len(), 1);
        publish(&bench, &[key(0)]);
        bench.clock.advance(999);
        assert!(is_unavailable(&bench, &token(0)).await);
        assert_eq!(bench.issuer.take_fetched(), [""; 0]);
        bench.clock.advance(1);
        bench.verify(&token(0)).await.unwrap();
    }

    #[tokio::test]
    async fn who_waited_for_a_refresh_that_failed_does_not_begin_another() {
        let bench = TestService::new();
        bench.issuer.delay(Duration::from_millis(20));
        fail(&bench);
        let cold = token(0);
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = [(); 3].map(|()| Box::pin(is_unavailable(&bench, &cold)));
        for verification in &mut waiting {
            assert!(verification.as_mut().poll(&mut context).is_pending());
        }
        bench.advance(2);
        for verification in waiting {
            assert!(verification.await);
        }
        assert_eq!(bench.issuer.take_fetched().len(), 1);
    }

    #[tokio::test]
    async fn an_unknown_key_is_not_called_unknown_when_the_look_failed() {
        let bench = TestService::new();
        bench.verify(&token(0)).await.unwrap();
        fail(&bench);
        assert!(is_unavailable(&bench, &with_kid("invented")).await);
        assert!(is_unavailable(&bench, &with_kid("invented")).await);
        bench.verify(&token(0)).await.unwrap();
        assert_eq!(bench.issuer.take_fetched().len(), 3, "two and the one that failed");
        publish(&bench, &[key(0)]);
        bench.advance(300);
        assert_eq!(bench.fault(&with_kid("invented")).await, Some(EntraTokenError::KeyUnknown));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_refresh_who_can_be_answered() {
        let bench = TestService::new();
        bench.verify(&token(0)).await.unwrap();
        bench.issuer.take_fetched();
        bench.advance(HOUR);
        bench.issuer.delay(Duration::from_secs(60));
        let (first, second) = (token(0), token(0));
        let mut context = Context::from_waker(Waker::noop());
        let mut refreshing = Box::pin(bench.verify(&first));
        assert!(refreshing.as_mut().poll(&mut context).is_pending());
        let mut other = Box::pin(bench.verify(&second));
        let answered: Pin<&mut dyn Future<Output = _>> = other.as_mut();
        assert!(matches!(answered.poll(&mut context), Poll::Ready(Ok(_))));
        assert_eq!(bench.issuer.take_fetched().len(), 1);
    }

    #[tokio::test]
    async fn a_request_given_up_in_its_fetch_leaves_the_way_free() {
        let bench = TestService::new();
        bench.issuer.delay(Duration::from_secs(60));
        let cold = token(0);
        for _ in 0..3 {
            let mut context = Context::from_waker(Waker::noop());
            let mut given_up = Box::pin(bench.verify(&cold));
            assert!(given_up.as_mut().poll(&mut context).is_pending());
            drop(given_up);
            bench.issuer.delay(Duration::ZERO);
            assert!(is_unavailable(&bench, &cold).await, "not at once again");
            bench.issuer.delay(Duration::from_secs(60));
            bench.advance(1);
        }
        assert_eq!(bench.issuer.take_fetched().len(), 3);
        bench.issuer.delay(Duration::ZERO);
        bench.verify(&cold).await.unwrap();
    }

    #[tokio::test]
    async fn a_refresh_that_takes_too_long_is_answered_by_the_good_keys() {
        let bench = TestService::new();
        bench.verify(&token(0)).await.unwrap();
        bench.advance(HOUR);
        bench.issuer.delay(Duration::from_secs(60));
        let began = tokio::time::Instant::now();
        bench.verify(&token(0)).await.unwrap();
        assert!((FETCH_DEADLINE..Duration::from_secs(30)).contains(&began.elapsed()));
    }
}
