//! The protocol of trackers among themselves, spoken by somebody who is none.

use std::net::SocketAddr;
use std::sync::Arc;

use p2p_proto::identity::Identity;
use p2p_proto::tls;
use p2p_proto::version::ALPN_RAFT;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};

use super::harness::{Client, Tracker, run};

#[test]
fn nobody_else_speaks_the_protocol_of_the_trackers() {
    let tracker = Tracker::start();
    run(async {
        let (member, identity) = Client::enter(tracker.address, "alice").await;
        for identity in [Identity::generate().expect("made"), identity] {
            let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
            let tls = tls::client_config(&identity, ALPN_RAFT, None).expect("a configuration");
            let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("a cipher")));
            let connecting = endpoint.connect_with(config, tracker.address, &tls::server_name(None));
            let connection = connecting.expect("an address").await.expect("the handshake itself is everybody's");
            if let Ok((mut send, mut recv)) = connection.open_bi().await {
                // To be elected, in the first term, for tracker 9; and garbage.
                let _ = send.write_all(&[7, 0, 0, 0, 1, 1, 9, 0, 0, 0, 0]).await;
                assert!(recv.read_to_end(64).await.is_err(), "nothing is answered");
            }
            match connection.closed().await {
                ConnectionError::ApplicationClosed(closed) => {
                    assert_eq!(&closed.reason[..], b"not a tracker of this cluster")
                }
                other => panic!("closed otherwise: {other}"),
            }
        }
        assert!(member.connection.close_reason().is_none(), "and its sessions go on");
    });
}
