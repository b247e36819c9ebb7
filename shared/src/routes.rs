//! The route table: every operation, where it is served and by which function. Nothing else spells a path.

use http::Method;

use crate::api_version::ApiVersion;
use crate::authn::target::Target;
use crate::error::Error;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    CreateIdentity,
    DeleteIdentity,
    IssueAccessToken,
    RevokeAccessTokens,
}

/// The function that serves an operation: one binary, one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Revoke,
    Token,
    User,
}

/// One row of the table.
pub struct Route {
    pub operation: Operation,
    pub function: Function,
    pub method: Method,
    /// Segments between slashes; `{id}` stands for any one segment.
    pub path: &'static [&'static str],
    pub versions: &'static [ApiVersion],
}

/// The segment that stands for an identity's raw id.
pub const ID: &str = "{id}";

/// The table.
pub const ROUTES: &[Route] = &[
    Route {
        operation: Operation::CreateIdentity,
        function: Function::User,
        method: Method::POST,
        path: &["identities"],
        versions: ApiVersion::STABLE,
    },
    Route {
        operation: Operation::DeleteIdentity,
        function: Function::User,
        method: Method::DELETE,
        path: &["identities", ID],
        versions: ApiVersion::STABLE,
    },
    Route {
        operation: Operation::IssueAccessToken,
        function: Function::Token,
        method: Method::POST,
        path: &["identities", ID, ":issueAccessToken"],
        versions: ApiVersion::STABLE,
    },
    Route {
        operation: Operation::RevokeAccessTokens,
        function: Function::Revoke,
        method: Method::POST,
        path: &["identities", ID, ":revokeAccessTokens"],
        versions: ApiVersion::STABLE,
    },
];

/// A request's place in the table.
#[derive(Clone)]
pub struct Matched {
    pub route: &'static Route,
    /// The decoded `{id}` segment; empty where the route has none.
    pub id: String,
}

impl Operation {
    /// The operation's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateIdentity => "create_identity",
            Self::DeleteIdentity => "delete_identity",
            Self::IssueAccessToken => "issue_access_token",
            Self::RevokeAccessTokens => "revoke_access_tokens",
        }
    }
}

impl Function {
    /// The name of the function's binary.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revoke => "revoke",
            Self::Token => "token",
            Self::User => "user",
        }
    }
}

impl Route {
    fn matches(&self, segments: &[String]) -> bool {
        let fits = |(pattern, segment): (&&str, &String)| *pattern == ID || *pattern == segment;
        self.path.len() == segments.len() && self.path.iter().zip(segments).all(fits)
    }

    fn id_in(&self, segments: &[String]) -> String {
        let position = self.path.iter().position(|pattern| *pattern == ID);
        position.and_then(|index| segments.get(index)).cloned().unwrap_or_default()
    }

    /// The version a target names, of those this route has.
    ///
    /// # Errors
    /// When none is named, more than one, or one this route does not have.
    pub fn version(&self, target: &Target) -> Result<ApiVersion, Error> {
        let mut named: Vec<&str> = target.parameters("api-version").collect();
        named.dedup();
        let name = match *named.as_slice() {
            [] | [""] => return Err(Error::ApiVersionUnspecified),
            [name] => name,
            _ => return Err(Error::ApiVersionAmbiguous(named.join(", "))),
        };
        let known = self.versions.iter().copied().find(|version| version.as_str() == name);
        known.ok_or_else(|| Error::ApiVersionUnsupported {
            path: target.path().to_owned(),
            version: name.to_owned(),
        })
    }
}

/// The route of a request.
///
/// # Errors
/// [`Error::RouteNotFound`], or [`Error::MethodNotAllowed`] with the methods the path does have.
pub fn find(method: &Method, target: &Target) -> Result<Matched, Error> {
    let segments = target.segments().map_err(|_| Error::RouteNotFound)?;
    let on_path = || ROUTES.iter().filter(|route| route.matches(&segments));
    if let Some(route) = on_path().find(|route| route.method == method) {
        return Ok(Matched { route, id: route.id_in(&segments) });
    }
    let allowed: Vec<&str> = on_path().map(|route| route.method.as_str()).collect();
    if allowed.is_empty() {
        Err(Error::RouteNotFound)
    } else {
        Err(Error::MethodNotAllowed(allowed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(method: &Method, target: &str) -> Option<(Operation, String)> {
        find(method, &Target::from_wire(target)).ok().map(|found| (found.route.operation, found.id))
    }

    #[test]
    fn each_operation_is_found_in_both_spellings() {
        for id in ["8%3Aacs%3Aa_b", "8:acs:a_b", "8%3aacs%3aa_b"] {
            let found = |method, suffix: &str| operation(method, &format!("/identities/{id}{suffix}"));
            let id = "8:acs:a_b".to_owned();
            assert_eq!(found(&Method::DELETE, ""), Some((Operation::DeleteIdentity, id.clone())));
            let issue = found(&Method::POST, "/:issueAccessToken?api-version=1");
            assert_eq!(issue, Some((Operation::IssueAccessToken, id.clone())));
            let revoke = found(&Method::POST, "/%3ArevokeAccessTokens");
            assert_eq!(revoke, Some((Operation::RevokeAccessTokens, id)));
        }
        assert_eq!(
            operation(&Method::POST, "//identities"),
            Some((Operation::CreateIdentity, String::new()))
        );
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        for target in [
            "/",
            "",
            "/identities/",
            "/Identities",
            "/identities//:issueAccessToken/",
            "/identities/a/:issueaccesstoken",
            "/identities/a/issueAccessToken",
            "/identities%2Fa/:issueAccessToken",
            "/x/../identities",
            "/identities/%ff/:issueAccessToken",
        ] {
            let found = operation(&Method::POST, target);
            assert!(found.is_none(), "{target}: {found:?}");
        }
        let refused = find(&Method::GET, &Target::from_wire("/identities/a")).err();
        assert!(matches!(refused, Some(Error::MethodNotAllowed(allowed)) if allowed == "DELETE"));
    }

    #[test]
    fn an_encoded_slash_stays_inside_its_segment() {
        let found = operation(&Method::POST, "/identities/a%2F:issueAccessToken/:revokeAccessTokens");
        assert_eq!(found, Some((Operation::RevokeAccessTokens, "a/:issueAccessToken".to_owned())));
    }

    #[test]
    fn a_version_is_required_known_and_named_once() {
        let route = &ROUTES[0];
        let version = |query: &str| route.version(&Target::from_wire(&format!("/identities{query}")));
        for known in ApiVersion::STABLE {
            assert_eq!(version(&format!("?api-version={known}")).ok(), Some(*known));
        }
        assert!(matches!(version(""), Err(Error::ApiVersionUnspecified)));
        assert!(matches!(version("?api-version="), Err(Error::ApiVersionUnspecified)));
        let twice = "?api-version=2023-10-01&api-version=2025-06-30";
        assert!(matches!(version(twice), Err(Error::ApiVersionAmbiguous(_))));
        let same = "?api-version=2023-10-01&API-Version=2023-10-01";
        assert_eq!(version(same).ok(), Some(ApiVersion::V2023_10_01));
        for unknown in ["2020-07-20-preview2", "2023-10-1", "2023-10-01 ", "9999-01-01"] {
            let refused = version(&format!("?api-version={unknown}"));
            assert!(matches!(refused, Err(Error::ApiVersionUnsupported { .. })), "{unknown}");
        }
    }
}
