//! The real SDK clients against the local server, over TLS.
//!
//! `tests/run` installs the packages of the clients. Without the packages these tests fail.

mod browsers;
mod chat;
mod control;
mod environment;
mod gateway;
mod kits;
mod languages;
mod local_server;
mod names;
mod robustness;
mod rotation;
mod suites;
mod verbs;
mod verification;
