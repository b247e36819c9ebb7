//! The local certificate authority and the server certificate that it signs.
//!
//! The authority has two files in the state directory: `ca.pem`, which clients trust, and `ca-key.pem`, which only this
//! module reads. They are created once and kept, so a client that trusts `ca.pem` keeps working after a restart. Each
//! start creates a new server certificate and key. They stay in memory, unless another process serves with them.
//!
//! Name constraints (RFC 5280 section 4.2.1.10) limit the authority to the names of this machine and those that the
//! operator gave at a start. So a copy of its key is useless against other servers. A start with a further name replaces
//! `ca.pem` by a certificate with wider constraints, and clients must trust the new file. Both certificates have the extensions that strict
//! verifiers require: key identifiers, critical basic constraints, key usage.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{RootCertStore, ServerConfig};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use crate::files::{self, FileError, Readers};

const AUTHORITY_FILE: &str = "ca.pem";
pub(crate) const KEY_FILE: &str = "ca-key.pem";
const SERVER_FILE: &str = "server.pem";
const SERVER_KEY_FILE: &str = "server-key.pem";
const AUTHORITY_NAME: &str = "Local communication identity CA";
const AUTHORITY_LIFETIME: Duration = Duration::days(3650);
/// The longest lifetime that clients accept from any authority.
const SERVER_LIFETIME: Duration = Duration::days(397);
/// Certificates begin this much earlier, because the clock of a client in a virtual machine may be slow.
const CLOCK_SKEW: Duration = Duration::hours(1);
/// The names of this machine. The authority can always sign for them.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The server certificate cannot be created or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the authority cannot be used. It is left as it is.
    #[error(
        "{} {problem}; to create a new authority, delete {AUTHORITY_FILE} and {KEY_FILE} in its directory, then let \
         clients trust the new {AUTHORITY_FILE}",
        path.display()
    )]
    Authority { path: PathBuf, problem: String },
    /// A name is neither a host name nor an IP address.
    #[error("{0} is neither a host name nor an IP address; choose another --host")]
    Name(String),
    /// A certificate cannot express the time.
    #[error("the time {0} does not fit in a certificate; correct the clock")]
    Time(OffsetDateTime),
    /// A certificate cannot be created.
    #[error("cannot create a certificate: {0}")]
    Create(#[from] rcgen::Error),
    /// The TLS library refuses the certificate.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The TLS configuration of the local server. Its certificate has the host names and IP addresses `names`, or the names
/// of this machine if `names` is empty. It is valid from `now` for 397 days, but not longer than the authority. ALPN
/// offers HTTP/2 and HTTP/1.1.
///
/// The authority is read from the directory `dir`, which must exist. The first start creates it there, valid for ten
/// years, with the right to sign for `names` and for this machine. A later start with another name replaces its
/// certificate by one that has this right too.
///
/// # Errors
/// [`CertificateError`], also for an authority that has expired or is damaged.
pub fn server_config(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<ServerConfig, CertificateError> {
    let (leaf, key) = sign_server(dir, names, now)?;
    config(&leaf, &key)
}

/// As [`server_config`], with a new authority whose key is never written. `ca.pem` in `dir` is replaced.
///
/// # Errors
/// [`CertificateError`].
pub fn ephemeral_server_config(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<ServerConfig, CertificateError> {
    let authority = CertificateAuthority::create(dir.join(AUTHORITY_FILE), KeyPair::generate()?, names, now)?;
    let key = KeyPair::generate()?;
    config(&authority.sign(&key, names, now)?, &key)
}

fn config(leaf: &Certificate, key: &KeyPair) -> Result<ServerConfig, CertificateError> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Writes a new server certificate and its key into `dir`, for a process that reads them from files. Returns both
/// paths.
///
/// # Errors
/// As [`server_config`].
pub fn write_server(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<(PathBuf, PathBuf), CertificateError> {
    let (leaf, key) = sign_server(dir, names, now)?;
    let (file, key_file) = (dir.join(SERVER_FILE), dir.join(SERVER_KEY_FILE));
    files::replace(&file, leaf.pem().as_bytes(), Readers::Everyone)?;
    files::replace(&key_file, Zeroizing::new(key.serialize_pem()).as_bytes(), Readers::Owner)?;
    Ok((file, key_file))
}

/// A certificate for these names, signed by the authority in `dir` and verified, with its key.
fn sign_server(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<(Certificate, KeyPair), CertificateError> {
    let names = if names.is_empty() { OWN_NAMES.map(str::to_owned).to_vec() } else { names.to_vec() };
    let parse =
        |name: &String| ServerName::try_from(name.clone()).map_err(|_| CertificateError::Name(name.clone()));
    let servers = names.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let authority = CertificateAuthority::open(dir, &names, now)?;
    let key = KeyPair::generate()?;
    let leaf = authority.sign(&key, &names, now)?;
    if authority.permits(leaf.der(), &servers, now)? {
        return Ok((leaf, key));
    }
    let unusable = unusable(&authority.file, &format!("may not sign for all of {}", names.join(", ")));
    // An authority without constraints was not made here, so it is not replaced.
    let permitted = permitted_names(&authority.certificate);
    if permitted.is_empty() || names.iter().all(|name| permitted.contains(name)) {
        return Err(unusable);
    }
    let authority = authority.widen(dir, &[permitted.as_slice(), &names].concat(), now)?;
    let leaf = authority.sign(&key, &names, now)?;
    if authority.permits(leaf.der(), &servers, now)? { Ok((leaf, key)) } else { Err(unusable) }
}

/// Whether a certificate is one of an authority that this module made.
pub(crate) fn is_local_authority(certificate: &CertificateDer<'_>) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, parsed)| {
        parsed.subject().iter_common_name().any(|name| name.as_str() == Ok(AUTHORITY_NAME))
    })
}

/// The certificate of the authority in `dir`, if there is one.
///
/// # Errors
/// [`CertificateError::File`] when the file cannot be read.
pub fn authority_pem(dir: &Path) -> Result<Option<Vec<u8>>, CertificateError> {
    Ok(files::read(&dir.join(AUTHORITY_FILE))?.map(|text| text.to_vec()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificate authority, with its key.
struct CertificateAuthority {
    file: PathBuf,
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// Reads the authority in `dir`, and creates missing files.
    ///
    /// A crash between the two files leaves a key without a certificate, and so does a deleted `ca.pem`. The key is
    /// used again, so copies of the old `ca.pem` stay valid.
    fn open(dir: &Path, names: &[String], now: OffsetDateTime) -> Result<Self, CertificateError> {
        let (file, key_file) = (dir.join(AUTHORITY_FILE), dir.join(KEY_FILE));
        let (certificate, key) = match (files::read(&file)?, files::read(&key_file)?) {
            (certificate, Some(key)) => (certificate, parse_key(&key_file, &key)?),
            (None, None) => (None, create_key(&key_file)?),
            (Some(_), None) => return Err(unusable(&key_file, "is missing")),
        };
        match certificate {
            Some(text) => Self::from_pem(file, &text, key, now),
            None => Self::create(file, key, names, now),
        }
    }

    /// A new certificate for this key, with the right to sign for `names`. The file with the former one is replaced.
    fn create(
        file: PathBuf,
        key: KeyPair,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let text = authority(names, now)?.self_signed(&key)?.pem();
        files::replace(&file, text.as_bytes(), Readers::Everyone)?;
        Self::from_pem(file, text.as_bytes(), key, now)
    }

    /// The authority with this certificate and key.
    fn from_pem(
        file: PathBuf,
        text: &[u8],
        key: KeyPair,
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let unreadable = || unusable(&file, "does not hold a readable certificate");
        let certificate = CertificateDer::from_pem_slice(text).map_err(|_| unreadable())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| unreadable())?;
        let not_before = parsed.validity().not_before.to_datetime();
        let not_after = parsed.validity().not_after.to_datetime();
        if now < not_before {
            let problem = format!("is not valid before {not_before} (if the clock is wrong, correct it)");
            return Err(unusable(&file, &problem));
        }
        if not_after <= now {
            return Err(unusable(&file, &format!("expired on {not_after}")));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| unreadable())?;
        Ok(Self { file, certificate, not_after, issuer })
    }

    /// Signs a server certificate for `key` and `names`.
    fn sign(
        &self,
        key: &KeyPair,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<Certificate, CertificateError> {
        let mut leaf = CertificateParams::new(names.to_vec())?;
        leaf.distinguished_name = common_name("Local communication identity");
        leaf.not_before = before(now)?;
        leaf.not_after = self.not_after.min(leaf.not_before.saturating_add(SERVER_LIFETIME));
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(leaf.signed_by(key, &self.issuer)?)
    }

    /// The authority with the same key and a certificate that permits `names`.
    fn widen(&self, dir: &Path, names: &[String], now: OffsetDateTime) -> Result<Self, CertificateError> {
        let key_file = dir.join(KEY_FILE);
        let text = files::read(&key_file)?.ok_or_else(|| unusable(&key_file, "is missing"))?;
        Self::create(self.file.clone(), parse_key(&key_file, &text)?, names, now)
    }

    /// Verifies `leaf` as a client that trusts the authority, and returns whether the constraints permit its names. A key
    /// that does not belong to the certificate is found here and not at every client.
    fn permits(
        &self,
        leaf: &CertificateDer<'_>,
        servers: &[ServerName<'_>],
        now: OffsetDateTime,
    ) -> Result<bool, CertificateError> {
        let seconds = u64::try_from(now.unix_timestamp()).map_err(|_| CertificateError::Time(now))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .map_err(|error| unusable(&self.file, &format!("cannot be trusted ({error})")))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        for server in servers {
            match verifier.verify_server_cert(leaf, &[], server, &[], now) {
                Ok(_) => {}
                // The error for a name outside of the constraints. They apply to all names of the certificate.
                Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_))) => {
                    return Ok(false);
                }
                Err(error) => {
                    let problem = format!(
                        "does not verify the certificate that it signed for {} ({error})",
                        server.to_str()
                    );
                    return Err(unusable(&self.file, &problem));
                }
            }
        }
        Ok(true)
    }
}

/// The names that the constraints of an authority permit.
fn permitted_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let constraints = parsed.name_constraints().ok().flatten();
    let subtrees = constraints.and_then(|constraints| constraints.value.permitted_subtrees.as_ref());
    let name = |subtree: &x509_parser::extensions::GeneralSubtree<'_>| match subtree.base {
        GeneralName::DNSName(name) => Some(name.to_owned()),
        // The address is followed by its mask, which has only ones.
        GeneralName::IPAddress([a, b, c, d, 255, 255, 255, 255]) => {
            Some(IpAddr::from([*a, *b, *c, *d]).to_string())
        }
        GeneralName::IPAddress(bytes) => {
            let (address, _) = bytes.split_first_chunk::<16>()?;
            Some(IpAddr::from(*address).to_string())
        }
        _ => None,
    };
    subtrees.into_iter().flatten().filter_map(name).collect()
}

/// The content of the authority's certificate.
fn authority(names: &[String], now: OffsetDateTime) -> Result<CertificateParams, CertificateError> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = common_name(AUTHORITY_NAME);
    authority.not_before = before(now)?;
    authority.not_after = now.checked_add(AUTHORITY_LIFETIME).ok_or(CertificateError::Time(now))?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.use_authority_key_identifier_extension = true;
    let names: BTreeSet<_> = OWN_NAMES.into_iter().chain(names.iter().map(String::as_str)).collect();
    let permitted_subtrees = names
        .into_iter()
        .map(|name| match name.parse::<IpAddr>() {
            Ok(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
            }
            Err(_) => GeneralSubtree::DnsName(name.to_owned()),
        })
        .collect();
    authority.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    Ok(authority)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// The start of validity of a certificate that is created at `now`.
fn before(now: OffsetDateTime) -> Result<OffsetDateTime, CertificateError> {
    now.checked_sub(CLOCK_SKEW).ok_or(CertificateError::Time(now))
}

fn parse_key(path: &Path, text: &[u8]) -> Result<KeyPair, CertificateError> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| KeyPair::from_pem(text).ok())
        .ok_or_else(|| unusable(path, "does not hold a readable private key"))
}

fn create_key(path: &Path) -> Result<KeyPair, CertificateError> {
    let key = KeyPair::generate()?;
    let text = Zeroizing::new(key.serialize_pem());
    files::replace(path, text.as_bytes(), Readers::Owner)?;
    Ok(key)
}

fn unusable(path: &Path, problem: &str) -> CertificateError {
    CertificateError::Authority { path: path.to_path_buf(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::{fs, io};

    use rustls::ClientConfig;
    use rustls::time_provider::TimeProvider;
    use tempfile::tempdir;
    use time::macros::datetime;
    use tokio::io::DuplexStream;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    fn start(dir: &Path) -> Result<ServerConfig, CertificateError> {
        server_config(dir, &[], NOW)
    }

    fn named(dir: &Path, names: &[&str]) -> Result<ServerConfig, CertificateError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        server_config(dir, &names, NOW)
    }

    #[derive(Debug)]
    struct At(OffsetDateTime);

    impl TimeProvider for At {
        fn current_time(&self) -> Option<UnixTime> {
            let seconds = u64::try_from(self.0.unix_timestamp()).unwrap();
            let since = std::time::Duration::from_secs(seconds);
            Some(UnixTime::since_unix_epoch(since))
        }
    }

    /// Connects as a client that trusts `authority`, at the time `now`.
    async fn connect(
        server: &ServerConfig,
        authority: &Path,
        name: &str,
        now: OffsetDateTime,
    ) -> io::Result<TlsStream<DuplexStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_details(provider(), Arc::new(At(now)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let (client_end, server_end) = tokio::io::duplex(16 * 1024);
        let client = TlsConnector::from(Arc::new(config));
        let server = TlsAcceptor::from(Arc::new(server.clone()));
        let (client, server) = tokio::join!(client.connect(name, client_end), server.accept(server_end));
        server.and(client)
    }

    fn said(result: Result<ServerConfig, CertificateError>) -> String {
        result.err().unwrap().to_string()
    }

    #[tokio::test]
    async fn trusting_clients_connect_by_every_name() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let server = start(dir).unwrap();
        let authority = dir.join(AUTHORITY_FILE);
        for name in OWN_NAMES {
            let client = connect(&server, &authority, name, NOW).await.unwrap();
            assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "{name}");
        }
        connect(&server, &authority, "example.com", NOW).await.unwrap_err();
        let other = tempdir().unwrap();
        let other = other.path();
        start(other).unwrap();
        connect(&server, &other.join(AUTHORITY_FILE), "localhost", NOW).await.unwrap_err();
    }

    #[tokio::test]
    async fn server_certificates_are_valid_for_397_days() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let server = start(dir).unwrap();
        let authority = dir.join(AUTHORITY_FILE);
        // (offset from the start, accepted)
        let rows = [
            (Duration::minutes(-61), false),
            (Duration::minutes(-59), true),
            (Duration::days(396), true),
            (Duration::days(397), false),
        ];
        for (offset, accepted) in rows {
            let connected = connect(&server, &authority, "localhost", NOW + offset).await;
            assert_eq!(connected.is_ok(), accepted, "{offset}");
        }
    }

    #[tokio::test]
    async fn a_restart_keeps_the_authority() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        start(dir).unwrap();
        let files = || [AUTHORITY_FILE, KEY_FILE].map(|file| fs::read(dir.join(file)).unwrap());
        let made = files();
        let later = NOW + Duration::days(3649);
        let server = server_config(dir, &[], later).unwrap();
        assert_eq!(files(), made);
        let authority = dir.join(AUTHORITY_FILE);
        connect(&server, &authority, "localhost", later).await.unwrap();
        // The server's certificate ends with the authority's.
        let ended = later + Duration::days(2);
        connect(&server, &authority, "localhost", ended).await.unwrap_err();
    }

    #[tokio::test]
    async fn lost_certificates_are_replaced_for_the_same_key() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        start(dir).unwrap();
        let copy = dir.join("copy.pem");
        fs::rename(dir.join(AUTHORITY_FILE), &copy).unwrap();
        let server = start(dir).unwrap();
        connect(&server, &copy, "localhost", NOW).await.unwrap();
        connect(&server, &dir.join(AUTHORITY_FILE), "127.0.0.1", NOW).await.unwrap();
    }

    #[test]
    fn unusable_authorities_are_named_with_the_next_step() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        start(dir).unwrap();
        let (file, key) = (dir.join(AUTHORITY_FILE), dir.join(KEY_FILE));
        let (certificate, private) = (fs::read(&file).unwrap(), fs::read(&key).unwrap());

        let expired = said(server_config(dir, &[], NOW + Duration::days(3651)));
        assert!(expired.contains("ca.pem expired on"), "{expired}");
        assert!(expired.contains("delete ca.pem and ca-key.pem"), "{expired}");
        let early = said(server_config(dir, &[], NOW - Duration::days(1)));
        assert!(early.contains("ca.pem is not valid before"), "{early}");

        fs::remove_file(&key).unwrap();
        let missing = said(start(dir));
        assert!(missing.contains("ca-key.pem is missing"), "{missing}");
        for damaged in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            fs::write(&key, damaged).unwrap();
            let unread = said(start(dir));
            assert!(unread.contains("ca-key.pem does not hold"), "{unread}");
        }
        let other = tempdir().unwrap();
        let other = other.path();
        start(other).unwrap();
        fs::copy(other.join(KEY_FILE), &key).unwrap();
        let mixed = said(start(dir));
        assert!(mixed.contains("ca.pem does not verify"), "{mixed}");

        fs::write(&key, private).unwrap();
        for damaged in [&certificate[..certificate.len() / 2], b"not PEM", b""] {
            fs::write(&file, damaged).unwrap();
            let unread = said(start(dir));
            assert!(unread.contains("ca.pem does not hold"), "{unread}");
            assert_eq!(fs::read(&file).unwrap(), damaged);
        }
        fs::write(&file, certificate).unwrap();
        start(dir).unwrap();
    }

    #[tokio::test]
    async fn authorities_sign_only_for_given_names() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let authority = dir.join(AUTHORITY_FILE);
        let server = named(dir, &["acs.internal", "192.0.2.7"]).unwrap();
        for name in ["acs.internal", "192.0.2.7"] {
            connect(&server, &authority, name, NOW).await.unwrap();
        }
        connect(&server, &authority, "localhost", NOW).await.unwrap_err();
        let first = fs::read(&authority).unwrap();
        let server = named(dir, &["127.0.0.1", "acs.internal"]).unwrap();
        connect(&server, &authority, "127.0.0.1", NOW).await.unwrap();
        assert_eq!(fs::read(&authority).unwrap(), first, "a start with known names changes no file");
    }

    #[tokio::test]
    async fn further_names_replace_the_certificate_and_keep_the_key() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let (authority, former) = (dir.join(AUTHORITY_FILE), dir.join("former.pem"));
        start(dir).unwrap();
        fs::copy(&authority, &former).unwrap();
        let key = fs::read(dir.join(KEY_FILE)).unwrap();
        for further in ["example.com", "192.0.2.8", "2001:db8::1"] {
            let server = named(dir, &["localhost", further]).unwrap();
            connect(&server, &authority, further, NOW).await.unwrap();
            connect(&server, &authority, "localhost", NOW).await.unwrap();
            connect(&server, &former, "localhost", NOW).await.unwrap_err();
        }
        assert_eq!(fs::read(dir.join(KEY_FILE)).unwrap(), key);
        let widest = fs::read(&authority).unwrap();
        let server = named(dir, &["example.com", "192.0.2.8", "2001:db8::1", "::1"]).unwrap();
        connect(&server, &authority, "192.0.2.8", NOW).await.unwrap();
        assert_eq!(fs::read(&authority).unwrap(), widest, "earlier names stay permitted");
        let server = start(dir).unwrap();
        connect(&server, &former, "localhost", NOW).await.unwrap();
    }

    #[test]
    fn malformed_names_create_no_file() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let refused = named(dir, &["localhost", "two words"]).err().unwrap();
        assert!(matches!(refused, CertificateError::Name(_)), "{refused}");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
        let absent = start(&dir.join("absent")).err().unwrap();
        assert!(matches!(absent, CertificateError::File { .. }), "{absent}");
    }

    #[tokio::test]
    async fn each_start_has_a_new_key_in_memory() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let mut keys = BTreeSet::new();
        for _ in 0..3 {
            let server = start(dir).unwrap();
            let client = connect(&server, &dir.join(AUTHORITY_FILE), "localhost", NOW).await.unwrap();
            let leaf = &client.get_ref().1.peer_certificates().unwrap()[0];
            let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
            keys.insert(leaf.public_key().raw.to_vec());
        }
        assert_eq!(keys.len(), 3);
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let files: BTreeSet<_> = files.collect();
        assert_eq!(files, BTreeSet::from([KEY_FILE.into(), AUTHORITY_FILE.into()]));
    }

    #[test]
    fn keys_are_private_and_certificates_readable() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let names = OWN_NAMES.map(str::to_owned);
        write_server(dir, &names, NOW).unwrap();
        let mode = |file| fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777;
        for key in [KEY_FILE, SERVER_KEY_FILE] {
            assert_eq!(mode(key), 0o600, "{key}");
        }
        for certificate in [AUTHORITY_FILE, SERVER_FILE] {
            // The umask of the test may take the right from others.
            assert_eq!(mode(certificate) | 0o044, 0o644, "{certificate}");
        }
    }
}
