//! The function `authorizer`, invoked as Lambda's Invoke API invokes it: what a gateway does on AWS, and what a
//! resource server on this machine can do instead. Nobody is authenticated: the answer speaks of the token that
//! the event holds, and says less of it than the token does.

use bytes::Bytes;
use functions::authorizer;
use http::{HeaderValue, Method, Response};
use identity::authorization::authorizer::Authorizer;
use serde_json::{Value, json};

/// `Invoke`, for the one function that can be invoked.
pub(crate) const PATH: &str = "/2015-03-31/functions/authorizer/invocations";

/// Whether this is a request to invoke it.
pub(crate) fn is_asked(method: &Method, path: &str) -> bool {
    method == Method::POST && path == PATH
}

/// What Lambda answers: the function's answer, or its error under a header that says so.
pub(crate) async fn handle(authorizer: &Authorizer, event: &[u8]) -> Response<Bytes> {
    let event = serde_json::from_slice(event).unwrap_or(Value::Null);
    match authorizer::handle(authorizer, event).await {
        Ok(answer) => reply(&answer),
        Err(error) => {
            let mut reply = reply(&json!({"errorType": error.code(), "errorMessage": error.to_string()}));
            reply.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
            reply
        }
    }
}

fn reply(answer: &Value) -> Response<Bytes> {
    let mut reply = Response::new(answer.to_string().into());
    reply.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    reply
}
