//! The authorization endpoint: the request, the person that signs in, and the reply to the redirect URI.

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{CACHE_CONTROL, HOST, HeaderValue, LOCATION, REFERRER_POLICY};
use http::{HeaderMap, Method, Response, StatusCode};
use identity::host::Authority;
use uuid::Uuid;

use super::EntraStandIn;
use super::apis::RequestedScopes;
use super::form::Form;
use super::oauth_error::OAuthError;
use super::people::{Application, Person};
use super::sign_in_page;

/// Longest request that is kept for a page or a code, in bytes.
const MAX_REQUEST: usize = 8 * 1024;

/// Length of a challenge: a SHA-256 digest in base64url without padding.
const CHALLENGE: usize = 43;

/// A request whose client and redirect URI are good.
pub(super) struct AuthorizationRequest {
    pub(super) client: Uuid,
    pub(super) redirect_uri: String,
    mode: ResponseMode,
    state: Option<String>,
    pub(super) nonce: Option<String>,
    pub(super) scope: String,
    /// The challenge of the method S256.
    pub(super) challenge: Option<String>,
}

/// The place of the reply in the request to the redirect URI.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseMode {
    Query,
    Fragment,
    FormPost,
}

/// The way to the person.
enum Choice {
    /// The page lists the people.
    Page,
    Person(Person),
}

impl EntraStandIn {
    /// Answers a request for the sign-in page (GET), or a click on it (POST). A request with a foreign `Host` gets no page,
    /// because a page of another site could read it under that name.
    pub(super) fn authorize(
        &self,
        method: &Method,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Response<Bytes> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return super::status(StatusCode::BAD_REQUEST);
        };
        if host.to_str().map_or(true, |host| self.hosts.candidates(host).is_err()) {
            return super::status(StatusCode::MISDIRECTED_REQUEST);
        }
        let outcome = match *method {
            Method::GET => self.open_page(query),
            Method::POST => self.click(body),
            _ => Err(OAuthError::malformed()),
        };
        outcome.unwrap_or_else(|error| {
            sign_in_page::refusal(&error.description(self.clock.now(), self.guid(), self.guid()))
        })
    }

    fn open_page(&self, query: &str) -> Result<Response<Bytes>, OAuthError> {
        if query.len() > MAX_REQUEST {
            return Err(OAuthError::malformed());
        }
        let form = Form::parse(query, b"");
        let application = self.application_of(form.required("client_id")?)?;
        let redirect_uri = form.required("redirect_uri")?;
        if form.has_duplicates() {
            return Err(OAuthError::malformed());
        }
        if !may_redirect(&application, redirect_uri) {
            return Err(OAuthError::unknown_redirect_uri(redirect_uri, application.client_id));
        }
        let mut request = AuthorizationRequest {
            client: application.client_id,
            redirect_uri: redirect_uri.to_owned(),
            mode: ResponseMode::Query,
            state: form.get("state").map(str::to_owned),
            nonce: form.get("nonce").map(str::to_owned),
            scope: form.get("scope").unwrap_or_default().to_owned(),
            challenge: None,
        };
        let choice = request.complete(&form, &application).and_then(|()| self.choice(&form));
        Ok(match choice {
            Ok(Choice::Person(person)) => self.sign_in(&person, request),
            Ok(Choice::Page) => self.page(request),
            Err(error) => self.refuse(&request, &error),
        })
    }

    fn page(&self, request: AuthorizationRequest) -> Response<Bytes> {
        let people = self.people();
        let (client, redirect_uri) = (request.client.to_string(), request.redirect_uri.clone());
        let value = self.grants().show_page(request, self.clock.now(), self.random.as_ref());
        sign_in_page::page(&people, &value, &client, &redirect_uri)
    }

    /// The person of a request that needs no page.
    fn choice(&self, form: &Form) -> Result<Choice, OAuthError> {
        let mut prompts = form.get("prompt").unwrap_or_default().split_ascii_whitespace();
        let shows_page = match prompts.next() {
            None | Some("none") => false,
            Some("login" | "select_account" | "consent") => true,
            Some(_) => return Err(OAuthError::unsupported_prompt()),
        };
        let directory = self.directory();
        let silent = form.get("prompt") == Some("none");
        let person = match form.get("login_hint") {
            _ if shows_page => None,
            Some(name) => directory.people().named(name),
            None if silent => Some(&directory.people().first),
            None => None,
        };
        match person {
            Some(person) => Ok(Choice::Person(person.clone())),
            None if silent => Err(OAuthError::no_session()),
            None => Ok(Choice::Page),
        }
    }

    /// A click on the page. A link cannot do this, because a browser may open a link before a person does.
    fn click(&self, body: &[u8]) -> Result<Response<Bytes>, OAuthError> {
        let form = Form::parse("", body);
        let page = self.grants().take_page(form.required("page")?, self.clock.now());
        let request = page.ok_or_else(OAuthError::expired_page)?;
        let person = form.required("person")?;
        let known = person.parse().ok().and_then(|id| self.directory().people().with_id(id).cloned());
        let known = known.ok_or_else(|| OAuthError::unknown_user(person, self.tenant))?;
        Ok(self.sign_in(&known, request))
    }

    fn sign_in(&self, person: &Person, request: AuthorizationRequest) -> Response<Bytes> {
        let permitted = RequestedScopes::parse(&request.scope)
            .and_then(|scopes| person.check(scopes.access.api, request.client));
        if let Err(error) = permitted {
            return self.refuse(&request, &error);
        }
        let (redirect_uri, mode, state) = (request.redirect_uri.clone(), request.mode, request.state.clone());
        let code = self.grants().issue(person.object_id, request, self.clock.now(), self.random.as_ref());
        reply(&redirect_uri, mode, state.as_deref(), vec![("code", &code)])
    }

    /// Sends an error to the redirect URI.
    fn refuse(&self, request: &AuthorizationRequest, error: &OAuthError) -> Response<Bytes> {
        let description = error.description(self.clock.now(), self.guid(), self.guid());
        let members = vec![("error", error.at_authorize()), ("error_description", &description)];
        reply(&request.redirect_uri, request.mode, request.state.as_deref(), members)
    }
}

impl AuthorizationRequest {
    /// Reads the rest of the request. Its errors go to the redirect URI.
    fn complete(&mut self, form: &Form, application: &Application) -> Result<(), OAuthError> {
        self.mode = match form.get("response_mode") {
            None | Some("query") => ResponseMode::Query,
            Some("fragment") => ResponseMode::Fragment,
            Some("form_post") => ResponseMode::FormPost,
            Some(_) => return Err(OAuthError::malformed()),
        };
        let response_type = form.required("response_type")?;
        if response_type != "code" {
            return Err(OAuthError::unsupported_response_type(response_type));
        }
        RequestedScopes::parse(form.required("scope")?)?;
        match (form.get("code_challenge"), form.get("code_challenge_method")) {
            (None, None) if application.secret.is_some() => Ok(()),
            (None, None) => Err(OAuthError::no_challenge()),
            (Some(challenge), Some("S256")) if challenge.len() == CHALLENGE => {
                self.challenge = Some(challenge.to_owned());
                Ok(())
            }
            (_, Some("S256")) => Err(OAuthError::challenge_size()),
            _ => Err(OAuthError::challenge_method()),
        }
    }
}

/// Whether a code may go to this URI: a registered one, byte for byte, or a loopback one at any port (RFC 8252 section
/// 7.3). A redirect URI has no fragment (RFC 6749 section 3.1.2).
fn may_redirect(application: &Application, uri: &str) -> bool {
    if !uri.bytes().all(|b| b.is_ascii_graphic() && !br#""'<>\^`{|}#"#.contains(&b)) {
        return false;
    }
    application.redirect_uris.iter().any(|registered| registered == uri) || is_loopback(uri)
}

fn is_loopback(uri: &str) -> bool {
    let Some((_, authority)) = split_http(uri) else { return false };
    let authority = authority.parse::<Authority>();
    authority.is_ok_and(|authority| matches!(authority.name(), "localhost" | "127.0.0.1" | "[::1]"))
}

/// The scheme and the authority of an http or https URI.
pub(super) fn split_http(uri: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = uri.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    Some((scheme, rest.get(..end)?))
}

/// The reply for the redirect URI. Members with an empty value stay, because `state` comes back as it was.
fn reply<'a>(
    redirect_uri: &str,
    mode: ResponseMode,
    state: Option<&'a str>,
    mut members: Vec<(&str, &'a str)>,
) -> Response<Bytes> {
    members.extend(state.map(|state| ("state", state)));
    if mode == ResponseMode::FormPost {
        return sign_in_page::form_post(redirect_uri, &members);
    }
    let separator = match mode {
        ResponseMode::Fragment => '#',
        _ if redirect_uri.contains('?') => '&',
        _ => '?',
    };
    let members = Serializer::new(String::new()).extend_pairs(members).finish();
    let mut response = super::status(StatusCode::FOUND);
    if let Ok(location) = HeaderValue::try_from(format!("{redirect_uri}{separator}{members}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
