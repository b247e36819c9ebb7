//! What the measuring program shares with the servers it compares with.

pub mod store_call;
