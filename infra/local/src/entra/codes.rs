//! Authorization codes, refresh tokens and sign-in pages that wait for a click. They are in memory only, so clients sign in
//! again after a restart. The store keeps digests, not the secrets themselves.

use std::collections::VecDeque;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::runtime::Random;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::authorize::AuthorizationRequest;
use super::directory::text;
use super::oauth_error::OAuthError;

/// Life of a code. Entra allows a few minutes; RFC 6749 section 4.1.2 allows ten.
const CODE_LIFE: Duration = Duration::seconds(60);

/// Time without use after which a refresh token expires, as in Entra.
const REFRESH_LIFE: Duration = Duration::days(90);

/// Time for which a replaced refresh token is still good. Clients use one refresh token for several requests at once.
const OVERLAP: Duration = Duration::seconds(60);

/// Time for which a sign-in page waits for a click.
const PAGE_LIFE: Duration = Duration::minutes(10);

/// Most codes, chains and pages of each kind. A further one drops the oldest.
const MAX_KEPT: usize = 1000;

/// Most good refresh tokens of one chain.
const MAX_TOKENS: usize = 20;

type Digest = [u8; 32];

/// A person that has signed in to a client.
#[derive(Clone)]
pub(super) struct SignIn {
    pub(super) person: Uuid,
    pub(super) client: Uuid,
    /// The scopes of the request, for a token request without scopes.
    pub(super) scope: String,
}

/// The outcome of a redemption.
pub(super) struct Redeemed {
    pub(super) sign_in: SignIn,
    pub(super) nonce: Option<String>,
    pub(super) refresh_token: Zeroizing<String>,
}

/// Everything that a person's sign-in leaves behind.
#[derive(Default)]
pub(super) struct Grants {
    codes: VecDeque<Code>,
    chains: VecDeque<Chain>,
    pages: VecDeque<(Digest, OffsetDateTime, AuthorizationRequest)>,
}

struct Code {
    digest: Digest,
    person: Uuid,
    request: AuthorizationRequest,
    issued: OffsetDateTime,
    /// The chain of refresh tokens that the redemption begins.
    chain: Uuid,
    is_redeemed: bool,
}

/// The refresh tokens that go back to one sign-in.
struct Chain {
    id: Uuid,
    sign_in: SignIn,
    /// The good tokens. A replaced one has the time of its replacement.
    tokens: VecDeque<(Digest, Option<OffsetDateTime>)>,
    used: OffsetDateTime,
}

impl Grants {
    /// Keeps the request of a sign-in page. The result is the value of the page, which is good for one click.
    pub(super) fn show_page(
        &mut self,
        request: AuthorizationRequest,
        now: OffsetDateTime,
        random: &dyn Random,
    ) -> String {
        let value = text::<32>(random);
        push(&mut self.pages, (hash(&value), now, request));
        value
    }

    /// The request of the page with this value. The value is good once.
    pub(super) fn take_page(&mut self, value: &str, now: OffsetDateTime) -> Option<AuthorizationRequest> {
        let digest = hash(value);
        let position = self.pages.iter().position(|(kept, ..)| *kept == digest)?;
        let (_, shown, request) = self.pages.remove(position)?;
        (now - shown < PAGE_LIFE).then_some(request)
    }

    /// A code for a person that has signed in with this request.
    pub(super) fn issue(
        &mut self,
        person: Uuid,
        request: AuthorizationRequest,
        now: OffsetDateTime,
        random: &dyn Random,
    ) -> Zeroizing<String> {
        let code = Zeroizing::new(text::<32>(random));
        let chain = random.guid();
        let digest = hash(&code);
        push(&mut self.codes, Code { digest, person, request, issued: now, chain, is_redeemed: false });
        code
    }

    /// Redeems a code (RFC 6749 section 4.1.3, RFC 7636 section 4.6). A second redemption ends the refresh tokens of the
    /// first one (RFC 6749 section 10.5).
    pub(super) fn redeem(
        &mut self,
        code: &str,
        client: Uuid,
        redirect_uri: &str,
        verifier: Option<&str>,
        now: OffsetDateTime,
        random: &dyn Random,
    ) -> Result<Redeemed, OAuthError> {
        let digest = hash(code);
        let code = self.codes.iter_mut().find(|code| code.digest == digest);
        let code = code.ok_or_else(OAuthError::malformed)?;
        if code.is_redeemed {
            let chain = code.chain;
            self.chains.retain(|kept| kept.id != chain);
            return Err(OAuthError::redeemed_code());
        }
        if now - code.issued >= CODE_LIFE {
            return Err(OAuthError::expired_grant());
        }
        if code.request.client != client {
            return Err(OAuthError::invalid_grant("code"));
        }
        if code.request.redirect_uri != redirect_uri {
            return Err(OAuthError::other_redirect_uri(redirect_uri, &code.request.redirect_uri));
        }
        match (&code.request.challenge, verifier) {
            (None, None) => {}
            (Some(_), None) => return Err(OAuthError::no_verifier()),
            (Some(challenge), Some(verifier)) if *challenge == URL_SAFE_NO_PAD.encode(hash(verifier)) => {}
            _ => return Err(OAuthError::wrong_verifier()),
        }
        code.is_redeemed = true;
        let sign_in = SignIn { person: code.person, client, scope: code.request.scope.clone() };
        let (chain, nonce) = (code.chain, code.request.nonce.clone());
        let refresh_token = self.start(chain, sign_in.clone(), now, random);
        Ok(Redeemed { sign_in, nonce, refresh_token })
    }

    /// Begins a chain with this id. The result is its first refresh token.
    pub(super) fn start(
        &mut self,
        id: Uuid,
        sign_in: SignIn,
        now: OffsetDateTime,
        random: &dyn Random,
    ) -> Zeroizing<String> {
        let token = refresh_token(id, random);
        push(
            &mut self.chains,
            Chain { id, sign_in, tokens: VecDeque::from([(hash(&token), None)]), used: now },
        );
        token
    }

    /// Uses a refresh token, and replaces it. A token that was replaced before the overlap shows a theft, so it ends its
    /// chain (RFC 9700 section 4.14.2).
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client: Uuid,
        now: OffsetDateTime,
        random: &dyn Random,
    ) -> Result<Redeemed, OAuthError> {
        let invalid = || OAuthError::invalid_grant("refresh_token");
        let id = token.split_once('.').and_then(|(id, _)| id.parse::<Uuid>().ok()).ok_or_else(invalid)?;
        let position = self.chains.iter().position(|chain| chain.id == id).ok_or_else(invalid)?;
        let mut chain = self.chains.remove(position).ok_or_else(invalid)?;
        if now - chain.used >= REFRESH_LIFE {
            return Err(OAuthError::expired_refresh_token());
        }
        if chain.sign_in.client != client {
            self.chains.push_back(chain);
            return Err(invalid());
        }
        chain.tokens.retain(|(_, replaced)| replaced.is_none_or(|at| now - at < OVERLAP));
        let digest = hash(token);
        let used = chain.tokens.iter_mut().find(|(kept, _)| *kept == digest).ok_or_else(invalid)?;
        used.1.get_or_insert(now);
        let refresh_token = refresh_token(id, random);
        if chain.tokens.len() >= MAX_TOKENS {
            chain.tokens.pop_front();
        }
        chain.tokens.push_back((hash(&refresh_token), None));
        chain.used = now;
        let sign_in = chain.sign_in.clone();
        self.chains.push_back(chain);
        Ok(Redeemed { sign_in, nonce: None, refresh_token })
    }

    /// Ends the codes and the refresh tokens of a person.
    pub(super) fn end(&mut self, person: Uuid) {
        self.codes.retain(|code| code.person != person);
        self.chains.retain(|chain| chain.sign_in.person != person);
    }
}

fn push<T>(kept: &mut VecDeque<T>, new: T) {
    if kept.len() >= MAX_KEPT {
        kept.pop_front();
    }
    kept.push_back(new);
}

/// A refresh token names its chain, so that a replaced token is recognised without a record of it.
fn refresh_token(chain: Uuid, random: &dyn Random) -> Zeroizing<String> {
    Zeroizing::new(format!("{}.{}", chain.simple(), text::<32>(random)))
}

fn hash(text: &str) -> Digest {
    let mut hash = Digest::default();
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use identity::testing::{NOON, SeededRandom};

    use super::super::authorize::tests::request;
    use super::*;

    const CLIENT: Uuid = Uuid::from_u128(1);
    const PERSON: Uuid = Uuid::from_u128(2);
    const URI: &str = "http://localhost:3000/";
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    /// The challenge of the verifier in RFC 7636 appendix B.
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    struct Store {
        grants: Grants,
        random: SeededRandom,
    }

    impl Store {
        fn new() -> Self {
            Self { grants: Grants::default(), random: SeededRandom::new(1) }
        }

        fn code(&mut self, challenge: Option<&str>) -> Zeroizing<String> {
            self.grants.issue(PERSON, request(CLIENT, URI, challenge), NOON, &self.random)
        }

        fn redeem(
            &mut self,
            code: &str,
            client: Uuid,
            uri: &str,
            verifier: Option<&str>,
            seconds: i64,
        ) -> Result<String, u32> {
            let now = NOON + Duration::seconds(seconds);
            let redeemed = self.grants.redeem(code, client, uri, verifier, now, &self.random);
            redeemed.map(|redeemed| redeemed.refresh_token.to_string()).map_err(|error| error.code())
        }

        fn refresh(&mut self, token: &str, seconds: i64) -> Result<String, u32> {
            let now = NOON + Duration::seconds(seconds);
            let refreshed = self.grants.refresh(token, CLIENT, now, &self.random);
            refreshed.map(|refreshed| refreshed.refresh_token.to_string()).map_err(|error| error.code())
        }
    }

    #[test]
    fn codes_are_bound_to_client_redirect_uri_and_verifier() {
        let mut store = Store::new();
        let code = store.code(Some(CHALLENGE));
        for (client, uri, verifier, error) in [
            (Uuid::from_u128(9), URI, Some(VERIFIER), 70_000),
            (CLIENT, "http://localhost:3000", Some(VERIFIER), 500_112),
            (CLIENT, "http://localhost:3001/", Some(VERIFIER), 500_112),
            (CLIENT, URI, None, 50_148),
            (CLIENT, URI, Some(""), 501_481),
            (CLIENT, URI, Some(CHALLENGE), 501_481),
        ] {
            assert_eq!(
                store.redeem(&code, client, uri, verifier, 0),
                Err(error),
                "{client} {uri} {verifier:?}"
            );
        }
        assert!(store.redeem(&code, CLIENT, URI, Some(VERIFIER), 59).is_ok());
        let plain = store.code(None);
        assert_eq!(store.redeem(&plain, CLIENT, URI, Some(VERIFIER), 0), Err(501_481), "a downgrade");
        assert!(store.redeem(&plain, CLIENT, URI, None, 0).is_ok());
        assert_eq!(store.redeem("unknown", CLIENT, URI, None, 0), Err(9_002_313));
    }

    #[test]
    fn codes_expire_after_sixty_seconds() {
        let mut store = Store::new();
        let code = store.code(None);
        assert_eq!(store.redeem(&code, CLIENT, URI, None, 60), Err(70_008));
        assert_eq!(store.redeem(&code, CLIENT, URI, None, 59).map(|_| ()), Ok(()));
    }

    #[test]
    fn second_redemption_ends_the_refresh_chain() {
        let mut store = Store::new();
        let (code, other) = (store.code(None), store.code(None));
        let first = store.redeem(&code, CLIENT, URI, None, 0).unwrap();
        let kept = store.redeem(&other, CLIENT, URI, None, 0).unwrap();
        let second = store.refresh(&first, 1).unwrap();
        assert_eq!(store.redeem(&code, CLIENT, URI, None, 2), Err(54_005));
        assert_eq!(store.refresh(&second, 3), Err(70_000));
        assert_eq!(store.redeem(&code, CLIENT, URI, None, 4), Err(54_005));
        assert!(store.refresh(&kept, 5).is_ok(), "another sign-in goes on");
    }

    #[test]
    fn refresh_tokens_rotate_with_an_overlap() {
        let mut store = Store::new();
        let code = store.code(None);
        let first = store.redeem(&code, CLIENT, URI, None, 0).unwrap();
        let second = store.refresh(&first, 10).unwrap();
        let parallel = store.refresh(&first, 69).unwrap();
        assert!(first != second && second != parallel);
        let third = store.refresh(&second, 70).unwrap();
        assert!(store.refresh(&parallel, 71).is_ok(), "both answers to one token are good");
        assert_eq!(store.refresh(&first, 72), Err(70_000), "its overlap is over");
        assert_eq!(store.refresh(&third, 73), Err(70_000), "a stolen token ends the chain");
    }

    #[test]
    fn refresh_tokens_belong_to_a_client_and_expire() {
        let mut store = Store::new();
        let sign_in = SignIn { person: PERSON, client: CLIENT, scope: "s".to_owned() };
        let token = store.grants.start(Uuid::from_u128(3), sign_in, NOON, &store.random);
        let foreign = store.grants.refresh(&token, Uuid::from_u128(9), NOON, &store.random);
        assert_eq!(foreign.err().map(|error| error.code()), Some(70_000));
        for unknown in ["", ".", "x.y", &format!("{}.x", Uuid::nil())] {
            assert_eq!(store.refresh(unknown, 0), Err(70_000), "{unknown}");
        }
        let day = 24 * 3_600;
        let token = store.refresh(&token, 89 * day).unwrap();
        let token = store.refresh(&token, 178 * day).unwrap();
        assert_eq!(store.refresh(&token, 268 * day), Err(700_082));
    }

    #[test]
    fn ended_people_have_no_codes_and_no_refresh_tokens() {
        let mut store = Store::new();
        let (code, other) = (store.code(None), store.code(None));
        let token = store.redeem(&code, CLIENT, URI, None, 0).unwrap();
        store.grants.end(PERSON);
        assert_eq!(store.refresh(&token, 1), Err(70_000));
        assert_eq!(store.redeem(&other, CLIENT, URI, None, 1), Err(9_002_313));
    }

    #[test]
    fn page_values_are_good_for_one_click() {
        let mut store = Store::new();
        let show = |grants: &mut Grants| grants.show_page(request(CLIENT, URI, None), NOON, &store.random);
        let (value, late) = (show(&mut store.grants), show(&mut store.grants));
        assert!(store.grants.take_page("other", NOON).is_none());
        assert!(store.grants.take_page(&value, NOON).is_some());
        assert!(store.grants.take_page(&value, NOON).is_none());
        assert!(store.grants.take_page(&late, NOON + PAGE_LIFE).is_none());
    }

    #[test]
    fn numbers_of_codes_chains_and_pages_are_bounded() {
        let mut store = Store::new();
        let oldest = store.code(None);
        for _ in 0..MAX_KEPT {
            let code = store.code(None);
            store.redeem(&code, CLIENT, URI, None, 0).unwrap();
            store.grants.show_page(request(CLIENT, URI, None), NOON, &store.random);
        }
        let Grants { codes, chains, pages } = &store.grants;
        assert_eq!([codes.len(), chains.len(), pages.len()], [MAX_KEPT; 3]);
        assert_eq!(store.redeem(&oldest, CLIENT, URI, None, 0), Err(9_002_313));
        let code = store.code(None);
        let token = store.redeem(&code, CLIENT, URI, None, 0).unwrap();
        for _ in 0..2 * MAX_TOKENS {
            store.refresh(&token, 1).ok();
        }
        assert!(store.grants.chains.iter().all(|chain| chain.tokens.len() <= MAX_TOKENS));
    }
}
