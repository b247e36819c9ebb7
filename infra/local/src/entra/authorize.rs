//! The authorization endpoint: the request, the person that signs in, and the reply to the redirect URI.

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::header::{CACHE_CONTROL, HeaderValue, LOCATION, REFERRER_POLICY};
use http::{HeaderMap, Method, Response, StatusCode};
use identity::api::reply;
use uuid::Uuid;

use super::EntraStandIn;
use super::apis::RequestedScopes;
use super::form::Form;
use super::oauth_error::OAuthError;
use super::people::{Application, Person};
use super::redirect_uri::may_redirect;
use super::sign_in_page;
use crate::control_api::rules;

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
        if let Err(refusal) = rules::check_host(headers, &self.hosts) {
            return reply::empty(refusal);
        }
        let outcome = match *method {
            Method::GET => self.open_page(query),
            Method::POST => self.click(body),
            _ => Err(OAuthError::malformed()),
        };
        outcome.unwrap_or_else(|error| sign_in_page::refusal(&self.describe(&error)))
    }

    fn describe(&self, error: &OAuthError) -> String {
        error.description(self.clock.now(), self.random.guid(), self.random.guid())
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
            Ok(Some(person)) => self.sign_in(&person, request),
            Ok(None) => self.page(request),
            Err(error) => self.refuse(&request, &error),
        })
    }

    fn page(&self, request: AuthorizationRequest) -> Response<Bytes> {
        let people = self.people();
        let (client, redirect_uri) = (request.client.to_string(), request.redirect_uri.clone());
        let value = self.grants().show_page(request, self.clock.now(), self.random.as_ref());
        sign_in_page::page(&people, &value, &client, &redirect_uri)
    }

    /// The person of a request that needs no page. `None` leads to the page.
    fn choice(&self, form: &Form) -> Result<Option<Person>, OAuthError> {
        let mut prompts = form.get("prompt").unwrap_or_default().split_ascii_whitespace();
        let shows_page = match prompts.next() {
            None => false,
            Some("none") if prompts.next().is_none() => false,
            Some("login" | "select_account" | "consent") => true,
            Some(_) => return Err(OAuthError::unsupported_prompt()),
        };
        let directory = self.directory();
        let silent = form.get("prompt").is_some_and(|prompt| prompt.trim() == "none");
        let person = match form.get("login_hint") {
            _ if shows_page => None,
            Some(name) => directory.people().named(name),
            None if silent => Some(&directory.people().first),
            None => None,
        };
        if person.is_none() && silent { Err(OAuthError::no_session()) } else { Ok(person.cloned()) }
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
        let description = self.describe(error);
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
    let mut response = reply::empty(StatusCode::FOUND);
    if let Ok(location) = HeaderValue::try_from(format!("{redirect_uri}{separator}{members}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
pub(super) mod tests {
    use http::header::HOST;
    use serde_json::{Value, from_slice};

    use super::super::tests::stand_in;
    use super::super::{NewPerson, PersonKind};
    use super::*;

    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    const URI: &str = "http://localhost:3000/a?b=c";
    const SCOPE: &str = "https://communication.azure.com/clients/VoIP openid offline_access";
    const TEAMS: &str = "https://auth.msft.communication.azure.com/Teams.ManageCalls";

    /// A request for the tests of the store.
    pub(in super::super) fn request(
        client: Uuid,
        redirect_uri: &str,
        challenge: Option<&str>,
    ) -> AuthorizationRequest {
        AuthorizationRequest {
            client,
            redirect_uri: redirect_uri.to_owned(),
            mode: ResponseMode::Query,
            state: None,
            nonce: None,
            scope: SCOPE.to_owned(),
            challenge: challenge.map(str::to_owned),
        }
    }

    fn from_host(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())])
    }

    /// The reply to a good request with these changes. An empty value removes the member.
    fn get(stand_in: &EntraStandIn, changes: &[(&str, &str)]) -> Response<Bytes> {
        let app = stand_in.user_app_id().to_string();
        let mut members = vec![
            ("client_id", app.as_str()),
            ("redirect_uri", URI),
            ("response_type", "code"),
            ("scope", SCOPE),
            ("state", "s&t"),
            ("nonce", "n"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        members.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        members.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        let query = Serializer::new(String::new()).extend_pairs(members).finish();
        let target = format!("/adfs/oauth2/v2.0/authorize?{query}");
        stand_in.handle(&Method::GET, &target, &from_host("localhost:8443"), b"")
    }

    fn post(stand_in: &EntraStandIn, endpoint: &str, members: &[(&str, &str)]) -> Response<Bytes> {
        let body = Serializer::new(String::new()).extend_pairs(members).finish();
        let target = format!("/adfs/oauth2/v2.0/{endpoint}");
        stand_in.handle(&Method::POST, &target, &from_host("localhost:8443"), body.as_bytes())
    }

    fn text(response: &Response<Bytes>) -> &str {
        str::from_utf8(response.body()).unwrap()
    }

    /// A member of the reply in a redirection to the URI.
    fn member(response: &Response<Bytes>, before: &str, name: &str) -> Option<String> {
        assert_eq!(response.status(), 302, "{}", text(response));
        let location = response.headers()[LOCATION].to_str().unwrap();
        let members = location.strip_prefix(before).unwrap_or_else(|| panic!("{location}"));
        form_urlencoded::parse(members.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, v)| v.into_owned())
    }

    fn in_query(response: &Response<Bytes>, name: &str) -> Option<String> {
        member(response, &format!("{URI}&"), name)
    }

    /// The value of the page.
    fn page_value(response: &Response<Bytes>) -> String {
        assert_eq!(response.status(), 200, "{}", text(response));
        let (_, rest) = text(response).split_once("name=\"page\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    fn redeem(stand_in: &EntraStandIn, code: &str) -> Value {
        let app = stand_in.user_app_id().to_string();
        let members = [
            ("grant_type", "authorization_code"),
            ("client_id", &app),
            ("code", code),
            ("redirect_uri", URI),
            ("code_verifier", VERIFIER),
        ];
        from_slice(post(stand_in, "token", &members).body()).unwrap()
    }

    fn claims(token: &Value) -> Value {
        use base64::Engine as _;
        let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
        from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn one_click_signs_in_the_person() {
        let stand_in = stand_in();
        let guest = stand_in.people().into_iter().find(|person| person.kind == PersonKind::Guest).unwrap();
        let page = get(&stand_in, &[]);
        for person in stand_in.people() {
            assert!(text(&page).contains(&person.name), "{}", person.name);
            assert!(!text(&page).contains(person.password.as_str()));
        }
        let (value, person) = (page_value(&page), guest.object_id.to_string());
        let click = [("page", value.as_str()), ("person", person.as_str())];
        let reply = post(&stand_in, "authorize", &click);
        assert_eq!(in_query(&reply, "state").as_deref(), Some("s&t"));
        let tokens = redeem(&stand_in, &in_query(&reply, "code").unwrap());
        let access = claims(&tokens["access_token"]);
        assert_eq!((&access["scp"], &access["oid"]), (&"VoIP".into(), &guest.object_id.to_string().into()));
        assert!(access["idp"].is_string() && access.get("upn").is_none());
        assert_eq!(claims(&tokens["id_token"])["nonce"], "n");
        assert!(tokens["refresh_token"].is_string());
        // The value is good once, and nothing in the query replaces it.
        let again = post(&stand_in, "authorize", &click);
        assert!(again.status() == 400 && text(&again).contains("AADSTS50089"), "{}", text(&again));
        let unknown = [("page", page_value(&get(&stand_in, &[]))), ("person", Uuid::nil().to_string())];
        let unknown = post(&stand_in, "authorize", &unknown.each_ref().map(|(n, v)| (*n, v.as_str())));
        assert!(text(&unknown).contains("AADSTS50034"));
    }

    #[test]
    fn hints_and_silent_requests_skip_the_page() {
        let stand_in = stand_in();
        let user = stand_in.user_object_id().to_string();
        for changes in [
            &[("login_hint", "USER@local.test")][..],
            &[("prompt", "none")],
            &[("prompt", "none"), ("login_hint", "user@local.test")],
        ] {
            let code = in_query(&get(&stand_in, changes), "code").unwrap();
            assert_eq!(claims(&redeem(&stand_in, &code)["access_token"])["oid"], user);
        }
        for changes in [
            &[("login_hint", "user@local.test"), ("prompt", "login")][..],
            &[("login_hint", "user@local.test"), ("prompt", "select_account")],
            &[("login_hint", "nobody@local.test")],
        ] {
            page_value(&get(&stand_in, changes));
        }
    }

    #[test]
    fn replies_have_the_requested_mode() {
        let stand_in = stand_in();
        let hint = ("login_hint", "user@local.test");
        let fragment = get(&stand_in, &[hint, ("response_mode", "fragment")]);
        assert!(member(&fragment, &format!("{URI}#"), "code").is_some());
        let form = get(&stand_in, &[hint, ("response_mode", "form_post"), ("state", "\"><script>")]);
        assert_eq!(form.status(), 200);
        assert!(text(&form).contains("action=\"http://localhost:3000/a?b=c\""), "{}", text(&form));
        assert!(text(&form).contains("name=\"state\" value=\"&quot;&gt;&lt;script&gt;\""), "{}", text(&form));
        assert_eq!(in_query(&get(&stand_in, &[hint, ("state", "")]), "state"), None);
    }

    #[test]
    fn errors_of_good_clients_go_to_the_redirect_uri() {
        let stand_in = stand_in();
        let without = &[("login_hint", "noteams@local.test"), ("scope", TEAMS)];
        for (changes, error, code) in [
            (&[("response_type", "")][..], "invalid_request", 900_144),
            (&[("response_type", "id_token")], "unsupported_response_type", 700_054),
            (&[("response_mode", "web_message")], "invalid_request", 9_002_313),
            (&[("scope", "")], "invalid_request", 900_144),
            (&[("scope", "openid")], "invalid_request", 28_003),
            (&[("scope", "User.Read")], "invalid_resource", 500_011),
            (&[("code_challenge", ""), ("code_challenge_method", "")], "invalid_request", 9_002_325),
            (&[("code_challenge", "")], "invalid_request", 501_491),
            (&[("code_challenge", "short")], "invalid_request", 501_491),
            (&[("code_challenge_method", "plain")], "invalid_request", 50_149),
            (&[("code_challenge_method", "")], "invalid_request", 50_149),
            (&[("prompt", "maybe")], "invalid_request", 90_023),
            (&[("prompt", "none login")], "invalid_request", 90_023),
            (&[("prompt", "none"), ("login_hint", "nobody@local.test")], "login_required", 50_058),
            (&[("login_hint", "disabled@local.test")], "access_denied", 50_057),
            (without, "consent_required", 65_001),
        ] {
            let reply = get(&stand_in, changes);
            assert_eq!(in_query(&reply, "error").as_deref(), Some(error), "{changes:?}");
            let description = in_query(&reply, "error_description").unwrap();
            assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
            assert_eq!(in_query(&reply, "state").as_deref(), Some("s&t"));
            assert_eq!(in_query(&reply, "code"), None);
        }
        let allowed = get(&stand_in, &[("login_hint", "noteams@local.test")]);
        assert!(in_query(&allowed, "code").is_some(), "other APIs need no Teams permission");
    }

    #[test]
    fn codes_go_nowhere_else() {
        let stand_in = stand_in();
        let nobody = Uuid::nil().to_string();
        let long = "x".repeat(MAX_REQUEST);
        for (changes, code) in [
            (&[("client_id", "")][..], 900_144),
            (&[("client_id", nobody.as_str())], 700_016),
            (&[("client_id", "<script>")], 700_016),
            (&[("redirect_uri", "")], 900_144),
            (&[("state", long.as_str())], 9_002_313),
        ] {
            let refused = get(&stand_in, &[&[("login_hint", "user@local.test")], changes].concat());
            assert_eq!(refused.status(), 400, "{changes:?}");
            assert!(text(&refused).contains(&format!("AADSTS{code}: ")), "{}", text(&refused));
            assert!(refused.headers().get(LOCATION).is_none() && !text(&refused).contains("<script>"));
        }
        for uri in [
            "https://evil.example/",
            "http://localhost.evil.example/",
            "http://localhost@evil.example/",
            "http://localhost:80@evil.example/",
            "http://evil.example#@localhost/",
            "http://evil.example?@localhost/",
            "http://evil.example\\@localhost/",
            "http://localhost\\@evil.example/",
            "http://localhost/#fragment",
            "http://localhost:99999/",
            "http://localhost:3000/\r\nSet-Cookie: a=b",
            "http://localhost:3000/ a",
            "http://localhost:3000/ä",
            "http://127.0.0.2/",
            "http://[::2]/",
            "http://0.0.0.0/",
            "HTTP://localhost/",
            "ftp://localhost/",
            "javascript://localhost/%0aalert(1)",
            "//localhost/",
            "localhost",
        ] {
            let refused = get(&stand_in, &[("redirect_uri", uri), ("login_hint", "user@local.test")]);
            assert_eq!(refused.status(), 400, "{uri}");
            assert!(text(&refused).contains("AADSTS50011: "), "{uri}");
            assert!(refused.headers().get(LOCATION).is_none(), "{uri}");
        }
        for uri in [
            "http://localhost",
            "https://LOCALHOST:1/x",
            "http://127.0.0.1:65535/?a=b",
            "http://[::1]:3000/a",
        ] {
            assert_eq!(get(&stand_in, &[("redirect_uri", uri)]).status(), 200, "{uri}");
        }
    }

    #[test]
    fn foreign_hosts_and_repeated_members_get_no_page() {
        let stand_in = stand_in();
        let target = "/adfs/oauth2/v2.0/authorize";
        let mut twice = from_host("localhost:8443");
        twice.append(HOST, HeaderValue::from_static("localhost:8443"));
        for (headers, status) in [
            (from_host("evil.example"), 421),
            (from_host("localhost.evil.example:8443"), 421),
            (HeaderMap::new(), 400),
            (twice, 400),
            (from_host("localhost:32768"), 400),
        ] {
            let refused = stand_in.handle(&Method::GET, target, &headers, b"");
            assert_eq!(refused.status(), status, "{headers:?}");
            assert_eq!(
                refused.body().is_empty(),
                !headers.contains_key(HOST) || status == 421 || headers.len() > 1
            );
        }
        let app = stand_in.user_app_id();
        let query = format!("client_id={app}&redirect_uri={URI}&client_id={app}");
        let twice =
            stand_in.handle(&Method::GET, &format!("{target}?{query}"), &from_host("localhost:8443"), b"");
        assert!(text(&twice).contains("AADSTS9002313"), "{}", text(&twice));
    }

    #[test]
    fn every_authority_has_the_page() {
        let stand_in = stand_in();
        let tenant = stand_in.tenant;
        for authority in ["/adfs", "/entra/common", "/entra/organizations", &format!("/entra/{tenant}")] {
            let target = format!("{authority}/oauth2/v2.0/authorize");
            let page = stand_in.handle(&Method::GET, &target, &from_host("localhost:8443"), b"");
            assert!(text(&page).contains("AADSTS900144"), "{target}");
            assert_eq!(stand_in.methods(&target), "GET, HEAD, POST");
            assert!(stand_in.is_page(&target));
        }
    }

    #[test]
    fn disabled_people_get_no_tokens() {
        let stand_in = stand_in();
        let user = stand_in.people().remove(0);
        let hint = [("login_hint", user.name.as_str())];
        let code = in_query(&get(&stand_in, &hint), "code").unwrap();
        let refresh_token = redeem(&stand_in, &code)["refresh_token"].as_str().unwrap().to_owned();
        let disabled = NewPerson {
            name: user.name.clone(),
            kind: PersonKind::Disabled,
            object_id: None,
            password: None,
        };
        stand_in.put_person(disabled).unwrap_or_else(|error| panic!("{error}"));
        let app = stand_in.user_app_id().to_string();
        for (grant, code) in [
            ([("grant_type", "refresh_token"), ("refresh_token", &refresh_token), ("a", "")], 50_057),
            ([("grant_type", "password"), ("username", &user.name), ("password", &user.password)], 50_057),
        ] {
            let members = [&grant[..], &[("client_id", &app), ("scope", SCOPE)]].concat();
            let answer: Value = from_slice(post(&stand_in, "token", &members).body()).unwrap();
            assert_eq!(answer["error_codes"][0], code, "{answer}");
        }
    }

    #[test]
    fn new_passwords_end_refresh_tokens_and_repetitions_do_not() {
        let stand_in = stand_in();
        let user = stand_in.people().remove(0);
        let code = in_query(&get(&stand_in, &[("login_hint", user.name.as_str())]), "code").unwrap();
        let mut refresh_token = redeem(&stand_in, &code)["refresh_token"].as_str().unwrap().to_owned();
        let app = stand_in.user_app_id().to_string();
        let own = user.password.as_str();
        for (password, error) in
            [(Some(own), Value::Null), (None, Value::Null), (Some("new"), Value::from(70_000))]
        {
            let password = password.map(|text| zeroize::Zeroizing::new(text.to_owned()));
            let same = NewPerson {
                name: user.name.clone(),
                kind: user.kind,
                object_id: Some(user.object_id),
                password,
            };
            stand_in.put_person(same).unwrap_or_else(|error| panic!("{error}"));
            let members = [
                ("grant_type", "refresh_token"),
                ("refresh_token", refresh_token.as_str()),
                ("client_id", &app),
                ("scope", SCOPE),
            ];
            let answer: Value = from_slice(post(&stand_in, "token", &members).body()).unwrap();
            assert_eq!(answer["error_codes"][0], error, "{answer}");
            refresh_token = answer["refresh_token"].as_str().unwrap_or_default().to_owned();
        }
    }
}
