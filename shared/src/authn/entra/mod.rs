//! Stub.
use crate::context::Clock;
use async_trait::async_trait;
use std::sync::Arc;
use uuid::Uuid;
#[derive(Clone, Default)]
pub struct EntraSettings {
    pub tenants: Vec<Uuid>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    Service,
    Teams,
    Clients,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Application,
    Delegated,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraToken {
    pub tenant: Uuid,
    pub object: Uuid,
    pub app: Uuid,
    pub permissions: Vec<String>,
    pub groups: Vec<Uuid>,
    pub kind: TokenKind,
    pub issued_at: i64,
    pub expires_at: i64,
    pub token_id: Option<String>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntraFault {
    #[error("expired")]
    Expired,
    #[error("permission")]
    Permission,
}
#[derive(Debug, thiserror::Error)]
pub enum EntraError {
    #[error(transparent)]
    Refused(EntraFault),
    #[error("unavailable")]
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
}
#[async_trait]
pub trait Fetch: Send + Sync {
    async fn get(&self, url: &str) -> Result<Vec<u8>, std::io::Error>;
}
pub struct Entra {
    settings: EntraSettings,
}
impl Entra {
    pub fn new(settings: EntraSettings, _fetch: Arc<dyn Fetch>, _clock: Arc<dyn Clock>) -> Self {
        Self { settings }
    }
    pub async fn verify(&self, _token: &str, _audience: Audience) -> Result<EntraToken, EntraError> {
        let _ = &self.settings;
        Err(EntraError::Refused(EntraFault::Expired))
    }
    pub fn allows(&self, _token: &EntraToken) -> bool {
        false
    }
}
impl EntraToken {
    /// Whether it is a user's token with one of these permissions.
    pub fn has_one_of(&self, permissions: &[&str]) -> bool {
        self.kind == TokenKind::Delegated
            && self.permissions.iter().any(|held| permissions.contains(&held.as_str()))
    }
}
