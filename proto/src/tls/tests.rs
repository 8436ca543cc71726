//! Handshakes between two rustls connections in memory, honest and not.

use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::version::{ALPN_PEER, ALPN_TRACKER};

fn identity() -> Identity {
    Identity::generate().expect("made")
}

fn server(identity: &Identity) -> ServerConfig {
    server_config(identity, &[ALPN_PEER]).expect("a good configuration")
}

fn client(identity: &Identity, expected: Option<NodeId>) -> ClientConfig {
    client_config(identity, ALPN_PEER, expected).expect("a good configuration")
}

/// Passes bytes both ways until neither side has any; the first side that refuses ends it.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(server_name(None)).expect("a DNS name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("writes to memory");
        }
        let mut sent = bytes.as_slice();
        while !sent.is_empty() {
            server.read_tls(&mut sent).expect("reads from memory");
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("writes to memory");
        }
        let mut sent = bytes.as_slice();
        while !sent.is_empty() {
            client.read_tls(&mut sent).expect("reads from memory");
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn refusal(client: ClientConfig, server: ServerConfig) -> Error {
    match handshake(client, server) {
        Ok(_) => panic!("the handshake succeeded"),
        Err(error) => error,
    }
}

/// What our own verifier said.
fn cause(error: Error) -> Arc<dyn std::error::Error + Send + Sync> {
    match error {
        Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(cause))) => cause,
        error => panic!("not refused by the verifier: {error}"),
    }
}

/// Shows one certificate and signs with a key that may be another's.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl Impostor {
    fn new(victim: &Identity, attacker: &Identity, copies: usize) -> Arc<Impostor> {
        let key = PROVIDER.key_provider.load_private_key(attacker.private_key()).expect("a good key");
        Arc::new(Impostor(Arc::new(CertifiedKey::new(vec![victim.certificate(); copies], key))))
    }
}

impl ResolvesClientCert for Impostor {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let (alice, bob) = (identity(), identity());
    for expected in [None, Some(bob.node_id())] {
        let (client, server) = handshake(client(&alice, expected), server(&bob)).expect("succeeds");
        assert_eq!(peer_node_id(client.peer_certificates().unwrap_or_default()), Ok(bob.node_id()));
        assert_eq!(peer_node_id(server.peer_certificates().unwrap_or_default()), Ok(alice.node_id()));
        assert_eq!(server.alpn_protocol(), Some(ALPN_PEER));
    }
}

#[test]
fn the_key_exchange_is_post_quantum() {
    let (client, server) = handshake(client(&identity(), None), server(&identity())).expect("succeeds");
    for group in [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()] {
        assert_eq!(group.map(|group| format!("{:?}", group.name())).as_deref(), Some(KEY_EXCHANGE));
    }
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let suite = client.negotiated_cipher_suite().map(|suite| suite.suite());
    assert_eq!(suite, Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
}

#[test]
fn nothing_can_be_resumed() {
    let (alice, bob) = (identity(), identity());
    let (client, server) = handshake(client(&alice, None), server(&bob)).expect("succeeds");
    assert_eq!(client.tls13_tickets_received(), 0);
    assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
    assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
}

#[test]
fn another_node_than_expected_is_refused() {
    let (alice, bob, mallory) = (identity(), identity(), identity());
    let error = refusal(client(&alice, Some(bob.node_id())), server(&mallory));
    let Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(cause))) = error else {
        panic!("{error}")
    };
    let wrong = WrongNode { expected: bob.node_id(), presented: mallory.node_id() };
    assert_eq!(cause.downcast_ref(), Some(&wrong));
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let nameless = ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3 is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NodeVerifier { expected: None }));
    let mut nameless = nameless.with_no_client_auth();
    nameless.alpn_protocols = vec![ALPN_PEER.to_vec()];
    assert_eq!(refusal(nameless, server(&identity())), Error::NoCertificatesPresented);
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    let (alice, bob, mallory) = (identity(), identity(), identity());
    let bad_signature = Error::InvalidCertificate(rustls::CertificateError::BadSignature);

    let mut as_client = client(&mallory, Some(bob.node_id()));
    as_client.client_auth_cert_resolver = Impostor::new(&alice, &mallory, 1);
    assert_eq!(refusal(as_client, server(&bob)), bad_signature);

    let mut as_server = server(&mallory);
    as_server.cert_resolver = Impostor::new(&bob, &mallory, 1);
    assert_eq!(refusal(client(&alice, Some(bob.node_id())), as_server), bad_signature);
}

#[test]
fn a_chain_of_certificates_is_refused() {
    let (alice, bob) = (identity(), identity());
    let mut chained = client(&alice, None);
    chained.client_auth_cert_resolver = Impostor::new(&alice, &alice, 2);
    let error = refusal(chained, server(&bob));
    assert_eq!(cause(error).downcast_ref(), Some(&CertificateError::Chain));
    assert_eq!(peer_node_id(&[alice.certificate(), bob.certificate()]), Err(CertificateError::Chain));
    assert_eq!(peer_node_id(&[]), Err(CertificateError::Missing));
}

#[test]
fn only_ed25519_signs() {
    assert_eq!(PROVIDER.signature_verification_algorithms.supported_schemes(), [SignatureScheme::ED25519]);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("made");
    let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("made").der().clone();
    let mut ecdsa = server(&identity());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = PROVIDER.key_provider.load_private_key(key).expect("a good key");
    ecdsa.cert_resolver = Arc::new(Impostor(Arc::new(CertifiedKey::new(vec![certificate], key))));
    assert!(matches!(refusal(client(&identity(), None), ecdsa), Error::PeerIncompatible(_)));
}

#[test]
fn a_protocol_that_is_not_served_is_refused() {
    let dialled = client_config(&identity(), ALPN_TRACKER, None).expect("a good configuration");
    assert_eq!(refusal(dialled, server(&identity())), Error::NoApplicationProtocol);
}

#[test]
fn every_server_name_is_a_dns_name() {
    let id = NodeId([0xab; 32]);
    let name = server_name(Some(id));
    assert_eq!(name, format!("{0}.{0}.p2p.invalid", "ab".repeat(16)));
    for name in [name, server_name(None)] {
        assert!(matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))));
    }
}
