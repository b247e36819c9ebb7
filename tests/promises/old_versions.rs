//! The versions before 2022-06-01, with the forms that only they have (docs/wire-contract.md#old-previews).

use e2e::entra_issuer::{APP, teams_token, trusting};
use e2e::signer::{Call, sign};
use e2e::test_service::{HOST, Ports, Reply, TestService};
use identity::keys::Algorithm;
use identity::runtime::Clock as _;
use identity::token::verify::VerifyError;
use serde_json::json;
use uuid::Uuid;

const OLDEST: &str = "api-version=2020-07-20-preview2";

async fn service() -> TestService {
    let (ports, _) = Ports::memory();
    TestService::new(ports, Algorithm::Es256, 91).await
}

async fn is_active(service: &TestService, token: &str) -> bool {
    match service.verify(token).await {
        Ok(_) => true,
        Err(VerifyError::Refused(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn create(service: &TestService) -> Reply {
    service.send("POST", &format!("/identities?{OLDEST}"), "").await
}

#[tokio::test]
async fn oldest_version_has_its_own_forms() {
    let service = service().await;
    let created = create(&service).await;
    let id = created.json["id"].as_str().unwrap().to_owned();
    assert_eq!((created.status, &created.text), (200, &format!(r#"{{"id":"{id}"}}"#)));
    for ignored in [r#"{"createTokenWithScopes":["chat"],"customId":""}"#, "[", "null"] {
        let reply = service.send("POST", &format!("/identities?{OLDEST}"), ignored).await;
        assert_eq!((reply.status, reply.json.as_object().unwrap().len()), (200, 1), "{ignored}");
    }
    let token_path = format!("/identities/{id}/token?{OLDEST}");
    let issue = async || {
        service.send("POST", &token_path, r#"{"scopes":["chat","voip"],"expiresInMinutes":1}"#).await
    };
    let issued = issue().await;
    let token = issued.token().unwrap();
    assert_eq!(issued.status, 200);
    assert_eq!(
        issued.text,
        format!(r#"{{"id":"{id}","token":"{token}","expiresOn":"2024-03-02T12:00:00+00:00"}}"#)
    );
    let path = format!("/identities/{id}?{OLDEST}");
    for body in [
        "",
        "{}",
        r#"{"tokensValidFrom":null}"#,
        r#"{"tokensValidFrom":"2020-01-01T00:00:00.000Z"}"#,
        r#"{"tokensValidFrom":"2024-03-01T12:00:00.0000000+00:00"}"#,
        r#"{"tokensValidFrom":"2024-03-01T12:04:59Z"}"#,
    ] {
        let token = issue().await.token().unwrap();
        assert!(is_active(&service, &token).await);
        let revoked = service.send("PATCH", &path, body).await;
        assert_eq!((revoked.status, revoked.text.as_str()), (204, ""), "{body}");
        assert!(!is_active(&service, &token).await, "{body}");
    }
    let token = issue().await.token().unwrap();
    for (body, target) in [
        (r#"{"tokensValidFrom":"2024-03-01T13:00:00Z"}"#, "tokensValidFrom"),
        (r#"{"tokensValidFrom":"yesterday"}"#, "tokensValidFrom"),
        (r#"{"tokensValidFrom":5}"#, "TokensValidFrom"),
    ] {
        let refused = service.send("PATCH", &path, body).await;
        assert_eq!((refused.status, refused.json["error"]["target"].as_str()), (400, Some(target)), "{body}");
    }
    assert!(is_active(&service, &token).await, "a refused revocation revokes nothing");
    let pstn = service.send("POST", &token_path, r#"{"scopes":["pstn"]}"#).await;
    let message = pstn.json["error"]["message"].as_str().unwrap();
    assert_eq!(pstn.status, 400);
    assert!(message.contains("'pstn'") && message.contains("chat, voip, chat.join"), "{message}");
    assert_eq!(service.send("DELETE", &path, "").await.status, 204);
    assert!(!is_active(&service, &token).await);
    assert_eq!(issue().await.code().as_deref(), Some("IdentityNotFound"));
    assert_eq!(service.send("PATCH", &path, "{}").await.code().as_deref(), Some("IdentityNotFound"));
}

#[tokio::test]
async fn each_form_belongs_to_its_versions() {
    let service = service().await;
    let id = service.create().await;
    let all = "2020-07-20-preview2, 2021-02-22-preview1, 2021-03-07, 2021-03-31-preview1, 2021-10-31-preview, \
               2022-06-01, 2022-10-01, 2023-10-01, 2025-03-02-preview, 2025-06-30, 2026-07-22, 2026-09-23";
    let versions: Vec<_> =
        all.split(", ").chain(["2021-11-01", "2025-03-31-preview", "2023-08-01"]).collect();
    for version in versions {
        let is_oldest = version == "2020-07-20-preview2";
        let is_known = all.contains(version);
        let has_profile = version == "2025-03-02-preview";
        let identity = format!("/identities/{id}");
        for (method, path, body, served) in [
            ("POST", "/identities".to_owned(), "{}", is_known),
            ("GET", identity.clone(), "", has_profile),
            ("PATCH", identity.clone(), "{}", is_oldest),
            ("POST", format!("{identity}/token"), r#"{"scopes":["chat"]}"#, is_oldest),
            (
                "POST",
                format!("{identity}/:issueAccessToken"),
                r#"{"scopes":["chat"]}"#,
                is_known && !is_oldest,
            ),
            ("POST", format!("{identity}/:revokeAccessTokens"), "", is_known && !is_oldest),
        ] {
            let reply = service.send(method, &format!("{path}?api-version={version}"), body).await;
            let place = format!("{method} {path} {version}");
            assert_eq!(reply.headers["api-supported-versions"], all, "{place}");
            if served {
                assert!(matches!(reply.status, 200 | 201 | 204), "{place}: {}", reply.text);
                continue;
            }
            let message = format!(
                "The HTTP resource that matches the request URI 'https://localhost:8443{path}' does not support the \
                 API version '{version}'."
            );
            assert_eq!(reply.code().as_deref(), Some("UnsupportedApiVersion"), "{place}");
            assert_eq!(reply.json["error"]["message"], message, "{place}");
        }
    }
}

#[tokio::test]
async fn old_teams_exchange_takes_only_a_token() {
    let service = service().await;
    let trusting = trusting(&service);
    let entra = teams_token(Uuid::from_u128(7));
    service.clock.advance(3_600_000);
    for version in ["2021-03-31-preview1", "2021-10-31-preview"] {
        let exchange = async |body: String| {
            let target = format!("/teamsUser/:exchangeAccessToken?api-version={version}");
            let call = Call { method: "POST", target: &target, body: &body };
            Reply::of(trusting.handle(sign(&call, &service.primary, HOST, service.clock.now())).await)
        };
        let good = exchange(json!({ "token": entra }).to_string()).await;
        assert_eq!(good.status, 200, "{}", good.text);
        assert_eq!(good.json["expiresOn"], "2024-03-02T12:00:00+00:00", "the end of the Entra token");
        let other = json!({ "token": entra, "appId": "x", "userId": 7, "extra": APP }).to_string();
        assert_eq!(exchange(other).await.status, 200, "{version} has no other member");
        for bad in ["", "a.b.c", &entra[..entra.len() - 8]] {
            let refused = exchange(json!({ "token": bad }).to_string()).await;
            assert_eq!((refused.status, refused.text.as_str()), (401, ""), "{version} {bad}");
            assert_eq!(refused.headers["content-length"], "0");
            for absent in ["content-type", "api-supported-versions"] {
                assert!(!refused.headers.contains_key(absent), "{absent}");
            }
        }
        let missing = exchange("{}".to_owned()).await;
        assert_eq!((missing.status, missing.code().as_deref()), (400, Some("ValidationError")), "{version}");
    }
}
