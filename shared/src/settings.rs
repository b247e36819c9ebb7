//! Settings of a deployment, which is one resource.
//!
//! A lookup function supplies the values, so that only the composition root reads the environment. All faults are
//! reported at once.

use std::fmt;
use std::str::FromStr;

use crate::api::cors::{AllowedOrigins, CorsSettings};
use crate::authn::target::PathForm;
use crate::host::Hosts;
use crate::ids::ResourceId;
use crate::lifetime::DateWindow;

/// The settings of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub resource: Resource,
    /// The hosts that clients may address. The public host comes first.
    pub hosts: Hosts,
    /// The largest difference between the date of a signed request and the clock.
    pub date_window: DateWindow,
    /// The web origins whose pages may read replies.
    pub cors: CorsSettings,
    /// The form in which a gateway delivers the path, by configuration. `None` for a host that knows the form.
    pub gateway_path: Option<PathForm>,
}

/// The resource of the tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `resourceId` and `aud` of its tokens.
    pub id: ResourceId,
    /// `iss` of its tokens.
    pub issuer: Issuer,
    /// `resourceLocation`, like `unitedstates`.
    pub location: Location,
    /// `rgn`, like `amer`.
    pub region: Location,
    /// Whether its new tokens have the claim `scope`. Tokens with and without it are verified alike.
    pub scope_claim: bool,
}

/// A location or region claim: lower-case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(String);

/// An issuer: an `https` URL without query or fragment. Two SDKs decode tokens with the standard base64 alphabet, so its
/// characters are restricted (docs/wire-contract.md#token-readers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer(String);

/// Every fault of the settings, one per line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsErrors(Vec<String>);

/// A reader of named values that collects their faults.
pub struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<String>,
}

impl Settings {
    /// Reads `RESOURCE_ID`, `RESOURCE_LOCATION`, `RESOURCE_REGION`, `ISSUER`, `ACCEPTED_HOSTS` (a comma list, with the
    /// public host first), and the optional `SCOPE_CLAIM`, `REQUEST_DATE_WINDOW_MINUTES`, `GATEWAY_PATH`,
    /// `ALLOWED_ORIGINS` and `ALLOWED_ORIGINS_WITH_ACCESS_KEY`. `None` if a value is missing or malformed.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let id = reader.required("RESOURCE_ID", ResourceId::FORM);
        let location = reader.required("RESOURCE_LOCATION", "a name like unitedstates");
        let region = reader.required("RESOURCE_REGION", "a name like amer");
        let issuer = reader.required("ISSUER", Issuer::FORM);
        let scope_claim = reader.optional("SCOPE_CLAIM", "true or false").unwrap_or(false);
        let hosts = reader.required("ACCEPTED_HOSTS", "host names or host:port, separated by commas");
        let date_window = reader.optional("REQUEST_DATE_WINDOW_MINUTES", "a number from 1 to 15");
        let gateway_path = Some(reader.optional("GATEWAY_PATH", "decoded or wire").unwrap_or_default());
        let mut origins =
            |name| reader.optional::<AllowedOrigins>(name, AllowedOrigins::FORM).unwrap_or_default();
        let cors = CorsSettings {
            users: origins("ALLOWED_ORIGINS"),
            services: origins("ALLOWED_ORIGINS_WITH_ACCESS_KEY"),
        };
        let resource =
            Resource { id: id?, issuer: issuer?, location: location?, region: region?, scope_claim };
        let date_window = date_window.unwrap_or_default();
        Some(Self { resource, hosts: hosts?, date_window, cors, gateway_path })
    }
}

impl<'a> Reader<'a> {
    /// A reader over a lookup function.
    #[must_use]
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, faults: Vec::new() }
    }

    /// A value that must be present and have this form.
    pub fn required<T: FromStr>(&mut self, name: &str, form: &str) -> Option<T> {
        let value = self.optional(name, form);
        if value.is_none() && (self.lookup)(name).is_none() {
            self.faults.push(format!("{name} is missing; it must be {form}"));
        }
        value
    }

    /// A value that may be missing, but must have this form if it is present.
    pub fn optional<T: FromStr>(&mut self, name: &str, form: &str) -> Option<T> {
        let value = (self.lookup)(name)?.trim().parse().ok();
        if value.is_none() {
            self.fault(name, form);
        }
        value
    }

    /// Reports that a value is not of this form.
    pub fn fault(&mut self, name: &str, form: &str) {
        self.faults.push(format!("{name} must be {form}"));
    }

    /// The settings, if no value has a fault.
    ///
    /// # Errors
    /// [`SettingsErrors`] with all faults.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, SettingsErrors> {
        read.filter(|_| self.faults.is_empty()).ok_or(SettingsErrors(self.faults))
    }
}

impl FromStr for Location {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let closed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=40).contains(&text.len()) && text.bytes().all(closed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(())
        }
    }
}

impl FromStr for Issuer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let closed =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'/' | b'[' | b']');
        let host = text.strip_prefix("https://").ok_or(())?;
        if host.is_empty() || host.starts_with('/') || text.len() > 200 || !text.bytes().all(closed) {
            return Err(());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Location {
    /// The claim's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Issuer {
    /// The form of a setting, for messages.
    pub const FORM: &str = "an https URL without query or fragment";

    /// The claim's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Settings, SettingsErrors> {
        let lookup =
            |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let mut reader = Reader::new(&lookup);
        let settings = Settings::read(&mut reader);
        reader.finish(settings)
    }

    const VALID: [(&str, &str); 5] = [
        ("RESOURCE_ID", "1b5cc06b-f352-4571-b1e6-d9b259b7c776"),
        ("RESOURCE_LOCATION", "unitedstates"),
        ("RESOURCE_REGION", "amer"),
        ("ISSUER", "https://identity.example.com"),
        ("ACCEPTED_HOSTS", "identity.example.com, a1b2.execute-api.us-east-1.amazonaws.com"),
    ];

    #[test]
    fn valid_settings_are_read() {
        let settings = read(&VALID).unwrap();
        assert_eq!(settings.hosts.public().to_string(), "identity.example.com");
        assert_eq!(settings.hosts.iter().count(), 2);
        assert_eq!(settings.resource.location.as_str(), "unitedstates");
        assert!(!settings.resource.scope_claim);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let faults = read(&[
            ("RESOURCE_ID", "1b5cc06b"),
            ("RESOURCE_REGION", "North America"),
            ("ISSUER", "https://identity.example.com/?a=b"),
            ("ACCEPTED_HOSTS", "identity.example.com,,"),
            ("REQUEST_DATE_WINDOW_MINUTES", "16"),
            ("SCOPE_CLAIM", "yes"),
            ("ALLOWED_ORIGINS", "https://app.example.com/"),
            ("ALLOWED_ORIGINS_WITH_ACCESS_KEY", "*"),
        ])
        .unwrap_err()
        .to_string();
        for name in VALID.map(|(name, _)| name) {
            assert!(faults.contains(name), "{name} is missing in {faults}");
        }
        assert!(faults.contains("RESOURCE_LOCATION is missing"));
        for name in [
            "SCOPE_CLAIM",
            "REQUEST_DATE_WINDOW_MINUTES",
            "ALLOWED_ORIGINS",
            "ALLOWED_ORIGINS_WITH_ACCESS_KEY",
        ] {
            assert!(faults.contains(&format!("{name} must be")), "{name} is missing in {faults}");
        }
        assert_eq!(faults.lines().count(), 9, "each fault has one line: {faults}");
    }

    #[test]
    fn issuers_that_sdks_cannot_decode_are_refused() {
        for text in
            ["http://a", "https://", "https:///a", "https://a?b", "https://a#b", "https://a~b", "https://ä"]
        {
            assert!(text.parse::<Issuer>().is_err(), "{text}");
        }
    }
}
