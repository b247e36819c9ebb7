//! The APIs of access tokens, their permissions, and the scopes of a request.

use super::oauth_error::OAuthError;

/// An API of Microsoft.
pub(super) struct Api {
    /// The URI in scopes, without the slash that may follow.
    uri: &'static str,
    /// The audience of version 2.0 tokens.
    pub(super) app_id: &'static str,
    /// The permissions of `.default` for a user.
    default: &'static [&'static str],
    /// The permissions that a user gets only by name.
    named: &'static [&'static str],
}

/// The API of the Teams exchange.
pub(super) const TEAMS: &str = "https://auth.msft.communication.azure.com";

/// The scopes and application ids are facts of docs/wire-contract.md#callers,
/// docs/wire-contract.md#teams-exchange and docs/wire-contract.md#access-routes. No source names the
/// delegated permission of the first API.
const APIS: [Api; 3] = [
    Api {
        uri: "https://communication.azure.com",
        app_id: "632ec9eb-fad7-4cbd-993a-e72973ba2acc",
        default: &["user_impersonation"],
        named: &[],
    },
    Api {
        uri: TEAMS,
        app_id: "1fd5118e-2576-4263-8130-9503064c837a",
        default: &["Teams.ManageCalls", "Teams.ManageChats"],
        named: &["TeamsExtension.ManageCalls"],
    },
    Api {
        uri: "https://communication.azure.com/clients",
        app_id: "2a04943b-b6a7-4f65-8786-2bb6131b59f6",
        default: &["Chat", "Chat.Join", "Chat.Join.Limited", "VoIP", "VoIP.Join"],
        named: &[],
    },
];

/// The requested access of a token.
pub(super) struct Access {
    pub(super) api: &'static Api,
    /// The API as in the request: the audience of version 1.0 tokens. A trailing slash stays.
    pub(super) resource: String,
    /// The permissions of a user.
    pub(super) permissions: Vec<&'static str>,
    /// Whether all permissions were requested, and not permissions by name.
    pub(super) default: bool,
}

/// The scopes of a request at the version 2.0 endpoint.
pub(super) struct RequestedScopes {
    pub(super) access: Access,
    /// Whether an id token is requested.
    pub(super) openid: bool,
    /// Whether a refresh token is requested.
    pub(super) offline: bool,
}

impl Api {
    /// Whether this is the API of Teams, whose permissions need consent.
    pub(super) fn is_of_teams(&self) -> bool {
        self.uri == TEAMS
    }
}

impl Access {
    /// All permissions of an API: for `resource` at the version 1.0 endpoint, and for `.default`.
    pub(super) fn of_resource(resource: &str) -> Result<Self, OAuthError> {
        let uri = resource.strip_suffix('/').unwrap_or(resource);
        let api = APIS.iter().find(|api| api.uri == uri || api.app_id == resource);
        let api = api.ok_or_else(|| OAuthError::unknown_resource(resource))?;
        Ok(Self { api, resource: resource.to_owned(), permissions: api.default.to_vec(), default: true })
    }

    /// The named permissions. All must be of one API.
    fn named(scopes: &[(&str, &str)], resource: &str) -> Result<Self, OAuthError> {
        let everything = Self::of_resource(resource)?;
        let mut permissions = Vec::new();
        for (of, name) in scopes {
            if *of != resource {
                return Err(OAuthError::several_resources());
            }
            if *name == ".default" {
                return Err(OAuthError::default_among_others());
            }
            let known =
                everything.api.default.iter().chain(everything.api.named).find(|known| *known == name);
            let known = *known.ok_or_else(|| OAuthError::unknown_permission(name, everything.api.app_id))?;
            if !permissions.contains(&known) {
                permissions.push(known);
            }
        }
        Ok(Self { permissions, default: false, ..everything })
    }

    /// The scopes that request this access.
    pub(super) fn scopes(&self) -> String {
        let all = self.default.then_some(&".default");
        let scopes = self.permissions.iter().chain(all).map(|name| format!("{}/{name}", self.resource));
        scopes.collect::<Vec<_>>().join(" ")
    }
}

impl RequestedScopes {
    /// Parses `scope`. The text before the last slash is the API, so a URI with a trailing slash gives two slashes in a
    /// row.
    pub(super) fn parse(scope: &str) -> Result<Self, OAuthError> {
        let (mut openid, mut offline, mut scopes) = (false, false, Vec::new());
        for word in scope.split_ascii_whitespace() {
            match word {
                "openid" => openid = true,
                "offline_access" => offline = true,
                "profile" | "email" => {}
                // A name without an API is a permission of Microsoft Graph.
                _ => scopes.push(word.rsplit_once('/').unwrap_or(("https://graph.microsoft.com", word))),
            }
        }
        let access = match scopes.as_slice() {
            [] => return Err(OAuthError::no_scope()),
            [(resource, ".default")] => Access::of_resource(resource)?,
            [(resource, _), ..] => Access::named(&scopes, resource)?,
        };
        Ok(Self { access, openid, offline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(scope: &str) -> Access {
        RequestedScopes::parse(scope).unwrap_or_else(|error| panic!("{scope}: {}", error.code())).access
    }

    #[test]
    fn the_audience_ends_at_the_last_slash() {
        for (scope, audience, permissions) in [
            (
                "https://communication.azure.com//.default",
                "https://communication.azure.com/",
                "user_impersonation",
            ),
            (
                "https://communication.azure.com/.default",
                "https://communication.azure.com",
                "user_impersonation",
            ),
            (
                "https://auth.msft.communication.azure.com/.default",
                "https://auth.msft.communication.azure.com",
                "Teams.ManageCalls Teams.ManageChats",
            ),
            (
                "https://auth.msft.communication.azure.com/Teams.ManageChats openid profile \
                 https://auth.msft.communication.azure.com/Teams.ManageCalls",
                "https://auth.msft.communication.azure.com",
                "Teams.ManageChats Teams.ManageCalls",
            ),
            (
                "https://auth.msft.communication.azure.com/TeamsExtension.ManageCalls",
                "https://auth.msft.communication.azure.com",
                "TeamsExtension.ManageCalls",
            ),
            (
                "https://communication.azure.com/clients/.default",
                "https://communication.azure.com/clients",
                "Chat Chat.Join Chat.Join.Limited VoIP VoIP.Join",
            ),
            (
                "https://communication.azure.com/clients/VoIP https://communication.azure.com/clients/VoIP",
                "https://communication.azure.com/clients",
                "VoIP",
            ),
        ] {
            let access = access(scope);
            assert_eq!(
                (access.resource.as_str(), access.permissions.join(" ").as_str()),
                (audience, permissions)
            );
        }
    }

    #[test]
    fn granted_scopes_request_the_same_access() {
        for scope in [
            "https://communication.azure.com//.default",
            "https://auth.msft.communication.azure.com/Teams.ManageCalls",
            "https://communication.azure.com/clients/Chat https://communication.azure.com/clients/VoIP.Join",
        ] {
            let granted = access(scope);
            assert!(
                scope.split(' ').all(|word| granted.scopes().split(' ').any(|said| said == word)),
                "{scope}"
            );
        }
    }

    #[test]
    fn unknown_and_mixed_scopes_are_refused() {
        for (scope, code) in [
            ("", 28_003),
            ("openid profile offline_access", 28_003),
            ("User.Read", 500_011),
            ("https://graph.microsoft.com/.default", 500_011),
            ("https://communication.azure.com///.default", 500_011),
            ("https://communication.azure.com.evil.test/.default", 500_011),
            ("https://auth.msft.communication.azure.com/Chat", 650_053),
            ("https://auth.msft.communication.azure.com/teams.managecalls", 650_053),
            (
                "https://auth.msft.communication.azure.com/Teams.ManageCalls \
                 https://communication.azure.com/clients/VoIP",
                28_000,
            ),
            (
                "https://auth.msft.communication.azure.com/Teams.ManageCalls \
                 https://auth.msft.communication.azure.com/.default",
                70_011,
            ),
        ] {
            assert_eq!(RequestedScopes::parse(scope).err().map(|error| error.code()), Some(code), "{scope}");
        }
    }
}
