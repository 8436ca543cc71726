//! A thousand logins at once from one address, half of them for one name: its user gets in meanwhile, and the tracker stays
//! small.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use p2p_proto::password::{ClientLogin, Password};
use p2p_proto::reject::ErrorCode;
use p2p_proto::tracker::{Answer, Request};
use p2p_tests::World;
use p2p_tests::hostile::{Client, Heard, Key};
use p2p_tests::wait::{TRANSFER_DEADLINE, eventually};
use p2p_tests::world::PASSWORD;
use quinn::{Endpoint, TransportConfig};
use tokio::sync::Semaphore;

/// Logins at once.
const LOGINS: usize = 1_000;

/// How many of them one address may have in progress (`tracker/src/server/attempts.rs`).
const IN_PROGRESS: usize = 256;

/// Connections being made at once: the flood is one of logins, and a handshake that is refused for being one of too many
/// would take nothing from anybody.
const CONNECTING: usize = 64;

/// Far above what a thousand connections cost (48 KiB each), far below what a leak or a stretched key each would.
const TRACKER_BYTES_MAX: u64 = 256 << 20;

/// How each of the strangers fared.
#[derive(Debug, Default)]
struct Outcomes {
    challenged: AtomicUsize,
    refused: AtomicUsize,
    busy: AtomicUsize,
    /// The tracker gave them up: this machine was slower than it waits.
    late: AtomicUsize,
}

#[test]
fn a_thousand_logins_at_once_keep_nobody_out() {
    let mut world = World::new();
    let alice = world.user("alice");
    let phone = world.daemon("phone");
    let tracker = world.tracker.address;
    let outcomes = Arc::new(Outcomes::default());
    // The strangers send their proofs, which are none, when this is opened.
    let gate = Arc::new(Semaphore::new(0));
    let connecting = Arc::new(Semaphore::new(CONNECTING));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let endpoint =
        runtime.block_on(async { Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a socket") });
    let connected = runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..LOGINS {
            let (endpoint, connecting) = (endpoint.clone(), Arc::clone(&connecting));
            clients.spawn(async move {
                let _turn = connecting.acquire().await.expect("never closed");
                let key = Key::new();
                // Again where this machine was too busy to shake hands while the tracker waited.
                let connecting = async {
                    loop {
                        let transport = TransportConfig::default();
                        if let Ok(client) = Client::connect_on(endpoint.clone(), tracker, &key, transport).await {
                            break client;
                        }
                    }
                };
                tokio::time::timeout(TRANSFER_DEADLINE, connecting).await.expect("connects")
            });
        }
        clients.join_all().await
    });
    let strangers: Vec<_> = connected
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            let (outcomes, gate) = (Arc::clone(&outcomes), Arc::clone(&gate));
            runtime.spawn(async move {
                let user = if number % 2 == 0 { "alice".to_owned() } else { format!("nobody{number}") };
                let user = user.parse().expect("a good name");
                let password = Password::new("a guess".to_owned()).expect("a good password");
                let (_, message) = ClientLogin::start(&password).expect("starts");
                let mut stream = client.line.stream().await.expect("a stream");
                let reply = match stream.ask(Request::LoginStart { user, message }).await {
                    Heard::Message(Ok(Answer::Challenge(_))) => {
                        outcomes.challenged.fetch_add(1, Ordering::Relaxed);
                        let _open = gate.acquire().await;
                        stream.ask(Request::LoginFinish { proof: vec![0; 64] }).await
                    }
                    other => other,
                };
                let outcome = match reply {
                    Heard::Message(Err(reject)) if reject.code == ErrorCode::LOGIN_REFUSED => &outcomes.refused,
                    Heard::Message(Err(reject)) if reject.code == ErrorCode::BUSY => &outcomes.busy,
                    Heard::Reset(_) | Heard::Finished | Heard::CutShort | Heard::Closed(_) => &outcomes.late,
                    other => panic!("an answer to nothing that was asked: {other:?}"),
                };
                outcome.fetch_add(1, Ordering::Relaxed);
                client
            })
        })
        .collect();
    eventually("the strangers hold all places of their address", || {
        (outcomes.challenged.load(Ordering::Relaxed) == IN_PROGRESS).then_some(())
    });
    phone.run(&["login", "alice", PASSWORD]);
    assert_eq!(phone.json(&["status"])["user"], "alice");
    alice.run(&["create_group", "photos"]);
    assert_eq!(outcomes.challenged.load(Ordering::Relaxed), IN_PROGRESS, "they hold them still");
    gate.add_permits(LOGINS);
    runtime.block_on(async {
        let all = async {
            for stranger in strangers {
                stranger.await.expect("no panic");
            }
        };
        tokio::time::timeout(TRANSFER_DEADLINE, all).await.expect("each is answered");
    });
    let count = |outcome: &AtomicUsize| outcome.load(Ordering::Relaxed);
    let (refused, busy, late) = (count(&outcomes.refused), count(&outcomes.busy), count(&outcomes.late));
    assert_eq!(refused + busy + late, LOGINS, "{outcomes:?}");
    assert!(refused + late >= IN_PROGRESS, "{outcomes:?}");
    let peak = world.tracker.process().peak_resident_bytes();
    println!("of {LOGINS} logins {refused} were refused and {busy} were told to come back; peak {peak:?} bytes");
    assert!(peak.is_none_or(|bytes| bytes < TRACKER_BYTES_MAX), "the tracker took {peak:?} bytes");
    drop(endpoint);
    runtime.shutdown_timeout(Duration::ZERO);
    alice.run(&["list_groups"]);
}
