//! Request bodies: JSON objects whose members are validated one by one, so that an error names its member.
//!
//! Validation has two layers, as in the recorded service (docs/wire-contract.md#validation-order). Binding checks that
//! the body is a JSON object, that each member has its type, and that required members are present. Rules about values
//! come later. A member that is `null` counts as missing. Members that a version does not have are ignored.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::api::error::{Error, Field};
use crate::api::version::ApiVersion;
use crate::ids::guid;
use crate::json::{self, Loose, Members};
use crate::lifetime::Lifetime;
use crate::store::assignments::{AssignmentKind, MAX_CHANGES, MAX_CLIENT_IDS, PrincipalType};
use crate::store::custom_ids::CustomId;
use crate::token::scope::{ScopeError, ScopeSet};

/// The requested scopes and lifetime of a token, bound but not yet validated.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenRequest {
    scopes: Option<Vec<String>>,
    minutes: Option<i32>,
}

/// The body of a creation.
pub struct CreateRequest {
    /// `None` if the version has no profiles.
    pub custom_id: Option<CustomId>,
    pub token: TokenRequest,
}

/// The form of a custom id, for messages.
pub(super) const CUSTOM_ID: &str = "a text of 1 to 256 characters";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateMembers {
    custom_id: Option<Value>,
    create_token_with_scopes: Option<Value>,
    expires_in_minutes: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct IssueMembers {
    scopes: Option<Value>,
    expires_in_minutes: Option<Value>,
}

impl CreateRequest {
    /// Binds the body of a creation. Every member is optional.
    ///
    /// # Errors
    /// [`Error::BodyMalformed`], [`Error::FieldType`], or [`Error::FieldValue`] for the custom id.
    pub fn bind(body: &[u8], version: ApiVersion) -> Result<Self, Error> {
        let members: CreateMembers = object(body)?;
        let token = TokenRequest {
            scopes: names(Field::CreateTokenWithScopes, members.create_token_with_scopes)?,
            minutes: minutes(members.expires_in_minutes, version)?,
        };
        let custom_id = members.custom_id.filter(|_| version.has_profile());
        let custom_id = custom_id.and_then(|member| text(Field::CustomId, member).transpose()).transpose()?;
        let custom_id = custom_id.map(|text| text.parse());
        let custom_id = custom_id.transpose().map_err(|_| Error::FieldValue(Field::CustomId, CUSTOM_ID))?;
        Ok(Self { custom_id, token })
    }
}

impl TokenRequest {
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

    /// Whether the list of scopes is there and empty. A creation then gives no token.
    #[must_use]
    pub fn has_empty_scopes(&self) -> bool {
        self.scopes.as_ref().is_some_and(Vec::is_empty)
    }

    fn lifetime(&self) -> Result<Lifetime, Error> {
        let Some(minutes) = self.minutes else {
            return Ok(Lifetime::default());
        };
        Lifetime::from_minutes(minutes.into()).map_err(|error| Error::ExpiresInMinutesOutOfRange(error.0))
    }
}

/// A member of an update: the tokens that were issued before this instant become invalid.
pub(super) const NOT_IN_THE_FUTURE: &str = "an instant that is not in the future";

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateMembers {
    tokens_valid_from: Option<Value>,
}

/// Checks the body of an update. `latest` is the latest instant that is not in the future.
///
/// # Errors
/// [`Error::BodyMalformed`], or [`Error::FieldType`], [`Error::FieldFormat`] or [`Error::FieldValue`] for the instant.
pub fn check_update(body: &[u8], latest: OffsetDateTime) -> Result<(), Error> {
    const FIELD: Field = Field::TokensValidFrom;
    let UpdateMembers { tokens_valid_from } = object(body)?;
    let Some(text) = tokens_valid_from.and_then(|member| text(FIELD, member).transpose()).transpose()? else {
        return Ok(());
    };
    let instant = OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| Error::FieldFormat(FIELD))?;
    if instant <= latest { Ok(()) } else { Err(Error::FieldValue(FIELD, NOT_IN_THE_FUTURE)) }
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

const FORM: &str = "application/x-www-form-urlencoded";

/// Checks that a body is a form. A request without a media type passes, because some clients send none.
///
/// # Errors
/// [`Error::BodyMediaType`].
pub fn check_form(headers: &HeaderMap) -> Result<(), Error> {
    let mut media_types = headers.get_all(CONTENT_TYPE).iter().map(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split_once(';').map_or(value, |(media_type, _)| media_type).trim()
    });
    if media_types.all(|media_type| media_type.eq_ignore_ascii_case(FORM)) {
        Ok(())
    } else {
        Err(Error::BodyMediaType(FORM))
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
        let Members(members) = object::<Members<Option<Loose<AssignmentMembers>>>>(body)?;
        if members.len() > MAX_CHANGES {
            let fault =
                format!("it has {} assignments, and at most {MAX_CHANGES} are allowed", members.len());
            return Err(Error::BodyMalformed(fault));
        }
        let mut changes = BTreeMap::new();
        for (object, members) in members {
            let object = guid(&object).map_err(|_| Error::FieldFormat(Field::ObjectId))?;
            let change = members.map(|Loose(members)| Self::validate(members, kind)).transpose()?;
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

/// A string member that may be `null`.
fn text(field: Field, member: Value) -> Result<Option<String>, Error> {
    match member {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(Error::FieldType(field, A_STRING)),
    }
}

/// A string member that must be present and not empty.
fn required_text(field: Field, member: Option<&Value>) -> Result<&str, Error> {
    match member {
        None | Some(Value::Null) => Err(Error::FieldRequired(field)),
        Some(Value::String(text)) if text.is_empty() => Err(Error::FieldRequired(field)),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Error::FieldType(field, A_STRING)),
    }
}

/// Reads a body as a JSON object, by the rules of [`json::loose_object`]. An empty body counts as an empty object. A
/// byte-order mark is skipped.
fn object<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Error> {
    let body = json::without_mark(body);
    let text = std::str::from_utf8(body).map_err(|fault| {
        let line = body.iter().take(fault.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        Error::BodyMalformed(format!("invalid UTF-8 at line {line}"))
    })?;
    if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
        return Ok(T::default());
    }
    json::loose_object(body).map_err(|fault| Error::BodyMalformed(fault.to_string()))
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
            let minutes = json::integer(&value).and_then(|minutes| i32::try_from(minutes).ok());
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

    #[test]
    fn member_names_have_any_letter_case() {
        const GUID: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c776";
        for body in [
            r#"{"CreateTokenWithScopes":["chat"],"EXPIRESINMINUTES":60}"#,
            r#"{"createtokenwithscopes":["chat"],"\u0045xpiresInMinutes":"60"}"#,
            "\u{feff}{\"createTokenWithScopes\":[\"chat\"],\"expiresInMinutes\":\"060\"}",
        ] {
            let request = CreateRequest::bind(body.as_bytes(), ApiVersion::V2023_10_01).unwrap().token;
            assert_eq!(request, TokenRequest { scopes: Some(vec!["chat".to_owned()]), minutes: Some(60) });
        }
        let teams = TeamsUserExchange::bind(br#"{"Token":"t","APPID":"a","userid":"u"}"#).unwrap();
        assert!(teams.token().is_ok() && teams.app_id.is_some() && teams.user_id.is_some());
        let members = format!(r#"{{"PrincipalType":"user","TENANTID":"{GUID}","clientids":[]}}"#);
        assert!(AssignmentRequest::bind(members.as_bytes(), AssignmentKind::Entra).is_ok());
        let many = format!(r#"{{"{}":{members}}}"#, GUID.to_uppercase());
        assert!(AssignmentRequest::bind_many(many.as_bytes(), AssignmentKind::Entra).is_ok());
    }

    #[test]
    fn members_that_differ_in_letter_case_are_duplicates() {
        let issue = |body: &str| TokenRequest::bind_issue(body.as_bytes(), ApiVersion::V2023_10_01);
        let said = |body: &str| match issue(body) {
            Err(Error::BodyMalformed(fault)) => fault,
            other => panic!("{body}: {other:?}"),
        };
        let same = said(r#"{"scopes":["chat"],"scopes":["chat"]}"#);
        assert_eq!(said(r#"{"scopes":["chat"],"Scopes":["chat"]}"#), same);
        assert!(same.starts_with("duplicate field `scopes` at line 1"), "{same}");
        // The Kelvin sign is no letter of ASCII.
        let teams = TeamsUserExchange::bind("{\"to\u{212a}en\":\"t\"}".as_bytes()).unwrap();
        assert!(matches!(teams.token(), Err(Error::TokenRequired)));
        assert!(said("\u{feff}\u{feff}{}").contains("expected value"), "only one mark is skipped");
    }

    proptest! {
        #[test]
        fn only_digits_are_integers(text in "[0-9]{0,12}|[ +0-9.e-]{0,6}") {
            let body = serde_json::json!({"scopes": ["chat"], "expiresInMinutes": &text}).to_string();
            let request = TokenRequest::bind_issue(body.as_bytes(), ApiVersion::V2023_10_01);
            let is_integer = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<i32>().is_ok();
            prop_assert_eq!(request.is_ok(), is_integer);
        }

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
            let create = CreateRequest::bind(&body, ApiVersion::V2023_10_01);
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
    fn custom_id_is_bound_only_in_its_version() {
        let bind = |value: Value, version| {
            let body = json!({ "customId": value }).to_string();
            let bound = CreateRequest::bind(body.as_bytes(), version);
            bound.map(|request| request.custom_id.map(|custom_id| custom_id.expose().to_owned()))
        };
        let texts = ["alice@contoso.com".to_owned(), " ".to_owned(), "\u{1f600}".repeat(256)];
        for text in texts {
            assert_eq!(bind(json!(text), ApiVersion::V2025_03_02Preview).unwrap(), Some(text));
        }
        assert_eq!(bind(Value::Null, ApiVersion::V2025_03_02Preview).unwrap(), None);
        for text in [String::new(), "x".repeat(257)] {
            let refused = bind(json!(text), ApiVersion::V2025_03_02Preview);
            assert!(matches!(refused, Err(Error::FieldValue(Field::CustomId, _))), "{refused:?}");
        }
        for value in [json!(7), json!(["a"]), json!({}), json!(true)] {
            let refused = bind(value.clone(), ApiVersion::V2025_03_02Preview);
            assert!(matches!(refused, Err(Error::FieldType(Field::CustomId, _))), "{refused:?}");
        }
        for version in ApiVersion::ALL.iter().filter(|version| !version.has_profile()) {
            for value in [json!("alice"), json!(""), json!(7)] {
                assert_eq!(bind(value, *version).unwrap(), None, "{version}");
            }
        }
    }

    #[test]
    fn update_takes_any_instant_up_to_the_latest() {
        let latest = time::macros::datetime!(2024-03-01 12:05 UTC);
        let check = |body: &str| check_update(body.as_bytes(), latest);
        for taken in [
            "",
            "{}",
            r#"{"tokensValidFrom":null}"#,
            r#"{"tokensValidFrom":"2020-11-10T12:00:00.000Z"}"#,
            r#"{"tokensValidFrom":"2020-11-10T12:00:00.0000000+00:00"}"#,
            r#"{"tokensValidFrom":"2024-03-01T13:05:00+01:00"}"#,
        ] {
            assert!(check(taken).is_ok(), "{taken}");
        }
        for (refused, error) in [
            (r#"{"tokensValidFrom":"2024-03-01T12:05:00.001Z"}"#, "FieldValue"),
            (r#"{"tokensValidFrom":"9999-12-31T23:59:59Z"}"#, "FieldValue"),
            (r#"{"tokensValidFrom":""}"#, "FieldFormat"),
            (r#"{"tokensValidFrom":"2020-11-10"}"#, "FieldFormat"),
            (r#"{"tokensValidFrom":1}"#, "FieldType"),
            ("[]", "BodyMalformed"),
        ] {
            let found = format!("{:?}", check(refused).unwrap_err());
            assert!(found.starts_with(error), "{refused}: {found}");
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
