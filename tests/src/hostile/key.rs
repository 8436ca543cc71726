//! Keys and certificates, one's own and other people's, and the TLS set-up that shows them.

use std::sync::Arc;

use p2p_proto::id::NodeId;
use p2p_proto::identity::node_id_of;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// A certificate, DER.
pub type Certificate = CertificateDer<'static>;

/// A key pair with the certificate that it signed itself.
#[derive(Debug)]
pub struct Key {
    /// The node that it makes its holder.
    pub node: NodeId,
    certificate: CertificateDer<'static>,
    secret: Vec<u8>,
}

impl Key {
    /// A new key of the kind that nodes have.
    #[expect(clippy::new_without_default, reason = "every key is another")]
    pub fn new() -> Key {
        Key::of_kind(&PKCS_ED25519)
    }

    /// A new key of a kind that no node has.
    pub fn ecdsa() -> Key {
        Key::of_kind(&PKCS_ECDSA_P256_SHA256)
    }

    fn of_kind(algorithm: &'static SignatureAlgorithm) -> Key {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        let certificate = CertificateParams::default().self_signed(&pair).expect("a certificate").der().clone();
        let node = node_id_of(&certificate).expect("an X.509 certificate");
        Key { node, certificate, secret: pair.serialize_der() }
    }

    /// Its certificate, which it shows to everybody.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    fn show(&self, chain: Vec<CertificateDer<'static>>) -> Arc<CertifiedKey> {
        let secret: PrivateKeyDer<'_> = PrivatePkcs8KeyDer::from(self.secret.as_slice()).into();
        // Not `from_der`: that would find out that key and certificate do not belong together.
        Arc::new(CertifiedKey::new(chain, any_supported_type(&secret).expect("a signing key")))
    }
}

/// What is presented in a handshake.
#[derive(Debug)]
pub enum Shown<'a> {
    /// One's own certificate.
    Own(&'a Key),
    /// Somebody else's, without the key that belongs to it.
    Stolen(CertificateDer<'static>, &'a Key),
    /// One's own with somebody else's behind it.
    Chain(&'a Key, CertificateDer<'static>),
    /// Bytes that are no certificate.
    Garbage(&'a Key),
    /// None.
    Nothing,
}

impl Shown<'_> {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        match self {
            Shown::Own(key) => Some(key.show(vec![key.certificate()])),
            Shown::Stolen(certificate, key) => Some(key.show(vec![certificate.clone()])),
            Shown::Chain(key, behind) => Some(key.show(vec![key.certificate(), behind.clone()])),
            Shown::Garbage(key) => Some(key.show(vec![CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])])),
            Shown::Nothing => None,
        }
    }
}

/// The dialling side's set-up: believes every server, shows what it is told to.
///
/// # Panics
/// If rustls refuses it.
pub fn client_config(shown: &Shown<'_>, alpn: &[u8]) -> quinn::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match shown.certified() {
        Some(certified) => builder.with_client_cert_resolver(Arc::new(Always(certified))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("a cipher for QUIC")))
}

/// The accepting side's set-up: lets everybody in who shows a certificate.
///
/// # Panics
/// If rustls refuses it.
pub fn server_config(shown: &Shown<'_>, alpn: &[u8]) -> quinn::ServerConfig {
    let certified = shown.certified().expect("a server shows a certificate");
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(Arc::new(Anybody))
        .with_cert_resolver(Arc::new(Always(certified)));
    config.alpn_protocols = vec![alpn.to_vec()];
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).expect("a cipher for QUIC")))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// Shows the same whatever is asked for.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// Believes anybody who proves a key.
#[derive(Debug)]
struct Anybody;

fn verify(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl rustls::server::danger::ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
