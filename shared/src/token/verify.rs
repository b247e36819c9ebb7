//! Verification: when a token is good. The library for resource servers in Rust.
//!
//! Two verifiers, and two words for what they find:
//!
//! * [`Verifier`] asks the store, strongly consistent, once for each token. What it accepts is [`Verified`]:
//!   active at this moment. A revocation, deletion or replacement of keys that has returned is seen.
//! * [`OfflineVerifier`] has only the published key set. What it accepts is [`OfflineVerified`]: signed by a key of
//!   that set and not expired. Whether it was revoked cannot be known; a rotation shows when the set is
//!   fetched again.
//!
//! [`UnconfirmedToken::of`] decodes and checks a token without I/O. Only [`UnconfirmedToken::confirm`] turns it into
//! [`Verified`]. No JWT library is used, because such libraries accept too much (decision record 0004).

use std::ops::Deref;
use std::sync::Arc;

use time::OffsetDateTime;

use super::claims::Claims;
use super::header::{TokenHeader, TokenType};
use crate::ids::{RawId, ResourceId};
use crate::jose::{JwsError, UnverifiedJws};
use crate::keys::KeyMaterialError;
use crate::keys::pointer::{PublishedCache, PublishedKeys};
use crate::keys::signing::{VerifyingKey, VerifyingKeys};
use crate::lifetime::{self, ISSUED_AT_LEEWAY, Lifetime};
use crate::runtime::Clock;
use crate::settings::{Issuer, Reader, Resource};
use crate::store::{IdentityState, ReadRequest, Store, StoreError};

/// Longest token looked at, in bytes. Ours have under 1,200.
const MAX_LENGTH: usize = 4096;

/// Whose tokens are accepted: what `iss` and `aud` must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub issuer: Issuer,
    pub audience: ResourceId,
}

/// The content of an accepted token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenContent {
    pub identity: RawId,
    pub claims: Claims,
}

/// A token that is active at this moment. Only a verification against the store makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(TokenContent);

/// A token with a valid signature that has not expired. It may have been revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineVerified(TokenContent);

/// Why a token is refused. For the operator's log only: callers get one uniform answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is not addressed to this resource")]
    Audience,
    #[error("the claims are not those of an access token")]
    Claims,
    #[error("the token has expired")]
    Expired,
    #[error("the header is not that of an access token")]
    Header,
    #[error("the identity was deleted or never existed")]
    IdentityGone,
    #[error("the token was issued by somebody else")]
    Issuer,
    #[error("the signing key is not in force")]
    KeyNotInForce,
    #[error("the token lives longer than any token may")]
    Lifetime,
    #[error("the token's revision is not the stored one: it was revoked")]
    Revoked,
    #[error("the signature does not verify")]
    Signature,
    #[error("not a compact token")]
    Structure,
    #[error("the token was issued in the future")]
    TooEarly,
}

/// A verification without a good token at its end.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The token is not good.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// What decides could not be read: refuse, and say "try again", never "valid" (decision record 0002).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pointer's public keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyMaterialError),
}

/// A token that does not refute itself: its claims are those of a token of this resource at this moment. Not
/// yet good: its key or its revision may not be in force.
pub struct UnconfirmedToken<'a> {
    unverified: UnverifiedToken<'a>,
    identity: RawId,
    signature_verified: bool,
}

type UnverifiedToken<'a> = UnverifiedJws<'a, TokenHeader, Claims>;

/// Verifies tokens of one resource against the store. It reads no secret, and holds nothing that could.
pub struct Verifier {
    expected: Expected,
    store: Arc<dyn Store>,
    published: PublishedCache,
    clock: Arc<dyn Clock>,
}

/// Verifies tokens of one resource by its published key set alone.
pub struct OfflineVerifier {
    expected: Expected,
    keys: VerifyingKeys,
    clock: Arc<dyn Clock>,
}

impl Deref for Verified {
    type Target = TokenContent;

    fn deref(&self) -> &TokenContent {
        &self.0
    }
}

impl Deref for OfflineVerified {
    type Target = TokenContent;

    fn deref(&self) -> &TokenContent {
        &self.0
    }
}

impl From<JwsError> for TokenError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::Structure => Self::Structure,
            JwsError::Header => Self::Header,
            JwsError::Claims => Self::Claims,
        }
    }
}

impl Expected {
    /// Reads `ISSUER` and `RESOURCE_ID`. Nothing when the reader has met a fault.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let issuer = reader.required("ISSUER", Issuer::FORM);
        let audience = reader.required("RESOURCE_ID", ResourceId::FORM);
        Some(Self { issuer: issuer?, audience: audience? })
    }
}

impl From<&Resource> for Expected {
    fn from(resource: &Resource) -> Self {
        Self { issuer: resource.issuer.clone(), audience: resource.id }
    }
}

impl Verifier {
    /// A verifier that asks this store.
    #[must_use]
    pub fn new(expected: Expected, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { expected, store, published: PublishedCache::default(), clock }
    }

    /// Whether the token is good now: signature, claims, key in force, revision unchanged. One read of
    /// the store; none for a token that already refutes itself.
    ///
    /// # Errors
    /// [`VerifyError::Refused`] for a token that is not good; the others when that cannot be known.
    pub async fn verify(&self, token: &str) -> Result<Verified, VerifyError> {
        let last_seen = self.published.last_seen();
        let unconfirmed =
            UnconfirmedToken::of(token, &self.expected, last_seen.as_deref(), self.clock.now())?;
        let snapshot = self.store.read(ReadRequest::identity(unconfirmed.identity())).await?;
        let published = self.published.of(&snapshot.pointer)?;
        Ok(unconfirmed.confirm(&published, snapshot.identity, self.clock.now())?)
    }
}

impl OfflineVerifier {
    /// A verifier that trusts this key set. To learn of replaced keys, make another from the set fetched anew.
    #[must_use]
    pub fn new(expected: Expected, keys: VerifyingKeys, clock: Arc<dyn Clock>) -> Self {
        Self { expected, keys, clock }
    }

    /// Whether the token is offline and unexpired. No I/O.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::KeyNotInForce`] may mean that the key set is out of date.
    pub fn verify(&self, token: &str) -> Result<OfflineVerified, TokenError> {
        let unverified = UnverifiedToken::parse(token, MAX_LENGTH)?;
        let key = self.keys.find(&unverified.header.kid).ok_or(TokenError::KeyNotInForce)?;
        unverified.check_signature(key)?;
        let identity = unverified.check_claims(&self.expected, self.clock.now())?;
        Ok(OfflineVerified(TokenContent { identity, claims: unverified.claims }))
    }
}

impl<'a> UnconfirmedToken<'a> {
    /// What a token claims, if it does not refute itself: by its form, its claims, or its signature where its
    /// key is among those last seen.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn of(
        token: &'a str,
        expected: &Expected,
        last_seen: Option<&PublishedKeys>,
        now: OffsetDateTime,
    ) -> Result<Self, TokenError> {
        let unverified = UnverifiedToken::parse(token, MAX_LENGTH)?;
        let key = last_seen.and_then(|keys| keys.find(&unverified.header.kid));
        if let Some(key) = key {
            unverified.check_signature(key)?;
        }
        let identity = unverified.check_claims(expected, now)?;
        Ok(Self { unverified, identity, signature_verified: key.is_some() })
    }

    /// The identity it speaks of, whose state [`Self::confirm`] needs.
    #[must_use]
    pub fn identity(&self) -> &RawId {
        &self.identity
    }

    /// The token, if by one strongly consistent read its key is in force and its revision is the stored one.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn confirm(
        self,
        published: &PublishedKeys,
        state: IdentityState,
        now: OffsetDateTime,
    ) -> Result<Verified, TokenError> {
        let key = published.find(&self.unverified.header.kid).ok_or(TokenError::KeyNotInForce)?;
        // A key's id is its thumbprint: the key seen before and this one are the same.
        if !self.signature_verified {
            self.unverified.check_signature(key)?;
        }
        let claims = self.unverified.claims;
        match state {
            IdentityState::Live(revision) if revision == claims.rev => {}
            IdentityState::Live(_) => return Err(TokenError::Revoked),
            IdentityState::Absent | IdentityState::Deleted => return Err(TokenError::IdentityGone),
        }
        // The read took time: the token must still be good now that it is answered.
        if lifetime::has_expired(claims.exp, now) {
            return Err(TokenError::Expired);
        }
        Ok(Verified(TokenContent { identity: self.identity, claims }))
    }
}

impl UnverifiedToken<'_> {
    /// The algorithm is the key's; a header that names another is refused.
    fn check_signature(&self, key: &VerifyingKey) -> Result<(), TokenError> {
        let TokenHeader { alg, typ: TokenType::Jwt, .. } = self.header;
        if alg == key.algorithm() && key.verifies(self.signing_input, &self.signature) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }

    /// Everything the claims must say, whoever signed them. Returns the identity they speak of.
    fn check_claims(&self, expected: &Expected, now: OffsetDateTime) -> Result<RawId, TokenError> {
        let claims = &self.claims;
        let resource_id = expected.audience.to_string();
        if claims.iss != expected.issuer.as_str() {
            return Err(TokenError::Issuer);
        }
        if claims.aud != resource_id || claims.resource_id != resource_id {
            return Err(TokenError::Audience);
        }
        if lifetime::has_expired(claims.exp, now) {
            return Err(TokenError::Expired);
        }
        if claims.iat > now.unix_timestamp().saturating_add(ISSUED_AT_LEEWAY.whole_seconds()) {
            return Err(TokenError::TooEarly);
        }
        if !(1..=Lifetime::MAX_SECONDS).contains(&claims.exp.saturating_sub(claims.iat)) {
            return Err(TokenError::Lifetime);
        }
        let identity: RawId = claims.sub.parse().map_err(|_| TokenError::Claims)?;
        if claims.agree_on(&identity) { Ok(identity) } else { Err(TokenError::Claims) }
    }
}
