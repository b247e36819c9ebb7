//! The promises, tested: dead stays dead (S1), fresh is active (S2), durable (D), closed, quiet, and what
//! each operation costs. Everything runs in one process over the real adapters.

mod adapters;
mod attacks;
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
