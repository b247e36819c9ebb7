//! Limits of a request.

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Longest `x-ms-client-request-id` that is echoed, in bytes. SDKs send 32 or 36.
pub const MAX_CLIENT_REQUEST_ID: usize = 128;

/// The number of times that a request reads the pointer and the keys, if keys are replaced between the two reads.
pub const KEY_READ_ATTEMPTS: usize = 3;
