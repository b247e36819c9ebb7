//! Authorizes requests for the API Gateway of a resource server.

use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    functions::boot::serve_authorizer().await
}
