//! Attacks on the verifier, as tables: each row is a good token with one thing changed, and sealed again
//! with a key in force where that is needed, so that only the check under test can be what refuses it.

mod claims;
mod ecdsa;
mod forge;
mod header;
mod rsa;
mod signature;
mod text;
mod time;
