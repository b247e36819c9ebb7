//! The state that rotators share: the versions of the secret with their labels, and the pointer.

use std::fmt;

/// A version of the secret. The value of a version never changes, so a version and its key id are one thing here.
///
/// The token of a scheduled rotation is the exception: its value may be lost and made again under the same version id.
/// Each value of the token is a `Version` of its own, from 33 on. The number 32 is the token before it has a value, and
/// the name of the token in requests, which cannot distinguish its values either.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version(pub(super) u8);

/// The labels, by their place in [`World::labels`].
pub(super) const CURRENT: usize = 0;
pub(super) const PREVIOUS: usize = 1;
pub(super) const PENDING: usize = 2;
pub(super) const IN_FORCE: usize = 3;

/// Secrets Manager and the table.
///
/// A version without a label may be deleted at any time, at once or never. So the model does not list such versions: a
/// request for one may find it or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct World {
    /// The holder of each label, or none.
    pub(super) labels: [Version; 4],
    /// The value that the token had when it lost its last label.
    pub(super) left: Version,
    /// The version that the pointer names, whose public key it publishes. The model has no generation: a rotator only
    /// has to detect a write since its read.
    pub(super) pointer: Version,
}

/// A write to the secret or the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Write {
    /// Conditional: `fresh` while the pointer has not changed since it was read.
    Pointer {
        to: Version,
        fresh: bool,
    },
    /// Compare-and-swap of a label. A move to [`Version::NONE`] takes it off.
    StagingLabel {
        label: u8,
        from: Version,
        to: Version,
    },
    Value(Version),
}

impl Version {
    pub(super) const NONE: Self = Self(0);
    pub(super) const TOKEN: Self = Self(32);

    /// Whether both have one version id.
    pub(super) fn is(self, other: Self) -> bool {
        self == other || (self.is_token() && other.is_token())
    }

    pub(super) fn is_token(self) -> bool {
        self >= Self::TOKEN
    }

    /// This one, unless it has the id of `other`.
    pub(super) fn unless(self, other: Self) -> Self {
        if self.is(other) { Self::NONE } else { self }
    }
}

impl World {
    /// The version with this id, if it holds a label.
    pub(super) fn labelled(&self, id: Version) -> Option<Version> {
        let mut holders = self.labels.into_iter().filter(|holder| *holder != Version::NONE);
        holders.find(|holder| holder.is(id))
    }

    /// The value of the version with this id. `kept` decides whether a version without a label is still there.
    pub(super) fn value(&self, id: Version, kept: bool) -> Option<Version> {
        let unlabelled = if id.is_token() { self.left } else { id };
        let found = self.labelled(id).or(kept.then_some(unlabelled));
        found.filter(|version| *version != Version::NONE && *version != Version::TOKEN)
    }

    /// Does a write, with `kept` as in [`Self::value`]. Returns false if the write was refused.
    pub(super) fn write(&mut self, write: Write, kept: bool) -> bool {
        let token = self.labelled(Version::TOKEN);
        match write {
            Write::Pointer { fresh: false, .. } => return false,
            Write::Pointer { to, .. } => self.pointer = to,
            Write::StagingLabel { label, from, to } => {
                let holder = self.labels[usize::from(label)];
                let to = if to == Version::NONE { Some(to) } else { self.value(to, kept) };
                let Some(to) = to.filter(|_| holder.is(from)) else {
                    return false;
                };
                self.labels[usize::from(label)] = to;
                if usize::from(label) == CURRENT {
                    self.labels[PREVIOUS] = holder;
                    self.labels[PENDING] = self.labels[PENDING].unless(to);
                }
            }
            Write::Value(version) => {
                if version.is_token() && self.value(version, kept).is_some() {
                    return false;
                }
                self.labels[PENDING] = version;
            }
        }
        if self.labelled(Version::TOKEN).is_some() {
            self.left = Version::NONE;
        } else if let Some(token) = token.filter(|token| *token != Version::TOKEN) {
            self.left = token;
        }
        true
    }
}

impl Write {
    /// The version that the write needs. It matters whether this version is still there.
    pub(super) fn asks_for(self) -> Version {
        match self {
            Self::Pointer { .. } => Version::NONE,
            Self::StagingLabel { to, .. } => to,
            Self::Value(version) if version.is_token() => version,
            Self::Value(_) => Version::NONE,
        }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("-"),
            32 => f.write_str("T"),
            id @ 33.. => write!(f, "T{}", id - 32),
            id => write!(f, "{id}"),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [current, previous, pending, in_force] = self.labels;
        write!(f, "pointer {:?}, CURRENT {current:?}", self.pointer)?;
        write!(f, ", PREVIOUS {previous:?}, PENDING {pending:?}, IN_FORCE {in_force:?}")
    }
}
