//! Crowds: connections that take the places of others, and who is honest among them, also behind the same router.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use p2p_proto::frame;
use p2p_proto::grant::Grant;
use p2p_proto::id::ContentId;
use p2p_proto::peer::{Interest, Open, close_code};
use p2p_tests::hostile::peer::Served;
use p2p_tests::hostile::wire::Close;
use p2p_tests::hostile::{Key, Peer};
use p2p_tests::wait::eventually;
use quinn::TransportConfig;
use tokio::task::JoinSet;

use super::{Memory, Staged, photos, stranger, well};
use crate::MIB;

/// Connections to alice, each with a key of its own, that say Hello and nothing else: from each machine so many, all of which
/// were let in at some time.
fn sit(staged: &Staged, machines: &[IpAddr], each: usize) -> Vec<Peer> {
    let alice = staged.alice.address();
    staged.runtime.block_on(async {
        let mut dialling = JoinSet::new();
        for machine in machines.iter().flat_map(|machine| std::iter::repeat_n(*machine, each)) {
            dialling.spawn(async move {
                let key = Key::new();
                loop {
                    let mut transport = TransportConfig::default();
                    transport.keep_alive_interval(Some(Duration::from_secs(5)));
                    // Until it is let in. Others of them may have to go for it.
                    if let Ok(peer) = Peer::connect_with(machine, alice, &key, transport).await {
                        return peer;
                    }
                }
            });
        }
        dialling.join_all().await
    })
}

fn still_open(sitting: &[Peer]) -> usize {
    sitting.iter().filter(|peer| peer.line.close_so_far().is_none()).count()
}

/// That somebody with a grant gets a piece while others sit there, and that those had to go for no other reason.
fn is_served_beside(staged: &mut Staged, here: IpAddr, sitting: &[Peer]) {
    let key = Key::new();
    let grant = staged.honest_grant(&key, "carol");
    eventually("somebody new is served", || {
        staged.runtime.block_on(async {
            let peer = Peer::connect(here, staged.alice.address(), &key).await.ok()?;
            let _interest = peer.interest(&photos(), staged.content, &grant).await.ok()?;
            (peer.piece(staged.content, 0).await == Served::Bytes(512 * 1024)).then_some(())
        })
    });
    let closed: Vec<Close> = sitting.iter().filter_map(|peer| peer.line.close_so_far()).collect();
    // Of hundreds that are closed at once one may miss the word, and learns at its next packet.
    let expected = [Close::Protocol(close_code::BUSY.into()), Close::Silent];
    assert!(closed.iter().all(|close| expected.contains(close)), "{closed:?}");
    let download = staged.download();
    staged.finish(download);
}

#[test]
fn connections_that_want_nothing_do_not_keep_others_out() {
    let mut staged = Staged::new(2 * MIB);
    let machines: Vec<IpAddr> = (0..8).map(|_| stranger()).collect();
    let sitting = sit(&staged, &machines, 32);
    let open = still_open(&sitting);
    assert!(open > 150, "only {open} are left");
    is_served_beside(&mut staged, stranger(), &sitting);
}

#[test]
fn connections_that_want_nothing_do_not_keep_others_of_their_address_out() {
    let mut staged = Staged::new(2 * MIB);
    let behind_one_router = stranger();
    let sitting = sit(&staged, &[behind_one_router], 80);
    let open = still_open(&sitting);
    assert!(open >= 32, "only {open} are left");
    is_served_beside(&mut staged, behind_one_router, &sitting);
}

/// Connections of a churning crowd at once: as many newcomers as a daemon keeps of one machine.
const CROWD: usize = 64;

/// Tasks that fill the crowd up as fast as somebody has to go, and the pause of each between two connections.
const REDIALLING: usize = 4;
const REDIAL_PAUSE: Duration = Duration::from_millis(20);

/// How often a daemon dials within a minute where it is refused.
const TRIES: usize = 5;

/// Connects again and again with a new key each time. Every connection shows an interest that no grant permits, once a second
/// for as long as it is let stay.
async fn churn(here: IpAddr, there: SocketAddr, content: ContentId) {
    let wrong = Grant { body: vec![b'x'; 50], signature: vec![0; 64] };
    let open = Open::Interest(Interest { content, group: photos(), grant: wrong });
    let useless = frame::encode(&open);
    let mut crowd = JoinSet::new();
    loop {
        if let Ok(peer) = Peer::connect(here, there, &Key::new()).await {
            let useless = useless.clone();
            crowd.spawn(async move {
                let mut streams = Vec::new();
                while let Ok(stream) = peer.line.say(&useless, false).await {
                    streams.push(stream);
                    // The pace is the attack, here and below.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
        }
        while crowd.try_join_next().is_some() {}
        tokio::time::sleep(REDIAL_PAUSE).await;
    }
}

#[test]
fn a_crowd_that_is_renewed_all_the_time_keeps_nobody_of_its_address_out() {
    let mut staged = Staged::new(2 * MIB);
    let memory = Memory::of(staged.alice.process());
    // Bob is there too.
    let (alice, content) = (staged.alice.address(), staged.content);
    let here = alice.ip();
    let sitting = sit(&staged, &[here], CROWD);
    let crowd: Vec<_> = (0..REDIALLING).map(|_| staged.runtime.spawn(churn(here, alice, content))).collect();
    eventually("the first of the crowd have to go", || {
        sitting.iter().all(|peer| peer.line.close_so_far().is_some()).then_some(())
    });
    let mut members = Vec::new();
    for number in 0..10 {
        let key = Key::new();
        let grant = staged.honest_grant(&key, "carol");
        let member = staged.runtime.block_on(async {
            for _ in 0..TRIES {
                let Ok(peer) = Peer::connect(here, alice, &key).await else { continue };
                if let Ok(interest) = peer.interest(&photos(), content, &grant).await {
                    return Some((peer, interest));
                }
            }
            None
        });
        members.push(member.unwrap_or_else(|| panic!("newcomer {number} is not let show a grant")));
    }
    let download = staged.download();
    download.finish(&staged.file);
    for (member, _interest) in &members {
        let piece = staged.runtime.block_on(member.piece(content, 0));
        assert_eq!(piece, Served::Bytes(512 * 1024), "who has shown a grant stays");
    }
    crowd.iter().for_each(|task| task.abort());
    memory.is_flat(staged.alice.process());
    well(&mut staged.alice);
    well(&mut staged.bob);
}
