//! The code that the benchmarks and their comparison servers share.
#![expect(clippy::disallowed_methods, reason = "the measurements need random keys")]

pub mod raw;
pub mod store_call;
