//! The certificate authorities for clients: the roots of the system and the local authority.
//!
//! `SSL_CERT_FILE` and `REQUESTS_CA_BUNDLE` replace the roots of a client. With the local authority alone, package
//! installations and calls to real services would fail in the same shell.

use std::path::Path;

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry};
use pem::{EncodeConfig, LineEnding, Pem, encode_config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::certificates;
use crate::files::{self, FileError, Readers};

/// The PEM file with all authorities.
pub const BUNDLE: &str = "ca-bundle.pem";

/// The PKCS#12 file with the same certificates, for Java.
pub const TRUST_STORE: &str = "truststore.p12";

/// The password of the trust store. It is public, because the file holds no secret.
pub const PASSWORD: &str = "changeit";

/// Rounds of the key derivation. They protect no secret, and more would only take time.
const ROUNDS: u32 = 1;

const NO_ROOTS: &str = "# This system has no roots, so the local authority is alone in this file.\n";

/// Writes both files beside `ca.pem`, whose text is `authority`.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(dir: &Path, authority: &[u8]) -> Result<(), FileError> {
    let roots = system_roots();
    let mut bundle = if roots.is_empty() { NO_ROOTS.to_owned() } else { String::new() };
    for root in &roots {
        let root = Pem::new("CERTIFICATE", root.as_ref());
        bundle.push_str(&encode_config(&root, EncodeConfig::new().set_line_ending(LineEnding::LF)));
    }
    bundle.push_str(&String::from_utf8_lossy(authority));
    files::update(&dir.join(BUNDLE), bundle.as_bytes(), Readers::Everyone)?;
    let path = dir.join(TRUST_STORE);
    let store = trust_store(&roots, authority);
    let store = store.map_err(|error| FileError::new("write", &path, std::io::Error::other(error)))?;
    files::replace(&path, &store, Readers::Everyone)
}

/// The roots that clients of this system trust. A file of this program may be among them, because the variables of a shell
/// can name its bundle. Its authority is left out: it may be the authority of another server.
fn system_roots() -> Vec<CertificateDer<'static>> {
    let mut roots = rustls_native_certs::load_native_certs().certs;
    roots.retain(|root| !certificates::is_local_authority(root));
    roots
}

fn trust_store(roots: &[CertificateDer<'_>], authority: &[u8]) -> p12_keystore::Result<Vec<u8>> {
    let mut store = KeyStore::new();
    let own = CertificateDer::from_pem_slice(authority).ok();
    let own = own.as_ref().map(|own| ("acs-identity".to_owned(), own));
    let roots = roots.iter().enumerate().map(|(number, root)| (format!("root-{number}"), root));
    for (alias, certificate) in roots.chain(own) {
        // A root that the crate cannot read is left out. Java would not trust it either.
        if let Ok(certificate) = Certificate::from_der(certificate) {
            store.add_entry(&alias, KeyStoreEntry::Certificate(certificate));
        }
    }
    store.writer(PASSWORD).encryption_iterations(ROUNDS).mac_iterations(ROUNDS).write()
}
