//! The route table: the method, path, function, callers and versions of every operation.

use http::Method;

use crate::api::cors::{CorsSettings, ReadableBy};
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
    GetIdentity,
    GetKeySet,
    GetTeamsExtensionAssignment,
    IntrospectToken,
    IssueAccessToken,
    IssueToken,
    ListEntraAssignments,
    PutEntraAssignment,
    PutTeamsExtensionAssignment,
    ReadRevocations,
    RevokeAccessTokens,
    UpdateEntraAssignments,
    UpdateIdentity,
}

/// The callers that may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Anyone, because the reply is public.
    Anyone,
    /// An end user with an Entra token for this audience, and no access key (docs/wire-contract.md#callers).
    EntraUser(Audience),
    /// A resource server with its own credential.
    ResourceServer,
    /// A service: it has an access key, or is an allowed Entra principal.
    Service,
    /// A service, or a resource server with its own credential.
    ServiceOrResourceServer,
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
    /// The versions in `api-supported-versions`: those of all routes of the same group
    /// (docs/wire-contract.md#supported-versions).
    pub supported_versions: &'static [ApiVersion],
}

/// The part of a path for an identity's raw id.
pub const ID: &str = "{id}";
/// The part of a path for an Entra tenant's GUID.
pub const TENANT: &str = "{tenantId}";
/// The part of a path for an Entra object's GUID.
pub const OBJECT: &str = "{objectId}";
/// The query parameter that says where a page of a list begins.
pub const CONTINUATION_TOKEN: &str = "continuationToken";
/// The query parameter that names the place in the feed after which a reader reads.
pub const AFTER: &str = "after";
/// The query parameter that bounds the wait for the next end, in seconds.
pub const WAIT: &str = "wait";
/// The query parameter that bounds a page of a list. The letter case does not matter: the Azure REST guidelines name it
/// `maxpagesize`.
pub const MAX_PAGE_SIZE_PARAMETER: &str = "maxPageSize";

/// The table.
pub const ROUTES: &[Route] = &[
    identities(Method::POST, "/identities", Operation::CreateIdentity, Function::User, ApiVersion::ALL),
    identities(
        Method::DELETE,
        "/identities/{id}",
        Operation::DeleteIdentity,
        Function::User,
        ApiVersion::ALL,
    ),
    identities(
        Method::GET,
        "/identities/{id}",
        Operation::GetIdentity,
        Function::User,
        ApiVersion::PREVIEW_2025,
    ),
    identities(
        Method::PATCH,
        "/identities/{id}",
        Operation::UpdateIdentity,
        Function::User,
        ApiVersion::OLDEST,
    ),
    identities(
        Method::POST,
        "/identities/{id}/token",
        Operation::IssueToken,
        Function::Token,
        ApiVersion::OLDEST,
    ),
    identities(
        Method::POST,
        "/identities/{id}/:issueAccessToken",
        Operation::IssueAccessToken,
        Function::Token,
        ApiVersion::ACTIONS,
    ),
    identities(
        Method::POST,
        "/identities/{id}/:revokeAccessTokens",
        Operation::RevokeAccessTokens,
        Function::Revoke,
        ApiVersion::ACTIONS,
    ),
    Route {
        method: Method::POST,
        path: "/teamsUser/:exchangeAccessToken",
        operation: Operation::ExchangeTeamsUserToken,
        function: Function::TeamsExchange,
        callers: Callers::Service,
        versions: ApiVersion::TEAMS_USER,
        supported_versions: ApiVersion::TEAMS_USER,
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
        callers: Callers::ServiceOrResourceServer,
        versions: &[],
        supported_versions: &[],
    },
    Route {
        method: Method::GET,
        path: "/revocations",
        operation: Operation::ReadRevocations,
        function: Function::Revocations,
        callers: Callers::ResourceServer,
        versions: &[],
        supported_versions: &[],
    },
    document("/.well-known/jwks.json", Operation::GetKeySet),
    document("/.well-known/openid-configuration", Operation::GetDiscoveryDocument),
];

const fn identities(
    method: Method,
    path: &'static str,
    operation: Operation,
    function: Function,
    versions: &'static [ApiVersion],
) -> Route {
    let (callers, supported_versions) = (Callers::Service, ApiVersion::ALL);
    Route { method, path, operation, function, callers, versions, supported_versions }
}

const fn teams_extension(
    method: Method,
    path: &'static str,
    operation: Operation,
    callers: Callers,
) -> Route {
    let (function, versions) = (Function::TeamsExchange, ApiVersion::TEAMS_EXTENSION);
    Route { method, path, operation, function, callers, versions, supported_versions: versions }
}

const fn entra(method: Method, path: &'static str, operation: Operation, callers: Callers) -> Route {
    let (function, versions) = (Function::TeamsExchange, ApiVersion::PREVIEW_2025);
    Route { method, path, operation, function, callers, versions, supported_versions: versions }
}

const fn document(path: &'static str, operation: Operation) -> Route {
    let (method, function, callers) = (Method::GET, Function::Keys, Callers::Anyone);
    Route { method, path, operation, function, callers, versions: &[], supported_versions: &[] }
}

/// The path of a request, which has at least one route. All routes of a path have the same function and callers.
pub struct PathMatch {
    first: &'static Route,
    parameters: Parameters,
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

impl Callers {
    /// The origins whose pages may read the replies of a path with these callers.
    #[must_use]
    pub fn readable_by(self, origins: &CorsSettings) -> ReadableBy<'_> {
        match self {
            Self::Anyone => ReadableBy::Anyone,
            Self::EntraUser(_) => ReadableBy::Only(&origins.users),
            Self::ResourceServer | Self::Service | Self::ServiceOrResourceServer => {
                ReadableBy::Only(&origins.services)
            }
        }
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
            Self::GetIdentity => "get_identity",
            Self::GetKeySet => "get_key_set",
            Self::GetTeamsExtensionAssignment => "get_teams_extension_assignment",
            Self::IntrospectToken => "introspect_token",
            Self::IssueAccessToken => "issue_access_token",
            Self::IssueToken => "issue_token",
            Self::ListEntraAssignments => "list_entra_assignments",
            Self::PutEntraAssignment => "put_entra_assignment",
            Self::PutTeamsExtensionAssignment => "put_teams_extension_assignment",
            Self::ReadRevocations => "read_revocations",
            Self::RevokeAccessTokens => "revoke_access_tokens",
            Self::UpdateEntraAssignments => "update_entra_assignments",
            Self::UpdateIdentity => "update_identity",
        }
    }
}

impl Route {
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

impl PathMatch {
    /// The callers of the path.
    #[must_use]
    pub fn callers(&self) -> Callers {
        self.first.callers
    }

    /// The methods of the path, as in `Allow`.
    #[must_use]
    pub fn methods(&self) -> String {
        let methods = self.routes().map(|route| match route.method {
            Method::GET => "GET, HEAD",
            _ => route.method.as_str(),
        });
        methods.collect::<Vec<_>>().join(", ")
    }

    /// The route for a method. `HEAD` has the route of `GET` (RFC 9110 section 9.3.2).
    ///
    /// # Errors
    /// [`Error::MethodNotAllowed`] with the methods of the path.
    pub fn route(&self, method: &Method) -> Result<&'static Route, Error> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let route = self.routes().find(|route| route.method == method);
        route.ok_or_else(|| Error::MethodNotAllowed(self.methods()))
    }

    /// The parameters in the path.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn routes(&self) -> impl Iterator<Item = &'static Route> {
        ROUTES.iter().filter(|route| route.path == self.first.path)
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}

/// The path of a target, among the paths of these functions.
#[must_use]
pub fn find(target: &Target, functions: &[Function]) -> Option<PathMatch> {
    let segments = segments(target)?;
    let matches = |route: &&Route| functions.contains(&route.function) && fits(route.path, segments);
    let first = ROUTES.iter().find(matches)?;
    let pairs = parts(first.path).zip(segments);
    let parameters = pairs.filter(|(part, _)| part.starts_with('{'));
    let parameters = parameters.map(|(part, segment)| (part, segment.clone())).collect();
    Some(PathMatch { first, parameters: Parameters(parameters) })
}

/// The path of a target among these paths, by the rules of [`find`].
#[must_use]
pub fn path_among<'a>(target: &Target, paths: &[&'a str]) -> Option<&'a str> {
    let segments = segments(target)?;
    paths.iter().copied().find(|path| fits(path, segments))
}

/// The decoded segments of a target. A path with one slash at its end is the path without it.
fn segments(target: &Target) -> Option<&[String]> {
    match target.segments().ok()? {
        [path @ .., last] if !path.is_empty() && last.is_empty() => Some(path),
        path => Some(path),
    }
}

/// Fixed segments match without letter case, as in the routing of ASP.NET (docs/wire-contract.md#transport). A
/// parameter matches every segment that is not empty.
fn fits(path: &str, segments: &[String]) -> bool {
    // Bytes, because the search for a character in many short texts took a quarter of the time of a small request.
    let mut parts = path.as_bytes().split(|byte| *byte == b'/').skip(1);
    let matches = |segment: &String| match parts.next() {
        Some([b'{', ..]) => !segment.is_empty(),
        Some(part) => part.eq_ignore_ascii_case(segment.as_bytes()),
        None => false,
    };
    segments.iter().all(matches) && parts.next().is_none()
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
        let path = find(&Target::from_wire(target), Function::ALL)?;
        let operation = path.route(method).ok()?.operation;
        Some((operation, path.parameters().get(ID).to_owned()))
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
            "/identities//",
            "/identities//:issueAccessToken/",
            "/identities//:issueAccessToken",
            "/identities/a/issueAccessToken",
            "/identities/a/:issueAccessToken//",
            "/identities%2Fa/:issueAccessToken",
            "/x/../identities",
            "/identities/%ff/:issueAccessToken",
            "/access/entra/assignments//",
            "/access/teamsExtension/tenants//assignments/a",
        ] {
            let target = Target::from_wire(target);
            assert!(find(&target, Function::ALL).is_none(), "{target:?}");
        }
    }

    #[test]
    fn letter_case_and_final_slash_do_not_change_the_route() {
        for route in ROUTES {
            let target = route.path.replace(ID, "8:acs:A_b").replace(TENANT, "T1").replace(OBJECT, "O2");
            for fixed in
                [str::to_owned, str::to_ascii_uppercase, str::to_ascii_lowercase] as [fn(&str) -> String; 3]
            {
                let part = |part: &'static str| match part {
                    ID => "8:acs:A_b".to_owned(),
                    TENANT => "T1".to_owned(),
                    OBJECT => "O2".to_owned(),
                    _ => fixed(part),
                };
                let spelled: String = parts(route.path).map(|text| format!("/{}", part(text))).collect();
                for target in [spelled.clone(), format!("{spelled}/"), format!("//{spelled}/?a=/")] {
                    let path = find(&Target::from_wire(&target), Function::ALL).unwrap();
                    assert_eq!(path.route(&route.method).unwrap().operation, route.operation, "{target}");
                    let named = |name| path.parameters().get(name).to_owned();
                    for (name, value) in [(ID, "8:acs:A_b"), (TENANT, "T1"), (OBJECT, "O2")] {
                        let expected = if route.path.contains(name) { value } else { "" };
                        assert_eq!(named(name), expected, "{target}");
                    }
                }
            }
            assert!(find(&Target::from_wire(&format!("{target}//")), Function::ALL).is_none(), "{target}//");
        }
    }

    #[test]
    fn other_methods_are_refused_with_the_methods_of_the_path() {
        for (method, target, allowed) in [
            (Method::PUT, "/identities/a", "DELETE, GET, HEAD, PATCH"),
            (Method::DELETE, "/identities/", "POST"),
            (Method::HEAD, "/identities", "POST"),
            (Method::POST, "/.well-known/jwks.json", "GET, HEAD"),
            (Method::POST, "/access/entra/assignments/a", "GET, HEAD, PUT, DELETE"),
        ] {
            let path = find(&Target::from_wire(target), Function::ALL).unwrap();
            let refused = path.route(&method).err();
            assert!(
                matches!(refused, Some(Error::MethodNotAllowed(methods)) if methods == allowed),
                "{target}"
            );
        }
    }

    #[test]
    fn head_has_the_route_of_get() {
        let target = Target::from_wire("/access/entra/assignments");
        let path = find(&target, Function::ALL).unwrap();
        assert_eq!(path.route(&Method::HEAD).unwrap().operation, Operation::ListEntraAssignments);
    }

    #[test]
    fn routes_of_one_path_have_one_function_and_callers() {
        for route in ROUTES {
            for other in ROUTES.iter().filter(|other| other.path == route.path) {
                assert_eq!(
                    (other.function, other.callers),
                    (route.function, route.callers),
                    "{}",
                    route.path
                );
            }
        }
    }

    #[test]
    fn every_version_of_a_route_is_reported_in_ascending_order() {
        for route in ROUTES {
            let reported = route.supported_versions;
            assert!(reported.is_sorted(), "{}", route.path);
            assert!(route.versions.iter().all(|version| reported.contains(version)), "{}", route.path);
        }
    }

    #[test]
    fn each_group_of_callers_has_its_own_origins() {
        let users = "https://users.example".parse().unwrap();
        let services = "https://services.example".parse().unwrap();
        let origins = CorsSettings { users, services };
        let readable_by = |callers: Callers| callers.readable_by(&origins);
        assert!(matches!(readable_by(Callers::Anyone), ReadableBy::Anyone));
        let users = readable_by(Callers::EntraUser(Audience::Teams));
        assert!(matches!(users, ReadableBy::Only(only) if *only == origins.users));
        assert!(matches!(readable_by(Callers::Service), ReadableBy::Only(only) if *only == origins.services));
    }

    #[test]
    fn paths_of_other_functions_are_not_found() {
        let target = Target::from_wire("/identities");
        assert!(find(&target, &[Function::Keys]).is_none());
        assert!(find(&target, &[Function::User]).is_some());
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
                    "supported versions": operation.get("x-supported-versions").unwrap_or(&operation["x-api-versions"]),
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
                    Callers::ResourceServer => json!([{ "resourceServer": [] }]),
                    Callers::Service => json!([{ "accessKey": [] }, { "entraPrincipal": [] }]),
                    Callers::ServiceOrResourceServer => {
                        json!([{ "accessKey": [] }, { "entraPrincipal": [] }, { "resourceServer": [] }])
                    }
                },
                "supported versions":
                    route.supported_versions.iter().map(|version| version.as_str()).collect::<Vec<_>>(),
                "version parameters": if versions.is_empty() { json!([]) } else { json!([versions]) },
                "versions": versions,
            });
            (format!("{} {}", route.method, route.path), row)
        });
        assert_eq!(documented, table.collect(), "docs/openapi.json must list the routes of this table");
    }

    /// `cargo lambda watch` reads the router from the manifest. Every method of a path has one function.
    #[test]
    fn development_router_lists_every_path() {
        let mut table = "[workspace.metadata.lambda.watch.router]\n".to_owned();
        for (index, route) in ROUTES.iter().enumerate() {
            if ROUTES[..index].iter().all(|earlier| earlier.path != route.path) {
                table += &format!("{:?} = {:?}\n", route.path, route.function.as_str());
            }
        }
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("{table}\n")), "Cargo.toml must contain this table:\n{table}");
    }

    #[test]
    fn published_documents_have_no_version() {
        for target in ["/.well-known/jwks.json", "/.well-known/openid-configuration?api-version=1"] {
            let target = Target::from_wire(target);
            let route = find(&target, Function::ALL).unwrap().route(&Method::GET).unwrap();
            assert_eq!(route.callers, Callers::Anyone);
            assert_eq!(route.version(&target, &host()).unwrap(), None);
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
        for known in ApiVersion::ALL {
            assert_eq!(version(&format!("?api-version={known}")).unwrap(), Some(*known));
        }
        assert!(matches!(version(""), Err(Error::ApiVersionUnspecified)));
        assert!(matches!(version("?api-version="), Err(Error::ApiVersionUnspecified)));
        let twice = "?api-version=2023-10-01&api-version=2025-06-30";
        assert!(matches!(version(twice), Err(Error::ApiVersionAmbiguous(_))));
        let same = "?api-version=2023-10-01&API-Version=2023-10-01";
        assert_eq!(version(same).unwrap(), Some(ApiVersion::V2023_10_01));
        for unknown in ["2021-11-01", "2023-10-1", "2023-10-01 ", "9999-01-01"] {
            let refused = version(&format!("?api-version={unknown}"));
            assert!(matches!(refused, Err(Error::ApiVersionUnsupported { .. })), "{unknown}");
        }
    }
}
