//! Access tokens: their claims and scopes, minting and verification.

pub mod claims;
#[cfg(test)]
mod fake;
mod header;
pub mod mint;
pub mod scope;
pub mod verify;
pub mod watch;

use zeroize::Zeroizing;

/// A signed access token in compact form. A holder of the text can act as its identity, so the type has neither `Debug`
/// nor `Display`.
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// The text, for the reply that returns it to the client.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
