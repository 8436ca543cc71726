//! Samples of what two daemons say to each other.

use super::{Table, content, grant, name, variants};
use crate::geometry::PieceIndex;
use crate::have_map::WireHaveMap;
use crate::peer::{
    FromDownloader, FromProvider, Hello, HelloAck, Interest, Load, ManifestReply, Open, PieceReply, PieceRequest,
    QueueHint,
};
use crate::reject::{ErrorCode, Reject};
use crate::version::PEER_PROTOCOL as VERSION;

variants!(Open: Interest Piece Manifest);
variants!(FromDownloader: Renew);
variants!(FromProvider: HaveMap Have Load Refused Queue);
variants!(PieceReply: Bytes Refused);
variants!(ManifestReply: Bytes Refused);

pub(super) fn tables() -> Vec<Table> {
    let refused = || Reject::new(ErrorCode::GRANT_REFUSED, "the grant expired").hint("log in again");
    let interest = Interest { content: content(1), group: name("photos"), grant: grant() };
    vec![
        Table::of(
            "peer_hello",
            VERSION,
            vec![("hello", Hello { version: 1, software: "p2p 0.1.0".into(), instance: 0x0123_4567_89ab_cdef })],
        ),
        Table::of(
            "peer_hello_ack",
            VERSION,
            vec![("ipv4", hello_ack("192.0.2.7:9100")), ("ipv6", hello_ack("[2001:db8::7]:9100"))],
        ),
        Table::of_enum(
            "peer_open",
            VERSION,
            vec![
                ("", Open::Interest(interest)),
                ("", Open::Piece(PieceRequest { content: content(1), piece: PieceIndex(300) })),
                ("", Open::Manifest(content(1))),
            ],
        ),
        Table::of_enum("peer_from_downloader", VERSION, vec![("", FromDownloader::Renew(grant()))]),
        Table::of_enum(
            "peer_from_provider",
            VERSION,
            vec![
                ("all", FromProvider::HaveMap(WireHaveMap::All)),
                ("bits", FromProvider::HaveMap(WireHaveMap::Bits(vec![0xf0, 0x80]))),
                ("", FromProvider::Have(vec![PieceIndex(0), PieceIndex(524_279)])),
                ("", FromProvider::Load(Load { queued_requests: 400, active_peers: 3 })),
                ("", FromProvider::Refused(refused())),
                ("", FromProvider::Queue(QueueHint { waiting: 3, ahead: 400, up_limit: 1 << 20 })),
            ],
        ),
        Table::of_enum(
            "peer_piece_reply",
            VERSION,
            vec![("", PieceReply::Bytes(512 * 1024)), ("", PieceReply::Refused(refused()))],
        ),
        Table::of_enum(
            "peer_manifest_reply",
            VERSION,
            vec![("", ManifestReply::Bytes(16 * 1024 * 1024)), ("", ManifestReply::Refused(refused()))],
        ),
    ]
}

fn hello_ack(observed: &str) -> HelloAck {
    let observed = observed.parse().expect("an address");
    HelloAck { version: 1, software: "p2p 0.1.0".into(), instance: 7, observed }
}
