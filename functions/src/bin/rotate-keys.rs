//! Replaces keys on the schedule of Secrets Manager or on a call by an operator.

use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    functions::boot::serve_rotation().await
}
