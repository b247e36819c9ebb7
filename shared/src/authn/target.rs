//! The request target: its bytes for signatures, and its decoded segments for routing.
//!
//! SDKs sign the target as they send it. A host that delivers the target unchanged gives one candidate. A gateway that
//! decodes the path gives at most nine candidates that the client may have sent (decision record 0005).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The path and query of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: String,
    query: Option<String>,
    path_form: PathForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathForm {
    /// The bytes that the client sent.
    Wire,
    /// Percent-decoded by the host, so the client's encoding is lost.
    Decoded,
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
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self { path: path.to_owned(), query, path_form: PathForm::Wire }
    }

    /// A target with a path that the host has decoded, and with the query as the client sent it.
    #[must_use]
    pub fn from_decoded_path(path: &str, query: &str) -> Self {
        let query = (!query.is_empty()).then(|| query.to_owned());
        Self { path: path.to_owned(), query, path_form: PathForm::Decoded }
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
            let key: Vec<u8> = percent_decode_str(key).collect();
            key.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })
    }

    /// The path's segments. They are split first and then decoded once, so an encoded slash never separates segments.
    /// Extra leading slashes are dropped, because one SDK credential sends them (docs/wire-contract.md#transport).
    ///
    /// # Errors
    /// [`MalformedPathError`] when a segment is not UTF-8 after decoding.
    pub fn segments(&self) -> Result<Vec<String>, MalformedPathError> {
        let decode = |segment: &str| match self.path_form {
            PathForm::Decoded => Ok(segment.to_owned()),
            PathForm::Wire => match percent_decode_str(segment).decode_utf8() {
                Ok(text) => Ok(text.into_owned()),
                Err(_) => Err(MalformedPathError),
            },
        };
        self.path.trim_start_matches('/').split('/').map(decode).collect()
    }

    /// The targets that a client may have signed, most likely first.
    #[must_use]
    pub fn candidates(&self) -> Vec<String> {
        let paths = match self.path_form {
            PathForm::Decoded => decoded_candidates(&self.path),
            PathForm::Wire => wire_candidates(&self.path),
        };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        paths.into_iter().map(|path| format!("{path}{query}")).collect()
    }
}

/// The path as received. If decoding yields a character that no identifier has, the decoded path is a candidate too. The
/// asynchronous Python SDK signs that form (docs/wire-contract.md#path-and-query), and its client is to learn that the
/// identifier is malformed. A decoded path that still has an escape is excluded, because it is the wire form of another
/// path.
fn wire_candidates(path: &str) -> Vec<String> {
    let mut candidates = vec![path.to_owned()];
    if path.bytes().all(in_identifier_path) {
        return candidates;
    }
    if let Ok(decoded) = percent_decode_str(path).decode_utf8()
        && !decoded.contains('%')
        && !decoded.bytes().all(in_identifier_path)
    {
        candidates.push(decoded.into_owned());
    }
    candidates
}

/// The encodings of a decoded path: the colons of the identifier and of the action, each in every form that clients use. If
/// the path has a character that no identifier has, the candidates are the path and its escaped form, so that the client
/// learns that the identifier is malformed. A path that still has an escape has no candidate, because it is the wire form
/// of another path.
fn decoded_candidates(path: &str) -> Vec<String> {
    const IDENTIFIER: [&str; 3] = ["%3A", ":", "%3a"];
    const ACTION: [&str; 3] = [":", "%3A", "%3a"];
    if path.contains('%') {
        return Vec::new();
    }
    if !path.bytes().all(in_identifier_path) {
        return vec![encoded(path, ":", escaped), path.to_owned()];
    }
    let mut candidates: Vec<String> = Vec::with_capacity(9);
    for identifier_colon in IDENTIFIER {
        for action_colon in ACTION {
            let candidate = encoded(path, action_colon, |segment| segment.replace(':', identifier_colon));
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
    }
    candidates
}

/// The path with this colon before an action, and with every other segment encoded by `other`.
fn encoded(path: &str, action_colon: &str, other: impl Fn(&str) -> String) -> String {
    let encode = |segment: &str| match segment.strip_prefix(':') {
        Some(action) => format!("{action_colon}{action}"),
        None => other(segment),
    };
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

/// Escapes everything but unreserved characters (RFC 3986 section 2.3), as SDKs escape an identifier.
fn escaped(segment: &str) -> String {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(segment, RESERVED).to_string()
}

fn in_identifier_path(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'/' | b':' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wire_target_has_one_candidate() {
        let wire = "/identities/8%3Aacs%3Aa_b/:issueAccessToken?api-version=2023-10-01";
        let target = Target::from_wire(wire);
        assert_eq!(target.candidates(), [wire]);
        assert_eq!(target.segments().unwrap(), ["identities", "8:acs:a_b", ":issueAccessToken"]);
        assert_eq!(target.parameters("Api-Version").collect::<Vec<_>>(), ["2023-10-01"]);
    }

    #[test]
    fn a_target_without_identifier_may_be_signed_decoded() {
        let target = Target::from_wire("/identities/8:acs:a%2Fb%20c%2Bd");
        assert_eq!(target.candidates(), ["/identities/8:acs:a%2Fb%20c%2Bd", "/identities/8:acs:a/b c+d"]);
        assert_eq!(target.segments().unwrap(), ["identities", "8:acs:a/b c+d"]);
    }

    #[test]
    fn a_decoded_path_has_at_most_nine_candidates() {
        let target = Target::from_decoded_path("/identities/8:acs:a_b/:issueAccessToken", "api-version=1");
        let candidates = target.candidates();
        assert_eq!(candidates.len(), 9);
        assert_eq!(candidates[0], "/identities/8%3Aacs%3Aa_b/:issueAccessToken?api-version=1");
        assert!(candidates.contains(&"/identities/8:acs:a_b/:issueAccessToken?api-version=1".to_owned()));
        assert_eq!(Target::from_decoded_path("/identities", "").candidates(), ["/identities"]);
        assert_eq!(Target::from_decoded_path("/identities/8:acs:a_b", "").candidates().len(), 3);
        assert!(Target::from_decoded_path("/identities/8:%3A", "").candidates().is_empty());
        assert_eq!(
            Target::from_decoded_path("/identities/4:+1/:issueAccessToken", "").candidates(),
            ["/identities/4%3A%2B1/:issueAccessToken", "/identities/4:+1/:issueAccessToken"]
        );
    }

    proptest! {
        // A candidate must never be the path of another route, so each one decodes to the same path.
        #[test]
        fn every_candidate_decodes_to_its_path(path in "/[a-z0-9:_/ @+?%#-]{0,40}") {
            for candidate in Target::from_decoded_path(&path, "").candidates() {
                prop_assert_eq!(percent_decode_str(&candidate).decode_utf8().unwrap(), path.as_str());
            }
        }

        #[test]
        fn wire_targets_keep_their_text_and_segments(target in "([/?=&:a-zA-Z ]|%[0-9A-F]{2}|.){0,40}") {
            let parsed = Target::from_wire(&target);
            let candidates = parsed.candidates();
            prop_assert_eq!(&candidates[0], &target);
            prop_assert!(candidates.len() <= 2);
            prop_assert!(parsed.parameters("a").all(|value| target.contains(value)));
            let path = target.split('?').next().unwrap_or_default();
            if let Ok(segments) = parsed.segments() {
                let slashes = path.trim_start_matches('/').matches('/').count();
                prop_assert_eq!(segments.len(), slashes + 1);
                let encoded: Vec<_> = segments.iter().map(|segment| escaped(segment)).collect();
                prop_assert_eq!(Target::from_wire(&encoded.join("/")).segments(), Ok(segments));
            } else {
                prop_assert!(path.contains('%'), "only an escape can be malformed");
            }
        }
    }
}
