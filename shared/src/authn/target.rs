//! The request target: its bytes for signatures, its decoded segments for routing.
//!
//! SDKs sign the target as they send it. A host that delivers it untouched gives one spelling; a gateway
//! that decodes the path leaves at most nine that the client may have sent (decision record 0005).

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
    /// As the client sent it.
    Wire,
    /// Percent-decoded by the host; the client's spelling is lost.
    Decoded,
}

/// The path is not one that can name a resource here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed path")]
pub struct MalformedPathError;

impl Target {
    /// A target exactly as it was on the wire.
    #[must_use]
    pub fn from_wire(target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self { path: path.to_owned(), query, path_form: PathForm::Wire }
    }

    /// A target whose path the host has decoded, with the query as it was on the wire.
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

    /// The query's parameters named `name` (in any case, and however it is escaped), their values undecoded.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.as_deref().unwrap_or("").split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key: Vec<u8> = percent_decode_str(key).collect();
            key.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })
    }

    /// The path's segments, split first and then decoded once, so that an encoded slash never makes a
    /// segment. Extra leading slashes are dropped, because one SDK credential sends them
    /// (docs/wire-contract.md#transport).
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

    /// The targets a client may have signed, likeliest first.
    #[must_use]
    pub fn spellings(&self) -> Vec<String> {
        let paths = match self.path_form {
            PathForm::Decoded => encoded_spellings(&self.path),
            PathForm::Wire => wire_spellings(&self.path),
        };
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        paths.into_iter().map(|path| format!("{path}{query}")).collect()
    }
}

/// The path as received. Where decoding it yields a character that no identifier has, also decoded: the
/// asynchronous Python SDK signs that form (docs/wire-contract.md#path-and-query), and such a request must
/// reach the answer that its identifier is malformed instead of "denied". Not where an escape remains: that
/// form would be the wire form of another path.
fn wire_spellings(path: &str) -> Vec<String> {
    let mut spellings = vec![path.to_owned()];
    if path.bytes().all(in_identifier_path) {
        return spellings;
    }
    if let Ok(decoded) = percent_decode_str(path).decode_utf8()
        && !decoded.contains('%')
        && !decoded.bytes().all(in_identifier_path)
    {
        spellings.push(decoded.into_owned());
    }
    spellings
}

/// A decoded path with the colons of the identifier and of the action spelled in each way a client may.
/// Where it holds a character no identifier has, as it is and as SDKs escape it, so that the sender is told
/// so. Nothing where an escape remains: the decoded form would be the wire form of another path.
fn encoded_spellings(path: &str) -> Vec<String> {
    const IDENTIFIER: [&str; 3] = ["%3A", ":", "%3a"];
    const ACTION: [&str; 3] = [":", "%3A", "%3a"];
    if path.contains('%') {
        return Vec::new();
    }
    if !path.bytes().all(in_identifier_path) {
        return vec![spelled(path, ":", escaped), path.to_owned()];
    }
    let mut spellings: Vec<String> = Vec::with_capacity(9);
    for identifier_colon in IDENTIFIER {
        for action_colon in ACTION {
            let spelling = spelled(path, action_colon, |segment| segment.replace(':', identifier_colon));
            if !spellings.contains(&spelling) {
                spellings.push(spelling);
            }
        }
    }
    spellings
}

/// The path with each action's colon and each other segment spelled so.
fn spelled(path: &str, action_colon: &str, other: impl Fn(&str) -> String) -> String {
    let spell = |segment: &str| match segment.strip_prefix(':') {
        Some(action) => format!("{action_colon}{action}"),
        None => other(segment),
    };
    path.split('/').map(spell).collect::<Vec<_>>().join("/")
}

/// Everything but unreserved characters (RFC 3986 section 2.3) escaped, as SDKs escape an identifier.
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
    fn a_wire_target_has_one_spelling() {
        let wire = "/identities/8%3Aacs%3Aa_b/:issueAccessToken?api-version=2023-10-01";
        let target = Target::from_wire(wire);
        assert_eq!(target.spellings(), [wire]);
        assert_eq!(target.segments().unwrap(), ["identities", "8:acs:a_b", ":issueAccessToken"]);
        assert_eq!(target.parameters("Api-Version").collect::<Vec<_>>(), ["2023-10-01"]);
    }

    #[test]
    fn a_target_that_can_name_nothing_may_be_signed_decoded() {
        let target = Target::from_wire("/identities/8:acs:a%2Fb%20c%2Bd");
        assert_eq!(target.spellings(), ["/identities/8:acs:a%2Fb%20c%2Bd", "/identities/8:acs:a/b c+d"]);
        assert_eq!(target.segments().unwrap(), ["identities", "8:acs:a/b c+d"]);
    }

    #[test]
    fn a_decoded_path_has_at_most_nine_spellings_likeliest_first() {
        let target = Target::from_decoded_path("/identities/8:acs:a_b/:issueAccessToken", "api-version=1");
        let spellings = target.spellings();
        assert_eq!(spellings.len(), 9);
        assert_eq!(spellings[0], "/identities/8%3Aacs%3Aa_b/:issueAccessToken?api-version=1");
        assert!(spellings.contains(&"/identities/8:acs:a_b/:issueAccessToken?api-version=1".to_owned()));
        assert_eq!(Target::from_decoded_path("/identities", "").spellings(), ["/identities"]);
        assert_eq!(Target::from_decoded_path("/identities/8:acs:a_b", "").spellings().len(), 3);
        assert!(Target::from_decoded_path("/identities/8:%3A", "").spellings().is_empty());
        assert_eq!(
            Target::from_decoded_path("/identities/4:+1/:issueAccessToken", "").spellings(),
            ["/identities/4%3A%2B1/:issueAccessToken", "/identities/4:+1/:issueAccessToken"]
        );
    }

    proptest! {
        // An alternative spelling must never be another route's: decoding each leads back to one path.
        #[test]
        fn every_spelling_of_a_decoded_path_decodes_to_it(path in "/[a-z0-9:_/ @+?%#-]{0,40}") {
            for spelling in Target::from_decoded_path(&path, "").spellings() {
                prop_assert_eq!(percent_decode_str(&spelling).decode_utf8().unwrap(), path.as_str());
            }
        }

        #[test]
        fn wire_targets_keep_their_text_and_segments(target in "([/?=&:a-zA-Z ]|%[0-9A-F]{2}|.){0,40}") {
            let parsed = Target::from_wire(&target);
            let spellings = parsed.spellings();
            prop_assert_eq!(&spellings[0], &target);
            prop_assert!(spellings.len() <= 2);
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
