//! Tells resource servers which tokens have ended. Only the route table names its routes.

use std::error::Error;

use identity::api::functions::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    functions::boot::serve(&[Function::Revocations]).await
}
