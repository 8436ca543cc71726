//! Pieces and manifests: whole ones arrive, and everything else ends as the right kind of failure.

use bytes::Bytes;
use p2p_proto::frame;
use p2p_proto::geometry::PieceIndex;
use p2p_proto::have_map::WireHaveMap;
use p2p_proto::limit::{MANIFEST_BYTES_MAX, PIECE_BYTES_MAX};
use p2p_proto::peer::{
    FromProvider, ManifestReply, Open, PieceReply, PieceRequest, QueueHint, close_code, stream_code,
};
use p2p_proto::reject::{ErrorCode, Reject};
use quinn::VarInt;

use super::*;
use crate::engine::input::{FetchError, FetchId, UploadId};
use crate::net::UploadError;
use crate::piece_buffer::{BUFFER_BYTES, PiecePool};

const PIECE: PieceIndex = PieceIndex(3);

impl Node {
    async fn requested(&mut self) -> UploadId {
        match self.next().await {
            Input::PieceRequested(upload, _, request) => {
                assert_eq!(request, PieceRequest { content: content(), piece: PIECE });
                upload
            }
            Input::ManifestRequested(upload, _, wanted) if wanted == content() => upload,
            other => panic!("no request: {other:?}"),
        }
    }
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(count as u64).fill(&mut bytes);
    bytes
}

#[tokio::test]
async fn pieces_of_every_size_arrive_whole() {
    let (downloader, connection, mut provider, _) = pair().await;
    let pool = PiecePool::new(8 * BUFFER_BYTES);
    for size in [1, 2, 1451, 65_537, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES] {
        let bytes = random_bytes(size);
        let mut leased = pool.lease(size).await;
        leased.copy_from_slice(&bytes);
        let mut buffer = pool.lease(size).await;
        let fetch = downloader.net.fetch_piece(FetchId(1), connection, content(), PIECE, &mut buffer);
        let serve = async {
            let upload = provider.requested().await;
            provider.net.take_upload(upload).expect("still wanted").send_piece(leased.into_bytes()).await
        };
        let ((received, result), (sent, outcome)) = tokio::join!(fetch, serve);
        assert_eq!((received, result), (size as u64, Ok(())));
        assert!(sent == size as u64 && outcome.is_ok(), "{size}: {outcome:?}");
        assert!(*buffer == bytes[..], "{size}");
    }
    assert_eq!(pool.free_bytes(), 8 * BUFFER_BYTES, "what was sent is back");
}

#[tokio::test]
async fn many_pieces_travel_at_once() {
    let (downloader, connection, mut provider, _) = pair().await;
    let bytes = Bytes::from(random_bytes(BUFFER_BYTES));
    let fetches = (0..40).map(|number| {
        let net = downloader.net.clone();
        let expected = bytes.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; BUFFER_BYTES];
            let fetch = net.begin_fetch(FetchId(number), connection);
            let (received, result) = fetch.piece(content(), PIECE, &mut buffer).await;
            assert!(result == Ok(()) && received == BUFFER_BYTES as u64 && buffer == expected, "{result:?}");
        })
    });
    let fetches: Vec<_> = fetches.collect();
    for _ in 0..fetches.len() {
        let upload = provider.requested().await;
        let upload = provider.net.take_upload(upload).expect("still wanted");
        tokio::spawn(upload.send_piece(bytes.clone()));
    }
    for fetch in fetches {
        fetch.await.expect("equal bytes");
    }
}

#[tokio::test]
async fn manifests_and_refusals_arrive() {
    let (downloader, connection, mut provider, _) = pair().await;
    let bytes = random_bytes(1_000_003);
    let serve = async {
        let upload = provider.requested().await;
        let upload = provider.net.take_upload(upload).expect("still wanted");
        upload.send_manifest(bytes.clone()).await.1.expect("sent");
    };
    let (fetched, ()) = tokio::join!(downloader.net.fetch_manifest(FetchId(1), connection, content()), serve);
    assert!(fetched.expect("arrives") == bytes);

    let reason = Reject::new(ErrorCode::CONTENT_NOT_FOUND, "not here");
    let refuse = async {
        let upload = provider.requested().await;
        provider.net.refuse(upload, reason.clone());
    };
    let (fetched, ()) = tokio::join!(downloader.net.fetch_manifest(FetchId(2), connection, content()), refuse);
    assert_eq!(fetched, Err(FetchError::Refused(reason.clone())));

    let refuse = async {
        let upload = provider.requested().await;
        provider.net.refuse(upload, reason.clone());
    };
    let mut buffer = [0; 16];
    let fetch = downloader.net.begin_fetch(FetchId(3), connection);
    let (fetched, ()) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), refuse);
    assert_eq!(fetched, (0, Err(FetchError::Refused(reason))));
}

/// Fetches 1,000 bytes from a raw peer that answers with `reply` and, if `finished`, ends the stream.
async fn fetch_from(reply: Vec<u8>, finished: bool) -> (Result<(), FetchError>, Connection) {
    let (node, id, _raw, connection) = raw_peer().await;
    let answer = async {
        let (mut send, mut recv) = connection.accept_bi().await.expect("a request");
        let open: Open = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("a request");
        assert_eq!(open, Open::Piece(PieceRequest { content: content(), piece: PIECE }));
        // May be stopped halfway, which is the point.
        let _ = send.write_all(&reply).await;
        match finished {
            true => drop(send.finish()),
            false => connection.close(VarInt::from_u32(0), b""),
        }
        let _ = send.stopped().await;
    };
    let mut buffer = vec![0; 1000];
    let fetch = node.net.begin_fetch(FetchId(1), id);
    let ((_, result), ()) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), answer);
    (result, connection)
}

#[tokio::test]
async fn every_wrong_answer_is_the_right_failure() {
    let with_payload = |announced: u32, sent: usize| {
        let mut reply = frame::encode(&PieceReply::Bytes(announced));
        reply.extend(vec![7; sent]);
        reply
    };
    for (what, reply, finished, expected) in [
        ("whole", with_payload(1000, 1000), true, Ok(())),
        ("short", with_payload(1000, 999), true, Err(FetchError::Lost)),
        ("nothing at all", vec![], true, Err(FetchError::Lost)),
        ("half a header", vec![2, 0], true, Err(FetchError::Lost)),
        ("the connection ends halfway", with_payload(1000, 500), false, Err(FetchError::Lost)),
        ("more than announced", with_payload(1000, 1001), true, Err(FetchError::Corrupt)),
        ("another length", with_payload(999, 999), true, Err(FetchError::Corrupt)),
        ("a giant", with_payload(u32::MAX, 0), true, Err(FetchError::Corrupt)),
    ] {
        assert_eq!(fetch_from(reply, finished).await.0, expected, "{what}");
    }
    for garbage in [u32::MAX.to_le_bytes().to_vec(), vec![1, 0, 0, 0, 77], vec![9, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]]
    {
        let (result, connection) = fetch_from(garbage, true).await;
        assert_eq!(result, Err(FetchError::Corrupt));
        assert_eq!(closed_with(&connection).await, VarInt::from_u32(close_code::PROTOCOL));
    }
}

#[tokio::test]
async fn a_manifest_beyond_the_limit_is_refused_before_it_comes() {
    let (node, id, _raw, connection) = raw_peer().await;
    let answer = async {
        let (mut send, mut recv) = connection.accept_bi().await.expect("a request");
        let _: Open = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("a request");
        let announced = u32::try_from(MANIFEST_BYTES_MAX + 1).expect("fits");
        write_frame(&mut send, &ManifestReply::Bytes(announced), PATIENCE).await.expect("writes");
        send.stopped().await.expect("the connection lives")
    };
    let (fetched, stopped) = tokio::join!(node.net.fetch_manifest(FetchId(1), id, content()), answer);
    assert_eq!(fetched, Err(FetchError::Corrupt));
    assert_eq!(stopped, Some(VarInt::from_u32(stream_code::MALFORMED)));
}

#[tokio::test]
async fn cancelling_resets_the_stream() {
    let (node, id, _raw, connection) = raw_peer().await;
    let provider = async {
        let (mut send, mut recv) = connection.accept_bi().await.expect("a request");
        let _: Open = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("a request");
        let mut half = frame::encode(&PieceReply::Bytes(1000));
        half.extend([1; 500]);
        send.write_all(&half).await.expect("writes");
        node.net.cancel_fetch(FetchId(1));
        send.stopped().await.expect("the connection lives")
    };
    let mut buffer = vec![0; 1000];
    let fetch = node.net.begin_fetch(FetchId(1), id);
    let ((_, result), stopped) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), provider);
    assert_eq!((result, stopped), (Err(FetchError::Cancelled), Some(VarInt::from_u32(stream_code::CANCELLED))));
}

#[tokio::test]
async fn a_fetch_cancelled_before_it_has_a_buffer_never_begins() {
    let (downloader, connection, mut provider, _) = pair().await;
    let fetch = downloader.net.begin_fetch(FetchId(1), connection);
    downloader.net.cancel_fetch(FetchId(1));
    fetch.cancelled().await;
    assert_eq!(fetch.piece(content(), PIECE, &mut [0; 8]).await, (0, Err(FetchError::Cancelled)));
    drop(fetch);
    // A number that is not known (any more) is no error.
    downloader.net.cancel_fetch(FetchId(1));
    provider.net.refuse(UploadId(99), Reject::new(ErrorCode::BUSY, "nothing to refuse"));
    assert!(provider.inputs.try_recv().is_err(), "nothing was asked");
}

#[tokio::test]
async fn a_request_given_up_while_it_waits_is_not_answered() {
    let (mut node, _, _raw, connection) = raw_peer().await;
    let request = Open::Piece(PieceRequest { content: content(), piece: PIECE });
    let (mut send, mut recv) = send_open(&connection, &request).await;
    send.finish().expect("finishes");
    let upload = node.requested().await;
    recv.stop(VarInt::from_u32(stream_code::CANCELLED)).expect("stops");
    // A later request is told after the stop has arrived: both come in order on a path without loss.
    let (mut send, _recv) = send_open(&connection, &request).await;
    send.finish().expect("finishes");
    let later = node.requested().await;
    assert!(node.net.take_upload(upload).is_none());
    assert!(node.net.take_upload(upload).is_none(), "a second time neither");
    assert!(node.net.take_upload(later).is_some());
}

#[tokio::test]
async fn an_upload_that_is_dropped_does_not_look_finished() {
    let (downloader, connection, mut provider, _) = pair().await;
    let serve = async {
        let upload = provider.requested().await;
        drop(provider.net.take_upload(upload));
    };
    let mut buffer = [0; 8];
    let fetch = downloader.net.begin_fetch(FetchId(1), connection);
    let (fetched, ()) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), serve);
    assert_eq!(fetched, (0, Err(FetchError::Lost)));
}

#[tokio::test]
async fn an_answer_that_is_stopped_ends_with_a_reset_in_the_middle() {
    let (mut node, _, _raw, connection) = raw_peer().await;
    let request = Open::Piece(PieceRequest { content: content(), piece: PIECE });
    let (mut send, mut recv) = send_open(&connection, &request).await;
    send.finish().expect("finishes");
    let upload = node.requested().await;
    let taken = node.net.take_upload(upload).expect("still wanted");
    // More than is on its way at once, so that it is in the middle for as long as nobody reads.
    let length = PIECE_BYTES_MAX as usize;
    let sending = tokio::spawn(taken.send_piece(Bytes::from(vec![7; length])));
    let reply: PieceReply = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("an answer");
    assert_eq!(reply, PieceReply::Bytes(PIECE_BYTES_MAX as u32));
    recv.read_exact(&mut [0; 1000]).await.expect("the first bytes");
    let reason = Reject::new(ErrorCode::NOT_MEMBER, "no longer a member of photos");
    node.net.stop_upload(upload, reason.clone());
    let (sent, result) = timeout(PATIENCE, sending).await.expect("in time").expect("no panic");
    assert!(matches!(result, Err(UploadError::Stopped)) && sent < length as u64, "{sent} {result:?}");
    let ended = loop {
        match recv.read_chunk(usize::MAX, false).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it looks finished"),
            Err(error) => break error,
        }
    };
    assert_eq!(ended, quinn::ReadError::Reset(VarInt::from_u32(stream_code::REFUSED)));
    // Nothing is left to be stopped.
    node.net.stop_upload(upload, reason);
}

#[tokio::test]
async fn the_largest_piece_is_not_sent_at_a_trickle() {
    let (mut node, _, _raw, connection) = raw_peer().await;
    let (mut send, mut recv) =
        send_open(&connection, &Open::Piece(PieceRequest { content: content(), piece: PIECE })).await;
    send.finish().expect("finishes");
    let upload = node.requested().await;
    let upload = node.net.take_upload(upload).expect("still wanted");
    let trickle = async {
        let mut pace = tokio::time::interval(Duration::from_millis(500));
        loop {
            // 128 KiB a second: enough for a piece of the usual length, but four minutes for this one.
            pace.tick().await;
            let mut bytes = vec![0; 64 * 1024];
            if recv.read_exact(&mut bytes).await.is_err() {
                return recv.received_reset().await;
            }
        }
    };
    let sending = upload.send_piece(vec![0; PIECE_BYTES_MAX as usize].into());
    let (reset, (_, outcome)) = timeout(PATIENCE, async { tokio::join!(trickle, sending) }).await.expect("given up");
    assert!(matches!(outcome, Err(UploadError::TimedOut)), "{outcome:?}");
    assert_eq!(reset.ok().flatten(), Some(VarInt::from_u32(stream_code::TIMED_OUT)));
}

#[tokio::test]
async fn an_answer_that_is_stopped_before_it_begins_is_a_refusal() {
    let (downloader, connection, mut provider, _) = pair().await;
    let reason = Reject::new(ErrorCode::NOT_MEMBER, "no longer a member of photos");
    let stop = async {
        let upload = provider.requested().await;
        provider.net.stop_upload(upload, reason.clone());
        assert!(provider.net.take_upload(upload).is_none());
    };
    let mut buffer = [0; 8];
    let fetch = downloader.net.begin_fetch(FetchId(1), connection);
    let (fetched, ()) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), stop);
    assert_eq!(fetched, (0, Err(FetchError::Refused(reason.clone()))));
    // Or between being taken and being sent, while its bytes are read from the disk.
    let stop = async {
        let upload = provider.requested().await;
        let taken = provider.net.take_upload(upload).expect("still wanted");
        provider.net.stop_upload(upload, reason.clone());
        taken.send_piece(Bytes::from(vec![7; 8])).await
    };
    let fetch = downloader.net.begin_fetch(FetchId(2), connection);
    let (fetched, (sent, _)) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), stop);
    assert_eq!((fetched, sent), ((0, Err(FetchError::Lost)), 0));
}

#[tokio::test]
async fn requests_of_one_peer_are_bounded() {
    let (mut node, id, _raw, connection) = raw_peer().await;
    let request = Open::Piece(PieceRequest { content: content(), piece: PIECE });
    let mut waiting = Vec::new();
    let mut uploads = Vec::new();
    for _ in 0..super::super::connection::UPLOADS_MAX {
        let (mut send, recv) = send_open(&connection, &request).await;
        send.finish().expect("finishes");
        waiting.push(recv);
        uploads.push(node.requested().await);
    }
    let (mut send, mut recv) = send_open(&connection, &request).await;
    send.finish().expect("finishes");
    let reply: PieceReply = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("an answer");
    assert!(matches!(reply, PieceReply::Refused(reason) if reason.code == ErrorCode::BUSY));
    // The connection's end takes them all along.
    connection.close(VarInt::from_u32(0), b"");
    node.lost(id).await;
    assert!(uploads.into_iter().all(|upload| node.net.take_upload(upload).is_none()));
}

#[tokio::test]
async fn a_peer_killed_in_the_middle_of_a_piece_is_lost() {
    let (mut node, id, raw, connection) = raw_peer().await;
    let mut buffer = vec![0; BUFFER_BYTES];
    let fetch = node.net.begin_fetch(FetchId(1), id);
    let kill = async {
        let (mut send, _recv) = connection.accept_bi().await.expect("a request");
        let mut half = frame::encode(&PieceReply::Bytes(BUFFER_BYTES as u32));
        half.extend(vec![1; BUFFER_BYTES / 2]);
        send.write_all(&half).await.expect("writes");
        raw.close();
    };
    let ((received, result), ()) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), kill);
    assert!(result == Err(FetchError::Lost) && received <= BUFFER_BYTES as u64 / 2);
    node.lost(id).await;
}

/// A provider's queue may be longer than a silent peer is waited for: its word that a request waits is what counts.
#[tokio::test]
async fn who_is_told_to_wait_waits_longer_than_for_a_silent_peer() {
    let (node, id, _raw, connection) = raw_peer().await;
    node.net.open_interest(InterestId(1), id, interest());
    let (mut told, mut shown) = connection.accept_bi().await.expect("a stream");
    let _: Open = expect_frame(&mut shown, 16 * 1024, PATIENCE).await.expect("an interest");
    write_frame(&mut told, &FromProvider::HaveMap(WireHaveMap::All), PATIENCE).await.expect("writes");
    let answer = async {
        let (mut send, mut recv) = connection.accept_bi().await.expect("a request");
        let _: Open = expect_frame(&mut recv, 16 * 1024, PATIENCE).await.expect("a request");
        let hint = QueueHint { waiting: 1, ahead: 2, up_limit: 1 << 20 };
        // What is tested is time that passes: a little more than silence may last.
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            write_frame(&mut told, &FromProvider::Queue(hint), PATIENCE).await.expect("writes");
        }
        let reply = [frame::encode(&PieceReply::Bytes(10)), vec![7; 10]].concat();
        send.write_all(&reply).await.expect("writes");
        send.finish().expect("finishes");
        let _ = send.stopped().await;
    };
    let mut buffer = [0; 10];
    let fetch = node.net.begin_fetch(FetchId(1), id);
    let (fetched, ()) = tokio::join!(fetch.piece(content(), PIECE, &mut buffer), answer);
    assert_eq!(fetched, (10, Ok(())));
}
