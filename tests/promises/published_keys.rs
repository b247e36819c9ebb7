//! The key set and the discovery document are public, complete at every moment, and hold no private data.

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
use identity::keys::cache::KeyCache;
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

/// A request without a signature.
fn unsigned(method: Method, target: &str, headers: HeaderMap) -> Request {
    Request { method, target: Target::from_wire(target), headers, body: Body::Complete("".into()) }
}

async fn get(service: &TestService, target: &str) -> Reply {
    Reply::of(service.service.handle(unsigned(Method::GET, target, HeaderMap::new())).await)
}

/// The key set after the reuse of the last one has ended.
async fn key_set(service: &TestService) -> Value {
    service.clock.advance(1_000);
    let reply = get(service, KEY_SET).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json
}

/// RFC 7518 section 6: only members of public keys, and the members that describe their use.
fn assert_public(key_set: &Value) {
    let public: BTreeSet<_> = ["kty", "use", "alg", "kid", "n", "e", "crv", "x", "y"].into();
    let keys = key_set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 6, "a key and a standby key for each slot");
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

/// Tokens of both access keys that are minted at this moment verify with the key set of this moment.
async fn assert_set_verifies_new_tokens(service: &TestService, id: &str, moment: &str) -> [String; 2] {
    let set = key_set(service).await;
    assert_public(&set);
    let verifier = offline(service, &set);
    let mut tokens = [const { String::new() }; 2];
    for (place, slot) in tokens.iter_mut().zip([Slot::Primary, Slot::Secondary]) {
        *place = service.issue(service.key(slot), id).await.token().unwrap();
        assert_eq!(verifier.verify(place).unwrap().identity.to_string(), id, "{moment}");
    }
    tokens
}

#[tokio::test]
async fn the_key_set_verifies_new_tokens_throughout_a_rotation() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let (mut service, embedded) = service(algorithm).await;
        let id = service.create().await;
        let [before, _] = assert_set_verifies_new_tokens(&service, &id, "set up").await;
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
            assert_set_verifies_new_tokens(&service, &id, step).await;
        }
        let former = offline(&service, &key_set(&service).await).verify(&before);
        assert_eq!(
            former.unwrap_err(),
            TokenError::KeyNotInForce,
            "a verifier that fetches the set again sees the rotation"
        );
        service.replace_keys(Change::RegenerateAccessKey(AccessSlot::Primary)).await.unwrap();
        service.learn_access_keys().await;
        assert_set_verifies_new_tokens(&service, &id, "regenerated").await;
    }
}

/// A verifier that fetched the key set before a scheduled rotation accepts the tokens of after it. It refuses them after an
/// operator's rotation and a regeneration, because these replace the standby keys too.
#[tokio::test]
async fn a_kept_key_set_verifies_new_tokens_after_a_scheduled_rotation_only() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let (mut service, embedded) = service(algorithm).await;
        let id = service.create().await;
        for round in 1..=3 {
            let kept = offline(&service, &key_set(&service).await);
            let former = service.issue(&service.primary, &id).await.token().unwrap();
            service.rotate_on_schedule(&embedded, round).await;
            let fresh = service.issue(&service.primary, &id).await.token().unwrap();
            assert!(kept.verify(&fresh).is_ok(), "{algorithm:?}, rotation {round}");
            assert!(service.verify(&fresh).await.is_ok());
            assert!(service.verify(&former).await.is_err(), "S1");
        }
        for change in [Change::RotateSigningKeys, Change::RegenerateAccessKey(AccessSlot::Primary)] {
            let kept = offline(&service, &key_set(&service).await);
            service.replace_keys(change).await.unwrap();
            service.learn_access_keys().await;
            let fresh = service.issue(&service.primary, &id).await.token().unwrap();
            assert_eq!(kept.verify(&fresh).unwrap_err(), TokenError::KeyNotInForce, "{change:?}");
            assert!(service.verify(&fresh).await.is_ok());
        }
    }
}

/// The record fits into one read unit, 4 kB, beside RSA keys.
#[tokio::test]
async fn the_pointer_costs_one_read_unit() {
    for (algorithm, most) in [(Algorithm::Rs256, 3_400), (Algorithm::Es256, 2_000)] {
        let (service, _) = service(algorithm).await;
        let published = service.ports.pointers.pointer().await.unwrap().unwrap().published;
        // The names and the other values of the item, at their longest.
        let others = 300;
        let bytes = published.in_force().len() + published.standby().unwrap().len() + others;
        println!("{algorithm:?}: {bytes} bytes");
        assert!(bytes <= most, "{algorithm:?}: {bytes} bytes");
    }
}

/// An independent implementation, over OpenSSL, reads the set and verifies the tokens.
#[tokio::test]
async fn josekit_verifies_new_tokens_by_the_key_set() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let (service, _) = service(algorithm).await;
        let id = service.create().await;
        let tokens = assert_set_verifies_new_tokens(&service, &id, "set up").await;
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

/// An offline verifier sees no deletion. It sees signatures and lifetimes.
#[tokio::test]
async fn offline_a_deleted_users_token_is_valid_until_expiry() {
    let (service, _) = service(Algorithm::Es256).await;
    let id = service.create().await;
    let [token, _] = assert_set_verifies_new_tokens(&service, &id, "set up").await;
    let verifier = offline(&service, &key_set(&service).await);
    assert_eq!(service.delete(&id).await.status, 204);
    assert!(service.verify(&token).await.is_err());
    assert!(verifier.verify(&token).is_ok(), "the deletion is not seen");
    let mut altered = token.clone();
    altered.replace_range(token.len() - 8.., "AAAAAAAA");
    assert_eq!(verifier.verify(&altered).unwrap_err(), TokenError::Signature);
    service.clock.advance(24 * 3_600 * 1_000);
    assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::Expired);
}

#[tokio::test]
async fn the_documents_are_public_and_cacheable_for_a_minute() {
    let (service, _) = service(Algorithm::Rs256).await;
    for document in [KEY_SET, DISCOVERY] {
        let reply = get(&service, document).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["cache-control"], "public, max-age=60");
        assert_eq!(reply.headers["content-type"], "application/json; charset=utf-8");
        assert!(reply.text.len() < 150 * 1024, "an Application Load Balancer takes no larger one");
    }
    let discovery = get(&service, DISCOVERY).await.json;
    assert_eq!(
        discovery,
        json!({
            "issuer": "https://localhost:8443",
            "jwks_uri": "https://localhost:8443/.well-known/jwks.json",
            "introspection_endpoint": "https://localhost:8443/introspect",
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
        })
    );
}

#[tokio::test]
async fn documents_repeat_no_header_of_the_request() {
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

/// A request for a document needs no authentication. So it costs at most one read a second, and reads no secret.
#[tokio::test]
async fn a_flood_reads_the_pointer_once_a_second() {
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

/// The reuse of a document ends after a second, even if the pointer cannot be read.
#[tokio::test(start_paused = true)]
async fn without_the_pointer_there_is_no_document() {
    let (service, embedded) = service(Algorithm::Es256).await;
    assert_eq!(get(&service, KEY_SET).await.status, 200);
    embedded.dynamodb.plan(|_| Some(Fault::InternalError));
    service.clock.advance(1_000);
    let reply = get(&service, KEY_SET).await;
    assert_eq!((reply.status, reply.code().as_deref()), (503, Some("ServiceUnavailable")));
    assert!(!reply.headers.contains_key("cache-control"), "a failure is not cacheable");
}

/// The function `keys` reads no access keys, so it requires no signature. It loads nothing in advance: its first request
/// makes the only read.
#[tokio::test]
async fn keys_function_answers_404_and_405_without_reading_secrets() {
    let (service, embedded) = service(Algorithm::Es256).await;
    let all = &service.service;
    let alone = Service {
        settings: Settings { ..settings() },
        store: all.store.clone(),
        feed: all.feed.clone(),
        key_cache: Arc::new(KeyCache::new(service.ports.secret_store.clone())),
        entra: all.entra.clone(),
        clock: all.clock.clone(),
        token_clock: all.token_clock.clone(),
        random: all.random.clone(),
        audit: Arc::clone(&all.audit),
        functions: &[Function::Keys],
    };
    let calls = [embedded.dynamodb.calls(), embedded.secrets.calls()];
    alone.warm().await;
    for (method, target, status) in [
        (Method::GET, KEY_SET, 200),
        (Method::GET, DISCOVERY, 200),
        (Method::POST, KEY_SET, 405),
        (Method::GET, "/.well-known/other", 404),
        (Method::POST, "/identities?api-version=2023-10-01", 404),
        (Method::POST, "/introspect", 404),
    ] {
        let reply = Reply::of(alone.handle(unsigned(method.clone(), target, HeaderMap::new())).await);
        assert_eq!(reply.status, status, "{method} {target}");
    }
    assert_eq!(embedded.dynamodb.calls() - calls[0], 1);
    assert_eq!(embedded.secrets.calls(), calls[1]);
}
