//! The local certificate authority and the server certificate it signs.
//!
//! Owns two files in the data directory: `ca.pem`, which clients trust, and `ca-key.pem`, which
//! only this reads. They are made once and kept, so that a client told to trust `ca.pem` goes on
//! working after a restart. The server certificate and its key are made anew at each start and
//! never leave memory, save where another process is to serve under them.
//!
//! The authority may sign for the names of its first start and this machine's own only (name
//! constraints), so that a copy of its key is of no use against other servers. Both certificates
//! carry what strict verifiers ask for: key identifiers, critical basic constraints, key usage.

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
use zeroize::Zeroizing;

use crate::files::{self, FileError, Readers};

const AUTHORITY_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";
const SERVER_FILE: &str = "server.pem";
const SERVER_KEY_FILE: &str = "server-key.pem";
const AUTHORITY_NAME: &str = "Local communication identity CA";
const AUTHORITY_LIFE: Duration = Duration::days(3650);
/// The longest that clients accept from any authority.
const SERVER_LIFE: Duration = Duration::days(397);
/// A client in a virtual machine may be behind our clock.
const CLOCK_SKEW: Duration = Duration::hours(1);
/// The names of this machine, for which the authority can always sign.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Why there is no server certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file could not be read or made.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of the authority cannot be used any more.
    #[error(
        "{} {problem}; delete {AUTHORITY_FILE} and {KEY_FILE} in its directory to have a new \
         authority made, then let clients trust the new {AUTHORITY_FILE}",
        path.display()
    )]
    Authority {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A name is neither a host name nor an IP address.
    #[error("not all of these are host names or IP addresses: {0}")]
    Name(String),
    /// The time is outside of what certificates can express.
    #[error("the time {0} does not fit in a certificate")]
    Time(OffsetDateTime),
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// The TLS library refused what was made.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// The TLS side of the local server, for the host names and IP addresses `names` (this machine's
/// own when there are none): a server certificate valid from `now` for 397 days or as long as the
/// authority, and ALPN for HTTP/2 and HTTP/1.1.
///
/// The authority is read from `dir`, which must exist, or made there at the first start: valid for
/// ten years, and able to sign for `names` and this machine's own.
///
/// # Errors
/// [`CertificateError`]; an authority that has expired, is damaged or may not sign for one of
/// `names` is reported with the file and the remedy, and left as it is.
pub fn server_config(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<ServerConfig, CertificateError> {
    let (leaf, key, provider) = sign_server(dir, names, now)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Writes a server certificate and its key into `dir`, for a process that takes them from files; replaced each
/// time. Returns where they are.
///
/// # Errors
/// As [`server_config`].
pub fn write_server(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<(PathBuf, PathBuf), CertificateError> {
    let (leaf, key, _) = sign_server(dir, names, now)?;
    let (file, key_file) = (dir.join(SERVER_FILE), dir.join(SERVER_KEY_FILE));
    files::replace(&file, leaf.pem().as_bytes(), Readers::Everyone)?;
    files::replace(&key_file, Zeroizing::new(key.serialize_pem()).as_bytes(), Readers::Owner)?;
    Ok((file, key_file))
}

/// A certificate that the authority in `dir` signs for these names, with its key, proved.
fn sign_server(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
) -> Result<(Certificate, KeyPair, Arc<CryptoProvider>), CertificateError> {
    let names = match names {
        [] => OWN_NAMES.map(str::to_owned).to_vec(),
        names => names.to_vec(),
    };
    let servers = names
        .iter()
        .map(|name| ServerName::try_from(name.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| CertificateError::Name(names.join(", ")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let authority = CertificateAuthority::open(dir, &names, now)?;
    let key = KeyPair::generate()?;
    let leaf = authority.sign(&key, &names, now)?;
    authority.check(&provider, leaf.der(), &servers, now)?;
    Ok((leaf, key, provider))
}

/// The certificate authority, with its key.
struct CertificateAuthority {
    file: PathBuf,
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// Reads the authority in `dir`; makes what is missing.
    ///
    /// A key without a certificate is what a crash leaves between the two files, or a `ca.pem`
    /// deleted by mistake: the key is used again, so that copies of the old `ca.pem` stay good.
    fn open(dir: &Path, names: &[String], now: OffsetDateTime) -> Result<Self, CertificateError> {
        let (file, key_file) = (dir.join(AUTHORITY_FILE), dir.join(KEY_FILE));
        let (certificate, key) = match (files::read(&file)?, files::read(&key_file)?) {
            (certificate, Some(key)) => (certificate, parse_key(&key_file, &key)?),
            (None, None) => (None, make_key(&key_file)?),
            (Some(_), None) => return Err(unusable(&key_file, "is missing")),
        };
        let text = match certificate {
            Some(text) => text,
            None => {
                let text = authority(names, now)?.self_signed(&key)?.pem().into_bytes();
                files::replace(&file, &text, Readers::Everyone)?;
                Zeroizing::new(text)
            }
        };
        Self::from_pem(file, &text, key, now)
    }

    /// The authority with this certificate and key.
    fn from_pem(
        file: PathBuf,
        text: &[u8],
        key: KeyPair,
        now: OffsetDateTime,
    ) -> Result<Self, CertificateError> {
        let unreadable = || unusable(&file, "does not hold a certificate that can be read");
        let certificate = CertificateDer::from_pem_slice(text).map_err(|_| unreadable())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| unreadable())?;
        let not_before = parsed.validity().not_before.to_datetime();
        let not_after = parsed.validity().not_after.to_datetime();
        if now < not_before {
            let problem = format!("is not valid before {not_before} (is the clock right?)");
            return Err(unusable(&file, &problem));
        }
        if not_after <= now {
            return Err(unusable(&file, &format!("has expired on {not_after}")));
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
        leaf.not_after = self.not_after.min(leaf.not_before.saturating_add(SERVER_LIFE));
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(leaf.signed_by(key, &self.issuer)?)
    }

    /// Verifies `leaf` as a client that trusts the authority does. Finds here, rather than in every
    /// client, a key that is not the certificate's and a name outside of the constraints.
    fn check(
        &self,
        provider: &Arc<CryptoProvider>,
        leaf: &CertificateDer<'_>,
        servers: &[ServerName<'_>],
        now: OffsetDateTime,
    ) -> Result<(), CertificateError> {
        let seconds = u64::try_from(now.unix_timestamp()).map_err(|_| CertificateError::Time(now))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .map_err(|it| unusable(&self.file, &format!("cannot be trusted ({it})")))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|it| rustls::Error::General(it.to_string()))?;
        let verify = |server| verifier.verify_server_cert(leaf, &[], server, &[], now);
        servers.iter().try_for_each(|server| {
            verify(server).map(|_| ()).map_err(|refused| {
                let names: Vec<_> = servers.iter().map(ServerName::to_str).collect();
                let names = names.join(", ");
                let problem = match refused {
                    // What TLS calls a name outside of the constraints.
                    rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_)) => {
                        format!("may sign only for the names it was made for, not for all of {names}")
                    }
                    refused => format!("does not verify what it signed for {names} ({refused})"),
                };
                unusable(&self.file, &problem)
            })
        })
    }
}

/// What the authority's certificate says.
fn authority(names: &[String], now: OffsetDateTime) -> Result<CertificateParams, CertificateError> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = common_name(AUTHORITY_NAME);
    authority.not_before = before(now)?;
    authority.not_after = now.checked_add(AUTHORITY_LIFE).ok_or(CertificateError::Time(now))?;
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

/// When a certificate made at `now` begins to be valid.
fn before(now: OffsetDateTime) -> Result<OffsetDateTime, CertificateError> {
    now.checked_sub(CLOCK_SKEW).ok_or(CertificateError::Time(now))
}

fn parse_key(path: &Path, text: &[u8]) -> Result<KeyPair, CertificateError> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| KeyPair::from_pem(text).ok())
        .ok_or_else(|| unusable(path, "does not hold a private key that can be read"))
}

fn make_key(path: &Path) -> Result<KeyPair, CertificateError> {
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
    use std::fs;

    use rustls::time_provider::TimeProvider;
    use rustls::{ClientConfig, ClientConnection, ServerConnection};
    use tempfile::tempdir;
    use time::macros::datetime;

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

    /// What a client sees that trusts `authority`, at `now`: the protocol chosen, or the refusal.
    fn connect(
        server: &ServerConfig,
        authority: &Path,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<u8>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(At(now)))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server.clone())).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut received = bytes.as_slice();
            while !received.is_empty() {
                server.read_tls(&mut received).unwrap();
            }
            server.process_new_packets()?;
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut received = bytes.as_slice();
            while !received.is_empty() {
                client.read_tls(&mut received).unwrap();
            }
            client.process_new_packets()?;
        }
        Ok(client.alpn_protocol().unwrap().to_vec())
    }

    fn said(result: Result<ServerConfig, CertificateError>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn a_client_that_trusts_the_authority_connects_by_every_name() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let server = start(dir).unwrap();
        let authority = dir.join(AUTHORITY_FILE);
        for name in OWN_NAMES {
            let protocol = connect(&server, &authority, name, NOW).unwrap();
            assert_eq!(protocol, b"h2", "{name}");
        }
        connect(&server, &authority, "example.com", NOW).unwrap_err();
        let other = tempdir().unwrap();
        let other = other.path();
        start(other).unwrap();
        connect(&server, &other.join(AUTHORITY_FILE), "localhost", NOW).unwrap_err();
    }

    #[test]
    fn the_server_certificate_lives_for_397_days() {
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
            let connected = connect(&server, &authority, "localhost", NOW + offset);
            assert_eq!(connected.is_ok(), accepted, "{offset}");
        }
    }

    #[test]
    fn a_restart_keeps_the_authority() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        start(dir).unwrap();
        let files = || [AUTHORITY_FILE, KEY_FILE].map(|file| fs::read(dir.join(file)).unwrap());
        let made = files();
        let later = NOW + Duration::days(3649);
        let server = server_config(dir, &[], later).unwrap();
        assert_eq!(files(), made);
        let authority = dir.join(AUTHORITY_FILE);
        connect(&server, &authority, "localhost", later).unwrap();
        // The server's certificate ends with the authority's.
        let ended = later + Duration::days(2);
        connect(&server, &authority, "localhost", ended).unwrap_err();
    }

    #[test]
    fn a_lost_certificate_is_made_again_for_the_same_key() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        start(dir).unwrap();
        let copy = dir.join("copy.pem");
        fs::rename(dir.join(AUTHORITY_FILE), &copy).unwrap();
        let server = start(dir).unwrap();
        connect(&server, &copy, "localhost", NOW).unwrap();
        connect(&server, &dir.join(AUTHORITY_FILE), "127.0.0.1", NOW).unwrap();
    }

    #[test]
    fn an_authority_that_cannot_be_used_is_named_with_the_remedy() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        start(dir).unwrap();
        let (file, key) = (dir.join(AUTHORITY_FILE), dir.join(KEY_FILE));
        let (certificate, private) = (fs::read(&file).unwrap(), fs::read(&key).unwrap());

        let expired = said(server_config(dir, &[], NOW + Duration::days(3651)));
        assert!(expired.contains("ca.pem has expired"), "{expired}");
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

    #[test]
    fn the_authority_signs_for_the_names_of_its_first_start_and_its_own() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let authority = dir.join(AUTHORITY_FILE);
        let server = named(dir, &["acs.internal", "192.0.2.7"]).unwrap();
        for name in ["acs.internal", "192.0.2.7"] {
            connect(&server, &authority, name, NOW).unwrap();
        }
        connect(&server, &authority, "localhost", NOW).unwrap_err();
        let server = named(dir, &["127.0.0.1"]).unwrap();
        connect(&server, &authority, "127.0.0.1", NOW).unwrap();
        for outside in ["example.com", "192.0.2.8", "2001:db8::1"] {
            let refused = said(named(dir, &["localhost", outside]));
            assert!(refused.contains(&format!("not for all of localhost, {outside};")), "{refused}");
            assert!(refused.contains("delete ca.pem"), "{refused}");
        }
    }

    #[test]
    fn a_name_that_is_none_makes_nothing() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let refused = named(dir, &["localhost", "two words"]).err().unwrap();
        assert!(matches!(refused, CertificateError::Name(_)), "{refused}");
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
        let absent = start(&dir.join("absent")).err().unwrap();
        assert!(matches!(absent, CertificateError::File { .. }), "{absent}");
    }

    #[test]
    fn every_start_has_another_key() {
        let dir = tempdir().unwrap();
        let dir = dir.path();
        let keys: BTreeSet<_> = (0..3)
            .map(|_| {
                let key = KeyPair::generate().unwrap();
                let names = OWN_NAMES.map(str::to_owned);
                let authority = CertificateAuthority::open(dir, &names, NOW).unwrap();
                authority.sign(&key, &names, NOW).unwrap().der().to_vec()
            })
            .collect();
        assert_eq!(keys.len(), 3);
        let files = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name());
        let files: BTreeSet<_> = files.collect();
        assert_eq!(files, BTreeSet::from([KEY_FILE.into(), AUTHORITY_FILE.into()]));
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempdir().unwrap();
        let dir = dir.path();
        start(dir).unwrap();
        let mode = |file| {
            let metadata = fs::metadata(dir.join(file)).unwrap();
            metadata.permissions().mode() & 0o777
        };
        assert_eq!(mode(KEY_FILE), 0o600);
        assert_eq!(mode(AUTHORITY_FILE) & 0o644, mode(AUTHORITY_FILE));
    }
}
