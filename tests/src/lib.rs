//! The service the end-to-end tests stand on.
//!
//! | module | owns |
//! |---|---|
//! | [`mod@service`] | a whole resource in one process |
//! | [`chat_api`] | a chat service behind the authorizer |
//! | [`entra_issuer`] | an Entra issuer, and a service that trusts it |
//! | [`faults`] | an SDK HTTP client that fails, loses answers and delivers late, on demand |
//! | [`router`] | a gateway that asks the authorizer |
//! | [`signer`] | requests signed as the specification says, sharing no code with the service |
//! | [`server`] | the local server as a process |

pub mod chat_api;
pub mod entra_issuer;
pub mod faults;
pub mod router;
pub mod server;
pub mod signer;
pub mod test_service;
