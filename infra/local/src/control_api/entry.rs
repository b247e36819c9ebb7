//! The first step of every request: the rules for web pages, the probes and the control API.

use http::request::Parts;
use http::{Method, Response, StatusCode};
use identity::api::functions::Function;
use identity::api::limits::MAX_BODY;
use identity::api::pipeline::Body;
use identity::api::reply;
use identity::api::routes::{self, Callers};
use identity::authn::target::Target;

use super::call_error::MAX_SNAPSHOT;
use super::calls::{ReplyBody, whole};
use super::page;
use super::replies::error;
use super::rules;
use crate::health::Document;
use crate::invoke;
use crate::router::Router;

/// The start of every path of the calls.
pub(super) const BASE: &str = "/_local/v1/";

/// The paths that are no part of the service.
const OWN: &str = "/_local";

/// The client of a request.
#[derive(Clone, Copy)]
pub struct Peer {
    /// Whether the client is a program of this machine, and passes nothing on for another machine.
    pub is_local: bool,
    /// Whether the connection uses TLS.
    pub is_secure: bool,
}

/// Most bytes of a body that are kept. Only a caller of the control API may send a snapshot.
pub(crate) fn body_limit(router: &Router, request: &Parts, peer: Peer) -> usize {
    let is_snapshot = request.method == Method::PUT && request.uri.path() == "/_local/v1/state";
    let control = router.control.get().filter(|_| is_snapshot && !peer.is_secure);
    match control {
        Some(control) if check(router, request, peer).is_ok() && control.admits(request, peer.is_local) => {
            MAX_SNAPSHOT
        }
        _ => MAX_BODY,
    }
}

/// The reply to a request below `/_local`, and the refusal of a request by the rules. `None` if another part of the
/// server is to answer.
pub(crate) async fn answer(
    router: &Router,
    request: &Parts,
    target: &Target,
    body: &Body,
    peer: Peer,
) -> Option<Response<ReplyBody>> {
    let path = request.uri.path();
    if !is_own(path) {
        let Err(refusal) = rules::check_host(&request.headers, &router.service.settings.hosts) else {
            return page::from_root(request).filter(|_| has_console(router, peer)).map(whole);
        };
        let is_answered = !is_open(router, request, target) || is_admitted_probe(refusal, target, path);
        return (!is_answered).then(|| whole(reply::empty(refusal)));
    }
    let mut reply = match check(router, request, peer) {
        Err(refusal) if !is_admitted_probe(refusal, target, path) => whole(reply::empty(refusal)),
        _ => answer_own(router, request, target, body, peer).await,
    };
    rules::add_headers(reply.headers_mut());
    Some(reply)
}

async fn answer_own(
    router: &Router,
    request: &Parts,
    target: &Target,
    body: &Body,
    peer: Peer,
) -> Response<ReplyBody> {
    if let Some(reply) = router.health.answer(&router.service.settings, target, request).await {
        return whole(reply);
    }
    let is_call = request.uri.path().starts_with(BASE);
    match router.control.get() {
        Some(_) if is_call && peer.is_secure => {
            whole(error(StatusCode::NOT_FOUND, "the control API is on the HTTP port only"))
        }
        Some(control) if is_call => control.answer(request, body, peer.is_local).await,
        _ => {
            let file = page::file(request).filter(|_| has_console(router, peer));
            whole(file.unwrap_or_else(|| reply::empty(StatusCode::NOT_FOUND)))
        }
    }
}

/// The console is where the control API is, and by default only for browsers of this machine.
fn has_console(router: &Router, peer: Peer) -> bool {
    let control = router.control.get().filter(|_| !peer.is_secure);
    control.is_some_and(|control| peer.is_local || control.has_remote_console())
}

/// Both rules, in their order.
fn check(router: &Router, request: &Parts, peer: Peer) -> Result<(), StatusCode> {
    rules::check_host(&request.headers, &router.service.settings.hosts)?;
    rules::check_page(&request.headers, peer.is_secure)
}

/// Whether the path is one of this server, and no part of the service.
pub(crate) fn is_own(path: &str) -> bool {
    path.get(..OWN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN))
}

/// Whether anyone gets an answer, so that a page under another name could read it. The other routes need a signature
/// over the host, or an Entra token.
fn is_open(router: &Router, request: &Parts, target: &Target) -> bool {
    let public = || routes::find(target, Function::ALL).is_some_and(|path| path.callers() == Callers::Anyone);
    let entra = || router.entra.as_ref().is_some_and(|entra| entra.answers(request.uri.path()));
    Document::of(target, request.uri.path()).is_some()
        || invoke::is_invocation(&request.method, request.uri.path())
        || entra()
        || public()
}

/// A probe by address has a host that is no name of this server. Its answer is a status without a body.
fn is_admitted_probe(refusal: StatusCode, target: &Target, path: &str) -> bool {
    refusal == StatusCode::MISDIRECTED_REQUEST && Document::of(target, path).is_some_and(Document::is_probe)
}
