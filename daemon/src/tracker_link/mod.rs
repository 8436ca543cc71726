//! Connections to trackers: one task each, which dials, trusts, says hello, hears events, and dials again.
//!
//! What the engine can rely on: every ask, register, login and change of password is answered by exactly one [`Input::TrackerAnswered`],
//! also where the tracker is lost meanwhile; the answer may come after [`Input::TrackerLost`]. A connection that fails
//! for the same reason as the time before is not told again.

mod account;
mod route;
mod session;
mod trust;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use p2p_proto::control::Password;
use p2p_proto::id::RequestId;
use p2p_proto::limit::TRACKER_FRAME_BYTES_MAX;
use p2p_proto::name::UserName;
use p2p_proto::peer::{close_code, stream_code};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Envelope, Knowledge, Replied, Reply};
use p2p_proto::tracker_info::TrackerAddress;
use quinn::{Connection, VarInt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::endpoint::Endpoint;
use crate::engine::Input;
use crate::engine::input::{AskId, TrackerId};
use crate::engine::output::PasswordChange;
use crate::frame_stream::{ReadFrameError, StreamPair, expect_frame, write_frame};

pub use trust::{KNOWN_TRACKERS_FILE, KnownTrackers, TrustError};

/// A question is answered within this time, its stream's credit included: a tracker waits for its disk, perhaps for an
/// election, not longer.
pub const ASK_DEADLINE: Duration = Duration::from_secs(10);

/// Questions to one tracker that are not answered yet. Those beyond the streams that the tracker permits wait in line;
/// those beyond this are refused as busy.
const ASKS_MAX: usize = 256;

/// Key stretchings at once: each takes 19 MiB of the daemon's 64.
const STRETCHINGS_MAX: usize = 1;

/// The shell around connections to trackers. Clones share it.
#[derive(Clone)]
pub struct TrackerLink {
    inner: Arc<Inner>,
}

/// What all tasks share.
struct Inner {
    endpoint: Endpoint,
    known: Arc<KnownTrackers>,
    trackers: Vec<Tracker>,
    stretchings: Semaphore,
    inputs: mpsc::Sender<Input>,
}

/// One tracker of the list.
struct Tracker {
    id: TrackerId,
    address: TrackerAddress,
    /// The connection, while both Hellos are exchanged and it lives.
    session: Mutex<Option<Connection>>,
    /// Cuts the pause before the next attempt short.
    wake: Notify,
    asks: Arc<Semaphore>,
}

/// What is asked of a tracker on one stream.
enum Question {
    /// One round.
    Once(Envelope),
    /// A new account: two rounds of OPAQUE.
    Register(UserName, Password),
    /// A login: two rounds of OPAQUE.
    Login(UserName, Password),
    /// Another password: two rounds of OPAQUE.
    ChangePassword(RequestId, Box<PasswordChange>),
}

impl TrackerLink {
    /// Starts a task for each tracker of the list; their numbers are their places in it, from 0. Keys of trackers met
    /// for the first time are remembered in `state_folder`. Must run inside a tokio runtime.
    pub fn start(
        endpoint: Endpoint,
        trackers: Vec<TrackerAddress>,
        state_folder: &Path,
        inputs: mpsc::Sender<Input>,
    ) -> TrackerLink {
        let trackers = (0..).zip(trackers).map(|(number, address)| Tracker {
            id: TrackerId(number),
            address,
            session: Mutex::default(),
            wake: Notify::new(),
            asks: Arc::new(Semaphore::new(ASKS_MAX)),
        });
        let inner = Arc::new(Inner {
            endpoint,
            known: Arc::new(KnownTrackers::in_folder(state_folder)),
            trackers: trackers.collect(),
            stretchings: Semaphore::new(STRETCHINGS_MAX),
            inputs,
        });
        for place in 0..inner.trackers.len() {
            tokio::spawn(session::run(Arc::clone(&inner), place));
        }
        TrackerLink { inner }
    }

    /// [`crate::engine::Output::AskTracker`]: asks once. A retry, with the same request id, is the engine's.
    pub fn ask(&self, ask: AskId, tracker: TrackerId, envelope: Envelope) {
        self.submit(ask, tracker, Question::Once(envelope));
    }

    /// [`crate::engine::Output::Register`]: makes an account.
    pub fn register(&self, ask: AskId, tracker: TrackerId, user: UserName, password: Password) {
        self.submit(ask, tracker, Question::Register(user, password));
    }

    /// [`crate::engine::Output::Login`]: enrols this daemon's key under a user.
    pub fn login(&self, ask: AskId, tracker: TrackerId, user: UserName, password: Password) {
        self.submit(ask, tracker, Question::Login(user, password));
    }

    /// [`crate::engine::Output::ChangePassword`]: proves the old password and registers the new one.
    pub fn change_password(&self, ask: AskId, tracker: TrackerId, id: RequestId, change: Box<PasswordChange>) {
        self.submit(ask, tracker, Question::ChangePassword(id, change));
    }

    /// [`crate::engine::Output::WakeTrackers`]: tries every tracker that is not connected now.
    pub fn wake(&self) {
        for tracker in &self.inner.trackers {
            if tracker.lock_session().is_none() {
                tracker.wake.notify_one();
            }
        }
    }

    /// Answers a question in a task of its own, or refuses it at once.
    fn submit(&self, ask: AskId, id: TrackerId, question: Question) {
        let inner = Arc::clone(&self.inner);
        let tracker = usize::try_from(id.0).ok().and_then(|place| inner.trackers.get(place));
        let ready = match tracker {
            None => Err(Reject::new(ErrorCode::NO_TRACKER, "no such tracker is configured")),
            Some(tracker) => tracker.ready(),
        };
        tokio::spawn(async move {
            let (reply, knowledge) = match ready {
                Ok((connection, _slot)) => inner.answer(id, &connection, question).await,
                Err(refusal) => (Err(refusal), None),
            };
            inner.tell(Input::TrackerAnswered { ask, tracker: id, reply, knowledge }).await;
        });
    }
}

impl Tracker {
    fn lock_session(&self) -> MutexGuard<'_, Option<Connection>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to ask on, with a place among the questions.
    fn ready(&self) -> Result<(Connection, OwnedSemaphorePermit), Reject> {
        let Some(connection) = self.lock_session().clone() else {
            let message = format!("tracker {} does not answer", self.address.host_port);
            return Err(
                Reject::new(ErrorCode::NO_TRACKER, message).hint("it is tried again by itself; see `p2pctl status`")
            );
        };
        match Arc::clone(&self.asks).try_acquire_owned() {
            Ok(slot) => Ok((connection, slot)),
            Err(_) => {
                let message = format!("too many questions to tracker {} at once", self.address.host_port);
                Err(Reject::new(ErrorCode::BUSY, message).hint("try again in a moment"))
            }
        }
    }
}

impl Inner {
    async fn tell(&self, input: Input) {
        // Without a receiver the daemon is ending, and nobody is left to be told.
        let _ = self.inputs.send(input).await;
    }

    /// What came of a question, and how much the tracker knew that has answered it, if it has.
    async fn answer(&self, id: TrackerId, connection: &Connection, question: Question) -> (Reply, Option<Knowledge>) {
        let result = match question {
            Question::Once(envelope) => ask_once(connection, &envelope).await,
            Question::Register(user, password) => account::register(self, connection, user, password).await,
            Question::Login(user, password) => account::login(self, connection, user, password).await,
            Question::ChangePassword(id, change) => account::change_password(self, connection, id, *change).await,
        };
        let host_port = self.trackers.iter().find(|tracker| tracker.id == id).map_or("", |it| &it.address.host_port);
        match result {
            Ok(Replied { reply, knowledge }) => (reply.map_err(Reject::within_limits), Some(knowledge)),
            Err(failure) => (Err(failure.explain(connection, host_port)), None),
        }
    }
}

/// Why a question has no answer of the tracker's own.
enum AskFailure {
    /// The connection broke, or this one stream did.
    Lost,
    /// Nothing came in time.
    TimedOut,
    /// What came is no answer.
    Breach(String),
    /// It did not even come to be asked.
    Local(Reject),
}

impl From<ReadFrameError> for AskFailure {
    fn from(error: ReadFrameError) -> AskFailure {
        match error {
            ReadFrameError::Lost(_) => AskFailure::Lost,
            ReadFrameError::TimedOut => AskFailure::TimedOut,
            ReadFrameError::Malformed(_) | ReadFrameError::CutShort => AskFailure::Breach(error.to_string()),
        }
    }
}

impl AskFailure {
    /// The failure for whoever asked. A tracker that does not keep to the protocol loses its connection too.
    fn explain(self, connection: &Connection, host_port: &str) -> Reject {
        let hint = "whether a change was made is not known; asking again is safe";
        match self {
            AskFailure::Lost => {
                Reject::new(ErrorCode::NO_TRACKER, format!("tracker {host_port} was lost while it was asked"))
                    .hint(hint)
            }
            AskFailure::TimedOut => {
                let seconds = ASK_DEADLINE.as_secs();
                Reject::new(ErrorCode::NO_TRACKER, format!("tracker {host_port} did not answer within {seconds} s"))
                    .hint(hint)
            }
            AskFailure::Breach(what) => {
                connection.close(VarInt::from_u32(close_code::PROTOCOL), b"protocol");
                Reject::new(ErrorCode::MALFORMED, format!("tracker {host_port} answers with something else: {what}"))
            }
            AskFailure::Local(reject) => reject,
        }
    }
}

/// One envelope out, one reply back, on a stream of its own.
async fn ask_once(connection: &Connection, envelope: &Envelope) -> Result<Replied, AskFailure> {
    let mut streams = open(connection).await?;
    let reply = ask_round(&mut streams, envelope, true).await?;
    streams.complete();
    Ok(reply)
}

/// A stream to ask on; waits for its turn where the tracker permits no more at once.
async fn open(connection: &Connection) -> Result<StreamPair, AskFailure> {
    match tokio::time::timeout(ASK_DEADLINE, connection.open_bi()).await {
        Ok(Ok(streams)) => Ok(StreamPair::new(streams, stream_code::CANCELLED)),
        Ok(Err(_)) => Err(AskFailure::Lost),
        Err(_) => Err(AskFailure::TimedOut),
    }
}

/// One round on a stream; the `last` one finishes our half.
async fn ask_round(streams: &mut StreamPair, envelope: &Envelope, last: bool) -> Result<Replied, AskFailure> {
    write_frame(&mut streams.send, envelope, ASK_DEADLINE).await.map_err(|_| AskFailure::Lost)?;
    if last {
        streams.send.finish().map_err(|_| AskFailure::Lost)?;
    }
    Ok(expect_frame(&mut streams.recv, TRACKER_FRAME_BYTES_MAX, ASK_DEADLINE).await?)
}
