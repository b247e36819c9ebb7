//! The promise Quiet: no key, signature or token reaches an audit line or an error body, under any fault.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::faults::{CANARY, Fault};
use e2e::signer::{Call, sign};
use e2e::test_service::{HOST, Ports, Reply, TestService};
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use identity::secrets::SecretName;

#[tokio::test(start_paused = true)]
async fn no_secret_reaches_audit_lines_or_error_bodies() {
    let (ports, embedded) = Ports::embedded(41).await;
    let mut fixture = TestService::new(ports, Algorithm::Es256, 41).await;
    let pointer = fixture.ports.pointers.pointer().await.unwrap().unwrap();
    let mut secrets = vec![fixture.primary.clone(), fixture.secondary.clone(), CANARY.to_owned()];
    for (secret, version) in
        [(SecretName::AccessKeys, &pointer.access_keys), (SecretName::SigningKeys, &pointer.signing_keys)]
    {
        let document = fixture.ports.secret_store.read(secret, version).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(document.expose()).unwrap();
        let values = document.as_object().unwrap().values().map(|value| value.get("pkcs8").unwrap_or(value));
        secrets.extend(values.filter_map(|value| value.as_str().map(str::to_owned)));
    }
    assert_eq!(secrets.len(), 8, "the canary, the access keys twice, and three signing keys");
    let (mut bodies, mut tokens) = (Vec::new(), 0);
    let id = fixture.create().await;
    for fault in std::iter::once(None).chain(Fault::ALL.map(Some)) {
        embedded.dynamodb.plan(move |_| fault);
        embedded.secrets.plan(move |_| fault);
        for (method, target, body) in requests(&id) {
            let call = Call { method, target: &target, body };
            let mut request = sign(&call, &fixture.primary, HOST, fixture.clock.now());
            let signature = request.headers["authorization"].to_str().unwrap().to_owned();
            secrets.push(signature.rsplit_once("Signature=").unwrap().1.to_owned());
            let canary = STANDARD.encode(format!("canary {target}"));
            request.headers.insert("x-canary", canary.parse().unwrap());
            let product = format!("azsdk-x/1 {canary} {signature}");
            for name in ["user-agent", "x-ms-useragent", "traceparent"] {
                request.headers.insert(name, product.parse().unwrap());
            }
            secrets.push(canary);
            let reply = Reply::of(fixture.service.handle(request).await);
            match reply.token() {
                Some(token) => {
                    tokens += 1;
                    secrets.extend(token.split('.').map(str::to_owned));
                }
                None => bodies.push(reply.text),
            }
        }
        fixture.restart();
    }
    assert!(tokens > 0, "no token was issued");
    let written = fixture.audit.lines().join("\n") + &bodies.join("\n");
    assert!(written.len() > 5_000, "too little was written for a search: {written}");
    for secret in secrets {
        assert!(secret.len() > 8, "{secret:?} is too short to be a secret");
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
