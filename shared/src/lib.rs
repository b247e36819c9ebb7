//! The core of the communication identity service. It makes every decision.
//!
//! The core uses no AWS, network, clock, randomness or environment of its own. Its host hands them in.
//! `docs/wire-contract.md` describes the requests and replies of ACS clients, with the evidence for each fact. Comments
//! cite its headings. The modules in reading order:
//!
//! | Module | Content |
//! |---|---|
//! | [`api`] | the pipeline of a request, routes, functions, versions, bodies, replies, errors, limits |
//! | [`authn`] | access-key signatures, dates, targets, schemes, Entra tokens |
//! | [`operations`] | one file for each operation, and the state of a request |
//! | [`store`], [`secrets`] | the two ports, each with the contract of its implementations |
//! | [`keys`] | access keys, signing keys, the pointer, the key cache, first keys, rotation |
//! | [`token`] | scopes, claims, minting, verification |
//! | [`authorization`] | capabilities of scopes, route rules, the authorizer of a resource server |
//! | [`audit`], [`metrics`] | the audit lines, the metrics of requests |
//! | [`ids`], [`host`], [`lifetime`], `jose` | identifiers, host names, durations, JOSE parsing |
//! | [`resource_servers`] | changes of the credentials of resource servers |
//! | [`settings`], [`runtime`], [`error_chain`] | settings, clock and randomness, the text of an error with its causes |
//! | `memory`, `testing` | the in-memory ports, the test support; only with the feature `testing` |

pub mod api;
pub mod audit;
pub mod authn;
pub mod authorization;
pub mod correlation;
pub mod error_chain;
pub mod host;
pub mod ids;
pub mod jose;
mod json;
pub mod keys;
pub mod lifetime;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod metrics;
mod operations;
pub mod resource_servers;
pub mod runtime;
pub mod secrets;
pub mod settings;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod token;
