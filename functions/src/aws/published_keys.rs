//! The published access keys of development servers. THESE KEYS ARE PUBLIC, and the same on every machine. A deployed
//! function refuses them, because anyone could mint tokens with them.

use identity::secrets::Secret;

/// The primary and the secondary key, as in a connection string.
pub const ACCESS_KEYS: [&str; 2] = [
    "cHVibGlzaGVkLXByaW1hcnkta2V5LWZvci1kZXZlbG9wbWVudC1vbmx5LWRvLW5vdC11c2UtaXQtaW4tcHJvZA==",
    "cHVibGlzaGVkLXNlY29uZGFyeS1rZXktZm9yLWRldmVsb3BtZW50LW9ubHktbm90LWluLXByb2R1Y3Rpb24hIQ==",
];

/// Whether a host may use the published access keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedKeys {
    /// A deployment: a secret that holds one of the keys cannot be read.
    Refused,
    /// The local server, whose development mode has these keys.
    Accepted,
}

/// The secret holds a published key.
#[derive(Debug, thiserror::Error)]
#[error("the secret holds a published development key; give the deployment access keys of its own")]
pub struct PublishedKeyError;

impl PublishedKeys {
    /// Checks a secret that was read.
    ///
    /// # Errors
    /// [`PublishedKeyError`].
    pub(super) fn check(self, secret: &Secret) -> Result<(), PublishedKeyError> {
        let holds = |key: &str| secret.expose().windows(key.len()).any(|part| part == key.as_bytes());
        match self {
            Self::Refused if ACCESS_KEYS.into_iter().any(holds) => Err(PublishedKeyError),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use identity::keys::access::AccessKeys;
    use identity::testing::SeededRandom;

    use super::*;

    #[test]
    fn deployments_refuse_published_keys() {
        let [primary, secondary] = ACCESS_KEYS;
        let published = AccessKeys::from_encoded(primary, secondary).unwrap().to_document();
        let own = AccessKeys::generate(&SeededRandom::new(1));
        let [(_, own_key), _] = own.each();
        let half = AccessKeys::from_encoded(&own_key.encoded(), secondary).unwrap().to_document();
        for document in [&published, &half] {
            assert!(PublishedKeys::Refused.check(document).is_err());
            assert!(PublishedKeys::Accepted.check(document).is_ok());
        }
        assert!(PublishedKeys::Refused.check(&own.to_document()).is_ok());
    }
}
