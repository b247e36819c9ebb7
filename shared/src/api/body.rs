//! Request bodies: JSON objects whose members are validated one by one, so that an error names its member.
//!
//! Validation has two layers, as in the recorded service (docs/wire-contract.md#validation-order). Binding checks that
//! the body is a JSON object, that each member has its type, and that required members are present. Rules about values
//! come later. A member that is `null` counts as missing. Members that a version does not have are ignored.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use uuid::Uuid;

use crate::api::error::{Error, Field};
use crate::api::version::ApiVersion;
use crate::ids::guid;
use crate::json::{self, Members, Object};
use crate::lifetime::Lifetime;
use crate::store::assignments::{AssignmentKind, MAX_CHANGES, MAX_CLIENT_IDS, PrincipalType};
use crate::token::scope::{ScopeError, ScopeSet};

/// The requested scopes and lifetime of a token, bound but not yet validated.
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
    /// Binds the body of a creation. Every member is optional.
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

    /// Binds the body of an issue. The member `scopes` is required.
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

    /// The scopes and the lifetime of the token to mint.
    ///
    /// # Errors
    /// [`Error::Scopes`] or [`Error::ExpiresInMinutesOutOfRange`].
    pub fn validate(&self) -> Result<(ScopeSet, Lifetime), Error> {
        let names = self.scopes.iter().flatten().map(String::as_str);
        Ok((ScopeSet::parse(names)?, self.lifetime()?))
    }

    /// The scopes and the lifetime of the token to mint. `None` if no scope is requested. A lifetime is validated even
    /// without scopes.
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
        Lifetime::from_minutes(minutes.into()).map_err(|error| Error::ExpiresInMinutesOutOfRange(error.0))
    }
}

/// The body of a Teams user's exchange. Its members are validated between other checks of the operation.
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
    /// [`Error::TokenRequired`] or [`Error::FieldType`].
    pub fn token(&self) -> Result<&str, Error> {
        match &self.token {
            None | Some(Value::Null) => Err(Error::TokenRequired),
            Some(Value::String(token)) => Ok(token),
            Some(_) => Err(Error::FieldType(Field::Token, A_STRING)),
        }
    }

    /// The application and the user that the token must have. Both must be present before one of them is validated.
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

/// The token of an introspection request. The body is a form with `token=...` (RFC 7662 section 2.1). All other members
/// are ignored, and so is `token_type_hint`.
///
/// # Errors
/// [`Error::FieldRequired`] without a token. [`Error::BodyMalformed`] with several tokens.
pub fn introspected_token(body: &[u8]) -> Result<Cow<'_, str>, Error> {
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == "token").map(|(_, token)| token);
    match (tokens.next(), tokens.next()) {
        (None, _) => Err(Error::FieldRequired(Field::Token)),
        (Some(token), None) if token.trim().is_empty() => Err(Error::FieldRequired(Field::Token)),
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

/// Checks that a body is a JSON object. Its members are ignored.
///
/// # Errors
/// [`Error::BodyMalformed`].
pub fn bind_empty(body: &[u8]) -> Result<(), Error> {
    object::<HashMap<String, IgnoredAny>>(body).map(|_| ())
}

const A_STRING: &str = "a string";

/// A string member that must be present and not empty.
fn required_text(field: Field, member: Option<&Value>) -> Result<&str, Error> {
    match member {
        None | Some(Value::Null) => Err(Error::FieldRequired(field)),
        Some(Value::String(text)) if text.is_empty() => Err(Error::FieldRequired(field)),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::FieldType(field, A_STRING)),
    }
}

/// Reads a body as a JSON object. An empty body counts as an empty object.
fn object<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(body).map_err(|fault| {
        let line = body.iter().take(fault.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        Error::BodyMalformed(format!("invalid UTF-8 at line {line}"))
    })?;
    if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
        return Ok(T::default());
    }
    json::object(body).map_err(|fault| Error::BodyMalformed(fault.to_string()))
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
        Some(_) if !version.has_lifetime() => Ok(None),
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

    fn random_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..200)
    }

    /// JSON texts, most of them objects with the members of a token request.
    fn json_bytes() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z.]{0,10}".prop_map(Value::from),
        ];
        let value = prop_oneof![leaf.clone(), prop::collection::vec(leaf, 0..4).prop_map(Value::from)];
        let name = prop::sample::select(vec!["scopes", "expiresInMinutes", "other"]);
        let object = prop::collection::hash_map(name.prop_map(str::to_owned), value.clone(), 0..4);
        let object = object.prop_map(|members| Value::Object(members.into_iter().collect()));
        prop_oneof![4 => object, 1 => value].prop_map(|value| value.to_string().into_bytes())
    }

    proptest! {
        #[test]
        fn bodies_bind_only_as_objects_with_typed_members(body in prop_oneof![random_bytes(), json_bytes()]) {
            let is_blank = body.iter().all(|byte| b" \t\r\n".contains(byte));
            let members = serde_json::from_slice::<HashMap<String, Value>>(&body).ok();
            let members = members.or_else(|| is_blank.then(HashMap::new));
            let member = |name| members.as_ref().and_then(|members| members.get(name)).unwrap_or(&Value::Null);
            let scopes = member("scopes").as_array();
            let are_strings = scopes.is_none_or(|scopes| scopes.iter().all(Value::is_string));

            let issue = TokenRequest::bind_issue(&body, ApiVersion::V2021_03_07);
            prop_assert_eq!(issue.is_ok(), scopes.is_some() && are_strings);
            prop_assert_eq!(matches!(issue, Err(Error::BodyMalformed(_))), members.is_none());
            let requires_scopes = matches!(issue, Err(Error::FieldRequired(Field::Scopes)));
            prop_assert_eq!(requires_scopes, members.is_some() && member("scopes").is_null());

            let minutes = member("expiresInMinutes");
            let is_32_bit = minutes.as_i64().is_some_and(|minutes| i32::try_from(minutes).is_ok());
            let create = TokenRequest::bind_create(&body, ApiVersion::V2023_10_01);
            prop_assert_eq!(create.is_ok(), members.is_some() && (minutes.is_null() || is_32_bit));
        }

        #[test]
        fn lifetimes_are_valid_inside_the_interval(minutes: i32) {
            let body = format!(r#"{{"scopes":["chat"],"expiresInMinutes":{minutes}}}"#);
            let request = TokenRequest::bind_issue(body.as_bytes(), ApiVersion::V2022_10_01).unwrap();
            prop_assert_eq!(request.validate().is_ok(), (60..=1440).contains(&minutes));
        }
    }

    #[test]
    fn non_objects_are_malformed_at_any_depth() {
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
            let Error::FieldValue(Field::ClientIds, allowed) = refused else { panic!("{refused:?}") };
            assert_eq!(allowed, format!("a list of at most {MAX_CLIENT_IDS} GUIDs"));
        }
        let bulk = |count| {
            let body = guids(count).iter().map(|id| format!("\"{id}\":null")).collect::<Vec<_>>().join(",");
            AssignmentRequest::bind_many(format!("{{{body}}}").as_bytes(), AssignmentKind::Entra)
        };
        assert_eq!(bulk(100).ok().unwrap().len(), MAX_CHANGES);
        let Some(Error::BodyMalformed(fault)) = bulk(101).err() else { panic!("101 are too many") };
        assert!(fault.contains("101 assignments") && fault.contains("at most 100"), "{fault}");
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
    fn deep_nesting_is_malformed() {
        let body = format!("{{\"scopes\":{}", "[".repeat(30_000));
        let refused = TokenRequest::bind_issue(body.as_bytes(), ApiVersion::V2023_10_01);
        assert!(matches!(refused, Err(Error::BodyMalformed(_))));
    }
}
