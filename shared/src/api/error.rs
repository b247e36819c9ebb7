//! The error catalogue: every refusal, its status, code, message and target. Nothing else makes them up.
//!
//! Recorded wording is from docs/wire-contract.md#error-catalogue, and the rest is decision record 0006.
//! The message for the caller ([`Error::message`]) and the cause ([`Error::cause`]) are separate, because
//! the cause goes to the operator's log only.

use std::error::Error as StdError;
use std::fmt;

use http::StatusCode;

use crate::api::limits::MAX_BODY;
use crate::authn::Denial;
use crate::authn::entra::{EntraError, EntraTokenError};
use crate::error_chain::error_chain;
use crate::keys::KeyMaterialError;
use crate::keys::cache::KeyLoadError;
use crate::lifetime::Lifetime;
use crate::store::StoreError;
use crate::token::scope::{Scope, ScopeError};

/// A refused or failed request. Rows are those of docs/wire-contract.md#error-catalogue.
#[derive(Debug)]
pub enum Error {
    /// An assignment that is asked for does not exist (row 22).
    AssignmentNotFound,
    /// More than one api version is named.
    ApiVersionAmbiguous(String),
    /// No api version is named (row 19).
    ApiVersionUnspecified,
    /// The route does not have this version (row 18).
    ApiVersionUnsupported { path: String, version: String },
    /// The body is no JSON object.
    BodyMalformed(String),
    /// The body is over [`MAX_BODY`].
    BodyTooLarge,
    /// The caller is not who it must be (rows 16 and 17).
    Denied(Denial),
    /// `expiresInMinutes` is outside its interval (rows 1 and 2).
    ExpiresInMinutesOutOfRange(i64),
    /// A required member is missing (row 3).
    FieldRequired(Field),
    /// A member is no GUID (rows 11 and 12).
    FieldFormat(Field),
    /// A member is not what the Entra token says (rows 13 and 14).
    FieldMismatch(Field),
    /// A member has the wrong type.
    FieldType(Field, &'static str),
    /// A member has a value that is none of its own.
    FieldValue(Field, &'static str),
    /// The id in the path is no raw id of an identity.
    IdentityMalformed,
    /// The identity was deleted or never existed.
    IdentityNotFound,
    /// The identity belongs to another resource (row 6).
    IdentityNotOwned,
    /// The service itself failed. Never the caller's doing.
    Internal(&'static str),
    /// The Entra token to exchange is not good (row 8).
    InvalidAccessToken(EntraTokenError),
    /// The path exists, but not with this method; the text lists those it has.
    MethodNotAllowed(String),
    /// No such path.
    RouteNotFound,
    /// A list of scopes names none, or an unknown one (row 4).
    Scopes(ScopeError),
    /// There is no Entra token to exchange (row 7).
    TokenRequired,
    /// What decides could not be read or written in time; trying again may succeed.
    Unavailable(Box<dyn StdError + Send + Sync>),
}

/// The members of request bodies, as error targets spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    AppId,
    ClientIds,
    CreateTokenWithScopes,
    ExpiresInMinutes,
    ObjectId,
    PrincipalType,
    Scopes,
    TenantId,
    Token,
    UserId,
}

impl Field {
    /// The name in messages and targets of the first validation layer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppId => "AppId",
            Self::ClientIds => "ClientIds",
            Self::CreateTokenWithScopes => "CreateTokenWithScopes",
            Self::ExpiresInMinutes => "ExpiresInMinutes",
            Self::ObjectId => "ObjectId",
            Self::PrincipalType => "PrincipalType",
            Self::Scopes => "Scopes",
            Self::TenantId => "TenantId",
            Self::Token => "Token",
            Self::UserId => "UserId",
        }
    }

    /// The name in targets of the second validation layer.
    fn camel_case(self) -> &'static str {
        match self {
            Self::AppId => "appId",
            Self::ClientIds => "clientIds",
            Self::CreateTokenWithScopes => "createTokenWithScopes",
            Self::ExpiresInMinutes => "expiresInMinutes",
            Self::ObjectId => "objectId",
            Self::PrincipalType => "principalType",
            Self::Scopes => "scopes",
            Self::TenantId => "tenantId",
            Self::Token => "token",
            Self::UserId => "userId",
        }
    }
}

impl Error {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::ApiVersionAmbiguous(_)
            | Self::ApiVersionUnspecified
            | Self::ApiVersionUnsupported { .. }
            | Self::BodyMalformed(_)
            | Self::ExpiresInMinutesOutOfRange(_)
            | Self::FieldFormat(_)
            | Self::FieldMismatch(_)
            | Self::FieldRequired(_)
            | Self::FieldType(..)
            | Self::FieldValue(..)
            | Self::IdentityMalformed
            | Self::Scopes(_)
            | Self::TokenRequired => StatusCode::BAD_REQUEST,
            Self::Denied(_) | Self::IdentityNotOwned | Self::InvalidAccessToken(_) => {
                StatusCode::UNAUTHORIZED
            }
            Self::AssignmentNotFound | Self::IdentityNotFound | Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::ApiVersionAmbiguous(_) => "AmbiguousApiVersion",
            Self::ApiVersionUnspecified => "ApiVersionUnspecified",
            Self::ApiVersionUnsupported { .. } => "UnsupportedApiVersion",
            Self::AssignmentNotFound => "AssignmentNotFound",
            Self::BodyMalformed(_)
            | Self::ExpiresInMinutesOutOfRange(_)
            | Self::FieldFormat(_)
            | Self::FieldMismatch(_)
            | Self::FieldRequired(_)
            | Self::FieldType(..)
            | Self::FieldValue(..)
            | Self::IdentityMalformed
            | Self::Scopes(_)
            | Self::TokenRequired => "ValidationError",
            Self::InvalidAccessToken(_) => "InvalidAccessToken",
            Self::BodyTooLarge => "RequestBodyTooLarge",
            Self::Denied(_) => "Denied",
            Self::IdentityNotFound => "IdentityNotFound",
            Self::IdentityNotOwned => "IdentityNotOwned",
            Self::Internal(_) => "InternalServerError",
            Self::MethodNotAllowed(_) => "MethodNotAllowed",
            Self::RouteNotFound => "NotFound",
            Self::Unavailable(_) => "ServiceUnavailable",
        }
    }

    /// What the caller is told. `host` is the public host of the deployment.
    #[must_use]
    pub fn message(&self, host: &dyn fmt::Display) -> String {
        match self {
            Self::ApiVersionAmbiguous(versions) => format!(
                "The following API versions were requested: {versions}. At most, only a single API version \
                 may be specified. Please update the intended API version and retry the request."
            ),
            Self::ApiVersionUnspecified => "An API version is required, but was not specified.".to_owned(),
            Self::ApiVersionUnsupported { path, version } => format!(
                "The HTTP resource that matches the request URI 'https://{host}{path}' does not support the \
                 API version '{version}'."
            ),
            Self::AssignmentNotFound => "The assignment does not exist.".to_owned(),
            Self::BodyMalformed(fault) => format!("The request body is not valid: {fault}."),
            Self::BodyTooLarge => format!("The request body is larger than {MAX_BODY} bytes."),
            Self::Denied(Denial::Skew(window)) => format!(
                "The given request could not be resolved.\nThe time difference between the originating \
                 client and the server is greater than the allowed margin of {} minutes.",
                window.minutes()
            ),
            Self::Denied(_) => "Denied by the resource provider.".to_owned(),
            Self::ExpiresInMinutesOutOfRange(minutes) => format!(
                "ExpiresInMinutes value {minutes} is invalid. Value must be within the [{}, {}] interval.",
                Lifetime::MIN,
                Lifetime::MAX
            ),
            Self::FieldFormat(field) => format!("Provided {} has invalid format.", field.as_str()),
            Self::FieldMismatch(Field::AppId) => "AAD application is not the expected one.".to_owned(),
            Self::FieldMismatch(_) => "Provided AAD token issued for unexpected user.".to_owned(),
            Self::FieldRequired(field) => format!("{0}: The {0} field is required.", field.as_str()),
            Self::FieldType(field, expected) => {
                format!("{0}: The {0} field must be {expected}.", field.as_str())
            }
            Self::FieldValue(field, expected) => format!("{} must be {expected}.", field.as_str()),
            Self::InvalidAccessToken(_) => "Provided access token is not valid.".to_owned(),
            Self::IdentityMalformed => "Provided identity has invalid format.".to_owned(),
            Self::IdentityNotFound => "Provided identity doesn't exist.".to_owned(),
            Self::IdentityNotOwned => "Provided identity doesn't belong to the resource.".to_owned(),
            Self::Internal(_) => "The service failed to process the request.".to_owned(),
            Self::MethodNotAllowed(allowed) => format!("The path allows only: {allowed}."),
            Self::RouteNotFound => "The path does not exist.".to_owned(),
            Self::Scopes(ScopeError::Empty) => "Invalid scopes - Scopes field is required.".to_owned(),
            Self::Scopes(ScopeError::Unknown(name)) => unknown_scope(name),
            Self::TokenRequired => "The body is either missing or doesn't contain any token.".to_owned(),
            Self::Unavailable(_) => "The service is temporarily unavailable. Please try again.".to_owned(),
        }
    }

    /// The member or parameter the error is about. Its spelling is the contract's: Pascal case from the
    /// first validation layer, mostly camel case from the second.
    #[must_use]
    pub fn target(&self) -> Option<&'static str> {
        match self {
            Self::ExpiresInMinutesOutOfRange(_) => Some(Field::ExpiresInMinutes.as_str()),
            Self::FieldRequired(field) | Self::FieldType(field, _) => Some(field.as_str()),
            Self::FieldFormat(field) | Self::FieldMismatch(field) | Self::FieldValue(field, _) => {
                Some(field.camel_case())
            }
            Self::IdentityMalformed => Some("id"),
            Self::Scopes(_) => Some("scopes"),
            _ => None,
        }
    }

    /// Whether the reply carries `api-supported-versions`. A failure of the first validation layer does not
    /// carry it (docs/wire-contract.md#validation-order), except if the version is the fault.
    #[must_use]
    pub fn reports_versions(&self) -> bool {
        matches!(
            self,
            Self::ApiVersionAmbiguous(_)
                | Self::ApiVersionUnspecified
                | Self::ApiVersionUnsupported { .. }
                | Self::AssignmentNotFound
                | Self::ExpiresInMinutesOutOfRange(_)
                | Self::FieldFormat(_)
                | Self::FieldMismatch(_)
                | Self::FieldValue(..)
                | Self::IdentityMalformed
                | Self::IdentityNotFound
                | Self::IdentityNotOwned
                | Self::Scopes(_)
        )
    }

    /// Seconds after which to try again. SDKs retry every reply that carries it
    /// (docs/wire-contract.md#retries).
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        matches!(self, Self::Unavailable(_)).then_some(1)
    }

    /// Why, for the operator's log. Built from closed texts: no key, token or signature can be in it.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Denied(denial) => Some(denial.to_string()),
            Self::InvalidAccessToken(fault) => Some(fault.to_string()),
            Self::Internal(cause) => Some((*cause).to_owned()),
            Self::Unavailable(source) => Some(error_chain(source.as_ref())),
            _ => None,
        }
    }
}

fn unknown_scope(name: &str) -> String {
    let known = Scope::ALL.map(Scope::as_str).join(", ");
    let shown: String = name.chars().take(64).collect();
    format!("Invalid scopes - '{shown}' is not a scope. Scopes are: {known}.")
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<EntraError> for Error {
    /// Of a caller's own token; of one to exchange see [`Self::InvalidAccessToken`].
    fn from(error: EntraError) -> Self {
        match error {
            EntraError::Refused(fault) => Self::Denied(Denial::Entra(fault)),
            EntraError::Unavailable(source) => Self::Unavailable(source),
        }
    }
}

impl From<ScopeError> for Error {
    fn from(fault: ScopeError) -> Self {
        Self::Scopes(fault)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

impl From<KeyLoadError> for Error {
    fn from(error: KeyLoadError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

impl From<KeyMaterialError> for Error {
    fn from(fault: KeyMaterialError) -> Self {
        Self::Unavailable(Box::new(fault))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::lifetime::DateWindow;

    /// One of each, with stand-ins where a request's own text goes.
    fn samples() -> Vec<(&'static str, Error)> {
        vec![
            ("no api version", Error::ApiVersionUnspecified),
            (
                "unknown api version",
                Error::ApiVersionUnsupported { path: "/identities".into(), version: "<version>".into() },
            ),
            ("several api versions", Error::ApiVersionAmbiguous("<versions>".into())),
            ("body is no JSON object", Error::BodyMalformed("<fault and place>".into())),
            ("required member missing", Error::FieldRequired(Field::Scopes)),
            ("member of the wrong type", Error::FieldType(Field::Scopes, "a list of strings")),
            ("member of the wrong type", Error::FieldType(Field::CreateTokenWithScopes, "a list of strings")),
            ("member of the wrong type", Error::FieldType(Field::ExpiresInMinutes, "a 32-bit integer")),
            ("no scope", Error::Scopes(ScopeError::Empty)),
            ("unknown scope", Error::Scopes(ScopeError::Unknown("<scope>".into()))),
            ("life outside its interval", Error::ExpiresInMinutesOutOfRange(59)),
            ("identifier is none", Error::IdentityMalformed),
            ("caller not authenticated", Error::Denied(Denial::Signature)),
            ("date more than 5 minutes off", Error::Denied(Denial::Skew(DateWindow::default()))),
            ("identity of another resource", Error::IdentityNotOwned),
            ("no such identity", Error::IdentityNotFound),
            ("no such path", Error::RouteNotFound),
            ("no such method on the path", Error::MethodNotAllowed("<methods>".into())),
            ("body too large", Error::BodyTooLarge),
            ("no token to exchange", Error::TokenRequired),
            ("token to exchange is not good", Error::InvalidAccessToken(EntraTokenError::Expired)),
            ("member is no GUID", Error::FieldFormat(Field::AppId)),
            ("member is no GUID", Error::FieldFormat(Field::UserId)),
            ("application is another", Error::FieldMismatch(Field::AppId)),
            ("user is another", Error::FieldMismatch(Field::UserId)),
            ("member has no such value", Error::FieldValue(Field::PrincipalType, "<values>")),
            ("no such assignment", Error::AssignmentNotFound),
            ("fault of the service", Error::Internal("cause")),
            ("state cannot be read or written", Error::Unavailable("cause".into())),
        ]
    }

    /// Fails to compile when a variant is added: then it needs a sample, and a line in the document.
    fn assert_sampled(error: &Error) {
        match error {
            Error::ApiVersionAmbiguous(_)
            | Error::ApiVersionUnspecified
            | Error::ApiVersionUnsupported { .. }
            | Error::AssignmentNotFound
            | Error::BodyMalformed(_)
            | Error::BodyTooLarge
            | Error::Denied(_)
            | Error::ExpiresInMinutesOutOfRange(_)
            | Error::FieldFormat(_)
            | Error::FieldMismatch(_)
            | Error::FieldRequired(_)
            | Error::FieldType(..)
            | Error::FieldValue(..)
            | Error::InvalidAccessToken(_)
            | Error::TokenRequired
            | Error::IdentityMalformed
            | Error::IdentityNotFound
            | Error::IdentityNotOwned
            | Error::Internal(_)
            | Error::MethodNotAllowed(_)
            | Error::RouteNotFound
            | Error::Scopes(_)
            | Error::Unavailable(_) => {}
        }
    }

    #[test]
    fn the_document_is_the_catalogue() {
        let mut table = String::from(
            "| When | Status | `code` | `message` | `target` | Versions |\n|---|---|---|---|---|---|\n",
        );
        for (when, error) in samples() {
            assert_sampled(&error);
            let message = error.message(&"<host>").replace('\n', "\\n");
            let target = error.target().map(|target| format!("`{target}`")).unwrap_or_default();
            let versions = if error.reports_versions() { "yes" } else { "" };
            let (status, code) = (error.status().as_u16(), error.code());
            let _ = writeln!(table, "| {when} | {status} | `{code}` | `{message}` | {target} | {versions} |");
        }
        let document = include_str!("../../../docs/errors.md");
        assert!(document.contains(&table), "docs/errors.md must hold this table:\n{table}");
    }

    #[test]
    fn the_codes_are_those_of_the_openapi_document() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let codes: std::collections::BTreeSet<_> = samples().iter().map(|(_, error)| error.code()).collect();
        let place = "/components/schemas/Error/properties/error/properties/code/enum";
        assert_eq!(document.pointer(place), Some(&serde_json::json!(codes)));
    }

    #[test]
    fn causes_are_told_to_the_operator_only() {
        for error in [Error::Internal("cause"), Error::Unavailable("cause".into())] {
            assert_eq!(error.cause().as_deref(), Some("cause"));
            assert!(!error.message(&"host").contains("cause"));
        }
    }

    #[test]
    fn only_what_may_succeed_later_says_when() {
        for (_, error) in samples() {
            assert_eq!(error.retry_after().is_some(), error.status() == StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
