//! A resource server with axum: it lets requests in by their access token.
//!
//! ```text
//! ISSUER=... RESOURCE_ID=... TABLE_NAME=... cargo run --package functions --example resource_server -- online
//! ISSUER=... RESOURCE_ID=... JWKS_URI=...   cargo run --package functions --example resource_server -- offline
//! ```
//!
//! *Online* asks the table for each token, strongly consistent: what was revoked is refused at once. It needs
//! `dynamodb:BatchGetItem` on the table, and no secret. *Offline* needs nothing but the key set: what was revoked
//! is accepted until it expires, and what was rotated until the key set is fetched again. A set that could not be
//! fetched again for two minutes is trusted no longer.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use functions::boot;
use functions::entra_http::HttpsFetch;
use functions::system::System;
use identity::authn::Scheme;
use identity::authn::entra::Fetch as _;
use identity::authorization::capability::{Capability, Permit};
use identity::ids::RawId;
use identity::keys::signing::VerifyingKeys;
use identity::lifetime::KEY_SET_MAX_AGE;
use identity::runtime::Clock as _;
use identity::token::scope::ScopeSet;
use identity::token::verify::{Expected, OfflineVerifier, Verifier, VerifyError};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::RwLock;

/// What tells good tokens from others.
#[derive(Clone)]
enum Door {
    Online(Arc<Verifier>),
    Offline(Arc<RwLock<KeySet>>),
}

/// A fetched key set, with its verifier.
struct KeySet {
    verifier: OfflineVerifier,
    clock: Arc<System>,
    fetched_at: Duration,
}

impl KeySet {
    fn is_fresh(&self) -> bool {
        self.clock.uptime().saturating_sub(self.fetched_at) < 2 * MAX_AGE
    }
}

/// How long a key set may be kept.
const MAX_AGE: Duration = Duration::from_secs(KEY_SET_MAX_AGE as u64);

/// Whoever made the request.
struct User {
    identity: RawId,
    scopes: ScopeSet,
}

impl Door {
    async fn admit(&self, headers: &HeaderMap) -> Result<User, StatusCode> {
        let Ok(Scheme::Bearer(token)) = Scheme::of(headers) else { return Err(StatusCode::UNAUTHORIZED) };
        match self {
            Self::Online(verifier) => match verifier.verify(token).await {
                Ok(active) => {
                    Ok(User { identity: active.identity.clone(), scopes: active.claims.scopes.clone() })
                }
                Err(VerifyError::Refused(_)) => Err(StatusCode::UNAUTHORIZED),
                // What decides cannot be read: neither yes nor no.
                Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
            },
            Self::Offline(keys) => match keys.read().await {
                keys if !keys.is_fresh() => Err(StatusCode::SERVICE_UNAVAILABLE),
                keys => match keys.verifier.verify(token) {
                    Ok(offline) => {
                        Ok(User { identity: offline.identity.clone(), scopes: offline.claims.scopes.clone() })
                    }
                    Err(_) => Err(StatusCode::UNAUTHORIZED),
                },
            },
        }
    }
}

/// A handler that takes a [`User`] cannot be reached without a good token.
impl<S: Send + Sync> FromRequestParts<S> for User
where
    Door: FromRef<S>,
{
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, StatusCode> {
        Door::from_ref(state).admit(&parts.headers).await
    }
}

impl User {
    fn may(&self, capability: Capability) -> Result<(), StatusCode> {
        match capability.permit(&self.scopes) {
            Permit::Granted => Ok(()),
            // A server with rooms would ask for the user's role here.
            Permit::ByRoomRole | Permit::Refused => Err(StatusCode::FORBIDDEN),
        }
    }
}

async fn list_threads(user: User) -> Result<Json<Value>, StatusCode> {
    user.may(Capability::ChatListThreads)?;
    Ok(Json(json!({"value": [], "of": user.identity.to_string()})))
}

async fn create_thread(user: User) -> Result<StatusCode, StatusCode> {
    user.may(Capability::ChatCreateThread)?;
    Ok(StatusCode::CREATED)
}

async fn mode(State(door): State<Door>) -> &'static str {
    match door {
        Door::Online(_) => "online",
        Door::Offline(_) => "offline",
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment enters")]
async fn fetch(expected: Expected, clock: Arc<System>) -> Result<KeySet, Box<dyn Error + Send + Sync>> {
    let fetched_at = clock.uptime();
    let document = HttpsFetch::new().get(&std::env::var("JWKS_URI")?).await?;
    let verifier = OfflineVerifier::new(expected, VerifyingKeys::from_jwks(&document)?, clock.clone());
    Ok(KeySet { verifier, clock, fetched_at })
}

/// Learns of replaced keys.
async fn refresh(expected: Expected, clock: Arc<System>, keys: Arc<RwLock<KeySet>>) {
    loop {
        tokio::time::sleep(MAX_AGE).await;
        if let Ok(fresh) = fetch(expected.clone(), clock.clone()).await {
            *keys.write().await = fresh;
        }
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "whoever starts it needs the address")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let door = match std::env::args().nth(1).as_deref() {
        Some("online") => Door::Online(Arc::new(boot::verifier()?)),
        Some("offline") => {
            let (expected, clock) = (boot::expected()?, Arc::new(System::new()));
            let keys = Arc::new(RwLock::new(fetch(expected.clone(), clock.clone()).await?));
            tokio::spawn(refresh(expected, clock, Arc::clone(&keys)));
            Door::Offline(keys)
        }
        _ => return Err("online or offline?".into()),
    };
    let routes = Router::new()
        .route("/", get(mode))
        .route("/chat/threads", get(list_threads))
        .route("/chat/threads", post(create_thread))
        .with_state(door);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}
