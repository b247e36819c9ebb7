//! Request bodies: JSON objects whose members are validated one by one, so that a fault names its member.
//!
//! Two layers, as in the recorded service (docs/wire-contract.md#validation-order). Binding checks that the
//! body is a JSON object, that each member has its type, and that required members are present. Rules about
//! values come later. A member that is `null` counts as missing. Members that a version does not have are
//! ignored.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IgnoredAny, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use crate::api::error::{Error, Field};
use crate::api::version::ApiVersion;
use crate::ids::guid;
use crate::lifetime::Lifetime;
use crate::store::assignments::{AssignmentKind, MAX_CHANGES, MAX_CLIENT_IDS, PrincipalType};
use crate::token::scope::{ScopeError, ScopeSet};

/// What a body asks to be put into a token, bound but not yet validated.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenRequest {
    scopes: Option<Vec<String>>,
    minutes: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateMembers {
    create_token_with_scopes: Option<Value>,
    expires_in_minutes: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IssueMembers {
    scopes: Option<Value>,
    expires_in_minutes: Option<Value>,
}

impl TokenRequest {
    /// Binds the body of a creation; all of it is optional.
    ///
    /// # Errors
    /// [`Error::BodyMalformed`] or [`Error::FieldType`].
    pub fn bind_create(body: &[u8], version: ApiVersion) -> Result<Self, Error> {
        let members: CreateMembers = object(body)?;
        Ok(Self {
            scopes: names(Field::CreateTokenWithScopes, members.create_token_with_scopes)?,
            minutes: minutes(members.expires_in_minutes, version)?,
        })
    }

    /// Binds the body of an issue; `scopes` is required.
    ///
    /// # Errors
    /// [`Error::BodyMalformed`], [`Error::FieldType`] or [`Error::FieldRequired`].
    pub fn bind_issue(body: &[u8], version: ApiVersion) -> Result<Self, Error> {
        let members: IssueMembers = object(body)?;
        let scopes = names(Field::Scopes, members.scopes)?;
        let minutes = minutes(members.expires_in_minutes, version)?;
        if scopes.is_none() {
            return Err(Error::FieldRequired(Field::Scopes));
        }
        Ok(Self { scopes, minutes })
    }

    /// The token to mint: scopes and lifetime.
    ///
    /// # Errors
    /// [`Error::Scopes`] or [`Error::ExpiresInMinutesOutOfRange`].
    pub fn validate(&self) -> Result<(ScopeSet, Lifetime), Error> {
        let names = self.scopes.iter().flatten().map(String::as_str);
        Ok((ScopeSet::parse(names)?, self.lifetime()?))
    }

    /// The token to mint, if one is asked for: no scopes at all ask for none. A lifetime is validated even
    /// when there is no token it could apply to.
    ///
    /// # Errors
    /// [`Error::Scopes`] or [`Error::ExpiresInMinutesOutOfRange`].
    pub fn validate_optional(&self) -> Result<Option<(ScopeSet, Lifetime)>, Error> {
        let lifetime = self.lifetime();
        match ScopeSet::parse(self.scopes.iter().flatten().map(String::as_str)) {
            Ok(scopes) => Ok(Some((scopes, lifetime?))),
            Err(ScopeError::Empty) => lifetime.map(|_| None),
            Err(unknown) => Err(unknown.into()),
        }
    }

    fn lifetime(&self) -> Result<Lifetime, Error> {
        let Some(minutes) = self.minutes else {
            return Ok(Lifetime::default());
        };
        Lifetime::from_minutes(minutes.into()).map_err(|fault| Error::ExpiresInMinutesOutOfRange(fault.0))
    }
}

/// The body of a Teams user's exchange, its members not yet validated: that happens between other checks.
pub struct TeamsUserExchange {
    token: Option<Value>,
    app_id: Option<Value>,
    user_id: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TeamsUserMembers {
    token: Option<Value>,
    app_id: Option<Value>,
    user_id: Option<Value>,
}

impl TeamsUserExchange {
    /// Binds the body.
    ///
    /// # Errors
    /// [`Error::BodyMalformed`].
    pub fn bind(body: &[u8]) -> Result<Self, Error> {
        let TeamsUserMembers { token, app_id, user_id } = object(body)?;
        Ok(Self { token, app_id, user_id })
    }

    /// The Entra token.
    ///
    /// # Errors
    /// [`Error::TokenRequired`] when it is missing; [`Error::FieldType`].
    pub fn token(&self) -> Result<&str, Error> {
        match &self.token {
            None | Some(Value::Null) => Err(Error::TokenRequired),
            Some(Value::String(token)) => Ok(token),
            Some(_) => Err(Error::FieldType(Field::Token, A_STRING)),
        }
    }

    /// The application and the user the token must be of. Both must be there before either is validated.
    ///
    /// # Errors
    /// [`Error::FieldRequired`], [`Error::FieldType`] or [`Error::FieldFormat`].
    pub fn expected(&self) -> Result<(Uuid, Uuid), Error> {
        let app = required_text(Field::AppId, self.app_id.as_ref())?;
        let user = required_text(Field::UserId, self.user_id.as_ref())?;
        let parse = |field, text: &str| guid(text).map_err(|_| Error::FieldFormat(field));
        Ok((parse(Field::AppId, app)?, parse(Field::UserId, user)?))
    }
}

/// The token of an introspection request, a form: `token=...` (RFC 7662 section 2.1). `token_type_hint` and
/// members it does not know are ignored.
///
/// # Errors
/// [`Error::FieldRequired`] when there is no token, [`Error::BodyMalformed`] when there are several.
pub fn introspected_token(body: &[u8]) -> Result<Cow<'_, str>, Error> {
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == "token").map(|(_, token)| token);
    match (tokens.next(), tokens.next()) {
        (None, _) => Err(Error::FieldRequired(Field::Token)),
        (Some(token), None) if token.is_empty() => Err(Error::FieldRequired(Field::Token)),
        (Some(token), None) => Ok(token),
        (Some(_), Some(_)) => Err(Error::BodyMalformed("the form has several tokens".to_owned())),
    }
}

/// The body of an assignment, validated for its kind. Members of the other kind are ignored.
pub struct AssignmentRequest {
    pub tenant: Option<Uuid>,
    pub principal_type: PrincipalType,
    pub client_ids: Option<Vec<Uuid>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AssignmentMembers {
    tenant_id: Option<Value>,
    principal_type: Option<Value>,
    client_ids: Option<Value>,
}

impl AssignmentRequest {
    /// Binds and validates the body.
    ///
    /// # Errors
    /// [`Error::BodyMalformed`], or the error of the first member that is wrong.
    pub fn bind(body: &[u8], kind: AssignmentKind) -> Result<Self, Error> {
        Self::validate(object(body)?, kind)
    }

    /// Binds and validates a map from object ids to assignments; `null` removes an assignment.
    ///
    /// # Errors
    /// As [`Self::bind`], and [`Error::BodyMalformed`] if there are more than [`MAX_CHANGES`] or an id is there twice.
    pub fn bind_many(body: &[u8], kind: AssignmentKind) -> Result<BTreeMap<Uuid, Option<Self>>, Error> {
        let Members(members) = object::<Members<Option<Object<AssignmentMembers>>>>(body)?;
        if members.len() > MAX_CHANGES {
            let fault =
                format!("it has {} assignments, and at most {MAX_CHANGES} are allowed", members.len());
            return Err(Error::BodyMalformed(fault));
        }
        let mut changes = BTreeMap::new();
        for (object, members) in members {
            let object = guid(&object).map_err(|_| Error::FieldFormat(Field::ObjectId))?;
            let change = members.map(|Object(members)| Self::validate(members, kind)).transpose()?;
            if changes.insert(object, change).is_some() {
                return Err(Error::BodyMalformed(format!("the object id {object} is there twice")));
            }
        }
        Ok(changes)
    }

    fn validate(members: AssignmentMembers, kind: AssignmentKind) -> Result<Self, Error> {
        let principals = match kind {
            AssignmentKind::Entra => "user, group or tenant",
            AssignmentKind::TeamsExtension => "user, resourceAccount or teamsResourceAccount",
        };
        let name = required_text(Field::PrincipalType, members.principal_type.as_ref())?;
        let principal_type = PrincipalType::from_name(name).filter(|principal| kind.allows(*principal));
        let principal_type = principal_type.ok_or(Error::FieldValue(Field::PrincipalType, principals))?;
        let client_ids = names(Field::ClientIds, members.client_ids)?;
        let client = |text: String| guid(&text).map_err(|_| Error::FieldFormat(Field::ClientIds));
        let client_ids: Option<Vec<_>> =
            client_ids.map(|ids| ids.into_iter().map(client).collect()).transpose()?;
        if client_ids.as_ref().is_some_and(|ids| ids.len() > MAX_CLIENT_IDS) {
            return Err(Error::FieldValue(Field::ClientIds, "a list of at most 64 GUIDs"));
        }
        let tenant = match kind {
            AssignmentKind::TeamsExtension => None,
            AssignmentKind::Entra => {
                let text = required_text(Field::TenantId, members.tenant_id.as_ref())?;
                Some(guid(text).map_err(|_| Error::FieldFormat(Field::TenantId))?)
            }
        };
        if kind == AssignmentKind::Entra && client_ids.is_none() {
            return Err(Error::FieldRequired(Field::ClientIds));
        }
        Ok(Self { tenant, principal_type, client_ids })
    }
}

/// Checks that a body is a JSON object whose members nobody asks for.
///
/// # Errors
/// [`Error::BodyMalformed`].
pub fn bind_empty(body: &[u8]) -> Result<(), Error> {
    object::<HashMap<String, IgnoredAny>>(body).map(|_| ())
}

const A_STRING: &str = "a string";

/// A member that must be there, and not empty.
fn required_text(field: Field, member: Option<&Value>) -> Result<&str, Error> {
    match member {
        None | Some(Value::Null) => Err(Error::FieldRequired(field)),
        Some(Value::String(text)) if text.is_empty() => Err(Error::FieldRequired(field)),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::FieldType(field, A_STRING)),
    }
}

/// Reads a body as a JSON object; an empty body is an empty one.
fn object<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(body).map_err(|fault| {
        let line = body.iter().take(fault.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        Error::BodyMalformed(format!("invalid UTF-8 at line {line}"))
    })?;
    if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
        return Ok(T::default());
    }
    let read = serde_json::from_str(text).map(|Object(members)| members);
    read.map_err(|fault| Error::BodyMalformed(fault.to_string()))
}

/// The members of a JSON object, and of nothing else: those of a list would be read too, one by one.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The members of an object in their order. A member can be there twice.
#[derive(Default)]
struct Members<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

struct MembersVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for MembersVisitor<T> {
    type Value = Members<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }

    /// A text may be long, and is not repeated.
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Object<T>, E> {
        Err(E::invalid_type(Unexpected::Other("string"), &self))
    }
}

fn names(field: Field, member: Option<Value>) -> Result<Option<Vec<String>>, Error> {
    const EXPECTED: &str = "a list of strings";
    match member {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(values)) => {
            let name = |value| match value {
                Value::String(name) => Ok(name),
                _ => Err(Error::FieldType(field, EXPECTED)),
            };
            values.into_iter().map(name).collect::<Result<_, _>>().map(Some)
        }
        Some(_) => Err(Error::FieldType(field, EXPECTED)),
    }
}

fn minutes(member: Option<Value>, version: ApiVersion) -> Result<Option<i32>, Error> {
    match member {
        None | Some(Value::Null) => Ok(None),
        Some(_) if !version.knows_lifetime() => Ok(None),
        Some(value) => {
            let minutes = value.as_i64().and_then(|minutes| i32::try_from(minutes).ok());
            minutes.map(Some).ok_or(Error::FieldType(Field::ExpiresInMinutes, "a 32-bit integer"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn no_body_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TokenRequest::bind_create(&body, ApiVersion::V2023_10_01);
            let _ = TokenRequest::bind_issue(&body, ApiVersion::V2021_03_07);
        }

        #[test]
        fn every_integer_is_judged_as_the_interval_says(minutes: i32) {
            let body = format!(r#"{{"scopes":["chat"],"expiresInMinutes":{minutes}}}"#);
            let request = TokenRequest::bind_issue(body.as_bytes(), ApiVersion::V2022_10_01).unwrap();
            prop_assert_eq!(request.validate().is_ok(), (60..=1440).contains(&minutes));
        }
    }

    #[test]
    fn what_is_no_object_is_malformed_at_any_depth() {
        const GUID: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c776";
        let long = format!("{:?}", "x".repeat(1_000));
        for none in [&format!(r#"["{GUID}","user",[]]"#), &long, "7", "true", "[]"] {
            for body in [none.to_owned(), format!(r#"{{"{GUID}":{none}}}"#)] {
                let refused = AssignmentRequest::bind_many(body.as_bytes(), AssignmentKind::Entra).err();
                let Some(Error::BodyMalformed(fault)) = refused else { panic!("{body}: {refused:?}") };
                assert!(fault.contains("expected a JSON object") && fault.len() < 100, "{fault}");
            }
        }
    }

    #[test]
    fn assignments_are_bounded() {
        let guids = |count: u128| (0..count).map(|n| Uuid::from_u128(n).to_string()).collect::<Vec<_>>();
        let bound = |kind, clients| {
            let tenant = Uuid::from_u128(1);
            let body = json!({"principalType": "user", "tenantId": tenant, "clientIds": guids(clients)});
            AssignmentRequest::bind(body.to_string().as_bytes(), kind).map(|request| request.client_ids)
        };
        for kind in [AssignmentKind::Entra, AssignmentKind::TeamsExtension] {
            assert_eq!(bound(kind, 64).unwrap().unwrap().len(), MAX_CLIENT_IDS);
            let refused = bound(kind, 65).unwrap_err();
            assert_eq!(refused.message(&"host"), "ClientIds must be a list of at most 64 GUIDs.");
            assert_eq!(refused.target(), Some("clientIds"));
        }
        let bulk = |count| {
            let body = guids(count).iter().map(|id| format!("\"{id}\":null")).collect::<Vec<_>>().join(",");
            AssignmentRequest::bind_many(format!("{{{body}}}").as_bytes(), AssignmentKind::Entra)
        };
        assert_eq!(bulk(100).ok().unwrap().len(), MAX_CHANGES);
        let refused = bulk(101).err().unwrap().message(&"host");
        assert!(refused.contains("101 assignments") && refused.contains("at most 100"), "{refused}");
    }

    #[test]
    fn object_id_given_twice_is_malformed() {
        let id = "1b5cc06b-f352-4571-b1e6-d9b259b7c776";
        for again in [id.to_owned(), id.to_uppercase()] {
            let body = format!(r#"{{"{id}":null,"{again}":null}}"#);
            let refused = AssignmentRequest::bind_many(body.as_bytes(), AssignmentKind::Entra).err();
            assert!(matches!(refused, Some(Error::BodyMalformed(fault)) if fault.contains(id)));
        }
    }

    #[test]
    fn deep_nesting_is_malformed_not_fatal() {
        let body = format!("{{\"scopes\":{}", "[".repeat(30_000));
        let refused = TokenRequest::bind_issue(body.as_bytes(), ApiVersion::V2023_10_01);
        assert!(matches!(refused, Err(Error::BodyMalformed(_))));
    }
}
