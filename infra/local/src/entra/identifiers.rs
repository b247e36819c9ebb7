//! The ids and the secrets of a tenant, random or published.

use uuid::Uuid;
use zeroize::Zeroizing;

/// The ids and the secrets of a new tenant.
pub(super) struct Identifiers {
    pub(super) tenant: Uuid,
    /// The client id, and the object id of the service principal.
    pub(super) user_app: (Uuid, Uuid),
    pub(super) service: (Uuid, Uuid),
    pub(super) client_secret: Zeroizing<String>,
    pub(super) member: PersonIdentifiers,
    pub(super) guest: PersonIdentifiers,
    pub(super) without_teams: PersonIdentifiers,
    pub(super) disabled: PersonIdentifiers,
}

/// The object id, the subject and the password of a person.
pub(super) type PersonIdentifiers = (Uuid, Zeroizing<String>, Zeroizing<String>);
