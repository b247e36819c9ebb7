//! Entra access tokens: decoding, and every check except the signature.
//!
//! An [`UnverifiedEntraToken`] may be forged. Only [`super::Entra::verify`] turns it into an [`EntraToken`].

use aws_lc_rs::signature::ParsedPublicKey;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::documents::{KeyReference, is_kid};
use super::{Audience, EntraToken, EntraTokenError, NOT_BEFORE_LEEWAY, TokenKind, names_tenant};
use crate::ids::guid;
use crate::jose::{JwsError, UnverifiedJws};
use crate::lifetime;

/// Longest token that is decoded, in bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// The largest number of groups in a token. Entra leaves the groups out when there are more than 200.
const MAX_GROUPS: usize = 200;

/// Longest token id that is logged, in bytes. Entra's token ids have 22.
const MAX_TOKEN_ID: usize = 64;

/// The version of a token, which selects its issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum EntraVersion {
    V1,
    V2,
}

/// An Entra token that is decoded, but not verified.
pub(super) type UnverifiedEntraToken<'a> = UnverifiedJws<'a, EntraHeader, EntraClaims>;

/// An open set: further members are ignored. No member of the set may occur twice.
#[derive(Deserialize)]
pub(super) struct EntraHeader {
    alg: Option<String>,
    kid: Option<String>,
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    enc: bool,
    #[serde(default, deserialize_with = "present")]
    nonce: bool,
    #[serde(default, deserialize_with = "present")]
    zip: bool,
}

/// An open set, like [`EntraHeader`]. Times are whole seconds since the epoch.
#[derive(Deserialize)]
pub(super) struct EntraClaims {
    aud: String,
    exp: i64,
    iat: i64,
    iss: String,
    nbf: i64,
    tid: String,
    ver: String,
    appid: Option<String>,
    appidacr: Option<Value>,
    azp: Option<String>,
    azpacr: Option<Value>,
    groups: Option<Value>,
    idtyp: Option<String>,
    oid: Option<String>,
    roles: Option<Vec<String>>,
    scp: Option<String>,
    sub: Option<Value>,
    uti: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    at_hash: bool,
    #[serde(default, deserialize_with = "present")]
    c_hash: bool,
    #[serde(default, deserialize_with = "present")]
    nonce: bool,
}

impl EntraVersion {
    /// The path between the tenant and the metadata of this version.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::V1 => "",
            Self::V2 => "/v2.0",
        }
    }
}

impl From<JwsError> for EntraTokenError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::Text(fault) => Self::Text(fault),
            JwsError::Structure => Self::Structure,
            JwsError::Header => Self::Header,
            JwsError::Claims => Self::Claims,
        }
    }
}

impl<'a> UnverifiedEntraToken<'a> {
    /// Decodes a token, and checks its header.
    pub(super) fn read(token: &'a str) -> Result<Self, EntraTokenError> {
        let unverified = Self::parse(token, MAX_LENGTH)?;
        unverified.header.check()?;
        Ok(unverified)
    }

    /// The tenant and the version, which select the issuer.
    pub(super) fn origin(&self) -> Result<(Uuid, EntraVersion), EntraTokenError> {
        let tenant = guid(&self.claims.tid).map_err(|_| EntraTokenError::TenantMalformed)?;
        match self.claims.ver.as_str() {
            "1.0" => Ok((tenant, EntraVersion::V1)),
            "2.0" => Ok((tenant, EntraVersion::V2)),
            _ => Err(EntraTokenError::Version),
        }
    }

    /// Checks the claims in a token of this origin, except its purpose. The result is valid only if the signature is.
    pub(super) fn check(
        &self,
        (tenant, version): (Uuid, EntraVersion),
        now: OffsetDateTime,
    ) -> Result<EntraToken, EntraTokenError> {
        let claims = &self.claims;
        if !names_tenant(&claims.iss, tenant) {
            return Err(EntraTokenError::IssuerTenant);
        }
        let kind = claims.kind(version)?;
        claims.check_times(now)?;
        let names = |names: &str| names.split(' ').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        let permissions = match kind {
            TokenKind::Application => claims.roles.clone().unwrap_or_default(),
            TokenKind::Delegated => claims.scp.as_deref().map(names).unwrap_or_default(),
        };
        Ok(EntraToken {
            tenant,
            object: claims.oid.as_deref().and_then(|oid| guid(oid).ok()).ok_or(EntraTokenError::ObjectId)?,
            app: claims.app(version)?,
            permissions,
            groups: claims.groups(),
            kind,
            issued_at: claims.iat,
            expires_at: claims.exp,
            token_id: claims.token_id(),
        })
    }

    /// Checks that a token of this kind was issued for this audience.
    pub(super) fn check_purpose(&self, kind: TokenKind, audience: Audience) -> Result<(), EntraTokenError> {
        if !audience.accepts(&self.claims.aud) {
            return Err(EntraTokenError::Audience);
        }
        if audience.is_for_users() && kind == TokenKind::Application {
            return Err(EntraTokenError::ApplicationOnly);
        }
        Ok(())
    }

    /// The key that the token names.
    pub(super) fn key_reference(&self) -> KeyReference<'_> {
        KeyReference { issuer: &self.claims.iss, kid: self.header.kid.as_deref().unwrap_or_default() }
    }

    /// Whether this key made the signature.
    pub(super) fn is_signed_by(&self, key: &ParsedPublicKey) -> bool {
        key.verify_sig(self.signing_input, &self.signature).is_ok()
    }
}

impl EntraHeader {
    /// Checks that the header can be the header of an access token.
    fn check(&self) -> Result<(), EntraTokenError> {
        if self.nonce {
            return Err(EntraTokenError::GraphToken);
        }
        if self.alg.as_deref() != Some("RS256") {
            return Err(EntraTokenError::Algorithm);
        }
        let good_typ = matches!(self.typ.as_deref(), None | Some("JWT" | "at+jwt"));
        let good_kid = self.kid.as_deref().is_some_and(is_kid);
        if self.b64 || self.crit || self.enc || self.zip || !good_typ || !good_kid {
            return Err(EntraTokenError::Header);
        }
        Ok(())
    }
}

impl EntraClaims {
    /// Whether the token was issued to a user or to an application. An id token is neither: it has no permissions and no
    /// proof of a client, or it has the claims of a sign-in, or its audience is the client that received it.
    fn kind(&self, version: EntraVersion) -> Result<TokenKind, EntraTokenError> {
        let names = |scp: &String| scp.split(' ').any(|name| !name.is_empty());
        let scp = self.scp.as_ref().is_some_and(names);
        let roles = self.roles.as_ref().is_some_and(|roles| !roles.is_empty());
        let for_itself =
            |app: &Option<String>| app.as_ref().is_some_and(|app| self.aud.eq_ignore_ascii_case(app));
        let sign_in = self.nonce || self.at_hash || self.c_hash;
        if sign_in || for_itself(&self.appid) || for_itself(&self.azp) {
            return Err(EntraTokenError::IdToken);
        }
        match (self.idtyp.as_deref(), scp, roles) {
            (Some("app"), false, _) | (None, false, true) => Ok(TokenKind::Application),
            (None | Some("user"), true, _) => Ok(TokenKind::Delegated),
            (None, false, false) if self.shows_application(version) => Ok(TokenKind::Application),
            (None, false, false) => Err(EntraTokenError::IdToken),
            (Some(_), _, _) => Err(EntraTokenError::Kind),
        }
    }

    /// Whether a token without `idtyp` and without permissions is an application's. `idtyp` is an optional claim, and an
    /// application has `roles` only if an administrator gave it a role of the API. So neither is in most tokens of
    /// applications. Such a token names its client and has no `scp`. Its client proved its identity with a secret (`1`) or a
    /// certificate (`2`), or its subject is the object itself; the subject of a user is a pairwise text.
    fn shows_application(&self, version: EntraVersion) -> bool {
        let (client, proof) = match version {
            EntraVersion::V1 => (&self.appid, &self.appidacr),
            EntraVersion::V2 => (&self.azp, &self.azpacr),
        };
        let text = |claim: &Option<Value>| claim.as_ref().and_then(Value::as_str).map(str::to_owned);
        let has_proof = matches!(text(proof).as_deref(), Some("1" | "2"));
        let is_own_subject = self.oid.is_some() && self.oid == text(&self.sub);
        client.is_some() && self.scp.is_none() && (has_proof || is_own_subject)
    }

    /// The client's id: `appid` of version 1.0, `azp` of version 2.0.
    fn app(&self, version: EntraVersion) -> Result<Uuid, EntraTokenError> {
        let parse = |text: &Option<String>| match text {
            Some(text) => guid(text).map(Some).map_err(|_| EntraTokenError::App),
            None => Ok(None),
        };
        match (version, parse(&self.appid)?, parse(&self.azp)?) {
            (EntraVersion::V1, Some(app), None) => Ok(app),
            (EntraVersion::V2, other, Some(app)) if other.is_none_or(|other| other == app) => Ok(app),
            _ => Err(EntraTokenError::App),
        }
    }

    fn check_times(&self, now: OffsetDateTime) -> Result<(), EntraTokenError> {
        let latest = now.unix_timestamp().saturating_add(NOT_BEFORE_LEEWAY.whole_seconds());
        if self.nbf > self.exp || self.iat > self.exp {
            Err(EntraTokenError::Claims)
        } else if lifetime::has_expired(self.exp, now) {
            Err(EntraTokenError::Expired)
        } else if self.nbf > latest || self.iat > latest {
            Err(EntraTokenError::NotYetValid)
        } else {
            Ok(())
        }
    }

    /// The groups, if they have the form that Entra writes. Groups are optional, so another form does not refuse the token.
    fn groups(&self) -> Vec<Uuid> {
        let Some(Value::Array(groups)) = &self.groups else { return Vec::new() };
        if groups.len() > MAX_GROUPS {
            return Vec::new();
        }
        let parse = |group: &Value| guid(group.as_str()?).ok();
        groups.iter().map(parse).collect::<Option<_>>().unwrap_or_default()
    }

    fn token_id(&self) -> Option<String> {
        self.uti.as_ref()?.as_str().filter(|id| is_token_id(id)).map(str::to_owned)
    }
}

/// Whether a text can be the id of a token, and its characters are safe to log.
pub(crate) fn is_token_id(text: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_TOKEN_ID).contains(&text.len()) && text.bytes().all(is_safe)
}

/// Whether a member is present, with any value, also `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|IgnoredAny| true)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::super::EntraError;
    use super::super::fake::{
        APP, OBJECT, TEAMS, TENANT, TestService, claims, header, sign, sign_text, with,
    };
    use super::*;
    use crate::jose::{malformed_tokens, spaced_tokens, wrapped_tokens};
    use crate::json::malformed;
    use crate::testing::NOON;

    /// Checks that every token is refused with this error, without a fetch.
    async fn refused(tokens: impl IntoIterator<Item = String>, expected: EntraTokenError) {
        let service = TestService::new();
        for token in tokens {
            let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
            let text = String::from_utf8_lossy(&claims.unwrap_or_default()).into_owned();
            assert_eq!(service.error(&token).await, Some(expected), "{text}");
        }
        assert_eq!(service.issuer.take_fetched(), [""; 0]);
    }

    fn with_header(changes: &[(&str, Value)]) -> String {
        sign(0, &with(&header(0), changes), &claims("2.0"))
    }

    fn with_claims(version: &str, changes: &[(&str, Value)]) -> String {
        sign(0, &header(0), &with(&claims(version), changes))
    }

    async fn accepted(token: &str) -> EntraToken {
        let service = TestService::new();
        service.verify(token).await.unwrap()
    }

    #[tokio::test]
    async fn malformed_tokens_are_refused() {
        let valid = with_claims("2.0", &[]);
        let (header, rest) = valid.split_once('.').unwrap();
        let mut texts = malformed_tokens(&valid);
        texts.push(format!("{header}.{}{rest}", "A".repeat(MAX_LENGTH)));
        texts.push(with_claims("2.0", &[("name", json!("x".repeat(MAX_LENGTH)))]));
        for text in texts {
            let error = TestService::new().error(&text).await;
            assert_eq!(error, Some(EntraTokenError::Structure), "{text}");
        }
        for (text, fault) in wrapped_tokens(&valid) {
            let error = TestService::new().error(&text).await;
            assert_eq!(error, Some(EntraTokenError::Text(fault)), "{text}");
        }
        for text in spaced_tokens(&valid) {
            accepted(&text).await;
        }
    }

    #[tokio::test]
    async fn other_headers_are_refused() {
        for value in
            [json!("none"), json!("HS256"), json!("RS384"), json!("PS256"), json!("rs256"), json!(null)]
        {
            refused([with_header(&[("alg", value)])], EntraTokenError::Algorithm).await;
        }
        let mut tokens = vec![
            with_header(&[("typ", json!("JWE"))]),
            with_header(&[("typ", json!("dpop+jwt"))]),
            with_header(&[("kid", json!(null))]),
            with_header(&[("kid", json!(""))]),
            with_header(&[("kid", json!(7))]),
            with_header(&[("kid", json!("k".repeat(129)))]),
            with_header(&[("alg", json!(["RS256"]))]),
        ];
        for name in ["b64", "crit", "enc", "zip"] {
            tokens.extend([json!(true), json!(["b64"]), json!("DEF")].map(|it| with_header(&[(name, it)])));
            let null = header(0).to_string().replacen('{', &format!("{{\"{name}\":null,"), 1);
            tokens.push(sign_text(0, &null, &claims("2.0").to_string()));
        }
        let twice = |name: &str| {
            let header = header(0);
            header.to_string().replacen('{', &format!("{{\"{name}\":{},", header[name]), 1)
        };
        tokens
            .extend(["alg", "kid", "typ"].map(|name| sign_text(0, &twice(name), &claims("2.0").to_string())));
        let valid = header(0);
        let array = json!([valid["alg"], valid["kid"], valid["typ"]]).to_string();
        let is_object =
            |text: &String| serde_json::from_str::<Value>(text).is_ok_and(|json| json.is_object());
        let (objects, others): (Vec<_>, Vec<_>) =
            malformed(&valid.to_string(), &array).into_iter().partition(is_object);
        let with_text = |text: String| sign_text(0, &text, &claims("2.0").to_string());
        tokens.extend(others.into_iter().map(with_text));
        refused(objects.into_iter().map(with_text), EntraTokenError::Algorithm).await;
        refused(tokens, EntraTokenError::Header).await;
        for changes in
            [("typ", json!(null)), ("typ", json!("at+jwt")), ("jku", json!("https://evil.example"))]
        {
            accepted(&with_header(&[changes])).await;
        }
    }

    #[tokio::test]
    async fn tokens_for_graph_have_their_own_error() {
        let token = with_header(&[("nonce", json!("x")), ("alg", json!("RS256"))]);
        refused([token], EntraTokenError::GraphToken).await;
        assert!(EntraTokenError::GraphToken.to_string().contains("obtained for Microsoft Graph"));
    }

    #[tokio::test]
    async fn claims_of_another_form_are_refused() {
        let valid = claims("2.0");
        let mut tokens = vec![];
        for name in ["aud", "exp", "iat", "iss", "nbf", "tid", "ver"] {
            tokens.push(with_claims("2.0", &[(name, json!(null))]));
            tokens.push(with_claims("2.0", &[(name, json!([valid[name]]))]));
        }
        for name in ["aud", "azp", "exp", "iat", "iss", "nbf", "oid", "scp", "sub", "tid", "ver"] {
            let twice = valid.to_string().replacen('{', &format!("{{\"{name}\":{},", valid[name]), 1);
            tokens.push(sign_text(0, &header(0).to_string(), &twice));
        }
        for (name, values) in [
            ("exp", vec![json!(1.8e9), json!("1800000000"), json!(1_800_000_000.5)]),
            ("iat", vec![json!(1.0)]),
            ("nbf", vec![json!(true)]),
            ("oid", vec![json!(7)]),
            ("scp", vec![json!(["Teams.ManageCalls"]), json!(7)]),
            ("roles", vec![json!("A.All"), json!([1])]),
            ("appid", vec![json!([APP.to_string()])]),
        ] {
            tokens.extend(values.into_iter().map(|value| with_claims("2.0", &[(name, value)])));
        }
        let big = valid.to_string().replace(&valid["exp"].to_string(), "99999999999999999999");
        let array = [
            "aud", "exp", "iat", "iss", "nbf", "tid", "ver", "appid", "appidacr", "azp", "azpacr", "groups",
            "idtyp", "oid", "roles", "scp", "sub", "uti",
        ];
        let array = Value::from_iter(array.map(|name| valid[name].clone()));
        let texts = malformed(&valid.to_string(), &array.to_string()).into_iter().chain([big]);
        tokens.extend(texts.map(|text| sign_text(0, &header(0).to_string(), &text)));
        refused(tokens, EntraTokenError::Claims).await;
    }

    #[tokio::test]
    async fn tenant_version_and_issuer_are_checked() {
        let id = TENANT.to_string();
        let tids = [
            json!("contoso.com"),
            json!(""),
            json!(format!("{{{id}}}")),
            json!(id.replace('-', "")),
            json!(format!("urn:uuid:{id}")),
            json!(format!("{id} ")),
            json!("common"),
        ];
        refused(tids.map(|tid| with_claims("2.0", &[("tid", tid)])), EntraTokenError::TenantMalformed).await;
        for ver in ["", "1", "2", "3.0", "v2.0", "2.0 ", "2.00"] {
            refused([with_claims("2.0", &[("ver", json!(ver))])], EntraTokenError::Version).await;
        }
        let other = super::super::fake::OTHER_TENANT.to_string();
        let issuers = [
            with_claims("2.0", &[("iss", json!(format!("https://login.example.com/{other}/v2.0")))]),
            with_claims("2.0", &[("tid", json!(other))]),
            with_claims("2.0", &[("iss", json!(format!("https://{id}/v2.0")))]),
            with_claims("2.0", &[("iss", json!(format!("https://login.example.com/x{id}/v2.0")))]),
            with_claims("2.0", &[("iss", json!("https://login.example.com/{tenantid}/v2.0"))]),
            with_claims("2.0", &[("iss", json!(""))]),
        ];
        refused(issuers, EntraTokenError::IssuerTenant).await;
        accepted(&with_claims("2.0", &[("tid", json!(id.to_uppercase()))])).await;
    }

    #[tokio::test]
    async fn the_version_decides_the_claim_of_the_client() {
        let other = json!("eeeeeeee-0000-4000-8000-000000000005");
        let (app, none) = (json!(APP.to_string()), json!(null));
        let tokens = [
            ("1.0", &none, &none),
            ("1.0", &none, &app),
            ("1.0", &app, &app),
            ("1.0", &app, &other),
            ("2.0", &none, &none),
            ("2.0", &app, &none),
            ("2.0", &other, &app),
            ("2.0", &none, &json!("not a GUID")),
            ("2.0", &json!("not a GUID"), &app),
            ("1.0", &json!("not a GUID"), &none),
        ]
        .map(|(version, appid, azp)| with_claims(version, &[("appid", appid.clone()), ("azp", azp.clone())]));
        refused(tokens, EntraTokenError::App).await;
        let both = accepted(&with_claims("2.0", &[("appid", json!(APP.to_string().to_uppercase()))])).await;
        assert_eq!(both.app, APP);
    }

    #[tokio::test]
    async fn an_object_id_is_required() {
        let oids = [json!(null), json!(""), json!("user@example.com"), json!(format!("{{{OBJECT}}}"))];
        let subject = ("sub", json!(OBJECT.to_string()));
        let tokens = oids.map(|oid| with_claims("2.0", &[("oid", oid), subject.clone()]));
        refused(tokens, EntraTokenError::ObjectId).await;
        let upper = accepted(&with_claims("2.0", &[("oid", json!(OBJECT.to_string().to_uppercase()))])).await;
        assert_eq!(upper.object, OBJECT);
    }

    #[tokio::test]
    async fn other_kinds_of_token_are_refused() {
        let none = json!(null);
        let app = ("aud", json!(APP.to_string()));
        let tokens = [
            with_claims("2.0", &[("scp", none.clone())]),
            with_claims("2.0", &[("scp", json!(""))]),
            with_claims("2.0", &[("scp", json!("  "))]),
            with_claims("2.0", &[("scp", none.clone()), ("roles", json!([]))]),
            with_claims(
                "2.0",
                &[("scp", none.clone()), ("azp", none.clone()), app.clone(), ("nonce", json!("n"))],
            ),
            with_claims("2.0", &[("scp", none.clone()), ("azp", none.clone()), app.clone()]),
            with_claims("2.0", std::slice::from_ref(&app)),
            with_claims("1.0", &[app]),
            with_claims("2.0", &[("nonce", json!("n"))]),
            with_claims("2.0", &[("at_hash", json!("h"))]),
            with_claims("2.0", &[("c_hash", json!("h"))]),
        ];
        refused(tokens, EntraTokenError::IdToken).await;
        let roles = json!(["A.All"]);
        let tokens = [
            with_claims("2.0", &[("idtyp", json!("app"))]),
            with_claims("2.0", &[("idtyp", json!("device"))]),
            with_claims("2.0", &[("idtyp", json!("user")), ("scp", none.clone())]),
            with_claims("2.0", &[("idtyp", json!("user")), ("scp", none), ("roles", roles.clone())]),
        ];
        refused(tokens, EntraTokenError::Kind).await;
        for changes in [("idtyp", json!("user")), ("roles", roles)] {
            let token = accepted(&with_claims("2.0", &[changes])).await;
            assert_eq!(token.kind, TokenKind::Delegated);
            assert_eq!(token.permissions, ["Teams.ManageCalls", "Teams.ManageChats"]);
        }
    }

    /// A row of `tests/vectors/entra_tokens.json`.
    #[derive(Deserialize)]
    struct Row {
        name: String,
        version: String,
        claims: Value,
        kind: String,
    }

    #[tokio::test]
    async fn applications_users_and_id_tokens_are_told_apart() {
        let rows = include_str!("../../../../tests/vectors/entra_tokens.json");
        let rows = rows.replace("{oid}", &OBJECT.to_string()).replace("{app}", &APP.to_string());
        let rows: Vec<Row> = serde_json::from_str(&rows).unwrap();
        for Row { name, version, claims: changes, kind } in rows {
            let changes: Vec<_> = changes
                .as_object()
                .unwrap()
                .iter()
                .map(|(claim, value)| (claim.as_str(), value.clone()))
                .collect();
            let of = |aud: &str| with(&with(&claims(&version), &[("aud", json!(aud))]), &changes);
            let service = TestService::new();
            let verified = async |claims: Value, audience| {
                service.entra.verify(&sign(0, &header(0), &claims), audience).await.map(|token| token.kind)
            };
            let found = verified(of("https://communication.azure.com/"), Audience::Service).await;
            let for_users = verified(of(TEAMS), Audience::Teams).await;
            match kind.as_str() {
                "application" => {
                    assert_eq!(found.unwrap(), TokenKind::Application, "{name}");
                    let refused = matches!(for_users, Err(EntraError::OtherPurpose(fault, principal))
                        if fault == EntraTokenError::ApplicationOnly && principal.object == OBJECT);
                    assert!(refused, "{name}");
                }
                "user" => {
                    assert_eq!(found.unwrap(), TokenKind::Delegated, "{name}");
                    assert_eq!(for_users.unwrap(), TokenKind::Delegated, "{name}");
                }
                kind => {
                    let fault =
                        if kind == "id_token" { EntraTokenError::IdToken } else { EntraTokenError::Kind };
                    for outcome in [found, for_users] {
                        assert!(
                            matches!(outcome, Err(EntraError::Refused(found)) if found == fault),
                            "{name}"
                        );
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn permissions_are_whole_names() {
        for (scp, expected) in [
            ("Teams.ManageCallsX", &["Teams.ManageCallsX"][..]),
            (" a  b ", &["a", "b"]),
            ("a,b", &["a,b"]),
            ("a\tb", &["a\tb"]),
            ("A a", &["A", "a"]),
        ] {
            assert_eq!(accepted(&with_claims("2.0", &[("scp", json!(scp))])).await.permissions, expected);
        }
    }

    #[tokio::test]
    async fn times_are_checked_to_the_second() {
        let now = NOON.unix_timestamp();
        let leeway = NOT_BEFORE_LEEWAY.whole_seconds();
        for (name, value, expected) in [
            ("exp", now + 1, None),
            ("exp", now, Some(EntraTokenError::Expired)),
            ("exp", now - 1, Some(EntraTokenError::Expired)),
            ("exp", i64::MAX, None),
            ("exp", 0, Some(EntraTokenError::Claims)),
            ("exp", i64::MIN, Some(EntraTokenError::Claims)),
            ("nbf", now + leeway, None),
            ("nbf", now + leeway + 1, Some(EntraTokenError::NotYetValid)),
            ("nbf", i64::MIN, None),
            ("nbf", i64::MAX, Some(EntraTokenError::Claims)),
            ("iat", now + leeway, None),
            ("iat", now + leeway + 1, Some(EntraTokenError::NotYetValid)),
            ("iat", i64::MAX, Some(EntraTokenError::Claims)),
        ] {
            let token = with_claims("2.0", &[(name, json!(value))]);
            match expected {
                Some(error) => refused([token], error).await,
                None => drop(accepted(&token).await),
            }
        }
        let ends_before_it_begins = [("nbf", json!(now + 60)), ("exp", json!(now + 59))];
        refused([with_claims("2.0", &ends_before_it_begins)], EntraTokenError::Claims).await;
    }

    #[tokio::test]
    async fn malformed_groups_and_token_ids_are_left_out() {
        let group = |n: u128| Uuid::from_u128(n).to_string();
        let many = |count| (0..count).map(group).collect::<Vec<_>>();
        for (groups, count) in [
            (json!(many(0)), 0),
            (json!(many(200)), 200),
            (json!(many(201)), 0),
            (json!([group(1), "Administrators"]), 0),
            (json!([group(1), 7]), 0),
            (json!(group(1)), 0),
            (json!({"0": group(1)}), 0),
        ] {
            let token = accepted(&with_claims("2.0", &[("groups", groups)])).await;
            assert_eq!(token.groups.len(), count);
        }
        let odd = [json!(7), json!(""), json!("a b"), json!("a\nb"), json!("\u{e9}"), json!("a".repeat(65))];
        for uti in odd.into_iter().chain([json!(null)]) {
            assert_eq!(accepted(&with_claims("2.0", &[("uti", uti)])).await.token_id, None);
        }
    }

    #[tokio::test]
    async fn no_error_quotes_the_token() {
        let service = TestService::new();
        let marked = |name: &str| with_claims("1.0", &[(name, json!("canary")), ("sub", json!("canary"))]);
        for name in ["aud", "iss", "tid", "ver", "oid", "appid", "azp", "idtyp", "name"] {
            let error = service.verify(&marked(name)).await.map(|_| String::new());
            let message = error.unwrap_or_else(|error| format!("{error} {error:?}"));
            assert!(!message.contains("canary") && !message.contains(TEAMS), "{message}");
        }
    }
}
