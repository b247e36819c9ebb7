//! The hosts of the service: Lambda glue, the AWS adapters, and the composition root they share.
//!
//! | module | owns |
//! |---|---|
//! | [`adapters`] | the adapters of one deployment, and the services over them |
//! | [`authorizer`] | authorizer events of API Gateway, and what the gateway is answered |
//! | [`boot`] | the composition root: environment, AWS clients, the service of one function |
//! | [`entra_http`] | the documents of Entra issuers, over HTTPS |
//! | [`gateway`] | a gateway event to a request of the core, and a reply back |
//! | [`aws`] | the ports over DynamoDB and Secrets Manager |
//! | [`rotate_keys`] | the events that replace keys: Secrets Manager's steps, an operator's call |
//! | [`system`] | the clock, randomness and key generation of the machine |
//! | [`telemetry`] | audit lines on standard output |

pub mod adapters;
pub mod authorizer;
pub mod aws;
pub mod boot;
pub mod entra_http;
pub mod gateway;
pub mod rotate_keys;
pub mod system;
pub mod telemetry;
