//! The control API: tests and pages of this machine change the state and the clock of the server below `/_local/v1`, and
//! read its journal. docs/control.md describes the calls, decision record 0017 the rules.
//!
//! No call weakens a check of the service. A revoked token stays revoked after every call.
//!
//! | module | owns |
//! |---|---|
//! | [`entry`] | the first step of every request |
//! | [`rules`] | the rules for requests that a web page could cause |
//! | [`access`] | the control token |
//! | [`calls`] | the seam to the listeners |
//! | [`call_error`], [`replies`] | errors and replies |
//! | [`records`] | identities and assignments as a whole |
//! | [`token_clock`] | the clock of tokens |
//! | [`journal`] | the last audit lines |
//! | [`events`], [`notices`] | the stream of events for pages |
//! | [`page`] | the console's files |
//! | [`seed`] | identities, people and assignments of a document |
//! | [`snapshot`] | the records as one document |
//! | [`views`] | identities, keys and verdicts on tokens |

mod access;
mod call_error;
pub mod calls;
mod entry;
mod events;
pub mod journal;
pub mod notices;
mod page;
mod records;
mod replies;
pub(crate) mod rules;
pub mod seed;
mod snapshot;
pub mod token_clock;
mod views;

use std::path::Path;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Either;
use identity::api::pipeline::Body;
use identity::api::reply;
use identity::error_chain::error_chain;
use identity::keys::AccessSlot;
use identity::lifetime::{ISSUED_AT_LEEWAY, Lifetime, TOMBSTONE};
use serde::Deserialize;
use serde_json::{Value, json};
use time::Duration;
use zeroize::Zeroizing;

pub use self::call_error::CallError;
pub use self::entry::Peer;
pub(crate) use self::entry::{answer, body_limit, is_own};

use self::access::ControlToken;
use self::call_error::parse;
use self::calls::{ControlCalls, Controlled, ReplyBody, whole};
use self::entry::BASE;
use self::journal::JournalQuery;
use self::records::Leave;
use self::replies::{error, json_reply};
use self::seed::SeedDocument;
use self::snapshot::Snapshot;
use self::token_clock::ClockRequest;
use crate::files::{self, FileError};
use crate::platform::Platform;
use crate::replacement::{ReplaceKeysError, replace_keys};
use crate::state::{self, StateKind};

/// A call of the control API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Reset,
    Seed,
    ReadState,
    LoadState,
    ReadClock,
    SetClock,
    EndShift,
    ReadJournal,
    StreamEvents,
    ReadConnection,
    ListPeople,
    PutPerson,
    ListAssignments,
    ListIdentities,
    ShowIdentity,
    InspectTokens,
    ListKeys,
    RotateKeys,
    RegenerateKey,
}

/// One row of the table of calls.
pub struct Route {
    pub method: Method,
    /// The path below `/_local/v1/`. A last segment `{id}` stands for any one.
    pub path: &'static str,
    pub operation: Operation,
}

/// Every call. Tests send each of them every request that must be refused.
pub const ROUTES: &[Route] = &[
    Route { method: Method::POST, path: "reset", operation: Operation::Reset },
    Route { method: Method::PUT, path: "seed", operation: Operation::Seed },
    Route { method: Method::GET, path: "state", operation: Operation::ReadState },
    Route { method: Method::PUT, path: "state", operation: Operation::LoadState },
    Route { method: Method::GET, path: "clock", operation: Operation::ReadClock },
    Route { method: Method::PUT, path: "clock", operation: Operation::SetClock },
    Route { method: Method::DELETE, path: "clock", operation: Operation::EndShift },
    Route { method: Method::GET, path: "requests", operation: Operation::ReadJournal },
    Route { method: Method::GET, path: "events", operation: Operation::StreamEvents },
    Route { method: Method::GET, path: "connection", operation: Operation::ReadConnection },
    Route { method: Method::GET, path: "entra/people", operation: Operation::ListPeople },
    Route { method: Method::POST, path: "entra/people", operation: Operation::PutPerson },
    Route { method: Method::GET, path: "assignments", operation: Operation::ListAssignments },
    Route { method: Method::GET, path: "identities", operation: Operation::ListIdentities },
    Route { method: Method::GET, path: "identities/{id}", operation: Operation::ShowIdentity },
    Route { method: Method::POST, path: "tokens/inspect", operation: Operation::InspectTokens },
    Route { method: Method::GET, path: "keys", operation: Operation::ListKeys },
    Route { method: Method::POST, path: "keys/rotate", operation: Operation::RotateKeys },
    Route { method: Method::POST, path: "keys/regenerate", operation: Operation::RegenerateKey },
];

/// The control API of one server.
pub struct ControlApi {
    platform: Weak<Platform>,
    /// Whether callers on this machine need no token. The keys of the resource are then published.
    is_open: bool,
    token: ControlToken,
    has_remote_console: bool,
}

/// The body of `POST tokens/inspect`. No `Debug`: it holds tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InspectRequest {
    tokens: Vec<String>,
}

/// The body of `POST keys/rotate` and `POST keys/regenerate`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReplaceRequest {
    slot: Option<AccessSlot>,
    confirm: Option<String>,
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        match (self.path.strip_suffix("{id}"), path.rsplit_once('/')) {
            (Some(start), Some((folder, id))) => folder == start.trim_end_matches('/') && !id.is_empty(),
            (Some(_), None) => false,
            (None, _) => self.path == path,
        }
    }
}

/// The body of `POST reset`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ResetRequest {
    keys: bool,
    confirm: Option<String>,
}

/// Removes the files of an earlier start: the token and the answer to the seed. This server does not know them.
///
/// # Errors
/// [`FileError`] when a file stays.
pub fn remove_former_files(data_dir: &Path) -> Result<(), FileError> {
    files::remove(&data_dir.join(access::FILE))?;
    files::remove(&data_dir.join(seed::ANSWER))
}

impl ControlApi {
    /// Serves the control API of a platform, with a new token in the state directory. A second call has no effect.
    /// `has_remote_console` is whether browsers of other machines get the console.
    ///
    /// # Errors
    /// [`FileError`] when the token cannot be written.
    pub fn start(platform: &Arc<Platform>, has_remote_console: bool) -> Result<(), FileError> {
        let is_open = platform.state == StateKind::Published;
        let token = ControlToken::create(&platform.data_dir, platform.adapters.system.as_ref())?;
        let api = Self { platform: Arc::downgrade(platform), is_open, token, has_remote_console };
        let _ = platform.router.control.set(Box::new(api));
        Ok(())
    }
}

#[async_trait]
impl ControlCalls for ControlApi {
    /// A caller on another machine always needs the token.
    fn admits(&self, request: &Parts, is_local: bool) -> bool {
        (self.is_open && is_local) || self.token.is_in(&request.headers)
    }

    fn has_remote_console(&self) -> bool {
        self.has_remote_console
    }

    fn console_key(&self) -> Zeroizing<String> {
        if self.is_open {
            Zeroizing::default()
        } else {
            Zeroizing::new(format!("#k={}", self.token.expose()))
        }
    }

    async fn answer(&self, request: &Parts, body: &Body, is_local: bool) -> Response<ReplyBody> {
        match self.route(request, body, is_local) {
            Err(failed) => whole(refusal(&failed)),
            Ok((platform, Operation::StreamEvents, _)) => {
                let opened = events::open(platform.controlled.clone(), &request.headers).await;
                opened.map_or_else(|failed| whole(refusal(&failed)), |stream| stream.map(Either::Right))
            }
            Ok((platform, operation, body)) => {
                whole(match execute(platform, operation, request, body).await {
                    Ok(None) => reply::empty(StatusCode::NO_CONTENT),
                    Ok(Some(answer)) => json_reply(StatusCode::OK, &answer),
                    Err(failed) => refusal(&failed),
                })
            }
        }
    }
}

impl ControlApi {
    /// The call of a request, and its body.
    ///
    /// # Errors
    /// [`CallError`] if the request is no call.
    fn route<'a>(
        &self,
        request: &Parts,
        body: &'a Body,
        is_local: bool,
    ) -> Result<(Arc<Platform>, Operation, &'a Bytes), CallError> {
        if !self.admits(request, is_local) {
            return Err(CallError::Unauthorized);
        }
        let path = request.uri.path().strip_prefix(BASE).unwrap_or_default();
        let of_path = || ROUTES.iter().filter(|route| route.matches(path));
        let Some(route) = of_path().find(|route| route.method == request.method) else {
            let methods: Vec<_> = of_path().map(|route| route.method.as_str()).collect();
            return Err(if methods.is_empty() {
                CallError::NotFound("no such call; docs/control.md has a table of the calls".to_owned())
            } else {
                CallError::Method(methods.join(", "))
            });
        };
        if request.method != Method::GET && !is_json(&request.headers) {
            return Err(CallError::MediaType);
        }
        let Body::Complete(body) = body else { return Err(CallError::TooLarge) };
        let platform = self.platform.upgrade().ok_or(CallError::Stopping)?;
        Ok((platform, route.operation, body))
    }
}

async fn execute(
    platform: Arc<Platform>,
    operation: Operation,
    request: &Parts,
    body: &Bytes,
) -> Result<Option<Value>, CallError> {
    let Controlled { journal, token_clock, notices, .. } = &platform.controlled.clone();
    match operation {
        Operation::Reset => {
            let ResetRequest { keys, confirm } = parse(body)?;
            check_confirmation(&platform, &request.headers, confirm.as_deref())?;
            to_the_end(async move { reset(&platform, keys).await }).await.map(|()| None)
        }
        Operation::ReadClock => Ok(Some(token_clock.state())),
        Operation::SetClock => {
            let clock: ClockRequest = parse(body)?;
            token_clock.apply(&clock)?;
            keep_expired_records(&platform)?;
            notices.clock_changed();
            Ok(Some(token_clock.state()))
        }
        Operation::EndShift => {
            token_clock.reset();
            notices.clock_changed();
            Ok(Some(token_clock.state()))
        }
        Operation::ReadJournal => {
            let query = JournalQuery::parse(request.uri.query().unwrap_or_default())?;
            Ok(Some(journal.read(&query, notices).await))
        }
        // `ControlApi::answer` answers it.
        Operation::StreamEvents => Ok(None),
        Operation::ReadConnection => views::connection(&platform).await.map(Some),
        Operation::ListPeople => views::people(&platform).map(Some),
        Operation::ListAssignments => views::assignments(&platform).map(Some),
        Operation::PutPerson => seed::put_person(&platform, parse(body)?).map(|()| None),
        Operation::Seed => {
            let document: SeedDocument = parse(body)?;
            let seeded = to_the_end(async move { seed::apply(&platform, document).await }).await;
            notices.records_replaced();
            seeded.map(Some)
        }
        Operation::ReadState => snapshot::read(&platform).await.map(Some),
        Operation::LoadState => {
            let snapshot: Snapshot = parse(body)?;
            check_confirmation(&platform, &request.headers, snapshot.confirm.as_deref())?;
            let loaded = to_the_end(async move { snapshot::load(&platform, snapshot).await }).await;
            notices.records_replaced();
            loaded.map(|()| None)
        }
        Operation::ListIdentities => views::identities(&platform, request.uri.query()).map(Some),
        Operation::ShowIdentity => views::identity(&platform, request.uri.path()).map(Some),
        Operation::InspectTokens => {
            let InspectRequest { tokens } = parse(body)?;
            Ok(Some(views::verdicts(&platform, &tokens).await))
        }
        Operation::ListKeys => Ok(Some(platform.rotate_keys.keys().await?)),
        Operation::RotateKeys | Operation::RegenerateKey => {
            let ReplaceRequest { slot, confirm } = parse(body)?;
            check_confirmation(&platform, &request.headers, confirm.as_deref())?;
            let event = match (operation, slot) {
                (Operation::RotateKeys, None) => json!({"rotate": "signing-keys"}),
                (Operation::RegenerateKey, Some(AccessSlot::Primary)) => json!({"regenerate": "primary"}),
                (Operation::RegenerateKey, Some(AccessSlot::Secondary)) => json!({"regenerate": "secondary"}),
                (Operation::RotateKeys, _) => return Err(CallError::malformed("slot: leave it out")),
                _ => return Err(CallError::malformed("slot: give primary or secondary")),
            };
            to_the_end(async move { Ok(replace_keys(&platform, [event]).await?) }).await.map(Some)
        }
    }
}

/// Runs a change to its end, also when the client goes away.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    tokio::spawn(change).await.map_err(|_| CallError::Stopping)?
}

/// Removes identities, assignments, the clock's shift and the journal. With `keys`, replaces every key first.
async fn reset(platform: &Platform, keys: bool) -> Result<(), CallError> {
    let _alone = platform.controlled.gate.write().await;
    let leave = if keys {
        let events = [
            json!({"regenerate": "primary"}),
            json!({"regenerate": "secondary"}),
            json!({"rotate": "signing-keys"}),
        ];
        replace_keys(platform, events).await?;
        Leave::Nothing
    } else {
        Leave::RevokedEntraIdentities
    };
    records::remove(&platform.database, leave)?;
    if let Some(entra) = &platform.router.entra {
        entra.reset()?;
    }
    platform.controlled.token_clock.reset();
    platform.controlled.journal.clear();
    platform.controlled.notices.records_replaced();
    platform.controlled.notices.clock_changed();
    Ok(())
}

/// A token of a clock that is far ahead may outlast the record of its deleted identity, which is kept by real time. So a
/// state that has seen such a clock keeps every record.
fn keep_expired_records(platform: &Platform) -> Result<(), FileError> {
    let margin = TOMBSTONE - Duration::seconds(Lifetime::MAX_SECONDS) - ISSUED_AT_LEEWAY;
    if !platform.state.is_in_memory() && platform.controlled.token_clock.offset() > margin {
        state::keep_expired_records(&platform.data_dir)?;
    }
    Ok(())
}

/// A page must name the resource in a call that destroys state, because a person may have confused two pages. A script
/// with the token needs no confirmation.
fn check_confirmation(
    platform: &Platform,
    headers: &HeaderMap,
    confirm: Option<&str>,
) -> Result<(), CallError> {
    let resource = platform.resource.resource.id.to_string();
    if rules::is_of_page(headers) && confirm != Some(&resource) {
        return Err(CallError::Unconfirmed(resource));
    }
    Ok(())
}

/// The conversion is here, because the platform uses the module of the errors.
impl From<ReplaceKeysError> for CallError {
    fn from(error: ReplaceKeysError) -> Self {
        Self::ReplaceKeys(error_chain(&error))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn refusal(failed: &CallError) -> Response<Bytes> {
    let mut reply = error(failed.status(), &error_chain(failed));
    let header = match failed {
        CallError::Unauthorized => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        CallError::Method(methods) => HeaderValue::from_str(methods).ok().map(|methods| (ALLOW, methods)),
        _ => None,
    };
    reply.headers_mut().extend(header);
    reply
}
