//! Verification of tokens. It is also the library for resource servers in Rust.
//!
//! There are two verifiers:
//!
//! * [`Verifier`] makes one strongly consistent read of the store for each token. A token of a key that it has not seen
//!   costs a read of the keys before. A [`Verified`] token is active at this moment. The verifier sees every revocation, deletion and replacement of keys that has returned.
//! * [`OfflineVerifier`] needs only the published key set. An [`OfflineVerified`] token has a valid signature by a key of
//!   that set and has not expired, but it may have been revoked. The verifier sees a rotation when the set is fetched
//!   again.
//!
//! [`UnconfirmedToken::of`] decodes and checks a token without I/O. Only [`UnconfirmedToken::confirm`] turns it into
//! [`Verified`]. No JWT library decodes or verifies a token, because such libraries accept too much (decision record 0004).

use std::ops::Deref;
use std::sync::Arc;

use time::OffsetDateTime;

use super::claims::Claims;
use super::header::{TokenHeader, TokenType};
use crate::ids::{RawId, ResourceId};
use crate::jose::{JwsError, TokenTextError, UnverifiedJws};
use crate::keys::pointer::{PublishedCache, PublishedKeys};
use crate::keys::signing::{VerifyingKey, VerifyingKeys};
use crate::keys::{KeyId, KeyMaterialError};
use crate::lifetime::{self, ISSUED_AT_LEEWAY, Lifetime};
use crate::runtime::Clock;
use crate::settings::{Issuer, Reader, Resource};
use crate::store::{IdentityState, ReadRequest, Store, StoreError};

/// Longest token that is decoded, in bytes. A token of this service has fewer than 1,500.
const MAX_LENGTH: usize = 4096;

/// The required values of `iss` and `aud`.
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
    /// The key that signed the token.
    pub key_id: KeyId,
}

/// A token that is active at this moment. Only a verification against the store makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified(TokenContent);

/// A token with a valid signature that has not expired. It may have been revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineVerified(TokenContent);

/// The reason why a token is refused. It is only for the operator's log. Callers get one uniform reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the audience of the token is not this resource")]
    Audience,
    #[error("the claims are not those of an access token")]
    Claims,
    #[error("the token has expired")]
    Expired,
    #[error("the header is not that of an access token")]
    Header,
    #[error("the identity was deleted or never existed")]
    IdentityGone,
    #[error("the token has another issuer")]
    Issuer,
    #[error("the signing key is not in force")]
    KeyNotInForce,
    #[error("the validity of the token is not between 1 second and 24 hours")]
    Lifetime,
    #[error("the token's revision is not the stored one: it was revoked")]
    Revoked,
    #[error("the signature does not verify")]
    Signature,
    #[error("not a compact token")]
    Structure,
    #[error("{0}")]
    Text(TokenTextError),
    #[error("the token was issued more than {} minutes ahead of the clock", ISSUED_AT_LEEWAY.whole_minutes())]
    TooEarly,
}

/// A verification that did not accept the token.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The token is invalid.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// The state could not be read, so the result is unknown. The token is refused, and the client is to retry (decision
    /// record 0002).
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pointer's public keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyMaterialError),
}

/// A token with the form and the claims of a valid token of this resource. It may still be forged or revoked, because its
/// key and its revision are not checked yet.
pub struct UnconfirmedToken<'a> {
    unverified: UnverifiedToken<'a>,
    identity: RawId,
    signature_verified: bool,
}

type UnverifiedToken<'a> = UnverifiedJws<'a, TokenHeader, Claims>;

/// Verifies tokens of one resource against the store. It reads no secret and has no access to one.
pub struct Verifier {
    expected: Expected,
    store: Arc<dyn Store>,
    published: PublishedCache,
    clock: Arc<dyn Clock>,
}

/// Verifies tokens of one resource with only its published key set.
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
            JwsError::Text(fault) => Self::Text(fault),
            JwsError::Structure => Self::Structure,
            JwsError::Header => Self::Header,
            JwsError::Claims => Self::Claims,
        }
    }
}

impl Expected {
    /// Reads `ISSUER` and `RESOURCE_ID`. `None` when one of them is missing or malformed.
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
    /// A verifier that reads this store.
    #[must_use]
    pub fn new(expected: Expected, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { expected, store, published: PublishedCache::default(), clock }
    }

    /// Reads the public keys in force, so that the first token finds an open connection and parsed keys. Errors are
    /// ignored, because the first token meets and reports them.
    pub async fn warm(&self) {
        if let Ok(snapshot) = self.store.read(ReadRequest::POINTER).await {
            // The verification of a token reads the pointer again, so these keys decide nothing.
            let _ = self.published.of(&snapshot.pointer);
        }
    }

    /// Verifies that the token is active now: its signature, its claims, its key, and its revision. This needs one read of
    /// the store, and none for a token that is invalid by itself. The first token of a new key costs a read more.
    ///
    /// # Errors
    /// [`VerifyError::Refused`] for an invalid token. The other variants mean that the result is unknown.
    pub async fn verify(&self, token: &str) -> Result<Verified, VerifyError> {
        let last_seen = self.published.last_seen();
        let mut unconfirmed =
            UnconfirmedToken::of(token, &self.expected, last_seen.as_deref(), self.clock.now())?;
        if unconfirmed.signed_identity().is_none() {
            let pointer = self.store.read(ReadRequest::POINTER).await?.pointer;
            let published = self.published.of(&pointer)?;
            unconfirmed.check_signature(&published)?;
        }
        let identity = unconfirmed.signed_identity();
        let snapshot = self.store.read(ReadRequest { identity, ..ReadRequest::POINTER }).await?;
        let published = self.published.of(&snapshot.pointer)?;
        Ok(unconfirmed.confirm(&published, snapshot.identity, self.clock.now())?)
    }
}

impl OfflineVerifier {
    /// A verifier that trusts this key set. After a replacement of keys, make a new verifier from the new set.
    #[must_use]
    pub fn new(expected: Expected, keys: VerifyingKeys, clock: Arc<dyn Clock>) -> Self {
        Self { expected, keys, clock }
    }

    /// Verifies the signature and the claims of the token, without I/O.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::KeyNotInForce`] may mean that the key set is out of date.
    pub fn verify(&self, token: &str) -> Result<OfflineVerified, TokenError> {
        let unverified = UnverifiedToken::parse(token, MAX_LENGTH)?;
        let key = self.keys.find(&unverified.header.kid).ok_or(TokenError::KeyNotInForce)?;
        unverified.check_signature(key)?;
        let identity = unverified.check_claims(&self.expected, self.clock.now())?;
        let UnverifiedJws { header, claims, .. } = unverified;
        Ok(OfflineVerified(TokenContent { identity, claims, key_id: header.kid }))
    }
}

impl<'a> UnconfirmedToken<'a> {
    /// Checks the form and the claims of a token, and its signature if its key is among the keys that were read last.
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

    /// The token's identity, once the signature is verified. [`Self::confirm`] needs its state. A token of a key that was
    /// not read yet may be forged, so no identity is read for it: the time of a reply would show whether it exists.
    #[must_use]
    pub fn signed_identity(&self) -> Option<&RawId> {
        self.signature_verified.then_some(&self.identity)
    }

    /// Verifies the signature with keys that were read for this token.
    ///
    /// # Errors
    /// [`TokenError::KeyNotInForce`] or [`TokenError::Signature`].
    pub fn check_signature(&mut self, published: &PublishedKeys) -> Result<(), TokenError> {
        let key = published.find(&self.unverified.header.kid).ok_or(TokenError::KeyNotInForce)?;
        self.unverified.check_signature(key)?;
        self.signature_verified = true;
        Ok(())
    }

    /// Confirms that the token's key is in force and that its revision is the stored one. Keys and state come from one
    /// strongly consistent read.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn confirm(
        mut self,
        published: &PublishedKeys,
        state: IdentityState,
        now: OffsetDateTime,
    ) -> Result<Verified, TokenError> {
        // A key's id is its thumbprint, so a key with the same id is the same key.
        if !self.signature_verified {
            self.check_signature(published)?;
        } else if published.find(&self.unverified.header.kid).is_none() {
            return Err(TokenError::KeyNotInForce);
        }
        let UnverifiedJws { header, claims, .. } = self.unverified;
        match state {
            IdentityState::Live(revision) if revision == claims.rev => {}
            IdentityState::Live(_) => return Err(TokenError::Revoked),
            IdentityState::Absent | IdentityState::Deleted => return Err(TokenError::IdentityGone),
        }
        // The read took time, so the token may have expired.
        if lifetime::has_expired(claims.exp, now) {
            return Err(TokenError::Expired);
        }
        Ok(Verified(TokenContent { identity: self.identity, claims, key_id: header.kid }))
    }
}

/// Whether a text is a token that names this resource. The text is decoded, and no signature is verified. The answer is
/// only for messages to the operator.
pub(crate) fn names_resource(token: &str, resource: &Resource) -> bool {
    let token = UnverifiedToken::parse(token, MAX_LENGTH);
    token.is_ok_and(|UnverifiedJws { claims, .. }| {
        claims.iss == resource.issuer.as_str() && claims.aud == resource.id.to_string()
    })
}

impl UnverifiedToken<'_> {
    /// Verifies the signature with the key's algorithm. A header that names another algorithm is refused.
    fn check_signature(&self, key: &VerifyingKey) -> Result<(), TokenError> {
        let TokenHeader { alg, typ: TokenType::Jwt, .. } = self.header;
        if alg == key.algorithm() && key.verifies(self.signing_input, &self.signature) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }

    /// Makes every check of the claims that needs no state. Returns the token's identity.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Algorithm;
    use crate::keys::pointer::Published;
    use crate::store::Revision;
    use crate::testing::{NOON, settings, signing_key, signing_keys};
    use crate::token::fake::claims;
    use crate::token::mint::mint;

    fn token(revision: u64) -> String {
        let (_, claims) = claims(revision, NOON.unix_timestamp());
        mint(&claims, &signing_key(Algorithm::Es256, 0)).unwrap().expose().to_owned()
    }

    #[test]
    fn a_token_of_an_unread_key_is_confirmed_only_with_its_signature() {
        let resource = settings().resource;
        let published = Published::of(&signing_keys(Algorithm::Es256, 0), 0).unwrap();
        let published = PublishedKeys::parse(&published).unwrap();
        let confirm = |token: &str| {
            let unconfirmed = UnconfirmedToken::of(token, &Expected::from(&resource), None, NOON).unwrap();
            assert_eq!(unconfirmed.signed_identity(), None);
            let state = IdentityState::Live(Revision::new(1));
            unconfirmed.confirm(&published, state, NOON).map(|_| ())
        };
        let (genuine, other) = (token(1), token(2));
        let (text, _) = genuine.rsplit_once('.').unwrap();
        let forged = format!("{text}.{}", other.rsplit_once('.').unwrap().1);
        assert_eq!(confirm(&genuine), Ok(()));
        assert_eq!(confirm(&forged), Err(TokenError::Signature));
    }

    #[test]
    fn issuer_and_audience_are_read_from_their_settings() {
        let resource = settings().resource;
        let read = |issuer: Option<&str>| {
            let audience = resource.id.to_string();
            let value = |name: &str| match name {
                "ISSUER" => issuer.map(str::to_owned),
                _ => Some(audience.clone()),
            };
            Expected::read(&mut Reader::new(&value))
        };
        assert_eq!(read(Some("https://localhost:8443")), Some(Expected::from(&resource)));
        assert_eq!(read(None), None);
    }

    #[test]
    fn a_token_names_its_resource_by_issuer_and_audience() {
        let resource = settings().resource;
        let token = token(1);
        assert!(names_resource(&token, &resource));
        let issuer = "https://elsewhere.example".parse().unwrap();
        assert!(!names_resource(&token, &Resource { issuer, ..resource.clone() }));
        let id = "00000000-0000-4000-8000-000000000001".parse().unwrap();
        assert!(!names_resource(&token, &Resource { id, ..resource.clone() }));
        assert!(!names_resource("a.b.c", &resource));
    }
}
