//! The version id of a secret.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::runtime::Random;

/// A version id of a secret in Secrets Manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionId(Arc<str>);

impl VersionId {
    /// A new version id: a random GUID, as Secrets Manager makes them.
    #[must_use]
    pub fn random(random: &dyn Random) -> Self {
        Self::new(random.guid().to_string())
    }

    /// A version id that Secrets Manager returned.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
