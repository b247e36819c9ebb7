//! The API versions, and the versions of each group of routes (docs/wire-contract.md#versions).

use std::fmt;

/// A version of the data plane. The oldest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiVersion {
    /// Has its own forms of create, issue and revoke.
    V2020_07_20Preview2,
    /// Equals 2021-03-07.
    V2021_02_22Preview1,
    V2021_03_07,
    /// Adds the exchange of a Teams user's token, with the token only.
    V2021_03_31Preview1,
    V2021_10_31Preview,
    /// The exchange of a Teams user's token also takes the application and the user.
    V2022_06_01,
    /// Adds `expiresInMinutes`.
    V2022_10_01,
    /// Adds the scopes `chat.join`, `chat.join.limited` and `voip.join` to the documented list.
    V2023_10_01,
    /// Adds custom ids. Later versions do not have them.
    V2025_03_02Preview,
    V2025_06_30,
    V2026_07_22,
    V2026_09_23,
}

impl ApiVersion {
    /// Every version, in ascending order. All have identities.
    pub const ALL: &'static [Self] = &[
        Self::V2020_07_20Preview2,
        Self::V2021_02_22Preview1,
        Self::V2021_03_07,
        Self::V2021_03_31Preview1,
        Self::V2021_10_31Preview,
        Self::V2022_06_01,
        Self::V2022_10_01,
        Self::V2023_10_01,
        Self::V2025_03_02Preview,
        Self::V2025_06_30,
        Self::V2026_07_22,
        Self::V2026_09_23,
    ];

    /// The version whose forms no later version has.
    pub const OLDEST: &'static [Self] = Self::ALL.split_at(1).0;

    /// The versions with issue and revoke as actions.
    pub const ACTIONS: &'static [Self] = Self::ALL.split_at(1).1;

    /// The versions with the exchange of a Teams user's token.
    pub const TEAMS_USER: &'static [Self] = Self::ALL.split_at(3).1;

    /// The versions with Teams phone extensibility.
    pub const TEAMS_EXTENSION: &'static [Self] = Self::ALL.split_at(8).1;

    /// The version with custom ids, and with Entra users of a resource.
    pub const PREVIEW_2025: &'static [Self] = &[Self::V2025_03_02Preview];

    /// The version's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2020_07_20Preview2 => "2020-07-20-preview2",
            Self::V2021_02_22Preview1 => "2021-02-22-preview1",
            Self::V2021_03_07 => "2021-03-07",
            Self::V2021_03_31Preview1 => "2021-03-31-preview1",
            Self::V2021_10_31Preview => "2021-10-31-preview",
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

    /// Whether a creation has a request body. The version without one has a flat reply.
    #[must_use]
    pub fn has_create_body(self) -> bool {
        self != Self::V2020_07_20Preview2
    }

    /// Whether identities of this version have a profile: a custom id and the time of the last token.
    #[must_use]
    pub fn has_profile(self) -> bool {
        self == Self::V2025_03_02Preview
    }

    /// Whether the exchange of a Teams user's token takes the application and the user. Earlier versions take the
    /// token only, and their reply to a bad token has no body.
    #[must_use]
    pub fn exchange_names_user(self) -> bool {
        self >= Self::V2022_06_01
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
        assert!(ApiVersion::ALL.is_sorted());
        assert!(ApiVersion::ALL.iter().map(|version| version.as_str()).is_sorted());
        assert!(!ApiVersion::V2022_06_01.has_lifetime());
        assert!(ApiVersion::V2022_10_01.has_lifetime());
    }

    #[test]
    fn groups_begin_at_the_version_that_added_the_route() {
        for (versions, first) in [
            (ApiVersion::OLDEST, "2020-07-20-preview2"),
            (ApiVersion::ACTIONS, "2021-02-22-preview1"),
            (ApiVersion::TEAMS_USER, "2021-03-31-preview1"),
            (ApiVersion::TEAMS_EXTENSION, "2025-03-02-preview"),
        ] {
            assert_eq!(versions.first().unwrap().as_str(), first);
        }
        assert_eq!(ApiVersion::OLDEST.len(), 1);
    }
}
