//! The published directory of development servers. EVERY VALUE IN THIS FILE IS PUBLIC, the passwords and the client secret
//! too, and the same on every machine. The signing keys are not here: each start makes new ones.

use uuid::{Uuid, uuid};
use zeroize::Zeroizing;

use super::identifiers::Identifiers;

/// The tenant.
const TENANT: Uuid = uuid!("00000000-de00-4000-8000-000000000001");
/// The public client with which people sign in.
const USER_APP: Uuid = uuid!("00000000-de00-4000-8000-000000000002");
/// The application with a secret.
const SERVICE_APP: Uuid = uuid!("00000000-de00-4000-8000-000000000003");
const SERVICE_SECRET: &str = "published-client-secret-for-development-only";
/// The object ids of the two applications' service principals.
const USER_APP_OBJECT: Uuid = uuid!("00000000-de00-4000-8000-000000000004");
const SERVICE_OBJECT: Uuid = uuid!("00000000-de00-4000-8000-000000000005");
/// The object id, the subject and the password of each person.
const MEMBER: (Uuid, &str, &str) =
    (uuid!("00000000-de00-4000-8000-000000000011"), "published-subject-member", "published-password-member");
const GUEST: (Uuid, &str, &str) =
    (uuid!("00000000-de00-4000-8000-000000000012"), "published-subject-guest", "published-password-guest");
const WITHOUT_TEAMS: (Uuid, &str, &str) = (
    uuid!("00000000-de00-4000-8000-000000000013"),
    "published-subject-without-teams",
    "published-password-without-teams",
);
const DISABLED: (Uuid, &str, &str) = (
    uuid!("00000000-de00-4000-8000-000000000014"),
    "published-subject-disabled",
    "published-password-disabled",
);

pub(super) fn identifiers() -> Identifiers {
    let person = |(object_id, subject, password): (Uuid, &str, &str)| {
        (object_id, Zeroizing::new(subject.to_owned()), Zeroizing::new(password.to_owned()))
    };
    Identifiers {
        tenant: TENANT,
        user_app: (USER_APP, USER_APP_OBJECT),
        service: (SERVICE_APP, SERVICE_OBJECT),
        client_secret: Zeroizing::new(SERVICE_SECRET.to_owned()),
        member: person(MEMBER),
        guest: person(GUEST),
        without_teams: person(WITHOUT_TEAMS),
        disabled: person(DISABLED),
    }
}
