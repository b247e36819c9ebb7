//! Assignments: which Entra principals may have tokens of this resource, through which applications.
//!
//! There are two books, one for Teams phone extensibility and one for Entra users of the resource. Each is
//! small and changed rarely, so it is one record, changed as a whole on condition that nobody else did.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::authn::entra::EntraToken;

/// The two books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BookName {
    Entra,
    TeamsExtension,
}

/// What kind of principal is assigned. The wire spells the first in two ways; each is kept as it was given
/// (docs/wire-contract.md#conflicts).
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
    /// The applications through which the principal may come; all, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ids: Option<Vec<Uuid>>,
}

/// A book as read: its entries, and the version a change is conditional on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// Counts the changes, from 1; 0 before there is a record.
    pub version: u64,
    pub entries: Vec<Assignment>,
}

/// Most assignments a book holds: a DynamoDB item has at most 400 KB.
pub const MAX_ENTRIES: usize = 1_000;

impl BookName {
    /// The book's name in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::TeamsExtension => "teams-extension",
        }
    }

    /// Whether this kind of principal has a place in the book.
    #[must_use]
    pub fn admits(self, kind: PrincipalType) -> bool {
        match kind {
            PrincipalType::ResourceAccount | PrincipalType::TeamsResourceAccount => {
                self == Self::TeamsExtension
            }
            PrincipalType::Group | PrincipalType::Tenant => self == Self::Entra,
            PrincipalType::User => true,
        }
    }
}

impl PrincipalType {
    const ALL: [Self; 5] =
        [Self::Group, Self::ResourceAccount, Self::TeamsResourceAccount, Self::Tenant, Self::User];

    /// The kind's name on the wire.
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

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Book {
    /// The assignment of an object; in a tenant, where one is named.
    #[must_use]
    pub fn find(&self, tenant: Option<Uuid>, object: Uuid) -> Option<&Assignment> {
        let is_it = |entry: &&Assignment| {
            entry.object_id == object && tenant.is_none_or(|tenant| entry.tenant_id == tenant)
        };
        self.entries.iter().find(is_it)
    }

    /// Enters an assignment in place of one of the same tenant and object. Returns whether it replaced one.
    pub fn put(&mut self, assignment: Assignment) -> bool {
        let replaced = self.remove(Some(assignment.tenant_id), assignment.object_id);
        self.entries.push(assignment);
        replaced
    }

    /// Takes an assignment out. Returns whether there was one.
    pub fn remove(&mut self, tenant: Option<Uuid>, object: Uuid) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| {
            entry.object_id != object || tenant.is_some_and(|tenant| entry.tenant_id != tenant)
        });
        self.entries.len() < before
    }

    /// Whether the holder of this token is assigned: as a user, through a group of theirs, or with their
    /// whole tenant; and through this application, where the assignment names any.
    #[must_use]
    pub fn admits(&self, token: &EntraToken) -> bool {
        self.entries.iter().any(|entry| {
            let holder = match entry.principal_type {
                PrincipalType::Group => token.groups.contains(&entry.object_id),
                PrincipalType::Tenant => entry.object_id == token.tenant,
                PrincipalType::ResourceAccount
                | PrincipalType::TeamsResourceAccount
                | PrincipalType::User => entry.object_id == token.object,
            };
            let application = entry.client_ids.as_ref().is_none_or(|clients| clients.contains(&token.app));
            entry.tenant_id == token.tenant && holder && application
        })
    }
}
