//! The credential of a resource server: it asks about tokens and does nothing else. A change is in force at once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, Reply, TestService};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{HeaderName, Method};
use identity::api::pipeline::{Body, Request};
use identity::api::routes::{Callers, ROUTES};
use identity::authn::target::Target;
use identity::correlation::{Delivery, Transport};
use identity::keys::Algorithm;
use identity::lifetime::LONGEST_FEED_WAIT;
use identity::store::feed::End;
use identity::store::resource_servers::ResourceServerChange::{Add, FinishRotation, Remove, Rotate};
use identity::store::resource_servers::ResourceServerError;
use identity::testing::NOON;
use serde_json::{Value, json};

const INVALID: &str =
    r#"{"error":"invalid_client","error_description":"The client id or the client secret is wrong."}"#;

struct World {
    service: TestService,
    embedded: Embedded,
    token: String,
    secret: String,
}

impl World {
    async fn new() -> Self {
        let (ports, embedded) = Ports::embedded(191).await;
        let service = TestService::new(ports, Algorithm::Es256, 191).await;
        let id = service.create().await;
        let token = service.issue(&service.primary, &id).await.token().unwrap();
        let secret = service.change_resource_server("chat-api", Add).await.unwrap().unwrap();
        Self { service, embedded, token, secret: secret.expose().to_owned() }
    }

    async fn send(
        &self,
        method: &Method,
        target: &str,
        headers: &[(HeaderName, String)],
        body: &str,
    ) -> Reply {
        self.deliver(method, target, headers, body, Transport::Protected).await
    }

    async fn deliver(
        &self,
        method: &Method,
        target: &str,
        headers: &[(HeaderName, String)],
        body: &str,
        transport: Transport,
    ) -> Reply {
        let mut map = HeaderMap::new();
        map.insert(HOST, HeaderValue::from_static("localhost:8443"));
        for (name, value) in headers {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let target = Target::from_wire(target);
        let body = Body::Complete(body.to_owned().into());
        let request = Request { method: method.clone(), target, headers: map, body };
        let delivery = Delivery { transport, ..Delivery::default() };
        Reply::of(self.service.service.handle_delivered(request, &delivery).await)
    }

    async fn introspect(&self, authorization: &str) -> Reply {
        let form = format!("token={}", self.token);
        self.send(&Method::POST, "/introspect", &[(AUTHORIZATION, authorization.to_owned())], &form).await
    }

    /// Whether introspection admits a secret of `chat-api`. Every refusal is the same one.
    async fn admits(&self, secret: &str) -> bool {
        let reply = self.introspect(&basic("chat-api", secret)).await;
        if reply.status == 200 {
            assert_eq!(reply.json["active"], true);
            return true;
        }
        assert_invalid(&reply, "a secret");
        false
    }

    fn last_line(&self) -> Value {
        serde_json::from_str(self.service.audit.lines().last().unwrap()).unwrap()
    }
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

fn assert_invalid(reply: &Reply, attack: &str) {
    assert_eq!((reply.status, reply.text.as_str()), (401, INVALID), "{attack}");
    let challenge = reply.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("Basic realm="), "{attack}: {challenge}");
}

#[tokio::test]
async fn credential_introspects_with_one_read_and_no_secret() {
    let mut world = World::new().await;
    world.service.restart();
    world.service.service.warm().await;
    let calls = |world: &World| [world.embedded.dynamodb.calls(), world.embedded.secrets.calls()];
    let before = calls(&world);
    let reply = world.introspect(&basic("chat-api", &world.secret)).await;
    let after = calls(&world);
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 0], "a new instance too");
    assert_eq!((reply.status, &reply.json["token_type"]), (200, &json!("Bearer")), "{}", reply.text);
    let line = world.last_line();
    assert_eq!(line["principal"], "resource-server/chat-api");
    assert!(line.get("slot").is_none());
    let inactive = [(AUTHORIZATION, basic("chat-api", &world.secret))];
    let reply = world.send(&Method::POST, "/introspect", &inactive, "token=a.b.c").await;
    assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"active":false}"#));
}

/// Without an end, the reply comes after the longest wait.
#[tokio::test(start_paused = true)]
async fn credential_reads_the_feed_without_a_secret() {
    let world = World::new().await;
    let headers = [(AUTHORIZATION, basic("chat-api", &world.secret))];
    let read = async |target: &str| world.send(&Method::GET, target, &headers, "").await;
    let secrets = world.embedded.secrets.calls();
    let feed = &world.service.ports.feed;
    feed.begin_feed_epoch().await.unwrap();
    let start = read("/revocations").await;
    assert_eq!((start.status, &start.json["ends"]), (200, &json!([])), "{}", start.text);
    assert_eq!(world.last_line()["principal"], "resource-server/chat-api");
    let target = format!("/revocations?after={}&wait=20", start.json["cursor"].as_str().unwrap());
    let (before, began) = (world.embedded.dynamodb.calls(), tokio::time::Instant::now());
    assert_eq!(read(&target).await.json, start.json);
    assert_eq!(began.elapsed(), LONGEST_FEED_WAIT);
    assert_eq!(world.embedded.dynamodb.calls() - before, 10, "the credential, and the feed nine times");

    let end = End::KeyReplaced { kid: "a".repeat(43) };
    let (page, appended) = tokio::join!(read(&target), async {
        tokio::time::sleep(LONGEST_FEED_WAIT / 2).await;
        feed.append_to_feed(&[end], NOON).await
    });
    appended.unwrap();
    assert_eq!(page.json["ends"], json!([{"event": "key_replaced", "kid": "a".repeat(43)}]));
    assert!(began.elapsed() < 2 * LONGEST_FEED_WAIT, "an end ends the wait");
    for query in ["after=x", "after=", "wait=21", "wait=-1", "wait=", "wait=1&wait=2"] {
        assert_eq!(read(&format!("/revocations?{query}")).await.status, 400, "{query}");
    }
    feed.begin_feed_epoch().await.unwrap();
    let unknown = read(&format!("/revocations?after={}", page.json["cursor"].as_str().unwrap())).await;
    assert_eq!((unknown.status, unknown.code().as_deref()), (410, Some("CursorUnknown")));
    assert_eq!(world.embedded.secrets.calls(), secrets);

    let reply =
        world.send(&Method::GET, "/revocations", &[(AUTHORIZATION, basic("chat-api", "A"))], "").await;
    assert_invalid(&reply, "a wrong secret");
    let bearer = [(AUTHORIZATION, format!("Bearer {}", world.token))];
    assert_eq!(world.send(&Method::GET, "/revocations", &bearer, "").await.status, 401);
    assert_eq!(world.service.send("GET", "/revocations", "").await.status, 401, "an access key");
    let plain = world.deliver(&Method::GET, "/revocations", &headers, "", Transport::Exposed).await;
    assert_eq!(plain.status, 401);
}

#[tokio::test]
async fn every_other_route_refuses_the_credential() {
    let world = World::new().await;
    let headers = [(AUTHORIZATION, basic("chat-api", &world.secret))];
    let before = world.embedded.dynamodb.calls();
    for route in ROUTES {
        if matches!(
            route.callers,
            Callers::Anyone | Callers::ResourceServer | Callers::ServiceOrResourceServer
        ) {
            continue;
        }
        let version = route.versions.last().map(|version| version.as_str()).unwrap_or_default();
        let target = format!("{}?api-version={version}", route.path.replace(['{', '}'], ""));
        let reply = world.send(&route.method, &target, &headers, "{}").await;
        assert_eq!((reply.status, reply.code().as_deref()), (401, Some("Denied")), "{target}");
        assert_eq!(world.last_line()["denial"], "Scheme");
    }
    assert_eq!(world.send(&Method::POST, "/elsewhere", &headers, "").await.status, 401);
    assert_eq!(world.embedded.dynamodb.calls(), before, "a refusal makes no call");
}

#[tokio::test]
async fn attacks_on_the_credential_are_refused_alike() {
    let world = World::new().await;
    let (secret, wrong) = (&world.secret, "A".repeat(43));
    for (attack, authorization) in [
        ("wrong id", basic("calls", secret)),
        ("wrong secret", basic("chat-api", &wrong)),
        ("both wrong", basic("calls", &wrong)),
        ("empty secret", basic("chat-api", "")),
        ("secret as id", basic(secret, secret)),
        ("part of the secret", basic("chat-api", &secret[..42])),
        ("secret and a character", basic("chat-api", &format!("{secret}A"))),
        ("other letter case of the id", basic("Chat-API", secret)),
        ("unicode id", basic("ch\u{e4}t-api", secret)),
        ("colon in the id", basic("chat:api", secret)),
        ("colon in the secret", basic("chat-api", &format!("{secret}:"))),
        ("escaped twice", basic("chat%252Dapi", secret)),
        ("access key", basic("chat-api", &world.service.primary)),
        ("access key under its slot", basic("primary", &world.service.primary)),
        ("index of the credentials", basic("all", secret)),
        ("two values joined", format!("{0}, {0}", basic("chat-api", secret))),
        ("no value", "Basic".to_owned()),
        ("no base64", "Basic chat-api".to_owned()),
    ] {
        assert_invalid(&world.introspect(&authorization).await, attack);
        let line = world.last_line();
        assert_eq!(line["denial"], "Credential", "{attack}");
        assert!(line.get("principal").is_none(), "{attack}: a refused credential adds no name");
    }
    let twice = [(AUTHORIZATION, basic("chat-api", secret)), (AUTHORIZATION, basic("chat-api", secret))];
    let reply = world.send(&Method::POST, "/introspect", &twice, "token=a.b.c").await;
    assert_eq!((reply.status, reply.code().as_deref()), (401, Some("Denied")), "two headers");
    let escaped = basic("chat%2Dapi", &secret.replace('-', "%2D").replace('_', "%5F"));
    assert_eq!(world.introspect(&escaped).await.status, 200, "the form of RFC 6749");
    assert_eq!(world.introspect(&basic("chat-api", secret).replace("Basic", "bAsIc")).await.status, 200);
}

#[tokio::test]
async fn refused_credential_learns_nothing_about_its_request() {
    let world = World::new().await;
    for (good, status) in [(false, 401), (true, 405)] {
        let secret = if good { world.secret.clone() } else { "A".repeat(43) };
        let headers = [(AUTHORIZATION, basic("chat-api", &secret))];
        assert_eq!(world.send(&Method::GET, "/introspect", &headers, "").await.status, status);
        let status = if good { 400 } else { 401 };
        assert_eq!(world.send(&Method::POST, "/introspect", &headers, "").await.status, status);
        let status = if good { 415 } else { 401 };
        let json = [headers[0].clone(), (CONTENT_TYPE, "application/json".to_owned())];
        let reply = world.send(&Method::POST, "/introspect", &json, r#"{"token":"x"}"#).await;
        assert_eq!(reply.status, status);
        assert!(!good || reply.text.contains("application/x-www-form-urlencoded"), "{}", reply.text);
    }
    let form = [
        (AUTHORIZATION, basic("chat-api", &world.secret)),
        (CONTENT_TYPE, "Application/X-WWW-Form-Urlencoded; charset=UTF-8".to_owned()),
    ];
    assert_eq!(world.send(&Method::POST, "/introspect", &form, "token=x").await.status, 200);
}

#[tokio::test]
async fn plain_http_from_another_machine_is_refused() {
    let world = World::new().await;
    let headers = [(AUTHORIZATION, basic("chat-api", &world.secret))];
    let before = world.embedded.dynamodb.calls();
    let reply = world.deliver(&Method::POST, "/introspect", &headers, "token=x", Transport::Exposed).await;
    assert_eq!((reply.status, &reply.json["error"]), (401, &json!("invalid_client")));
    assert_eq!(world.last_line()["denial"], "PlainHttp");
    let reply = world.deliver(&Method::POST, "/introspect", &[], "token=x", Transport::Exposed).await;
    assert_eq!(reply.code().as_deref(), Some("Denied"));
    assert!(!reply.headers.contains_key("www-authenticate"), "no challenge asks for a secret in clear text");
    let reply = world.send(&Method::POST, "/introspect", &[], "token=x").await;
    assert_eq!((reply.status, &reply.json["error"]), (401, &json!("invalid_client")));
    assert!(reply.headers.contains_key("www-authenticate"));
    assert_eq!(world.embedded.dynamodb.calls(), before, "a refusal makes no call");
}

#[tokio::test]
async fn changes_are_in_force_at_once() {
    let world = World::new().await;
    let (service, first) = (&world.service, &world.secret);
    assert!(world.admits(first).await);
    let second = service.change_resource_server("chat-api", Rotate).await.unwrap().unwrap();
    assert!(world.admits(first).await && world.admits(second.expose()).await);
    service.change_resource_server("chat-api", FinishRotation).await.unwrap();
    assert!(!world.admits(first).await && world.admits(second.expose()).await);
    service.change_resource_server("chat-api", Remove).await.unwrap();
    assert!(!world.admits(second.expose()).await);
    let third = service.change_resource_server("chat-api", Add).await.unwrap().unwrap();
    assert!(world.admits(third.expose()).await && !world.admits(second.expose()).await);
    for n in 1..20 {
        service.change_resource_server(&format!("api-{n}"), Add).await.unwrap();
    }
    let refused = service.change_resource_server("one-more", Add).await.err().unwrap();
    assert!(matches!(refused, ResourceServerError::TooMany));
    for line in service.audit.lines() {
        for secret in [first.as_str(), second.expose(), third.expose()] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn unreadable_state_gives_503_for_the_credential() {
    let world = World::new().await;
    for fault in [Fault::Throttle, Fault::InternalError, Fault::BreakBefore, Fault::Unprocessed] {
        world.embedded.dynamodb.plan(move |_| Some(fault));
        let headers = [(AUTHORIZATION, basic("chat-api", &world.secret))];
        for (method, body) in [(Method::POST, "token=x"), (Method::POST, ""), (Method::GET, "")] {
            let reply = world.send(&method, "/introspect", &headers, body).await;
            assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (503, true), "{fault:?}");
        }
    }
    world.embedded.dynamodb.plan(|_| None);
    assert!(world.admits(&world.secret).await);
}
