//! The members of a request.

use zeroize::Zeroizing;

use super::oauth_error::OAuthError;

/// The members of a request: first of the query, then of the body. The first member of a name counts.
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    pub(super) fn parse(query: &str, body: &[u8]) -> Self {
        let members = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(body));
        Self(members.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned()))).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::missing(name))
    }

    /// Whether a name has two members, which an authorization request must not have (RFC 6749 section 3.1).
    pub(super) fn has_duplicates(&self) -> bool {
        let mut names: Vec<_> = self.0.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair.first() == pair.last())
    }
}
