//! Peers that break the protocol before anybody asks what they may have: handshakes, Hellos, frames.

use p2p_proto::frame;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::grant::Grant;
use p2p_proto::id::ContentId;
use p2p_proto::limit::{PEER_FRAME_BYTES_MAX, SOFTWARE_BYTES_MAX};
use p2p_proto::peer::{Hello, Interest, Open, PieceRequest, close_code, stream_code};
use p2p_proto::version::{ALPN_PEER, ALPN_TRACKER};
use p2p_tests::hostile::key::Certificate;
use p2p_tests::hostile::peer::hello;
use p2p_tests::hostile::wire::Close;
use p2p_tests::hostile::{Heard, Key, Line, Peer, Shown};

use super::{Memory, Staged, photos, stranger};
use crate::MIB;

/// TLS alerts (RFC 8446, section 6.2).
const CERTIFICATE_UNKNOWN: u64 = 46;
const DECRYPT_ERROR: u64 = 51;
const CERTIFICATE_REQUIRED: u64 = 116;
const NO_APPLICATION_PROTOCOL: u64 = 120;

/// How a daemon or a tracker answers a handshake with what is shown, and a Hello behind it: a client counts as connected
/// before the server has judged its certificate.
pub(super) async fn handshake(there: std::net::SocketAddr, shown: &Shown<'_>, alpn: &[u8]) -> Close {
    match Line::dial(stranger(), there, shown, alpn).await {
        Ok(line) => {
            let _ = line.say(&frame::encode(&hello()), true).await;
            line.closed().await
        }
        Err(close) => close,
    }
}

/// The handshakes that nobody must accept, and the alert that each is refused with.
pub(super) fn wrong_handshakes<'a>(
    key: &'a Key,
    ecdsa: &'a Key,
    victim: Certificate,
    alpn: &'static [u8],
    other_alpn: &'static [u8],
) -> Vec<(&'static str, Shown<'a>, &'static [u8], u64)> {
    vec![
        ("no certificate", Shown::Nothing, alpn, CERTIFICATE_REQUIRED),
        ("a victim's certificate without its key", Shown::Stolen(victim.clone(), key), alpn, DECRYPT_ERROR),
        ("a victim's behind one's own", Shown::Chain(key, victim), alpn, CERTIFICATE_UNKNOWN),
        ("a certificate that is none", Shown::Garbage(key), alpn, CERTIFICATE_UNKNOWN),
        // Its holder is not even asked for a signature of that kind, and so shows nothing.
        ("a key of another kind", Shown::Own(ecdsa), alpn, CERTIFICATE_REQUIRED),
        ("the other protocol", Shown::Own(key), other_alpn, NO_APPLICATION_PROTOCOL),
        ("no protocol of ours", Shown::Own(key), b"h3", NO_APPLICATION_PROTOCOL),
    ]
}

#[test]
fn a_handshake_proves_a_key_or_fails() {
    let mut staged = Staged::new(16 * MIB);
    let download = staged.download();
    let (key, ecdsa) = (Key::new(), Key::ecdsa());
    staged.runtime.block_on(async {
        // Bob's certificate is shown to whoever he talks to; here he is dialled for it.
        let to_bob =
            Line::dial(stranger(), staged.bob.address(), &Shown::Own(&key), ALPN_PEER).await.expect("connects");
        let victim = to_bob.certificate();
        for (what, shown, alpn, alert) in wrong_handshakes(&key, &ecdsa, victim, ALPN_PEER, ALPN_TRACKER) {
            let close = handshake(staged.alice.address(), &shown, alpn).await;
            assert_eq!(close, Close::Alert(alert), "{what}");
        }
    });
    staged.finish(download);
}

#[test]
fn a_connection_without_a_right_hello_is_closed() {
    let mut staged = Staged::new(16 * MIB);
    let download = staged.download();
    let honest = frame::encode(&hello());
    let trailing = [&(honest.len() as u32 - 4 + 1).to_le_bytes(), &honest[4..], &[0]].concat();
    let long_name = frame::encode(&Hello { software: "x".repeat(SOFTWARE_BYTES_MAX + 1), ..hello() });
    let table: Vec<(&str, Vec<u8>, bool, u32)> = vec![
        ("nothing", Vec::new(), false, close_code::HELLO),
        ("the end at once", Vec::new(), true, close_code::HELLO),
        ("half a Hello, then silence", honest[..9].to_vec(), false, close_code::HELLO),
        ("half a Hello, then the end", honest[..9].to_vec(), true, close_code::HELLO),
        ("another version", frame::encode(&Hello { version: 2, ..hello() }), true, close_code::HELLO),
        ("a name that is too long", long_name, true, close_code::PROTOCOL),
        ("4 GiB", u32::MAX.to_le_bytes().to_vec(), false, close_code::PROTOCOL),
        ("1025 bytes", 1025u32.to_le_bytes().to_vec(), false, close_code::PROTOCOL),
        ("a Hello and a byte in its frame", trailing, true, close_code::PROTOCOL),
        ("a Hello and a byte behind it", [honest.as_slice(), &[0]].concat(), true, close_code::PROTOCOL),
        ("a Hello without an end", honest.clone(), false, close_code::HELLO),
        ("garbage", vec![0xff; 600], true, close_code::PROTOCOL),
        ("a request", frame::encode(&Open::Manifest(staged.content)), true, close_code::PROTOCOL),
    ];
    staged.runtime.block_on(async {
        let key = Key::new();
        // Beside each other: some of them are waited for.
        let mut tried = Vec::new();
        for (what, bytes, finish, code) in table {
            let line = Line::dial(stranger(), staged.alice.address(), &Shown::Own(&key), ALPN_PEER).await;
            let line = line.expect("the handshake is right");
            let stream = line.say(&bytes, finish).await.expect("a stream");
            tried.push((what, line, stream, code));
        }
        for (what, line, _stream, code) in tried {
            assert_eq!(line.closed().await, Close::Protocol(code.into()), "{what}");
        }
    });
    staged.finish(download);
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let mut staged = Staged::new(16 * MIB);
    let download = staged.download();
    let memory = Memory::of(staged.alice.process());
    let piece = frame::encode(&Open::Piece(PieceRequest { content: staged.content, piece: PieceIndex(0) }));
    let interest = frame::encode(&Open::Interest(Interest {
        content: staged.content,
        group: photos(),
        grant: Grant { body: vec![1; 64], signature: vec![2; 64] },
    }));
    let framed = |body: &[u8]| [&(body.len() as u32).to_le_bytes(), body].concat();
    let with_number = |number: &[u8]| framed(&[number, &piece[5..]].concat());
    let longest = PEER_FRAME_BYTES_MAX as u32;
    let mut random = fastrand::Rng::with_seed(5);
    let mut noise = vec![0; 4096];
    random.fill(&mut noise);
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("4 GiB", u32::MAX.to_le_bytes().to_vec()),
        ("a byte more than a frame may have", (longest + 1).to_le_bytes().to_vec()),
        ("nothing in a frame", framed(&[])),
        ("a byte in the frame behind the message", framed(&[&piece[4..], &[0]].concat())),
        ("a second message behind the request", [piece.as_slice(), &piece].concat()),
        ("an unknown message", with_number(&[3])),
        ("a message with the largest number", with_number(&[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("a number that overflows", with_number(&[0xff; 11])),
        ("a piece with a number that overflows", framed(&[&piece[4..37], &[0xff; 6]].concat())),
        ("a name with a length that overflows", framed(&[&interest[4..37], &[0xff; 10]].concat())),
        ("a grant that claims 4 GiB", framed(&[&interest[4..44], &[0xff, 0xff, 0xff, 0xff, 0x0f, 1]].concat())),
        ("a group called ../x", framed(&[&interest[4..37], &[4], b"../x", &interest[44..]].concat())),
        ("a Hello again", frame::encode(&hello())),
        ("half a prefix, then the end", piece[..2].to_vec()),
        ("half a message, then the end", piece[..20].to_vec()),
        ("noise", noise),
    ];
    staged.runtime.block_on(async {
        for (what, bytes) in &table {
            let peer = staged.connect(&Key::new()).await.expect("a right Hello");
            let stream = peer.line.say(bytes, true).await.expect("a stream");
            assert_eq!(peer.line.closed().await, Close::Protocol(close_code::PROTOCOL.into()), "{what}");
            drop(stream);
        }
    });
    memory.is_flat(staged.alice.process());
    staged.finish(download);
}

#[test]
fn half_a_message_and_then_silence_costs_its_own_stream_alone() {
    let mut staged = Staged::new(16 * MIB);
    let download = staged.download();
    let piece = frame::encode(&Open::Piece(PieceRequest { content: ContentId([1; 32]), piece: PieceIndex(0) }));
    staged.runtime.block_on(async {
        let peer = staged.connect(&Key::new()).await.expect("a right Hello");
        let mut halves = Vec::new();
        for end in [0, 1, 4, 5, piece.len() - 1, piece.len()] {
            halves.push((end, peer.line.say(&piece[..end], false).await.expect("a stream")));
        }
        for (end, stream) in &mut halves {
            // A stream of which nothing came is not even known at the other end.
            if *end > 0 {
                let heard = stream.hear::<p2p_proto::peer::PieceReply>().await;
                assert_eq!(heard, Heard::Reset(stream_code::TIMED_OUT.into()), "{end} bytes");
            }
        }
        assert!(peer.line.close_so_far().is_none(), "the connection goes on");
        let again = Peer::greet(peer.line).await.expect_err("a Hello has its place at the beginning");
        assert_eq!(again, Close::Protocol(close_code::PROTOCOL.into()));
    });
    staged.finish(download);
}
