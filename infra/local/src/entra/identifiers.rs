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

/// A GUID as its usual text.
pub(super) mod guid {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    pub(in super::super) fn serialize<S: Serializer>(guid: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(guid)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Uuid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| D::Error::custom("not a GUID"))
    }
}
