//! The store port: identities and the pointer record.
//!
//! Two implementations pass one suite ([`contract`]): DynamoDB, and the in-memory one for tests. What
//! the rules are, and why each condition is there, is decision record 0002.

pub mod assignments;
#[cfg(any(test, feature = "testing"))]
pub mod contract;

use std::error::Error as StdError;
use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::ids::RawId;
use crate::keys::pointer::Pointer;
use crate::runtime::Random;
use crate::store::assignments::{Book, BookName};

/// Counts an identity's revocations, from 1. A token carries the one it was minted at and is active only
/// while the store still holds exactly that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

/// What the store holds for an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityState {
    /// No record.
    Absent,
    /// Deleted: no identity for anyone any more.
    Deleted,
    /// An identity at this revision.
    Live(Revision),
}

/// One strongly consistent look at what decides a request.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub pointer: Pointer,
    /// [`IdentityState::Absent`] when no identity was asked for.
    pub identity: IdentityState,
    /// Empty when no book was asked for.
    pub book: Book,
}

/// What a read is to bring besides the pointer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadRequest<'a> {
    pub identity: Option<&'a RawId>,
    pub book: Option<BookName>,
}

/// What a change of a book met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookChange {
    /// The book is what was asked for. Two callers that ask for the same change both have made it.
    Changed,
    /// Somebody else changed it since it was read.
    Conflict,
}

impl BookChange {
    /// What a change meets that finds `stored` in place of the version it was made from.
    #[must_use]
    pub fn over(stored: &Book, change: &Book) -> Self {
        let done = stored.version == change.version + 1 && stored.entries == change.entries;
        if done { Self::Changed } else { Self::Conflict }
    }
}

/// Tells one creation from another, so that a repeated one recognises its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreationId(u128);

/// What a creation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    Created,
    /// A record with this id exists, live or deleted.
    Taken,
}

/// What a revocation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The stored revision is larger than the one named: every token up to it is dead.
    Revoked,
    /// There is no such identity any more.
    Gone,
}

/// What a change of the pointer met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerWriteOutcome {
    Changed,
    /// The record is not the one the change was conditional on.
    Conflict,
}

/// The store could not answer. The outcome of a write is then unclear.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An item is not what this service writes.
    #[error("corrupt item: {0}")]
    Corrupt(&'static str),
    /// No pointer record: the resource was never set up.
    #[error("the resource is not set up: there is no pointer record")]
    NotSetUp,
    /// Throttled, unreachable, timed out or refused.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Identities and the pointer. Every read is strongly consistent, every write conditional and safe to
/// deliver late or twice.
#[async_trait]
pub trait Store: Send + Sync {
    /// The pointer, and what else is wanted, in one read.
    ///
    /// # Errors
    /// [`StoreError`]. An item the store could not read is an error, never "absent".
    async fn read(&self, request: ReadRequest<'_>) -> Result<Snapshot, StoreError>;

    /// Writes a new identity at [`Revision::FIRST`] where no record is. A record this very creation wrote
    /// before (its answer was lost and it was sent again) is success.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn create(
        &self,
        identity: &RawId,
        creation: CreationId,
        now: OffsetDateTime,
    ) -> Result<CreateOutcome, StoreError>;

    /// Moves the revision on from `from`. A stored revision that is already larger is success.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn revoke(&self, identity: &RawId, from: Revision) -> Result<Revocation, StoreError>;

    /// Leaves a tombstone in place of an identity until `until`; nothing where none is.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn delete(&self, identity: &RawId, until: OffsetDateTime) -> Result<(), StoreError>;

    /// Replaces a book, if it is still at `book.version`.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn write_book(&self, name: BookName, book: &Book) -> Result<BookChange, StoreError>;
}

/// Changes the pointer record, for who sets a resource up or rotates.
#[async_trait]
pub trait PointerWriter: Send + Sync {
    /// The pointer, strongly consistent; nothing before the resource is set up.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn pointer(&self) -> Result<Option<Pointer>, StoreError>;

    /// Writes every copy of the pointer in one transaction, if the generation in the table is the one
    /// before `pointer.generation` (no record at all, for generation 1) and has as many copies.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear and must be read.
    async fn write_pointer(&self, pointer: &Pointer) -> Result<PointerWriteOutcome, StoreError>;
}

impl<'a> ReadRequest<'a> {
    /// Nothing but the pointer.
    pub const POINTER: Self = Self { identity: None, book: None };

    /// An identity.
    #[must_use]
    pub fn identity(identity: &'a RawId) -> Self {
        Self { identity: Some(identity), book: None }
    }

    /// A book.
    #[must_use]
    pub fn book(name: BookName) -> Self {
        Self { identity: None, book: Some(name) }
    }
}

impl CreationId {
    /// A fresh id.
    #[must_use]
    pub fn random(random: &dyn Random) -> Self {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        Self(u128::from_be_bytes(bytes))
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for CreationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Revision {
    /// The revision of a new identity.
    pub const FIRST: Self = Self(1);

    /// The revision with this number.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The next revision.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
