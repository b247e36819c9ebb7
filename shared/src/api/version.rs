//! The API versions, and the versions of each group of routes (docs/wire-contract.md#versions).

use std::fmt;

/// A released version of the data plane. The oldest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiVersion {
    V2021_03_07,
    V2022_06_01,
    /// Adds `expiresInMinutes`.
    V2022_10_01,
    /// Adds the scopes `chat.join`, `chat.join.limited` and `voip.join` to the documented list.
    V2023_10_01,
    /// The only preview that is served, and only on the routes that it added.
    V2025_03_02Preview,
    V2025_06_30,
    V2026_07_22,
    V2026_09_23,
}

impl ApiVersion {
    /// Every stable version, in ascending order.
    pub const STABLE: &'static [Self] = &[
        Self::V2021_03_07,
        Self::V2022_06_01,
        Self::V2022_10_01,
        Self::V2023_10_01,
        Self::V2025_06_30,
        Self::V2026_07_22,
        Self::V2026_09_23,
    ];

    /// The versions with the exchange of a Teams user's token in its present form.
    pub const TEAMS_USER: &'static [Self] = &[
        Self::V2022_06_01,
        Self::V2022_10_01,
        Self::V2023_10_01,
        Self::V2025_03_02Preview,
        Self::V2025_06_30,
        Self::V2026_07_22,
        Self::V2026_09_23,
    ];

    /// The versions with Teams phone extensibility.
    pub const TEAMS_EXTENSION: &'static [Self] =
        &[Self::V2025_03_02Preview, Self::V2025_06_30, Self::V2026_07_22, Self::V2026_09_23];

    /// The version with Entra users of a resource.
    pub const ENTRA_USERS: &'static [Self] = &[Self::V2025_03_02Preview];

    /// The version's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2021_03_07 => "2021-03-07",
            Self::V2022_06_01 => "2022-06-01",
            Self::V2022_10_01 => "2022-10-01",
            Self::V2023_10_01 => "2023-10-01",
            Self::V2025_03_02Preview => "2025-03-02-preview",
            Self::V2025_06_30 => "2025-06-30",
            Self::V2026_07_22 => "2026-07-22",
            Self::V2026_09_23 => "2026-09-23",
        }
    }

    /// Whether this version has `expiresInMinutes`. Earlier versions ignore the member.
    #[must_use]
    pub fn has_lifetime(self) -> bool {
        self >= Self::V2022_10_01
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of `api-supported-versions` for a route: the versions in ascending order, separated by `, `.
#[must_use]
pub fn supported(versions: &[ApiVersion]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_their_names_ascend() {
        for versions in [ApiVersion::STABLE, ApiVersion::TEAMS_USER, ApiVersion::TEAMS_EXTENSION] {
            assert!(versions.is_sorted());
            assert!(versions.iter().map(|version| version.as_str()).is_sorted());
        }
        assert!(!ApiVersion::V2022_06_01.has_lifetime());
        assert!(ApiVersion::V2022_10_01.has_lifetime());
    }
}
