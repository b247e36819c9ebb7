//! Authentication of callers: the access key, the Entra principal or the resource server of a request.
//!
//! It happens before any body is parsed. A failed scheme is final: no other scheme is tried after it.

pub mod basic;
pub mod date;
pub mod entra;
pub mod hmac;
pub mod target;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use time::OffsetDateTime;

use self::basic::PresentedCredential;
use self::entra::{EntraToken, EntraTokenError, Principal};
use self::hmac::SignedRequest;
use self::target::PathForm;
use crate::host::UnknownHostError;
use crate::keys::Slot;
use crate::lifetime::DateWindow;
use crate::secrets::VersionId;

/// The authenticated caller. An operation cannot run without one.
pub enum Caller {
    /// Any client, on a route that needs no authentication. Such a request reads no state of an identity.
    Anyone,
    /// A service that signed with an access key.
    AccessKey {
        /// Selects the key that signs tokens for this caller.
        slot: Slot,
        /// The version of the access keys that matched. It is compared with the pointer before the operation runs.
        access_keys: VersionId,
        /// Verified again if that version is no longer in force.
        signed: SignedRequest,
    },
    /// A service: an Entra principal on the list of those that may call.
    EntraPrincipal(Principal),
    /// An end user, with the token to exchange.
    EntraUser(EntraToken),
    /// A resource server. Its credential is compared with the stored one in the read that decides the request.
    ResourceServer(PresentedCredential),
}

impl Caller {
    /// The slot whose key signs tokens for this caller.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Anyone | Self::ResourceServer(_) => None,
            Self::AccessKey { slot, .. } => Some(*slot),
            Self::EntraPrincipal(_) | Self::EntraUser(_) => Some(Slot::Entra),
        }
    }
}

/// The authentication scheme of a request.
pub enum Scheme<'a> {
    /// [`hmac::SCHEME`].
    AccessKey,
    /// [`basic::SCHEME`], with its credential.
    Basic(&'a str),
    /// `Bearer`, with its token (RFC 6750 section 2.1).
    Bearer(&'a str),
}

impl<'a> Scheme<'a> {
    /// The only scheme of a request. A request with several schemes or with an unknown one is refused. White space around
    /// the scheme and around the token does not matter.
    ///
    /// # Errors
    /// [`Denial::Authorization`] or [`Denial::Scheme`].
    pub fn of(headers: &'a HeaderMap) -> Result<Self, Denial> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Denial::Authorization) };
        let value = value.to_str().map_err(|_| Denial::Authorization)?.trim();
        let (name, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let rest = rest.trim();
        match name {
            _ if name.eq_ignore_ascii_case(hmac::SCHEME) => Ok(Self::AccessKey),
            _ if name.eq_ignore_ascii_case(basic::SCHEME) => Ok(Self::Basic(rest)),
            _ if rest.is_empty() => Err(Denial::Authorization),
            // Some gateways join the values of a repeated header by commas.
            _ if name.eq_ignore_ascii_case("Bearer") && rest.contains(',') => Err(Denial::Authorization),
            _ if name.eq_ignore_ascii_case("Bearer") => Ok(Self::Bearer(rest)),
            _ => Err(Denial::Scheme),
        }
    }
}

/// The reason why a caller is not authorized. Its text is for the operator's log, and names the next step. The caller
/// gets a reason only if the fault is visible in the request itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error(
        "the Authorization header is missing, repeated or malformed; send one signature or one bearer token"
    )]
    Authorization,
    #[error(
        "the hash of the body is not the signed hash; sign the bytes that are sent, and check that no proxy changes the body"
    )]
    ContentHash,
    #[error(
        "the credential in Authorization is not an id and a secret of a resource server; add one with resource-server \
         add, and send both by HTTP Basic"
    )]
    Credential,
    #[error(
        "there is no Authorization header; a resource server sends its id and secret by HTTP Basic, and a service signs \
         with an access key"
    )]
    CredentialRequired,
    #[error("the date is not a date-time of RFC 5322 in UTC; send one like {example}", example = date::EXAMPLE)]
    Date,
    #[error("{0}")]
    Entra(EntraTokenError),
    /// The host in front delivers paths in this form, but the setting has the other one.
    #[error("the signature would match if GATEWAY_PATH were {form}; set it to {form}", form = .0.as_str())]
    GatewayPath(PathForm),
    #[error("a signed header is missing or repeated; send each of SignedHeaders once")]
    Header,
    #[error("{0}")]
    Host(#[from] UnknownHostError),
    /// The claims are not verified.
    #[error(
        "the bearer has the issuer and audience of a user token of this resource, and the path belongs to another \
         service, such as a chat or calling server; point the client at that server"
    )]
    OtherService,
    #[error(
        "the Authorization header lacks a part or has an unknown one; the message of the reply shows the form"
    )]
    Parts,
    #[error(
        "a credential came over plain HTTP from another machine; replace it, and send it over HTTPS only"
    )]
    PlainHttp,
    #[error("the principal is not on the list of allowed principals")]
    Principal,
    #[error("the authentication scheme is not accepted here")]
    Scheme,
    #[error(
        "the signature matches neither access key for any candidate of host and path; check that the client has a key \
         in force, and that no proxy changes path, query, method or Host"
    )]
    Signature,
    #[error(
        "SignedHeaders lacks the date, the host or the content hash, or names a header twice; the message of the reply \
         shows the form"
    )]
    SignedHeaders,
    #[error("the principal is not assigned to the resource, or not for this application")]
    Unassigned,
    /// The caller gets a message of its own, because clocks drift and the message is documented
    /// (docs/wire-contract.md#error-catalogue, row 17).
    #[error(
        "the date is more than {} minutes off: the server has {}, the request {}; correct the clock of the client",
        window.minutes(), date::format(*server), date::format(*request)
    )]
    Skew { window: DateWindow, server: OffsetDateTime, request: OffsetDateTime },
}

/// The form of `Authorization` with an access key, for messages.
pub const AUTHORIZATION_FORM: &str =
    "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=<signature>";

impl Denial {
    /// The stable name of the check that failed, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Authorization => "Authorization",
            Self::ContentHash => "ContentHash",
            Self::Credential => "Credential",
            Self::CredentialRequired => "CredentialRequired",
            Self::Date => "Date",
            Self::Entra(_) => "EntraToken",
            Self::GatewayPath(_) => "GatewayPath",
            Self::Header => "Header",
            Self::Host(_) => "Host",
            Self::OtherService => "OtherService",
            Self::Parts => "Parts",
            Self::PlainHttp => "PlainHttp",
            Self::Principal => "Principal",
            Self::Scheme => "Scheme",
            Self::Signature => "Signature",
            Self::SignedHeaders => "SignedHeaders",
            Self::Skew { .. } => "Skew",
            Self::Unassigned => "Unassigned",
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_request_has_one_known_scheme() {
        let scheme = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            match Scheme::of(&headers) {
                Ok(Scheme::AccessKey) => "access key".to_owned(),
                Ok(Scheme::Basic(credential)) => format!("basic {credential}"),
                Ok(Scheme::Bearer(token)) => format!("bearer {token}"),
                Err(denial) => format!("{denial:?}"),
            }
        };
        for (value, expected) in [
            ("hmac-sha256 SignedHeaders=a&Signature=b", "access key"),
            ("HMAC-SHA256", "access key"),
            (" bASIC  dTpw ", "basic dTpw"),
            ("Basic", "basic "),
            ("bearer\ta.b.c ", "bearer a.b.c"),
            ("Bearer", "Authorization"),
            ("Bearer a.b.c,Bearer d.e.f", "Authorization"),
            ("", "Authorization"),
            ("Digest a", "Scheme"),
        ] {
            assert_eq!(scheme(&[value]), expected, "{value:?}");
        }
        assert_eq!(scheme(&[]), "Authorization");
        assert_eq!(scheme(&["Bearer a", "Bearer a"]), "Authorization");
    }

    #[test]
    fn only_services_and_users_have_a_slot() {
        let principal = Principal { tenant: Uuid::nil(), object: Uuid::nil() };
        assert_eq!(Caller::EntraPrincipal(principal).slot(), Some(Slot::Entra));
        assert_eq!(Caller::Anyone.slot(), None);
    }

    #[test]
    fn denials_have_the_names_of_their_variants() {
        for denial in [Denial::Authorization, Denial::PlainHttp, Denial::Scheme, Denial::Signature] {
            assert_eq!(denial.name(), format!("{denial:?}"));
        }
    }
}
