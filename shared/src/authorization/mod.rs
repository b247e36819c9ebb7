//! Authorization at resource servers: the capability of each scope, the capability that each route needs, and the
//! decision about one request.

pub mod authorizer;
pub mod capability;
pub mod route_rules;
