//! The settings for Entra: the trusted authority, its tenants and their principals.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::host::Authority;
use crate::ids::guid;
use crate::settings::Reader;

/// The trust of a deployment in Entra. Without a tenant, no Entra token is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntraSettings {
    /// The server that publishes the keys of every tenant.
    pub authority: EntraAuthority,
    /// The tenants whose tokens are verified.
    pub tenants: Vec<Uuid>,
    /// The principals that may call as a service.
    pub principals: Vec<Principal>,
}

/// The base URL of the tenants' metadata: `https://host`, with an optional port and path. Keys are fetched only from its
/// host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraAuthority {
    origin: String,
    /// Empty, or with a leading slash and without a trailing one.
    path: String,
}

/// A user, an application or a managed identity of a tenant. The object id names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    pub tenant: Uuid,
    pub object: Uuid,
}

/// A list of tenants, separated by commas. It may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants(pub Vec<Uuid>);

/// A list of principals, separated by commas. It may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principals(pub Vec<Principal>);

/// The text does not have the form of the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedSettingError {
    #[error("not an https URL of host, port and path")]
    Authority,
    #[error("not tenant/objectId, two GUIDs")]
    Principal,
    #[error("not a GUID")]
    Tenant,
}

/// The public cloud's authority.
const PUBLIC_ORIGIN: &str = "https://login.microsoftonline.com";

const PRINCIPALS: &str = "ENTRA_SERVICE_PRINCIPALS";
const PRINCIPALS_FORM: &str =
    "tenant/objectId pairs, separated by commas, of tenants that ENTRA_TENANTS names";

impl EntraSettings {
    /// Reads `ENTRA_AUTHORITY`, `ENTRA_TENANTS` and `ENTRA_SERVICE_PRINCIPALS`, each of which may be missing. `None` when
    /// one of them is malformed.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let authority = optional(reader, "ENTRA_AUTHORITY", "a URL like https://login.microsoftonline.com");
        let tenants = optional(reader, "ENTRA_TENANTS", "GUIDs, separated by commas");
        let principals = optional(reader, PRINCIPALS, PRINCIPALS_FORM);
        let Tenants(tenants) = tenants?;
        let Principals(principals) = principals?;
        let settings = Self { authority: authority?, tenants, principals };
        if settings.is_consistent() {
            return Some(settings);
        }
        reader.fault(PRINCIPALS, PRINCIPALS_FORM);
        None
    }

    /// Whether every principal belongs to a trusted tenant.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.principals.iter().all(|principal| self.tenants.contains(&principal.tenant))
    }
}

/// The value, or the default if it is missing. `None` if it is malformed.
fn optional<T: FromStr + Default>(reader: &mut Reader<'_>, name: &str, form: &str) -> Option<T> {
    match reader.optional::<String>(name, form) {
        None => Some(T::default()),
        Some(_) => reader.optional(name, form),
    }
}

impl EntraAuthority {
    /// Whether a URL is an `https` URL at this host and port, and has no character that two parsers could read differently.
    pub(super) fn hosts(&self, url: &str) -> bool {
        let closed = |b: u8| b.is_ascii_alphanumeric() || b"-._~/%?=&".contains(&b);
        origin(url).is_some_and(|(origin, path)| {
            origin == self.origin && path.starts_with('/') && path.bytes().all(closed)
        })
    }
}

/// The normalized origin and the path of an `https` URL. A URL with a user name or a password is refused.
fn origin(url: &str) -> Option<(String, &str)> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.parse::<Authority>().ok()?.to_string();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    Some((format!("https://{authority}"), path))
}

impl Default for EntraAuthority {
    fn default() -> Self {
        Self { origin: PUBLIC_ORIGIN.to_owned(), path: String::new() }
    }
}

impl fmt::Display for EntraAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl FromStr for EntraAuthority {
    type Err = MalformedSettingError;

    fn from_str(text: &str) -> Result<Self, MalformedSettingError> {
        let (origin, path) = origin(text).ok_or(MalformedSettingError::Authority)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let closed = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        let is_segment = |segment: &str| !segment.is_empty() && segment.bytes().all(closed);
        // The text before the first slash is empty.
        if path.split('/').skip(1).all(is_segment) {
            Ok(Self { origin, path: path.to_owned() })
        } else {
            Err(MalformedSettingError::Authority)
        }
    }
}

/// The form of the setting: `tenant/objectId`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.object)
    }
}

impl FromStr for Principal {
    type Err = MalformedSettingError;

    fn from_str(text: &str) -> Result<Self, MalformedSettingError> {
        let malformed = MalformedSettingError::Principal;
        let (tenant, object) = text.split_once('/').ok_or(malformed)?;
        let [tenant, object] = [tenant, object].map(|part| guid(part).map_err(|_| malformed));
        Ok(Self { tenant: tenant?, object: object? })
    }
}

impl FromStr for Tenants {
    type Err = MalformedSettingError;

    fn from_str(text: &str) -> Result<Self, MalformedSettingError> {
        let tenant = |part| guid(part).map_err(|_| MalformedSettingError::Tenant);
        parts(text).map(tenant).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Principals {
    type Err = MalformedSettingError;

    fn from_str(text: &str) -> Result<Self, MalformedSettingError> {
        parts(text).map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// The parts of a comma list. An empty text has no parts, because templates pass it for a missing value.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let list = Some(text.trim()).filter(|text| !text.is_empty());
    list.into_iter().flat_map(|text| text.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SettingsErrors;

    const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
    const B: &str = "BBBBBBBB-0000-4000-8000-000000000002";

    fn read(values: &[(&str, &str)]) -> Result<EntraSettings, SettingsErrors> {
        let lookup =
            |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let mut reader = Reader::new(&lookup);
        let settings = EntraSettings::read(&mut reader);
        reader.finish(settings)
    }

    #[test]
    fn without_settings_no_token_is_trusted() {
        for values in [&[][..], &[("ENTRA_TENANTS", ""), ("ENTRA_SERVICE_PRINCIPALS", " ")]] {
            let settings = read(values).unwrap();
            assert_eq!(settings, EntraSettings::default());
            assert_eq!(settings.authority.to_string(), "https://login.microsoftonline.com");
            assert!(settings.tenants.is_empty());
        }
    }

    #[test]
    fn valid_settings_are_read() {
        let settings = read(&[
            ("ENTRA_AUTHORITY", "https://Login.Example.com:443/"),
            ("ENTRA_TENANTS", &format!("{A}, {B}")),
            ("ENTRA_SERVICE_PRINCIPALS", &format!("{A}/{B},{B}/{A}")),
        ])
        .unwrap();
        assert_eq!(settings.authority.to_string(), "https://login.example.com");
        let [a, b] = [A, B].map(|guid| guid.parse::<Uuid>().unwrap());
        assert_eq!(settings.tenants, [a, b]);
        let principals = [Principal { tenant: a, object: b }, Principal { tenant: b, object: a }];
        assert_eq!(settings.principals, principals);
    }

    #[test]
    fn every_fault_is_reported_once() {
        let faults = |values: &[(&str, &str)]| read(values).unwrap_err().to_string();
        let all = faults(&[
            ("ENTRA_AUTHORITY", "http://login.example.com"),
            ("ENTRA_TENANTS", "contoso.com"),
            ("ENTRA_SERVICE_PRINCIPALS", A),
        ]);
        assert_eq!(all.lines().count(), 3, "{all}");
        let tenants = faults(&[("ENTRA_TENANTS", "{A}"), ("ENTRA_SERVICE_PRINCIPALS", &format!("{A}/{B}"))]);
        assert!(tenants.starts_with("ENTRA_TENANTS") && tenants.lines().count() == 1, "{tenants}");
        for tenants in [&[][..], &[("ENTRA_TENANTS", B)]] {
            let principals = ("ENTRA_SERVICE_PRINCIPALS", &*format!("{A}/{B}"));
            let foreign = faults(&[tenants, &[principals]].concat());
            assert!(foreign.starts_with("ENTRA_SERVICE_PRINCIPALS"), "{foreign}");
            assert_eq!(foreign.lines().count(), 1, "{foreign}");
        }
    }

    #[test]
    fn lists_have_no_empty_part() {
        for text in [",", &format!("{A},"), &format!("{{{A}}}"), &A.replace('-', "")] {
            assert_eq!(text.parse::<Tenants>(), Err(MalformedSettingError::Tenant), "{text}");
        }
        for text in [A, &format!("{A}/"), &format!("{A}/{B}/"), &format!("{A}/{B},"), &format!("{A} / {B}")] {
            assert_eq!(text.parse::<Principals>(), Err(MalformedSettingError::Principal), "{text}");
        }
    }

    #[test]
    fn an_authority_is_host_port_and_path() {
        for text in
            ["https://a", "https://a:8443", "https://[::1]:8443", "https://127.0.0.1", "https://a:1/b/c-d_e"]
        {
            assert_eq!(text.parse::<EntraAuthority>().unwrap().to_string(), text);
            assert_eq!(format!("{text}/").parse::<EntraAuthority>().unwrap().to_string(), text);
        }
        for text in [
            "a",
            "http://a",
            "HTTPS://a",
            "https://",
            "https:///a",
            "https://a//",
            "https://a//b",
            "https://a?b",
            "https://a/../b",
            "https://a/b?c",
            "https://a/b#c",
            "https://a#b",
            "https://u@a",
            "https://u:p@a",
            "https://a:",
            "https://a:0x1",
            "https://a b",
            "https://a/b c",
            "https://a/%2e",
        ] {
            assert_eq!(text.parse::<EntraAuthority>(), Err(MalformedSettingError::Authority), "{text}");
        }
    }

    #[test]
    fn an_authority_hosts_only_urls_at_its_origin() {
        let authority: EntraAuthority = "https://login.example.com/entra".parse().unwrap();
        for url in ["/", "/common/discovery/keys", "/a-b_c~d/v2.0/keys?appid=1&b=%20"] {
            for origin in ["https://login.example.com", "https://LOGIN.example.com:443"] {
                assert!(authority.hosts(&format!("{origin}{url}")), "{origin}{url}");
            }
        }
        for url in [
            "http://login.example.com/keys",
            "https://login.example.com",
            "https://login.example.com:8443/keys",
            "https://login.example.com.evil.example/keys",
            "https://evil.example/https://login.example.com/keys",
            "https://login.example.com@evil.example/keys",
            "https://evil.example\\@login.example.com/keys",
            "https://login.example.com\\.evil.example/keys",
            "https://login.example.com/keys#fragment",
            "https://login.example.com/keys\r\nhost: evil",
            "https://login.example.com?@evil.example/keys",
            "https://127.0.0.1/keys",
            "https://[::1]/keys",
            "file:///etc/passwd",
            "//login.example.com/keys",
            "/keys",
            "",
        ] {
            assert!(!authority.hosts(url), "{url}");
        }
    }
}
