//! Route rules: the capability that a request to a resource server needs.
//!
//! The rules are text with one rule per line, so that people can read them:
//!
//! ```text
//! # METHOD  path                            capability
//! POST      /chat/threads                   chat.create_thread
//! GET       /chat/threads/{threadId}        chat.get_thread
//! ```
//!
//! A segment in braces matches any one segment. A request that no rule matches is refused. The line
//! `CONNECT $connect <capability>` is the rule for opening a connection of a WebSocket API.

use std::fmt;

use http::Method;

use crate::authorization::capability::Capability;

/// The rules of the chat API.
const CHAT_ROUTES: &str = include_str!("chat_routes.txt");

/// The methods that a rule may have. `ANY` is not among them, because it would match no request.
const METHODS: [Method; 7] =
    [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];

/// The words of the rule for the event of a WebSocket API that opens a connection.
const CONNECT: [&str; 2] = ["CONNECT", "$connect"];

/// The rules of a resource server.
#[derive(Clone, Debug, Default)]
pub struct RouteRules {
    rules: Vec<Rule>,
    connect: Option<Capability>,
}

#[derive(Clone, Debug)]
struct Rule {
    method: Method,
    path: Vec<Segment>,
    capability: Capability,
}

/// A segment of a rule's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any one segment.
    Any,
}

/// Every fault of a text of rules, one per line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct RuleErrors(Vec<String>);

/// The decoded segments of a request's path, which every server reads in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath(Vec<String>);

/// Different servers may read the path differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("different servers may read the path differently")]
pub struct AmbiguousPathError;

impl RouteRules {
    /// The rules of the chat API.
    ///
    /// # Errors
    /// [`RuleErrors`], but a test shows that the built-in rules have no fault.
    pub fn chat() -> Result<Self, RuleErrors> {
        Self::default().and("chat_routes.txt", CHAT_ROUTES)
    }

    /// Adds the rules of a text. `source` is the text's name in errors.
    ///
    /// # Errors
    /// [`RuleErrors`] if a line is not a rule, or if its route has a rule already.
    pub fn and(mut self, source: &str, text: &str) -> Result<Self, RuleErrors> {
        let mut faults = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(fault) = self.add(line) {
                faults.push(format!("{source}, line {number}: {fault}"));
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(RuleErrors(faults)) }
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [method, path, capability] = *words.as_slice() else {
            return Err("a rule must be a method, a path and a capability".to_owned());
        };
        let capability = || {
            let unknown =
                |_| format!("{capability} is not a capability; docs/openapi.json lists the capabilities");
            capability.parse().map_err(unknown)
        };
        let has_rule = |route: &str| Err(format!("{route} has a rule already"));
        if [method, path] == CONNECT {
            return match self.connect.replace(capability()?) {
                Some(_) => has_rule(&CONNECT.join(" ")),
                None => Ok(()),
            };
        }
        let rule = Rule::parse(method, path, capability)?;
        if self.rules.iter().any(|known| known.is_of_same_route(&rule)) {
            return has_rule(&format!("{} {rule}", rule.method));
        }
        self.rules.push(rule);
        Ok(())
    }

    /// The capability that a request needs. `None` if no rule matches it. If several rules match, the rule with the
    /// earlier literal segment applies.
    ///
    /// Letter case matters. A server that ignores it would route some requests by a rule with an earlier literal segment.
    /// Such a request is ambiguous, so no rule applies to it.
    #[must_use]
    pub fn find(&self, method: &Method, path: &RequestPath) -> Option<Capability> {
        let of_method = || self.rules.iter().filter(|rule| rule.method == *method);
        let fits = of_method().filter(|rule| rule.fits(path, Segment::fits));
        let rule = fits.reduce(|one, other| if other.prevails_over(one) { other } else { one })?;
        let mut in_any_case = of_method().filter(|other| other.fits(path, Segment::fits_in_any_case));
        let is_ambiguous = in_any_case.any(|other| other.prevails_over(rule));
        (!is_ambiguous).then_some(rule.capability)
    }

    /// The capability that opening a connection of a WebSocket API needs. `None` without a rule.
    #[must_use]
    pub fn connect(&self) -> Option<Capability> {
        self.connect
    }
}

impl Rule {
    fn parse(
        method: &str,
        path: &str,
        capability: impl FnOnce() -> Result<Capability, String>,
    ) -> Result<Self, String> {
        let Some(method) = METHODS.into_iter().find(|known| known.as_str() == method) else {
            let known = METHODS.each_ref().map(Method::as_str).join(", ");
            return Err(format!(
                "{method} is not a method; use one of {known}, or the line CONNECT $connect"
            ));
        };
        let capability = capability()?;
        let Some(segments) = path.strip_prefix('/') else {
            return Err(format!("{path} is not a path; begin it with a slash"));
        };
        let segments = segments.split('/').filter(|_| !segments.is_empty());
        Ok(Self { method, path: segments.map(Segment::parse).collect::<Result<_, _>>()?, capability })
    }

    fn fits(&self, path: &RequestPath, fits: impl Fn(&Segment, &str) -> bool) -> bool {
        self.path.len() == path.0.len() && self.path.iter().zip(&path.0).all(|(part, text)| fits(part, text))
    }

    fn is_of_same_route(&self, other: &Self) -> bool {
        self.method == other.method && self.path == other.path
    }

    /// Whether this rule applies if both rules match: it has the earlier literal segment.
    fn prevails_over(&self, other: &Self) -> bool {
        let literals = |rule: &Self| rule.path.iter().map(|part| *part != Segment::Any).collect::<Vec<_>>();
        self.path.len() == other.path.len() && literals(self) > literals(other)
    }
}

/// The path, each parameter as `{}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str("/");
        }
        self.path.iter().try_for_each(|part| match part {
            Segment::Literal(text) => write!(f, "/{text}"),
            Segment::Any => f.write_str("/{}"),
        })
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        let parameter = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let is_valid = match parameter {
            Some(name) => !name.is_empty() && !name.contains(['{', '}']),
            None => is_plain(text) && !text.contains(['{', '}']),
        };
        if !is_valid {
            return Err(format!("{text:?} is not a segment of a path; use plain text or a name in braces"));
        }
        Ok(if parameter.is_some() { Self::Any } else { Self::Literal(text.to_owned()) })
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Any => true,
        }
    }

    fn fits_in_any_case(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal.to_lowercase() == text.to_lowercase(),
            Self::Any => true,
        }
    }
}

impl RequestPath {
    /// The path with these decoded segments. The root has one empty segment.
    ///
    /// # Errors
    /// [`AmbiguousPathError`] if some servers decode, cut or normalise a segment and others do not.
    pub fn of(mut segments: Vec<String>) -> Result<Self, AmbiguousPathError> {
        if *segments == [""] {
            segments.clear();
        }
        if segments.iter().all(|segment| is_plain(segment)) {
            Ok(Self(segments))
        } else {
            Err(AmbiguousPathError)
        }
    }
}

/// Whether every server reads the segment in the same way. A star or a dollar sign would be a pattern in a gateway's
/// policy.
fn is_plain(segment: &str) -> bool {
    let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | '%' | '?' | '#' | ';' | '*' | '$');
    !matches!(segment, "" | "." | "..") && !segment.contains(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
        # a comment
        GET    /threads/{id}              chat.get_thread
        PATCH  /threads/{id}              chat.update_thread
        GET    /threads/settings          chat.list_threads
        GET    /{kind}/settings           chat.get_message
        POST   /threads/{id}/members/:add chat.add_participant
    ";

    fn find(method: &Method, path: &str) -> Option<&'static str> {
        let rules = RouteRules::default().and("rules", RULES).unwrap();
        let segments = path.strip_prefix('/')?.split('/').map(str::to_owned).collect();
        rules.find(method, &RequestPath::of(segments).ok()?).map(Capability::as_str)
    }

    #[test]
    fn requests_need_the_capability_of_their_rule() {
        assert_eq!(find(&Method::GET, "/threads/19:a@thread.v2"), Some("chat.get_thread"));
        assert_eq!(find(&Method::PATCH, "/threads/a"), Some("chat.update_thread"));
        assert_eq!(find(&Method::POST, "/threads/a/members/:add"), Some("chat.add_participant"));
        assert_eq!(find(&Method::GET, "/threads/settings"), Some("chat.list_threads"), "the literal path");
        assert_eq!(find(&Method::GET, "/other/settings"), Some("chat.get_message"));
    }

    #[test]
    fn unmatched_paths_are_denied() {
        for path in ["/", "/threads", "/threads/", "/threads/a/b", "/Threads/a", "//threads/a", "/threads/a/"]
        {
            assert_eq!(find(&Method::GET, path), None, "{path}");
        }
        assert_eq!(find(&Method::DELETE, "/threads/a"), None);
        assert_eq!(find(&Method::POST, "/threads/a/members/:remove"), None);
    }

    /// `/Threads/settings` fits the rule of any kind. A server that ignores letter case would list the threads.
    #[test]
    fn paths_of_two_routes_by_letter_case_are_denied() {
        for path in ["/Threads/settings", "/threads/Settings", "/THREADS/SETTINGS"] {
            assert_eq!(find(&Method::GET, path), None, "{path}");
        }
        // Here a server that distinguishes letter case has two routes.
        let rules = "GET /a/B chat.get_thread\nGET /a/b chat.get_message\nGET /A/{x} chat.list_threads";
        let rules = RouteRules::default().and("rules", rules).unwrap();
        let find = |path: &[&str]| {
            let path = RequestPath::of(path.iter().map(|part| (*part).to_owned()).collect()).unwrap();
            rules.find(&Method::GET, &path).map(Capability::as_str)
        };
        assert_eq!(find(&["a", "B"]), Some("chat.get_thread"));
        assert_eq!(find(&["a", "b"]), Some("chat.get_message"));
        assert_eq!(find(&["A", "c"]), Some("chat.list_threads"));
        assert_eq!(find(&["A", "b"]), None);
    }

    #[test]
    fn the_chat_api_has_rules() {
        let path = RequestPath::of(vec!["chat".to_owned(), "threads".to_owned()]).unwrap();
        let rule = RouteRules::chat().unwrap().find(&Method::POST, &path);
        assert_eq!(rule, Some(Capability::ChatCreateThread));
    }

    #[test]
    fn the_root_and_the_connect_event_can_have_rules() {
        let rules = RouteRules::default().and("rules", "GET / chat.get_thread").unwrap();
        let root = RequestPath::of(vec![String::new()]).unwrap();
        assert_eq!(rules.find(&Method::GET, &root), Some(Capability::ChatGetThread));
        assert_eq!((rules.connect(), RouteRules::chat().unwrap().connect()), (None, None));
        let rules = rules.and("rules", "CONNECT  $connect  voip.join_call").unwrap();
        assert_eq!(rules.connect(), Some(Capability::VoipJoinCall));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for segment in
            ["", ".", "..", "a/b", "a\\b", "a%2fb", "a;b", "a?b", "a#b", "a\nb", "a\0", "*", "${a}"]
        {
            let path = RequestPath::of(vec!["threads".to_owned(), segment.to_owned()]);
            assert_eq!(path, Err(AmbiguousPathError), "{segment:?}");
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_line() {
        let text = "GET /a\nget /a chat.get_thread\nGET a chat.get_thread\nGET /a chat.fly\n\
             GET /a/{} chat.get_thread\nGET /a/* chat.get_thread\nGET /{x} chat.get_thread\n\
             GET /{y} chat.send_message\nANY /b chat.get_thread\nFETCH /b chat.get_thread\n\
             CONNECT /b chat.get_thread\nGET $connect chat.get_thread\nCONNECT $connect chat.fly\n\
             CONNECT $connect chat.get_thread\nCONNECT $connect chat.send_message\n\
             GET / chat.get_thread\nGET / chat.send_message\n";
        let errors = RouteRules::default().and("rules.txt", text).unwrap_err().to_string();
        let methods = "is not a method; use one of DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, \
             or the line CONNECT $connect";
        let segment = "is not a segment of a path; use plain text or a name in braces";
        let expected = [
            "rules.txt, line 1: a rule must be a method, a path and a capability".to_owned(),
            format!("rules.txt, line 2: get {methods}"),
            "rules.txt, line 3: a is not a path; begin it with a slash".to_owned(),
            "rules.txt, line 4: chat.fly is not a capability; docs/openapi.json lists the capabilities"
                .to_owned(),
            format!("rules.txt, line 5: \"{{}}\" {segment}"),
            format!("rules.txt, line 6: \"*\" {segment}"),
            "rules.txt, line 8: GET /{} has a rule already".to_owned(),
            format!("rules.txt, line 9: ANY {methods}"),
            format!("rules.txt, line 10: FETCH {methods}"),
            format!("rules.txt, line 11: CONNECT {methods}"),
            "rules.txt, line 12: $connect is not a path; begin it with a slash".to_owned(),
            "rules.txt, line 13: chat.fly is not a capability; docs/openapi.json lists the capabilities"
                .to_owned(),
            "rules.txt, line 15: CONNECT $connect has a rule already".to_owned(),
            "rules.txt, line 17: GET / has a rule already".to_owned(),
        ];
        assert_eq!(errors.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_standard_method_is_accepted() {
        for method in METHODS {
            let rules = RouteRules::default().and("rules", &format!("{method} /a chat.get_thread")).unwrap();
            let path = RequestPath::of(vec!["a".to_owned()]).unwrap();
            assert_eq!(rules.find(&method, &path), Some(Capability::ChatGetThread), "{method}");
        }
    }
}
