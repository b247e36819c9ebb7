//! Tests of the promises that docs/promises.md defines, and of the number of calls that each operation
//! makes. Everything runs in one process over the real adapters.

mod adapters;
mod attacks;
mod browsers;
mod calls;
mod capabilities;
mod catalogue;
mod closed;
mod concurrency;
mod crash_matrix;
mod entra_fetch;
mod first_keys;
mod history;
mod introspection;
mod published_keys;
mod quiet;
mod state_machine;
