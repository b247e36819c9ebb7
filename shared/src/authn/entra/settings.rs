//! Whom a deployment trusts in Entra: which authority, which tenants, which of their principals.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::host::Authority;
use crate::ids::guid;
use crate::settings::Reader;

/// The trust a deployment puts in Entra. With no tenant it trusts nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntraSettings {
    /// Where the keys of every tenant are published.
    pub authority: EntraAuthority,
    /// The tenants whose tokens are looked at.
    pub tenants: Vec<Uuid>,
    /// The principals that may call as a service.
    pub principals: Vec<Principal>,
}

/// Below what URL the tenants' metadata is, `https://host`, perhaps with a port and a path. Keys are fetched
/// from its host and port only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntraAuthority {
    origin: String,
    /// Empty, or from its first slash to before its last.
    path: String,
}

/// A user, an application or a managed identity of a tenant, by its object id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    pub tenant: Uuid,
    pub object: Uuid,
}

/// Tenants, separated by commas; perhaps none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants(pub Vec<Uuid>);

/// Principals, separated by commas; perhaps none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principals(pub Vec<Principal>);

/// The text is not of the form a setting must have.
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
    /// Reads `ENTRA_AUTHORITY`, `ENTRA_TENANTS` and `ENTRA_SERVICE_PRINCIPALS`, each if it is there.
    /// Nothing when one of them is at fault.
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

    /// Whether every principal belongs to a tenant that is trusted.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.principals.iter().all(|principal| self.tenants.contains(&principal.tenant))
    }
}

/// The value, or the default if it is missing; nothing if it is malformed.
fn optional<T: FromStr + Default>(reader: &mut Reader<'_>, name: &str, form: &str) -> Option<T> {
    match reader.optional::<String>(name, form) {
        None => Some(T::default()),
        Some(_) => reader.optional(name, form),
    }
}

impl EntraAuthority {
    /// Whether a URL leads to this host and port, over `https`, with nothing in it that two parsers could
    /// read differently.
    pub(super) fn hosts(&self, url: &str) -> bool {
        let closed = |b: u8| b.is_ascii_alphanumeric() || b"-._~/%?=&".contains(&b);
        origin(url).is_some_and(|(origin, path)| {
            origin == self.origin && path.starts_with('/') && path.bytes().all(closed)
        })
    }
}

/// Origin and path of an `https` URL, the origin in one spelling. User names and passwords are no part of
/// an origin and refused.
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
        let good = |segment: &str| !segment.is_empty() && segment.bytes().all(closed);
        // What comes before the first slash is empty.
        if path.split('/').skip(1).all(good) {
            Ok(Self { origin, path: path.to_owned() })
        } else {
            Err(MalformedSettingError::Authority)
        }
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

/// The parts of a comma list. An empty text has none: templates pass it for what is not set.
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
    fn nothing_set_is_the_public_authority_and_nobody() {
        for values in [&[][..], &[("ENTRA_TENANTS", ""), ("ENTRA_SERVICE_PRINCIPALS", " ")]] {
            let settings = read(values).unwrap();
            assert_eq!(settings, EntraSettings::default());
            assert_eq!(settings.authority.to_string(), "https://login.microsoftonline.com");
            assert!(settings.tenants.is_empty());
        }
    }

    #[test]
    fn good_settings_are_read() {
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
    fn an_authority_hosts_what_is_on_its_origin_only() {
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
