//! Authentication of callers: who signed a request, and through which slot.
//!
//! It happens before any body is parsed. A scheme that was tried and failed is final: there is no
//! falling through to another.

pub mod date;
pub mod entra;
pub mod hmac;
pub mod host;
pub mod target;

use crate::keys::{Slot, VersionId};
use crate::lifetime::DateWindow;

/// Who is calling. An operation cannot run without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Selects the key that signs what this caller is given.
    pub slot: Slot,
    /// The version of the access keys that proved it; compared with the pointer before anything is done.
    pub access_keys: VersionId,
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
    #[error("a signed header is missing or repeated")]
    Header,
    #[error("the Host header names no accepted host")]
    Host,
    #[error("the authentication scheme is not accepted here")]
    Scheme,
    #[error("the signature matches neither access key for any spelling of host and path")]
    Signature,
    #[error("SignedHeaders lacks the date, the host or the content hash, or names a header twice")]
    SignedHeaders,
    /// Told to the caller: clocks drift, and the message is documented (wire-contract section 5, row 17).
    #[error("the date is more than {} minutes off", .0.minutes())]
    Skew(DateWindow),
}
