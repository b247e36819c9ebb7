//! `POST /access/teamsExtension/:exchangeAccessToken`: exchanges the Entra token of a Teams user who acts for a resource
//! (Teams phone extensibility) for a token of this service.

use super::OperationContext;
use super::exchange_entra_token::exchange;
use crate::api::body;
use crate::api::error::Error;
use crate::api::reply::Reply;
use crate::audit::AuditContext;
use crate::ids::{Cloud, RawId};
use crate::store::assignments::AssignmentKind;
use crate::token::scope::{Scope, ScopeSet};

/// The delegated permission that is needed (docs/wire-contract.md#teams-exchange).
const PERMISSION: &str = "TeamsExtension.ManageCalls";

pub(super) async fn run(context: &OperationContext<'_>, audit: &mut AuditContext) -> Result<Reply, Error> {
    let entra = context.entra_user()?;
    body::bind_empty(context.body)?;
    entra.require_one_of(&[PERMISSION]).map_err(Error::InvalidAccessToken)?;
    let identity = RawId::TeamsExtensionUser {
        cloud: Cloud::Public,
        resource: context.service.settings.resource.id,
        tenant: entra.tenant,
        object: entra.object,
    };
    let scopes = ScopeSet::of(&[Scope::Voip]).ok_or(Error::Internal("no scopes"))?;
    exchange(context, audit, AssignmentKind::TeamsExtension, &identity, &scopes).await
}
