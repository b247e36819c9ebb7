//! Access tokens: what is in them, how they are made, when they are good.

pub mod claims;
mod header;
pub mod mint;
pub mod scope;
pub mod verify;

use zeroize::Zeroizing;

/// A signed access token in compact form. Closed: whoever holds it can act as its identity.
pub struct AccessToken(Zeroizing<String>);

impl AccessToken {
    /// The text, for the one reply that hands it out.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
