//! Identifiers: the raw ids that clients send, and the ids that this service mints.
//!
//! The grammar is docs/wire-contract.md#identifiers. Every form parses into a closed type and has one canonical form
//! with lower-case GUIDs, so that one identity has one key in the table.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use time::OffsetDateTime;
use time::macros::datetime;
use uuid::Uuid;

use crate::runtime::Random;

/// The GUID of the deployment's one resource; `resourceId` in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResourceId(Uuid);

/// The cloud of an identifier. Each cloud has its own prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cloud {
    Dod,
    GccHigh,
    Public,
}

/// A communication user of a resource, `8:acs:<resource>_<user>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserId {
    cloud: Cloud,
    resource: ResourceId,
    user: Uuid,
}

/// Any raw id of the wire contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RawId {
    /// `8:acs:<resource>_wf_<tenant>_<object>`: an Entra user of a resource.
    EntraUser { cloud: Cloud, resource: ResourceId, tenant: Uuid, object: Uuid },
    /// `4:<number>` or `4:anonymous`.
    Phone(String),
    /// `8:spool:<id>`: a legacy communication user.
    Spool(String),
    /// `28:orgid:<id>`, `28:gcch:<id>`, `28:dod:<id>`.
    TeamsApp { cloud: Cloud, app: Uuid },
    /// `8:acs:<resource>_<tenant>_<object>`: a Teams phone-extensibility user.
    TeamsExtensionUser { cloud: Cloud, resource: ResourceId, tenant: Uuid, object: Uuid },
    /// `8:orgid:<oid>`, `8:gcch:<oid>`, `8:dod:<oid>`.
    TeamsUser { cloud: Cloud, object: Uuid },
    /// `8:teamsvisitor:<id>`: an anonymous Teams user.
    TeamsVisitor(String),
    /// `8:acs:<resource>_<user>`.
    User(UserId),
}

/// The text has none of the forms of a raw id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a communication identifier")]
pub struct MalformedIdError;

/// Longest raw id, in bytes. The longest real form has 123.
const MAX_LENGTH: usize = 160;

/// The start of the count of milliseconds in real user GUIDs (docs/wire-contract.md#identifiers).
const USER_EPOCH: OffsetDateTime = datetime!(2020-01-01 08:00 UTC);

impl ResourceId {
    /// The form of a setting, for messages.
    pub const FORM: &str = "a GUID";

    /// The resource with this GUID.
    #[must_use]
    pub fn new(guid: Uuid) -> Self {
        Self(guid)
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for ResourceId {
    type Err = MalformedIdError;

    fn from_str(text: &str) -> Result<Self, MalformedIdError> {
        guid(text).map(Self)
    }
}

impl UserId {
    /// Mints the id of a new user. The first 64 bits count milliseconds since 2020-01-01T08:00Z, as in real ids, so
    /// ids sort by creation. The other 64 bits are random, so ids of different hosts do not collide.
    #[must_use]
    pub fn mint(resource: ResourceId, now: OffsetDateTime, random: &dyn Random) -> Self {
        let milliseconds = (now - USER_EPOCH).whole_milliseconds().max(0);
        let mut tail = [0_u8; 8];
        random.fill(&mut tail);
        let head = u64::try_from(milliseconds).unwrap_or(u64::MAX);
        let user = Uuid::from_u64_pair(head, u64::from_be_bytes(tail));
        Self { cloud: Cloud::Public, resource, user }
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "8:{}:{}_{}", self.cloud.acs(), self.resource, self.user.hyphenated())
    }
}

impl From<UserId> for RawId {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl RawId {
    /// The resource of the id. `None` if its form names no resource, or one outside the public cloud.
    #[must_use]
    pub fn resource(&self) -> Option<ResourceId> {
        match self {
            Self::User(UserId { cloud: Cloud::Public, resource, .. })
            | Self::EntraUser { cloud: Cloud::Public, resource, .. }
            | Self::TeamsExtensionUser { cloud: Cloud::Public, resource, .. } => Some(*resource),
            _ => None,
        }
    }

    /// The token's `skypeid`: the raw id without its leading `8:` (docs/wire-contract.md#token-claims).
    #[must_use]
    pub fn skype_id(&self) -> String {
        let text = self.to_string();
        text.strip_prefix("8:").map_or(text.clone(), str::to_owned)
    }
}

impl FromStr for RawId {
    type Err = MalformedIdError;

    fn from_str(text: &str) -> Result<Self, MalformedIdError> {
        if text.len() > MAX_LENGTH {
            return Err(MalformedIdError);
        }
        if let Some(number) = text.strip_prefix("4:") {
            return phone(number);
        }
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("8"), Some("acs"), Some(rest)) => acs(Cloud::Public, rest),
            (Some("8"), Some("gcch-acs"), Some(rest)) => acs(Cloud::GccHigh, rest),
            (Some("8"), Some("dod-acs"), Some(rest)) => acs(Cloud::Dod, rest),
            (Some("8"), Some("spool"), Some(id)) => opaque(id).map(Self::Spool),
            (Some("8"), Some("teamsvisitor"), Some(id)) => opaque(id).map(Self::TeamsVisitor),
            (Some("8"), Some(cloud), Some(oid)) => {
                Ok(Self::TeamsUser { cloud: Cloud::from_teams(cloud)?, object: guid(oid)? })
            }
            (Some("28"), Some(cloud), Some(id)) => {
                Ok(Self::TeamsApp { cloud: Cloud::from_teams(cloud)?, app: guid(id)? })
            }
            _ => Err(MalformedIdError),
        }
    }
}

impl fmt::Display for RawId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EntraUser { cloud, resource, tenant, object } => {
                write!(f, "8:{}:{resource}_wf_{}_{}", cloud.acs(), tenant.hyphenated(), object.hyphenated())
            }
            Self::Phone(number) => write!(f, "4:{number}"),
            Self::Spool(id) => write!(f, "8:spool:{id}"),
            Self::TeamsApp { cloud, app } => write!(f, "28:{}:{}", cloud.teams(), app.hyphenated()),
            Self::TeamsExtensionUser { cloud, resource, tenant, object } => {
                write!(f, "8:{}:{resource}_{}_{}", cloud.acs(), tenant.hyphenated(), object.hyphenated())
            }
            Self::TeamsUser { cloud, object } => write!(f, "8:{}:{}", cloud.teams(), object.hyphenated()),
            Self::TeamsVisitor(id) => write!(f, "8:teamsvisitor:{id}"),
            Self::User(user) => user.fmt(f),
        }
    }
}

impl Cloud {
    fn acs(self) -> &'static str {
        match self {
            Self::Dod => "dod-acs",
            Self::GccHigh => "gcch-acs",
            Self::Public => "acs",
        }
    }

    fn teams(self) -> &'static str {
        match self {
            Self::Dod => "dod",
            Self::GccHigh => "gcch",
            Self::Public => "orgid",
        }
    }

    fn from_teams(prefix: &str) -> Result<Self, MalformedIdError> {
        match prefix {
            "dod" => Ok(Self::Dod),
            "gcch" => Ok(Self::GccHigh),
            "orgid" => Ok(Self::Public),
            _ => Err(MalformedIdError),
        }
    }
}

/// Parses the part after `8:acs:`. Its number of pieces between underscores gives the kind. Two pieces are a user,
/// and three are a Teams extension user. The piece `wf` marks an Entra user.
fn acs(cloud: Cloud, rest: &str) -> Result<RawId, MalformedIdError> {
    let pieces: Vec<&str> = rest.split('_').collect();
    match *pieces.as_slice() {
        [resource, user] => Ok(RawId::User(UserId { cloud, resource: resource.parse()?, user: guid(user)? })),
        [resource, "wf", tenant, object] => Ok(RawId::EntraUser {
            cloud,
            resource: resource.parse()?,
            tenant: guid(tenant)?,
            object: guid(object)?,
        }),
        [resource, tenant, object] => Ok(RawId::TeamsExtensionUser {
            cloud,
            resource: resource.parse()?,
            tenant: guid(tenant)?,
            object: guid(object)?,
        }),
        _ => Err(MalformedIdError),
    }
}

fn phone(number: &str) -> Result<RawId, MalformedIdError> {
    let digits = number.strip_prefix('+').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number || number == "anonymous" {
        Ok(RawId::Phone(number.to_owned()))
    } else {
        Err(MalformedIdError)
    }
}

fn opaque(id: &str) -> Result<String, MalformedIdError> {
    let closed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if !id.is_empty() && id.bytes().all(closed) { Ok(id.to_owned()) } else { Err(MalformedIdError) }
}

/// Parses a GUID in the hyphenated form only. Upper-case digits are accepted. The output has lower case.
pub(crate) fn guid(text: &str) -> Result<Uuid, MalformedIdError> {
    if text.len() == 36 { Uuid::try_parse(text).map_err(|_| MalformedIdError) } else { Err(MalformedIdError) }
}

/// A new id for a request: 16 random bytes in 22 base64 characters.
pub(crate) fn request_id(random: &dyn Random) -> String {
    let mut bytes = [0; 16];
    random.fill(&mut bytes);
    STANDARD_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;
    use crate::testing::SeededRandom;

    const RESOURCE: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c776";

    #[derive(serde::Deserialize)]
    struct Row {
        text: String,
        kind: String,
        cloud: Option<String>,
    }

    fn kind(id: &RawId) -> &'static str {
        match id {
            RawId::EntraUser { .. } => "acs_entra_user",
            RawId::Phone(_) => "phone",
            RawId::Spool(_) => "spool",
            RawId::TeamsApp { .. } => "teams_app",
            RawId::TeamsExtensionUser { .. } => "acs_teams_extension_user",
            RawId::TeamsUser { .. } => "teams_user",
            RawId::TeamsVisitor(_) => "teams_visitor",
            RawId::User(_) => "acs_user",
        }
    }

    fn cloud(id: &RawId) -> Option<&'static str> {
        match id {
            RawId::User(UserId { cloud, .. })
            | RawId::EntraUser { cloud, .. }
            | RawId::TeamsExtensionUser { cloud, .. }
            | RawId::TeamsUser { cloud, .. }
            | RawId::TeamsApp { cloud, .. } => Some(match cloud {
                Cloud::Dod => "dod",
                Cloud::GccHigh => "gcch",
                Cloud::Public => "public",
            }),
            _ => None,
        }
    }

    #[test]
    fn vectors_parse_to_their_kinds() {
        let rows: Vec<Row> = serde_json::from_str(include_str!("../../tests/vectors/ids.json")).unwrap();
        assert!(rows.len() > 20);
        for row in rows {
            match row.text.parse::<RawId>() {
                Ok(id) => {
                    assert_eq!(kind(&id), row.kind, "{:?}", row.text);
                    if let Some(named) = cloud(&id) {
                        assert_eq!(Some(named), row.cloud.as_deref(), "{:?}", row.text);
                    }
                    assert_eq!(id.to_string().parse(), Ok(id));
                }
                Err(MalformedIdError) => assert_eq!(row.kind, "malformed", "{:?}", row.text),
            }
        }
    }

    #[test]
    fn minted_ids_count_milliseconds() {
        let resource: ResourceId = RESOURCE.parse().unwrap();
        let at = datetime!(2024-08-12 22:11:01.9 UTC);
        let text = UserId::mint(resource, at, &SeededRandom::new(7)).to_string();
        assert_eq!(text.len(), 79);
        assert!(text.starts_with("8:acs:1b5cc06b-f352-4571-b1e6-d9b259b7c776_00000021-e886-"), "{text}");
        assert_eq!(text.matches('_').count(), 1);
    }

    #[test]
    fn clock_before_the_epoch_mints_valid_ids() {
        let resource: ResourceId = RESOURCE.parse().unwrap();
        let id = UserId::mint(resource, datetime!(1999-01-01 00:00 UTC), &SeededRandom::new(1));
        assert!(id.to_string().parse::<RawId>().is_ok());
    }

    fn valid_id() -> impl Strategy<Value = String> {
        const GUID: &str = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}";
        let forms = [
            format!("8:(acs|gcch-acs|dod-acs):{GUID}_(wf_{GUID}_|{GUID}_)?{GUID}"),
            format!("(8|28):(orgid|gcch|dod):{GUID}"),
            "8:(spool|teamsvisitor):[0-9a-zA-Z_-]{1,40}".to_owned(),
            r"4:(\+?[0-9]{1,15}|anonymous)".to_owned(),
        ];
        prop::sample::select(forms.to_vec()).prop_flat_map(|form| string_regex(&form).unwrap())
    }

    proptest! {
        #[test]
        fn valid_ids_round_trip_in_lower_case(text in valid_id()) {
            let id: RawId = text.parse().unwrap();
            prop_assert_eq!(id.to_string().to_ascii_lowercase(), text.to_ascii_lowercase());
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn foreign_characters_make_ids_malformed(text in valid_id(), at: usize, other in "[^0-9a-zA-Z:_+-]") {
            let mut text = text;
            text.insert_str(at % (text.len() + 1), &other);
            prop_assert_eq!(text.parse::<RawId>(), Err(MalformedIdError), "{}", text);
        }

        #[test]
        fn random_texts_parse_only_with_a_known_prefix(text in ".{0,90}") {
            let has_prefix = ["4:", "8:", "28:"].iter().any(|prefix| text.starts_with(prefix));
            prop_assert!(has_prefix || text.parse::<RawId>().is_err(), "{}", text);
        }

        #[test]
        fn minted_ids_sort_by_time(a in 0_i64..10_i64.pow(12), b in 0_i64..10_i64.pow(12), seed: u64) {
            let resource: ResourceId = RESOURCE.parse().unwrap();
            let random = SeededRandom::new(seed);
            let at = |ms| USER_EPOCH + time::Duration::milliseconds(ms);
            let (first, second) = (
                UserId::mint(resource, at(a), &random).to_string(),
                UserId::mint(resource, at(b), &random).to_string(),
            );
            if a != b {
                prop_assert_eq!(first < second, a < b);
            }
            prop_assert_ne!(first, second);
        }
    }
}
