//! The pages of the authorization endpoint. They are static HTML. Every shown text passes [`escape`].

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};

use super::people::Person;
use super::redirect_uri::split_http;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:2rem auto;padding:0 1rem}\
button{display:block;width:100%;margin:.5rem 0;padding:.75rem 1rem;font:inherit;text-align:left;cursor:pointer}\
small{color:#595959}code{overflow-wrap:anywhere}";

/// Sends the form of the response mode `form_post`.
const SUBMIT: &str = "document.forms[0].submit()";

const NOTICE: &str = "<p><small>This is a stand-in for Microsoft Entra ID, for development. It asks for no password and \
                      proves nothing about Entra.</small></p>";

/// The page with one button for each person. `value` is good for one click.
pub(super) fn page(people: &[Person], value: &str, client: &str, redirect_uri: &str) -> Response<Bytes> {
    let mut buttons = String::new();
    for person in people {
        // Writing to a String cannot fail.
        let _ = write!(
            buttons,
            "<button name=\"person\" value=\"{}\">{}<br><small>{}</small></button>",
            person.object_id,
            escape(&person.name),
            person.kind.label()
        );
    }
    let body = format!(
        "<h1>Pick an account</h1><p>Application <code>{}</code> gets a code at <code>{}</code>.</p>\
         <form method=\"post\"><input type=\"hidden\" name=\"page\" value=\"{}\">{buttons}</form>",
        escape(client),
        escape(redirect_uri),
        escape(value)
    );
    // A browser also applies `form-action` to the redirection that answers the form.
    html(StatusCode::OK, &body, &format!("form-action 'self' {}", form_target(redirect_uri)))
}

/// The page that sends these members to the redirect URI (OAuth 2.0 Form Post Response Mode).
pub(super) fn form_post(redirect_uri: &str, members: &[(&str, &str)]) -> Response<Bytes> {
    let mut inputs = String::new();
    for (name, value) in members {
        let _ =
            write!(inputs, "<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape(name), escape(value));
    }
    let body = format!(
        "<form method=\"post\" action=\"{}\">{inputs}<button>Continue</button></form><script>{SUBMIT}</script>",
        escape(redirect_uri)
    );
    let policy = format!("script-src {}; form-action {}", source(SUBMIT), form_target(redirect_uri));
    html(StatusCode::OK, &body, &policy)
}

/// The page with an error that cannot go to a redirect URI.
pub(super) fn refusal(description: &str) -> Response<Bytes> {
    let body = format!(
        "<h1>Sign-in is not possible</h1><p><code>{}</code></p><p>Correct the request of the application, or start the \
         sign-in there again.</p>",
        escape(description)
    );
    html(StatusCode::BAD_REQUEST, &body, "form-action 'none'")
}

/// A text as HTML, in an element or in a quoted attribute. Characters that control the display are replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The source in a policy that allows a form to reach this URI. A policy cannot name an IPv6 address, and another scheme has
/// no host.
fn form_target(redirect_uri: &str) -> String {
    match split_http(redirect_uri) {
        Some((scheme, authority)) if !authority.contains('[') => format!("{scheme}://{authority}"),
        Some((scheme, _)) => format!("{scheme}:"),
        None => {
            let scheme = redirect_uri.split(':').next().unwrap_or_default();
            let is_scheme = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            if is_scheme { format!("{scheme}:") } else { String::new() }
        }
    }
}

/// The source in a policy that allows this inline text.
fn source(inline: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, inline.as_bytes())))
}

fn html(status: StatusCode, body: &str, policy: &str) -> Response<Bytes> {
    let text = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Sign in (development)</title><style>{STYLE}</style></head><body>{body}\
         {NOTICE}</body></html>"
    );
    let policy = format!(
        "default-src 'none'; style-src {}; base-uri 'none'; frame-ancestors 'none'; {policy}",
        source(STYLE)
    );
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut add = |name, value| headers.insert(name, HeaderValue::from_static(value));
    add(CONTENT_TYPE, "text/html; charset=utf-8");
    add(CACHE_CONTROL, "no-store");
    add(REFERRER_POLICY, "no-referrer");
    add(X_CONTENT_TYPE_OPTIONS, "nosniff");
    // A policy that cannot be written allows nothing.
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    response
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use zeroize::Zeroizing;

    use super::super::PersonKind;
    use super::*;

    fn text(response: &Response<Bytes>) -> &str {
        str::from_utf8(response.body()).unwrap()
    }

    fn policy(response: &Response<Bytes>) -> &str {
        response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap()
    }

    #[test]
    fn hostile_texts_stay_text() {
        for (hostile, shown) in [
            ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
            ("\"><script>alert(1)</script>", "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("' onclick='a", "&#39; onclick=&#39;a"),
            ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
            ("a\u{202e}b\u{0}c\nd\u{200b}", "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"),
            ("Zoë 😀", "Zoë 😀"),
        ] {
            assert_eq!(escape(hostile), shown);
            let person = Person {
                object_id: Uuid::nil(),
                name: hostile.to_owned(),
                subject: Zeroizing::default(),
                password: Zeroizing::new("the-password".to_owned()),
                kind: PersonKind::Member,
            };
            let shown_page = page(&[person], hostile, hostile, hostile);
            assert_eq!(text(&shown_page).matches(shown).count(), 4, "{}", text(&shown_page));
            assert_eq!(
                text(&form_post("http://localhost/", &[(hostile, hostile)])).matches(shown).count(),
                2
            );
            assert!(text(&refusal(hostile)).contains(shown));
            for page in [shown_page, refusal(hostile)] {
                assert!(!text(&page).contains("<script") && !text(&page).contains("<img"));
                assert!(!text(&page).contains("the-password"));
            }
        }
    }

    #[test]
    fn pages_are_strict_and_state_their_limits() {
        for (response, target) in [
            (page(&[], "v", "c", "http://localhost:3000/a;b,c"), "form-action 'self' http://localhost:3000"),
            (page(&[], "v", "c", "http://[::1]:3000/"), "form-action 'self' http:"),
            (page(&[], "v", "c", "msal.app://auth"), "form-action 'self' msal.app:"),
            (form_post("https://app.example.com/a", &[]), "form-action https://app.example.com"),
            (refusal("text"), "form-action 'none'"),
        ] {
            let policy = policy(&response);
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && policy.ends_with(target), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            for (name, value) in [
                ("cache-control", "no-store"),
                ("referrer-policy", "no-referrer"),
                ("x-content-type-options", "nosniff"),
            ] {
                assert_eq!(response.headers()[name], value);
            }
            assert!(!response.headers().contains_key("cross-origin-opener-policy"));
            assert!(text(&response).contains("proves nothing about Entra"));
        }
    }
}
