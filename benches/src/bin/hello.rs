//! A minimal Lambda function in Rust: the floor of a start.

use std::convert::Infallible;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let echo = |event: LambdaEvent<Value>| async move { Ok::<_, Infallible>(event.payload) };
    lambda_runtime::run(service_fn(echo)).await
}
