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
//! | [`key_page`] | what the commands about keys print |
//! | [`console`] | audit lines for a terminal or for a program |
//! | [`certificates`] | the local certificate authority |
//! | [`control`] | the socket over which an operator's commands reach the running server |
//! | [`schedule`] | scheduled rotations, driven as Secrets Manager drives them |
//! | [`embedded`] | the production adapters over the embedded services |
//! | [`dynamodb`] | the embedded DynamoDB, behind the SDK's HTTP client |
//! | [`secrets_manager`] | the stand-in for Secrets Manager, behind the SDK's HTTP client |

pub mod certificates;
pub mod console;
pub mod control;
pub mod dynamodb;
pub mod embedded;
pub mod gateway;
pub mod key_page;
pub mod platform;
pub mod resource;
pub mod schedule;
pub mod secrets_manager;
pub mod start_page;
