//! Headers: exactly three members with exact values. No URL or key in a header is used.

use identity::token::verify::TokenError;
use serde_json::json;

use super::forge::{Forge, encode, quoted, signed_by, signing_input};

#[tokio::test]
async fn keys_in_the_header_are_refused() {
    for forge in Forge::both().await {
        let unpublished = forge.unpublished_key();
        let secrets = forge.embedded.secrets.calls();
        let jwk = serde_json::to_string(unpublished.jwk()).unwrap();
        let own_jwk = serde_json::to_string(forge.key().jwk()).unwrap();
        let certificate = "MIIBszCCAVmgAwIBAgIUTm90QVJlYWxDZXJ0aWZpY2F0ZTAKBggqhkjOPQQDAjAA";
        let members = [
            ("jwk", jwk.clone()),
            ("jwk", own_jwk),
            ("jwk", "null".to_owned()),
            ("jwks", format!(r#"{{"keys":[{jwk}]}}"#)),
            ("jku", r#""https://attacker.example/jwks.json""#.to_owned()),
            ("jku", r#""https://localhost:8443/redirect?to=https://attacker.example/""#.to_owned()),
            ("jku", r#""https://localhost:8443/../../jwks.json""#.to_owned()),
            ("jku", r#""https://localhost:8443@attacker.example/""#.to_owned()),
            ("jku", r#""file:///etc/passwd""#.to_owned()),
            ("jku", r#""http://169.254.169.254/latest/meta-data/""#.to_owned()),
            ("x5u", r#""https://attacker.example/chain.pem""#.to_owned()),
            ("x5u", r#""file:///dev/zero""#.to_owned()),
            ("x5c", format!(r#"["{certificate}"]"#)),
            ("x5c", "[]".to_owned()),
            ("x5t", r#""AAAAAAAAAAAAAAAAAAAAAAAAAAA""#.to_owned()),
            ("x5t#S256", format!(r#""{}""#, forge.key().id())),
        ];
        let rows = members.iter().flat_map(|(member, value)| {
            let header = forge.header.and(member, value);
            let named = header.with("kid", json!(unpublished.id().as_str()));
            let by_unpublished_key =
                |header: String| signed_by(&unpublished, &signing_input(header, forge.claims.to_string()));
            let tokens = [
                ("signed by the key in force", forge.header(&header)),
                ("signed by the unpublished key", by_unpublished_key(header.to_string())),
                (
                    "with the id of the unpublished key, and signed by it",
                    by_unpublished_key(named.to_string()),
                ),
                ("without a key id", by_unpublished_key(header.without("kid").to_string())),
            ];
            tokens.map(|(how, token)| (format!("{member}: {value:.40}, {how}"), token))
        });
        forge.refuse(TokenError::Header, rows.collect::<Vec<_>>()).await;
        assert_eq!(forge.embedded.secrets.calls(), secrets, "no secret was read");
    }
}

#[tokio::test]
async fn a_key_id_is_a_thumbprint() {
    for forge in Forge::both().await {
        let kid = forge.key().id().as_str();
        let texts = quoted([
            "",
            " ",
            "../../../../dev/null",
            "../../../../../../../../../../../../dev/nul",
            "/etc/passwd",
            "/proc/self/environ",
            "C:\\Windows\\win.ini",
            "file:///dev/null",
            "https://attacker.example/key",
            "key' OR '1'='1",
            "x' UNION SELECT 'secret' -- aaaaaaaaaaaaaaa",
            r#"{"$ne":null}"#,
            "attribute_exists(pk) OR :a = :a",
            "*)(uid=*))(|(uid=*",
            "$(curl attacker.example)",
            "`id`",
            "| id",
            "%00",
            "primary",
            "1",
        ]);
        let near = [
            format!("{kid} "),
            format!(" {kid}"),
            format!("{kid}\0"),
            format!("{kid}="),
            format!("{kid}\n"),
            format!("{kid}A"),
            format!("{kid}\u{200b}"),
            format!("{}\0", &kid[..42]),
            format!("{} ", &kid[..42]),
            format!("{}.", &kid[..42]),
            format!("{}а", &kid[..41]), // a Cyrillic letter of two bytes: still 43
            kid[..42].to_owned(),
            format!("{kid},{kid}"),
            "k".repeat(2_000),
        ];
        let near = near.map(|text| json!(text).to_string());
        let not_texts = ["null", "0", "1.5", "true", "[]", "{}"].map(str::to_owned);
        let wrapped = [format!(r#"["{kid}"]"#), format!(r#"{{"kid":"{kid}"}}"#)];
        let values = texts.into_iter().chain(near).chain(not_texts).chain(wrapped);
        let mut rows = forge.header_rows("kid", values);
        rows.push(("kid absent".to_owned(), forge.header(forge.header.without("kid"))));
        forge.refuse(TokenError::Header, rows).await;
        let huge = forge.header_rows("kid", [format!("{:?}", "k".repeat(1 << 20))]);
        forge.refuse(TokenError::Structure, huge).await;
    }
}

#[tokio::test]
async fn further_members_are_refused() {
    for forge in Forge::both().await {
        let members = [
            ("crit", r#"["exp"]"#),
            ("crit", "[]"),
            ("crit", r#"["x"]"#),
            ("crit", r#"["exp","exp"]"#),
            ("crit", r#""exp""#),
            ("crit", "null"),
            ("b64", "true"),
            ("b64", "false"),
            ("zip", r#""DEF""#),
            ("enc", r#""A256GCM""#),
            ("p2c", "2147483648"),
            ("p2s", r#""AAAA""#),
            ("epk", "{}"),
            ("apu", r#""""#),
            ("cty", r#""JWT""#),
            ("cty", r#""application/json""#),
            ("nonce", r#""1""#),
            ("url", r#""https://attacker.example/""#),
            ("iat", "1"),
            ("exp", "1"),
            ("harmless", r#""1""#),
            ("", "1"),
            ("__proto__", "{}"),
        ];
        let rows = members.map(|(member, value)| {
            (format!("{member}: {value}"), forge.header(forge.header.and(member, value)))
        });
        let critical = forge.header.and("crit", r#"["b64"]"#).and("b64", "false").to_string();
        let bare = format!("{}.{}", encode(&critical), forge.claims);
        let many = (0..200).fold(forge.header.clone(), |header, n| header.and(&n.to_string(), 1));
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let more = [
            ("crit b64, an encoded payload", forge.header(&critical)),
            ("crit b64, the payload as it is", signed_by(forge.key(), &bare)),
            ("200 members", forge.header(many)),
            ("100 levels", forge.header(forge.header.and("x", deep(100)))),
            ("1000 levels", forge.header(forge.header.and("x", deep(1_000)))),
            ("1000 levels, never closed", forge.header("[".repeat(1_000))),
            ("1000 objects, never closed", forge.header(r#"{"x":"#.repeat(400))),
        ];
        let more = more.map(|(name, token)| (name.to_owned(), token));
        forge.refuse(TokenError::Header, rows.into_iter().chain(more)).await;

        let too_many = (0..10_000)
            .fold(forge.header.to_string(), |header, n| header.replacen('{', &format!(r#"{{"{n}":1,"#), 1));
        let rows = [("10 000 members", forge.header(too_many))];
        forge.refuse(TokenError::Structure, rows).await;
    }
}

#[tokio::test]
async fn the_type_is_jwt() {
    for forge in Forge::both().await {
        let texts = quoted([
            "",
            "jwt",
            "Jwt",
            "JWT ",
            "JWT\0",
            "JWS",
            "JWE",
            "JOSE",
            "JOSE+JSON",
            "at+jwt",
            "application/at+jwt",
            "application/jwt",
            "id+jwt",
            "dpop+jwt",
            "logout+jwt",
            "secevent+jwt",
            "JWT,at+jwt",
            "ЈWT",
        ]);
        let other = ["null", "0", "true", "[]", r#"["JWT"]"#, "{}", r#"{"JWT":null}"#, r#"{"JWT":{}}"#];
        let mut rows = forge.header_rows("typ", texts.into_iter().chain(other.map(str::to_owned)));
        rows.push(("typ absent".to_owned(), forge.header(forge.header.without("typ"))));
        forge.refuse(TokenError::Header, rows).await;
    }
}

#[tokio::test]
async fn duplicate_members_are_refused() {
    for forge in Forge::both().await {
        let others = [
            ("alg", r#""none""#),
            ("alg", r#""HS256""#),
            ("alg", "null"),
            ("kid", r#""../../../../dev/null""#),
            ("kid", "null"),
            ("typ", r#""at+jwt""#),
            ("typ", "null"),
        ];
        let own = ["alg", "kid", "typ"].map(|member| (member, forge.header.get(member)));
        let unpublished = json!(forge.unpublished_key().id().as_str()).to_string();
        let rows = others.into_iter().chain(own).chain([("kid", unpublished.as_str())]);
        let rows = rows.flat_map(|(member, value)| {
            let escaped = format!("\\u{:04x}{}", member.as_bytes()[0], &member[1..]);
            [
                (format!("{member}: {value} first"), forge.header(forge.header.led_by(member, value))),
                (format!("{member}: {value} last"), forge.header(forge.header.and(member, value))),
                (format!("{escaped}: {value} first"), forge.header(forge.header.led_by(&escaped, value))),
                (format!("{escaped}: {value} last"), forge.header(forge.header.and(&escaped, value))),
            ]
        });
        forge.refuse(TokenError::Header, rows.collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn the_header_is_one_json_object() {
    for forge in Forge::both().await {
        let valid = forge.header.to_string();
        let [alg, kid, typ] = ["alg", "kid", "typ"].map(|member| forge.header.get(member));
        let headers = [
            ("nothing", String::new()),
            ("white space", " ".to_owned()),
            ("null", "null".to_owned()),
            ("true", "true".to_owned()),
            ("a number", "1".to_owned()),
            ("an empty object", "{}".to_owned()),
            ("an empty array", "[]".to_owned()),
            ("the members as an array", format!("[{alg},{kid},{typ}]")),
            ("the members as an array, after white space", format!(" \n[{alg},{kid},{typ}]")),
            ("an array of the object", format!("[{valid}]")),
            ("an object of the object", format!(r#"{{"header":{valid}}}"#)),
            ("a string of the object", json!(valid).to_string()),
            ("twice", format!("{valid}{valid}")),
            ("twice, comma", format!("{valid},{valid}")),
            ("junk after", format!("{valid}x")),
            ("NUL after", format!("{valid}\0")),
            ("comma at the end", valid.replace('}', ",}")),
            ("a comment", valid.replace('{', "{/**/")),
            ("single quotes", valid.replace('"', "'")),
            ("no quotes", valid.replace(r#""typ""#, "typ")),
            ("not closed", valid.replace('}', "")),
            ("not opened", valid.replace('{', "")),
            ("upper-case member", valid.replace("alg", "ALG")),
            ("member and space", valid.replace("alg", "alg ")),
            ("form feed", valid.replace('{', "{\u{c}")),
        ];
        forge.refuse(TokenError::Header, headers.map(|(name, header)| (name, forge.header(header)))).await;
        let same = [
            ("white space in JSON", format!(" {{ \"typ\" : {typ},\r\n\t\"kid\":{kid} ,\"alg\":{alg} }} ")),
            ("escapes in JSON", valid.replace("JWT", "\\u004aWT")),
        ];
        for (name, header) in same {
            forge.accept(name, &forge.header(header)).await;
        }
    }
}
