//! The people of the tenant, and the applications with which they sign in.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::apis::Api;
use super::identifiers::PersonIdentifiers;
use super::oauth_error::OAuthError;
use crate::files::FileError;

/// The kinds of people, by the tokens that they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PersonKind {
    /// A user of the tenant.
    Member,
    /// A user of another tenant that was invited. The tokens have `idp` and no `upn`.
    Guest,
    /// A user without a consent to the permissions of Teams.
    WithoutTeams,
    /// A user that cannot sign in.
    Disabled,
}

/// A user of the tenant.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    pub object_id: Uuid,
    /// The name at sign-in, such as `user@local.test`.
    pub name: String,
    /// The `sub` of the user's tokens. Entra has another one for each pair of user and application.
    pub(super) subject: Zeroizing<String>,
    pub password: Zeroizing<String>,
    pub kind: PersonKind,
}

/// A person to add or to replace. A missing member stays as it is, and is random for a new person.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NewPerson {
    /// The name at sign-in: 1 to 100 characters without white space.
    pub name: String,
    pub kind: PersonKind,
    pub object_id: Option<Uuid>,
    pub password: Option<Zeroizing<String>>,
}

/// The person cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum PutPersonError {
    #[error("the name of a person has 1 to {MAX_NAME} characters without white space and control characters")]
    Name,
    #[error("the object id belongs to one person and the name to another; change one of them")]
    Conflict,
    #[error("the tenant has {MAX_PEOPLE} people; reset it, or replace a person")]
    Full,
    #[error(transparent)]
    File(#[from] FileError),
}

/// An application of the tenant.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    pub client_id: Uuid,
    /// The object id of the service principal: the `oid` of its own tokens.
    pub object_id: Uuid,
    /// The secret. A public client has none.
    pub secret: Option<Zeroizing<String>>,
    /// Redirect URIs in addition to those of loopback, which need no entry.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// Whether the application's own tokens have `idtyp`, which is optional in Entra.
    #[serde(default)]
    pub idtyp: bool,
}

/// The people. The first one is in the `env` file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct People {
    pub(super) first: Person,
    pub(super) others: Vec<Person>,
}

/// Longest name of a person, in characters.
const MAX_NAME: usize = 100;

/// Most people of the tenant, because the sign-in page lists each.
const MAX_PEOPLE: usize = 1000;

impl PersonKind {
    /// The text on the sign-in page.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Guest => "guest",
            Self::WithoutTeams => "without Teams permissions",
            Self::Disabled => "disabled",
        }
    }
}

impl Person {
    /// Checks that this person may sign in and use the permissions of `api` through the application `client`.
    ///
    /// Entra does not shorten the requested permissions to the consented ones. It refuses the request.
    pub(super) fn check(&self, api: &Api, client: Uuid) -> Result<(), OAuthError> {
        match self.kind {
            PersonKind::Disabled => Err(OAuthError::disabled()),
            PersonKind::WithoutTeams if api.is_of_teams() => Err(OAuthError::no_consent(client)),
            _ => Ok(()),
        }
    }
}

impl People {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Person> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub(super) fn named(&self, name: &str) -> Option<&Person> {
        self.iter().find(|person| person.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn with_id(&self, object_id: Uuid) -> Option<&Person> {
        self.iter().find(|person| person.object_id == object_id)
    }

    /// The person that `new` would replace.
    pub(super) fn with_id_or_name(&self, new: &NewPerson) -> Option<&Person> {
        new.object_id.and_then(|id| self.with_id(id)).or_else(|| self.named(&new.name))
    }

    /// Replaces the person with this object id or name, or adds a person made from `random`.
    pub(super) fn put(
        &mut self,
        new: NewPerson,
        random: PersonIdentifiers,
    ) -> Result<Person, PutPersonError> {
        let NewPerson { name, kind, object_id, password } = new;
        let length = name.chars().count();
        if !(1..=MAX_NAME).contains(&length) || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(PutPersonError::Name);
        }
        let same_name = self.named(&name).map(|person| person.object_id);
        let same_id = object_id.and_then(|id| self.with_id(id)).map(|person| person.object_id);
        if let (Some(by_name), Some(by_id)) = (same_name, same_id)
            && by_name != by_id
        {
            return Err(PutPersonError::Conflict);
        }
        let (new_id, subject, new_password) = random;
        let known = std::iter::once(&mut self.first)
            .chain(&mut self.others)
            .find(|person| Some(person.object_id) == same_id.or(same_name));
        if let Some(person) = known {
            person.object_id = object_id.unwrap_or(person.object_id);
            person.password = password.unwrap_or_else(|| person.password.clone());
            (person.name, person.kind) = (name, kind);
            return Ok(person.clone());
        }
        if self.others.len() + 1 >= MAX_PEOPLE {
            return Err(PutPersonError::Full);
        }
        let password = password.unwrap_or(new_password);
        let person = Person { object_id: object_id.unwrap_or(new_id), name, subject, password, kind };
        self.others.push(person.clone());
        Ok(person)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::super::EntraStandIn;
    use super::super::tests::{BASE, open, stand_in};
    use super::*;

    fn new(name: &str, object_id: Option<Uuid>) -> NewPerson {
        NewPerson { name: name.to_owned(), kind: PersonKind::Guest, object_id, password: None }
    }

    fn names(stand_in: &EntraStandIn) -> Vec<String> {
        stand_in.people().into_iter().map(|person| person.name).collect()
    }

    #[test]
    fn people_are_added_replaced_kept_and_reset() {
        let dir = tempdir().unwrap();
        let stand_in = open(&dir, BASE, 1).unwrap();
        let (initial, id) = (names(&stand_in), Uuid::from_u128(7));
        assert_eq!(
            initial,
            ["user@local.test", "guest@partner.test", "noteams@local.test", "disabled@local.test"]
        );
        let first = stand_in.people().remove(0);
        let added = stand_in.put_person(new("ann@local.test", Some(id))).unwrap();
        assert_eq!(added.object_id, id);
        let renamed = stand_in.put_person(new("bob@local.test", Some(id))).unwrap();
        assert!(renamed.password == added.password && renamed.subject == added.subject);
        let password = Some(Zeroizing::new("other".to_owned()));
        let replaced = NewPerson {
            name: "USER@local.test".to_owned(),
            kind: PersonKind::Guest,
            object_id: None,
            password,
        };
        let replaced = stand_in.put_person(replaced).unwrap();
        assert!(replaced.object_id == first.object_id && replaced.password.as_str() == "other");
        drop(stand_in);
        let stand_in = open(&dir, BASE, 2).unwrap();
        assert_eq!(
            names(&stand_in),
            [
                "USER@local.test",
                "guest@partner.test",
                "noteams@local.test",
                "disabled@local.test",
                "bob@local.test"
            ]
        );
        stand_in.reset().unwrap();
        assert_eq!(names(&stand_in), initial);
        assert_eq!(names(&open(&dir, BASE, 3).unwrap()), initial);
        assert!(stand_in.people().remove(0).password == first.password);
    }

    #[test]
    fn malformed_names_and_conflicts_are_refused() {
        let stand_in = stand_in();
        for name in ["", "a b", "a\nb", "a\u{0}", &"x".repeat(MAX_NAME + 1)] {
            assert!(matches!(stand_in.put_person(new(name, None)), Err(PutPersonError::Name)), "{name}");
        }
        let conflict = stand_in.put_person(new("guest@partner.test", Some(stand_in.user_object_id())));
        assert!(matches!(conflict, Err(PutPersonError::Conflict)));
        for number in stand_in.people().len()..MAX_PEOPLE {
            stand_in.put_person(new(&format!("p{number}@local.test"), None)).unwrap();
        }
        assert!(matches!(stand_in.put_person(new("more@local.test", None)), Err(PutPersonError::Full)));
        stand_in.put_person(new("p999@local.test", None)).unwrap();
        assert_eq!(stand_in.people().len(), MAX_PEOPLE);
    }
}
