//! The APIs that tokens are for, and how requests ask for them.

use super::oauth_error::OAuthError;

/// One of Microsoft's APIs.
pub(super) struct Api {
    /// How it is named in scopes, without the slash that may follow.
    uri: &'static str,
    /// How it is named in version 2.0 tokens.
    pub(super) app_id: &'static str,
    /// What `.default` means to a user.
    default: &'static [&'static str],
    /// What a user gets only when it is requested for by name.
    named: &'static [&'static str],
}

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
        uri: "https://auth.msft.communication.azure.com",
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

/// What a token is to be good for.
pub(super) struct Access {
    pub(super) api: &'static Api,
    /// The API as the request names it: the audience of version 1.0 tokens. A slash at the end stays.
    pub(super) resource: String,
    /// For a user.
    pub(super) permissions: Vec<&'static str>,
    /// Everything there is was requested for, not permissions by name.
    pub(super) default: bool,
}

/// What a request at the version 2.0 endpoint asks for.
pub(super) struct RequestedScopes {
    pub(super) access: Access,
    /// An id token too.
    pub(super) openid: bool,
    /// A refresh token too.
    pub(super) offline: bool,
}

impl Access {
    /// Everything at an API: `resource` of the version 1.0 endpoint, and `.default`.
    pub(super) fn of_resource(resource: &str) -> Result<Self, OAuthError> {
        let uri = resource.strip_suffix('/').unwrap_or(resource);
        let api = APIS.iter().find(|api| api.uri == uri || api.app_id == resource);
        let api = api.ok_or_else(|| OAuthError::unknown_resource(resource))?;
        Ok(Self { api, resource: resource.to_owned(), permissions: api.default.to_vec(), default: true })
    }

    /// The permissions named; all of one API.
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

    /// As scopes with which the same could be requested for.
    pub(super) fn scopes(&self) -> String {
        let all = self.default.then_some(&".default");
        let scopes = self.permissions.iter().chain(all).map(|name| format!("{}/{name}", self.resource));
        scopes.collect::<Vec<_>>().join(" ")
    }
}

impl RequestedScopes {
    /// Reads `scope`. What stands before the last slash is the API, so that one named with a slash at its
    /// end gives two in a row.
    pub(super) fn parse(scope: &str) -> Result<Self, OAuthError> {
        let (mut openid, mut offline, mut scopes) = (false, false, Vec::new());
        for word in scope.split_ascii_whitespace() {
            match word {
                "openid" => openid = true,
                "offline_access" => offline = true,
                "profile" | "email" => {}
                // A name alone is a permission of Microsoft Graph.
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
    fn what_stands_before_the_last_slash_is_the_audience() {
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
    fn the_scopes_granted_ask_for_the_same() {
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
    fn scopes_that_ask_for_nothing_here_are_refused() {
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
