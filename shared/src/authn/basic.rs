//! HTTP Basic with the credential of a resource server (RFC 7617; RFC 6749 section 2.3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use super::Denial;
use crate::store::resource_servers::{ResourceServerId, SecretHash};

/// The scheme's name in `Authorization`.
pub const SCHEME: &str = "Basic";

/// Longest value after the scheme's name, in bytes. Each byte of an id and a secret may be percent-encoded.
const MAX_LENGTH: usize = 512;

/// The credential of a request. It proves nothing until its secret is compared with the stored one.
pub struct PresentedCredential {
    pub id: ResourceServerId,
    pub secret: SecretHash,
}

impl PresentedCredential {
    /// Parses the value after the scheme's name: the base64 of id, colon and secret. Both are form-urlencoded, because
    /// standard clients encode them so. An access key has another length, so it is refused here.
    ///
    /// # Errors
    /// [`Denial::Credential`]. The text never shows the value.
    pub fn parse(value: &str) -> Result<Self, Denial> {
        let is_short = value.len() <= MAX_LENGTH;
        let decoded = STANDARD.decode(value).ok().filter(|_| is_short).map(Zeroizing::new);
        let decoded = decoded.ok_or(Denial::Credential)?;
        let mut parts = decoded.splitn(2, |byte| *byte == b':');
        let (Some(id), Some(secret)) = (parts.next(), parts.next()) else { return Err(Denial::Credential) };
        let (id, secret) = (form_decoded(id)?, form_decoded(secret)?);
        let closed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if secret.len() != SecretHash::SECRET_LENGTH || !secret.bytes().all(closed) {
            return Err(Denial::Credential);
        }
        let id = id.parse().map_err(|_| Denial::Credential)?;
        Ok(Self { id, secret: SecretHash::of(&secret) })
    }
}

/// Decodes one value of `application/x-www-form-urlencoded`. A plus sign stands for a space, which neither an id nor a
/// secret has, so it needs no translation.
fn form_decoded(encoded: &[u8]) -> Result<Zeroizing<String>, Denial> {
    let decoded: Vec<u8> = percent_decode(encoded).collect();
    String::from_utf8(decoded).map(Zeroizing::new).map_err(|_| Denial::Credential)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "AAAAAAAAAAAAAAAAAAAA-_AAAAAAAAAAAAAAAAAAAAA";

    fn parse(text: &str) -> Result<String, Denial> {
        let found = PresentedCredential::parse(&STANDARD.encode(text))?;
        assert!(found.secret == SecretHash::of(SECRET));
        Ok(found.id.to_string())
    }

    #[test]
    fn plain_and_form_urlencoded_values_are_equal() {
        let encoded = SECRET.replace('-', "%2D").replace('_', "%5f").replacen('A', "%41", 1);
        for text in
            [format!("chat-api:{SECRET}"), format!("chat%2dapi:{encoded}"), format!("%63hat-api:{SECRET}")]
        {
            assert_eq!(parse(&text).unwrap(), "chat-api", "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let access_key = STANDARD.encode([7; 64]);
        for text in [
            String::new(),
            ":".to_owned(),
            SECRET.to_owned(),
            format!(":{SECRET}"),
            format!("chat-api:{SECRET}:"),
            format!("chat:api:{SECRET}"),
            format!("chat-api:{SECRET} "),
            format!("chat-api:{SECRET}A"),
            format!("chat-api:{}", &SECRET[1..]),
            format!("chat-api%00:{SECRET}"),
            format!("chat-api%3A{SECRET}"),
            format!("chat%252Dapi:{SECRET}"),
            format!("Chat-API:{SECRET}"),
            format!("ch\u{e4}t-api:{SECRET}"),
            format!("chat-api:%ff{}", &SECRET[1..]),
            format!("chat-api:+{}", &SECRET[1..]),
            format!("primary:{access_key}"),
            format!("chat-api:{access_key}"),
        ] {
            assert!(matches!(parse(&text), Err(Denial::Credential)), "{text}");
        }
        for value in ["", "%", "a b", "YTpi\u{e4}", "YTpi=", &"YTpi".repeat(200), "Y2hhdDph, YTpi"] {
            assert!(matches!(PresentedCredential::parse(value), Err(Denial::Credential)), "{value}");
        }
    }
}
