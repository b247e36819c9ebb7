//! The Lambda hosts of the service, the AWS adapters, and their common composition root.
//!
//! | module | owns |
//! |---|---|
//! | [`adapters`] | the adapters of one deployment, and the services over them |
//! | [`authorizer`] | authorizer events of API Gateway, and the replies to the gateway |
//! | [`boot`] | the composition root: environment, AWS clients, the service of one function |
//! | [`entra_http`] | the documents of Entra issuers, over HTTPS |
//! | [`gateway`] | the conversion of a gateway event to a request of the core, and of the reply back |
//! | [`invocation`] | the facts of an invocation of Lambda, for the audit line |
//! | [`aws`] | the ports over DynamoDB and Secrets Manager |
//! | [`record_ends`] | the changes of the state table, for the revocation feed |
//! | [`rotate_keys`] | the events that replace keys: the steps of Secrets Manager, and calls by an operator |
//! | [`system`] | the clock, randomness and key generation of the machine |
//! | [`telemetry`] | audit lines on standard output |

pub mod adapters;
pub mod authorizer;
pub mod aws;
pub mod boot;
pub mod entra_http;
pub mod gateway;
pub mod invocation;
pub mod record_ends;
pub mod rotate_keys;
pub mod system;
pub mod telemetry;
