//! A simulated API Gateway in front of a resource server, in both shapes. It builds the events of the authorizer and
//! applies its answers. Policies are evaluated by the rules of IAM and not compared as text.

use functions::authorizer::{self, AuthorizerError};
use identity::authorization::authorizer::Authorizer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// The kind of API in API Gateway: an HTTP API or a REST API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Http,
    Rest,
}

impl Shape {
    pub const BOTH: [Self; 2] = [Self::Http, Self::Rest];
}

/// The result of a request for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request reaches the resource server, with this context from the authorizer.
    Allowed(Value),
    /// Status 403.
    Forbidden,
    /// Status 401. Only a REST API can send it.
    Unauthorized,
    /// Status 500, because the authorizer failed.
    Failed,
}

impl Verdict {
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The status of the gateway's answer, if the request does not reach the resource server.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Allowed(_) => None,
            Self::Forbidden => Some(403),
            Self::Unauthorized => Some(401),
            Self::Failed => Some(500),
        }
    }
}

/// The ARN of the API, with its stage.
const API: &str = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1";

/// Characters that are percent-encoded in a path. RFC 3986 section 3.3 permits more unencoded characters, but these
/// tests do not use them.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// The event that a gateway builds from a request. `path` is decoded, and `authorization` holds the values of the
/// `Authorization` headers.
#[must_use]
pub fn event(shape: Shape, method: &str, path: &str, query: &str, authorization: &[&str]) -> Value {
    match shape {
        Shape::Http => json!({
            "version": "2.0",
            "type": "REQUEST",
            "routeArn": format!("{API}/{method}{path}"),
            "identitySource": authorization,
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": match authorization {
                [] => json!({"host": "chat.example.com"}),
                values => json!({"host": "chat.example.com", "authorization": values.join(",")}),
            },
            "requestContext": {"http": {"method": method, "path": path, "protocol": "HTTP/1.1"}, "stage": "$default"},
        }),
        Shape::Rest => json!({
            "type": "REQUEST",
            "methodArn": arn(method, path),
            "resource": "/{proxy+}",
            "path": utf8_percent_encode(path, IN_PATH).to_string(),
            "httpMethod": method,
            "headers": {"Host": "chat.example.com", "Authorization": authorization.last()},
            "multiValueHeaders": match authorization {
                [] => json!({"Host": ["chat.example.com"]}),
                values => json!({"Host": ["chat.example.com"], "Authorization": values}),
            },
            "queryStringParameters": parameters(query),
            "multiValueQueryStringParameters": null,
            "pathParameters": null,
            "stageVariables": null,
            "requestContext": {"stage": "v1", "httpMethod": method},
        }),
    }
}

fn parameters(query: &str) -> Value {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
}

/// Sends a request with a bearer token through the gateway.
pub async fn ask(authorizer: &Authorizer, shape: Shape, method: &str, path: &str, token: &str) -> Verdict {
    execute(authorizer, shape, event(shape, method, path, "", &[&format!("Bearer {token}")]), method, path)
        .await
}

/// Calls the authorizer with an event and applies its answer to the request.
pub async fn execute(
    authorizer: &Authorizer,
    shape: Shape,
    event: Value,
    method: &str,
    path: &str,
) -> Verdict {
    match (authorizer::handle(authorizer, event).await, shape) {
        (Ok(answer), Shape::Http) => simple(answer),
        (Ok(answer), Shape::Rest) => by_policy(&answer, method, path),
        (Err(AuthorizerError::Unauthorized), Shape::Rest) => Verdict::Unauthorized,
        (Err(_), _) => Verdict::Failed,
    }
}

/// Applies a simple response, as an HTTP API does.
#[must_use]
pub fn simple(answer: Value) -> Verdict {
    match answer["isAuthorized"].as_bool() {
        Some(true) => Verdict::Allowed(answer["context"].clone()),
        Some(false) => Verdict::Forbidden,
        None => Verdict::Failed,
    }
}

/// Applies a policy to a request, as a REST API does. The policy may come from the cache, for another request.
#[must_use]
pub fn by_policy(answer: &Value, method: &str, path: &str) -> Verdict {
    assert!(answer["principalId"].is_string(), "{answer}");
    let statements = answer["policyDocument"]["Statement"].as_array().unwrap();
    assert!(!statements.is_empty(), "a gateway refuses a policy without statements");
    let has = |effect: &str| {
        let with_effect = statements.iter().filter(|statement| statement["Effect"] == effect);
        with_effect
            .map(|statement| statement["Resource"].as_str().unwrap())
            .any(|pattern| matches(pattern.as_bytes(), arn(method, path).as_bytes()))
    };
    assert!(statements.iter().all(|statement| statement["Action"] == "execute-api:Invoke"), "{answer}");
    if has("Allow") && !has("Deny") {
        Verdict::Allowed(answer["context"].clone())
    } else {
        Verdict::Forbidden
    }
}

fn arn(method: &str, path: &str) -> String {
    format!("{API}/{method}{path}")
}

/// Whether a text matches a pattern of IAM. A star matches any text, and a question mark any one character.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            matches(rest, text) || text.split_first().is_some_and(|(_, tail)| matches(pattern, tail))
        }
        ([expected, rest @ ..], [found, tail @ ..]) => {
            (expected == found || *expected == b'?') && matches(rest, tail)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_the_rules_of_iam() {
        for (pattern, text, expected) in [
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/b/c", true),
            ("a/*/c", "a//c", true),
            ("a/*/c", "a/b/d", false),
            ("a/?", "a/b", true),
            ("a/?", "a/", false),
            ("a*", "a", true),
            ("a", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
