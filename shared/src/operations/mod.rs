//! The operations, one file each, and what they share.

mod create_identity;
mod delete_identity;
mod issue_access_token;
mod revoke_access_tokens;

use time::OffsetDateTime;

use crate::api_version::ApiVersion;
use crate::audit::Notes;
use crate::authn::Caller;
use crate::authn::hmac::SignedRequest;
use crate::error::Error;
use crate::ids::RawId;
use crate::lifetime::Lifetime;
use crate::reply::{Reply, TokenBody};
use crate::routes::Operation;
use crate::scope::ScopeSet;
use crate::service::{Service, Session};
use crate::store::Revision;
use crate::token::claims::{Claims, Grant};
use crate::token::mint::mint;

/// An authenticated request for an operation.
pub(crate) struct Request<'a> {
    pub(crate) service: &'a Service,
    pub(crate) signed: &'a SignedRequest,
    pub(crate) caller: &'a Caller,
    /// The decoded `{id}` segment.
    pub(crate) id: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) version: ApiVersion,
}

/// Runs the operation of a route.
pub(crate) async fn run(
    operation: Operation,
    request: &Request<'_>,
    notes: &mut Notes,
) -> Result<Reply, Error> {
    match operation {
        Operation::CreateIdentity => create_identity::run(request, notes).await,
        Operation::DeleteIdentity => delete_identity::run(request, notes).await,
        Operation::IssueAccessToken => issue_access_token::run(request, notes).await,
        Operation::RevokeAccessTokens => revoke_access_tokens::run(request, notes).await,
    }
}

impl Request<'_> {
    /// The identity the path names, if its form is one this resource can have.
    fn identity(&self, notes: &mut Notes) -> Result<RawId, Error> {
        let id: RawId = self.id.parse().map_err(|_| Error::IdentityMalformed)?;
        notes.identity(&id);
        match &id {
            RawId::Phone(_) | RawId::TeamsApp { .. } | RawId::TeamsVisitor(_) => {
                return Err(Error::IdentityMalformed);
            }
            RawId::TeamsUser { .. } => {}
            RawId::EntraUser { .. } | RawId::Spool(_) | RawId::TeamsExtensionUser { .. } | RawId::User(_) => {
                if id.resource() != Some(self.service.settings.resource.id) {
                    return Err(Error::IdentityNotOwned);
                }
            }
        }
        Ok(id)
    }

    /// Mints a token for an identity at a revision, with the key of the caller's slot.
    fn mint(
        &self,
        session: &Session,
        identity: &RawId,
        revision: Revision,
        (scopes, lifetime): &(ScopeSet, Lifetime),
    ) -> Result<TokenBody, Error> {
        let Some(keys) = &session.signing else {
            return Err(Error::Internal("minting without signing keys"));
        };
        let issued_at = self.service.clock.now().unix_timestamp();
        let expires_at = issued_at + lifetime.as_seconds();
        let expires_on = OffsetDateTime::from_unix_timestamp(expires_at)
            .map_err(|_| Error::Internal("the clock is beyond the calendar"))?;
        let mut token_id = [0; 16];
        self.service.random.fill(&mut token_id);
        let grant = Grant { identity, scopes, revision, issued_at, expires_at, token_id };
        let claims = Claims::of(&self.service.settings.resource, &grant);
        let token = mint(&claims, keys.of(session.slot))?;
        Ok(TokenBody::new(token, expires_on))
    }
}
