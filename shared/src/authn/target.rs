//! The request target: its bytes for signatures, and its decoded segments for routing.
//!
//! SDKs sign the target as they send it. A gateway or a proxy may deliver it with other escapes or slashes. So a closed
//! set of texts may have been signed, the candidates (decision record 0005). Each routes as the request does.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::host::HostForm;

/// The path and query of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: Arc<str>,
    query: Option<Arc<str>>,
    path_form: PathForm,
    /// Decoded once, because routing reads them several times.
    segments: Result<Arc<[String]>, MalformedPathError>,
}

/// The form in which the host in front delivers the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathForm {
    /// Percent-decoded, so the client's encoding is lost. An HTTP API decodes.
    #[default]
    Decoded,
    /// The bytes that the client sent. A function URL and a development server deliver them.
    Wire,
}

/// A path that a client may have signed. The query is signed as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetCandidate {
    pub path: String,
    signer: Signer,
}

/// The clients that may have signed a target. Each signs only some forms of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signer {
    /// Any SDK.
    Sdk,
    /// A signing function without SDK, which escapes in its own way.
    Other,
    /// A client that signs the target without its first character: Python before 1.4.0, for an endpoint that ends with a
    /// slash or begins with `http://`.
    Cut,
    /// The same Python client without the first two characters, for an endpoint with both.
    CutTwice,
}

impl PathForm {
    /// The name in the setting `GATEWAY_PATH`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decoded => "decoded",
            Self::Wire => "wire",
        }
    }
}

impl FromStr for PathForm {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Decoded, Self::Wire].into_iter().find(|form| form.as_str() == text).ok_or(())
    }
}

impl TargetCandidate {
    /// Whether a client that signs this path may sign this form of the host.
    #[must_use]
    pub fn goes_with(&self, host: HostForm) -> bool {
        match self.signer {
            Signer::Sdk => true,
            Signer::Other => matches!(host, HostForm::AsReceived | HostForm::Plain),
            Signer::Cut => matches!(host, HostForm::AsReceived | HostForm::Slashed),
            Signer::CutTwice => host == HostForm::Slashed,
        }
    }
}

/// The path cannot name a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed path")]
pub struct MalformedPathError;

impl Target {
    /// A target exactly as the client sent it.
    #[must_use]
    pub fn from_wire(target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.into())),
            None => (target, None),
        };
        Self::new(path.into(), query, PathForm::Wire)
    }

    /// A target with a path that the host has decoded, and with the query as the client sent it.
    #[must_use]
    pub fn from_decoded_path(path: &str, query: &str) -> Self {
        let query = (!query.is_empty()).then(|| query.into());
        Self::new(path.into(), query, PathForm::Decoded)
    }

    fn new(path: Arc<str>, query: Option<Arc<str>>, path_form: PathForm) -> Self {
        let segments = segments(&path, path_form);
        Self { path, query, path_form, segments }
    }

    /// The path as delivered.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The undecoded values of the query parameters with this name. Case and escapes of the name do not matter.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.as_deref().unwrap_or("").split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = percent_decode_str(key).map(|b| b.to_ascii_lowercase());
            key.eq(name.bytes().map(|b| b.to_ascii_lowercase())).then_some(value)
        })
    }

    /// The path's segments. They are split first and then decoded once, so an encoded slash never separates segments.
    /// Extra leading slashes are dropped, because one SDK credential sends them (docs/wire-contract.md#transport).
    ///
    /// # Errors
    /// [`MalformedPathError`] when a segment is not UTF-8 after decoding.
    pub fn segments(&self) -> Result<&[String], MalformedPathError> {
        self.segments.as_deref().map_err(|error| *error)
    }

    /// The same target, as if the host had delivered its path in the other form.
    #[must_use]
    pub fn in_other_form(&self) -> (Self, PathForm) {
        let path_form = match self.path_form {
            PathForm::Decoded => PathForm::Wire,
            PathForm::Wire => PathForm::Decoded,
        };
        (Self::new(self.path.clone(), self.query.clone(), path_form), path_form)
    }

    /// The query as the client sent it, with its question mark. Empty for a target without a query.
    #[must_use]
    pub fn query(&self) -> [&str; 2] {
        self.query.as_deref().map_or([""; 2], |query| ["?", query])
    }

    /// The first of [`Self::candidates`]. Most requests need no other one.
    #[must_use]
    pub fn likeliest(&self) -> Option<TargetCandidate> {
        match self.path_form {
            PathForm::Decoded => self.candidates().into_iter().next(),
            PathForm::Wire => Some(TargetCandidate { path: self.path.to_string(), signer: Signer::Sdk }),
        }
    }

    /// The paths that a client may have signed, most likely first.
    #[must_use]
    pub fn candidates(&self) -> Vec<TargetCandidate> {
        let mut paths = Paths(Vec::with_capacity(USUAL_CANDIDATES));
        let routed = self.routed_path();
        match self.path_form {
            PathForm::Decoded => {
                add_decoded(&mut paths, &self.path);
                add_decoded(&mut paths, routed);
            }
            PathForm::Wire => {
                paths.add(self.path.as_ref(), Signer::Sdk);
                paths.add(routed, Signer::Sdk);
                add_wire(&mut paths, routed);
            }
        }
        let cut = match self.path_form {
            PathForm::Wire => vec![routed.to_owned()],
            PathForm::Decoded => paths.0.iter().map(|known| known.path.clone()).take(2).collect(),
        };
        for path in cut {
            paths.add_cut(&path);
        }
        paths.0
    }

    /// The path with one leading slash, as it is routed.
    fn routed_path(&self) -> &str {
        let slashes = self.path.len() - self.path.trim_start_matches('/').len();
        self.path.get(slashes.saturating_sub(1)..).unwrap_or_default()
    }
}

fn segments(path: &str, path_form: PathForm) -> Result<Arc<[String]>, MalformedPathError> {
    let decode = |segment: &str| match path_form {
        PathForm::Decoded => Ok(segment.to_owned()),
        PathForm::Wire => match percent_decode_str(segment).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(MalformedPathError),
        },
    };
    path.trim_start_matches('/').split('/').map(decode).collect()
}

/// The first segments of the paths of clients that cut the target.
const CUT_PATHS: [&str; 2] = ["identities", "teamsUser"];

/// The candidates of the path of an issue, which has more of them than other usual paths.
const USUAL_CANDIDATES: usize = 13;

/// Distinct paths.
struct Paths(Vec<TargetCandidate>);

impl Paths {
    fn add<'a>(&mut self, path: impl Into<Cow<'a, str>>, signer: Signer) {
        let path = path.into();
        if self.0.iter().all(|known| known.path != path) {
            self.0.push(TargetCandidate { path: path.into_owned(), signer });
        }
    }

    /// Clients that cut the target have the routes of [`CUT_PATHS`] only. So the first character, which the signature does
    /// not cover, is certain.
    fn add_cut(&mut self, path: &str) {
        let first = path.strip_prefix('/').and_then(|path| path.split('/').next());
        if !CUT_PATHS.iter().any(|known| first == Some(known)) {
            return;
        }
        for (length, signer) in [(1, Signer::Cut), (2, Signer::CutTwice)] {
            if let Some(rest) = path.get(length..) {
                self.add(rest, signer);
            }
        }
    }
}

/// The candidates for a path as the client or a proxy sent it. A proxy may have changed the escapes of a path whose
/// segments have only characters of identifiers. So such a path has the candidates of its decoded form. An encoded slash
/// is no such character, because it would separate segments.
///
/// If decoding yields another character, the decoded path is a candidate too. The asynchronous Python SDK signs that form
/// (docs/wire-contract.md#path-and-query), and its client is to learn that the identifier is malformed. There is no such
/// candidate if the decoded text still has an escape, or could be the target of another request.
fn add_wire(paths: &mut Paths, path: &str) {
    let Ok(decoded) = percent_decode_str(path).decode_utf8() else { return };
    if decoded.bytes().all(in_identifier_path) {
        let slashes = |text: &str| text.bytes().filter(|b| *b == b'/').count();
        if slashes(&decoded) == slashes(path) {
            add_escapes(paths, &decoded);
        }
    } else if !decoded.contains('%') && !is_other_target(path, &decoded) {
        paths.add(decoded, Signer::Sdk);
    }
}

/// Whether a decoded path is the target of a request with other segments or another query. A text with a space is no
/// target (RFC 9112 section 3).
fn is_other_target(path: &str, decoded: &str) -> bool {
    let count = |text: &str| text.matches(['/', '?', '#']).count();
    count(path) != count(decoded) && !decoded.contains(' ')
}

/// The candidates for a path that the host has decoded. If the path has a character that no identifier has, the
/// candidates are its escaped form and the path, so that the client learns that the identifier is malformed. A path that
/// still has an escape has no candidate, because it is the wire form of another path.
fn add_decoded(paths: &mut Paths, path: &str) {
    if path.contains('%') {
        return;
    }
    if path.bytes().all(in_identifier_path) {
        return add_escapes(paths, path);
    }
    paths.add(path.split('/').map(escaped).collect::<Vec<_>>().join("/"), Signer::Sdk);
    if !path.contains(['?', '#']) || path.contains(' ') {
        paths.add(path, Signer::Sdk);
    }
}

/// The encodings of colons in a decoded path: of an identifier, and before an action. SDKs use the first two.
const COLONS: [(&str, &str, Signer); 9] = [
    ("%3A", ":", Signer::Sdk),
    (":", ":", Signer::Sdk),
    ("%3A", "%3A", Signer::Other),
    ("%3A", "%3a", Signer::Other),
    ("%3a", ":", Signer::Other),
    ("%3a", "%3A", Signer::Other),
    ("%3a", "%3a", Signer::Other),
    (":", "%3A", Signer::Other),
    (":", "%3a", Signer::Other),
];

/// Adds the encodings of a decoded path.
fn add_escapes(paths: &mut Paths, path: &str) {
    if !path.contains(':') {
        return paths.add(path, Signer::Sdk);
    }
    let parts: Vec<&str> = path.split(':').collect();
    for (of_identifier, of_action, signer) in COLONS {
        paths.add(with_colons(&parts, of_identifier, of_action), signer);
    }
}

/// These parts of a path, joined by these colons. The colon of an action begins a segment.
fn with_colons(parts: &[&str], of_identifier: &str, of_action: &str) -> String {
    let colon = of_identifier.len().max(of_action.len());
    let mut text = String::with_capacity(parts.iter().map(|part| part.len() + colon).sum());
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            let begins_segment = text.is_empty() || text.ends_with('/');
            text.push_str(if begins_segment { of_action } else { of_identifier });
        }
        text.push_str(part);
    }
    text
}

/// Escapes everything but unreserved characters (RFC 3986 section 2.3), as SDKs escape an identifier. They do not escape
/// the colon before an action.
fn escaped(segment: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    match segment.strip_prefix(':') {
        Some(action) => format!(":{}", utf8_percent_encode(action, RESERVED)),
        None => utf8_percent_encode(segment, RESERVED).to_string(),
    }
}

fn in_identifier_path(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'/' | b':' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::functions::Function;
    use crate::api::routes::{self, ROUTES};

    const ISSUE: &str = "/identities/8:acs:a_b/:issueAccessToken?api-version=1";

    fn texts(target: &Target) -> Vec<String> {
        let query = target.query().concat();
        target.candidates().into_iter().map(|candidate| candidate.path + &query).collect()
    }

    #[test]
    fn received_target_is_the_first_candidate() {
        let wire = "/identities/8%3Aacs%3Aa_b/:issueAccessToken?api-version=2023-10-01";
        let target = Target::from_wire(wire);
        assert_eq!(texts(&target)[0], wire);
        assert_eq!(target.segments().unwrap(), ["identities", "8:acs:a_b", ":issueAccessToken"]);
        assert_eq!(target.parameters("Api-Version").collect::<Vec<_>>(), ["2023-10-01"]);
        let create = texts(&Target::from_wire("/identities?a"));
        assert_eq!(create, ["/identities?a", "identities?a", "dentities?a"]);
    }

    #[test]
    fn forms_of_paths_have_names() {
        for (form, name) in [(PathForm::Decoded, "decoded"), (PathForm::Wire, "wire")] {
            assert_eq!(form.as_str(), name);
            assert_eq!(name.parse(), Ok(form));
        }
        assert_eq!("Wire".parse::<PathForm>(), Err(()));
    }

    #[test]
    fn other_form_of_a_target_has_the_same_path() {
        let target = Target::from_wire("/a?b");
        let (other, form) = target.in_other_form();
        assert_eq!((other.path(), other.path_form, form), ("/a", PathForm::Decoded, PathForm::Decoded));
        assert_eq!(other.in_other_form().0.path_form, PathForm::Wire);
    }

    #[test]
    fn escaped_query_in_an_action_is_no_query() {
        let target = Target::from_decoded_path("/identities/8:acs:a_b/:revokeAccessTokens?api-version=1", "");
        let query = |text: &String| text.contains('?');
        assert!(!texts(&target).iter().any(query), "{:?}", texts(&target));
    }

    #[test]
    fn escapes_may_change_in_a_path_of_identifier_characters() {
        let all = |target: &str| -> std::collections::BTreeSet<_> {
            let whole = |text: &String| text.starts_with('/');
            texts(&Target::from_wire(target)).into_iter().filter(whole).collect()
        };
        let literal = all(ISSUE);
        assert_eq!(literal.len(), 9);
        assert_eq!(all(&ISSUE.replace(':', "%3A")), literal);
        assert_eq!(all(&ISSUE.replace("8:", "8%3a")), &literal | &all(&ISSUE.replace("8:", "8%3a")));
        for odd in ["%38:acs:a_b", "8:%61cs:a%5Fb"] {
            let odd = ISSUE.replace("8:acs:a_b", odd);
            assert!(all(&odd).is_superset(&literal), "{odd}");
        }
    }

    #[test]
    fn leading_slashes_may_be_signed_as_received_and_as_routed() {
        let doubled = texts(&Target::from_wire("///access/entra?a"));
        assert_eq!(doubled[..2], ["///access/entra?a", "/access/entra?a"]);
        let decoded = texts(&Target::from_decoded_path("//identities", "a"));
        assert_eq!(decoded[..2], ["//identities?a", "/identities?a"]);
        let ended = texts(&Target::from_wire("/identities/?a"));
        assert!(!ended.contains(&"/identities?a".to_owned()), "a final slash is signed as it is sent");
        assert_eq!(texts(&Target::from_wire("/")), ["/"]);
    }

    #[test]
    fn a_target_without_identifier_may_be_signed_decoded() {
        let target = Target::from_wire("/identities/8:acs:a%2Fb%20c%2Bd");
        assert_eq!(texts(&target)[..2], ["/identities/8:acs:a%2Fb%20c%2Bd", "/identities/8:acs:a/b c+d"]);
        assert_eq!(target.segments().unwrap(), ["identities", "8:acs:a/b c+d"]);
        for other in
            ["/identities/a%2Fb+c", "/identities/8:acs:a%3Fapi-version=1", "/identities/a%2Fb", "/a%252Fb"]
        {
            let whole = texts(&Target::from_wire(other)).into_iter().filter(|text| text.starts_with('/'));
            assert_eq!(whole.collect::<Vec<_>>(), [other]);
        }
    }

    #[test]
    fn a_decoded_path_has_at_most_nine_candidates_and_their_cuts() {
        let target = Target::from_decoded_path("/identities/8:acs:a_b/:issueAccessToken", "api-version=1");
        let candidates = texts(&target);
        assert_eq!(candidates.iter().filter(|text| text.starts_with('/')).count(), 9);
        assert_eq!(candidates.len(), 13);
        assert_eq!(candidates[0], "/identities/8%3Aacs%3Aa_b/:issueAccessToken?api-version=1");
        assert_eq!(candidates[1], ISSUE);
        assert!(candidates.contains(&"identities/8%3Aacs%3Aa_b/:issueAccessToken?api-version=1".to_owned()));
        assert_eq!(texts(&Target::from_decoded_path("/identities", ""))[0], "/identities");
        assert!(Target::from_decoded_path("/identities/8:%3A", "").candidates().is_empty());
        assert_eq!(
            texts(&Target::from_decoded_path("/identities/4:+1/:issueAccessToken", ""))[..2],
            ["/identities/4%3A%2B1/:issueAccessToken", "/identities/4:+1/:issueAccessToken"]
        );
        let query_in_path = texts(&Target::from_decoded_path("/identities/a?b", ""));
        assert!(
            !query_in_path.contains(&"/identities/a?b".to_owned()),
            "it is the target of another request"
        );
    }

    #[test]
    fn only_paths_of_clients_that_cut_have_cut_candidates() {
        let cuts = |target: &str| {
            texts(&Target::from_wire(target)).into_iter().filter(|text| !text.starts_with('/')).count()
        };
        assert_eq!(
            [cuts("/identities/8:acs:a"), cuts("//identities"), cuts("/teamsUser/:exchangeAccessToken")],
            [2; 3]
        );
        for other in [
            "/xidentities",
            "/Identities",
            "identities",
            "/x/identities",
            "x/identities",
            "/introspect",
            "/access/entra",
        ] {
            let whole = usize::from(!other.starts_with('/'));
            assert_eq!(cuts(other), whole, "{other}");
        }
    }

    /// Targets near the routes: other escapes, slashes and letter case, and characters that no identifier has.
    fn near_a_route() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => prop::sample::select(vec!["identities", "Identities", ":issueAccessToken", "8:acs:a_b", "access"]).prop_map(str::to_owned),
            2 => "[a-z0-9:_+ .?#%-]{0,6}",
        ];
        let escape = |text: &str, bits: u64| -> String {
            let changed = |(index, byte): (usize, u8)| match bits >> (index % 64) & 1 {
                0 => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            };
            text.bytes().enumerate().map(changed).collect()
        };
        let parts = prop::collection::vec((part, any::<u64>(), 0_u8..3), 1..5);
        parts.prop_map(move |parts| {
            let segment = |(text, bits, how): (String, u64, u8)| match how {
                0 => text,
                1 => text.replace(':', "%3A"),
                _ => escape(&text, bits),
            };
            format!("/{}", parts.into_iter().map(segment).collect::<Vec<_>>().join("/"))
        })
    }

    /// The path of the route and the parameters.
    fn routed(target: &Target) -> Option<(&'static str, routes::Parameters)> {
        let found = routes::find(target, Function::ALL)?;
        let route =
            ROUTES.iter().find(|route| found.route(&route.method).is_ok_and(|own| own.path == route.path))?;
        Some((route.path, found.parameters().clone()))
    }

    proptest! {
        // A signature for one route must never authorise another one. A text with a space is not a request target.
        #[test]
        fn every_candidate_routes_as_the_request(target in near_a_route(), query in "(\\?[a-z=&]{0,6})?") {
            let request = Target::from_wire(&format!("{}{query}", target.replace('?', "")));
            for candidate in request.candidates().iter().filter(|candidate| !candidate.path.contains(' ')) {
                let whole = match candidate.signer {
                    Signer::Sdk | Signer::Other => candidate.path.clone(),
                    Signer::Cut => format!("/{}", candidate.path),
                    Signer::CutTwice => {
                        let cut = CUT_PATHS.iter().find(|path| candidate.path.starts_with(&path[1..]));
                        format!("/{}{}", &cut.unwrap()[..1], candidate.path)
                    }
                };
                let other = Target::from_wire(&(whole.clone() + &request.query().concat()));
                prop_assert_eq!(routed(&other), routed(&request), "{} for {:?}", whole, request);
                prop_assert_eq!(&other.query, &request.query);
            }
        }

        // A candidate must never be the path of another route, so each one decodes to the same path.
        #[test]
        fn every_candidate_decodes_to_its_path(path in "/[a-z0-9:_/ @+?%#-]{0,40}") {
            let target = Target::from_decoded_path(&path, "");
            let plain = |text: &str| text.trim_start_matches('/').to_owned();
            for candidate in target.candidates() {
                let decoded = percent_decode_str(&candidate.path).decode_utf8().unwrap();
                match candidate.signer {
                    Signer::Sdk | Signer::Other | Signer::Cut => prop_assert_eq!(plain(&decoded), plain(&path)),
                    Signer::CutTwice => prop_assert!(path.contains(decoded.as_ref())),
                }
            }
        }

        #[test]
        fn wire_targets_keep_their_text_and_segments(target in "([/?=&:a-zA-Z ]|%[0-9A-F]{2}|.){0,40}") {
            let parsed = Target::from_wire(&target);
            let candidates = texts(&parsed);
            prop_assert_eq!(&candidates[0], &target);
            prop_assert_eq!(parsed.likeliest(), parsed.candidates().into_iter().next());
            prop_assert!(candidates.len() <= 24);
            prop_assert!(parsed.parameters("a").all(|value| target.contains(value)));
            let path = target.split('?').next().unwrap_or_default();
            if let Ok(segments) = parsed.segments() {
                let slashes = path.trim_start_matches('/').matches('/').count();
                prop_assert_eq!(segments.len(), slashes + 1);
                let encoded: Vec<_> = segments.iter().map(|segment| escaped(segment)).collect();
                let again = Target::from_wire(&encoded.join("/"));
                prop_assert_eq!(again.segments(), Ok(segments));
            } else {
                prop_assert!(path.contains('%'), "only an escape can be malformed");
            }
        }
    }
}
