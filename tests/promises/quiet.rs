//! Quiet: no key, signature or token reaches an audit line or an error body, whatever goes wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::faults::{CANARY, Fault};
use e2e::signer::{Call, sign};
use e2e::test_service::{HOST, Ports, Reply, TestService};
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use identity::secrets::SecretName;

#[tokio::test(start_paused = true)]
async fn no_secret_is_ever_written() {
    let (ports, embedded) = Ports::embedded(41).await;
    let mut service = TestService::new(ports, Algorithm::Es256, 41).await;
    let pointer = service.ports.pointers.pointer().await.unwrap().unwrap();
    let mut secrets = vec![service.primary.clone(), service.secondary.clone(), CANARY.to_owned()];
    for (secret, version) in
        [(SecretName::AccessKeys, &pointer.access_keys), (SecretName::SigningKeys, &pointer.signing_keys)]
    {
        let document = service.ports.secret_store.read(secret, version).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(document.expose()).unwrap();
        let texts = document.as_object().unwrap().values().map(|value| value.get("pkcs8").unwrap_or(value));
        secrets.extend(texts.filter_map(|text| text.as_str().map(str::to_owned)));
    }
    let mut bodies = Vec::new();
    let id = service.create().await;
    for fault in std::iter::once(None).chain(Fault::ALL.map(Some)) {
        embedded.dynamodb.plan(move |_| fault);
        embedded.secrets.plan(move |_| fault);
        for (method, target, body) in requests(&id) {
            let call = Call { method, target: &target, body };
            let mut request = sign(&call, &service.primary, HOST, service.clock.now());
            let signature = request.headers["authorization"].to_str().unwrap();
            secrets.push(signature.rsplit_once("Signature=").unwrap().1.to_owned());
            let canary = STANDARD.encode(format!("canary {target}"));
            request.headers.insert("x-canary", canary.parse().unwrap());
            secrets.push(canary);
            let reply = Reply::of(service.service.handle(request).await);
            match reply.token() {
                Some(token) => secrets.extend(token.split('.').map(str::to_owned)),
                None => bodies.push(reply.text),
            }
        }
        service.restart();
    }
    let written = service.audit.lines().join("\n") + &bodies.join("\n");
    assert!(written.len() > 5_000, "there is something to search");
    for secret in secrets.iter().filter(|secret| secret.len() > 8) {
        assert!(!written.contains(secret.as_str()), "{secret} was written");
    }
}

fn requests(id: &str) -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("POST", "/identities?api-version=2023-10-01".to_owned(), r#"{"createTokenWithScopes":["chat"]}"#),
        (
            "POST",
            format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01"),
            r#"{"scopes":["chat"]}"#,
        ),
        ("POST", format!("/identities/{id}/:issueAccessToken?api-version=2023-10-01"), r#"{"scopes":"#),
        ("POST", format!("/identities/{id}/:revokeAccessTokens?api-version=2023-10-01"), ""),
        ("POST", "/identities".to_owned(), ""),
        ("TRACE", "/identities?api-version=2023-10-01".to_owned(), ""),
    ]
}
