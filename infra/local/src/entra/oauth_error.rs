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

    pub(super) fn invalid_grant(parameter: &str) -> Self {
        let text = format!("The provided value for the input parameter '{parameter}' is not valid.");
        Self::bad("invalid_grant", 70_000, text)
    }

    pub(super) fn expired_refresh_token() -> Self {
        Self::bad("invalid_grant", 700_082, "The refresh token has expired due to inactivity.")
    }

    pub(super) fn expired_grant() -> Self {
        let text = "The provided authorization code or refresh token has expired due to inactivity. Send a new \
                    interactive authorization request for this user and resource.";
        Self::bad("invalid_grant", 70_008, text)
    }

    pub(super) fn redeemed_code() -> Self {
        let text = "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an \
                    existing refresh token.";
        Self::bad("invalid_grant", 54_005, text)
    }

    pub(super) fn other_redirect_uri(given: &str, first: &str) -> Self {
        let text = format!(
            "The reply address '{given}' does not match the reply address '{first}' provided when requesting \
             Authorization code."
        );
        Self::bad("invalid_grant", 500_112, text)
    }

    pub(super) fn no_verifier() -> Self {
        let text = "The code_verifier does not match the code_challenge supplied in the authorization request for \
                    PKCE.";
        Self::bad("invalid_grant", 50_148, text)
    }

    pub(super) fn wrong_verifier() -> Self {
        let text =
            "The Code_Verifier does not match the code_challenge supplied in the authorization request.";
        Self::bad("invalid_grant", 501_481, text)
    }

    pub(super) fn malformed() -> Self {
        Self::bad("invalid_request", 9_002_313, "Invalid request. Request is malformed or invalid.")
    }

    pub(super) fn unknown_redirect_uri(uri: &str, client: Uuid) -> Self {
        let text = format!(
            "The redirect URI '{uri}' specified in the request does not match the redirect URIs configured for the \
             application '{client}'."
        );
        Self::bad("invalid_request", 50_011, text)
    }

    pub(super) fn unsupported_response_type(response_type: &str) -> Self {
        let text = format!("response_type '{response_type}' is not enabled for the application.");
        Self::bad("unsupported_response_type", 700_054, text)
    }

    pub(super) fn unsupported_prompt() -> Self {
        Self::bad("invalid_request", 90_023, "Unsupported 'prompt' value.")
    }

    pub(super) fn no_challenge() -> Self {
        let text = "Proof Key for Code Exchange is required for cross-origin authorization code redemption.";
        Self::bad("invalid_request", 9_002_325, text)
    }

    pub(super) fn challenge_method() -> Self {
        Self::bad("invalid_request", 50_149, "Invalid Code_Challenge_method parameter.")
    }

    pub(super) fn challenge_size() -> Self {
        Self::bad("invalid_request", 501_491, "Invalid size of Code_Challenge parameter.")
    }

    pub(super) fn no_session() -> Self {
        let text = "Session information is not sufficient for single-sign-on.";
        Self::bad("login_required", 50_058, text)
    }

    pub(super) fn expired_page() -> Self {
        Self::bad("invalid_request", 50_089, "Authentication failed due to flow token expired.")
    }

    pub(super) fn disabled() -> Self {
        Self::bad("invalid_grant", 50_057, "The user account is disabled.")
    }

    pub(super) fn no_consent(client: Uuid) -> Self {
        let text = format!(
            "The user or administrator has not consented to use the application with ID '{client}'. Send an \
             interactive authorization request for this user and resource."
        );
        Self::bad("invalid_grant", 65_001, text)
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

    /// The error for a redirect URI. `invalid_grant` exists only at the token endpoint.
    pub(super) fn at_authorize(&self) -> &'static str {
        match (self.error, self.code) {
            ("invalid_grant", 65_001) => "consent_required",
            ("invalid_grant", _) => "access_denied",
            (error, _) => error,
        }
    }

    /// The text with its code, for people.
    pub(super) fn description(&self, now: OffsetDateTime, trace: Uuid, correlation: Uuid) -> String {
        let (code, text, timestamp) = (self.code, &self.text, timestamp(now));
        format!("AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}")
    }

    /// The body of the answer.
    pub(super) fn to_json(&self, now: OffsetDateTime, trace: Uuid, correlation: Uuid) -> Value {
        let mut body = json!({
            "error": self.error,
            "error_description": self.description(now, trace, correlation),
            "error_codes": [self.code],
            "timestamp": timestamp(now),
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
        });
        if self.code == 65_001
            && let Some(members) = body.as_object_mut()
        {
            members.insert("suberror".to_owned(), "consent_required".into());
        }
        body
    }
}

fn timestamp(now: OffsetDateTime) -> String {
    now.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z")).unwrap_or_default()
}

/// The token cannot be signed.
impl From<KeyMaterialError> for OAuthError {
    fn from(fault: KeyMaterialError) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, error: "temporarily_unavailable", code: 90_033, text: format!("{fault}.") }
    }
}
