//! A minimal JSON server that reads the store once for each request.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use benches::store_call::StoreCall;
use serde_json::Value;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), std::io::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state, identity] = arguments.as_slice() else {
        panic!("the arguments are a state directory and an identity")
    };
    let call = Arc::new(StoreCall::over(Path::new(state), identity));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("HTTP on http://localhost:{}/", listener.local_addr()?.port());
    let listener = listener.tap_io(|stream| {
        // The local server does the same.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().fallback(echo).with_state(call)).await
}

async fn echo(State(call): State<Arc<StoreCall>>, Json(value): Json<Value>) -> Json<Value> {
    call.call().await;
    Json(value)
}
