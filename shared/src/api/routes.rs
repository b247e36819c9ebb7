//! The route table: every operation, where it is served and by which function. Nothing else spells a path.

use http::Method;

use crate::api::error::Error;
use crate::api::version::ApiVersion;
use crate::authn::entra::Audience;
use crate::authn::target::Target;
use crate::secrets::SecretName;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    CreateIdentity,
    DeleteEntraAssignment,
    DeleteIdentity,
    DeleteTeamsExtensionAssignment,
    ExchangeEntraToken,
    ExchangeTeamsExtensionToken,
    ExchangeTeamsUserToken,
    GetDiscoveryDocument,
    GetEntraAssignment,
    GetKeySet,
    GetTeamsExtensionAssignment,
    IntrospectToken,
    IssueAccessToken,
    ListEntraAssignments,
    PutEntraAssignment,
    PutTeamsExtensionAssignment,
    RevokeAccessTokens,
    UpdateEntraAssignments,
}

/// The function that serves an operation: one binary, one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Introspect,
    Keys,
    Revoke,
    TeamsExchange,
    Token,
    User,
}

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Anyone: what is answered is public.
    Anyone,
    /// An end user with an Entra token for this audience, and no access key (docs/wire-contract.md#callers).
    EntraUser(Audience),
    /// A service: an access key, or an Entra principal that is allowed.
    Service,
}

/// One row of the table.
pub struct Route {
    pub operation: Operation,
    pub function: Function,
    pub method: Method,
    /// Segments between slashes; one in braces stands for any one segment.
    pub path: &'static [&'static str],
    pub callers: Callers,
    /// The api versions that have it; none for a route that is not part of the versioned contract.
    pub versions: &'static [ApiVersion],
}

/// The segment that stands for an identity's raw id.
pub const ID: &str = "{id}";
/// The segment that stands for an Entra tenant's GUID.
pub const TENANT: &str = "{tenantId}";
/// The segment that stands for an Entra object's GUID.
pub const OBJECT: &str = "{objectId}";
/// The query parameter that says where a page of a list begins.
pub const CONTINUATION_TOKEN: &str = "continuationToken";
/// The query parameter that bounds a page of a list. The name is the one of the Azure REST guidelines.
pub const MAX_PAGE_SIZE_PARAMETER: &str = "maxpagesize";

/// The table.
pub const ROUTES: &[Route] = &[
    service(Operation::CreateIdentity, Function::User, Method::POST, &["identities"]),
    service(Operation::DeleteIdentity, Function::User, Method::DELETE, &["identities", ID]),
    service(
        Operation::IssueAccessToken,
        Function::Token,
        Method::POST,
        &["identities", ID, ":issueAccessToken"],
    ),
    service(
        Operation::RevokeAccessTokens,
        Function::Revoke,
        Method::POST,
        &["identities", ID, ":revokeAccessTokens"],
    ),
    Route {
        operation: Operation::ExchangeTeamsUserToken,
        function: Function::TeamsExchange,
        method: Method::POST,
        path: &["teamsUser", ":exchangeAccessToken"],
        callers: Callers::Service,
        versions: ApiVersion::TEAMS_USER,
    },
    extension(
        Operation::ExchangeTeamsExtensionToken,
        Callers::EntraUser(Audience::Teams),
        Method::POST,
        &["access", "teamsExtension", ":exchangeAccessToken"],
    ),
    extension(
        Operation::GetTeamsExtensionAssignment,
        Callers::Service,
        Method::GET,
        &["access", "teamsExtension", "tenants", TENANT, "assignments", OBJECT],
    ),
    extension(
        Operation::PutTeamsExtensionAssignment,
        Callers::Service,
        Method::PUT,
        &["access", "teamsExtension", "tenants", TENANT, "assignments", OBJECT],
    ),
    extension(
        Operation::DeleteTeamsExtensionAssignment,
        Callers::Service,
        Method::DELETE,
        &["access", "teamsExtension", "tenants", TENANT, "assignments", OBJECT],
    ),
    entra(
        Operation::ExchangeEntraToken,
        Callers::EntraUser(Audience::Clients),
        Method::POST,
        &["access", "entra", ":exchangeAccessToken"],
    ),
    entra(
        Operation::ListEntraAssignments,
        Callers::Service,
        Method::GET,
        &["access", "entra", "assignments"],
    ),
    entra(
        Operation::UpdateEntraAssignments,
        Callers::Service,
        Method::PATCH,
        &["access", "entra", "assignments"],
    ),
    entra(
        Operation::GetEntraAssignment,
        Callers::Service,
        Method::GET,
        &["access", "entra", "assignments", OBJECT],
    ),
    entra(
        Operation::PutEntraAssignment,
        Callers::Service,
        Method::PUT,
        &["access", "entra", "assignments", OBJECT],
    ),
    entra(
        Operation::DeleteEntraAssignment,
        Callers::Service,
        Method::DELETE,
        &["access", "entra", "assignments", OBJECT],
    ),
    Route {
        operation: Operation::IntrospectToken,
        function: Function::Introspect,
        method: Method::POST,
        path: &["introspect"],
        callers: Callers::Service,
        versions: &[],
    },
    document(Operation::GetKeySet, &[".well-known", "jwks.json"]),
    document(Operation::GetDiscoveryDocument, &[".well-known", "openid-configuration"]),
];

const fn service(
    operation: Operation,
    function: Function,
    method: Method,
    path: &'static [&'static str],
) -> Route {
    Route { operation, function, method, path, callers: Callers::Service, versions: ApiVersion::STABLE }
}

const fn document(operation: Operation, path: &'static [&'static str]) -> Route {
    let (function, method, callers) = (Function::Keys, Method::GET, Callers::Anyone);
    Route { operation, function, method, path, callers, versions: &[] }
}

const fn extension(
    operation: Operation,
    callers: Callers,
    method: Method,
    path: &'static [&'static str],
) -> Route {
    let function = Function::TeamsExchange;
    Route { operation, function, method, path, callers, versions: ApiVersion::TEAMS_EXTENSION }
}

const fn entra(
    operation: Operation,
    callers: Callers,
    method: Method,
    path: &'static [&'static str],
) -> Route {
    let function = Function::TeamsExchange;
    Route { operation, function, method, path, callers, versions: ApiVersion::ENTRA_USERS }
}

/// A request's place in the table.
#[derive(Clone)]
pub struct Matched {
    pub route: &'static Route,
    pub parameters: Parameters,
}

/// The decoded segments a route's braces stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// The segment that stands for `name`; empty where the route has none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, segment)| segment)
    }
}

impl Operation {
    /// The operation's name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateIdentity => "create_identity",
            Self::DeleteEntraAssignment => "delete_entra_assignment",
            Self::DeleteIdentity => "delete_identity",
            Self::DeleteTeamsExtensionAssignment => "delete_teams_extension_assignment",
            Self::ExchangeEntraToken => "exchange_entra_token",
            Self::ExchangeTeamsExtensionToken => "exchange_teams_extension_token",
            Self::ExchangeTeamsUserToken => "exchange_teams_user_token",
            Self::GetDiscoveryDocument => "get_discovery_document",
            Self::GetEntraAssignment => "get_entra_assignment",
            Self::GetKeySet => "get_key_set",
            Self::GetTeamsExtensionAssignment => "get_teams_extension_assignment",
            Self::IntrospectToken => "introspect_token",
            Self::IssueAccessToken => "issue_access_token",
            Self::ListEntraAssignments => "list_entra_assignments",
            Self::PutEntraAssignment => "put_entra_assignment",
            Self::PutTeamsExtensionAssignment => "put_teams_extension_assignment",
            Self::RevokeAccessTokens => "revoke_access_tokens",
            Self::UpdateEntraAssignments => "update_entra_assignments",
        }
    }
}

impl Function {
    /// Every function that serves routes.
    pub const ALL: &'static [Self] =
        &[Self::User, Self::Token, Self::Revoke, Self::TeamsExchange, Self::Introspect, Self::Keys];

    /// The secrets the function reads, and no other: who mints signs, who is called by services judges their
    /// signatures, who publishes needs neither.
    #[must_use]
    pub fn secrets(self) -> &'static [SecretName] {
        match self {
            Self::TeamsExchange | Self::Token | Self::User => {
                &[SecretName::AccessKeys, SecretName::SigningKeys]
            }
            Self::Introspect | Self::Revoke => &[SecretName::AccessKeys],
            Self::Keys => &[],
        }
    }

    /// The name of the function's binary.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Introspect => "introspect",
            Self::Keys => "keys",
            Self::Revoke => "revoke",
            Self::TeamsExchange => "teams-exchange",
            Self::Token => "token",
            Self::User => "user",
        }
    }
}

impl Route {
    fn matches(&self, segments: &[String]) -> bool {
        let fits = |(pattern, segment): (&&str, &String)| stands_for_any(pattern) || *pattern == segment;
        self.path.len() == segments.len() && self.path.iter().zip(segments).all(fits)
    }

    fn parameters_in(&self, segments: Vec<String>) -> Parameters {
        let named = self.path.iter().copied().zip(segments).filter(|(pattern, _)| stands_for_any(pattern));
        Parameters(named.collect())
    }

    /// The version a target names, of those this route has; nothing where it has none.
    ///
    /// # Errors
    /// When none is named, more than one, or one this route does not have.
    pub fn version(&self, target: &Target) -> Result<Option<ApiVersion>, Error> {
        if self.versions.is_empty() {
            return Ok(None);
        }
        let mut named: Vec<&str> = target.parameters("api-version").collect();
        named.dedup();
        let name = match *named.as_slice() {
            [] | [""] => return Err(Error::ApiVersionUnspecified),
            [name] => name,
            _ => return Err(Error::ApiVersionAmbiguous(named.join(", "))),
        };
        let known = self.versions.iter().copied().find(|version| version.as_str() == name);
        let unsupported =
            || Error::ApiVersionUnsupported { path: target.path().to_owned(), version: name.to_owned() };
        known.map(Some).ok_or_else(unsupported)
    }
}

fn stands_for_any(pattern: &str) -> bool {
    pattern.starts_with('{')
}

/// The route of a request.
///
/// # Errors
/// [`Error::RouteNotFound`], or [`Error::MethodNotAllowed`] with the methods the path does have.
pub fn find(method: &Method, target: &Target) -> Result<Matched, Error> {
    let segments = target.segments().map_err(|_| Error::RouteNotFound)?;
    let on_path = || ROUTES.iter().filter(|route| route.matches(&segments));
    if let Some(route) = on_path().find(|route| route.method == method) {
        return Ok(Matched { route, parameters: route.parameters_in(segments) });
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
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn operation(method: &Method, target: &str) -> Option<(Operation, String)> {
        find(method, &Target::from_wire(target))
            .ok()
            .map(|found| (found.route.operation, found.parameters.get(ID).to_owned()))
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

    /// The document is read by whoever cannot read this file: tools, the template's tests, and people.
    #[test]
    fn the_document_is_the_table() {
        let document: Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut documented = BTreeMap::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let parameters = operation["parameters"].as_array().unwrap().iter().map(|parameter| {
                    let place = parameter["$ref"].as_str().unwrap().trim_start_matches('#');
                    document.pointer(place).unwrap()
                });
                let versions = parameters.filter(|parameter| parameter["name"] == "api-version");
                let row = json!({
                    "function": operation["x-function"],
                    "operation": operation["operationId"],
                    "security": operation["security"],
                    "versions": operation["x-api-versions"],
                    "version parameters": versions.map(|one| &one["schema"]["enum"]).collect::<Vec<_>>(),
                });
                documented.insert(format!("{} {path}", method.to_uppercase()), row);
            }
        }
        let table = ROUTES.iter().map(|route| {
            let versions: Vec<_> = route.versions.iter().map(|version| version.as_str()).collect();
            let row = json!({
                "function": route.function.as_str(),
                "operation": route.operation.as_str(),
                "security": match route.callers {
                    Callers::Anyone => json!([]),
                    Callers::EntraUser(_) => json!([{ "entraUser": [] }]),
                    Callers::Service => json!([{ "accessKey": [] }, { "entraPrincipal": [] }]),
                },
                "version parameters": if versions.is_empty() { json!([]) } else { json!([versions]) },
                "versions": versions,
            });
            (format!("{} /{}", route.method, route.path.join("/")), row)
        });
        assert_eq!(documented, table.collect(), "docs/openapi.json must describe the table");
    }

    /// So that `cargo lambda watch` finds the functions as a gateway does.
    #[test]
    fn the_development_router_is_the_table() {
        let mut paths: Vec<&[&str]> = ROUTES.iter().map(|route| route.path).collect();
        paths.dedup();
        let mut table = "[workspace.metadata.lambda.watch.router]\n".to_owned();
        for path in paths {
            let methods: Vec<_> = ROUTES
                .iter()
                .filter(|route| route.path == path)
                .map(|route| {
                    format!(r#"{{ method = "{}", function = "{}" }}"#, route.method, route.function.as_str())
                })
                .collect();
            table += &format!("\"/{}\" = [{}]\n", path.join("/"), methods.join(", "));
        }
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("{table}\n")), "Cargo.toml must hold this table:\n{table}");
    }

    #[test]
    fn what_is_not_of_the_versioned_contract_has_no_version() {
        for target in ["/.well-known/jwks.json", "/.well-known/openid-configuration?api-version=1"] {
            let target = Target::from_wire(target);
            let found = find(&Method::GET, &target).unwrap();
            assert_eq!(found.route.callers, Callers::Anyone);
            assert_eq!(found.route.version(&target).unwrap(), None);
        }
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
            assert_eq!(version(&format!("?api-version={known}")).unwrap(), Some(*known));
        }
        assert!(matches!(version(""), Err(Error::ApiVersionUnspecified)));
        assert!(matches!(version("?api-version="), Err(Error::ApiVersionUnspecified)));
        let twice = "?api-version=2023-10-01&api-version=2025-06-30";
        assert!(matches!(version(twice), Err(Error::ApiVersionAmbiguous(_))));
        let same = "?api-version=2023-10-01&API-Version=2023-10-01";
        assert_eq!(version(same).unwrap(), Some(ApiVersion::V2023_10_01));
        for unknown in ["2020-07-20-preview2", "2023-10-1", "2023-10-01 ", "9999-01-01"] {
            let refused = version(&format!("?api-version={unknown}"));
            assert!(matches!(refused, Err(Error::ApiVersionUnsupported { .. })), "{unknown}");
        }
    }
}
