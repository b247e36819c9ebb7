//! Sizes: how much of a request is looked at.

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Longest `x-ms-client-request-id` that is echoed and logged, in bytes. SDKs send 32 or 36.
pub const MAX_CLIENT_REQUEST_ID: usize = 128;

/// How often a request reads pointer and keys when keys are replaced between the two reads.
pub const KEY_READ_ATTEMPTS: usize = 3;
