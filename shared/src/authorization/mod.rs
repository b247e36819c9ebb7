//! Authorization at resource servers: the capabilities of each scope, the capability that each route needs, and the
//! decision about a request.

pub mod authorizer;
pub mod capability;
pub mod route_rules;
