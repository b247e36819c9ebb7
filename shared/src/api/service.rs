//! The one pipeline every request goes through: size, caller, route, version, operation, audit, reply.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Response};
use time::format_description::well_known::Rfc3339;

use crate::api::error::Error;
use crate::api::limits::MAX_CLIENT_REQUEST_ID;
use crate::api::reply::{CLIENT_REQUEST_ID, Reply, ResponseContext};
use crate::api::routes::{self, Callers, Function, Matched};
use crate::audit::{Audit, AuditContext, AuditEvent, request_id};
use crate::authn::entra::{Audience, Entra, EntraError};
use crate::authn::hmac::{HmacInput, SignedRequest};
use crate::authn::target::Target;
use crate::authn::{Caller, Denial, Scheme};
use crate::keys::access::AccessKeys;
use crate::keys::cache::{KeyCache, KeyError};
use crate::keys::pointer::Pointer;
use crate::keys::signing::SigningKeys;
use crate::keys::{Slot, VersionId};
use crate::lifetime::REQUEST_DEADLINE;
use crate::operations::{self, Request};
use crate::runtime::{Clock, Random, timeout};
use crate::secrets::{SecretName, SecretStoreError};
use crate::settings::Settings;
use crate::store::assignments::Book;
use crate::store::{IdentityState, ReadRequest, Snapshot, Store};

/// The service: what decides, over the ports it is given.
pub struct Service {
    pub settings: Settings,
    pub store: Arc<dyn Store>,
    pub key_cache: Arc<KeyCache>,
    pub entra: Arc<Entra>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub audit: Arc<dyn Audit>,
    /// The functions whose routes are served here: one in a Lambda binary, all in the local server.
    pub functions: &'static [Function],
}

/// A request as a host hands it over.
pub struct Inbound {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Body,
}

/// A request's body.
pub enum Body {
    Complete(Bytes),
    /// Longer than [`crate::api::limits::MAX_BODY`]; its bytes were not kept.
    TooLarge,
    /// The host's own encoding of it is broken, so what was sent cannot be known.
    Unreadable,
}

/// A caller whose keys are the ones in force, with the state of the world that showed it.
pub(crate) struct Session {
    pub(crate) slot: Slot,
    pub(crate) pointer: Pointer,
    pub(crate) identity: IdentityState,
    pub(crate) book: Book,
    /// Loaded where the operation mints.
    pub(crate) signing: Option<Arc<SigningKeys>>,
}

/// How often a request looks again when keys are replaced under it.
const ATTEMPTS: usize = 3;

impl Service {
    /// Answers a request: always, in the shape of the contract, with exactly one audit line.
    pub async fn handle(&self, request: Inbound) -> Response<Bytes> {
        let arrived = self.clock.uptime();
        let request_id = request_id(self.random.as_ref());
        let client_request_id = client_request_id(&request.headers);
        let time = self.clock.now().format(&Rfc3339).unwrap_or_default();
        let shown = client_request_id.and_then(loggable);
        let event = AuditEvent::arrived(time, request_id.clone(), shown);

        let mut notes = AuditContext::default();
        // What is dropped at the deadline was about to write, or not: as unclear as any write without an answer.
        let answer = self.answer(&request, &mut notes);
        let outcome = timeout(self.clock.sleep(REQUEST_DEADLINE), answer).await;
        let outcome = outcome.unwrap_or_else(|| Err(Error::Unavailable("deadline exceeded".into())));

        let latency = self.clock.uptime().saturating_sub(arrived);
        let context = ResponseContext {
            versions: notes.route().map(|route| route.versions),
            client_request_id,
            request_id: &request_id,
            latency,
            host: self.settings.hosts.public(),
        };
        let response = context.into_response(outcome.as_ref());
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let event = event.decided(notes, response.status().as_u16(), outcome.as_ref().err(), latency_us);
        self.audit.request(&event);
        response
    }

    /// Loads the keys that the first request will need. What fails here will fail for that request too, which can
    /// say so; one that comes meanwhile waits for the keys instead of loading them as well.
    pub async fn warm(&self) {
        let _refresh = self.key_cache.begin_refresh().await;
        let Ok(Snapshot { pointer, .. }) = self.store.read(ReadRequest::POINTER).await else { return };
        let _ = self.key_cache.published().of(&pointer);
        for secret in self.functions.iter().flat_map(|function| function.secrets()) {
            match secret {
                SecretName::AccessKeys => drop(self.key_cache.access(&pointer).await),
                SecretName::SigningKeys => drop(self.key_cache.signing(&pointer).await),
            }
        }
    }

    /// The caller is judged before anything else is said about the request, a wrong path included; only a
    /// body that could not be kept comes first, for the signature covers its hash.
    async fn answer(&self, request: &Inbound, notes: &mut AuditContext) -> Result<Reply, Error> {
        let matched = self.route(request);
        if let Ok(matched) = &matched {
            notes.routed(matched.route);
        }
        let body = match &request.body {
            Body::Complete(body) => body,
            Body::TooLarge => return Err(Error::BodyTooLarge),
            Body::Unreadable => return Err(Error::BodyMalformed("it cannot be decoded".to_owned())),
        };
        let callers = matched.as_ref().map_or(self.callers_of_no_route(), |matched| matched.route.callers);
        let caller = self.caller(request, body, callers).await?;
        if let Some(slot) = caller.slot() {
            notes.slot(slot);
        }
        let Matched { route, parameters } = matched?;
        let version = route.version(&request.target)?;
        let request = Request { service: self, caller: &caller, parameters: &parameters, body, version };
        operations::run(route.operation, &request, notes).await
    }

    /// Who may be told that a path does not exist: whoever may call anything here.
    fn callers_of_no_route(&self) -> Callers {
        let is_public = self.functions.iter().all(|function| function.secrets().is_empty());
        if is_public { Callers::Anyone } else { Callers::Service }
    }

    async fn caller(&self, request: &Inbound, body: &[u8], callers: Callers) -> Result<Caller, Error> {
        if callers == Callers::Anyone {
            return Ok(Caller::Anyone);
        }
        match (Scheme::of(&request.headers)?, callers) {
            (_, Callers::Anyone) => Ok(Caller::Anyone),
            (Scheme::AccessKey, Callers::Service) => {
                let Inbound { method, target, headers, .. } = request;
                let input = HmacInput { method, target, headers, body };
                let signed = SignedRequest::parse(&input, &self.settings, self.clock.now())?;
                self.authenticate(signed).await
            }
            (Scheme::Bearer(token), Callers::Service) => {
                let token = self.entra.verify(token, Audience::Service).await?;
                if self.entra.allows(&token) {
                    Ok(Caller::EntraPrincipal)
                } else {
                    Err(Denial::Principal.into())
                }
            }
            (Scheme::Bearer(token), Callers::EntraUser(audience)) => {
                match self.entra.verify(token, audience).await {
                    Ok(token) => Ok(Caller::EntraUser(token)),
                    Err(EntraError::Refused(fault)) => Err(Error::InvalidAccessToken(fault)),
                    Err(error) => Err(error.into()),
                }
            }
            (Scheme::AccessKey, Callers::EntraUser(_)) => Err(Denial::Scheme.into()),
        }
    }

    fn route(&self, request: &Inbound) -> Result<Matched, Error> {
        let matched = routes::find(&request.method, &request.target)?;
        if self.functions.contains(&matched.route.function) { Ok(matched) } else { Err(Error::RouteNotFound) }
    }

    /// Who signed the request, by the keys in memory: a refusal costs no I/O. Keys that fail may be former
    /// ones, so a failure may look whether the pointer names others.
    async fn authenticate(&self, signed: SignedRequest) -> Result<Caller, Error> {
        let tried = self.key_cache.cached_access();
        if let Some((access_keys, keys)) = &tried
            && let Ok(slot) = signed.verify(keys)
        {
            return Ok(Caller::AccessKey { slot, access_keys: access_keys.clone(), signed });
        }
        self.refresh_access_keys(signed, tried.map(|(version, _)| version)).await
    }

    /// One look at a time: whoever comes meanwhile waits for its outcome. A look that finds nothing new
    /// closes the way for a second, so that a flood of wrong signatures costs one read a second.
    async fn refresh_access_keys(
        &self,
        signed: SignedRequest,
        tried: Option<VersionId>,
    ) -> Result<Caller, Error> {
        let _refresh = self.key_cache.begin_refresh().await;
        let cached = self.key_cache.cached_access().filter(|(version, _)| Some(version) != tried.as_ref());
        let (access_keys, keys) = match cached {
            Some(found_meanwhile) => found_meanwhile,
            None if self.key_cache.may_refresh(self.clock.uptime()) => self.access_keys_in_force().await?,
            None => return Err(Denial::Signature.into()),
        };
        if Some(&access_keys) == tried.as_ref() {
            self.key_cache.refreshed_without_change(self.clock.uptime());
            return Err(Denial::Signature.into());
        }
        Ok(Caller::AccessKey { slot: signed.verify(&keys)?, access_keys, signed })
    }

    async fn access_keys_in_force(&self) -> Result<(VersionId, Arc<AccessKeys>), Error> {
        let mut attempt = 1;
        loop {
            let pointer = self.store.read(ReadRequest::POINTER).await?.pointer;
            match self.key_cache.access(&pointer).await {
                Ok(keys) => return Ok((pointer.access_keys, keys)),
                Err(KeyError::SecretStore(SecretStoreError::NoSuchVersion)) if attempt < ATTEMPTS => {
                    attempt += 1
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One strong read of pointer and identity; if the pointer names other access keys than the caller
    /// was judged by, they are loaded and the caller is judged again. Where the operation mints, the
    /// signing keys in force come with it.
    ///
    /// Keys may be replaced between the read and the load; then their version is gone and the read is
    /// repeated, so that a rotation never fails a request that was rightly signed.
    pub(crate) async fn open(
        &self,
        request: &Request<'_>,
        read: ReadRequest<'_>,
        mints: bool,
    ) -> Result<Session, Error> {
        let mut attempt = 1;
        loop {
            let snapshot = self.store.read(read).await?;
            match self.confirm(request, &snapshot, mints).await {
                Err(Unconfirmed::KeysReplaced) if attempt < ATTEMPTS => attempt += 1,
                Err(Unconfirmed::KeysReplaced) => {
                    return Err(KeyError::SecretStore(SecretStoreError::NoSuchVersion).into());
                }
                Err(Unconfirmed::Denied(denial)) => return Err(denial.into()),
                Err(Unconfirmed::Failed(error)) => return Err(error.into()),
                Ok((slot, signing)) => {
                    let Snapshot { pointer, identity, book } = snapshot;
                    return Ok(Session { slot, pointer, identity, book, signing });
                }
            }
        }
    }

    async fn confirm(
        &self,
        request: &Request<'_>,
        snapshot: &Snapshot,
        mints: bool,
    ) -> Result<(Slot, Option<Arc<SigningKeys>>), Unconfirmed> {
        let slot = match request.caller {
            Caller::AccessKey { access_keys, signed, .. } if *access_keys != snapshot.pointer.access_keys => {
                signed.verify(&*self.key_cache.access(&snapshot.pointer).await?)?
            }
            caller => caller.slot().ok_or(Denial::Authorization)?,
        };
        let signing = if mints { Some(self.key_cache.signing(&snapshot.pointer).await?) } else { None };
        Ok((slot, signing))
    }
}

enum Unconfirmed {
    Denied(Denial),
    Failed(KeyError),
    KeysReplaced,
}

impl From<KeyError> for Unconfirmed {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::SecretStore(SecretStoreError::NoSuchVersion) => Self::KeysReplaced,
            error => Self::Failed(error),
        }
    }
}

impl From<Denial> for Unconfirmed {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// What may be logged of a client's request id: only what looks like one. Anyone may send the header, with
/// anything in it.
fn loggable(id: &HeaderValue) -> Option<String> {
    let id = id.to_str().ok()?;
    let closed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (id.len() <= 36 && id.bytes().all(closed)).then(|| id.to_owned())
}

/// The client's request id, if it is there once, short, and plain text.
fn client_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(CLIENT_REQUEST_ID).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let sane = value.len() <= MAX_CLIENT_REQUEST_ID && value.as_bytes().iter().all(u8::is_ascii_graphic);
    sane.then_some(value)
}
