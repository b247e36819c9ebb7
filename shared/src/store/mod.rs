//! The store port: identities, their custom ids, assignments and the pointer record.
//!
//! The DynamoDB adapter and the in-memory store for tests pass one suite ([`contract`]). Decision records 0002, 0012
//! and 0015 give the rules and the reason for each condition.

pub mod assignments;
#[cfg(any(test, feature = "testing"))]
pub mod contract;
pub mod custom_ids;
pub mod feed;
pub mod resource_servers;

use std::error::Error as StdError;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ids::RawId;
use crate::keys::pointer::Pointer;
use crate::runtime::Random;
use crate::store::assignments::{
    AssignmentChange, AssignmentKey, AssignmentPage, AssignmentRecord, AssignmentWriteOutcome,
};
use crate::store::custom_ids::{CustomId, CustomIdKey, CustomIdState, Profile};
use crate::store::resource_servers::{Credential, ResourceServerId};

/// Counts an identity's revocations, from 1. A token carries the revision at which it was minted. It is active only
/// while the store holds exactly that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

/// The stored state of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityState {
    /// No record.
    Absent,
    /// Deleted. The record stays as a tombstone.
    Deleted,
    /// An identity at this revision.
    Live(Revision),
}

/// The result of one strongly consistent read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub pointer: Pointer,
    /// [`IdentityState::Absent`] if the request has no identity.
    pub identity: IdentityState,
    /// The profile of a live identity. `None` for an identity that was made in a version without profiles.
    pub profile: Option<Profile>,
    /// [`CustomIdState::Free`] if the request has no custom id.
    pub custom_id: CustomIdState,
    /// The credential of the requested resource server. Empty if there is none.
    pub credential: Credential,
    /// One record for each requested key, in the order of the request.
    pub assignments: Vec<AssignmentRecord>,
}

/// The records to read besides the pointer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadRequest<'a> {
    pub identity: Option<&'a RawId>,
    pub custom_id: Option<CustomIdKey>,
    pub resource_server: Option<&'a ResourceServerId>,
    /// Each key at most once.
    pub assignments: &'a [AssignmentKey],
}

/// An identity to create.
#[derive(Clone)]
pub struct NewIdentity {
    pub id: RawId,
    pub creation: CreationId,
    /// `None` in a version without profiles.
    pub profile: Option<Profile>,
    /// The last creation with the custom id, as the caller read it ([`CustomIdState::Free`]). Without meaning if the
    /// profile has no custom id.
    pub last_creation: Option<CreationId>,
}

/// Identifies one creation, so that its repetition recognises its own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreationId(u128);

/// The outcome of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateOutcome {
    Created,
    /// Another creation made a record with this id, or the custom id has changed since the caller read it. The
    /// identity may be deleted.
    Taken,
}

/// The outcome of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The stored revision is larger than the given one, so every token up to the given one is revoked.
    Revoked,
    /// The identity does not exist, or was deleted.
    Gone,
}

/// The outcome of a change of the pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerWriteOutcome {
    Changed,
    /// The stored record is not the one that the change is conditional on.
    Conflict,
}

/// The store could not answer. The outcome of a write is then unclear.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An item has a form that this service does not write.
    #[error("corrupt item: {0}")]
    Corrupt(&'static str),
    /// No pointer record: the resource was never set up.
    #[error("the resource is not set up: there is no pointer record")]
    NotSetUp,
    /// Throttled, unreachable, timed out or refused.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
}

/// Identities, assignments and the pointer. Every read is strongly consistent. Every write is conditional, so it may
/// be delivered late or twice.
#[async_trait]
pub trait Store: Send + Sync {
    /// The pointer and the requested records.
    ///
    /// # Errors
    /// [`StoreError`]. An item that the store could not read is an error, never "absent".
    async fn read(&self, request: ReadRequest<'_>) -> Result<Snapshot, StoreError>;

    /// Writes a new identity at [`Revision::FIRST`] if there is no record. A record of this creation is a success: its
    /// answer was lost, and it was sent again. A custom id names the identity after the same transaction, on the
    /// condition that it is free and that its last creation is still the given one.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn create(&self, new: &NewIdentity, now: OffsetDateTime) -> Result<CreateOutcome, StoreError>;

    /// Writes the revision after `from` if the stored one is `from`. A larger stored revision is a success.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn revoke(&self, identity: &RawId, from: Revision) -> Result<Revocation, StoreError>;

    /// Replaces an identity by a tombstone that stays until `until`. Writes nothing if there is no identity. If the
    /// identity has a custom id, the same transaction makes it free. The record of a free custom id also stays until
    /// `until`, so that an earlier creation that arrives late does not take it again.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn delete(
        &self,
        identity: &RawId,
        custom_id: Option<&CustomId>,
        until: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Makes a custom id free that still names a deleted identity. A deletion leaves such a record behind if it ran in a
    /// release without custom ids, or over a damaged record. Writes nothing if the record names another identity.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn free_custom_id(
        &self,
        custom_id: CustomIdKey,
        deleted: &RawId,
        until: OffsetDateTime,
    ) -> Result<(), StoreError>;

    /// Stores the time of a token in the profile of an identity, if the stored time is an earlier one. Writes nothing
    /// if there is no profile.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn record_token(&self, identity: &RawId, issued_at: i64) -> Result<(), StoreError>;

    /// Makes all the changes or none, each on the condition that its key still has the version that was read. A
    /// removal writes a record without assignments, also if there was no record, and the record stays for
    /// [`assignments::REMOVED_RECORD`]. At most [`assignments::MAX_CHANGES`] changes, each of another key.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear.
    async fn change_assignments(
        &self,
        changes: &[AssignmentChange],
        now: OffsetDateTime,
    ) -> Result<AssignmentWriteOutcome, StoreError>;

    /// At most `limit` records of the Entra assignments, in the order of their object ids, from the first one after
    /// `after`. A page can be shorter, even empty, although another one follows.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list_entra_assignments(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<AssignmentPage, StoreError>;
}

/// Changes the pointer record, for the set-up of a resource and for rotations.
#[async_trait]
pub trait PointerWriter: Send + Sync {
    /// The pointer, strongly consistent. `None` before the resource is set up.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn pointer(&self) -> Result<Option<Pointer>, StoreError>;

    /// Writes every copy of the pointer in one transaction, if the stored generation is the one before
    /// `pointer.generation` (no record, for generation 1) and has as many copies.
    ///
    /// # Errors
    /// [`StoreError`]; the outcome is then unclear and must be read.
    async fn write_pointer(&self, pointer: &Pointer) -> Result<PointerWriteOutcome, StoreError>;
}

impl<'a> ReadRequest<'a> {
    /// The pointer only.
    pub const POINTER: Self =
        Self { identity: None, custom_id: None, resource_server: None, assignments: &[] };

    /// An identity.
    #[must_use]
    pub fn identity(identity: &'a RawId) -> Self {
        Self { identity: Some(identity), ..Self::POINTER }
    }

    /// A custom id.
    #[must_use]
    pub fn custom_id(custom_id: CustomIdKey) -> Self {
        Self { custom_id: Some(custom_id), ..Self::POINTER }
    }

    /// The records of these keys.
    #[must_use]
    pub fn assignments(assignments: &'a [AssignmentKey]) -> Self {
        Self { assignments, ..Self::POINTER }
    }
}

impl NewIdentity {
    /// An identity without a profile.
    #[must_use]
    pub fn plain(id: RawId, creation: CreationId) -> Self {
        Self { id, creation, profile: None, last_creation: None }
    }
}

impl CreationId {
    /// A random id.
    #[must_use]
    pub fn random(random: &dyn Random) -> Self {
        Self(random.number())
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for CreationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for CreationId {
    type Err = ParseIntError;

    fn from_str(digits: &str) -> Result<Self, ParseIntError> {
        u128::from_str_radix(digits, 16).map(Self)
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
