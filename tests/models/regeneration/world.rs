//! The state that the operators share: the versions of both secrets with their labels, and the pointer.

use std::fmt;

/// The places of the secrets.
pub(super) const ACCESS: usize = 0;
pub(super) const SIGNING: usize = 1;

/// The places of the labels.
pub(super) const CURRENT: usize = 0;
pub(super) const PREVIOUS: usize = 1;
pub(super) const PENDING: usize = 2;
pub(super) const IN_FORCE: usize = 3;

pub(super) const NAMES: [&str; 2] = ["access keys", "signing keys"];
pub(super) const LABELS: [&str; 4] = ["CURRENT", "PREVIOUS", "PENDING", "IN_FORCE"];

/// A version of a secret. Its value never changes, so the version and its document are one thing here.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version {
    /// The sequence number of the document; 0 stands for no version.
    pub(super) sequence: u8,
    /// The ids of the keys of both slots.
    pub(super) keys: [u8; 2],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// The holders of the labels, by secret.
    pub(super) labels: [[Version; 4]; 2],
    /// The versions that the pointer names. They serve as its generation too, because no pair comes back.
    pub(super) pointer: [Version; 2],
}

impl World {
    pub(super) fn holds(&self, secret: usize, version: Version) -> bool {
        self.labels[secret].contains(&version)
    }

    pub(super) fn store(&mut self, secret: usize, version: Version) {
        self.labels[secret][PENDING] = version;
    }

    pub(super) fn move_label(&mut self, secret: usize, label: usize, from: Version, to: Version) -> bool {
        let known = to == Version::default() || self.holds(secret, to);
        let labels = &mut self.labels[secret];
        if labels[label] != from || !known {
            return false;
        }
        labels[label] = to;
        if label == CURRENT {
            labels[PREVIOUS] = from;
            if labels[PENDING] == to {
                labels[PENDING] = Version::default();
            }
        }
        true
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { sequence: 0, .. } => f.write_str("-"),
            Self { sequence, keys: [primary, secondary] } => write!(f, "{sequence}({primary},{secondary})"),
        }
    }
}
