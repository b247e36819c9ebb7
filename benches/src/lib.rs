//! The code that the benchmarks and their comparison servers share.

pub mod store_call;
