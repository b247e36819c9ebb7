//! Issues access tokens. Its routes are in the route table, nowhere else.

use std::error::Error;

use identity::api::functions::Function;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    functions::boot::serve(&[Function::Token]).await
}
