//! Times: whole seconds, a clock that may be wrong, and no overflow.

use std::collections::HashSet;

use identity::ids::RawId;
use identity::keys::Algorithm;
use identity::runtime::{Clock as _, Random as _};
use identity::store::Revision;
use identity::testing::{NOON, SeededRandom, settings};
use identity::token::claims::{Claims, Grant};
use identity::token::mint::mint;
use identity::token::scope::ScopeSet;
use identity::token::verify::{TokenError, VerifyError};

use super::forge::{Forge, Object};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// How far the `iat` of a token may be ahead of the verifier's clock (decision record 0004), in seconds.
const LEEWAY: i64 = 5 * 60;

/// The valid claims with another time of issue and another expiry.
fn lasting(forge: &Forge, iat: i64, exp: i64) -> Object {
    forge.claims.with("iat", iat).with("csi", format!("\"{iat}\"")).with("exp", exp)
}

#[tokio::test]
async fn times_are_whole_numbers() {
    const NOT_TIMES: [&str; 20] = [
        "1709380800.0",
        "1709380800.5",
        "1.7093808e9",
        "1e18",
        "1e300",
        "1e999",
        "-1e18",
        "-0",
        "-0.0",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "NaN",
        "Infinity",
        "-Infinity",
        "01709380800",
        "+1709380800",
        "0x65E1D1C0",
        "\"NaN\"",
    ];
    for forge in Forge::both().await {
        let mut rows = forge.claim_rows("exp", NOT_TIMES);
        rows.extend(forge.claim_rows("iat", NOT_TIMES));
        forge.refuse(TokenError::Claims, rows).await;
        let past = ["0", "1", "-1", "-1709380800", "-9223372036854775808"];
        forge.refuse(TokenError::Expired, forge.claim_rows("exp", past)).await;
        let far =
            ["1000000000000000000", "9007199254740993", "4294967296", "253402300800", "9223372036854775807"];
        forge.refuse(TokenError::Lifetime, forge.claim_rows("exp", far)).await;
    }
}

#[tokio::test]
async fn validity_ends_at_expiry_after_a_day_at_most() {
    for forge in Forge::both().await {
        let now = NOON.unix_timestamp();
        let token = |iat, exp| forge.claims(lasting(&forge, iat, exp));
        let valid = [
            ("ends in a second", token(now, now + 1)),
            ("a day of validity from now", token(now, now + DAY)),
            ("a day of validity, in its last second", token(now + 1 - DAY, now + 1)),
            ("issued at the leeway", token(now + LEEWAY, now + LEEWAY + 1)),
            ("and valid for a day", token(now + LEEWAY, now + LEEWAY + DAY)),
        ];
        for (name, token) in &valid {
            forge.accept(name, token).await;
        }
        forge.service.clock.advance(999);
        for (name, token) in &valid {
            forge.accept(&format!("{name}, 999 milliseconds later"), token).await;
        }
        forge.service.clock.advance(-999);

        let expired = [
            ("ends now", token(now - HOUR, now)),
            ("ended a second ago", token(now - HOUR, now - 1)),
            ("ended at its issue", token(now, now)),
            ("ended before its issue", token(now, now - HOUR)),
            ("ended in 1901", token(-2_147_483_649 - HOUR, -2_147_483_649)),
            ("the least of all", token(i64::MIN, i64::MIN)),
        ];
        forge.refuse(TokenError::Expired, expired).await;
        let early = [
            ("issued a second too far ahead", token(now + LEEWAY + 1, now + HOUR)),
            ("issued an hour ahead", token(now + HOUR, now + 2 * HOUR)),
            ("issued at the end of time", token(i64::MAX, i64::MAX)),
            ("issued at the end of time, ends earlier", token(i64::MAX, now + HOUR)),
        ];
        forge.refuse(TokenError::TooEarly, early).await;
        let too_long = [
            ("a day and a second", token(now, now + DAY + 1)),
            ("a day and a second, nearly over", token(now - DAY, now + 1)),
            ("two days", token(now - DAY, now + DAY)),
            ("issued in 1970", token(0, now + HOUR)),
            ("issued before time", token(i64::MIN, now + HOUR)),
            ("from the beginning to the end", token(i64::MIN, i64::MAX)),
            ("no validity, ahead", token(now + LEEWAY, now + LEEWAY)),
            ("ends before its issue, ahead", token(now + LEEWAY, now + LEEWAY - 2)),
        ];
        forge.refuse(TokenError::Lifetime, too_long).await;
    }
}

#[tokio::test]
async fn a_token_may_expire_during_its_verification() {
    let forge = Forge::new(Algorithm::Es256).await;
    let now = NOON.unix_timestamp();
    let token = forge.claims(lasting(&forge, now, now + 1));
    forge.accept("valid for a second", &token).await;
    let clock = forge.service.clock.clone();
    forge.embedded.dynamodb.plan(move |_| {
        clock.advance(1_000);
        None
    });
    let (outcome, reads) = forge.verdict(&forge.service.verifier, &token).await;
    assert!(matches!(outcome, Err(VerifyError::Refused(TokenError::Expired))), "{outcome:?}");
    assert_eq!(reads, 1, "the token was valid before the read");
}

#[tokio::test]
async fn clocks_may_differ_within_the_leeway() {
    for forge in Forge::both().await {
        forge.accept("by the right clock", &forge.token).await;
        let clock = &forge.service.clock;
        let cases = [
            (-10 * 60_000, Some(TokenError::TooEarly)),
            (-LEEWAY * 1_000 - 1_000, Some(TokenError::TooEarly)),
            (-LEEWAY * 1_000 - 1, Some(TokenError::TooEarly)),
            (-LEEWAY * 1_000, None),
            (-90_000, None),
            (0, None),
            (10 * 60_000, None),
            (DAY * 1_000 - 1, None),
            (DAY * 1_000, Some(TokenError::Expired)),
            (DAY * 1_000 + 10 * 60_000, Some(TokenError::Expired)),
        ];
        for (off, error) in cases {
            clock.advance(off);
            let (outcome, reads) = forge.verdict(&forge.service.verifier, &forge.token).await;
            match error {
                None => assert!(outcome.is_ok(), "{off} ms: {outcome:?}"),
                Some(error) => {
                    assert!(
                        matches!(outcome, Err(VerifyError::Refused(found)) if found == error),
                        "{off} ms: {outcome:?}"
                    );
                    assert_eq!(reads, 0, "{off} ms");
                }
            }
            clock.advance(-off);
        }
    }
}

#[tokio::test]
async fn tokens_are_minted_and_verified_in_any_year() {
    // The end of the first day, the seconds around a leap second, the ends of 31 and 32 bits, the last year.
    const MOMENTS: [i64; 9] = [
        DAY,
        1_483_228_799,
        1_483_228_800,
        2_147_483_646,
        2_147_483_648,
        4_294_967_295,
        4_294_967_296,
        253_380_000_000,
        253_402_300_799 - DAY,
    ];
    for forge in Forge::both().await {
        let service = &forge.service;
        for moment in MOMENTS {
            service.clock.advance((moment - service.clock.now().unix_timestamp()) * 1_000);
            let token = service.issue(&service.primary, &forge.id).await.token().unwrap();
            let verified = forge.accept("minted now", &token).await;
            assert_eq!((verified.claims.iat, verified.claims.exp), (moment, moment + DAY));
            let one_more = forge.claims(lasting(&forge, moment, moment + DAY + 1));
            let outcome = service.verify(&one_more).await;
            assert!(matches!(outcome, Err(VerifyError::Refused(TokenError::Lifetime))), "{outcome:?}");
            service.clock.advance(DAY * 1_000);
            let outcome = service.verify(&token).await;
            assert!(matches!(outcome, Err(VerifyError::Refused(TokenError::Expired))), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_revives_nothing() {
    for forge in Forge::both().await {
        let service = &forge.service;
        let issue = async || service.issue(&service.primary, &forge.id).await.token().unwrap();
        let refused = async |token: &str, error: TokenError| {
            let outcome = service.verify(token).await;
            assert!(matches!(outcome, Err(VerifyError::Refused(found)) if found == error), "{outcome:?}");
        };
        let before = issue().await;
        forge.accept("before", &before).await;
        service.clock.advance(-HOUR * 1_000);
        refused(&before, TokenError::TooEarly).await;
        let earlier = issue().await;
        forge.accept("minted an hour earlier, after it", &earlier).await;
        assert_eq!(service.revoke(&forge.id).await.status, 204);
        refused(&earlier, TokenError::Revoked).await;
        let fresh = issue().await;
        forge.accept("minted after the revocation", &fresh).await;
        // The clock advances: to the leeway, to the old time, and an hour further.
        for advance in [HOUR - LEEWAY, LEEWAY, HOUR] {
            service.clock.advance(advance * 1_000);
            refused(&before, TokenError::Revoked).await;
            refused(&earlier, TokenError::Revoked).await;
            forge.accept("still active", &fresh).await;
        }
        service.clock.advance(-HOUR * 1_000 - DAY * 1_000);
        refused(&before, TokenError::TooEarly).await;
        assert_eq!(service.revoke(&forge.id).await.status, 204);
        service.clock.advance(DAY * 1_000);
        refused(&fresh, TokenError::Revoked).await;
        refused(&before, TokenError::Revoked).await;
    }
}

#[tokio::test]
async fn token_ids_are_unique() {
    let forge = Forge::new(Algorithm::Es256).await;
    let identity: RawId = forge.id.parse().unwrap();
    let scopes = ScopeSet::parse(["chat"]).unwrap();
    let resource = settings().resource;
    let random = SeededRandom::new(54);
    let (issued_at, expires_at) = (NOON.unix_timestamp(), NOON.unix_timestamp() + HOUR);
    let mut seen = HashSet::new();
    for count in 0..100_000 {
        let mut token_id = [0; 16];
        random.fill(&mut token_id);
        let grant = Grant {
            identity: &identity,
            scopes: &scopes,
            revision: Revision::new(2),
            issued_at,
            expires_at,
            token_id,
            teams: None,
        };
        let claims = Claims::of(&resource, &grant);
        if count % 1_000 == 0 {
            assert!(claims.jti.len() == 32 && claims.jti.bytes().all(|b| b.is_ascii_hexdigit()));
            let token = mint(&claims, forge.key()).unwrap();
            assert_eq!(forge.service.verify(token.expose()).await.unwrap().claims.jti, claims.jti);
        }
        assert!(seen.insert(claims.jti), "after {count}");
    }
    let mut minted = HashSet::new();
    for _ in 0..200 {
        let token = forge.service.issue(&forge.service.primary, &forge.id).await.token().unwrap();
        assert!(minted.insert(forge.service.verify(&token).await.unwrap().claims.jti.clone()));
    }
}
