//! The HTTP interface: the pipeline of a request, its routes and versions, request bodies, replies and errors.

pub mod body;
pub mod cors;
pub mod error;
pub mod functions;
pub mod limits;
pub mod pipeline;
pub mod reply;
pub mod routes;
pub mod service;
pub mod version;
