//! Parts of the state, for pages and tests.

use functions::aws::table::FEED_PARTITION;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::call_error::CallError;
use crate::embedded::ASSIGNMENTS_TABLE;
use crate::entra::{EntraStandIn, Person};
use crate::listing::{self, ListedIdentity};
use crate::output::{environment, token_page};
use crate::platform::Platform;
use crate::state::StateKind;

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

/// The values with which clients connect. They hold secrets.
pub(super) async fn connection(platform: &Platform) -> Result<Value, CallError> {
    let strings = platform.connection_strings().await?;
    Ok(json!({
        "resourceId": platform.resource.resource.id.to_string(),
        "algorithm": platform.resource.algorithm.as_str(),
        "endpoint": platform.endpoint,
        "httpEndpoint": platform.http_endpoint,
        "connectionStrings": {
            "primary": strings.primary.as_str(),
            "secondary": strings.secondary.as_str(),
        },
        "environmentFile": environment::path(&platform.data_dir),
        "isPublished": platform.state == StateKind::Published,
        "entra": platform.router.entra.as_deref().map(entra),
    }))
}

fn entra(entra: &EntraStandIn) -> Value {
    let applications: Vec<Value> = entra
        .applications()
        .iter()
        .map(|app| {
            json!({
                "clientId": app.client_id.to_string(),
                "objectId": app.object_id.to_string(),
                "secret": app.secret.as_deref(),
            })
        })
        .collect();
    json!({
        "authority": entra.authority_url(),
        "tenantId": entra.tenant.to_string(),
        "applications": applications,
    })
}

/// The assignments of both lists.
pub(super) fn assignments(platform: &Platform) -> Result<Value, CallError> {
    let mut rows = Vec::new();
    for item in platform.database.items(ASSIGNMENTS_TABLE)? {
        let text = |path| item.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if text("/pk/S") == FEED_PARTITION {
            continue;
        }
        let list = if text("/pk/S").starts_with("entra") { "entra" } else { "teamsExtension" };
        let stored: Vec<Map<String, Value>> =
            serde_json::from_str(text("/assignments/S")).unwrap_or_default();
        rows.extend(stored.into_iter().map(|mut assignment| {
            assignment.insert("list".to_owned(), list.into());
            assignment
        }));
    }
    Ok(json!({"assignments": rows}))
}

/// The people of the Entra stand-in, with their passwords.
pub(super) fn people(platform: &Platform) -> Result<Value, CallError> {
    let none = || CallError::NotFound("the server has a real Entra authority".to_owned());
    let people = platform.router.entra.as_deref().ok_or_else(none)?.people();
    let person = |person: &Person| {
        json!({
            "name": person.name,
            "kind": person.kind,
            "objectId": person.object_id.to_string(),
            "password": person.password.as_str(),
        })
    };
    Ok(json!({"people": people.iter().map(person).collect::<Vec<_>>()}))
}

/// The parts of each token and the verdict on it, in order.
pub(super) async fn verdicts(platform: &Platform, tokens: &[String]) -> Value {
    let mut verdicts = Vec::with_capacity(tokens.len());
    for token in tokens {
        let verdict = token_page::verdict(&platform.verifier.verify(token).await);
        verdicts.push(token_page::json(token, &verdict));
    }
    json!({"verdicts": verdicts})
}
