//! Route rules: which capability a request to a resource server needs.
//!
//! They are text, one rule a line, so that people can read them:
//!
//! ```text
//! # METHOD  path                            capability
//! POST      /chat/threads                   chat.create_thread
//! GET       /chat/threads/{threadId}        chat.get_thread
//! ```
//!
//! A segment in braces stands for any one segment. What no rule names is refused.

use std::fmt;

use http::Method;

use crate::authorization::capability::Capability;

/// The rules of the chat API, as text.
const CHAT_ROUTES: &str = include_str!("chat_routes.txt");

/// The rules of a resource server.
#[derive(Clone, Debug, Default)]
pub struct RouteRules(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    method: Method,
    path: Vec<Segment>,
    capability: Capability,
}

/// A part of a rule's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Exactly this text.
    Literal(String),
    /// Any one segment.
    Any,
}

/// All that is wrong with a text of rules, one line each.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct RuleErrors(Vec<String>);

/// The path of a request, its segments decoded: one that can be read in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath(Vec<String>);

/// A path that different servers may read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path can be read in several ways")]
pub struct AmbiguousPathError;

impl RouteRules {
    /// The rules of the chat API.
    ///
    /// # Errors
    /// [`RuleErrors`]: never, as a test shows.
    pub fn chat() -> Result<Self, RuleErrors> {
        Self::default().and("chat_routes.txt", CHAT_ROUTES)
    }

    /// These rules, and those of a text. `source` names the text in faults.
    ///
    /// # Errors
    /// [`RuleErrors`]: a line that is no rule, or names a route that is already taken.
    pub fn and(mut self, source: &str, text: &str) -> Result<Self, RuleErrors> {
        let mut faults = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Rule::parse(line) {
                Ok(rule) if self.0.iter().any(|known| known.is_of_same_route(&rule)) => {
                    faults
                        .push(format!("{source}, line {number}: {} {rule} has a rule already", rule.method));
                }
                Ok(rule) => self.0.push(rule),
                Err(fault) => faults.push(format!("{source}, line {number}: {fault}")),
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(RuleErrors(faults)) }
    }

    /// What this request needs; nothing if no rule names it. Of several rules the one that names more of the
    /// path decides.
    #[must_use]
    pub fn find(&self, method: &Method, path: &RequestPath) -> Option<Capability> {
        let fits = self.0.iter().filter(|rule| rule.method == *method && rule.fits(path));
        fits.reduce(|one, other| if other.prevails_over(one) { other } else { one })
            .map(|rule| rule.capability)
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [method, path, capability] = *words.as_slice() else {
            return Err("a rule is a method, a path and a capability");
        };
        if !method.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err("the method is not written in capital letters");
        }
        let method = method.parse().map_err(|_| "the method is none")?;
        let capability = capability.parse().map_err(|_| "there is no such capability")?;
        let path = path.strip_prefix('/').ok_or("the path does not begin with a slash")?;
        let path = path.split('/').map(Segment::parse).collect::<Option<_>>();
        Ok(Self { method, path: path.ok_or("the path has a segment that no request can have")?, capability })
    }

    fn fits(&self, path: &RequestPath) -> bool {
        self.path.len() == path.0.len() && self.path.iter().zip(&path.0).all(|(part, text)| part.fits(text))
    }

    fn is_of_same_route(&self, other: &Self) -> bool {
        self.method == other.method && self.path == other.path
    }

    /// Whether this rule decides where both fit: its path is literal where the other's first is not.
    fn prevails_over(&self, other: &Self) -> bool {
        let literals = |rule: &Self| rule.path.iter().map(|part| *part != Segment::Any).collect::<Vec<_>>();
        self.path.len() == other.path.len() && literals(self) > literals(other)
    }
}

/// The path, each parameter as `{}`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.iter().try_for_each(|part| match part {
            Segment::Literal(text) => write!(f, "/{text}"),
            Segment::Any => f.write_str("/{}"),
        })
    }
}

impl Segment {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => (!name.is_empty() && !name.contains(['{', '}'])).then_some(Self::Any),
            None => (is_plain(text) && !text.contains(['{', '}'])).then(|| Self::Literal(text.to_owned())),
        }
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == text,
            Self::Any => true,
        }
    }
}

impl RequestPath {
    /// The path of these decoded segments.
    ///
    /// # Errors
    /// [`AmbiguousPathError`] for what one server may decode, cut or normalise and another not.
    pub fn of(segments: Vec<String>) -> Result<Self, AmbiguousPathError> {
        if segments.iter().all(|segment| is_plain(segment)) {
            Ok(Self(segments))
        } else {
            Err(AmbiguousPathError)
        }
    }
}

/// Whether a segment means the same to every server, and nothing more to one that reads policies.
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
    fn a_request_needs_what_its_rule_says() {
        assert_eq!(find(&Method::GET, "/threads/19:a@thread.v2"), Some("chat.get_thread"));
        assert_eq!(find(&Method::PATCH, "/threads/a"), Some("chat.update_thread"));
        assert_eq!(find(&Method::POST, "/threads/a/members/:add"), Some("chat.add_participant"));
        assert_eq!(find(&Method::GET, "/threads/settings"), Some("chat.list_threads"), "the literal one");
        assert_eq!(find(&Method::GET, "/other/settings"), Some("chat.get_message"));
    }

    #[test]
    fn what_no_rule_names_needs_what_nobody_has() {
        for path in ["/", "/threads", "/threads/", "/threads/a/b", "/Threads/a", "//threads/a", "/threads/a/"]
        {
            assert_eq!(find(&Method::GET, path), None, "{path}");
        }
        assert_eq!(find(&Method::DELETE, "/threads/a"), None);
        assert_eq!(find(&Method::POST, "/threads/a/members/:remove"), None);
    }

    #[test]
    fn a_path_with_two_readings_is_no_path() {
        for segment in
            ["", ".", "..", "a/b", "a\\b", "a%2fb", "a;b", "a?b", "a#b", "a\nb", "a\0", "*", "${a}"]
        {
            let path = RequestPath::of(vec!["threads".to_owned(), segment.to_owned()]);
            assert_eq!(path, Err(AmbiguousPathError), "{segment:?}");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once_with_its_line() {
        let faults = RouteRules::default()
            .and(
                "rules.txt",
                "GET /a\nget /a chat.get_thread\nGET a chat.get_thread\nGET /a chat.fly\n\
                  GET /a/{} chat.get_thread\nGET /a/* chat.get_thread\nGET /{x} chat.get_thread\n\
                  GET /{y} chat.send_message\n",
            )
            .unwrap_err()
            .to_string();
        let lines: Vec<_> = faults.lines().collect();
        assert_eq!(lines.len(), 7, "{faults}");
        for (line, number) in lines.iter().zip([1, 2, 3, 4, 5, 6, 8]) {
            assert!(line.starts_with(&format!("rules.txt, line {number}: ")), "{line}");
        }
        assert!(lines[6].ends_with("GET /{} has a rule already"), "{}", lines[6]);
    }
}
