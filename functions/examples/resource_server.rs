//! A resource server with axum. It admits requests by their access token.
//!
//! ```text
//! ISSUER=... RESOURCE_ID=... TABLE_NAME=... cargo run --package functions --example resource_server -- online
//! ISSUER=... RESOURCE_ID=... JWKS_URI=...   cargo run --package functions --example resource_server -- offline
//! ```
//!
//! *Online* reads the table for each token, with strong consistency. So a revoked token is refused at once. This mode
//! needs `dynamodb:BatchGetItem` on the table, and no secret. *Offline* needs only the key set. A revoked token is
//! accepted until it expires. A token of a replaced key is accepted until the key set is fetched again. If no fetch
//! succeeds for two minutes, the server refuses every token.

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

/// The verification of tokens, in one of the two modes.
#[derive(Clone)]
enum TokenCheck {
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

/// The longest age of a key set before the next fetch.
const MAX_AGE: Duration = Duration::from_secs(KEY_SET_MAX_AGE as u64);

/// A refusal, with the header that belongs to it. The answers are those of the other kits (infra/kits).
type Refusal = (StatusCode, [(&'static str, &'static str); 1]);

const NO_TOKEN: Refusal = (StatusCode::UNAUTHORIZED, [("WWW-Authenticate", "Bearer")]);
const INVALID: Refusal =
    (StatusCode::UNAUTHORIZED, [("WWW-Authenticate", r#"Bearer error="invalid_token""#)]);
const FORBIDDEN: Refusal =
    (StatusCode::FORBIDDEN, [("WWW-Authenticate", r#"Bearer error="insufficient_scope""#)]);
/// The state or the keys cannot be read, so there is no decision.
const UNREADABLE: Refusal = (StatusCode::SERVICE_UNAVAILABLE, [("Retry-After", "1")]);

/// The caller.
struct User {
    identity: RawId,
    scopes: ScopeSet,
}

impl TokenCheck {
    async fn admit(&self, headers: &HeaderMap) -> Result<User, Refusal> {
        let Ok(Scheme::Bearer(token)) = Scheme::of(headers) else { return Err(NO_TOKEN) };
        match self {
            Self::Online(verifier) => match verifier.verify(token).await {
                Ok(active) => {
                    Ok(User { identity: active.identity.clone(), scopes: active.claims.scopes.clone() })
                }
                Err(VerifyError::Refused(_)) => Err(INVALID),
                Err(_) => Err(UNREADABLE),
            },
            Self::Offline(keys) => match keys.read().await {
                keys if !keys.is_fresh() => Err(UNREADABLE),
                keys => match keys.verifier.verify(token) {
                    Ok(offline) => {
                        Ok(User { identity: offline.identity.clone(), scopes: offline.claims.scopes.clone() })
                    }
                    Err(_) => Err(INVALID),
                },
            },
        }
    }
}

/// A handler with a [`User`] runs only for a valid token.
impl<S: Send + Sync> FromRequestParts<S> for User
where
    TokenCheck: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        TokenCheck::from_ref(state).admit(&parts.headers).await
    }
}

impl User {
    /// The permit. For [`Permit::ByRoomRole`], the handler checks the user's role in the room.
    fn may(&self, capability: Capability) -> Result<Permit, Refusal> {
        match capability.permit(&self.scopes) {
            Permit::Refused => Err(FORBIDDEN),
            permit => Ok(permit),
        }
    }
}

async fn list_threads(user: User) -> Result<Json<Value>, Refusal> {
    user.may(Capability::ChatListThreads)?;
    Ok(Json(json!({"value": [], "of": user.identity.to_string()})))
}

async fn create_thread(user: User) -> Result<StatusCode, Refusal> {
    user.may(Capability::ChatCreateThread)?;
    Ok(StatusCode::CREATED)
}

async fn mode(State(check): State<TokenCheck>) -> &'static str {
    match check {
        TokenCheck::Online(_) => "online",
        TokenCheck::Offline(_) => "offline",
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment enters here")]
async fn fetch(expected: Expected, clock: Arc<System>) -> Result<KeySet, Box<dyn Error + Send + Sync>> {
    let fetched_at = clock.uptime();
    let document = HttpsFetch::new().get(&std::env::var("JWKS_URI")?).await?;
    let verifier = OfflineVerifier::new(expected, VerifyingKeys::from_jwks(&document)?, clock.clone());
    Ok(KeySet { verifier, clock, fetched_at })
}

/// Fetches the key set again and again, because keys are replaced.
async fn refresh(expected: Expected, clock: Arc<System>, keys: Arc<RwLock<KeySet>>) {
    loop {
        tokio::time::sleep(MAX_AGE).await;
        if let Ok(fresh) = fetch(expected.clone(), clock.clone()).await {
            *keys.write().await = fresh;
        }
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the address is the output of this program")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let check = match std::env::args().nth(1).as_deref() {
        Some("online") => TokenCheck::Online(Arc::new(boot::verifier()?)),
        Some("offline") => {
            let (expected, clock) = (boot::expected()?, Arc::new(System::new()));
            let keys = Arc::new(RwLock::new(fetch(expected.clone(), clock.clone()).await?));
            tokio::spawn(refresh(expected, clock, Arc::clone(&keys)));
            TokenCheck::Offline(keys)
        }
        _ => return Err("the first argument must be online or offline".into()),
    };
    let routes = Router::new()
        .route("/", get(mode))
        .route("/chat/threads", get(list_threads))
        .route("/chat/threads", post(create_thread))
        .with_state(check);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}
