//! Forged tokens: they are signed with a key in force, and given to the verifiers.

use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::router::{Shape, Verdict, ask};
use e2e::test_service::{Embedded, Ports, TestService};
use identity::keys::signing::{SigningKey, SigningKeys};
use identity::keys::{Algorithm, Slot};
use identity::secrets::SecretName;
use identity::testing::{settings, signing_key};
use identity::token::verify::{Expected, TokenError, Verified, Verifier, VerifyError};
use serde_json::Value;

/// The text of a JSON object: members in order, with raw values.
#[derive(Clone)]
pub struct Object(Vec<(String, String)>);

/// A resource, its private keys, and the parts of one valid token.
pub struct Forge {
    pub algorithm: Algorithm,
    pub service: TestService,
    pub embedded: Embedded,
    pub keys: SigningKeys,
    /// The identity, at revision 2.
    pub id: String,
    /// The valid token, minted through the primary key.
    pub token: String,
    pub header: Object,
    pub claims: Object,
}

impl Object {
    fn decode(part: &str) -> Self {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        let Value::Object(members) = serde_json::from_slice(&bytes).unwrap() else { unreachable!() };
        Self(members.into_iter().map(|(name, value)| (name, value.to_string())).collect())
    }

    /// The raw value of a member.
    pub fn get(&self, member: &str) -> &str {
        &self.0.iter().find(|(name, _)| name == member).unwrap().1
    }

    /// The members' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// This object with another value for an existing member.
    pub fn with(&self, member: &str, value: impl Display) -> Self {
        let mut changed = self.clone();
        changed.0.iter_mut().find(|(name, _)| name == member).unwrap().1 = value.to_string();
        changed
    }

    /// This object without an existing member.
    pub fn without(&self, member: &str) -> Self {
        assert!(self.names().any(|name| name == member));
        Self(self.0.iter().filter(|(name, _)| name != member).cloned().collect())
    }

    /// This object with one more member at its end. The name may occur already.
    pub fn and(&self, member: &str, value: impl Display) -> Self {
        Self(self.0.iter().cloned().chain([(member.to_owned(), value.to_string())]).collect())
    }

    /// This object with one more member before the others. The name may occur already.
    pub fn led_by(&self, member: &str, value: impl Display) -> Self {
        Self([(member.to_owned(), value.to_string())].into_iter().chain(self.0.iter().cloned()).collect())
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members: Vec<_> = self.0.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        write!(f, "{{{}}}", members.join(","))
    }
}

/// JSON strings of these texts.
pub fn quoted<const N: usize>(texts: [&str; N]) -> [String; N] {
    texts.map(|text| Value::from(text).to_string())
}

/// Base64url without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes hexadecimal digits.
pub fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The signing input of this header and payload.
pub fn signing_input(header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    format!("{}.{}", encode(header), encode(payload))
}

/// A token of this signing input, signed by any key.
pub fn signed_by(key: &SigningKey, signed: &str) -> String {
    format!("{signed}.{}", encode(key.sign(signed.as_bytes()).unwrap()))
}

impl Forge {
    /// One resource for each algorithm.
    pub async fn both() -> [Self; 2] {
        [Self::new(Algorithm::Rs256).await, Self::new(Algorithm::Es256).await]
    }

    pub async fn new(algorithm: Algorithm) -> Self {
        let (ports, embedded) = Ports::embedded(56).await;
        let service = TestService::new(ports, algorithm, 56).await;
        let id = service.create().await;
        assert_eq!(service.revoke(&id).await.status, 204);
        let token = service.issue(&service.primary, &id).await.token().unwrap();
        service.verifier.warm().await;
        let pointer = service.ports.pointers.pointer().await.unwrap().unwrap();
        let document =
            service.ports.secret_store.read(SecretName::SigningKeys, &pointer.signing_keys).await.unwrap();
        let keys = SigningKeys::parse(&document).unwrap();
        let mut parts = token.split('.');
        let header = Object::decode(parts.next().unwrap());
        let claims = Object::decode(parts.next().unwrap());
        Self { algorithm, service, embedded, keys, id, token, header, claims }
    }

    /// The key that signed the valid token.
    pub fn key(&self) -> &SigningKey {
        self.keys.of(Slot::Primary)
    }

    /// The private key of [`Self::key`], as PKCS#8.
    pub fn pkcs8(&self) -> Vec<u8> {
        let document: Value = serde_json::from_slice(self.keys.to_document().expose()).unwrap();
        STANDARD.decode(document["primary"]["pkcs8"].as_str().unwrap()).unwrap()
    }

    /// A key of the same algorithm that was never published.
    pub fn unpublished_key(&self) -> SigningKey {
        signing_key(self.algorithm, 23)
    }

    /// The three parts of the valid token.
    pub fn parts(&self) -> [&str; 3] {
        let parts: Vec<_> = self.token.split('.').collect();
        parts.try_into().unwrap()
    }

    /// The signing input of the valid token: its first two parts.
    pub fn signed(&self) -> &str {
        self.token.rsplit_once('.').unwrap().0
    }

    /// The signature of the valid token.
    pub fn signature(&self) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(self.parts()[2]).unwrap()
    }

    /// A header and a payload of any bytes, signed by the key in force.
    pub fn compact(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        signed_by(self.key(), &signing_input(header, payload))
    }

    /// Another header with the valid claims, signed by the key in force.
    pub fn header(&self, header: impl Display) -> String {
        self.compact(header.to_string(), self.claims.to_string())
    }

    /// Other claims with the valid header, signed by the key in force.
    pub fn claims(&self, claims: impl Display) -> String {
        self.compact(self.header.to_string(), claims.to_string())
    }

    /// The valid header and claims with another signature.
    pub fn signed_with(&self, signature: impl AsRef<[u8]>) -> String {
        format!("{}.{}", self.signed(), encode(signature))
    }

    /// The valid token with another text for one part. It is signed again if the signature covers that part.
    pub fn with_part(&self, part: usize, text: &str) -> String {
        let mut parts = self.parts();
        parts[part] = text;
        if part < 2 { signed_by(self.key(), &parts[..2].join(".")) } else { parts.join(".") }
    }

    /// A valid token with a signature for which `property` is `Some`, and the value of `property`.
    pub fn some_token<T>(&self, property: impl Fn(&[u8]) -> Option<T>) -> (String, T) {
        let tokens = (0..100_000).map(|n| self.claims(self.claims.with("jti", format!("\"{n:032x}\""))));
        let mut found = tokens.filter_map(|token| {
            let signature = token.rsplit_once('.').unwrap().1;
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            property(&signature).map(|found| (token, found))
        });
        found.next().unwrap()
    }

    /// A row for each value of a header member.
    pub fn header_rows<V: Display>(
        &self,
        member: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Vec<(String, String)> {
        let row = |value| (format!("{member}: {value:.60}"), self.header(self.header.with(member, value)));
        values.into_iter().map(|value| row(value.to_string())).collect()
    }

    /// A row for each value of a claim.
    pub fn claim_rows<V: Display>(
        &self,
        claim: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Vec<(String, String)> {
        let row = |value| (format!("{claim}: {value:.60}"), self.claims(self.claims.with(claim, value)));
        values.into_iter().map(|value| row(value.to_string())).collect()
    }

    /// A verifier that has not read the published keys yet.
    pub fn cold_verifier(&self) -> Verifier {
        let expected = Expected::from(&settings().resource);
        Verifier::new(expected, self.service.ports.store.clone(), self.service.clock.clone())
    }

    /// The result of a verification, and the number of reads of the store.
    pub async fn verdict(&self, verifier: &Verifier, token: &str) -> (Result<Verified, VerifyError>, usize) {
        let before = self.embedded.dynamodb.calls();
        let outcome = verifier.verify(token).await;
        (outcome, self.embedded.dynamodb.calls() - before)
    }

    /// Checks that a verifier with cached keys and a verifier without them accept the token.
    pub async fn accept(&self, name: &str, token: &str) -> Verified {
        let cold = self.cold_verifier();
        let mut found = None;
        // A verifier without keys reads them first, without the identity.
        for (verifier, needed) in [(self.service.verifier.as_ref(), 1), (&cold, 2)] {
            let (outcome, reads) = self.verdict(verifier, token).await;
            assert_eq!(reads, needed, "{:?}, {name}: {outcome:?}", self.algorithm);
            found = Some(outcome.unwrap());
        }
        found.unwrap()
    }

    /// Checks that every row is refused with this error, by a verifier with cached keys and by a verifier without them. A
    /// token that is invalid by itself causes no read of the store. The replies over the wire are the same for every row.
    /// The valid token is accepted before and after the rows.
    pub async fn refuse<N: Display>(&self, error: TokenError, rows: impl IntoIterator<Item = (N, String)>) {
        self.accept("the valid token", &self.token).await;
        let (mut seen, mut wrong) = (0, Vec::new());
        let secrets_read = self.embedded.secrets.calls();
        for (name, token) in rows {
            let cold = self.cold_verifier();
            for (verifier, has_keys) in [(self.service.verifier.as_ref(), true), (&cold, false)] {
                let (outcome, reads) = self.verdict(verifier, &token).await;
                let refused = matches!(outcome, Err(VerifyError::Refused(found)) if found == error);
                if !refused || reads != reads_needed(error, has_keys) {
                    wrong.push(format!("{:?}, {name}: {outcome:?} after {reads} reads", self.algorithm));
                }
            }
            if let Err(difference) = self.check_replies(&token).await {
                wrong.push(format!("{:?}, {name}: {difference}", self.algorithm));
            }
            seen += 1;
        }
        assert!(seen > 0, "a table without rows");
        assert_eq!(self.embedded.secrets.calls(), secrets_read, "a token caused a read of a secret");
        assert!(wrong.is_empty(), "not refused as {error:?}:\n{}", wrong.join("\n"));
        self.accept("the valid token, after the table", &self.token).await;
    }
}

impl Forge {
    /// Checks that introspection and the authorizers answer as for every invalid token. The error describes the difference.
    async fn check_replies(&self, token: &str) -> Result<(), String> {
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish();
        let reply = self.service.send("POST", "/introspect", &form).await;
        let inactive = (reply.status, reply.text.as_str()) == (200, r#"{"active":false}"#);
        let is_blank = token.trim().is_empty();
        if (is_blank && reply.status != 400) || (!is_blank && !inactive) {
            return Err(format!("introspection answers {} {}", reply.status, reply.text));
        }
        // A gateway never receives a text that a header cannot hold.
        if http::HeaderValue::from_str(token).is_err() {
            return Ok(());
        }
        for (shape, expected) in [(Shape::Http, Verdict::Forbidden), (Shape::Rest, Verdict::Unauthorized)] {
            let verdict = ask(&self.service.authorizer, shape, "GET", "/chat/threads", token).await;
            if verdict != expected {
                return Err(format!("the {shape:?} authorizer answers {verdict:?}"));
            }
        }
        Ok(())
    }
}

/// The number of reads of the store before this error.
fn reads_needed(error: TokenError, has_keys: bool) -> usize {
    match error {
        TokenError::Structure
        | TokenError::Text(_)
        | TokenError::Header
        | TokenError::Claims
        | TokenError::Audience
        | TokenError::Issuer
        | TokenError::Expired
        | TokenError::TooEarly
        | TokenError::Lifetime => 0,
        TokenError::Signature => usize::from(!has_keys),
        TokenError::KeyNotInForce => 1,
        TokenError::IdentityGone | TokenError::Revoked => 1 + usize::from(!has_keys),
    }
}
