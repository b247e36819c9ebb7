//! The core of the communication identity service: everything that decides.
//!
//! It knows no AWS, no socket, no clock, no randomness and no environment; all of them are handed in.
//! The file `docs/wire-contract.md` describes the requests and replies of ACS clients, with the evidence for
//! each fact. Comments cite its headings. The modules in reading order:
//!
//! | module | owns |
//! |---|---|
//! | [`service`] | the pipeline of a request, and the session an operation runs in |
//! | [`routes`], [`api_version`] | which operations exist, where, in which versions |
//! | [`operations`] | one file for each operation |
//! | [`authn`] | who calls: the signing rule, hosts, dates, targets, Entra tokens |
//! | [`token`] | claims, minting, verification |
//! | [`capability`], [`route_rules`], [`authorizer`] | what a token permits, and whether a request to a resource server is allowed |
//! | [`keys`] | access keys, signing keys, the pointer, the key key cache, setting up |
//! | [`assignments`] | which Entra principals may have tokens |
//! | [`ids`], [`scope`], [`lifetime`], [`limits`] | the words and numbers of the domain |
//! | [`body`], [`reply`], [`error`] | the wire: what comes in, what goes out, what is refused |
//! | [`store`], [`secret store`] | the ports: identities and pointer, secrets |
//! | [`audit`] | the line written for every decision |
//! | [`context`], [`settings`], [`secret`] | what is handed in, what is configured, what is never shown |

pub mod api;
pub mod audit;
pub mod authn;
pub mod authorization;
pub mod error_chain;
pub mod host;
pub mod ids;
pub mod keys;
pub mod lifetime;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
mod operations;
pub mod runtime;
pub mod secrets;
pub mod settings;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
