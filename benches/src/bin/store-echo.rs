//! A minimal JSON server that reads the store once for each request. It may also make or verify one signature.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use benches::raw::{MESSAGE, RawKey};
use benches::store_call::StoreCall;
use identity::keys::Algorithm;
use serde_json::Value;
use tokio::net::TcpListener;

struct Floor {
    call: StoreCall,
    crypto: Crypto,
}

enum Crypto {
    Nothing,
    Sign(RawKey),
    Verify { key: RawKey, signature: Vec<u8> },
}

impl Crypto {
    fn parse(arguments: &[String]) -> Self {
        let [name, algorithm] = arguments else { return Self::Nothing };
        let algorithm: Algorithm = algorithm.parse().unwrap();
        let key = RawKey::generate(algorithm);
        match name.as_str() {
            "sign" => Self::Sign(key),
            "verify" => Self::Verify { signature: key.sign(&MESSAGE), key },
            _ => panic!("the cryptography is sign or verify"),
        }
    }

    fn run(&self) {
        match self {
            Self::Nothing => {}
            Self::Sign(key) => drop(black_box(key.sign(&MESSAGE))),
            Self::Verify { key, signature } => assert!(key.verifies(&MESSAGE, signature)),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), std::io::Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [state, identity, crypto @ ..] = arguments.as_slice() else {
        panic!(
            "the arguments are a state directory, an identity, and optionally a cryptography and its algorithm"
        )
    };
    let call = StoreCall::over(Path::new(state), identity);
    let floor = Arc::new(Floor { call, crypto: Crypto::parse(crypto) });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("HTTP on http://localhost:{}/", listener.local_addr()?.port());
    let listener = listener.tap_io(|stream| {
        // The local server does the same.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().fallback(echo).with_state(floor)).await
}

async fn echo(State(floor): State<Arc<Floor>>, Json(value): Json<Value>) -> Json<Value> {
    floor.call.call().await;
    floor.crypto.run();
    Json(value)
}
