//! Replies of the control API.

use bytes::Bytes;
use http::{Response, StatusCode};
use identity::api::reply;
use serde_json::{Value, json};

pub(super) fn error(status: StatusCode, message: &str) -> Response<Bytes> {
    json_reply(status, &json!({"error": {"message": message}}))
}

pub(super) fn json_reply(status: StatusCode, body: &Value) -> Response<Bytes> {
    reply::json(status, "application/json", body)
}
