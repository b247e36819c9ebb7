//! Assignments: the Entra principals that may have tokens of this resource, and through which applications.
//!
//! Each key has one record with a version. A change is conditional on the version that its caller read, and a removal
//! leaves a record without assignments. Decision record 0012 gives the reasons.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::Duration;
use uuid::Uuid;

use crate::authn::entra::EntraToken;
use crate::runtime::Random;

/// The two kinds of assignments. Each has its own routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AssignmentKind {
    /// Users of the resource.
    Entra,
    /// Teams phone extensibility.
    TeamsExtension,
}

/// The place of an assignment. It has the parameters of the routes (docs/wire-contract.md#access-routes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssignmentKey {
    Entra { object: Uuid },
    TeamsExtension { object: Uuid, tenant: Uuid },
}

/// The kind of an assigned principal. The wire has two names for a resource account, and the record keeps the name
/// that was given (docs/wire-contract.md#conflicts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PrincipalType {
    Group,
    ResourceAccount,
    TeamsResourceAccount,
    Tenant,
    User,
}

/// One assignment, as stored and as written on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    pub object_id: Uuid,
    pub tenant_id: Uuid,
    pub principal_type: PrincipalType,
    /// The applications that the principal may use. An absent list allows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ids: Option<Vec<Uuid>>,
}

/// Identifies one write of a record. A random number and not a count: a count would begin again after the record of a
/// removal has expired, and a late write could then find the version that it had read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AssignmentVersion(u128);

/// The stored state of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignmentRecord {
    /// [`AssignmentVersion::NONE`] before the first change.
    pub version: AssignmentVersion,
    /// Empty if the key is not assigned. Several only if a table of the former shape had several tenants for one
    /// object id.
    pub assignments: Vec<Assignment>,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentChange {
    pub key: AssignmentKey,
    /// The version that the caller read.
    pub read_version: AssignmentVersion,
    /// The version of the new record.
    pub version: AssignmentVersion,
    /// The new assignment. `None` removes the assignment.
    pub assignment: Option<Assignment>,
}

/// The outcome of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentWriteOutcome {
    /// Every key holds the requested state, through this change or an equal one.
    Changed,
    /// Another change came first. This change wrote nothing.
    Conflict,
}

/// A part of the Entra assignments, in the order of their object ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignmentPage {
    pub assignments: Vec<Assignment>,
    /// The place after which the next page begins. `None` on the last page.
    pub next: Option<Uuid>,
}

/// Most changes in one request: one DynamoDB transaction has at most 100 actions.
pub const MAX_CHANGES: usize = 100;

/// Most applications in one assignment. The item then stays below 4 KiB, which is one read unit.
pub const MAX_CLIENT_IDS: usize = 64;

/// Most records on one page of the list.
pub const MAX_PAGE_SIZE: usize = 1_000;

/// How long the record of a removed assignment stays. A write that an earlier attempt sent can arrive late, and then
/// it has to find this record. AWS refuses a request whose signature is older than 15 minutes.
pub const REMOVED_RECORD: Duration = Duration::hours(48);

impl AssignmentVersion {
    /// No change yet.
    pub const NONE: Self = Self(0);

    /// A random version.
    #[must_use]
    pub fn random(random: &dyn Random) -> Self {
        Self(random.number())
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for AssignmentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for AssignmentVersion {
    type Err = std::num::ParseIntError;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(digits, 16).map(Self)
    }
}

impl AssignmentKind {
    /// The name in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::TeamsExtension => "teams-extension",
        }
    }

    /// Whether an assignment of this kind can have such a principal.
    #[must_use]
    pub fn allows(self, principal: PrincipalType) -> bool {
        match principal {
            PrincipalType::ResourceAccount | PrincipalType::TeamsResourceAccount => {
                self == Self::TeamsExtension
            }
            PrincipalType::Group | PrincipalType::Tenant => self == Self::Entra,
            PrincipalType::User => true,
        }
    }

    /// The keys of all records that can admit the holder of a token: the user, the tenant and the groups. Each key is
    /// there once. A token has at most 200 groups, so there are at most 202 keys.
    #[must_use]
    pub fn keys_of(self, token: &EntraToken) -> Vec<AssignmentKey> {
        match self {
            Self::TeamsExtension => {
                vec![AssignmentKey::TeamsExtension { object: token.object, tenant: token.tenant }]
            }
            Self::Entra => {
                let objects = [token.object, token.tenant].into_iter().chain(token.groups.iter().copied());
                let objects: BTreeSet<Uuid> = objects.collect();
                objects.into_iter().map(|object| AssignmentKey::Entra { object }).collect()
            }
        }
    }
}

impl AssignmentKey {
    /// The kind of the assignment.
    #[must_use]
    pub fn kind(self) -> AssignmentKind {
        match self {
            Self::Entra { .. } => AssignmentKind::Entra,
            Self::TeamsExtension { .. } => AssignmentKind::TeamsExtension,
        }
    }

    /// The key of a stored assignment.
    #[must_use]
    pub fn of(kind: AssignmentKind, assignment: &Assignment) -> Self {
        let Assignment { object_id: object, tenant_id: tenant, .. } = *assignment;
        match kind {
            AssignmentKind::Entra => Self::Entra { object },
            AssignmentKind::TeamsExtension => Self::TeamsExtension { object, tenant },
        }
    }
}

impl PrincipalType {
    const ALL: [Self; 5] =
        [Self::Group, Self::ResourceAccount, Self::TeamsResourceAccount, Self::Tenant, Self::User];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::ResourceAccount => "resourceAccount",
            Self::TeamsResourceAccount => "teamsResourceAccount",
            Self::Tenant => "tenant",
            Self::User => "user",
        }
    }

    /// The principal type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|principal| principal.as_str() == name)
    }
}

impl Assignment {
    /// Whether the holder of this token is assigned: as a user, through a group, or with the whole tenant. If the
    /// assignment names applications, the token has to come through one of them.
    #[must_use]
    pub fn admits(&self, token: &EntraToken) -> bool {
        let holder = match self.principal_type {
            PrincipalType::Group => token.groups.contains(&self.object_id),
            PrincipalType::Tenant => self.object_id == token.tenant,
            PrincipalType::ResourceAccount | PrincipalType::TeamsResourceAccount | PrincipalType::User => {
                self.object_id == token.object
            }
        };
        let application = self.client_ids.as_ref().is_none_or(|clients| clients.contains(&token.app));
        self.tenant_id == token.tenant && holder && application
    }
}

impl AssignmentChange {
    /// The record after the change.
    #[must_use]
    pub fn record(&self) -> AssignmentRecord {
        AssignmentRecord { version: self.version, assignments: self.assignment.iter().cloned().collect() }
    }

    /// Whether a record that another version replaced holds the requested state. The record can come from this very
    /// change, if its answer was lost, or from an equal change of another caller. In both cases an earlier attempt
    /// that read the former version cannot write any more.
    #[must_use]
    pub fn is_done(&self, stored: &AssignmentRecord) -> bool {
        let is_newer = stored.version != AssignmentVersion::NONE && stored.version != self.read_version;
        is_newer && stored.assignments == self.record().assignments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::entra::TokenKind;

    const TENANT: Uuid = Uuid::from_u128(1);
    const USER: Uuid = Uuid::from_u128(2);
    const GROUP: Uuid = Uuid::from_u128(3);
    const APP: Uuid = Uuid::from_u128(4);
    const OTHER: Uuid = Uuid::from_u128(5);

    fn token(groups: &[Uuid]) -> EntraToken {
        EntraToken {
            tenant: TENANT,
            object: USER,
            app: APP,
            permissions: vec![],
            groups: groups.to_vec(),
            kind: TokenKind::Delegated,
            issued_at: 0,
            expires_at: 0,
            token_id: None,
        }
    }

    #[test]
    fn keys_of_a_token_are_distinct() {
        let keys = |groups| AssignmentKind::Entra.keys_of(&token(groups));
        let entra = |object| AssignmentKey::Entra { object };
        assert_eq!(keys(&[]), [entra(TENANT), entra(USER)]);
        assert_eq!(keys(&[GROUP, USER, GROUP, TENANT]), [entra(TENANT), entra(USER), entra(GROUP)]);
        let extension = AssignmentKind::TeamsExtension.keys_of(&token(&[GROUP]));
        assert_eq!(extension, [AssignmentKey::TeamsExtension { object: USER, tenant: TENANT }]);
    }

    #[test]
    fn assignment_admits_its_principal_only() {
        use PrincipalType::{Group, ResourceAccount, TeamsResourceAccount, Tenant, User};
        // (principal type, object, tenant, applications, whether a token with GROUP is admitted)
        let rows = [
            (User, USER, TENANT, None, true),
            (User, OTHER, TENANT, None, false),
            (User, GROUP, TENANT, None, false),
            (User, USER, OTHER, None, false),
            (ResourceAccount, USER, TENANT, None, true),
            (TeamsResourceAccount, USER, TENANT, None, true),
            (Group, GROUP, TENANT, None, true),
            (Group, USER, TENANT, None, false),
            (Group, GROUP, OTHER, None, false),
            (Tenant, TENANT, TENANT, None, true),
            (Tenant, OTHER, OTHER, None, false),
            (User, USER, TENANT, Some(vec![OTHER, APP]), true),
            (User, USER, TENANT, Some(vec![OTHER]), false),
            (User, USER, TENANT, Some(vec![]), false),
        ];
        for (principal_type, object_id, tenant_id, client_ids, admitted) in rows {
            let assignment = Assignment { object_id, tenant_id, principal_type, client_ids };
            assert_eq!(assignment.admits(&token(&[GROUP])), admitted, "{assignment:?}");
        }
    }
}
