//! TLS 1.3 between nodes: both sides prove the key that their node id names, and nothing else is believed.

use std::sync::{Arc, LazyLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible, ServerConfig,
    SignatureScheme,
};

use crate::id::NodeId;
use crate::identity::{CertificateError, Identity, node_id_of};

/// The key exchange between any two nodes of this version, as [`rustls`] names it: hybrid of X25519 and ML-KEM-768
/// (draft-ietf-tls-ecdhe-mlkem).
///
/// The first that both ends offer, so the one they agree on; X25519 alone stands behind it for a peer that has no
/// ML-KEM. quinn does not tell what a connection negotiated, and nobody between two ends can lower it, since the
/// handshake's signatures cover the offers.
pub const KEY_EXCHANGE: &str = "X25519MLKEM768";

/// Server name sent while the node to be reached is not known (first contact with a tracker).
const UNKNOWN_SERVER_NAME: &str = "unknown.p2p.invalid";

/// The node that answered is not the one that was to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected node {expected}, reached node {presented}")]
pub struct WrongNode {
    /// Who was to be reached.
    pub expected: NodeId,
    /// Whose certificate came.
    pub presented: NodeId,
}

/// Configuration of the accepting side, for the protocols `alpns` (RFC 7301), most wanted first.
///
/// Every client must present a certificate and prove its key; [`peer_node_id`] tells whose it is.
///
/// # Errors
/// Whatever rustls finds wrong with the key or the certificate, which [`Identity`] never gives cause for.
pub fn server_config(identity: &Identity, alpns: &[&[u8]]) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(NodeVerifier { expected: None }))
        .with_single_cert(vec![identity.certificate()], identity.private_key())?;
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    // A resumed session would skip the client's certificate, and early data can be replayed: neither exists here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Configuration of the dialling side, for one protocol and, where it is known, one node.
///
/// With `expected` the handshake fails with [`WrongNode`] when another node answers; of that, quinn hands on only the
/// alert `certificate_unknown` (46) and rustls' own words. A caller that wants to tell a person who answered (a tracker
/// whose remembered key changed) dials without `expected` and compares [`peer_node_id`] before it says anything.
///
/// # Errors
/// Whatever rustls finds wrong with the key or the certificate, which [`Identity`] never gives cause for.
pub fn client_config(identity: &Identity, alpn: &[u8], expected: Option<NodeId>) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NodeVerifier { expected }))
        .with_client_auth_cert(vec![identity.certificate()], identity.private_key())?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// The server name to dial with: the node id as two DNS labels of 32 hexadecimal digits (a label holds 63 at the most,
/// RFC 1035 §2.3.4) under `.invalid` (RFC 6761 §6.4), or a constant where no node is `expected`.
pub fn server_name(expected: Option<NodeId>) -> String {
    match expected.map(|node_id| hex::encode(node_id.0)) {
        Some(digits) => format!("{}.{}.p2p.invalid", &digits[..32], &digits[32..]),
        None => UNKNOWN_SERVER_NAME.to_owned(),
    }
}

/// The node at the other end of a finished handshake, from the certificates it presented (quinn: `peer_identity()`).
///
/// # Errors
/// Every [`CertificateError`]; none can happen behind the configurations of this module.
pub fn peer_node_id(certificates: &[CertificateDer<'_>]) -> Result<NodeId, CertificateError> {
    match certificates {
        [] => Err(CertificateError::Missing),
        [certificate] => node_id_of(certificate),
        _ => Err(CertificateError::Chain),
    }
}

/// What both sides offer: hybrid key exchange first, AES-128-GCM first (the fastest with AES instructions), and
/// Ed25519 as the only signature.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::{cipher_suite as cipher, kx_group as group};
    let provider = aws_lc_rs::default_provider();
    Arc::new(CryptoProvider {
        kx_groups: vec![group::X25519MLKEM768, group::X25519],
        cipher_suites: vec![
            cipher::TLS13_AES_128_GCM_SHA256,
            cipher::TLS13_AES_256_GCM_SHA384,
            cipher::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        signature_verification_algorithms: ed25519_only(provider.signature_verification_algorithms),
        ..provider
    })
});

/// `all` without any signature scheme but Ed25519: none at all, which refuses every handshake, were it missing.
fn ed25519_only(all: WebPkiSupportedAlgorithms) -> WebPkiSupportedAlgorithms {
    let is_ed25519 = |(scheme, _): &(SignatureScheme, _)| *scheme == SignatureScheme::ED25519;
    let mapping = all.mapping.chunks(1).find(|entry| entry.iter().all(is_ed25519)).unwrap_or_default();
    WebPkiSupportedAlgorithms { all: mapping.first().map_or(&[], |(_, algorithms)| algorithms), mapping }
}

/// Believes a certificate for its key alone: its names, dates and issuer say nothing, since its holder wrote them.
#[derive(Debug)]
struct NodeVerifier {
    /// Who must be at the other end; `None` takes everybody who proves a key.
    expected: Option<NodeId>,
}

impl NodeVerifier {
    fn verify_node(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !intermediates.is_empty() {
            return Err(refused(CertificateError::Chain));
        }
        let presented = node_id_of(certificate).map_err(refused)?;
        match self.expected {
            Some(expected) if expected != presented => Err(refused(WrongNode { expected, presented })),
            _ => Ok(()),
        }
    }
}

/// `cause` as rustls carries it; the peer hears the alert `certificate_unknown` (46).
fn refused(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    rustls::CertificateError::Other(OtherError(Arc::new(cause))).into()
}

/// The proof of the key (RFC 8446 §4.4.3), the same in both directions.
fn verify_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(message, certificate, signature, &PROVIDER.signature_verification_algorithms)
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_node(certificate, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify_node(certificate, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
