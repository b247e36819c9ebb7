//! The operations, one file each, and the code that several operations share.

mod assignments;
mod create_identity;
mod delete_identity;
mod exchange_entra_token;
mod exchange_teams_extension_token;
mod exchange_teams_user_token;
mod get_identity;
mod introspect_token;
mod issue_access_token;
mod published_documents;
mod read_revocations;
mod revoke_access_tokens;
mod state;

use http::HeaderMap;
use time::OffsetDateTime;

use self::state::RequestState;
use crate::api::error::{Error, Field};
use crate::api::reply::{Reply, TokenBody};
use crate::api::routes::{ID, Operation, Parameters};
use crate::api::service::Service;
use crate::api::version::ApiVersion;
use crate::audit::AuditContext;
use crate::authn::Caller;
use crate::authn::entra::{EntraToken, EntraTokenError};
use crate::authn::target::Target;
use crate::ids::RawId;
use crate::lifetime::Lifetime;
use crate::store::assignments::AssignmentKind;
use crate::store::custom_ids::Profile;
use crate::store::{CreateOutcome, CreationId, IdentityState, NewIdentity, ReadRequest, Revision};
use crate::token::claims::{Claims, Grant};
use crate::token::mint::mint;
use crate::token::scope::ScopeSet;

/// An authenticated request for an operation.
pub(crate) struct OperationContext<'a> {
    pub(crate) service: &'a Service,
    pub(crate) caller: &'a Caller,
    pub(crate) parameters: &'a Parameters,
    /// The request target, with the query parameters.
    pub(crate) target: &'a Target,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// `None` if the route has no API versions.
    pub(crate) version: Option<ApiVersion>,
}

/// Runs the operation of a route.
pub(crate) async fn run(
    operation: Operation,
    context: &OperationContext<'_>,
    audit: &mut AuditContext,
) -> Result<Reply, Error> {
    match operation {
        Operation::CreateIdentity => create_identity::run(context, audit).await,
        Operation::DeleteEntraAssignment => assignments::delete(context, AssignmentKind::Entra).await,
        Operation::DeleteIdentity => delete_identity::run(context, audit).await,
        Operation::DeleteTeamsExtensionAssignment => {
            assignments::delete(context, AssignmentKind::TeamsExtension).await
        }
        Operation::ExchangeEntraToken => exchange_entra_token::run(context, audit).await,
        Operation::ExchangeTeamsExtensionToken => exchange_teams_extension_token::run(context, audit).await,
        Operation::ExchangeTeamsUserToken => exchange_teams_user_token::run(context, audit).await,
        Operation::GetDiscoveryDocument => published_documents::discovery(context).await,
        Operation::GetEntraAssignment => assignments::get(context, AssignmentKind::Entra).await,
        Operation::GetIdentity => get_identity::run(context, audit).await,
        Operation::GetKeySet => published_documents::key_set(context).await,
        Operation::GetTeamsExtensionAssignment => {
            assignments::get(context, AssignmentKind::TeamsExtension).await
        }
        Operation::IntrospectToken => introspect_token::run(context, audit).await,
        Operation::IssueAccessToken => issue_access_token::run(context, audit).await,
        Operation::IssueToken => issue_access_token::run_with_identity(context, audit).await,
        Operation::ListEntraAssignments => assignments::list(context).await,
        Operation::PutEntraAssignment => assignments::put(context, AssignmentKind::Entra).await,
        Operation::PutTeamsExtensionAssignment => {
            assignments::put(context, AssignmentKind::TeamsExtension).await
        }
        Operation::ReadRevocations => read_revocations::run(context, audit).await,
        Operation::RevokeAccessTokens => revoke_access_tokens::run(context, audit).await,
        Operation::UpdateEntraAssignments => assignments::update(context).await,
        Operation::UpdateIdentity => revoke_access_tokens::update(context, audit).await,
    }
}

/// The content of a token to mint.
struct TokenSpec<'a> {
    scopes: &'a ScopeSet,
    /// Seconds since the epoch.
    issued_at: i64,
    /// Seconds since the epoch.
    expires_at: i64,
    /// The Entra token of the Teams user, if the token is issued in exchange for one.
    teams: Option<&'a EntraToken>,
}

impl<'a> OperationContext<'a> {
    /// The value of a query parameter, which must not be there twice.
    fn single(&self, name: &'static str, field: Field) -> Result<Option<&'a str>, Error> {
        let mut values = self.target.parameters(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Error::FieldFormat(field)),
            (value, None) => Ok(value),
        }
    }
}

impl OperationContext<'_> {
    /// The API version of the request. The route must have versions.
    fn version(&self) -> Result<ApiVersion, Error> {
        self.version.ok_or(Error::Internal("the route has no API versions"))
    }

    /// The identity in the path, recorded for the audit line.
    ///
    /// # Errors
    /// [`Error::IdentityMalformed`] for a kind of identity that this resource cannot have.
    /// [`Error::IdentityNotOwned`] for an identity of another resource.
    fn identity(&self, audit: &mut AuditContext) -> Result<RawId, Error> {
        let id: RawId = self.parameters.get(ID).parse().map_err(|_| Error::IdentityMalformed)?;
        audit.identity(&id);
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

    /// The issue time and the expiry of a token with this lifetime that is issued now, in seconds since the epoch.
    fn times_of(&self, lifetime: Lifetime) -> (i64, i64) {
        let issued_at = self.service.token_clock.now().unix_timestamp();
        (issued_at, issued_at + lifetime.as_seconds())
    }

    /// Mints a token for an identity at a revision. The signing key of the caller's slot signs it.
    fn mint(
        &self,
        state: &RequestState,
        identity: &RawId,
        revision: Revision,
        spec: &TokenSpec<'_>,
    ) -> Result<TokenBody, Error> {
        let (Some(keys), Some(slot)) = (&state.signing, state.slot) else {
            return Err(Error::Internal("the signing keys were not loaded for minting"));
        };
        let expires_on = OffsetDateTime::from_unix_timestamp(spec.expires_at)
            .map_err(|_| Error::Internal("the expiry is outside the range of dates"))?;
        let mut token_id = [0; 16];
        self.service.random.fill(&mut token_id);
        let grant = Grant {
            identity,
            scopes: spec.scopes,
            revision,
            issued_at: spec.issued_at,
            expires_at: spec.expires_at,
            token_id,
            teams: spec.teams,
        };
        let claims = Claims::of(&self.service.settings.resource, &grant);
        let token = mint(&claims, keys.of(slot))?;
        Ok(TokenBody::new(token, expires_on))
    }

    /// The identity in the path, if it is of a kind that gets tokens without an Entra token.
    ///
    /// # Errors
    /// As [`Self::identity`]. [`Error::IdentityNotFound`] for a Teams user.
    fn tokenable_identity(&self, audit: &mut AuditContext) -> Result<RawId, Error> {
        match self.identity(audit)? {
            RawId::TeamsUser { .. } => Err(Error::IdentityNotFound),
            identity => Ok(identity),
        }
    }

    /// Stores the time of a token that is about to be returned. An identity without a profile costs no write.
    async fn record_token(
        &self,
        identity: &RawId,
        profile: Option<&Profile>,
        issued_at: i64,
    ) -> Result<(), Error> {
        match profile {
            Some(profile) if profile.last_token_issued_at < Some(issued_at) => {
                Ok(self.service.store.record_token(identity, issued_at).await?)
            }
            _ => Ok(()),
        }
    }

    /// The revision of an identity that comes from Entra. The first exchange creates the record of the identity, so
    /// that its tokens can be revoked like all others.
    async fn revision_of(&self, state: &RequestState, identity: &RawId) -> Result<Revision, Error> {
        let service = self.service;
        let mut state = state.identity;
        for _ in 0..2 {
            match state {
                IdentityState::Live(revision) => return Ok(revision),
                IdentityState::Deleted => return Err(Error::IdentityNotFound),
                IdentityState::Absent => {}
            }
            let creation = CreationId::random(service.random.as_ref());
            let new = NewIdentity::plain(identity.clone(), creation);
            if service.store.create(&new, service.clock.now()).await? == CreateOutcome::Created {
                return Ok(Revision::FIRST);
            }
            // A concurrent exchange for the same user has created the record.
            state = service.store.read(ReadRequest::identity(identity)).await?.identity;
        }
        Err(Error::Internal("the record of an identity exists for a create and not for a read"))
    }

    /// The Entra token of the end user who is the caller.
    fn entra_user(&self) -> Result<&EntraToken, Error> {
        match self.caller {
            Caller::EntraUser(token) => Ok(token),
            Caller::Anyone
            | Caller::AccessKey { .. }
            | Caller::EntraPrincipal(_)
            | Caller::ResourceServer(_) => {
                Err(Error::Internal("the caller of the route is not an Entra user"))
            }
        }
    }
}

/// The issue time and the expiry of a token that is issued in exchange for an Entra token, in seconds since the epoch.
/// The token expires no later than the Entra token (RFC 8693 section 2.2.1) and no later than the longest lifetime.
///
/// # Errors
/// [`Error::InvalidAccessToken`] when the Entra token is expired.
fn under(entra: &EntraToken, now: i64) -> Result<(i64, i64), Error> {
    let expires_at = entra.expires_at.min(now + Lifetime::MAX_SECONDS);
    if now < expires_at {
        Ok((now, expires_at))
    } else {
        Err(Error::InvalidAccessToken(EntraTokenError::Expired))
    }
}
