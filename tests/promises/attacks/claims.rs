//! Claims: a closed set of names, with exact types and values that agree with one another.

use e2e::test_service::HOST;
use identity::keys::Algorithm;
use identity::testing::NOON;
use identity::token::scope::Scope;
use identity::token::verify::TokenError;
use serde_json::json;

use super::forge::{Forge, Object, quoted, signed_by, signing_input};

const RESOURCE: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c776";
const ANOTHER: &str = "1b5cc06b-f352-4571-b1e6-d9b259b7c777";
const NUMBERS: [&str; 4] = ["exp", "iat", "rev", "scp"];

#[tokio::test]
async fn each_claim_occurs_once_with_its_type() {
    for forge in Forge::both().await {
        let mut rows = Vec::new();
        let mut row = |name: String, claims: Object| rows.push((name, forge.claims(claims)));
        assert_eq!(forge.claims.names().count(), 15);
        for claim in forge.claims.names() {
            let own = forge.claims.get(claim);
            let other_type =
                if NUMBERS.contains(&claim) { format!("\"{own}\"") } else { "1709294400".to_owned() };
            if claim != "scope" {
                row(format!("no {claim}"), forge.claims.without(claim));
            }
            let wrapped = [format!("[{own}]"), format!(r#"{{"{claim}":{own}}}"#), other_type];
            for value in ["null", "true", "[]", "{}"].map(str::to_owned).into_iter().chain(wrapped) {
                row(format!("{claim}: {value}"), forge.claims.with(claim, value));
            }
            let other = if NUMBERS.contains(&claim) { "1" } else { r#""chat""# };
            for (what, value) in [("itself", own), ("another", other), ("null", "null")] {
                row(format!("{claim} twice, {what} first"), forge.claims.led_by(claim, value));
                row(format!("{claim} twice, {what} last"), forge.claims.and(claim, value));
                let escaped = format!("\\u{:04x}{}", claim.as_bytes()[0], &claim[1..]);
                row(format!("{escaped} twice, {what} first"), forge.claims.led_by(&escaped, value));
            }
            row(format!("{claim} in capitals"), forge.claims.without(claim).and(&claim.to_uppercase(), own));
        }
        let further = [
            ("nbf", "0"),
            ("nbf", "1709294460"),
            ("nbf", "4102444800"),
            ("roles", "[]"),
            ("scopes", r#""chat""#),
            ("gen", "1"),
            ("tid", r#""72f988bf-86f1-41af-91ab-2d7cd011db47""#),
            ("cnf", "{}"),
            ("act", "{}"),
            ("", "1"),
            ("__proto__", "{}"),
            ("x", "1"),
            ("x", "null"),
        ];
        for (claim, value) in further {
            row(format!("one more, {claim}: {value}"), forge.claims.and(claim, value));
        }
        forge.refuse(TokenError::Claims, rows).await;
    }
}

#[tokio::test]
async fn the_claims_are_one_json_object() {
    const IN_ORDER: [&str; 15] = [
        "skypeid",
        "scp",
        "csi",
        "exp",
        "rgn",
        "acsScope",
        "resourceId",
        "resourceLocation",
        "iat",
        "iss",
        "aud",
        "sub",
        "jti",
        "rev",
        "scope",
    ];
    for forge in Forge::both().await {
        let valid = forge.claims.to_string();
        let values = IN_ORDER.map(|claim| forge.claims.get(claim)).join(",");
        let deep = "[".repeat(120) + &"]".repeat(120);
        let payloads = [
            ("nothing", String::new()),
            ("null", "null".to_owned()),
            ("a number", "1".to_owned()),
            ("a text", "sign, then verify".to_owned()),
            ("an empty object", "{}".to_owned()),
            ("an empty array", "[]".to_owned()),
            ("the claims as an array", format!("[{values}]")),
            ("the claims as an array, after white space", format!("\t [{values}]")),
            ("an array of the object", format!("[{valid}]")),
            ("a string of the object", json!(valid).to_string()),
            ("an object of the object", format!(r#"{{"claims":{valid}}}"#)),
            ("twice", format!("{valid}{valid}")),
            ("junk after", format!("{valid}x")),
            ("comma at the end", format!("{},}}", valid.strip_suffix('}').unwrap())),
            ("not closed", valid.strip_suffix('}').unwrap().to_owned()),
            ("120 levels more", forge.claims.and("x", deep).to_string()),
            ("1000 levels", "[".repeat(1_000)),
        ];
        forge.refuse(TokenError::Claims, payloads.map(|(name, payload)| (name, forge.claims(payload)))).await;
        let line = |claim| format!("\t\"{claim}\" : {}\r\n", forge.claims.get(claim));
        let lines = forge.claims.names().map(line).collect::<Vec<_>>().join(",");
        forge.accept("white space in JSON", &forge.claims(format!(" {{{lines}}}\n"))).await;
    }
}

#[tokio::test]
async fn other_signed_texts_are_not_access_tokens() {
    for forge in Forge::both().await {
        let audit = forge.service.audit.lines().pop().unwrap();
        let jwks = format!(r#"{{"keys":[{}]}}"#, serde_json::to_string(forge.key().jwk()).unwrap());
        let now = NOON.unix_timestamp();
        let id_token = json!({
            "iss": "https://localhost:8443", "aud": RESOURCE, "sub": forge.id, "iat": now, "exp": now + 3_600, "nonce": "n",
        });
        let logout = json!({
            "iss": "https://localhost:8443", "aud": RESOURCE, "sub": forge.id, "iat": now, "exp": now + 3_600, "jti": "1",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        let rows = [
            ("an audit line", audit),
            ("a key set", jwks),
            ("an id token", id_token.to_string()),
            ("a logout token", logout.to_string()),
            ("a header", forge.header.to_string()),
            ("a reply", json!({"token": forge.token, "expiresOn": "2024-03-02T12:00:00+00:00"}).to_string()),
        ];
        forge.refuse(TokenError::Claims, rows.map(|(name, payload)| (name, forge.claims(payload)))).await;
    }
}

#[tokio::test]
async fn the_issuer_matches_to_the_byte() {
    for forge in Forge::both().await {
        let issuers = quoted([
            "",
            "https://localhost:8443/",
            "https://LOCALHOST:8443",
            "HTTPS://localhost:8443",
            "http://localhost:8443",
            "https://localhost",
            "https://localhost:443",
            "https://localhost:08443",
            "https://user@localhost:8443",
            "https://localhost:8443@attacker.example",
            "https://localhost:8443.attacker.example",
            "https://localhost.:8443",
            "https://localhost:8443/v2.0",
            "https://localhost:8443?",
            "https://localhost:8443#",
            "https://localhost:8443\0",
            " https://localhost:8443",
            "https://localhost:8443 ",
            "https://localhost:844",
            "https://lоcalhost:8443",
            HOST,
            "localhost",
            "*",
            RESOURCE,
        ]);
        forge.refuse(TokenError::Issuer, forge.claim_rows("iss", issuers)).await;
    }
}

#[tokio::test]
async fn the_audience_is_only_this_resource() {
    for forge in Forge::both().await {
        let upper = RESOURCE.to_uppercase();
        let audiences = || {
            quoted([
                "",
                ANOTHER,
                &upper,
                "*",
                "1b5cc06bf3524571b1e6d9b259b7c776",
                "{1b5cc06b-f352-4571-b1e6-d9b259b7c776}",
                "urn:uuid:1b5cc06b-f352-4571-b1e6-d9b259b7c776",
                "1b5cc06b-f352-4571-b1e6-d9b259b7c776 ",
                "1b5cc06b-f352-4571-b1e6-d9b259b7c776,x",
                "1b5cc06b-f352-4571-b1e6-d9b259b7c776\0",
                "1b5cc06b-f352-4571-b1e6-d9b259b7c77",
                "https://localhost:8443",
                HOST,
                "https://communication.azure.com",
            ])
        };
        let mut rows = forge.claim_rows("aud", audiences());
        rows.extend(forge.claim_rows("resourceId", audiences()));
        forge.refuse(TokenError::Audience, rows).await;

        let thousand = vec![format!("\"{RESOURCE}\""); 50].join(",");
        let shapes = [
            format!(r#"["{RESOURCE}"]"#),
            format!(r#"["{RESOURCE}","{ANOTHER}"]"#),
            format!(r#"["{ANOTHER}","{RESOURCE}"]"#),
            format!(r#"{{"{RESOURCE}":true}}"#),
            format!("[{thousand}]"),
        ];
        forge.refuse(TokenError::Claims, forge.claim_rows("aud", shapes)).await;
        let huge = vec![format!("\"{RESOURCE}\""); 1_000].join(",");
        forge.refuse(TokenError::Structure, forge.claim_rows("aud", [format!("[{huge}]")])).await;
    }
}

/// The claims of a token for `id`.
fn of(forge: &Forge, id: &str) -> Object {
    let skype_id = id.strip_prefix("8:").unwrap_or(id);
    forge.claims.with("sub", json!(id)).with("skypeid", json!(skype_id))
}

#[tokio::test]
async fn the_subject_is_an_identity_of_this_resource() {
    for forge in Forge::both().await {
        let id = &forge.id;
        let user = &id[id.len() - 36..];
        let tenant = "72f988bf-86f1-41af-91ab-2d7cd011db47";
        let subjects = [
            String::new(),
            "8:".to_owned(),
            "8:acs:".to_owned(),
            id.replace(RESOURCE, ANOTHER),
            id.replace(RESOURCE, ""),
            id.replace("acs", "gcch-acs"),
            id.replace("acs", "dod-acs"),
            id.replace("acs", "ACS"),
            id.replace("acs", "аcs"),
            id.replace("8:", "28:"),
            id.replace("8:", "08:"),
            id.replace('_', "-"),
            id.replace('-', ""),
            id.to_uppercase(),
            format!("8:acs:{}", id[6..].to_uppercase()),
            format!("8:acs:{}_{user}", RESOURCE.to_uppercase()),
            format!("8:acs:{RESOURCE}_{}", user.to_uppercase().replacen('0', "O", 1)),
            format!("{id}\0"),
            format!("\0{id}"),
            format!("{id} "),
            format!(" {id}"),
            format!("{id}\n"),
            format!("{id}/"),
            format!("{id}_{id}"),
            format!("8:acs:{RESOURCE}_wf_{user}"),
            format!("8:acs:{ANOTHER}_wf_{tenant}_{user}"),
            format!("8:acs:{ANOTHER}_{tenant}_{user}"),
            format!("8:orgid:{user}"),
            format!("8:spool:{RESOURCE}_{user}"),
            format!("8:teamsvisitor:{user}"),
            format!("28:orgid:{user}"),
            "4:+15551234567".to_owned(),
            "4:anonymous".to_owned(),
            "x".repeat(900),
        ];
        let rows = subjects.iter().flat_map(|subject| {
            [
                (format!("all of it {subject:.90}"), forge.claims(of(&forge, subject))),
                (format!("sub alone {subject:.90}"), forge.claims(forge.claims.with("sub", json!(subject)))),
            ]
        });
        forge.refuse(TokenError::Claims, rows.collect::<Vec<_>>()).await;
        let huge = forge.claims(of(&forge, &"8:acs:".repeat(1 << 18)));
        forge.refuse(TokenError::Structure, [("1.5 MB", huge)]).await;

        let absent = format!("{}{}", &id[..id.len() - 12], "000000000000");
        let absent = [
            absent,
            format!("8:acs:{RESOURCE}_{}", "0".repeat(8) + "-0000-0000-0000-000000000000"),
            format!("8:acs:{RESOURCE}_wf_{tenant}_{user}"),
            format!("8:acs:{RESOURCE}_{tenant}_{user}"),
        ];
        let rows = absent.map(|id| (format!("no identity has the id {id}"), forge.claims(of(&forge, &id))));
        forge.refuse(TokenError::IdentityGone, rows).await;
    }
}

#[tokio::test]
async fn the_claims_agree_with_one_another() {
    for forge in Forge::both().await {
        let other = forge.service.create().await;
        let skype_id = forge.id.strip_prefix("8:").unwrap();
        let now = NOON.unix_timestamp();
        let skype_ids = [
            json!(""),
            json!(forge.id),
            json!(other.strip_prefix("8:").unwrap()),
            json!(skype_id.to_uppercase()),
            json!(skype_id.replace(RESOURCE, ANOTHER)),
            json!(format!("{skype_id} ")),
            json!(format!("{skype_id}\0")),
        ];
        let csis = [
            String::new(),
            (now - 1).to_string(),
            (now + 1).to_string(),
            format!("0{now}"),
            format!("+{now}"),
            format!("{now}.0"),
            format!("{now} "),
            format!("{now}000"),
            forge.claims.get("exp").to_owned(),
            "NaN".to_owned(),
        ];
        let scps = [
            "0",
            "1",
            "1024",
            "1791",
            "1793",
            "2816",
            "4294967295",
            "4294967296",
            "-1",
            "-1792",
            "1792.0",
            "1.792e3",
        ];
        let mut rows = forge.claim_rows("skypeid", skype_ids);
        rows.extend(forge.claim_rows("csi", csis.map(|csi| json!(csi))));
        rows.extend(forge.claim_rows("scp", scps));
        let others = forge.claims.with("sub", json!(other));
        rows.push(("the sub of another identity".to_owned(), forge.claims(others)));
        let later = forge.claims.with("iat", now + 1);
        rows.push(("iat alone a second later".to_owned(), forge.claims(later)));
        forge.refuse(TokenError::Claims, rows).await;
    }
}

#[tokio::test]
async fn region_location_and_token_id_have_their_form() {
    for forge in Forge::both().await {
        let long = "a".repeat(41);
        let names = || {
            quoted([
                "",
                " ",
                "UnitedStates",
                "united states",
                "united_states",
                "amer\0",
                "\u{e4}mer",
                "amer,emea",
                &long,
            ])
        };
        let mut rows = forge.claim_rows("rgn", names());
        rows.extend(forge.claim_rows("resourceLocation", names()));
        let digits = "07".repeat(16);
        let ids = ["", "7", &digits[1..], &format!("{digits}0"), &"A7".repeat(16), &"g7".repeat(16)];
        rows.extend(forge.claim_rows("jti", quoted(ids)));
        let doubled = ["chat,chat", "chat,voip,chat", "chat,", ",chat", "chat, voip"];
        rows.extend(forge.claim_rows("acsScope", quoted(doubled)));
        forge.refuse(TokenError::Claims, rows).await;
    }
}

#[tokio::test]
async fn tokens_of_another_deployment_are_refused() {
    for forge in Forge::both().await {
        let theirs = |issuer: &str| {
            let text = forge.claims.to_string().replace(RESOURCE, ANOTHER);
            text.replace("https://localhost:8443", issuer)
        };
        let unpublished = forge.unpublished_key();
        let header = forge.header.with("kid", json!(unpublished.id().as_str())).to_string();
        let by_unpublished_key = |claims: String| signed_by(&unpublished, &signing_input(&header, claims));
        let rows = [
            ("another issuer, our key", forge.claims(theirs("https://elsewhere.example"))),
            ("another issuer, their key", by_unpublished_key(theirs("https://elsewhere.example"))),
        ];
        forge.refuse(TokenError::Issuer, rows).await;
        let rows = [
            ("another resource, our key", forge.claims(theirs("https://localhost:8443"))),
            ("another resource, their key", by_unpublished_key(theirs("https://localhost:8443"))),
        ];
        forge.refuse(TokenError::Audience, rows).await;
        let rows = [("our claims, their key", by_unpublished_key(forge.claims.to_string()))];
        forge.refuse(TokenError::KeyNotInForce, rows).await;
    }
}

#[tokio::test]
async fn scopes_are_a_comma_list_of_known_names() {
    for forge in Forge::both().await {
        let mut values = quoted([
            "",
            ",",
            " ",
            "chat ",
            " chat",
            "Chat",
            "CHAT",
            "chat voip",
            "chat, voip",
            "chat;voip",
            "chat,",
            ",chat",
            "chat,,voip",
            "chat,admin",
            "admin",
            "*",
            "chat*",
            "chat.",
            "chat.joi",
            "chat.join.limited.x",
            "chat\0",
            "chаt",
            "1792",
            "[\"chat\"]",
        ])
        .to_vec();
        values.extend(
            ["[]", r#"["chat"]"#, r#"["chat","voip"]"#, r#"{"chat":true}"#, "1792"].map(str::to_owned),
        );
        // Without `scope`, so that only `acsScope` can be the reason.
        let claims = forge.claims.without("scope");
        let rows = values
            .into_iter()
            .map(|value| (format!("acsScope: {value:.60}"), forge.claims(claims.with("acsScope", value))));
        forge.refuse(TokenError::Claims, rows.collect::<Vec<_>>()).await;

        let sets: [(&str, &[Scope]); 5] = [
            ("chat", &[Scope::Chat]),
            ("chat.join", &[Scope::ChatJoin]),
            ("chat.join.limited", &[Scope::ChatJoinLimited]),
            ("voip.join,voip", &[Scope::VoipJoin, Scope::Voip]),
            ("voip,chat.join", &[Scope::Voip, Scope::ChatJoin]),
        ];
        for (text, scopes) in sets {
            let verified = forge.accept(text, &forge.claims(claims.with("acsScope", json!(text)))).await;
            assert_eq!(
                verified.claims.scopes.iter().collect::<Vec<_>>(),
                scopes,
                "exactly the scopes of {text}"
            );
        }
    }
}

#[tokio::test]
async fn scope_agrees_with_acs_scope() {
    for forge in Forge::both().await {
        let pair = |scopes: &str, scope: &str| {
            forge.claims(forge.claims.with("acsScope", json!(scopes)).with("scope", json!(scope)))
        };
        for (scopes, scope) in [("chat", "chat"), ("voip.join,chat", "voip.join chat")] {
            forge.accept(scope, &pair(scopes, scope)).await;
        }
        let differing = [
            ("chat", ""),
            ("chat", "voip"),
            ("chat", "chat voip"),
            ("chat.join", "chat"),
            ("chat,voip", "chat"),
            ("chat,voip", "chat,voip"),
            ("chat,voip", "voip chat"),
            ("chat,voip", "chat  voip"),
            ("chat,voip", "chat voip "),
            ("chat,voip", " chat voip"),
            ("chat,voip", "chat\tvoip"),
            ("chat", "chat chat"),
            ("chat", "Chat"),
            ("chat", "chat\0"),
        ];
        let rows = differing.map(|(scopes, scope)| (format!("{scopes}: {scope:?}"), pair(scopes, scope)));
        forge.refuse(TokenError::Claims, rows).await;
    }
}

#[tokio::test]
async fn the_revision_is_the_stored_one() {
    for forge in Forge::both().await {
        let other = ["0", "1", "3", "4", "18446744073709551615"];
        forge.refuse(TokenError::Revoked, forge.claim_rows("rev", other)).await;
        let no_revisions = [
            "-1",
            "-2",
            "-0",
            "2.0",
            "2e0",
            "2.5",
            "1e300",
            "18446744073709551616",
            "02",
            "+2",
            "0x2",
            "NaN",
            "\"2\"",
        ];
        forge.refuse(TokenError::Claims, forge.claim_rows("rev", no_revisions)).await;
    }
}

#[tokio::test]
async fn tokens_of_revoked_and_deleted_identities_are_refused() {
    let forge = Forge::new(Algorithm::Es256).await;
    let service = &forge.service;
    let [revoked, deleted] = [service.create().await, service.create().await];
    let of_revoked = service.issue(&service.primary, &revoked).await.token().unwrap();
    let of_deleted = service.issue(&service.primary, &deleted).await.token().unwrap();
    forge.accept("before", &of_revoked).await;
    forge.accept("before", &of_deleted).await;
    assert_eq!(service.revoke(&revoked).await.status, 204);
    assert_eq!(service.delete(&deleted).await.status, 204);
    forge.refuse(TokenError::Revoked, [("revoked", of_revoked)]).await;
    forge.refuse(TokenError::IdentityGone, [("deleted", of_deleted)]).await;
}
