//! A provider that daemons download from, honest until the moment that its lie begins.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use p2p_proto::frame;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::WireHaveMap;
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::manifest::{HashAlgorithm, Manifest};
use p2p_proto::peer::{FromProvider, Hello, HelloAck, Load, ManifestReply, Open, PieceReply};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::version::{ALPN_PEER, PEER_PROTOCOL};
use quinn::{Connection, Endpoint, VarInt};

use super::key::{Key, Shown, server_config};
use super::wire::{Heard, Stream};

/// What a provider does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// Pieces of the right length with other bytes.
    WrongBytes,
    /// Half of each piece, then the stream's end.
    ShortPiece,
    /// One byte more than was announced.
    LongPiece,
    /// Announces one byte more than a piece has, and sends it.
    WrongLength,
    /// Announces 4 GiB for a piece.
    GiantPiece,
    /// Half of a piece, then a refusal in its place.
    RefusedAfterBytes,
    /// Half of each piece, then a reset.
    Resets,
    /// Bytes that are no answer.
    Garbage,
    /// Takes requests for pieces and never answers.
    NeverAnswers,
    /// One byte of each piece a second.
    OneByteASecond,
    /// Not even a have-map.
    Mute,
    /// Announces 4 GiB for the manifest.
    GiantManifest,
    /// The manifest of something else.
    OtherManifest,
    /// A have-map with one byte too many.
    LongHaveMap,
    /// A have-map with pieces behind the last.
    HaveMapBeyondTheEnd,
    /// Two have-maps.
    TwoHaveMaps,
    /// News of a piece behind the last.
    HaveBeyondTheEnd,
    /// News of more pieces than one message may hold.
    HaveTooLong,
    /// News without end.
    HaveFlood,
    /// Words on how busy it is, without end.
    LoadFlood,
}

/// Something to download: its bytes, and the manifest that goes with them.
#[derive(Debug, Clone)]
pub struct Content {
    /// All of it.
    pub bytes: Vec<u8>,
    /// As it travels.
    pub manifest: Vec<u8>,
    /// Its name.
    pub id: ContentId,
    /// How many pieces it has.
    pub pieces: u32,
    /// Bytes of each but the last.
    pub piece_bytes: usize,
}

impl Content {
    /// What an honest publisher makes of these bytes.
    ///
    /// # Panics
    /// If they are too many for a manifest.
    pub fn new(bytes: Vec<u8>) -> Content {
        let hash = HashAlgorithm::Blake3;
        let geometry = Manifest::geometry_for(bytes.len() as u64, hash).expect("not too long");
        let piece_bytes = usize::try_from(geometry.piece_length()).expect("32 MiB at the most");
        let mut digests = Vec::new();
        bytes.chunks(piece_bytes).for_each(|piece| hash.digest_into(piece, &mut digests).expect("no collision"));
        let manifest = Manifest::new(geometry, hash, digests, None).expect("a digest a piece");
        let (id, pieces) = (manifest.content_id(), geometry.piece_count());
        Content { bytes, manifest: manifest.encode(), id, pieces, piece_bytes }
    }

    fn piece(&self, piece: PieceIndex) -> &[u8] {
        self.bytes.chunks(self.piece_bytes).nth(piece.as_usize()).unwrap_or_default()
    }
}

/// A provider on a socket of its own.
#[derive(Debug)]
pub struct Provider {
    /// Whose key it has.
    pub node: NodeId,
    /// Where it answers.
    pub address: SocketAddr,
    served: Arc<Served>,
    /// The socket, for as long as the provider lives.
    endpoint: Endpoint,
}

#[derive(Debug, Default)]
struct Served {
    connections: AtomicUsize,
    pieces: AtomicUsize,
}

impl Provider {
    /// A provider of a content on a free port of `here`. Must run inside a runtime.
    ///
    /// # Panics
    /// If the port cannot be had.
    pub fn start(here: IpAddr, content: Content, lie: Lie) -> Provider {
        let key = Key::new();
        let config = server_config(&Shown::Own(&key), ALPN_PEER);
        let endpoint = Endpoint::server(config, SocketAddr::new(here, 0)).expect("a socket");
        let address = endpoint.local_addr().expect("bound");
        let (content, served) = (Arc::new(content), Arc::new(Served::default()));
        let (accepting, counted) = (endpoint.clone(), Arc::clone(&served));
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let (content, served) = (Arc::clone(&content), Arc::clone(&counted));
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        served.connections.fetch_add(1, Ordering::Relaxed);
                        serve(connection, content, lie, served).await;
                    }
                });
            }
        });
        Provider { node: key.node, address, served, endpoint }
    }

    /// As a tracker names it.
    pub fn as_named(&self) -> p2p_proto::tracker::Provider {
        let user = super::client::named("provider");
        p2p_proto::tracker::Provider { node: self.node, user, addresses: vec![self.address], complete: true }
    }

    /// Requests for pieces that came.
    pub fn pieces_asked(&self) -> usize {
        self.served.pieces.load(Ordering::Relaxed)
    }

    /// Connections that were made to it.
    pub fn connections(&self) -> usize {
        self.served.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

async fn serve(connection: Connection, content: Arc<Content>, lie: Lie, served: Arc<Served>) {
    let Ok(mut first) = connection.accept_bi().await.map(Stream::from) else { return };
    let Heard::Message(Hello { .. }) = first.hear().await else { return };
    let ack = HelloAck {
        version: PEER_PROTOCOL,
        software: "hostile".to_owned(),
        instance: 1,
        observed: connection.remote_address(),
    };
    first.say(&ack).await;
    first.finish();
    while let Ok(streams) = connection.accept_bi().await {
        let (content, served) = (Arc::clone(&content), Arc::clone(&served));
        tokio::spawn(async move {
            let mut stream = Stream::from(streams);
            match stream.hear().await {
                Heard::Message(Open::Interest(_)) => offer(&mut stream, &content, lie).await,
                Heard::Message(Open::Manifest(_)) => send_manifest(&mut stream, &content, lie).await,
                Heard::Message(Open::Piece(request)) => {
                    served.pieces.fetch_add(1, Ordering::Relaxed);
                    send_piece(&mut stream, content.piece(request.piece), lie).await;
                }
                _ => {}
            }
        });
    }
}

/// The control stream: what is here, then news, until the downloader has had enough.
async fn offer(stream: &mut Stream, content: &Content, lie: Lie) {
    let map_bytes = content.pieces.div_ceil(8) as usize;
    let map = match lie {
        Lie::Mute => None,
        Lie::LongHaveMap => Some(WireHaveMap::Bits(vec![0; map_bytes + 1])),
        Lie::HaveMapBeyondTheEnd => Some(WireHaveMap::Bits(vec![0xff; map_bytes])),
        _ => Some(WireHaveMap::All),
    };
    if let Some(map) = &map {
        stream.say(&FromProvider::HaveMap(map.clone())).await;
    }
    let news = |pieces: u32| FromProvider::Have((0..pieces).map(PieceIndex).collect());
    match lie {
        Lie::TwoHaveMaps => stream.say(&FromProvider::HaveMap(WireHaveMap::All)).await,
        Lie::HaveBeyondTheEnd => stream.say(&FromProvider::Have(vec![PieceIndex(u32::MAX)])).await,
        Lie::HaveTooLong => stream.say(&news(1025)).await,
        Lie::HaveFlood => flood(stream, &news(content.pieces.min(1024))).await,
        Lie::LoadFlood => flood(stream, &FromProvider::Load(Load { queued_requests: 1, active_peers: 1 })).await,
        _ => {}
    }
    // Until the other end has had enough.
    let _ = stream.recv.read_chunk(usize::MAX, true).await;
    let _ = stream.send.stopped().await;
}

/// The same message again and again, as long as anybody takes it.
async fn flood(stream: &mut Stream, message: &FromProvider) {
    let frame = frame::encode(message);
    let block = frame.repeat((64 * 1024 / frame.len()).max(1));
    while stream.send.write_all(&block).await.is_ok() {}
}

async fn send_manifest(stream: &mut Stream, content: &Content, lie: Lie) {
    let other;
    let (announced, bytes) = match lie {
        Lie::GiantManifest => (u32::MAX, content.manifest.as_slice()),
        Lie::OtherManifest => {
            other = Content::new(vec![7; content.bytes.len()]).manifest;
            (length(&other), other.as_slice())
        }
        _ => (length(&content.manifest), content.manifest.as_slice()),
    };
    stream.say(&ManifestReply::Bytes(announced)).await;
    stream.say_bytes(bytes).await;
    stream.finish();
    let _ = stream.send.stopped().await;
}

async fn send_piece(stream: &mut Stream, piece: &[u8], lie: Lie) {
    let half = &piece[..piece.len() / 2];
    let announced = match lie {
        Lie::WrongLength => length(piece) + 1,
        Lie::GiantPiece => u32::MAX,
        _ => length(piece),
    };
    match lie {
        Lie::Garbage => return stream.say_bytes(&[0xff; 64]).await,
        Lie::NeverAnswers => return drop(stream.send.stopped().await),
        _ => stream.say(&PieceReply::Bytes(announced)).await,
    }
    match lie {
        Lie::WrongBytes => stream.say_bytes(&vec![0; piece.len()]).await,
        Lie::ShortPiece => stream.say_bytes(half).await,
        Lie::LongPiece | Lie::WrongLength => stream.say_bytes(&[piece, &[0]].concat()).await,
        Lie::RefusedAfterBytes => {
            stream.say_bytes(half).await;
            stream.say(&PieceReply::Refused(Reject::new(ErrorCode::BUSY, "no more"))).await;
        }
        Lie::Resets => {
            stream.say_bytes(half).await;
            let _ = stream.send.reset(VarInt::from_u32(3));
            return;
        }
        Lie::OneByteASecond => {
            for byte in piece {
                if stream.send.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
        _ => stream.say_bytes(piece).await,
    }
    stream.finish();
    let _ = stream.send.stopped().await;
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("test contents are small")
}
