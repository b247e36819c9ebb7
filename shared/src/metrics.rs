//! The metrics of requests, under the names of ACS's metrics in Azure Monitor. Every name and every label value is from a
//! closed set, so no identity can become a label.

use crate::api::routes::Operation;
use crate::audit::{AuditEvent, AuditedOperation, Outcome};

/// The requests to the API: one for each reply.
pub const API_REQUESTS: &str = "APIRequestAuthentication";

/// The access tokens that were issued.
pub const TOKENS_ISSUED: &str = "TokensIssued";

/// The requests that were refused or that failed, by reason.
pub const REFUSALS: &str = "Refusals";

/// The age of the oldest signing key in force, in seconds.
pub const SIGNING_KEYS_AGE: &str = "SigningKeysAge";

/// The facts about one request that the metrics count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestMetrics {
    /// The operation, or `Unknown` for a path without an operation. ACS's name, if ACS has the operation.
    pub operation: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Whether the reply has an access token.
    pub issues_token: bool,
    /// The reason of a refusal or a failure: the failed check of a caller who is not authorized, else the error code.
    pub reason: Option<&'static str>,
}

impl RequestMetrics {
    /// The facts of an audit line. `None` for the authorizer, because its requests go to other APIs.
    #[must_use]
    pub fn of(event: &AuditEvent) -> Option<Self> {
        let operation = match event.operation {
            Some(AuditedOperation::Authorize) => return None,
            Some(AuditedOperation::Api(operation)) => Some(operation),
            None => None,
        };
        let is_success = event.outcome == Outcome::Success;
        let mints = operation.is_some_and(Operation::mints);
        Some(Self {
            operation: operation.map_or("Unknown", Operation::metric_name),
            status: event.status,
            issues_token: is_success && mints && !event.scopes.is_empty(),
            reason: event.denial.or(event.error),
        })
    }

    /// The class of the status, such as `2xx`.
    #[must_use]
    pub fn status_class(self) -> &'static str {
        match self.status {
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        }
    }
}

impl Operation {
    /// The operation's name in metrics.
    #[must_use]
    pub fn metric_name(self) -> &'static str {
        match self {
            Self::CreateIdentity => "CreateIdentity",
            Self::DeleteEntraAssignment => "DeleteEntraAssignment",
            Self::DeleteIdentity => "DeleteIdentity",
            Self::DeleteTeamsExtensionAssignment => "DeleteTeamsExtensionAssignment",
            Self::ExchangeEntraToken => "ExchangeEntraUserAccessToken",
            Self::ExchangeTeamsExtensionToken => "ExchangeTeamsExtensionUserAccessToken",
            Self::ExchangeTeamsUserToken => "ExchangeTeamsUserAccessToken",
            Self::GetDiscoveryDocument => "GetDiscoveryDocument",
            Self::GetEntraAssignment => "GetEntraAssignment",
            Self::GetIdentity => "GetIdentity",
            Self::GetKeySet => "GetKeySet",
            Self::GetTeamsExtensionAssignment => "GetTeamsExtensionAssignment",
            Self::IntrospectToken => "IntrospectToken",
            Self::IssueAccessToken | Self::IssueToken => "CreateToken",
            Self::ListEntraAssignments => "ListEntraAssignments",
            Self::PutEntraAssignment => "PutEntraAssignment",
            Self::PutTeamsExtensionAssignment => "PutTeamsExtensionAssignment",
            Self::ReadRevocations => "ReadRevocations",
            Self::RevokeAccessTokens | Self::UpdateIdentity => "RevokeToken",
            Self::UpdateEntraAssignments => "UpdateEntraAssignments",
        }
    }

    /// Whether the operation can issue an access token.
    fn mints(self) -> bool {
        matches!(
            self,
            Self::CreateIdentity
                | Self::ExchangeEntraToken
                | Self::ExchangeTeamsExtensionToken
                | Self::ExchangeTeamsUserToken
                | Self::IssueAccessToken
                | Self::IssueToken
        )
    }
}
