//! The error catalogue: one row for each error, with its status, code, message and target.
//!
//! Recorded wording is from docs/wire-contract.md#error-catalogue. Decision record 0006 explains the other rows.

use std::borrow::Cow;
use std::error::Error as StdError;

use http::StatusCode;
use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::api::limits::MAX_BODY;
use crate::authn::entra::{EntraError, EntraTokenError};
use crate::authn::{AUTHORIZATION_FORM, Denial, date};
use crate::error_chain::error_chain;
use crate::keys::KeyMaterialError;
use crate::keys::cache::KeyLoadError;
use crate::lifetime::Lifetime;
use crate::store::StoreError;
use crate::token::scope::{Scope, ScopeError};

/// A refused or failed request. The row numbers are those of docs/wire-contract.md#error-catalogue.
#[derive(Debug)]
pub enum Error {
    /// The request names more than one API version; the text lists them.
    ApiVersionAmbiguous(String),
    /// The request names no API version (row 19).
    ApiVersionUnspecified,
    /// The route does not have this version (row 18).
    ApiVersionUnsupported { uri: String, version: String },
    /// The requested assignment does not exist (row 22).
    AssignmentNotFound,
    /// The body is not a JSON object; the text names the fault and its place.
    BodyMalformed(String),
    /// The body has another media type than the route takes; the text names the right one.
    BodyMediaType(&'static str),
    /// The body is larger than [`MAX_BODY`].
    BodyTooLarge,
    /// The feed no longer has the ends after the reader's cursor.
    CursorUnknown,
    /// The caller is not authenticated or not authorized (rows 16 and 17).
    Denied(Denial),
    /// `expiresInMinutes` is outside its interval (rows 1 and 2).
    ExpiresInMinutesOutOfRange(i64),
    /// A member is not a GUID (rows 11 and 12).
    FieldFormat(Field),
    /// A member differs from the claim of the Entra token (rows 13 and 14).
    FieldMismatch(Field),
    /// A required member is missing (row 3).
    FieldRequired(Field),
    /// A member has the wrong type; the text names the right one.
    FieldType(Field, &'static str),
    /// A member has a value that is not one of the allowed values; the text lists them.
    FieldValue(Field, &'static str),
    /// The identifier in the path is not the raw id of an identity.
    IdentityMalformed,
    /// The identity was deleted or never existed.
    IdentityNotFound,
    /// The identity belongs to another resource (row 6).
    IdentityNotOwned,
    /// The service failed, through no fault of the caller.
    Internal(&'static str),
    /// The Entra token to exchange is not valid (row 8).
    InvalidAccessToken(EntraTokenError),
    /// The same in a version before 2022-06-01: the reply has no body (row 15).
    InvalidAccessTokenWithoutBody(EntraTokenError),
    /// The path does not have this method; the text lists the methods that it has.
    MethodNotAllowed(String),
    /// The path does not exist.
    RouteNotFound,
    /// A list of scopes is empty or has an unknown scope (row 4).
    Scopes(ScopeError),
    /// The body has no Entra token to exchange (row 7).
    TokenRequired,
    /// The state could not be read or written in time. A retry may succeed.
    Unavailable(Box<dyn StdError + Send + Sync>),
}

/// The members of request bodies, as error targets write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    After,
    AppId,
    ClientIds,
    ContinuationToken,
    CreateTokenWithScopes,
    CustomId,
    ExpiresInMinutes,
    MaxPageSize,
    ObjectId,
    PrincipalType,
    Scopes,
    TenantId,
    Token,
    TokensValidFrom,
    UserId,
    Wait,
}

/// The row of an error in the catalogue.
///
/// The message goes to the caller. The cause goes to the operator's log only.
pub struct ErrorRow {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable name, for programs.
    pub code: &'static str,
    /// The text for people.
    pub message: Cow<'static, str>,
    /// The member or parameter that the error is about. The contract writes it in Pascal case in the first
    /// validation layer, and mostly in camel case in the second.
    pub target: Option<Cow<'static, str>>,
    /// A header that belongs to the error: `Allow` or `Retry-After`. SDKs retry every reply that carries
    /// `Retry-After` (docs/wire-contract.md#retries).
    pub header: Option<(HeaderName, HeaderValue)>,
    /// Whether the reply carries `api-supported-versions`. A failure of the first validation layer does not
    /// carry it, except if the version is the fault (docs/wire-contract.md#validation-order).
    pub reports_versions: bool,
    pub form: ErrorForm,
    /// The cause, for the operator's log. It is built from closed texts, instants and valid host names, so it holds no
    /// key, token or signature.
    pub cause: Option<String>,
    /// The failed check of [`Error::Denied`], for the operator's log.
    pub denial: Option<&'static str>,
}

/// The form of the body of an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorForm {
    /// `{"error":{"code","message","target"?}}`, as ACS has it.
    Acs,
    /// `{"error","error_description"}`, as clients of introspection expect it (RFC 6749 section 5.2).
    OAuth,
    /// No body.
    Empty,
}

impl Field {
    /// The name in messages, and in targets of the first validation layer.
    fn pascal_case(self) -> &'static str {
        match self {
            Self::After => "After",
            Self::AppId => "AppId",
            Self::ClientIds => "ClientIds",
            Self::ContinuationToken => "ContinuationToken",
            Self::CreateTokenWithScopes => "CreateTokenWithScopes",
            Self::CustomId => "CustomId",
            Self::ExpiresInMinutes => "ExpiresInMinutes",
            Self::MaxPageSize => "MaxPageSize",
            Self::ObjectId => "ObjectId",
            Self::PrincipalType => "PrincipalType",
            Self::Scopes => "Scopes",
            Self::TenantId => "TenantId",
            Self::Token => "Token",
            Self::TokensValidFrom => "TokensValidFrom",
            Self::UserId => "UserId",
            Self::Wait => "Wait",
        }
    }

    /// The name in targets of the second validation layer.
    fn camel_case(self) -> String {
        let mut name = self.pascal_case().to_owned();
        if let Some(initial) = name.get_mut(..1) {
            initial.make_ascii_lowercase();
        }
        name
    }
}

impl Error {
    /// The error's row in the catalogue.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one row for each error")]
    pub fn row(&self) -> ErrorRow {
        match self {
            Self::ApiVersionAmbiguous(versions) => {
                let message = format!(
                    "The following API versions were requested: {versions}. At most, only a single API version \
                     may be specified. Please update the intended API version and retry the request."
                );
                ErrorRow::new(StatusCode::BAD_REQUEST, "AmbiguousApiVersion", message).versions()
            }
            Self::ApiVersionUnspecified => {
                let message = "An API version is required, but was not specified.";
                ErrorRow::new(StatusCode::BAD_REQUEST, "ApiVersionUnspecified", message).versions()
            }
            Self::ApiVersionUnsupported { uri, version } => {
                let message = format!(
                    "The HTTP resource that matches the request URI '{uri}' does not support the API version \
                     '{version}'."
                );
                ErrorRow::new(StatusCode::BAD_REQUEST, "UnsupportedApiVersion", message).versions()
            }
            Self::AssignmentNotFound => {
                let message = "The assignment does not exist.";
                ErrorRow::new(StatusCode::NOT_FOUND, "AssignmentNotFound", message).versions()
            }
            Self::BodyMalformed(fault) => {
                ErrorRow::validation(format!("The request body is not valid: {fault}."))
            }
            Self::BodyMediaType(expected) => {
                let message = format!("The media type of the request body must be {expected}.");
                ErrorRow::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
            }
            Self::BodyTooLarge => {
                let message = format!("The request body is larger than {MAX_BODY} bytes.");
                ErrorRow::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", message)
            }
            Self::CursorUnknown => {
                let message =
                    "The feed doesn't have every end after this cursor. Please start without a cursor.";
                ErrorRow::new(StatusCode::GONE, "CursorUnknown", message)
            }
            Self::Denied(denial) => {
                let row = match denied_credential(denial) {
                    Some(message) => ErrorRow::invalid_client(message),
                    None => ErrorRow::new(StatusCode::UNAUTHORIZED, "Denied", denied(denial)),
                };
                ErrorRow { denial: Some(denial.name()), ..row.cause(denial.to_string()) }
            }
            Self::ExpiresInMinutesOutOfRange(minutes) => {
                let message = format!(
                    "ExpiresInMinutes value {minutes} is invalid. Value must be within the [{}, {}] interval.",
                    Lifetime::MIN,
                    Lifetime::MAX
                );
                ErrorRow::validation(message).target(Field::ExpiresInMinutes.pascal_case()).versions()
            }
            Self::FieldFormat(field) => {
                let message = format!("Provided {} has invalid format.", field.pascal_case());
                ErrorRow::validation(message).target(field.camel_case()).versions()
            }
            Self::FieldMismatch(field) => {
                let message = match field {
                    Field::AppId => "AAD application is not the expected one.",
                    _ => "Provided AAD token issued for unexpected user.",
                };
                ErrorRow::validation(message).target(field.camel_case()).versions()
            }
            Self::FieldRequired(field) => {
                let message = format!("{0}: The {0} field is required.", field.pascal_case());
                ErrorRow::validation(message).target(field.pascal_case())
            }
            Self::FieldType(field, expected) => {
                let message = format!("{0}: The {0} field must be {expected}.", field.pascal_case());
                ErrorRow::validation(message).target(field.pascal_case())
            }
            Self::FieldValue(field, expected) => {
                let message = format!("{} must be {expected}.", field.pascal_case());
                ErrorRow::validation(message).target(field.camel_case()).versions()
            }
            Self::IdentityMalformed => {
                ErrorRow::validation("Provided identity has invalid format.").target("id").versions()
            }
            Self::IdentityNotFound => {
                let message = "Provided identity doesn't exist.";
                ErrorRow::new(StatusCode::NOT_FOUND, "IdentityNotFound", message).versions()
            }
            Self::IdentityNotOwned => {
                let message = "Provided identity doesn't belong to the resource.";
                ErrorRow::new(StatusCode::UNAUTHORIZED, "IdentityNotOwned", message).versions()
            }
            Self::Internal(cause) => {
                let message = "The service failed to process the request.";
                ErrorRow::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message).cause(*cause)
            }
            Self::InvalidAccessToken(fault) => {
                let message = "Provided access token is not valid.";
                ErrorRow::new(StatusCode::UNAUTHORIZED, "InvalidAccessToken", message)
                    .cause(fault.to_string())
            }
            Self::InvalidAccessTokenWithoutBody(fault) => {
                let row = ErrorRow::new(StatusCode::UNAUTHORIZED, "InvalidAccessToken", "");
                ErrorRow { form: ErrorForm::Empty, ..row.cause(fault.to_string()) }
            }
            Self::MethodNotAllowed(allowed) => {
                let message = format!("The path allows only: {allowed}.");
                ErrorRow::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
                    .header(ALLOW, allowed)
            }
            Self::RouteNotFound => {
                ErrorRow::new(StatusCode::NOT_FOUND, "NotFound", "The path does not exist.")
            }
            Self::Scopes(fault) => {
                let message = match fault {
                    ScopeError::Empty => Cow::from("Invalid scopes - Scopes field is required."),
                    ScopeError::Unknown(name) => unknown_scope(name).into(),
                };
                ErrorRow::validation(message).target("scopes").versions()
            }
            Self::TokenRequired => {
                ErrorRow::validation("The body is either missing or doesn't contain any token.")
            }
            Self::Unavailable(source) => {
                let message = "The service is temporarily unavailable. Please try again.";
                ErrorRow::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
                    .header(RETRY_AFTER, "1")
                    .cause(error_chain(source.as_ref()))
            }
        }
    }
}

impl ErrorRow {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            target: None,
            header: None,
            reports_versions: false,
            form: ErrorForm::Acs,
            cause: None,
            denial: None,
        }
    }

    /// The refusal of a client's credential (RFC 7662 section 2.3; RFC 6749 section 5.2).
    fn invalid_client(message: &'static str) -> Self {
        let row = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", message);
        Self { form: ErrorForm::OAuth, ..row.header(WWW_AUTHENTICATE, CHALLENGE) }
    }

    fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    fn target(self, target: impl Into<Cow<'static, str>>) -> Self {
        Self { target: Some(target.into()), ..self }
    }

    fn header(self, name: HeaderName, value: &str) -> Self {
        Self { header: HeaderValue::from_str(value).ok().map(|value| (name, value)), ..self }
    }

    fn versions(self) -> Self {
        Self { reports_versions: true, ..self }
    }

    fn cause(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }
}

/// The challenge for HTTP Basic (RFC 7617 section 2).
const CHALLENGE: &str = r#"Basic realm="communication-identity", charset="UTF-8""#;

/// The message of a refusal that concerns the credential of a resource server.
fn denied_credential(denial: &Denial) -> Option<&'static str> {
    match denial {
        Denial::Credential => Some("The client id or the client secret is wrong."),
        Denial::CredentialRequired => Some("The request has no credential."),
        Denial::PlainHttp => Some("A client secret is accepted over HTTPS only."),
        _ => None,
    }
}

/// The message names a fault only if the caller can see it in the request itself. Host, key and signature stay
/// unexplained.
fn denied(denial: &Denial) -> Cow<'static, str> {
    match denial {
        Denial::ContentHash => "Request 'x-ms-content-sha256' differs from generated content hash.".into(),
        Denial::Date => {
            let form = date::EXAMPLE;
            format!("Denied by the resource provider. The signed date must have the form '{form}'.").into()
        }
        Denial::Parts | Denial::SignedHeaders => format!(
            "Denied by the resource provider. The Authorization header must have the form '{AUTHORIZATION_FORM}'."
        )
        .into(),
        Denial::Skew { window, server, request } => format!(
            "The given request could not be resolved.\nThe time difference between the originating client and the \
             server is greater than the allowed margin of {} minutes.\nThe time of the server is {}. The time of \
             the request is {}.",
            window.minutes(),
            date::format(*server),
            date::format(*request)
        )
        .into(),
        _ => "Denied by the resource provider.".into(),
    }
}

/// The message repeats at most 64 characters of the scope.
fn unknown_scope(name: &str) -> String {
    let known = Scope::ALL.map(Scope::as_str).join(", ");
    let start: String = name.chars().take(64).collect();
    format!("Invalid scopes - '{start}' is not a scope. Scopes are: {known}.")
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<EntraError> for Error {
    /// For the caller's own token. A fault of a token to exchange is [`Self::InvalidAccessToken`].
    fn from(error: EntraError) -> Self {
        match error {
            EntraError::Refused(fault) | EntraError::OtherPurpose(fault, _) => {
                Self::Denied(Denial::Entra(fault))
            }
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
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use time::macros::datetime;

    use super::*;
    use crate::api::body::{CUSTOM_ID, NOT_IN_THE_FUTURE};
    use crate::lifetime::DateWindow;

    /// Each row of docs/errors.md, with placeholders for the texts of a request.
    fn samples() -> Vec<(&'static str, Error)> {
        vec![
            ("no API version", Error::ApiVersionUnspecified),
            (
                "unknown API version",
                Error::ApiVersionUnsupported {
                    uri: "https://<host>/identities".into(),
                    version: "<version>".into(),
                },
            ),
            ("several API versions", Error::ApiVersionAmbiguous("<versions>".into())),
            ("body is not a JSON object", Error::BodyMalformed("<fault and place>".into())),
            ("required member is missing", Error::FieldRequired(Field::Scopes)),
            ("member has the wrong type", Error::FieldType(Field::Scopes, "a list of strings")),
            (
                "member has the wrong type",
                Error::FieldType(Field::CreateTokenWithScopes, "a list of strings"),
            ),
            ("member has the wrong type", Error::FieldType(Field::ExpiresInMinutes, "a 32-bit integer")),
            ("list of scopes is empty", Error::Scopes(ScopeError::Empty)),
            ("unknown scope", Error::Scopes(ScopeError::Unknown("<scope>".into()))),
            ("lifetime outside its interval", Error::ExpiresInMinutesOutOfRange(59)),
            ("identifier is malformed", Error::IdentityMalformed),
            ("caller is not authenticated", Error::Denied(Denial::Signature)),
            ("body differs from its hash", Error::Denied(Denial::ContentHash)),
            ("signed date has another form", Error::Denied(Denial::Date)),
            ("`Authorization` lacks a part, or has an unknown one", Error::Denied(Denial::Parts)),
            (
                "date is more than 5 minutes off",
                Error::Denied(Denial::Skew {
                    window: DateWindow::default(),
                    server: datetime!(2024-03-01 12:00 UTC),
                    request: datetime!(2024-03-01 11:50 UTC),
                }),
            ),
            ("identity belongs to another resource", Error::IdentityNotOwned),
            ("identity does not exist", Error::IdentityNotFound),
            ("path does not exist", Error::RouteNotFound),
            ("path does not have the method", Error::MethodNotAllowed("<methods>".into())),
            ("body is too large", Error::BodyTooLarge),
            ("body has another media type", Error::BodyMediaType("<media type>")),
            ("credential of a resource server is wrong", Error::Denied(Denial::Credential)),
            (
                "caller sends no credential to a route of resource servers",
                Error::Denied(Denial::CredentialRequired),
            ),
            ("credential comes over plain HTTP from another machine", Error::Denied(Denial::PlainHttp)),
            ("body has no token to exchange", Error::TokenRequired),
            ("token to exchange is not valid", Error::InvalidAccessToken(EntraTokenError::Expired)),
            (
                "token to exchange is not valid, before 2022-06-01",
                Error::InvalidAccessTokenWithoutBody(EntraTokenError::Expired),
            ),
            ("member is not a GUID", Error::FieldFormat(Field::AppId)),
            ("member is not a GUID", Error::FieldFormat(Field::UserId)),
            ("application differs from the token's", Error::FieldMismatch(Field::AppId)),
            ("user differs from the token's", Error::FieldMismatch(Field::UserId)),
            ("member has an unknown value", Error::FieldValue(Field::PrincipalType, "<values>")),
            ("custom id is empty or too long", Error::FieldValue(Field::CustomId, CUSTOM_ID)),
            ("instant is not a date and time", Error::FieldFormat(Field::TokensValidFrom)),
            ("instant is in the future", Error::FieldValue(Field::TokensValidFrom, NOT_IN_THE_FUTURE)),
            ("assignment does not exist", Error::AssignmentNotFound),
            ("cursor of the feed is unknown", Error::CursorUnknown),
            ("service failed", Error::Internal("cause")),
            ("state cannot be read or written", Error::Unavailable("cause".into())),
        ]
    }

    #[test]
    fn document_lists_every_row() {
        let mut table = String::from(
            "| When | Status | `code` | `message` | `target` | Versions |\n|---|---|---|---|---|---|\n",
        );
        for (when, error) in samples() {
            let ErrorRow { status, code, message, target, reports_versions, form, .. } = error.row();
            let (status, message) = (status.as_u16(), message.replace('\n', "\\n"));
            if form == ErrorForm::Empty {
                let _ = writeln!(table, "| {when} | {status} | no body | | | |");
                continue;
            }
            let target = target.map(|target| format!("`{target}`")).unwrap_or_default();
            let versions = if reports_versions { "yes" } else { "" };
            let _ = writeln!(table, "| {when} | {status} | `{code}` | `{message}` | {target} | {versions} |");
        }
        let document = include_str!("../../../docs/errors.md");
        assert!(document.contains(&table), "docs/errors.md must contain this table:\n{table}");
    }

    #[test]
    fn openapi_document_lists_every_code() {
        let document: serde_json::Value =
            serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        let rows = samples().into_iter().map(|(_, error)| error.row());
        let codes: BTreeSet<_> =
            rows.filter(|row| row.form != ErrorForm::OAuth).map(|row| row.code).collect();
        let place = "/components/schemas/Error/properties/error/properties/code/enum";
        assert_eq!(document.pointer(place), Some(&serde_json::json!(codes)));
    }

    #[test]
    fn causes_reach_only_the_operator() {
        for error in [Error::Internal("cause"), Error::Unavailable("cause".into())] {
            let row = error.row();
            assert_eq!(row.cause.as_deref(), Some("cause"));
            assert!(!row.message.contains("cause"));
        }
    }

    #[test]
    fn only_temporary_failures_have_retry_after() {
        for (_, error) in samples() {
            let row = error.row();
            let retries = row.header.is_some_and(|header| header == (RETRY_AFTER, HeaderValue::from(1)));
            assert_eq!(retries, row.status == StatusCode::SERVICE_UNAVAILABLE, "{error:?}");
        }
    }
}
