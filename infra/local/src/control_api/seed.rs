//! A seed: identities with tokens, people of the Entra stand-in, and assignments, from one document.
//!
//! Every part goes through the operations of the service, with a signed request and an audit line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use identity::api::pipeline::{Body, Request};
use identity::authn::hmac::UnsignedRequest;
use identity::authn::target::Target;
use identity::keys::access::AccessKeys;
use identity::runtime::Clock as _;
use identity::store::assignments::AssignmentKind;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::call_error::{CallError, parse};
use crate::client::calls::Call;
use crate::entra::{NewPerson, PutPersonError};
use crate::files::{self, FileError, Readers};
use crate::platform::Platform;

/// The file with the ids and tokens of the seed of a start.
pub(super) const ANSWER: &str = "seed.json";

const PREVIEW: &str = "api-version=2025-03-02-preview";

/// The document. A repetition gives the same identities and new tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedDocument {
    /// By names that are only for this document.
    #[serde(default)]
    identities: BTreeMap<String, SeedIdentity>,
    #[serde(default)]
    people: Vec<NewPerson>,
    #[serde(default)]
    assignments: Vec<SeedAssignment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SeedIdentity {
    /// By default `seed:` and the name.
    custom_id: Option<String>,
    #[serde(default)]
    tokens: Vec<SeedToken>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedToken {
    scopes: Vec<String>,
    minutes: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SeedAssignment {
    kind: AssignmentKind,
    object_id: Uuid,
    /// By default the tenant of the stand-in.
    tenant_id: Option<Uuid>,
    principal_type: String,
    client_ids: Vec<String>,
}

/// Applies the parts in order. Returns the id and the tokens of each identity by its name.
///
/// # Errors
/// [`CallError`]: the parts before the refused one are done.
pub(crate) async fn apply(platform: &Platform, document: SeedDocument) -> Result<Value, CallError> {
    // A reset waits until the seed has ended.
    let _shared = platform.controlled.gate.read().await;
    let caller = Caller::new(platform).await?;
    for person in document.people {
        put_person(platform, person)?;
    }
    for assignment in document.assignments {
        caller.assign(platform, assignment).await?;
    }
    let mut answer = Map::new();
    for (name, identity) in document.identities {
        answer.insert(name.clone(), caller.create(&name, identity).await?);
    }
    Ok(answer.into())
}

/// The seed file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the seed {}: {cause}", path.display())]
    Content { path: PathBuf, cause: String },
}

/// Applies the document in a file, and writes the answer to `seed.json` in the state directory, readable by its owner
/// only.
///
/// # Errors
/// [`SeedFileError`].
pub async fn apply_file(platform: &Platform, path: &Path) -> Result<(), SeedFileError> {
    let content =
        |error: CallError| SeedFileError::Content { path: path.to_owned(), cause: error.to_string() };
    let text = files::read(path)?;
    let text = text.ok_or_else(|| content(CallError::malformed("there is no such file")))?;
    let document = parse(&text).map_err(content)?;
    let answer = apply(platform, document).await.map_err(content)?;
    Ok(files::replace_json(&platform.data_dir.join(ANSWER), &answer, Readers::Owner)?)
}

/// Adds or replaces a person of the Entra stand-in.
pub(super) fn put_person(platform: &Platform, person: NewPerson) -> Result<(), CallError> {
    let part = format!("people {}", person.name);
    let refused = |message, is_unavailable| CallError::Refused { part, message, is_unavailable };
    let Some(entra) = &platform.router.entra else {
        return Err(refused("the server has a real Entra authority".to_owned(), false));
    };
    let put = entra.put_person(person);
    put.map(drop).map_err(|error| refused(error.to_string(), matches!(error, PutPersonError::File(_))))
}

/// A client of the service in this process.
struct Caller<'a> {
    platform: &'a Platform,
    keys: AccessKeys,
    host: String,
}

impl<'a> Caller<'a> {
    async fn new(platform: &'a Platform) -> Result<Self, CallError> {
        let keys = platform.access_keys().await?;
        Ok(Self { platform, keys, host: platform.hosts.public().to_string() })
    }

    async fn create(&self, name: &str, identity: SeedIdentity) -> Result<Value, CallError> {
        let SeedIdentity { custom_id, tokens } = identity;
        let custom_id = custom_id.unwrap_or_else(|| format!("seed:{name}"));
        let part = format!("identities.{name}");
        let body = json!({"customId": custom_id}).to_string();
        let created = self.call(&part, Method::POST, &format!("/identities?{PREVIEW}"), &body).await?;
        let id = created.pointer("/identity/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut issued = Vec::new();
        for (index, SeedToken { scopes, minutes }) in tokens.into_iter().enumerate() {
            let part = format!("{part}.tokens[{index}]");
            let call = Call::issue_token(&id, &scopes, minutes);
            issued.push(self.call(&part, call.method, &call.target, &call.body).await?);
        }
        Ok(json!({"id": id, "tokens": issued}))
    }

    async fn assign(&self, platform: &Platform, assignment: SeedAssignment) -> Result<(), CallError> {
        let SeedAssignment { kind, object_id, tenant_id, principal_type, client_ids } = assignment;
        let part = format!("assignments {object_id}");
        let tenant = tenant_id.or_else(|| platform.router.entra.as_ref().map(|entra| entra.tenant));
        let tenant = tenant.ok_or_else(|| CallError::Malformed(format!("{part}: give tenantId")))?;
        let (path, body) = match kind {
            AssignmentKind::Entra => (
                format!("/access/entra/assignments/{object_id}"),
                json!({"tenantId": tenant, "principalType": principal_type, "clientIds": client_ids}),
            ),
            AssignmentKind::TeamsExtension => (
                format!("/access/teamsExtension/tenants/{tenant}/assignments/{object_id}"),
                json!({"principalType": principal_type, "clientIds": client_ids}),
            ),
        };
        self.call(&part, Method::PUT, &format!("{path}?{PREVIEW}"), &body.to_string()).await.map(drop)
    }

    async fn call(&self, part: &str, method: Method, target: &str, body: &str) -> Result<Value, CallError> {
        let refused = |message: String, is_unavailable| CallError::Refused {
            part: part.to_owned(),
            message,
            is_unavailable,
        };
        let unsigned = UnsignedRequest { method: &method, target, host: &self.host, body: body.as_bytes() };
        let [(_, key), _] = self.keys.each();
        let mut headers = HeaderMap::new();
        let host = (HOST, self.host.clone());
        for (name, value) in unsigned.sign(key, self.platform.adapters.system.now()).into_iter().chain([host])
        {
            let value = HeaderValue::from_str(&value).map_err(|error| refused(error.to_string(), false))?;
            headers.insert(name, value);
        }
        let target = Target::from_wire(target);
        let request = Request { method, target, headers, body: Body::Complete(body.to_owned().into()) };
        let reply = self.platform.router.service.handle(request).await;
        let answer: Value = serde_json::from_slice(reply.body()).unwrap_or_default();
        match reply.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(answer),
            status => {
                let message = answer.pointer("/error/message").and_then(Value::as_str);
                let message = message.map_or_else(|| format!("status {status}"), str::to_owned);
                Err(refused(message, status.is_server_error()))
            }
        }
    }
}
