//! The local platform: the AWS side of a deployment, on one machine, for development and CI.
//!
//! It runs the same core and the same adapters as the Lambda functions, over the real AWS SDK clients. Only the
//! services behind the clients are local.
//!
//! | module | owns |
//! |---|---|
//! | [`platform`] | the composition root: state directory, embedded services, the service over them |
//! | [`files`] | the files of the state directory: read, replaced, removed |
//! | [`state`] | the place of the state: its directory, or memory |
//! | [`resource`] | the resource, kept across restarts |
//! | [`names`] | the names and addresses of the server |
//! | [`certificates`] | the local certificate authority and the server certificate |
//! | [`router`] | the services behind the listeners |
//! | [`gateway`] | the listeners: HTTPS and HTTP, HTTP/1.1 and 2 |
//! | `bind`, `connections`, `body` | ports, open connections and the bodies of requests, within limits |
//! | `head` | the warning about heads that API Gateway refuses |
//! | `invoke` | the authorizer, invoked as on Lambda |
//! | [`health`], [`metrics`] | `/health` and `/metrics`, for probes |
//! | [`ready`] | the signal to other programs that the server answers |
//! | [`control_api`] | the calls below `/_local/v1`, and the rules for web pages |
//! | [`control`] | the socket through which commands reach the running server |
//! | [`listing`] | the identities in the table |
//! | [`client`] | the client of the commands, for any endpoint |
//! | [`replacement`] | replacements of keys, which publish the new ones |
//! | [`schedule`] | scheduled rotations, driven as Secrets Manager drives them |
//! | [`console`] | audit lines as text or as JSON |
//! | [`output`] | the texts printed on the terminal, and the `env` files |
//! | [`entra`] | the stand-in for Microsoft Entra ID, for development |
//! | [`trust`] | the Entra authority that the server trusts |
//! | [`trust_files`] | the authorities that clients trust |
//! | [`embedded`] | the production adapters over the embedded services |
//! | [`dynamodb`] | the embedded DynamoDB, in place of the SDK's HTTP client |
//! | [`secrets_manager`] | the stand-in for Secrets Manager, in place of the SDK's HTTP client |
//! | `sdk_response` | the responses of these two |
//! | [`aws_endpoint`] | the embedded services on one port, for other processes |

pub mod aws_endpoint;
mod bind;
mod body;
pub mod certificates;
pub mod client;
mod connections;
pub mod console;
pub mod control;
pub mod control_api;
pub mod dynamodb;
pub mod embedded;
pub mod entra;
pub mod files;
pub mod gateway;
mod head;
pub mod health;
mod invoke;
pub mod listing;
pub mod metrics;
pub mod names;
pub mod output;
pub mod platform;
pub mod ready;
pub mod recorder;
pub mod replacement;
pub mod resource;
pub mod router;
pub mod schedule;
mod sdk_response;
pub mod secrets_manager;
pub mod state;
pub mod trust;
pub mod trust_files;
