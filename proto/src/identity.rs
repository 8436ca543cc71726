//! Identity: the key pair that names a node, made once and kept in one file of its state folder.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::id::NodeId;

/// The key's file inside the state folder: an Ed25519 key as PKCS#8 (RFC 5958, RFC 8410), DER.
pub const KEY_FILE: &str = "identity.key";

/// Longest key file read, in bytes; an Ed25519 key takes less than a hundred.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Whoever reads the key can be this node.
    #[error("the key file {} can be read or changed by others (mode {mode:03o}); if nobody did, run `chmod 600` on it", path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Whoever owns the key can be this node.
    #[error("the key file {} belongs to user {owner}; run as that user, or choose another folder with --home DIR", path.display())]
    Foreign {
        /// The key file.
        path: PathBuf,
        /// Its owner's number.
        owner: u32,
    },
    /// The key file does not hold an Ed25519 key. A new one is never made in its place: that would be another node.
    #[error(
        "the key file {} is damaged; put back a copy of it, or move it away to start as a new node and log in again",
        path.display()
    )]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The cryptographic library refused.
    #[error("cannot make a key pair: {0}")]
    KeyPair(#[from] rcgen::Error),
}

/// Why a peer's certificate names no node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// None was presented.
    #[error("the peer presented no certificate")]
    Missing,
    /// More than one was presented; a node's certificate is signed by itself, so nothing belongs behind it.
    #[error("the peer presented a chain of certificates, not one that it signed itself")]
    Chain,
    /// Not an X.509 v3 certificate (RFC 5280).
    #[error("the peer's certificate cannot be read")]
    Unreadable,
}

/// An Ed25519 key pair (RFC 8032) and the certificate that carries its public half into TLS.
///
/// Only the key is kept. The certificate follows from it byte for byte (its serial number and signature are
/// deterministic, its dates fixed), so key and certificate can never disagree, whatever a crash leaves behind.
pub struct Identity {
    node_id: NodeId,
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
}

impl Identity {
    /// A new identity that is kept nowhere.
    ///
    /// # Errors
    /// [`IdentityError::KeyPair`].
    pub fn generate() -> Result<Identity, IdentityError> {
        let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ED25519)?.serialize_der());
        Ok(Self::from_key(key)?)
    }

    /// The identity kept in `folder`; the first time, a new one, durable when this returns.
    ///
    /// The folder is made with mode 0700 where it is missing, the key file with mode 0600. A crash leaves a whole key
    /// or none. Two programs must not do this at once: the caller holds the folder's lock.
    ///
    /// # Errors
    /// Every [`IdentityError`]; an existing key file is never changed.
    pub fn load_or_create(folder: &Path) -> Result<Identity, IdentityError> {
        let path = folder.join(KEY_FILE);
        if let Some(key) = read_key(&path)? {
            return Self::from_key(key).map_err(|_| IdentityError::Damaged { path });
        }
        let identity = Self::generate()?;
        write_key(folder, &path, &identity.key)?;
        Ok(identity)
    }

    fn from_key(key: Zeroizing<Vec<u8>>) -> Result<Identity, rcgen::Error> {
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key.as_slice()), &PKCS_ED25519)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "p2p node");
        let certificate = params.self_signed(&pair)?.der().clone();
        let node_id = node_id_of(&certificate).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        Ok(Identity { node_id, certificate, key })
    }

    /// The name of the node that holds this key.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// The self-signed certificate, DER.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The private key as rustls takes it, PKCS#8 DER.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }

    /// Secret for QUIC stateless resets (RFC 9000 §10.3.2): the same after a restart, so that peers of the process
    /// before learn at once that their connections are gone.
    pub fn reset_key(&self) -> [u8; 64] {
        self.derive(b"p2p stateless reset 1")
    }

    /// Key of the QUIC connection-id generator: the same after a restart, so that stray packets are told from ours.
    pub fn connection_id_key(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.derive(b"p2p connection id 1");
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// 64 secret bytes of the stored key, its own for each label: HMAC-SHA-512 as a pseudo-random function, which is
    /// HKDF-Expand (RFC 5869 §2.3) of one block. They tell nothing of each other or of the key.
    fn derive(&self, label: &[u8]) -> [u8; 64] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, &self.key), label);
        let mut bytes = [0; 64];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }
}

impl fmt::Debug for Identity {
    /// Only the node id: the rest is secret or follows from it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.node_id).finish()
    }
}

/// The node that a certificate names: SHA-256 of its SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), DER.
///
/// Says nothing of who holds the key: that is what the TLS handshake's signature proves.
///
/// # Errors
/// [`CertificateError::Unreadable`].
pub fn node_id_of(certificate: &CertificateDer<'_>) -> Result<NodeId, CertificateError> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|_| CertificateError::Unreadable)?;
    Ok(NodeId(Sha256::digest(parsed.subject_public_key_info()).into()))
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Disk { action, path, source }
}

/// The key file's bytes, `None` where there is no such file.
fn read_key(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("open", path)(error)),
    };
    let metadata = file.metadata().map_err(disk("inspect", path))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(IdentityError::Foreign { path: path.to_owned(), owner: metadata.uid() });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES_MAX as usize));
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut key).map_err(disk("read", path))?;
    Ok(Some(key))
}

/// Writes beside the final name, syncs, renames, syncs the folder: what stands under `path` is whole or not there.
fn write_key(folder: &Path, path: &Path, key: &[u8]) -> Result<(), IdentityError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(disk("create", folder))?;
    let temporary = path.with_extension("key.new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(disk("remove", &temporary)(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(disk("create", &temporary))?;
    file.write_all(key).and_then(|()| file.sync_all()).map_err(disk("write", &temporary))?;
    fs::rename(&temporary, path).map_err(disk("rename", &temporary))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn an_identity_is_the_same_after_a_restart() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("state");
        let first = Identity::load_or_create(&folder).expect("created");
        let second = Identity::load_or_create(&folder).expect("loaded");
        assert_eq!(first.node_id(), second.node_id());
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(first.reset_key(), second.reset_key());
        assert_eq!(first.connection_id_key(), second.connection_id_key());
    }

    #[test]
    fn nobody_else_can_read_what_is_kept() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("state");
        Identity::load_or_create(&folder).expect("created");
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(KEY_FILE)), 0o600);
        let names: Vec<_> =
            fs::read_dir(&folder).expect("reads").map(|entry| entry.expect("reads").file_name()).collect();
        assert_eq!(names, [KEY_FILE]);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        Identity::load_or_create(folder.path()).expect("created");
        let path = folder.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changes");
        let error = Identity::load_or_create(folder.path()).expect_err("exposed");
        assert!(matches!(error, IdentityError::Exposed { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn a_key_of_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give a file away");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        Identity::load_or_create(folder.path()).expect("created");
        std::os::unix::fs::chown(folder.path().join(KEY_FILE), Some(65_534), None).expect("root may");
        let error = Identity::load_or_create(folder.path()).expect_err("somebody else knows it");
        assert!(matches!(error, IdentityError::Foreign { owner: 65_534, .. }), "{error}");
    }

    #[test]
    fn a_damaged_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        Identity::load_or_create(folder.path()).expect("created");
        let path = folder.path().join(KEY_FILE);
        let whole = fs::read(&path).expect("reads");
        for damaged in [&whole[..0], &whole[..whole.len() / 2], b"not a key", &[0xff; 2048]] {
            fs::write(&path, damaged).expect("writes");
            let error = Identity::load_or_create(folder.path()).expect_err("damaged");
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).expect("reads"), damaged);
        }
    }

    #[test]
    fn what_a_crash_left_half_written_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("identity.key.new"), b"half a k").expect("writes");
        let first = Identity::load_or_create(folder.path()).expect("created");
        assert_eq!(first.node_id(), Identity::load_or_create(folder.path()).expect("loaded").node_id());
    }

    #[test]
    fn identities_and_the_secrets_of_one_differ() {
        let (one, other) = (Identity::generate().expect("made"), Identity::generate().expect("made"));
        assert_ne!(one.node_id(), other.node_id());
        assert_ne!(one.reset_key(), other.reset_key());
        assert_ne!(one.reset_key()[..8], one.connection_id_key().to_le_bytes());
    }

    #[test]
    fn a_certificate_names_the_node_that_made_it() {
        let identity = Identity::generate().expect("made");
        assert_eq!(node_id_of(&identity.certificate()), Ok(identity.node_id()));
        let whole = identity.certificate();
        for end in 0..whole.len() {
            assert_eq!(node_id_of(&CertificateDer::from(&whole[..end])), Err(CertificateError::Unreadable));
        }
    }

    #[test]
    fn the_private_key_is_not_shown() {
        let identity = Identity::generate().expect("made");
        assert_eq!(format!("{identity:?}"), format!("Identity({:?})", identity.node_id()));
    }
}
