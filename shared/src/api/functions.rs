//! The Lambda functions that serve routes, and the secrets that each one may read.

use crate::secrets::SecretName;

/// A function: one binary with one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Introspect,
    Keys,
    Revocations,
    Revoke,
    TeamsExchange,
    Token,
    User,
}

impl Function {
    /// Every function that serves routes.
    pub const ALL: &'static [Self] = &[
        Self::User,
        Self::Token,
        Self::Revoke,
        Self::TeamsExchange,
        Self::Introspect,
        Self::Keys,
        Self::Revocations,
    ];

    /// The only secrets that this function may read. Minting needs signing keys. Service callers need access
    /// keys. Publishing and the feed for resource servers need none.
    #[must_use]
    pub fn secrets(self) -> &'static [SecretName] {
        match self {
            Self::TeamsExchange | Self::Token | Self::User => {
                &[SecretName::AccessKeys, SecretName::SigningKeys]
            }
            Self::Introspect | Self::Revoke => &[SecretName::AccessKeys],
            Self::Keys | Self::Revocations => &[],
        }
    }

    /// The name of the function's binary.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Introspect => "introspect",
            Self::Keys => "keys",
            Self::Revocations => "revocations",
            Self::Revoke => "revoke",
            Self::TeamsExchange => "teams-exchange",
            Self::Token => "token",
            Self::User => "user",
        }
    }
}
