//! The errors, with the codes of Entra and nearly its texts, because clients and people rely on them.

use http::{Method, StatusCode};
use identity::keys::KeyMaterialError;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

/// The reason that a request gets no token. It holds no secret, because clients show it.
pub(super) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    code: u32,
    text: String,
}

impl OAuthError {
    fn bad(error: &'static str, code: u32, text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error, code, text: text.into() }
    }

    /// The client is not authenticated.
    fn client(code: u32, text: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, error: "invalid_client", code, text: text.into() }
    }

    pub(super) fn missing(parameter: &str) -> Self {
        let text = format!("The request body must contain the following parameter: '{parameter}'.");
        Self::bad("invalid_request", 900_144, text)
    }

    pub(super) fn not_posted(method: &Method) -> Self {
        let text = format!("The endpoint only accepts POST requests. Received a {method} request.");
        Self::bad("invalid_request", 900_561, text)
    }

    pub(super) fn unknown_tenant(tenant: &str) -> Self {
        Self::bad("invalid_request", 90_002, format!("Tenant '{tenant}' not found."))
    }

    pub(super) fn unknown_client(id: &str, tenant: Uuid) -> Self {
        let text = format!("Application with identifier '{id}' was not found in the directory '{tenant}'.");
        Self::bad("unauthorized_client", 700_016, text)
    }

    pub(super) fn wrong_secret(client: Uuid) -> Self {
        Self::client(7_000_215, format!("Invalid client secret provided for app '{client}'."))
    }

    pub(super) fn no_secret() -> Self {
        let text =
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        Self::client(7_000_218, text)
    }

    pub(super) fn secret_of_public_client() -> Self {
        let text = "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.";
        Self::client(700_025, text)
    }

    pub(super) fn public_client_alone() -> Self {
        let text = "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' \
                    grant type.";
        Self::client(7_000_216, text)
    }

    pub(super) fn unsupported_grant(grant: &str) -> Self {
        let text = format!("The app requested an unsupported grant type '{grant}'.");
        Self::bad("unsupported_grant_type", 70_003, text)
    }

    pub(super) fn unknown_user(name: &str, tenant: Uuid) -> Self {
        let text = format!("The user account {name} does not exist in the {tenant} directory.");
        Self::bad("invalid_grant", 50_034, text)
    }

    pub(super) fn wrong_password() -> Self {
        let text = "Error validating credentials due to invalid username or password.";
        Self::bad("invalid_grant", 50_126, text)
    }

    pub(super) fn wrong_refresh_token() -> Self {
        let text = "The provided value for the input parameter 'refresh_token' is not valid.";
        Self::bad("invalid_grant", 70_000, text)
    }

    pub(super) fn unknown_resource(resource: &str) -> Self {
        let text = format!("The resource principal named {resource} was not found in the tenant.");
        Self::bad("invalid_resource", 500_011, text)
    }

    pub(super) fn unknown_permission(name: &str, api: &str) -> Self {
        let text = format!(
            "The application requested for scope '{name}' that doesn't exist on the resource '{api}'."
        );
        Self::bad("invalid_client", 650_053, text)
    }

    pub(super) fn several_resources() -> Self {
        let text = "Provided value for the input parameter scope is not valid because it contains more than one \
                    resource.";
        Self::bad("invalid_request", 28_000, text)
    }

    pub(super) fn no_scope() -> Self {
        let text =
            "Provided value for the input parameter scope cannot be empty when requesting an access token.";
        Self::bad("invalid_request", 28_003, text)
    }

    pub(super) fn default_among_others() -> Self {
        let text = "The provided value for the input parameter 'scope' is not valid. .default scope can't be \
                    combined with resource-specific scopes.";
        Self::bad("invalid_scope", 70_011, text)
    }

    pub(super) fn not_by_default() -> Self {
        let text = "The provided value for scope is not valid. Client credential flows must have a scope value \
                    with /.default suffixed to the resource identifier (application ID URI).";
        Self::bad("invalid_scope", 1_002_012, text)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> u32 {
        self.code
    }

    /// The body of the answer.
    pub(super) fn to_json(&self, now: OffsetDateTime, trace: Uuid, correlation: Uuid) -> Value {
        let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
        let timestamp = now.format(form).unwrap_or_default();
        let (error, code, text) = (self.error, self.code, &self.text);
        let description = format!(
            "AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
        );
        json!({
            "error": error,
            "error_description": description,
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
        })
    }
}

/// The token cannot be signed.
impl From<KeyMaterialError> for OAuthError {
    fn from(fault: KeyMaterialError) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, error: "temporarily_unavailable", code: 90_033, text: format!("{fault}.") }
    }
}
