//! `why` for people: a sentence that names the bottleneck with its figures, and a line for each peer.

use p2p_proto::control::{Bottleneck, PeerOfDownload, Why};

use super::table::{self, Column::Left, Column::Right};
use super::{Text, View, human, unit};

/// Peers shown, the fastest first; `--json` has all of them.
const PEERS_SHOWN: usize = 10;

/// The sentence, the peers, and what can be done.
pub fn text(why: &Why, view: View) -> Text {
    let download = &why.download;
    let mut lines = vec![format!("{} {}: {}", download.id.short(), download.name, sentence(why, view))];
    lines.extend(peers(why, view));
    Text { lines, message: None, next: why.hint.clone() }
}

fn sentence(why: &Why, view: View) -> String {
    let rate = unit::rate(why.download.down_rate);
    let limit = unit::rate(why.limit.unwrap_or_default());
    let asked = why.peers.iter().filter(|peer| peer.requests > 0).count() as u64;
    let reason = || why.reason.clone().unwrap_or_else(|| human::state(&why.download));
    let waited = || match why.waiting_since {
        Some(since) => format!("{}, for {}", reason(), unit::span(view.now.since(since))),
        None => reason(),
    };
    match why.bottleneck {
        Bottleneck::None => "nothing holds it up, it is complete".to_owned(),
        Bottleneck::Paused => "it was paused".to_owned(),
        Bottleneck::DiskFull | Bottleneck::Fault => match why.retry_at {
            Some(at) => format!("{}; tried again by itself in {}", reason(), unit::span(at.since(view.now))),
            None => reason(),
        },
        Bottleneck::Queue => {
            let active = unit::counted(why.active.unwrap_or_default().into(), "download");
            match why.ahead.unwrap_or_default() {
                0 => format!("it waits for a place and is next; {active} receive"),
                ahead => {
                    format!("it waits for a place behind {}; {active} receive", unit::counted(ahead.into(), "other"))
                }
            }
        }
        Bottleneck::Checking => "what is here of it is being checked".to_owned(),
        Bottleneck::OwnLimit => format!("the limit of this node, {limit} for all that comes in; {rate} come of this"),
        Bottleneck::PeerLimit => {
            let peers = unit::counted(asked, "peer");
            format!("the limit of {peers} that it comes from, {limit} for all that they send; {rate} come of this")
        }
        Bottleneck::PeerQueue => {
            let ahead = unit::counted(why.ahead.unwrap_or_default().into(), "request");
            format!(
                "the queues of {} that have it: {ahead} of others come first; {rate} come",
                unit::counted(asked, "peer")
            )
        }
        Bottleneck::PeerSpeed if why.waiting_since.is_none() => {
            format!("how fast {} send, or the way from them: {rate}", unit::counted(asked, "peer"))
        }
        Bottleneck::PeerSpeed
        | Bottleneck::SameContent
        | Bottleneck::NoTracker
        | Bottleneck::NoGrant
        | Bottleneck::NotListed
        | Bottleneck::NoSeeder
        | Bottleneck::MissingPieces
        | Bottleneck::Unreachable
        | Bottleneck::Connecting
        | Bottleneck::BadPeers => waited(),
        Bottleneck::Reader => "the program that reads it takes no more for now".to_owned(),
    }
}

fn peers(why: &Why, view: View) -> Vec<String> {
    let mut peers: Vec<&PeerOfDownload> = why.peers.iter().collect();
    peers.sort_by_key(|peer| (std::cmp::Reverse((peer.rate, peer.requests)), peer.node));
    let rows = peers.into_iter().take(PEERS_SHOWN).map(|peer| {
        let some = |number: u64, text: String| if number == 0 { "-".to_owned() } else { text };
        [
            peer.node.short(),
            peer.user.as_ref().map_or("-".to_owned(), ToString::to_string),
            peer.pieces.map_or("-".to_owned(), |pieces| unit::count(pieces.into())),
            some(peer.rate, unit::rate(peer.rate)),
            some(peer.up_limit, unit::rate(peer.up_limit)),
            unit::count(peer.requests.into()),
            some(peer.waiting.into(), format!("{} behind {}", peer.waiting, peer.ahead)),
            if peer.connected { "connected" } else { "not connected" }.to_owned(),
        ]
    });
    let columns = [
        Left("NODE"),
        Left("USER"),
        Right("PIECES"),
        Right("RATE"),
        Right("ITS LIMIT"),
        Right("ASKED"),
        Left("QUEUED"),
        Left("STATE"),
    ];
    table::lines(columns, rows, view.width)
}

#[cfg(test)]
mod tests {
    use p2p_proto::id::NodeId;
    use p2p_proto::time::UnixMillis;

    use super::*;
    use crate::render::examples::{self, NOW, name};

    fn why(bottleneck: Bottleneck, nth: usize) -> Why {
        Why {
            download: examples::downloads().downloads.remove(nth),
            bottleneck,
            reason: Some("no seeder online (last: bob, 2h ago)".to_owned()),
            hint: None,
            waiting_since: None,
            retry_at: None,
            limit: None,
            active: None,
            ahead: None,
            last_seeder: None,
            last_seen: None,
            peers: Vec::new(),
        }
    }

    fn said(why: &Why) -> String {
        text(why, View { now: NOW, width: None }).lines.join("\n")
    }

    #[test]
    fn the_bottleneck_is_named_with_its_figures() {
        let waiting = Why { waiting_since: Some(UnixMillis(NOW.0 - 240_000)), ..why(Bottleneck::NoSeeder, 1) };
        assert_eq!(said(&waiting), "77c00909 maps.iso: no seeder online (last: bob, 2h ago), for 4m");
        let queued = Why { active: Some(8), ahead: Some(2), ..why(Bottleneck::Queue, 1) };
        assert_eq!(said(&queued), "77c00909 maps.iso: it waits for a place behind 2 others; 8 downloads receive");
        let limited = Why { limit: Some(10 << 20), ..why(Bottleneck::OwnLimit, 0) };
        assert_eq!(
            said(&limited),
            "a91f0102 genome.tar: the limit of this node, 10.0 MiB/s for all that comes in; 842 MiB/s come of this"
        );
        let full = Why { retry_at: Some(UnixMillis(NOW.0 + 40_000)), ..why(Bottleneck::DiskFull, 1) };
        assert!(said(&full).ends_with("; tried again by itself in 40s"), "{}", said(&full));
    }

    #[test]
    fn peers_are_shown_with_their_rates_limits_and_queues() {
        let peer = |first: u8, rate, waiting| PeerOfDownload {
            node: NodeId([first; 32]),
            user: Some(name("bob")),
            connected: true,
            pieces: Some(84_379),
            requests: 4,
            rate,
            waiting,
            ahead: 20,
            up_limit: rate,
        };
        let slow = Why { peers: vec![peer(7, 0, 3), peer(9, 2 << 20, 0)], ..why(Bottleneck::PeerSpeed, 0) };
        let expected = "\
a91f0102 genome.tar: how fast 2 peers send, or the way from them: 842 MiB/s
NODE      USER  PIECES  RATE       ITS LIMIT  ASKED  QUEUED       STATE
09090909  bob   84,379  2.0 MiB/s  2.0 MiB/s      4  -            connected
07070707  bob   84,379          -          -      4  3 behind 20  connected";
        assert_eq!(said(&slow), expected);
    }
}
