//! The fixtures of the end-to-end tests. `tests/README.md` describes the suites.
//!
//! | Module | Content |
//! |---|---|
//! | [`test_service`] | a whole resource in one process |
//! | [`entra_issuer`] | an Entra issuer, and a service that trusts it |
//! | [`faults`] | an HTTP client for the AWS SDK that fails, loses answers and delivers late, by plan |
//! | [`signer`] | a second signer of requests, written from the specification |
//! | [`router`] | a simulated API Gateway that calls the authorizer |
//! | [`chat_api`] | a chat service behind the authorizer |
//! | [`server`] | the local server as a process |

pub mod chat_api;
pub mod entra_issuer;
pub mod faults;
pub mod router;
pub mod server;
pub mod signer;
pub mod test_service;
