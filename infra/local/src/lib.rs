//! The local platform: what AWS provides to a deployment, on one machine, for development and CI.
//!
//! It runs the same core and the same adapters as the Lambda functions, over the real AWS SDK clients;
//! only what stands behind the clients is local.
//!
//! | module | owns |
//! |---|---|
//! | [`platform`] | the composition root: state directory, embedded services, the service over them |
//! | [`gateway`] | the listeners: HTTPS and HTTP, HTTP/1.1 and 2 |
//! | [`resource`] | what the resource is, kept across restarts |
//! | [`start_page`] | what is printed at start, and the `env` file |
//! | [`console`] | audit lines for a terminal or for a program |
//! | [`certificates`] | the local certificate authority |
//! | [`dynamodb`] | the embedded DynamoDB, behind the SDK's HTTP client |
//! | [`secrets_manager`] | the stand-in for Secrets Manager, behind the SDK's HTTP client |

pub mod certificates;
pub mod console;
pub mod dynamodb;
pub mod gateway;
pub mod platform;
pub mod resource;
pub mod secrets_manager;
pub mod start_page;
