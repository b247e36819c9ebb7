//! Secret bytes. They are never printed, and their memory is zeroed on drop.

use zeroize::Zeroizing;

/// Bytes that must stay secret. The type has no `Debug`, no `Display` and no serialisation. Its memory is zeroed on
/// drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the code that passes them to a key or to a secret store.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}
