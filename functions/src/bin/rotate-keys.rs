//! Replaces keys: on Secrets Manager's schedule, or when an operator invokes it.

use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    functions::boot::serve_rotation().await
}
