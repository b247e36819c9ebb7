//! Tables of attacks on the verifier. Each row is a valid token with one change. If the signature covers the change, the
//! token is signed again with a key in force. So only the check under test can refuse the row.

mod claims;
mod ecdsa;
mod forge;
mod header;
mod rsa;
mod signature;
mod text;
mod time;
