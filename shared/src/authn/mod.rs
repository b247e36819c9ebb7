//! Authentication of callers: the access key or the Entra principal of a request.
//!
//! It happens before any body is parsed. A failed scheme is final: no other scheme is tried after it.

pub mod date;
pub mod entra;
pub mod hmac;
pub mod target;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use self::entra::{EntraToken, EntraTokenError, Principal};
use self::hmac::SignedRequest;
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
}

impl Caller {
    /// The slot whose key signs tokens for this caller.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Anyone => None,
            Self::AccessKey { slot, .. } => Some(*slot),
            Self::EntraPrincipal(_) | Self::EntraUser(_) => Some(Slot::Entra),
        }
    }
}

/// The authentication scheme of a request.
pub enum Scheme<'a> {
    /// [`hmac::SCHEME`].
    AccessKey,
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
        let (name, rest) = value.split_once(char::is_whitespace).ok_or(Denial::Authorization)?;
        match name {
            hmac::SCHEME => Ok(Self::AccessKey),
            // Some gateways join the values of a repeated header by commas.
            _ if name.eq_ignore_ascii_case("Bearer") && rest.contains(',') => Err(Denial::Authorization),
            _ if name.eq_ignore_ascii_case("Bearer") => Ok(Self::Bearer(rest.trim())),
            _ => Err(Denial::Scheme),
        }
    }
}

/// The reason why a caller is not authorized. It is for the operator's log. The caller only gets `Denied`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("the Authorization header is missing, repeated or malformed")]
    Authorization,
    #[error("the hash of the body is not the signed hash")]
    ContentHash,
    #[error("the date is not an IMF-fixdate")]
    Date,
    #[error("{0}")]
    Entra(EntraTokenError),
    #[error("a signed header is missing or repeated")]
    Header,
    #[error("the Host header is not an accepted host")]
    Host,
    #[error("the principal is not on the list of allowed principals")]
    Principal,
    #[error("the authentication scheme is not accepted here")]
    Scheme,
    #[error("the signature matches neither access key for any candidate of host and path")]
    Signature,
    #[error("SignedHeaders lacks the date, the host or the content hash, or names a header twice")]
    SignedHeaders,
    #[error("the principal is not assigned to the resource, or not for this application")]
    Unassigned,
    /// The caller gets a message of its own, because clocks drift and the message is documented
    /// (docs/wire-contract.md#error-catalogue, row 17).
    #[error("the date is more than {} minutes off", .0.minutes())]
    Skew(DateWindow),
}
