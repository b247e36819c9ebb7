//! The function `authorizer`, invoked as through Lambda's Invoke API: by a gateway on AWS, or by a resource server on
//! this machine. The caller is not authenticated. The reply only restates claims of the token in the event.

use bytes::Bytes;
use functions::authorizer;
use http::{HeaderValue, Method, Response, StatusCode};
use identity::api::reply;
use identity::authorization::authorizer::Authorizer;
use serde_json::{Value, json};

/// The path of `Invoke` for this function. No other function can be invoked.
pub(crate) const PATH: &str = "/2015-03-31/functions/authorizer/invocations";

const JSON: &str = "application/json";

/// Whether a request invokes the function.
pub(crate) fn is_invocation(method: &Method, path: &str) -> bool {
    method == Method::POST && path == PATH
}

/// The reply of Lambda: the function's result, or its error with the header `x-amz-function-error`.
pub(crate) async fn handle(authorizer: &Authorizer, event: &[u8]) -> Response<Bytes> {
    let event = serde_json::from_slice(event).unwrap_or(Value::Null);
    match authorizer::handle(authorizer, event).await {
        Ok(answer) => reply::json(StatusCode::OK, JSON, &answer),
        Err(error) => {
            let answer = json!({"errorType": error.code(), "errorMessage": error.to_string()});
            let mut reply = reply::json(StatusCode::OK, JSON, &answer);
            reply.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
            reply
        }
    }
}
