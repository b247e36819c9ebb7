//! The key set and the discovery document. Both are public, complete at every moment, and free of secrets.

use std::collections::BTreeSet;
use std::sync::Arc;

use e2e::faults::Fault;
use e2e::test_service::{Embedded, Ports, Reply, TestService};
use http::header::HOST;
use http::{HeaderMap, Method};
use identity::api::functions::Function;
use identity::api::pipeline::{Body, Request};
use identity::api::service::Service;
use identity::authn::target::Target;
use identity::keys::AccessSlot;
use identity::keys::rotation::Change;
use identity::keys::signing::VerifyingKeys;
use identity::keys::{Algorithm, Slot};
use identity::secrets::VersionId;
use identity::settings::Settings;
use identity::testing::settings;
use identity::token::verify::{Expected, OfflineVerifier, TokenError};
use josekit::jwk::JwkSet;
use josekit::jws::{ES256, JwsVerifier, RS256};
use serde_json::{Value, json};

const KEY_SET: &str = "/.well-known/jwks.json";
const DISCOVERY: &str = "/.well-known/openid-configuration";

async fn service(algorithm: Algorithm) -> (TestService, Embedded) {
    let (ports, embedded) = Ports::embedded(62).await;
    (TestService::new(ports, algorithm, 62).await, embedded)
}

/// A request without credentials.
fn unsigned(method: Method, target: &str, headers: HeaderMap) -> Request {
    Request { method, target: Target::from_wire(target), headers, body: Body::Complete("".into()) }
}

async fn get(service: &TestService, target: &str) -> Reply {
    Reply::of(service.service.handle(unsigned(Method::GET, target, HeaderMap::new())).await)
}

/// The key set after the cached copy of the service has expired.
async fn key_set(service: &TestService) -> Value {
    service.clock.advance(1_000);
    let reply = get(service, KEY_SET).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json
}

/// Checks that the keys have no other members than those of public keys (RFC 7518 section 6) and `use`, `alg`, `kid`.
fn is_public(key_set: &Value) {
    let public: BTreeSet<_> = ["kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"].into();
    let keys = key_set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3, "one key for each slot");
    for key in keys {
        let members: BTreeSet<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(members.is_subset(&public), "{members:?}");
    }
    assert_eq!(key_set.as_object().unwrap().len(), 1);
}

fn offline(service: &TestService, key_set: &Value) -> OfflineVerifier {
    let keys = VerifyingKeys::from_jwks(key_set.to_string().as_bytes()).unwrap();
    OfflineVerifier::new(Expected::from(&settings().resource), keys, service.clock.clone())
}

/// Mints a token through each access key, and verifies both tokens offline with the current key set.
async fn mint_and_verify_offline(service: &TestService, id: &str, moment: &str) -> [String; 2] {
    let set = key_set(service).await;
    is_public(&set);
    let verifier = offline(service, &set);
    let mut tokens = [const { String::new() }; 2];
    for (place, slot) in tokens.iter_mut().zip([Slot::Primary, Slot::Secondary]) {
        *place = service.issue(service.key(slot), id).await.token().unwrap();
        assert_eq!(verifier.verify(place).unwrap().identity.to_string(), id, "{moment}");
    }
    tokens
}

#[tokio::test]
async fn key_set_verifies_new_tokens_throughout_a_rotation() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let (mut service, embedded) = service(algorithm).await;
        let id = service.create().await;
        let [before, _] = mint_and_verify_offline(&service, &id, "set up").await;
        let version = VersionId::new("11111111-2222-4333-8444-555555555555");
        embedded.begin_rotation("signing-keys", version.as_str());
        for step in ["create", "set", "test", "finish", "finish again"] {
            let version = version.clone();
            let done = service.rotate(async |rotator| match step {
                "create" => rotator.create(&version).await,
                "set" => rotator.set(&version).await,
                "test" => rotator.try_out(&version).await,
                _ => rotator.finish(&version).await.map(|_| ()),
            });
            done.await.unwrap();
            mint_and_verify_offline(&service, &id, step).await;
        }
        let former = offline(&service, &key_set(&service).await).verify(&before);
        assert_eq!(
            former.unwrap_err(),
            TokenError::KeyNotInForce,
            "the new key set refuses a token of the former key"
        );
        service.replace_keys(Change::RegenerateAccessKey(AccessSlot::Primary)).await.unwrap();
        service.learn_access_keys().await;
        mint_and_verify_offline(&service, &id, "regenerated").await;
    }
}

/// `josekit` is an independent implementation on OpenSSL.
#[tokio::test]
async fn josekit_verifies_new_tokens_with_the_key_set() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let (service, _) = service(algorithm).await;
        let id = service.create().await;
        let tokens = mint_and_verify_offline(&service, &id, "set up").await;
        let set = JwkSet::from_bytes(key_set(&service).await.to_string()).unwrap();
        for token in tokens {
            let header = josekit::jwt::decode_header(&token).unwrap();
            let kid = header.claim("kid").unwrap().as_str().unwrap().to_owned();
            let keys = set.get(&kid);
            let [key] = keys.as_slice() else { panic!("one key for {kid}") };
            let verifier: Box<dyn JwsVerifier> = match algorithm {
                Algorithm::Rs256 => Box::new(RS256.verifier_from_jwk(key).unwrap()),
                Algorithm::Es256 => Box::new(ES256.verifier_from_jwk(key).unwrap()),
            };
            let (payload, _) = josekit::jwt::decode_with_verifier(&token, verifier.as_ref()).unwrap();
            assert_eq!(payload.subject(), Some(id.as_str()));
            let altered = format!("{}AAAA", &token[..token.len() - 4]);
            assert!(josekit::jwt::decode_with_verifier(&altered, verifier.as_ref()).is_err());
        }
    }
}

/// An offline verifier sees no deletion. It still checks the signature and the expiry.
#[tokio::test]
async fn token_of_deleted_identity_verifies_offline_until_expiry() {
    let (service, _) = service(Algorithm::Es256).await;
    let id = service.create().await;
    let [token, _] = mint_and_verify_offline(&service, &id, "set up").await;
    let verifier = offline(&service, &key_set(&service).await);
    assert_eq!(service.delete(&id).await.status, 204);
    assert!(service.verify(&token).await.is_err());
    assert!(verifier.verify(&token).is_ok(), "an offline verifier does not see the deletion");
    let mut altered = token.clone();
    altered.replace_range(token.len() - 8.., "AAAAAAAA");
    assert_eq!(verifier.verify(&altered).unwrap_err(), TokenError::Signature);
    service.clock.advance(24 * 3_600 * 1_000);
    assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::Expired);
}

#[tokio::test]
async fn documents_are_public_and_cacheable_for_a_minute() {
    let (service, _) = service(Algorithm::Rs256).await;
    for document in [KEY_SET, DISCOVERY] {
        let reply = get(&service, document).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["cache-control"], "public, max-age=60");
        assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
        assert!(reply.text.len() < 150 * 1024, "an Application Load Balancer accepts no larger document");
    }
    let discovery = get(&service, DISCOVERY).await.json;
    assert_eq!(
        discovery,
        json!({
            "issuer": "https://localhost:8443",
            "jwks_uri": "https://localhost:8443/.well-known/jwks.json",
            "introspection_endpoint": "https://localhost:8443/introspect",
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
        })
    );
}

#[tokio::test]
async fn request_headers_do_not_change_the_discovery_document() {
    let (service, _) = service(Algorithm::Es256).await;
    let expected = get(&service, DISCOVERY).await.text;
    for name in ["host", "x-forwarded-host", "forwarded", "x-forwarded-proto", "x-original-url"] {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "localhost:8443".parse().unwrap());
        headers.insert(name, "evil.example".parse().unwrap());
        let reply = Reply::of(service.service.handle(unsigned(Method::GET, DISCOVERY, headers)).await);
        assert_eq!((reply.status, &reply.text), (200, &expected), "{name}");
    }
}

/// The endpoints need no authentication, so many requests must be cheap: one read of the pointer a second, and no read
/// of a secret.
#[tokio::test]
async fn many_requests_read_the_pointer_once_a_second() {
    let (service, embedded) = service(Algorithm::Es256).await;
    let before = [embedded.dynamodb.calls(), embedded.secrets.calls()];
    for _ in 0..3 {
        for _ in 0..50 {
            assert_eq!(get(&service, KEY_SET).await.status, 200);
            assert_eq!(get(&service, DISCOVERY).await.status, 200);
        }
        service.clock.advance(1_000);
    }
    assert_eq!(embedded.dynamodb.calls() - before[0], 3);
    assert_eq!(embedded.secrets.calls(), before[1]);
}

/// The cached documents are also unused after one second.
#[tokio::test(start_paused = true)]
async fn unreadable_pointer_gives_503_and_no_document() {
    let (service, embedded) = service(Algorithm::Es256).await;
    assert_eq!(get(&service, KEY_SET).await.status, 200);
    embedded.dynamodb.plan(|_| Some(Fault::InternalError));
    service.clock.advance(1_000);
    let reply = get(&service, KEY_SET).await;
    assert_eq!((reply.status, reply.code().as_deref()), (503, Some("ServiceUnavailable")));
    assert!(!reply.headers.contains_key("cache-control"), "a failure is not cacheable");
}

/// The function `keys` cannot read access keys, so it offers no route that needs a signature.
#[tokio::test]
async fn keys_function_serves_the_documents_only() {
    let (service, embedded) = service(Algorithm::Es256).await;
    let all = &service.service;
    let keys_function = Service {
        settings: Settings { ..settings() },
        store: all.store.clone(),
        key_cache: all.key_cache.clone(),
        entra: all.entra.clone(),
        clock: all.clock.clone(),
        random: all.random.clone(),
        audit: Arc::clone(&all.audit),
        functions: &[Function::Keys],
    };
    let secrets_read = embedded.secrets.calls();
    for (method, target, status) in [
        (Method::GET, KEY_SET, 200),
        (Method::POST, KEY_SET, 405),
        (Method::GET, "/.well-known/other", 404),
        (Method::POST, "/identities?api-version=2023-10-01", 404),
        (Method::POST, "/introspect", 404),
    ] {
        let reply = Reply::of(keys_function.handle(unsigned(method.clone(), target, HeaderMap::new())).await);
        assert_eq!(reply.status, status, "{method} {target}");
    }
    assert_eq!(embedded.secrets.calls(), secrets_read);
}
