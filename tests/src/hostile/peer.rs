//! A peer that says Hello to a daemon and then asks for what it may not have.

use std::net::{IpAddr, SocketAddr};

use p2p_proto::frame;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::grant::Grant;
use p2p_proto::id::ContentId;
use p2p_proto::name::GroupName;
use p2p_proto::peer::{FromProvider, Hello, HelloAck, Interest, ManifestReply, Open, PieceReply, PieceRequest};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::version::{ALPN_PEER, PEER_PROTOCOL};
use quinn::TransportConfig;

use super::key::{Key, Shown};
use super::wire::{Close, Heard, Line, Stream};

/// A connection to a daemon, with Hellos exchanged.
#[derive(Debug)]
pub struct Peer {
    /// The connection.
    pub line: Line,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// So many bytes of content came.
    Bytes(usize),
    /// Refused, and not a byte behind it.
    Refused(ErrorCode, String),
    /// The stream was reset.
    Reset(u64),
    /// The connection was closed.
    Closed(Close),
}

impl Served {
    fn refused(reject: Reject) -> Served {
        Served::Refused(reject.code, reject.message)
    }
}

/// The Hello of an honest peer.
pub fn hello() -> Hello {
    Hello { version: PEER_PROTOCOL, software: "hostile".to_owned(), instance: fastrand::u64(..) }
}

impl Peer {
    /// Connects from `here` to the daemon `there` with a key of one's own.
    ///
    /// # Errors
    /// How the daemon refused.
    pub async fn connect(here: IpAddr, there: SocketAddr, key: &Key) -> Result<Peer, Close> {
        Self::connect_with(here, there, key, TransportConfig::default()).await
    }

    /// The same with windows and limits of one's own.
    ///
    /// # Errors
    /// How the daemon refused.
    pub async fn connect_with(
        here: IpAddr,
        there: SocketAddr,
        key: &Key,
        transport: TransportConfig,
    ) -> Result<Peer, Close> {
        let line = Line::dial_with(here, there, &Shown::Own(key), ALPN_PEER, transport).await?;
        Self::greet(line).await
    }

    /// Says Hello on a connection.
    ///
    /// # Errors
    /// How the daemon refused.
    pub async fn greet(line: Line) -> Result<Peer, Close> {
        let mut stream = line.say(&frame::encode(&hello()), true).await?;
        match stream.hear::<HelloAck>().await {
            Heard::Message(_) => Ok(Peer { line }),
            Heard::Closed(close) => Err(close),
            // The stream goes first, the connection behind it; both may come in one packet.
            Heard::Reset(_) => Err(line.closed().await),
            other => panic!("an answer to Hello: {other:?}"),
        }
    }

    /// Opens an interest: its stream, once the daemon has told what it has, or its refusal.
    ///
    /// # Errors
    /// What came instead of a have-map.
    pub async fn interest(&self, group: &GroupName, content: ContentId, grant: &Grant) -> Result<Stream, Served> {
        let open = Open::Interest(Interest { content, group: group.clone(), grant: grant.clone() });
        let mut stream = self.line.say(&frame::encode(&open), false).await.map_err(Served::Closed)?;
        match stream.hear::<FromProvider>().await {
            Heard::Message(FromProvider::HaveMap(_)) => Ok(stream),
            Heard::Message(FromProvider::Refused(reject)) => {
                let rest = stream.rest().await;
                assert_eq!(rest, (0, true), "nothing follows a refusal");
                Err(Served::refused(reject))
            }
            Heard::Reset(code) => Err(Served::Reset(code)),
            Heard::Closed(close) => Err(Served::Closed(close)),
            other => panic!("neither a have-map nor a refusal: {other:?}"),
        }
    }

    /// Asks for a piece and takes all that comes.
    pub async fn piece(&self, content: ContentId, piece: u32) -> Served {
        let open = Open::Piece(PieceRequest { content, piece: PieceIndex(piece) });
        match self.line.say(&frame::encode(&open), true).await {
            Ok(mut stream) => {
                let heard = stream.hear::<PieceReply>().await;
                let rest = stream.rest().await;
                match heard {
                    Heard::Message(PieceReply::Bytes(_)) => Served::Bytes(rest.0),
                    Heard::Message(PieceReply::Refused(reject)) if rest == (0, true) => Served::refused(reject),
                    heard => other(heard, rest),
                }
            }
            Err(close) => Served::Closed(close),
        }
    }

    /// Asks for a manifest and takes all that comes.
    pub async fn manifest(&self, content: ContentId) -> Served {
        match self.line.say(&frame::encode(&Open::Manifest(content)), true).await {
            Ok(mut stream) => {
                let heard = stream.hear::<ManifestReply>().await;
                let rest = stream.rest().await;
                match heard {
                    Heard::Message(ManifestReply::Bytes(_)) => Served::Bytes(rest.0),
                    Heard::Message(ManifestReply::Refused(reject)) if rest == (0, true) => Served::refused(reject),
                    heard => other(heard, rest),
                }
            }
            Err(close) => Served::Closed(close),
        }
    }
}

fn other<T: std::fmt::Debug>(heard: Heard<T>, rest: (usize, bool)) -> Served {
    match heard {
        Heard::Reset(code) => Served::Reset(code),
        Heard::Closed(close) => Served::Closed(close),
        heard => panic!("not an answer: {heard:?}, then {rest:?}"),
    }
}
