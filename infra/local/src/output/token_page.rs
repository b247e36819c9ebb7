//! The answer of `token inspect`: the parts of a token, and whether it is active.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::authorization::capability::{Capability, Permit};
use identity::token::scope::ScopeSet;
use identity::token::verify::VerifyError;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::plain;

/// The server's verdict on a token, with the reason if the token is inactive. Only the owner of the state directory can
/// use the control socket, so the reason reaches no other user.
#[must_use]
pub fn verdict<T>(outcome: &Result<T, VerifyError>) -> Value {
    match outcome {
        Ok(_) => json!({"active": true}),
        Err(error) => json!({"active": false, "reason": error.to_string()}),
    }
}

/// The page for a token and the server's verdict. The page shows the claims as they are, also in an invalid token.
#[must_use]
pub fn page(token: &str, verdict: &Value) -> String {
    let mut parts = token.split('.').map(object);
    let (header, claims) = (parts.next().flatten(), parts.next().flatten());
    let mut page = String::new();
    section(&mut page, "header", header.as_ref());
    section(&mut page, "claims", claims.as_ref());
    if let Some(scopes) = claims.as_ref().and_then(scopes) {
        list(&mut page, "scopes", scopes.names());
        list(&mut page, "permits", Capability::names(&scopes, Permit::Granted));
        list(&mut page, "by room role", Capability::names(&scopes, Permit::ByRoomRole));
    }
    page.push_str(&conclusion(verdict, claims.as_ref()));
    page
}

/// The parts of [`page`] as JSON, with the members of the verdict.
#[must_use]
pub fn json(token: &str, verdict: &Value) -> Value {
    let mut parts = token.split('.').map(object);
    let (header, claims) = (parts.next().flatten(), parts.next().flatten());
    let scopes = claims.as_ref().and_then(scopes);
    let permits = |permit| scopes.as_ref().map(|scopes| Capability::names(scopes, permit));
    json!({
        "header": header,
        "permits": permits(Permit::Granted),
        "permitsByRoomRole": permits(Permit::ByRoomRole),
        "scopes": scopes.as_ref().map(ScopeSet::names),
        "claims": claims,
        "active": verdict.get("active"),
        "reason": verdict.get("reason"),
    })
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn scopes(claims: &Map<String, Value>) -> Option<ScopeSet> {
    claims.get("acsScope")?.as_str()?.parse().ok()
}

// Writing to a String cannot fail, here and below.
fn section(page: &mut String, title: &str, members: Option<&Map<String, Value>>) {
    let _ = writeln!(page, "{title}");
    match members {
        None => page.push_str("  cannot be read\n"),
        Some(members) => {
            for (name, value) in members {
                let _ = writeln!(page, "  {:<18} {}", plain(name), plain(&shown(name, value)));
            }
        }
    }
    page.push('\n');
}

/// A value as JSON. A time also as a date.
fn shown(name: &str, value: &Value) -> String {
    match (name, value) {
        ("exp" | "iat", Value::Number(_)) => match value.as_i64().and_then(date) {
            Some(date) => format!("{value}   {date}"),
            None => value.to_string(),
        },
        _ => value.to_string(),
    }
}

fn date(epoch_seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(epoch_seconds).ok()?.format(&Rfc3339).ok()
}

fn list(page: &mut String, title: &str, names: Vec<&'static str>) {
    for (index, name) in names.iter().enumerate() {
        let title = if index == 0 { title } else { "" };
        let _ = writeln!(page, "{title:<13} {name}");
    }
    if !names.is_empty() {
        page.push('\n');
    }
}

fn conclusion(verdict: &Value, claims: Option<&Map<String, Value>>) -> String {
    let reason = verdict.get("reason").and_then(Value::as_str).unwrap_or("the server gave no reason");
    if verdict.get("active") == Some(&Value::Bool(true)) {
        let expires_at = claims.and_then(|claims| claims.get("exp")).and_then(Value::as_i64).and_then(date);
        format!("active        yes, until {} unless revoked\n", expires_at.unwrap_or_default())
    } else {
        format!("active        no: {reason}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn tokens_are_shown_in_parts() {
        let token =
            token(r#"{"alg":"RS256"}"#, r#"{"exp":1709298000,"acsScope":"voip.join,chat.join.limited"}"#);
        let page = page(&token, &json!({"active": true}));
        for line in [
            "  alg                \"RS256\"",
            "  exp                1709298000   2024-03-01T13:00:00Z",
            "scopes        voip.join",
            "permits       chat.list_threads",
            "by room role  voip.act_in_room_call",
            "active        yes, until 2024-03-01T13:00:00Z unless revoked",
        ] {
            assert!(page.lines().any(|found| found == line), "{line:?} is not in\n{page}");
        }
        assert!(!page.contains("voip.start_call"));
    }

    #[test]
    fn malformed_tokens_are_shown_escaped() {
        let verdict = json!({"active": false, "reason": "not a compact token"});
        let colour = r#"{"\u001b[31m":"\u001b[31m\u009b1m"}"#;
        for token in ["", "a.b", "....", &token(colour, r#"{"acsScope":"fly"}"#)] {
            let page = page(token, &verdict);
            assert!(page.ends_with("active        no: not a compact token\n"), "{page}");
            assert!(!page.contains(['\u{1b}', '\u{9b}']), "{page}");
        }
    }
}
