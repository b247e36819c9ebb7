//! The operations that commands call, with the API version of current SDKs.

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

const VERSION: &str = "api-version=2023-10-01";

/// The unreserved characters of RFC 3986 section 2.3 stay. SDKs encode the colons of an id too.
const IN_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A call of an operation. No `Debug`: the body may hold a token.
pub struct Call {
    pub method: Method,
    /// Path and query below the endpoint.
    pub target: String,
    pub body: Zeroizing<String>,
}

impl Call {
    fn new(method: Method, path: &str, body: Option<&Value>) -> Self {
        let body = Zeroizing::new(body.map(Value::to_string).unwrap_or_default());
        Self { method, target: format!("{path}?{VERSION}"), body }
    }

    fn on_user(method: Method, user: &str, verb: &str, body: Option<&Value>) -> Self {
        Self::new(method, &format!("/identities/{}{verb}", utf8_percent_encode(user, IN_SEGMENT)), body)
    }

    /// Creates a user.
    #[must_use]
    pub fn create_user() -> Self {
        Self::new(Method::POST, "/identities", Some(&json!({})))
    }

    /// Creates a user and a token. Without `minutes` the service chooses the lifetime.
    #[must_use]
    pub fn create_user_and_token(scopes: &[String], minutes: Option<u32>) -> Self {
        let body = with_minutes(json!({"createTokenWithScopes": scopes}), minutes);
        Self::new(Method::POST, "/identities", Some(&body))
    }

    /// Deletes a user and revokes all tokens of the user.
    #[must_use]
    pub fn delete_user(user: &str) -> Self {
        Self::on_user(Method::DELETE, user, "", None)
    }

    /// Issues a token for a user.
    #[must_use]
    pub fn issue_token(user: &str, scopes: &[String], minutes: Option<u32>) -> Self {
        let body = with_minutes(json!({"scopes": scopes}), minutes);
        Self::on_user(Method::POST, user, "/:issueAccessToken", Some(&body))
    }

    /// Revokes all tokens of a user.
    #[must_use]
    pub fn revoke_tokens(user: &str) -> Self {
        Self::on_user(Method::POST, user, "/:revokeAccessTokens", None)
    }

    /// Exchanges the Entra token of a Teams user.
    #[must_use]
    pub fn exchange_teams_token(aad_token: &str, client: &str, aad_user: &str) -> Self {
        let body = json!({"token": aad_token, "appId": client, "userId": aad_user});
        Self::new(Method::POST, "/teamsUser/:exchangeAccessToken", Some(&body))
    }
}

fn with_minutes(mut body: Value, minutes: Option<u32>) -> Value {
    if let (Some(minutes), Value::Object(members)) = (minutes, &mut body) {
        members.insert("expiresInMinutes".to_owned(), minutes.into());
    }
    body
}
