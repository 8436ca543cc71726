//! Interests: the control stream that a downloader keeps open to a provider for each content, seen from both ends.

use std::sync::Arc;
use std::time::Duration;

use p2p_proto::grant::Grant;
use p2p_proto::limit::{HAVE_MAP_FRAME_BYTES_MAX, HAVE_PIECES_MAX, PEER_FRAME_BYTES_MAX};
use p2p_proto::name::UserName;
use p2p_proto::peer::{FromDownloader, FromProvider, Interest, Open, close_code, stream_code};
use p2p_proto::reject::{ErrorCode, Reject};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Inner;
use super::connection::{Peer, try_take};
use super::places::Use;
use crate::engine::Input;
use crate::engine::input::{ConnectionId, InterestId, ServedId};
use crate::frame_stream::{ReadFrameError, StreamPair, read_frame, write_frame};

/// A frame is taken by the other end within this time, or the stream is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);

/// Fresh grants waiting to be sent: they come minutes apart, so more means that the peer reads nothing.
const RENEWALS_QUEUED_MAX: usize = 4;

/// Frames waiting to be sent to one downloader: some seconds of updates at full rate.
const PROVIDED_QUEUED_MAX: usize = 64;

/// An interest opened here. Dropping it ends the stream.
pub(super) struct Shown {
    peer: Arc<Peer>,
    renewals: mpsc::Sender<Grant>,
    _in_use: Option<Use>,
}

/// An interest that a peer opened.
pub(super) struct Served {
    peer: Arc<Peer>,
    queue: mpsc::Sender<FromProvider>,
    /// There once its grant was found to hold.
    in_use: Option<Use>,
}

/// How an interest ended.
enum End {
    /// Who opened it (the engine, or the peer by finishing) closed it.
    Closed,
    /// The provider refuses, with a reason.
    Refused(Reject),
    /// The stream broke or was ended without a reason.
    Lost,
    /// What came is no message, or not one that may come here.
    Breach(String),
}

impl From<ReadFrameError> for End {
    fn from(error: ReadFrameError) -> End {
        match error {
            ReadFrameError::Malformed(_) | ReadFrameError::CutShort => End::Breach(error.to_string()),
            ReadFrameError::Lost(_) | ReadFrameError::TimedOut => End::Lost,
        }
    }
}

/// Opens an interest; its end is told by the task that keeps it.
pub(super) fn open(net: &Arc<Inner>, id: InterestId, connection: ConnectionId, interest: Interest) {
    let net = Arc::clone(net);
    let (renewals, queue) = mpsc::channel(RENEWALS_QUEUED_MAX);
    let kept = {
        let mut registry = net.lock();
        let entry = registry.connections.get(&connection).map(|entry| (Arc::clone(&entry.peer), entry.alive.clone()));
        if let Some((peer, _)) = &entry {
            let in_use = peer.place.map(|place| net.places.begin_use(place, None));
            registry.interests.insert(id, Shown { peer: Arc::clone(peer), renewals, _in_use: in_use });
        }
        entry
    };
    tokio::spawn(async move {
        let Some((peer, alive)) = kept else {
            return net.tell(Input::InterestClosed(id, None)).await;
        };
        let end = show(&net, &peer, id, interest, queue).await;
        // Whoever takes it out of the registry has the last word: the engine by closing it, or this task.
        if net.lock().interests.remove(&id).is_some() {
            let reason = if let End::Refused(reason) = end { Some(reason) } else { None };
            net.tell(Input::InterestClosed(id, reason)).await;
        }
        drop(alive);
    });
}

/// Queues a fresh grant.
pub(super) fn renew(net: &Inner, id: InterestId, grant: Grant) {
    if let Some(shown) = net.lock().interests.get(&id)
        && let Err(TrySendError::Full(_)) = shown.renewals.try_send(grant)
    {
        shown.peer.quinn.close(VarInt::from_u32(close_code::BUSY), b"grants are not read");
    }
}

/// The grant of an interest holds: its connection does not go for somebody new.
pub(super) fn admitted(net: &Inner, id: ServedId, user: UserName) {
    if let Some(served) = net.lock().served.get_mut(&id) {
        served.in_use = served.peer.place.map(|place| net.places.begin_use(place, Some(user)));
    }
}

/// Queues a frame for a downloader.
pub(super) fn provide(net: &Inner, id: ServedId, message: FromProvider) {
    if let Some(served) = net.lock().served.get(&id)
        && let Err(TrySendError::Full(_)) = served.queue.try_send(message)
    {
        tracing::debug!(connection = served.peer.id.0, "closing: the peer does not read what it is told");
        served.peer.quinn.close(VarInt::from_u32(close_code::BUSY), b"updates are not read");
    }
}

/// The downloader's end, as long as it lives.
async fn show(net: &Inner, peer: &Peer, id: InterestId, interest: Interest, mut queue: mpsc::Receiver<Grant>) -> End {
    let opened = tokio::select! {
        opened = peer.quinn.open_bi() => opened,
        () = closed_by_engine(&mut queue) => return End::Closed,
    };
    let Ok(streams) = opened else { return End::Lost };
    let mut streams = StreamPair::new(streams, stream_code::CANCELLED);
    if write_frame(&mut streams.send, &Open::Interest(interest), WRITE_DEADLINE).await.is_err() {
        return End::Lost;
    }
    let StreamPair { send, recv, .. } = &mut streams;
    let end = tokio::select! {
        end = hear_provider(net, peer, id, recv) => end,
        end = send_renewals(send, &mut queue) => end,
    };
    match &end {
        End::Breach(what) => {
            streams.abandon(stream_code::MALFORMED);
            peer.close_for_breach(what);
        }
        End::Refused(_) => {
            let _ = streams.send.finish();
            streams.complete();
        }
        End::Closed | End::Lost => streams.abandon(stream_code::CANCELLED),
    }
    end
}

/// Waits while grants may come; they are dropped, since the interest to be opened has a fresh one.
async fn closed_by_engine(queue: &mut mpsc::Receiver<Grant>) {
    while queue.recv().await.is_some() {}
}

/// What the provider says: a have-map first, then news.
async fn hear_provider(net: &Inner, peer: &Peer, id: InterestId, recv: &mut RecvStream) -> End {
    let mut first = true;
    loop {
        let message = match read_frame::<FromProvider>(recv, HAVE_MAP_FRAME_BYTES_MAX).await {
            Ok(Some(message)) => message,
            Ok(None) => return End::Lost,
            Err(error) => return error.into(),
        };
        match message {
            FromProvider::Refused(reason) => return End::Refused(reason.within_limits()),
            FromProvider::HaveMap(_) if first => first = false,
            FromProvider::Have(ref pieces) if !first && pieces.len() <= HAVE_PIECES_MAX => {}
            FromProvider::Load(_) => {}
            FromProvider::Queue(hint) => {
                if hint.waiting > 0 {
                    peer.note_alive();
                }
            }
            FromProvider::HaveMap(_) | FromProvider::Have(_) => {
                return End::Breach("a have-map again, pieces before it, or too many at once".to_owned());
            }
        }
        net.tell(Input::Offered(id, message)).await;
    }
}

async fn send_renewals(send: &mut SendStream, queue: &mut mpsc::Receiver<Grant>) -> End {
    while let Some(grant) = queue.recv().await {
        if write_frame(send, &FromDownloader::Renew(grant), WRITE_DEADLINE).await.is_err() {
            return End::Lost;
        }
    }
    End::Closed
}

/// The provider's end of an interest that a peer opened, as long as it lives.
pub(super) async fn serve(net: Arc<Inner>, peer: Arc<Peer>, mut streams: StreamPair, interest: Interest) {
    let Some(_slot) = try_take(&peer.served_slots) else {
        let busy = Reject::new(ErrorCode::BUSY, "too many interests on one connection");
        if write_frame(&mut streams.send, &FromProvider::Refused(busy), WRITE_DEADLINE).await.is_ok() {
            let _ = streams.send.finish();
            streams.complete();
        }
        return;
    };
    let id = ServedId(net.draw_number());
    let (queue, mut queued) = mpsc::channel(PROVIDED_QUEUED_MAX);
    net.lock().served.insert(id, Served { peer: Arc::clone(&peer), queue, in_use: None });
    net.tell(Input::InterestOpened { served: id, connection: peer.id, interest }).await;

    let StreamPair { send, recv, .. } = &mut streams;
    let end = tokio::select! {
        end = hear_downloader(&net, id, recv) => end,
        end = send_provided(send, &mut queued) => end,
    };
    net.lock().served.remove(&id);
    match end {
        End::Breach(what) => {
            streams.abandon(stream_code::MALFORMED);
            peer.close_for_breach(&what);
        }
        End::Closed | End::Refused(_) => {
            let _ = streams.send.finish();
            streams.complete();
        }
        End::Lost => streams.abandon(stream_code::CANCELLED),
    }
    net.tell(Input::ServedClosed(id)).await;
}

async fn hear_downloader(net: &Inner, id: ServedId, recv: &mut RecvStream) -> End {
    loop {
        match read_frame::<FromDownloader>(recv, PEER_FRAME_BYTES_MAX).await {
            Ok(Some(FromDownloader::Renew(grant))) => net.tell(Input::InterestRenewed(id, grant)).await,
            Ok(None) => return End::Closed,
            Err(error) => return error.into(),
        }
    }
}

/// Sends what the engine tells, up to a refusal.
async fn send_provided(send: &mut SendStream, queued: &mut mpsc::Receiver<FromProvider>) -> End {
    while let Some(message) = queued.recv().await {
        if write_frame(send, &message, WRITE_DEADLINE).await.is_err() {
            return End::Lost;
        }
        if let FromProvider::Refused(reason) = message {
            return End::Refused(reason);
        }
    }
    End::Closed
}
