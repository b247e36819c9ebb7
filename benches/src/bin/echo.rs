//! A minimal JSON server in Rust: the floor of a request.

use std::net::Ipv4Addr;

use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), std::io::Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("HTTP on http://localhost:{}/", listener.local_addr()?.port());
    let listener = listener.tap_io(|stream| {
        // The local server does the same.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().fallback(echo)).await
}

async fn echo(Json(value): Json<Value>) -> Json<Value> {
    Json(value)
}
