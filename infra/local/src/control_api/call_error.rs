//! The errors of calls, and their status.

use dynoxide::DynoxideError;
use http::StatusCode;
use identity::api::limits::MAX_BODY;
use identity::keys::rotation::RotationError;
use serde::de::DeserializeOwned;

use crate::files::FileError;
use crate::listing::ListingError;

/// Largest snapshot, in bytes.
pub(super) const MAX_SNAPSHOT: usize = 16 * 1024 * 1024;

/// A call that had no effect, unless the variant says something else.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("the control token is missing or wrong")]
    Unauthorized,
    /// The path has other methods, as in `Allow`.
    #[error("this path has the methods {0}")]
    Method(String),
    #[error("a change needs the header Content-Type: application/json")]
    MediaType,
    #[error("the body is larger than {MAX_BODY} bytes, or a snapshot than {MAX_SNAPSHOT}")]
    TooLarge,
    /// The body or the query. The text names the member and the allowed values.
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    NotFound(String),
    /// The state is not that of the document.
    #[error("{0}")]
    Conflict(String),
    #[error("give \"confirm\": \"{0}\", because a page sent the request")]
    Unconfirmed(String),
    /// The effect is unclear.
    #[error("the table: {0}")]
    Table(#[from] DynoxideError),
    #[error("the keys: {0}")]
    Keys(#[from] RotationError),
    /// Some keys may have been replaced. A repetition is safe.
    #[error("the keys: {0}")]
    ReplaceKeys(String),
    /// The effect is unclear. A repetition is safe.
    #[error("cannot keep the change: {0}")]
    File(#[from] FileError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    /// The service has refused a part of a seed, or cannot do it now. The parts before it are done.
    #[error("{part}: {message}")]
    Refused { part: String, message: String, is_unavailable: bool },
    #[error("four streams of events are open already; close a page")]
    TooManyStreams,
    #[error("the server is stopping")]
    Stopping,
}

impl CallError {
    pub(super) fn malformed(message: &str) -> Self {
        Self::Malformed(message.to_owned())
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Unconfirmed(_) | Self::Refused { is_unavailable: false, .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooManyStreams => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Parses a body. An empty one stands for `{}`. The message of an error names the member.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    let body = if body.is_empty() { b"{}" } else { body.trim_ascii_start() };
    // The decoder would take the elements of an array for the members in their order.
    if body.starts_with(b"[") {
        return Err(CallError::malformed("the body is an array; give an object"));
    }
    let mut decoder = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut decoder)
        .map_err(|error| CallError::Malformed(format!("{}: {}", error.path(), error.inner())))?;
    decoder.end().map_err(|_| CallError::malformed("the body goes on after its JSON value"))?;
    Ok(parsed)
}
