//! The one pipeline every request goes through: size, caller, route, version, operation, audit, reply.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderMap, Method, Response};
use time::format_description::well_known::Rfc3339;

use crate::api::error::Error;
use crate::api::limits::{KEY_READ_ATTEMPTS, MAX_CLIENT_REQUEST_ID};
use crate::api::reply::{CLIENT_REQUEST_ID, Reply, ResponseContext};
use crate::api::routes::{self, Callers, Matched};
use crate::api::service::Service;
use crate::audit::{AuditContext, AuditEvent, request_id};
use crate::authn::entra::{Audience, EntraError};
use crate::authn::hmac::{HmacInput, SignedRequest};
use crate::authn::target::Target;
use crate::authn::{Caller, Denial, Scheme};
use crate::keys::access::AccessKeys;
use crate::keys::cache::KeyLoadError;
use crate::lifetime::REQUEST_DEADLINE;
use crate::operations::{self, OperationContext};
use crate::runtime::timeout;
use crate::secrets::VersionId;
use crate::secrets::{SecretName, SecretStoreError};
use crate::store::{ReadRequest, Snapshot};

/// A request as a host hands it over.
pub struct Request {
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

impl Service {
    /// Answers a request: always, in the shape of the contract, with exactly one audit line.
    pub async fn handle(&self, request: Request) -> Response<Bytes> {
        let arrived = self.clock.uptime();
        let request_id = request_id(self.random.as_ref());
        let client_request_id = client_request_id(&request.headers);
        let time = self.clock.now().format(&Rfc3339).unwrap_or_default();
        let shown = client_request_id.and_then(loggable);
        let event = AuditEvent::arrived(time, request_id.clone(), shown);

        let mut audit = AuditContext::default();
        // What is dropped at the deadline was about to write, or not: as unclear as any write without an answer.
        let answer = self.answer(&request, &mut audit);
        let outcome = timeout(self.clock.sleep(REQUEST_DEADLINE), answer).await;
        let outcome = outcome.unwrap_or_else(|| Err(Error::Unavailable("deadline exceeded".into())));

        let latency = self.clock.uptime().saturating_sub(arrived);
        let context = ResponseContext {
            versions: audit.route().map(|route| route.versions),
            client_request_id,
            request_id: &request_id,
            latency,
            host: self.settings.hosts.public(),
        };
        let response = context.into_response(outcome.as_ref());
        let latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let event = event.decided(audit, response.status().as_u16(), outcome.as_ref().err(), latency_us);
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
    async fn answer(&self, request: &Request, audit: &mut AuditContext) -> Result<Reply, Error> {
        let matched = self.route(request);
        if let Ok(matched) = &matched {
            audit.routed(matched.route);
        }
        let body = match &request.body {
            Body::Complete(body) => body,
            Body::TooLarge => return Err(Error::BodyTooLarge),
            Body::Unreadable => return Err(Error::BodyMalformed("it cannot be decoded".to_owned())),
        };
        let callers = matched.as_ref().map_or(self.callers_of_no_route(), |matched| matched.route.callers);
        let caller = self.caller(request, body, callers).await?;
        if let Some(slot) = caller.slot() {
            audit.slot(slot);
        }
        let Matched { route, parameters } = matched?;
        let version = route.version(&request.target)?;
        let context = OperationContext {
            service: self,
            caller: &caller,
            parameters: &parameters,
            target: &request.target,
            body,
            version,
        };
        operations::run(route.operation, &context, audit).await
    }

    /// Who may be told that a path does not exist: whoever may call anything here.
    fn callers_of_no_route(&self) -> Callers {
        let is_public = self.functions.iter().all(|function| function.secrets().is_empty());
        if is_public { Callers::Anyone } else { Callers::Service }
    }

    async fn caller(&self, request: &Request, body: &[u8], callers: Callers) -> Result<Caller, Error> {
        if callers == Callers::Anyone {
            return Ok(Caller::Anyone);
        }
        match (Scheme::of(&request.headers)?, callers) {
            (_, Callers::Anyone) => Ok(Caller::Anyone),
            (Scheme::AccessKey, Callers::Service) => {
                let Request { method, target, headers, .. } = request;
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

    fn route(&self, request: &Request) -> Result<Matched, Error> {
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
                Err(KeyLoadError::SecretStore(SecretStoreError::NoSuchVersion))
                    if attempt < KEY_READ_ATTEMPTS =>
                {
                    attempt += 1
                }
                Err(error) => return Err(error.into()),
            }
        }
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
