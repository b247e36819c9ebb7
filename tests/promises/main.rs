//! Tests of the promises in docs/promises.md, and of the number of calls that each operation makes. Each test runs in
//! one process, over the in-memory ports or over the adapters with embedded services.

mod adapters;
mod assignments;
mod attacks;
mod audit_lines;
mod authorizer_events;
mod browsers;
mod calls;
mod capabilities;
mod catalogue;
mod closed;
mod concurrency;
mod crash_matrix;
mod custom_ids;
mod entra_fetch;
mod first_keys;
mod history;
mod introspection;
mod old_versions;
mod pairs_of_faults;
mod published_keys;
mod quiet;
mod random_histories;
mod replacements_at_once;
mod resource_servers;
mod retries;
mod spelling;
mod state_machine;
mod two_clocks;
mod verifiers;
