//! One tracker's task: dial, judge its key, exchange Hellos, hear its events, and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use p2p_proto::control::TrackerState;
use p2p_proto::id::NodeId;
use p2p_proto::limit::{HELLO_FRAME_BYTES_MAX, SOFTWARE_BYTES_MAX, TRACKER_FRAME_BYTES_MAX};
use p2p_proto::peer::{close_code, stream_code};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tls::KEY_EXCHANGE;
use p2p_proto::tracker::{Event, Hello, HelloAck};
use p2p_proto::version::{SOFTWARE, TRACKER_PROTOCOL};
use quinn::{Connection, ConnectionError, TransportErrorCode, VarInt};
use tokio::time::{Instant, timeout};

use super::trust::TrustError;
use super::{Inner, Tracker, route};
use crate::endpoint::{ConnectError, Protocol, canonical};
use crate::engine::Input;
use crate::frame_stream::{ReadFrameError, StreamPair, expect_frame, read_frame, write_frame};
use crate::silence::{LISTEN_INTERVAL, Silence};

/// First pause before dialling again; doubled each time up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Longest pause: a tracker that is back is met within this time.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pause where only a person can help: another key, another version, refused.
const PAUSE_FOR_PEOPLE: Duration = Duration::from_secs(60);

/// A connection that lived this long counts as a success, and pauses begin anew at the shortest.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Time for the name service to answer.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Addresses tried of one name, one after the other.
const ADDRESSES_MAX: usize = 4;

/// Time for the tracker to answer our Hello.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// A tracker acknowledges a packet within a round trip, whatever its answer waits for. Three seconds are
/// several retransmissions on the worst path.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Why there is no connection: what the engine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    state: TrackerState,
    reason: Reject,
}

/// A tracker that accepted this daemon.
struct Session {
    connection: Connection,
    node: NodeId,
    ack: HelloAck,
}

/// Keeps one tracker connected until the endpoint is closed.
pub(super) async fn run(inner: Arc<Inner>, place: usize) {
    let tracker = &inner.trackers[place];
    let mut pause = PAUSE_MIN;
    let mut told = None;
    while !inner.inputs.is_closed() {
        let failure = match connect(&inner, tracker).await {
            Ok(session) => {
                let since = Instant::now();
                let failure = live(&inner, tracker, session).await;
                told = None;
                if since.elapsed() >= STEADY_AFTER {
                    pause = PAUSE_MIN;
                }
                failure
            }
            Err(ConnectFailure::Ending) => return,
            Err(ConnectFailure::Failed(failure)) => failure,
        };
        let next_pause = match failure.state {
            TrackerState::KeyChanged | TrackerState::Refused => PAUSE_FOR_PEOPLE,
            _ => pause,
        };
        if told.as_ref() != Some(&failure) {
            tracing::warn!(tracker = %tracker.address.host_port, reason = %failure.reason, "no connection to the tracker");
            inner
                .tell(Input::TrackerLost { tracker: tracker.id, state: failure.state, reason: failure.reason.clone() })
                .await;
            told = Some(failure);
        }
        // A quarter up or down, so that daemons that lost a tracker together do not come back together.
        let jittered = next_pause.mul_f64(0.75 + 0.5 * fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(jittered) => pause = (pause * 2).min(PAUSE_MAX),
            () = tracker.wake.notified() => {}
        }
    }
}

/// From the first word to the engine to the connection's end.
async fn live(inner: &Inner, tracker: &Tracker, session: Session) -> Failure {
    let Session { connection, node, ack } = session;
    tracing::info!(tracker = %tracker.address.host_port, node = %node.short(), "connected to the tracker");
    *tracker.lock_session() = Some(connection.clone());
    let connected = Input::TrackerConnected {
        tracker: tracker.id,
        node,
        ack,
        round_trip: connection.rtt(),
        key_exchange: KEY_EXCHANGE.to_owned(),
    };
    inner.tell(connected).await;
    let failure = tokio::select! {
        error = connection.closed() => lost(tracker, &error),
        failure = hear_events(inner, tracker, &connection) => failure,
        () = silence(&connection) => unreachable(tracker, &"it has fallen silent"),
        () = route::moved(&inner.endpoint, canonical(connection.remote_address())) => {
            inner.endpoint.announce_move();
            // The tracker tells others where this daemon is from what it sees and hears at the Hello.
            unreachable(tracker, &"this machine has another address now")
        }
    };
    *tracker.lock_session() = None;
    connection.close(VarInt::from_u32(close_code::DONE), b"");
    failure
}

/// Ends when the tracker has fallen silent: it is gone, and waiting for QUIC's idle time-out would keep every command waiting
/// too.
async fn silence(connection: &Connection) {
    let mut silence = Silence::default();
    while silence.lasts(connection) < SILENCE_MAX {
        tokio::time::sleep(LISTEN_INTERVAL).await;
    }
}

/// Events, until the tracker ends their stream or breaks the protocol.
async fn hear_events(inner: &Inner, tracker: &Tracker, connection: &Connection) -> Failure {
    let mut events = match connection.accept_uni().await {
        Ok(events) => events,
        Err(error) => return lost(tracker, &error),
    };
    loop {
        match read_frame::<Event>(&mut events, TRACKER_FRAME_BYTES_MAX).await {
            Ok(Some(event)) => inner.tell(Input::TrackerEvent(tracker.id, event)).await,
            Err(ReadFrameError::Malformed(error)) => {
                connection.close(VarInt::from_u32(close_code::PROTOCOL), b"event");
                let message = format!("tracker {} sends malformed events: {error}", tracker.address.host_port);
                return Failure { state: TrackerState::Refused, reason: Reject::new(ErrorCode::MALFORMED, message) };
            }
            Ok(None) | Err(_) => {
                return connection.close_reason().map_or_else(
                    || unreachable(tracker, &"it ended its stream of events"),
                    |error| lost(tracker, &error),
                );
            }
        }
    }
}

/// Why an attempt led to no session.
enum ConnectFailure {
    /// The daemon ends.
    Ending,
    Failed(Failure),
}

impl From<Failure> for ConnectFailure {
    fn from(failure: Failure) -> ConnectFailure {
        ConnectFailure::Failed(failure)
    }
}

/// One attempt, at each of the name's addresses.
async fn connect(inner: &Arc<Inner>, tracker: &Tracker) -> Result<Session, ConnectFailure> {
    let addresses = match timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(&tracker.address.host_port)).await {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(unreachable(tracker, &error).into()),
        Err(_) => return Err(unreachable(tracker, &"the name service does not answer").into()),
    };
    let mut failure = unreachable(tracker, &"the name has no address");
    for address in addresses {
        match inner.endpoint.connect(address, None, Protocol::Tracker).await {
            Ok((connection, node)) => return Ok(admit(inner, tracker, address, connection, node).await?),
            Err(ConnectError::Unusable(quinn::ConnectError::EndpointStopping)) => return Err(ConnectFailure::Ending),
            Err(ConnectError::Lost(error)) => failure = lost(tracker, &error),
            Err(error) => failure = unreachable(tracker, &error),
        }
    }
    Err(failure.into())
}

/// Judges the key, then exchanges Hellos; only then is a first key remembered, since it is a tracker's.
async fn admit(
    inner: &Arc<Inner>,
    tracker: &Tracker,
    address: SocketAddr,
    connection: Connection,
    node: NodeId,
) -> Result<Session, Failure> {
    let known = match tracker.address.pin {
        Some(pin) => Some(pin),
        None => on_disk(inner, tracker, move |known, address| known.lookup(address)).await?,
    };
    if let Some(expected) = known.filter(|expected| *expected != node) {
        connection.close(VarInt::from_u32(close_code::DONE), b"another key was expected");
        return Err(key_changed(inner, tracker, expected, node));
    }
    let ack = match timeout(HELLO_DEADLINE, greet(inner, address, &connection)).await {
        Ok(Ok(ack)) => ack,
        // The reason for the close says more than the stream's end that came of it.
        Ok(Err(ReadFrameError::Lost(_))) if connection.close_reason().is_some() => {
            return Err(connection
                .close_reason()
                .map_or_else(|| unreachable(tracker, &"lost"), |error| lost(tracker, &error)));
        }
        Ok(Err(ReadFrameError::Malformed(error))) => {
            connection.close(VarInt::from_u32(close_code::PROTOCOL), b"hello");
            return Err(refused(tracker, &error));
        }
        Ok(Err(error)) => return Err(unreachable(tracker, &error)),
        Err(_) => {
            connection.close(VarInt::from_u32(close_code::HELLO), b"hello");
            return Err(unreachable(tracker, &"it did not say hello in time"));
        }
    };
    if ack.version != TRACKER_PROTOCOL || ack.software.len() > SOFTWARE_BYTES_MAX {
        connection.close(VarInt::from_u32(close_code::HELLO), b"version");
        let what = format!("it speaks version {} of the protocol, here is version {TRACKER_PROTOCOL}", ack.version);
        return Err(refused(tracker, &what));
    }
    if known.is_none() {
        on_disk(inner, tracker, move |known, address| known.remember(address, node)).await?;
        tracing::info!(tracker = %tracker.address.host_port, %node, "met for the first time: its key is trusted from now on");
    }
    Ok(Session { connection, node, ack })
}

async fn greet(inner: &Inner, address: SocketAddr, connection: &Connection) -> Result<HelloAck, ReadFrameError> {
    let streams = connection.open_bi().await.map_err(quinn::ReadError::from)?;
    let mut streams = StreamPair::new(streams, stream_code::CANCELLED);
    let hello = Hello {
        version: TRACKER_PROTOCOL,
        software: SOFTWARE.to_owned(),
        local_addresses: inner.endpoint.local_address_towards(address).into_iter().collect(),
    };
    // A failure to write shows as a failure to read, with the better reason.
    let _ = write_frame(&mut streams.send, &hello, HELLO_DEADLINE).await;
    let _ = streams.send.finish();
    let ack = expect_frame(&mut streams.recv, HELLO_FRAME_BYTES_MAX, HELLO_DEADLINE).await?;
    streams.complete();
    Ok(ack)
}

/// Asks the file of known trackers, away from the event loop.
async fn on_disk<T: Send + 'static>(
    inner: &Inner,
    tracker: &Tracker,
    work: impl FnOnce(&super::KnownTrackers, &str) -> Result<T, TrustError> + Send + 'static,
) -> Result<T, Failure> {
    let (known, address) = (Arc::clone(&inner.known), tracker.address.host_port.clone());
    let result = tokio::task::spawn_blocking(move || work(&known, &address)).await;
    let (state, reason) = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) if error.passes_by_itself() => {
            let reason = Reject::new(ErrorCode::BUSY, error.to_string()).hint("it is tried again by itself");
            (TrackerState::Unreachable, reason)
        }
        Ok(Err(error)) => {
            let reason = Reject::new(ErrorCode::DISK_ERROR, error.to_string())
                .hint("without this file it is not known whom to trust; mend it, or move it away to trust anew");
            (TrackerState::Refused, reason)
        }
        Err(_) => (TrackerState::Refused, Reject::new(ErrorCode::INTERNAL, "reading the known trackers failed")),
    };
    Err(Failure { state, reason })
}

fn key_changed(inner: &Inner, tracker: &Tracker, expected: NodeId, presented: NodeId) -> Failure {
    let host_port = &tracker.address.host_port;
    let message = format!("tracker {host_port} has another key: {presented} instead of {expected}");
    let remedy = match tracker.address.pin {
        Some(_) => format!("write the new id behind its address, where {expected} is given"),
        None => format!(
            "remove the line `{host_port} {expected}` from {}, or give the new id behind its address",
            inner.known.path().display()
        ),
    };
    let hint = format!("if its operator says that this is expected, {remedy}; else somebody may be in between");
    Failure { state: TrackerState::KeyChanged, reason: Reject::new(ErrorCode::TRACKER_KEY_CHANGED, message).hint(hint) }
}

fn unreachable(tracker: &Tracker, what: &dyn std::fmt::Display) -> Failure {
    let message = format!("tracker {} does not answer: {what}", tracker.address.host_port);
    let reason = Reject::new(ErrorCode::NO_TRACKER, message).hint("it is tried again by itself");
    Failure { state: TrackerState::Unreachable, reason }
}

fn refused(tracker: &Tracker, what: &dyn std::fmt::Display) -> Failure {
    let message = format!("tracker {} refuses: {what}", tracker.address.host_port);
    let reason = Reject::new(ErrorCode::NO_TRACKER, message).hint("see whether both are of the same version");
    Failure { state: TrackerState::Refused, reason }
}

/// What the end of a connection means: only codes that will be the same next time count as a refusal.
fn lost(tracker: &Tracker, error: &ConnectionError) -> Failure {
    const FINAL: [u32; 3] = [close_code::PROTOCOL, close_code::HELLO, close_code::BANNED];
    /// TLS alerts are QUIC errors from here on (RFC 9001, section 4.8): another ALPN, a certificate that is refused.
    const CRYPTO_ERRORS_FROM: u64 = 0x100;
    let is_crypto = |code: TransportErrorCode| u64::from(code) >= CRYPTO_ERRORS_FROM;
    let is_final = match error {
        ConnectionError::ApplicationClosed(close) => {
            FINAL.iter().any(|code| VarInt::from_u32(*code) == close.error_code)
        }
        ConnectionError::ConnectionClosed(close) => is_crypto(close.error_code),
        ConnectionError::TransportError(error) => is_crypto(error.code),
        ConnectionError::VersionMismatch => true,
        _ => false,
    };
    if is_final { refused(tracker, error) } else { unreachable(tracker, error) }
}
