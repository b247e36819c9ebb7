//! Authentication of callers: who signed a request, and through which slot.
//!
//! It happens before any body is parsed. A scheme that was tried and failed is final: there is no
//! falling through to another.

pub mod date;
pub mod entra;
pub mod hmac;
pub mod target;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use self::entra::{EntraToken, EntraTokenError};
use self::hmac::SignedRequest;
use crate::keys::Slot;
use crate::lifetime::DateWindow;
use crate::secrets::VersionId;

/// Who is calling. An operation cannot run without one.
pub enum Caller {
    /// Whoever asks for what is public. No session opens for it.
    Anyone,
    /// A service that signed with an access key.
    AccessKey {
        /// Selects the key that signs what this caller is given.
        slot: Slot,
        /// The version of the access keys that proved it; compared with the pointer before anything is
        /// done.
        access_keys: VersionId,
        /// Decision again if that version is no longer the one in force.
        signed: SignedRequest,
    },
    /// A service that is an Entra principal on the allow-list.
    EntraPrincipal,
    /// An end user, with the token to be exchanged.
    EntraUser(EntraToken),
}

impl Caller {
    /// The slot whose key signs what this caller is given.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Anyone => None,
            Self::AccessKey { slot, .. } => Some(*slot),
            Self::EntraPrincipal | Self::EntraUser(_) => Some(Slot::Entra),
        }
    }
}

/// The scheme a request was made with.
pub enum Scheme<'a> {
    /// [`hmac::SCHEME`].
    AccessKey,
    /// `Bearer`, with its token (RFC 6750 section 2.1).
    Bearer(&'a str),
}

impl<'a> Scheme<'a> {
    /// The one scheme of a request. More than one, or none of ours, is refused: there is no falling
    /// through from one to another.
    ///
    /// # Errors
    /// [`Denial::Authorization`] or [`Denial::Scheme`].
    pub fn of(headers: &'a HeaderMap) -> Result<Self, Denial> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(Denial::Authorization) };
        let value = value.to_str().map_err(|_| Denial::Authorization)?;
        let (name, rest) = value.split_once(' ').ok_or(Denial::Authorization)?;
        let is_token =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        match name {
            hmac::SCHEME => Ok(Self::AccessKey),
            _ if name.eq_ignore_ascii_case("Bearer") && is_token(rest) => Ok(Self::Bearer(rest)),
            _ => Err(Denial::Scheme),
        }
    }
}

/// Why a caller is refused. For the operator's log; the caller is only told "denied".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error("the Authorization header is missing, repeated or malformed")]
    Authorization,
    #[error("the body is not the one whose hash was signed")]
    ContentHash,
    #[error("the date is not an IMF-fixdate")]
    Date,
    #[error("{0}")]
    Entra(EntraTokenError),
    #[error("a signed header is missing or repeated")]
    Header,
    #[error("the Host header names no accepted host")]
    Host,
    #[error("the principal is not on the list of those allowed")]
    Principal,
    #[error("the authentication scheme is not accepted here")]
    Scheme,
    #[error("the signature matches neither access key for any spelling of host and path")]
    Signature,
    #[error("SignedHeaders lacks the date, the host or the content hash, or names a header twice")]
    SignedHeaders,
    #[error("the principal is not assigned to the resource, or not through this application")]
    Unassigned,
    /// Reported to the caller, because clocks drift and the message is documented
    /// (docs/wire-contract.md#error-catalogue, row 17).
    #[error("the date is more than {} minutes off", .0.minutes())]
    Skew(DateWindow),
}
