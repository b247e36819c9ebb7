//! The real SDK clients against the local server, over TLS, as a user runs both.
//!
//! The clients' own packages must be installed: `tests/run` does it, then runs everything.

mod browsers;
mod chat;
mod gateway;
mod local_server;
mod rotation;
mod suites;
mod verification;
