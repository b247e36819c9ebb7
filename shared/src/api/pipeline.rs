//! The pipeline of every request: size, caller, route, version, operation, audit, reply.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::{HeaderMap, Method, Response};

use crate::api::error::Error;
use crate::api::limits::{KEY_READ_ATTEMPTS, MAX_CLIENT_REQUEST_ID};
use crate::api::reply::{self, CLIENT_REQUEST_ID, Reply, ResponseContext};
use crate::api::routes::{self, Callers, PathMatch};
use crate::api::service::Service;
use crate::audit::{Arrival, AuditContext};
use crate::authn::basic::PresentedCredential;
use crate::authn::entra::{Audience, EntraError, EntraToken};
use crate::authn::hmac::{SignedHead, SignedRequest};
use crate::authn::target::Target;
use crate::authn::{Caller, Denial, Scheme};
use crate::correlation::{Correlation, Delivery, Transport};
use crate::host;
use crate::keys::access::AccessKeys;
use crate::keys::cache::KeyLoadError;
use crate::lifetime::REQUEST_DEADLINE;
use crate::operations::{self, OperationContext};
use crate::runtime::timeout;
use crate::secrets::{SecretName, SecretStoreError, VersionId};
use crate::store::{ReadRequest, Snapshot};
use crate::token::verify;

/// A request, as a host passes it on.
pub struct Request {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Body,
}

/// A request without its body, and the facts that follow from it alone.
pub struct Head<'a> {
    method: &'a Method,
    target: &'a Target,
    headers: &'a HeaderMap,
    path: Option<PathMatch>,
    callers: Callers,
    credential: Result<Credential<'a>, Denial>,
}

/// The credential of a request, not yet compared with anything secret.
enum Credential<'a> {
    Signature(SignedHead<'a>),
    Basic(&'a str),
    Bearer(&'a str),
}

/// A request's body.
pub enum Body {
    Complete(Bytes),
    /// The body is longer than [`crate::api::limits::MAX_BODY`], and the host dropped its bytes.
    TooLarge,
    /// The encoding by the host is broken, so the bytes of the client cannot be recovered.
    Unreadable,
    /// The host had no memory for the body.
    NoMemory,
}

/// The response to a request.
pub struct Answer {
    pub response: Response<Bytes>,
    /// The cause of an error, if the client addressed a loopback name. The local server shows that of a 401. A function
    /// shows none.
    pub reason: Option<String>,
}

impl Head<'_> {
    /// Whether the reply depends on the body. It does not if the head alone is refused, or if the route is public. A host
    /// can then drop the body, so that callers without a key occupy no memory.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        match (self.callers, &self.credential) {
            (Callers::Anyone, _) | (_, Err(_)) => false,
            (callers, Ok(Credential::Basic(_))) => callers == Callers::ServiceOrResourceServer,
            (_, Ok(Credential::Signature(_) | Credential::Bearer(_))) => true,
        }
    }
}

impl Service {
    /// Answers a request of a host that has no facts beside the request.
    pub async fn handle(&self, request: Request) -> Response<Bytes> {
        self.handle_delivered(request, &Delivery::default()).await
    }

    /// Answers a request.
    pub async fn handle_delivered(&self, request: Request, delivery: &Delivery) -> Response<Bytes> {
        let Request { method, target, headers, body } = &request;
        self.respond(self.head(method, target, headers), body, delivery).await.response
    }

    /// Makes the checks of a request that need neither its body nor a key.
    pub fn head<'a>(&self, method: &'a Method, target: &'a Target, headers: &'a HeaderMap) -> Head<'a> {
        let path = routes::find(target, self.functions);
        let callers = path.as_ref().map_or(self.callers_without_path(), PathMatch::callers);
        let takes_signature = matches!(callers, Callers::Service | Callers::ServiceOrResourceServer);
        let credential = Scheme::of(headers).and_then(|scheme| match scheme {
            Scheme::AccessKey if takes_signature => {
                let now = self.clock.now();
                let signed = SignedHead::parse(method, target, headers, &self.settings, now);
                signed.map(Credential::Signature)
            }
            Scheme::AccessKey => Err(Denial::Scheme),
            Scheme::Basic(value) => Ok(Credential::Basic(value)),
            Scheme::Bearer(token) => Ok(Credential::Bearer(token)),
        });
        Head { method, target, headers, path, callers, credential }
    }

    /// Answers every request as the contract describes, and writes exactly one audit line.
    pub async fn respond(&self, head: Head<'_>, body: &Body, delivery: &Delivery) -> Answer {
        let arrival = Arrival::now(self.clock.as_ref(), self.random.as_ref());
        let Head { method, headers, callers, .. } = head;
        let client_request_id = client_request_id(headers);
        let correlation = Correlation::of(headers, delivery);
        let mut audit = AuditContext::new(client_request_id.and_then(audited_client_request_id), correlation);

        let answer = self.answer(head, body, delivery.transport, &mut audit);
        let outcome = timeout(self.clock.as_ref(), REQUEST_DEADLINE, pin!(answer)).await;
        // A request that is cut off at the deadline may or may not have written.
        let outcome = outcome.unwrap_or_else(|| Err(Error::Unavailable("deadline exceeded".into())));
        let outcome = outcome.map_err(|error| error.row());

        let loopback = addresses_loopback(headers);
        let shown = outcome.as_ref().err().filter(|_| loopback == Some(true));
        let reason = shown.and_then(|error| error.cause.clone());
        let latency = arrival.latency(self.clock.as_ref());
        let context = ResponseContext {
            versions: audit.versions(),
            client_request_id,
            request_id: &arrival.request_id,
            latency,
            is_loopback: loopback.unwrap_or_else(|| self.is_at_loopback()),
        };
        let mut response = context.into_response(outcome.as_ref());
        let readable_by = callers.readable_by(&self.settings.cors);
        readable_by.add_headers(method, headers, response.headers_mut());
        if method == Method::HEAD {
            reply::drop_body(&mut response);
        }
        let event = audit.event(arrival, latency, response.status().as_u16(), outcome.err());
        self.audit.request(&Arc::new(event));
        Answer { response, reason }
    }

    /// Loads the secrets for the first request. Errors are ignored, because the first request meets and reports them.
    /// Concurrent requests wait for this load.
    ///
    /// The pointer that is read here only names the versions to load. It decides no request, because it may be older
    /// than a revocation that returned before the request arrived. A function without secrets has nothing to load.
    pub async fn warm(&self) {
        if self.secrets().next().is_none() {
            return;
        }
        let _refresh = self.key_cache.begin_refresh().await;
        let Ok(Snapshot { pointer, .. }) = self.store.read(ReadRequest::POINTER).await else { return };
        // The first token then needs no read of the keys alone. Its own read decides.
        let _ = self.key_cache.published().of(&pointer);
        for secret in self.secrets() {
            match secret {
                SecretName::AccessKeys => drop(self.key_cache.access(&pointer).await),
                SecretName::SigningKeys => drop(self.key_cache.signing(&pointer).await),
            }
        }
    }

    /// Authenticates the caller first, so that a caller without a key learns nothing, not even which paths
    /// exist. Only the size of the body is checked before, because the signature covers the body's hash.
    ///
    /// `OPTIONS` needs no caller, because a browser sends a preflight without credentials. Its reply depends on the
    /// route table alone.
    async fn answer(
        &self,
        head: Head<'_>,
        body: &Body,
        transport: Transport,
        audit: &mut AuditContext,
    ) -> Result<Reply, Error> {
        let Head { method, target, headers, path, callers, credential } = head;
        if method == Method::OPTIONS {
            return Ok(Reply::Methods(path.as_ref().map(PathMatch::methods).unwrap_or_default()));
        }
        let found = path.as_ref().ok_or(Error::RouteNotFound);
        let found = found.and_then(|path| {
            let route = path.route(method)?;
            let version = route.version(target, self.settings.hosts.public());
            Ok((route, version, path.parameters()))
        });
        if let Ok((route, version, _)) = &found {
            audit.route(route);
            if let Ok(Some(version)) = version {
                audit.version(*version);
            }
        }
        let body = match body {
            Body::Complete(body) => body,
            Body::TooLarge => return Err(Error::BodyTooLarge),
            Body::Unreadable => return Err(Error::BodyMalformed("it cannot be decoded".to_owned())),
            Body::NoMemory => {
                return Err(Error::Unavailable("other requests use all memory for bodies".into()));
            }
        };
        let bearer = if let Ok(Credential::Bearer(token)) = credential { Some(token) } else { None };
        let authenticated = self.authenticate(callers, credential, headers, transport, body, audit).await;
        let caller = authenticated.map_err(|error| match bearer {
            Some(token) if path.is_none() => self.explain(error, token),
            _ => error,
        })?;
        audit.slot(caller.slot());
        let (route, version, parameters) = match found {
            Ok(found) => found,
            Err(error) => return Err(self.after_credential(&caller, error, audit).await),
        };
        let version = version?;
        let context =
            OperationContext { service: self, caller: &caller, parameters, target, headers, body, version };
        operations::run(route.operation, &context, audit).await
    }

    /// The callers that may learn that a path does not exist. If every served route is public, anyone may learn it.
    fn callers_without_path(&self) -> Callers {
        if self.secrets().next().is_none() { Callers::Anyone } else { Callers::Service }
    }

    /// The secrets that the served functions may read.
    fn secrets(&self) -> impl Iterator<Item = SecretName> {
        self.functions.iter().flat_map(|function| function.secrets()).copied()
    }

    /// Whether the public host of this service is a loopback name or address.
    fn is_at_loopback(&self) -> bool {
        host::is_loopback(&self.settings.hosts.public().to_string())
    }

    async fn authenticate(
        &self,
        callers: Callers,
        credential: Result<Credential<'_>, Denial>,
        headers: &HeaderMap,
        transport: Transport,
        body: &[u8],
        audit: &mut AuditContext,
    ) -> Result<Caller, Error> {
        match callers {
            Callers::Anyone => Ok(Caller::Anyone),
            Callers::EntraUser(audience) => match credential? {
                Credential::Signature(_) | Credential::Basic(_) => Err(Denial::Scheme.into()),
                Credential::Bearer(token) => {
                    self.entra_user(token, audience, audit).await.map(Caller::EntraUser)
                }
            },
            Callers::Service => self.service(credential?, body, audit).await,
            Callers::ResourceServer | Callers::ServiceOrResourceServer => match credential {
                Ok(Credential::Basic(_)) if transport == Transport::Exposed => Err(Denial::PlainHttp.into()),
                Ok(Credential::Basic(value)) => {
                    Ok(Caller::ResourceServer(PresentedCredential::parse(value)?))
                }
                // Some clients send a credential only after a challenge.
                Err(_) if transport == Transport::Protected && !headers.contains_key(AUTHORIZATION) => {
                    Err(Denial::CredentialRequired.into())
                }
                Ok(_) if callers == Callers::ResourceServer => Err(Denial::Scheme.into()),
                credential => self.service(credential?, body, audit).await,
            },
        }
    }

    async fn service(
        &self,
        credential: Credential<'_>,
        body: &[u8],
        audit: &mut AuditContext,
    ) -> Result<Caller, Error> {
        match credential {
            Credential::Signature(signed) => self.access_key_holder(signed.with_body(body)?).await,
            Credential::Basic(_) => Err(Denial::Scheme.into()),
            Credential::Bearer(token) => self.entra_principal(token, audit).await,
        }
    }

    /// The error of a request without an operation. A resource server learns it only after its credential was compared
    /// with the stored one, which costs a read.
    pub(crate) async fn after_credential(
        &self,
        caller: &Caller,
        error: Error,
        audit: &mut AuditContext,
    ) -> Error {
        let Caller::ResourceServer(presented) = caller else { return error };
        let read = ReadRequest { resource_server: Some(&presented.id), ..ReadRequest::POINTER };
        match self.store.read(read).await {
            Ok(snapshot) if snapshot.credential.admits(&presented.secret) => {
                audit.resource_server(&presented.id);
                error
            }
            Ok(_) => Denial::Credential.into(),
            Err(unavailable) => unavailable.into(),
        }
    }

    /// The reason for the operator if a bearer token is refused on a path that does not exist. Clients send their user
    /// token here if they take the endpoint of a chat server from the connection string.
    fn explain(&self, error: Error, token: &str) -> Error {
        match error {
            Error::Denied(_) if verify::names_resource(token, &self.settings.resource) => {
                Denial::OtherService.into()
            }
            error => error,
        }
    }

    /// The token of an end user, for an exchange. The audit line names its principal.
    pub(crate) async fn entra_user(
        &self,
        token: &str,
        audience: Audience,
        audit: &mut AuditContext,
    ) -> Result<EntraToken, Error> {
        self.entra_token(token, audience, audit).await.map_err(|error| match error {
            EntraError::Refused(fault) | EntraError::OtherPurpose(fault, _) => {
                Error::InvalidAccessToken(fault)
            }
            error @ EntraError::Unavailable(_) => error.into(),
        })
    }

    async fn entra_principal(&self, token: &str, audit: &mut AuditContext) -> Result<Caller, Error> {
        let token = self.entra_token(token, Audience::Service, audit).await?;
        if self.entra.allows(&token) {
            Ok(Caller::EntraPrincipal(token.principal()))
        } else {
            Err(Denial::Principal.into())
        }
    }

    async fn entra_token(
        &self,
        token: &str,
        audience: Audience,
        audit: &mut AuditContext,
    ) -> Result<EntraToken, EntraError> {
        // Without the box, every request would have the memory of a verification.
        let verified = Box::pin(self.entra.verify(token, audience)).await;
        let principal = match &verified {
            Ok(token) => Some(token.principal()),
            Err(error) => error.principal(),
        };
        if let Some(principal) = principal {
            audit.principal(principal);
        }
        verified
    }

    /// Verifies the signature with the cached keys first, so that a refusal costs no I/O. The cached keys may be
    /// outdated, so a failure may refresh them.
    async fn access_key_holder(&self, signed: SignedRequest) -> Result<Caller, Error> {
        let tried = self.key_cache.cached_access();
        if let Some((access_keys, keys)) = &tried
            && let Ok(slot) = signed.verify(keys)
        {
            return Ok(Caller::AccessKey { slot, access_keys: access_keys.clone(), signed });
        }
        self.refresh_access_keys(signed, tried.map(|(version, _)| version)).await
    }

    /// The refusal of a signature that matches no key in force. A path can be delivered in the wrong form only by a
    /// gateway whose form is configured.
    fn wrong_signature(&self, signed: &SignedRequest) -> Error {
        match (self.settings.gateway_path, self.key_cache.cached_access()) {
            (Some(_), Some((_, keys))) => signed.explain(&keys).into(),
            _ => Denial::Signature.into(),
        }
    }

    /// Verifies the signature with the keys in force. One refresh runs at a time, and concurrent requests wait
    /// for it. After a refresh without a change, the next one is a second later, so that a flood of wrong
    /// signatures costs one read per second.
    async fn refresh_access_keys(
        &self,
        signed: SignedRequest,
        tried: Option<VersionId>,
    ) -> Result<Caller, Error> {
        let _refresh = self.key_cache.begin_refresh().await;
        let cached = self.key_cache.cached_access().filter(|(version, _)| Some(version) != tried.as_ref());
        let (access_keys, keys) = match cached {
            Some(refreshed) => refreshed,
            None if self.key_cache.may_refresh(self.clock.uptime()) => self.access_keys_in_force().await?,
            None => return Err(self.wrong_signature(&signed)),
        };
        if Some(&access_keys) == tried.as_ref() {
            self.key_cache.refreshed_without_change(self.clock.uptime());
            return Err(self.wrong_signature(&signed));
        }
        match signed.verify(&keys) {
            Ok(slot) => Ok(Caller::AccessKey { slot, access_keys, signed }),
            Err(_) => Err(self.wrong_signature(&signed)),
        }
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

/// Whether the client addresses a loopback name or address. `None` if it names no host.
fn addresses_loopback(headers: &HeaderMap) -> Option<bool> {
    Some(host::is_loopback(headers.get(HOST)?.to_str().ok()?))
}

/// The client's request id for the audit line. Only letters, digits and hyphens are logged, because any caller may
/// send any text in the header.
fn audited_client_request_id(id: &HeaderValue) -> Option<String> {
    let id = id.to_str().ok()?;
    let closed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (id.len() <= 36 && id.bytes().all(closed)).then(|| id.to_owned())
}

/// The client's request id, if the header occurs once and its value is short and printable ASCII.
fn client_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(CLIENT_REQUEST_ID).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let is_valid = value.len() <= MAX_CLIENT_REQUEST_ID && value.as_bytes().iter().all(u8::is_ascii_graphic);
    is_valid.then_some(value)
}
