//! Appends the ends of tokens to the revocation feed, from the stream of the state table.

use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    functions::boot::serve_recording().await
}
