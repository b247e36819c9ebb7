//! A gateway in front of a resource server, in both shapes: it makes the authorizer's events and does what the
//! answers say. Policies are evaluated as IAM evaluates them, not compared.

use functions::authorizer::{self, AuthorizerError};
use identity::authorization::authorizer::Authorizer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// The kind of gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Http,
    Rest,
}

impl Shape {
    pub const BOTH: [Self; 2] = [Self::Http, Self::Rest];
}

/// What a client meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let through, with what the resource server is told.
    Allowed(Value),
    /// 403.
    Forbidden,
    /// 401; only a REST API can say it.
    Unauthorized,
    /// 500.
    Failed,
}

impl Verdict {
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The status of the gateway's answer, if it does not let the request through.
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

/// The API that policies are for.
const API: &str = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1";

/// Everything but what a path may hold as it stands (RFC 3986 section 3.3), of what these tests send.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// The event that a gateway makes of a request with these `Authorization` headers, its path decoded.
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

/// Asks the authorizer about a request with a bearer token, and does what it says.
pub async fn ask(authorizer: &Authorizer, shape: Shape, method: &str, path: &str, token: &str) -> Verdict {
    execute(authorizer, shape, event(shape, method, path, "", &[&format!("Bearer {token}")]), method, path)
        .await
}

/// Sends an event and does what the answer says.
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

/// What an HTTP API does with a simple response.
#[must_use]
pub fn simple(answer: Value) -> Verdict {
    match answer["isAuthorized"].as_bool() {
        Some(true) => Verdict::Allowed(answer["context"].clone()),
        Some(false) => Verdict::Forbidden,
        None => Verdict::Failed,
    }
}

/// What a REST API does with a policy, be it the policy for this request or one it kept.
#[must_use]
pub fn by_policy(answer: &Value, method: &str, path: &str) -> Verdict {
    assert!(answer["principalId"].is_string(), "{answer}");
    let statements = answer["policyDocument"]["Statement"].as_array().unwrap();
    assert!(!statements.is_empty(), "a gateway takes no policy without statements");
    let says = |effect: &str| {
        let of_effect = statements.iter().filter(|one| one["Effect"] == effect);
        of_effect
            .map(|one| one["Resource"].as_str().unwrap())
            .any(|pattern| stands_for(pattern.as_bytes(), arn(method, path).as_bytes()))
    };
    assert!(statements.iter().all(|one| one["Action"] == "execute-api:Invoke"), "{answer}");
    if says("Allow") && !says("Deny") {
        Verdict::Allowed(answer["context"].clone())
    } else {
        Verdict::Forbidden
    }
}

fn arn(method: &str, path: &str) -> String {
    format!("{API}/{method}{path}")
}

/// IAM's patterns: a star is any text, a question mark any one character.
fn stands_for(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            stands_for(rest, text)
                || text.split_first().is_some_and(|(_, further)| stands_for(pattern, further))
        }
        ([one, rest @ ..], [other, further @ ..]) => {
            (one == other || *one == b'?') && stands_for(rest, further)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_what_iam_says() {
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
            assert_eq!(stands_for(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
