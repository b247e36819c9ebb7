//! The route table: the method, path, function, callers and versions of every operation.

use http::Method;

use crate::api::error::Error;
use crate::api::functions::Function;
use crate::api::version::ApiVersion;
use crate::authn::entra::Audience;
use crate::authn::target::Target;
use crate::host::Authority;

/// An operation of the service.
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

/// The callers that may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Anyone, because the reply is public.
    Anyone,
    /// An end user with an Entra token for this audience, and no access key (docs/wire-contract.md#callers).
    EntraUser(Audience),
    /// A service: it has an access key, or is an allowed Entra principal.
    Service,
}

/// One row of the table.
pub struct Route {
    pub method: Method,
    /// A part in braces matches any one segment.
    pub path: &'static str,
    pub operation: Operation,
    pub function: Function,
    pub callers: Callers,
    /// The API versions that have the route. Empty if the route is not part of the versioned contract.
    pub versions: &'static [ApiVersion],
}

/// The part of a path for an identity's raw id.
pub const ID: &str = "{id}";
/// The part of a path for an Entra tenant's GUID.
pub const TENANT: &str = "{tenantId}";
/// The part of a path for an Entra object's GUID.
pub const OBJECT: &str = "{objectId}";
/// The query parameter that says where a page of a list begins.
pub const CONTINUATION_TOKEN: &str = "continuationToken";
/// The query parameter that bounds a page of a list. The name is the one of the Azure REST guidelines.
pub const MAX_PAGE_SIZE_PARAMETER: &str = "maxpagesize";

/// The table.
pub const ROUTES: &[Route] = &[
    service(Method::POST, "/identities", Operation::CreateIdentity, Function::User),
    service(Method::DELETE, "/identities/{id}", Operation::DeleteIdentity, Function::User),
    service(Method::POST, "/identities/{id}/:issueAccessToken", Operation::IssueAccessToken, Function::Token),
    service(
        Method::POST,
        "/identities/{id}/:revokeAccessTokens",
        Operation::RevokeAccessTokens,
        Function::Revoke,
    ),
    Route {
        method: Method::POST,
        path: "/teamsUser/:exchangeAccessToken",
        operation: Operation::ExchangeTeamsUserToken,
        function: Function::TeamsExchange,
        callers: Callers::Service,
        versions: ApiVersion::TEAMS_USER,
    },
    teams_extension(
        Method::POST,
        "/access/teamsExtension/:exchangeAccessToken",
        Operation::ExchangeTeamsExtensionToken,
        Callers::EntraUser(Audience::Teams),
    ),
    teams_extension(
        Method::GET,
        "/access/teamsExtension/tenants/{tenantId}/assignments/{objectId}",
        Operation::GetTeamsExtensionAssignment,
        Callers::Service,
    ),
    teams_extension(
        Method::PUT,
        "/access/teamsExtension/tenants/{tenantId}/assignments/{objectId}",
        Operation::PutTeamsExtensionAssignment,
        Callers::Service,
    ),
    teams_extension(
        Method::DELETE,
        "/access/teamsExtension/tenants/{tenantId}/assignments/{objectId}",
        Operation::DeleteTeamsExtensionAssignment,
        Callers::Service,
    ),
    entra(
        Method::POST,
        "/access/entra/:exchangeAccessToken",
        Operation::ExchangeEntraToken,
        Callers::EntraUser(Audience::Clients),
    ),
    entra(Method::GET, "/access/entra/assignments", Operation::ListEntraAssignments, Callers::Service),
    entra(Method::PATCH, "/access/entra/assignments", Operation::UpdateEntraAssignments, Callers::Service),
    entra(
        Method::GET,
        "/access/entra/assignments/{objectId}",
        Operation::GetEntraAssignment,
        Callers::Service,
    ),
    entra(
        Method::PUT,
        "/access/entra/assignments/{objectId}",
        Operation::PutEntraAssignment,
        Callers::Service,
    ),
    entra(
        Method::DELETE,
        "/access/entra/assignments/{objectId}",
        Operation::DeleteEntraAssignment,
        Callers::Service,
    ),
    Route {
        method: Method::POST,
        path: "/introspect",
        operation: Operation::IntrospectToken,
        function: Function::Introspect,
        callers: Callers::Service,
        versions: &[],
    },
    document("/.well-known/jwks.json", Operation::GetKeySet),
    document("/.well-known/openid-configuration", Operation::GetDiscoveryDocument),
];

const fn service(method: Method, path: &'static str, operation: Operation, function: Function) -> Route {
    Route { method, path, operation, function, callers: Callers::Service, versions: ApiVersion::STABLE }
}

const fn teams_extension(
    method: Method,
    path: &'static str,
    operation: Operation,
    callers: Callers,
) -> Route {
    let function = Function::TeamsExchange;
    Route { method, path, operation, function, callers, versions: ApiVersion::TEAMS_EXTENSION }
}

const fn entra(method: Method, path: &'static str, operation: Operation, callers: Callers) -> Route {
    let function = Function::TeamsExchange;
    Route { method, path, operation, function, callers, versions: ApiVersion::ENTRA_USERS }
}

const fn document(path: &'static str, operation: Operation) -> Route {
    let (method, function, callers) = (Method::GET, Function::Keys, Callers::Anyone);
    Route { method, path, operation, function, callers, versions: &[] }
}

/// The route of a request, with the parameters in its path.
pub struct RouteMatch {
    pub route: &'static Route,
    pub parameters: Parameters,
}

/// The decoded segments that match the parts in braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// The segment that matches `part`, for example [`ID`]. Empty if the route does not have this part.
    #[must_use]
    pub fn get(&self, part: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == part).map_or("", |(_, segment)| segment)
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

impl Route {
    fn parts(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').skip(1)
    }

    fn matches(&self, segments: &[String]) -> bool {
        let mut parts = self.parts();
        let fits = |segment| parts.next().is_some_and(|part| is_parameter(part) || part == segment);
        segments.iter().all(fits) && parts.next().is_none()
    }

    fn parameters(&self, segments: Vec<String>) -> Parameters {
        Parameters(self.parts().zip(segments).filter(|(part, _)| is_parameter(part)).collect())
    }

    /// The version that a target names. `None` if the route has no versions. `host` is the public host, for the
    /// message of an error.
    ///
    /// # Errors
    /// [`Error::ApiVersionUnspecified`], [`Error::ApiVersionAmbiguous`] or [`Error::ApiVersionUnsupported`].
    pub fn version(&self, target: &Target, host: &Authority) -> Result<Option<ApiVersion>, Error> {
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
        known.map(Some).ok_or_else(|| Error::ApiVersionUnsupported {
            uri: format!("https://{host}{}", target.path()),
            version: name.to_owned(),
        })
    }
}

fn is_parameter(part: &str) -> bool {
    part.starts_with('{')
}

/// The route of a request.
///
/// # Errors
/// [`Error::RouteNotFound`], or [`Error::MethodNotAllowed`] with the methods that the path has.
pub fn find(method: &Method, target: &Target) -> Result<RouteMatch, Error> {
    let segments = target.segments().map_err(|_| Error::RouteNotFound)?;
    let on_path = || ROUTES.iter().filter(|route| route.matches(&segments));
    if let Some(route) = on_path().find(|route| route.method == method) {
        return Ok(RouteMatch { route, parameters: route.parameters(segments) });
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

    fn host() -> Authority {
        "localhost:8443".parse().unwrap()
    }

    fn operation(method: &Method, target: &str) -> Option<(Operation, String)> {
        find(method, &Target::from_wire(target))
            .ok()
            .map(|found| (found.route.operation, found.parameters.get(ID).to_owned()))
    }

    #[test]
    fn identifiers_match_in_every_encoding() {
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
    fn unknown_paths_are_not_found() {
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
    fn openapi_document_lists_every_route() {
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
            (format!("{} {}", route.method, route.path), row)
        });
        assert_eq!(documented, table.collect(), "docs/openapi.json must list the routes of this table");
    }

    /// `cargo lambda watch` reads the router from the manifest.
    #[test]
    fn development_router_lists_every_route() {
        let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
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
            table += &format!("\"{path}\" = [{}]\n", methods.join(", "));
        }
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("{table}\n")), "Cargo.toml must contain this table:\n{table}");
    }

    #[test]
    fn published_documents_have_no_version() {
        for target in ["/.well-known/jwks.json", "/.well-known/openid-configuration?api-version=1"] {
            let target = Target::from_wire(target);
            let found = find(&Method::GET, &target).unwrap();
            assert_eq!(found.route.callers, Callers::Anyone);
            assert_eq!(found.route.version(&target, &host()).unwrap(), None);
        }
    }

    #[test]
    fn encoded_slash_does_not_split_a_segment() {
        let found = operation(&Method::POST, "/identities/a%2F:issueAccessToken/:revokeAccessTokens");
        assert_eq!(found, Some((Operation::RevokeAccessTokens, "a/:issueAccessToken".to_owned())));
    }

    #[test]
    fn version_is_required_known_and_unique() {
        let route = &ROUTES[0];
        let version =
            |query: &str| route.version(&Target::from_wire(&format!("/identities{query}")), &host());
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
