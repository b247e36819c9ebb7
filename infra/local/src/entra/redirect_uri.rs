//! Redirect URIs: the places to which a code may go.

use identity::host::Authority;

use super::people::Application;

/// Whether a code may go to this URI: a registered one, byte for byte, or a loopback one at any port (RFC 8252 section
/// 7.3). A redirect URI has no fragment (RFC 6749 section 3.1.2).
pub(super) fn may_redirect(application: &Application, uri: &str) -> bool {
    if !uri.bytes().all(|b| b.is_ascii_graphic() && !br#""'<>\^`{|}#"#.contains(&b)) {
        return false;
    }
    application.redirect_uris.iter().any(|registered| registered == uri) || is_loopback(uri)
}

fn is_loopback(uri: &str) -> bool {
    let Some((_, authority)) = split_http(uri) else { return false };
    let authority = authority.parse::<Authority>();
    authority.is_ok_and(|authority| matches!(authority.name(), "localhost" | "127.0.0.1" | "[::1]"))
}

/// The scheme and the authority of an http or https URI.
pub(super) fn split_http(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some((scheme, rest.get(..end)?))
}

#[cfg(test)]
mod tests {
    use super::super::tests::stand_in;
    use super::*;

    #[test]
    fn registered_redirect_uris_match_byte_for_byte() {
        let mut application = stand_in().applications().remove(0);
        application.redirect_uris =
            vec!["https://app.example.com/callback".to_owned(), "msal.app://auth".to_owned()];
        for (uri, may) in [
            ("https://app.example.com/callback", true),
            ("msal.app://auth", true),
            ("https://app.example.com/callback/", false),
            ("https://app.example.com/callback?a=b", false),
            ("https://app.example.com/Callback", false),
            ("http://app.example.com/callback", false),
            ("msal.app://auth/x", false),
        ] {
            assert_eq!(may_redirect(&application, uri), may, "{uri}");
        }
    }
}
