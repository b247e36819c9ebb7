//! Parts of the state, for pages and tests.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::call_error::CallError;
use crate::listing::{self, ListedIdentity};
use crate::output::token_page;
use crate::platform::Platform;

/// The identities of a page, by default and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 1_000;

/// The identities after an id, the newest first, with the id at which the next page begins.
pub(super) fn identities(platform: &Platform, query: Option<&str>) -> Result<Value, CallError> {
    let (mut after, mut limit) = (None, PAGE);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "after" => after = Some(value.into_owned()),
            "limit" => {
                let given = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                limit = given.ok_or_else(|| CallError::Malformed(format!("limit: give 1 to {MAX_PAGE}")))?;
            }
            _ => return Err(CallError::Malformed(format!("{name}: the parameters are after and limit"))),
        }
    }
    let all = listing::identities(&platform.database)?;
    let is_before = |identity: &&ListedIdentity| after.as_ref().is_some_and(|after| identity.id != *after);
    let skipped = all.iter().take_while(is_before).count() + usize::from(after.is_some());
    let page: Vec<&ListedIdentity> = all.iter().skip(skipped).take(limit).collect();
    let next = page.last().filter(|_| skipped + page.len() < all.len()).map(|last| last.id.clone());
    Ok(json!({"identities": page, "next": next, "total": all.len()}))
}

/// The identity whose id is the last segment of the path.
pub(super) fn identity(platform: &Platform, path: &str) -> Result<Value, CallError> {
    let id = path.rsplit('/').next().unwrap_or_default();
    let id = percent_decode_str(id).decode_utf8_lossy();
    let found = listing::identities(&platform.database)?.into_iter().find(|identity| identity.id == id);
    found.map(|identity| json!(identity)).ok_or_else(|| CallError::NotFound("no such identity".to_owned()))
}

/// The verdict on each token, in order.
pub(super) async fn verdicts(platform: &Platform, tokens: &[String]) -> Value {
    let mut verdicts = Vec::with_capacity(tokens.len());
    for token in tokens {
        verdicts.push(token_page::verdict(&platform.verifier.verify(token).await));
    }
    json!({"verdicts": verdicts})
}
