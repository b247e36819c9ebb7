//! The local platform: what AWS provides to a deployment, on one machine, for development and CI.
//!
//! It runs the same core and the same adapters as the Lambda functions, over the real AWS SDK clients;
//! only what stands behind the clients is local.
//!
//! | module | owns |
//! |---|---|
//! | [`platform`] | the composition root: state directory, embedded services, the service over them |
//! | [`gateway`] | the listeners: HTTPS and HTTP, HTTP/1.1 and 2 |
//! | [`names`] | by which names and addresses clients may know it, and which one they are told |
//! | [`resource`] | what the resource is, kept across restarts |
//! | [`start_page`] | what is printed at start, and the `env` file |
//! | [`key_page`] | what the commands about keys print |
//! | [`aws_endpoint`] | the embedded services on one port, for processes of their own |
//! | [`functions_page`] | what is told to functions that run as processes of their own |
//! | [`token_page`] | what `token inspect` prints |
//! | `invoke` | the authorizer, invoked as on Lambda |
//! | [`console`] | audit lines for a terminal or for a program |
//! | [`certificates`] | the local certificate authority |
//! | [`health`] | `/health`, for probes |
//! | [`control`] | the socket over which an operator's commands reach the running server |
//! | [`schedule`] | scheduled rotations, driven as Secrets Manager drives them |
//! | [`embedded`] | the production adapters over the embedded services |
//! | [`entra`] | the stand-in for Microsoft Entra ID, for development |
//! | [`trust`] | whom the server trusts in Entra: the stand-in, or a real authority |
//! | [`dynamodb`] | the embedded DynamoDB, behind the SDK's HTTP client |
//! | [`secrets_manager`] | the stand-in for Secrets Manager, behind the SDK's HTTP client |

pub mod aws_endpoint;
pub mod certificates;
pub mod console;
pub mod control;
pub mod dynamodb;
pub mod embedded;
pub mod entra;
pub mod functions_page;
pub mod gateway;
pub mod health;
mod invoke;
pub mod key_page;
pub mod names;
pub mod platform;
mod reply;
pub mod resource;
pub mod schedule;
pub mod secrets_manager;
pub mod start_page;
pub mod token_page;
pub mod trust;
