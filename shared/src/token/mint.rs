//! Minting of access tokens from claims and a signing key. No other code signs tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::AccessToken;
use super::claims::Claims;
use super::header::{TokenHeader, TokenType};
use crate::keys::KeyMaterialError;
use crate::keys::signing::SigningKey;

/// Signs the claims: a compact JWS (RFC 7515 section 3.1) over compact ASCII JSON.
///
/// # Errors
/// [`KeyMaterialError`] when signing fails.
pub fn mint(claims: &Claims, key: &SigningKey) -> Result<AccessToken, KeyMaterialError> {
    const UNWRITABLE: KeyMaterialError = KeyMaterialError("a token cannot be written as JSON");
    let header = TokenHeader { alg: key.algorithm(), kid: key.id().clone(), typ: TokenType::Jwt };
    let header = serde_json::to_vec(&header).map_err(|_| UNWRITABLE)?;
    let payload = serde_json::to_vec(claims).map_err(|_| UNWRITABLE)?;
    let mut token = Zeroizing::new(String::with_capacity(1024));
    URL_SAFE_NO_PAD.encode_string(header, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(AccessToken(token))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use proptest::prelude::*;

    use super::*;
    use crate::ids::UserId;
    use crate::keys::Algorithm;
    use crate::store::Revision;
    use crate::testing::{self, SeededRandom};
    use crate::token::claims::Grant;
    use crate::token::scope::{Scope, ScopeSet};

    fn claims(seed: u64, picks: &[usize], issued_at: i64, revision: u64) -> Claims {
        let resource = testing::settings().resource;
        let random = SeededRandom::new(seed);
        let identity = UserId::mint(resource.id, testing::NOON, &random).into();
        let scopes = ScopeSet::parse(picks.iter().map(|pick| Scope::ALL[*pick].as_str())).unwrap();
        let grant = Grant {
            identity: &identity,
            scopes: &scopes,
            revision: Revision::new(revision),
            issued_at,
            expires_at: issued_at + 3_600,
            token_id: [7; 16],
            teams: None,
        };
        Claims::of(&resource, &grant)
    }

    #[test]
    fn a_token_has_the_documented_text() {
        let claims = claims(1, &[1, 0], 1_709_294_400, 1);
        let token = mint(&claims, &testing::signing_key(Algorithm::Rs256, 0)).unwrap();
        let parts: Vec<_> = token.expose().split('.').collect();
        let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let kid = testing::signing_key(Algorithm::Rs256, 0).id().to_string();
        assert_eq!(text(parts[0]), format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"JWT"}}"#));
        let user = claims.skypeid.strip_prefix("acs:").unwrap();
        assert_eq!(
            text(parts[1]),
            format!(
                concat!(
                    r#"{{"skypeid":"acs:{user}","scp":1792,"csi":"1709294400","exp":1709298000,"rgn":"amer","#,
                    r#""acsScope":"voip,chat","resourceId":"1b5cc06b-f352-4571-b1e6-d9b259b7c776","#,
                    r#""resourceLocation":"unitedstates","iat":1709294400,"iss":"https://localhost:8443","#,
                    r#""aud":"1b5cc06b-f352-4571-b1e6-d9b259b7c776","sub":"8:acs:{user}","#,
                    r#""jti":"07070707070707070707070707070707","rev":1,"scope":"voip chat"}}"#
                ),
                user = user
            )
        );
    }

    proptest! {
        // Python and Java decode the payload with the standard alphabet
        // (docs/wire-contract.md#token-readers).
        #[test]
        fn both_base64_alphabets_decode_the_payload(
            seed: u64,
            picks in prop::collection::vec(0_usize..5, 1..6),
            issued_at in 0_i64..4_102_444_800,
            revision: u64,
        ) {
            let claims = claims(seed, &picks, issued_at, revision);
            let token = mint(&claims, &testing::signing_key(Algorithm::Es256, 0)).unwrap();
            let payload = token.expose().split('.').nth(1).unwrap();
            prop_assert!(!payload.contains(['-', '_']));
            let bytes = STANDARD_NO_PAD.decode(payload).unwrap();
            prop_assert!(bytes.is_ascii());
            prop_assert_eq!(serde_json::from_slice::<Claims>(&bytes).unwrap(), claims);
        }
    }
}
