//! The listening socket: who may connect, how many at once, and where each command's frames go.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::StreamCommon as _;
use interprocess::local_socket::traits::tokio::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName as _};
use interprocess::os::unix::local_socket::ListenerOptionsExt as _;
use interprocess::os::unix::uds_local_socket::tokio::Listener as ActivatedListener;
use p2p_proto::control::{Answer, Frame, Request};
use p2p_proto::private_folder::{self, FolderError};
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::engine::Input;
use crate::engine::input::CommandId;

use super::session;

/// Commands connected at once: a person has a few, a script some dozens; each costs a descriptor and a task.
const SESSIONS_MAX: usize = 128;

/// A command that has connected has so long to say what it wants, however many others wait to connect.
const REQUEST_TIME_MIN: Duration = Duration::from_millis(100);

/// Frames that wait for a command that does not read: half a minute of progress.
const FRAMES_MAX: usize = 32;

/// Events that wait for a command that does not read, some hundred bytes each: more than happens while a script does
/// something about one of them.
const EVENTS_MAX: usize = 2048;

/// Numbers of commands that the daemon gives itself begin here: those of connections never come so far.
const OWN_COMMANDS_FIRST: u64 = 1 << 63;

/// Pause after an accept that failed for want of descriptors: they come back when something ends, not at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its folder is not this user's alone.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Another daemon answers there.
    #[error("another p2pd answers at {}", .0.display())]
    InUse(PathBuf),
    /// Something that is not a socket lies there.
    #[error("{} is not a socket; it is left alone", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen at {}: {cause}", .path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl From<SocketError> for Reject {
    fn from(error: SocketError) -> Reject {
        match error {
            SocketError::Folder(error) => error.into(),
            _ => Reject::new(ErrorCode::INTERNAL, error.to_string()),
        }
    }
}

/// What waits for a command.
#[derive(Debug)]
pub(super) enum Waiting {
    Frame(Box<Frame>),
    /// Bytes of a file, and who is told when the command has taken all of them.
    Bytes(Bytes, oneshot::Sender<()>),
}

/// The shell around the control socket. Clones share it.
#[derive(Clone)]
pub struct Control {
    sessions: Arc<Mutex<HashMap<CommandId, mpsc::Sender<Waiting>>>>,
    /// Those that have not said what they want, the oldest first.
    silent: Arc<Mutex<BTreeMap<CommandId, Silent>>>,
    /// One for each command that may be connected.
    places: Arc<Semaphore>,
}

/// A command that has not said what it wants.
struct Silent {
    since: Instant,
    /// Tells it that another one needs its place.
    go: oneshot::Sender<()>,
}

impl Control {
    fn new(places: usize) -> Control {
        Control { sessions: Arc::default(), silent: Arc::default(), places: Arc::new(Semaphore::new(places)) }
    }

    /// Listens at `path`, or on the socket that a service manager has bound there, and tells commands to `inputs`. Whoever
    /// calls this owns the daemon's folder (its lock), so a socket that nobody answers at is a dead daemon's and is
    /// replaced.
    ///
    /// # Errors
    /// Every [`SocketError`].
    pub async fn listen(
        path: &Path,
        activated: Option<OwnedFd>,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Control, SocketError> {
        let listener = match activated {
            None => bind(path).await?,
            Some(socket) => ActivatedListener::try_from(socket)
                .map(Listener::from)
                .map_err(|cause| SocketError::Refused { path: path.to_owned(), cause })?,
        };
        let control = Control::new(SESSIONS_MAX);
        tokio::spawn(accept(listener, control.clone(), inputs));
        Ok(control)
    }

    /// Sends a frame to a command. One that has hung up gets none; one that does not read loses progress, never its
    /// result. Of events none is left out: who does not read them is told so, and that is its result.
    pub fn tell(&self, command: CommandId, frame: Frame) {
        let mut sessions = self.lock();
        let Some(session) = sessions.get(&command) else { return };
        let full = match frame {
            Frame::Event(_) => session.capacity() <= 1,
            _ => session.max_capacity() - session.capacity() >= FRAMES_MAX,
        };
        match frame {
            // One place is kept free for it; its queue ends behind it.
            Frame::Result(_) => {
                let _ = session.try_send(Waiting::Frame(Box::new(frame)));
                sessions.remove(&command);
            }
            Frame::Event(_) if full => {
                let _ = session.try_send(Waiting::Frame(Box::new(Frame::Result(Err(events_not_read())))));
                sessions.remove(&command);
            }
            _ if full => {}
            _ => {
                let _ = session.try_send(Waiting::Frame(Box::new(frame)));
            }
        }
    }

    /// Sends bytes of a file to a command, however long it takes to take them; false where it has hung up. One call at a
    /// time for a command.
    pub async fn send_bytes(&self, command: CommandId, bytes: Bytes) -> bool {
        let session = self.lock().get(&command).cloned();
        let Some(session) = session else { return false };
        let (taken, told) = oneshot::channel();
        session.send(Waiting::Bytes(bytes, taken)).await.is_ok() && told.await.is_ok()
    }

    /// Waits until every command has read its result or hung up, but not longer than `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        let _ = tokio::time::timeout(deadline, self.places.acquire_many(SESSIONS_MAX as u32)).await;
    }

    /// Has the engine do what a command asks for, for a part of the daemon that is no connection; its result.
    ///
    /// # Errors
    /// What the command is refused with.
    pub async fn ask(&self, inputs: &mpsc::Sender<Input>, request: Request) -> Result<Answer, Reject> {
        static NEXT: AtomicU64 = AtomicU64::new(OWN_COMMANDS_FIRST);
        let command = CommandId(NEXT.fetch_add(1, Ordering::Relaxed));
        let mut frames = self.open(command);
        let _ = inputs.send(Input::Command(command, request)).await;
        let result = loop {
            match frames.recv().await {
                Some(Waiting::Frame(frame)) => {
                    if let Frame::Result(result) = *frame {
                        break result;
                    }
                }
                Some(Waiting::Bytes(..)) => {}
                None => break Err(Reject::new(ErrorCode::NO_DAEMON, "the daemon ends")),
            }
        };
        let _ = inputs.send(Input::CommandGone(command)).await;
        self.close(command);
        result
    }

    /// Opens a command's queue of frames.
    pub(super) fn open(&self, command: CommandId) -> mpsc::Receiver<Waiting> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX + 1);
        self.lock().insert(command, sender);
        receiver
    }

    /// Closes it.
    pub(super) fn close(&self, command: CommandId) {
        self.lock().remove(&command);
    }

    /// A place for one more command, if need be that of the one that has said nothing for longest. Where all are at work, it
    /// waits here for one that ends, and the next ones in the socket's own queue.
    async fn place(&self) -> OwnedSemaphorePermit {
        let mut free = std::pin::pin!(Arc::clone(&self.places).acquire_owned());
        let place = loop {
            let oldest = self.lock_silent().iter().next().map(|(command, silent)| (*command, silent.since));
            let oldest_has_had_its_time = async {
                match oldest {
                    Some((command, since)) => {
                        tokio::time::sleep_until(since + REQUEST_TIME_MIN).await;
                        command
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                place = &mut free => break place,
                command = oldest_has_had_its_time => if self.tell_to_go(command) {
                    break free.await;
                }
            }
        };
        place.expect("the semaphore is never closed")
    }

    /// Takes the place of a command that has said nothing; false if it has meanwhile.
    fn tell_to_go(&self, command: CommandId) -> bool {
        let Some(silent) = self.lock_silent().remove(&command) else { return false };
        tracing::debug!(command = command.0, "closing: it says nothing, and others need its place");
        // Nobody hears it where it has just hung up.
        let _ = silent.go.send(());
        true
    }

    /// A command has connected, and says nothing yet. The receiver tells when it has to go.
    fn connected(&self, command: CommandId) -> oneshot::Receiver<()> {
        let (go, told_to_go) = oneshot::channel();
        self.lock_silent().insert(command, Silent { since: Instant::now(), go });
        told_to_go
    }

    /// It has said what it wants, or ends; false where it was told to go before.
    pub(super) fn silent_no_longer(&self, command: CommandId) -> bool {
        self.lock_silent().remove(&command).is_some()
    }

    fn lock_silent(&self) -> MutexGuard<'_, BTreeMap<CommandId, Silent>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CommandId, mpsc::Sender<Waiting>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a command is told that let too many events wait.
fn events_not_read() -> Reject {
    let message = format!("{EVENTS_MAX} events wait for this command, and it does not read them");
    Reject::new(ErrorCode::BUSY, message)
        .hint("what happened since is not told; see `p2pctl status`, then run it again and read faster")
}

/// The listening socket that a service manager has bound and passes on (sd_listen_fds(3)); `None` where there is none.
pub fn activated_socket() -> Option<OwnedFd> {
    listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten().map(OwnedFd::from)
}

/// Binds the socket: in a folder that only this user may enter (0700), itself for this user only (0600).
async fn bind(path: &Path) -> Result<Listener, SocketError> {
    let refused = |cause| SocketError::Refused { path: path.to_owned(), cause };
    if let Some(folder) = path.parent() {
        private_folder::make_closed(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {
            let name = path.to_fs_name::<GenericFilePath>().map_err(refused)?;
            if Stream::connect(name).await.is_ok() {
                return Err(SocketError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(refused)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(refused(error)),
    }
    let name = path.to_fs_name::<GenericFilePath>().map_err(refused)?;
    ListenerOptions::new().name(name).mode(0o600).create_tokio().map_err(refused)
}

/// Accepts commands until the process ends.
async fn accept(listener: Listener, control: Control, inputs: mpsc::Sender<Input>) {
    let next_command = AtomicU64::new(1);
    loop {
        match listener.accept().await {
            Ok(stream) if is_same_user(&stream) => {
                let place = control.place().await;
                let command = CommandId(next_command.fetch_add(1, Ordering::Relaxed));
                let (control, inputs) = (control.clone(), inputs.clone());
                let told_to_go = control.connected(command);
                tokio::spawn(async move {
                    session::run(stream, command, told_to_go, &control, &inputs).await;
                    drop(place);
                });
            }
            Ok(_) => tracing::warn!("another user tried the control socket and was refused"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a command");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Whether the program at the other end runs as this user, or as root, who could become it anyway.
fn is_same_user(stream: &Stream) -> bool {
    let user = stream.peer_creds().ok().and_then(|credentials| credentials.euid());
    user.is_some_and(|user| user == rustix::process::geteuid().as_raw() || user == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_proto::control::{Event, Happening, Hashing, LocalPath, ShuttingDown};
    use p2p_proto::time::UnixMillis;

    fn told(frames: impl IntoIterator<Item = Frame>) -> Vec<Frame> {
        let control = Control::new(1);
        let mut queue = control.open(CommandId(1));
        frames.into_iter().for_each(|frame| control.tell(CommandId(1), frame));
        let frame = |waiting| match waiting {
            Waiting::Frame(frame) => *frame,
            Waiting::Bytes(..) => panic!("nothing is streamed"),
        };
        std::iter::from_fn(|| queue.try_recv().ok().map(frame)).collect()
    }

    fn result() -> Frame {
        Frame::Result(Ok(Answer::ShuttingDown(ShuttingDown { process_id: 1 })))
    }

    #[test]
    fn who_does_not_read_loses_progress_and_no_result() {
        let progress = |done_bytes| Frame::Hashing(Hashing { path: LocalPath("/f".into()), done_bytes, length: 1000 });
        let told = told((0..1000).map(progress).chain([result()]));
        assert_eq!((told.len(), told.last()), (FRAMES_MAX + 1, Some(&result())));
    }

    #[test]
    fn who_does_not_read_events_is_told_so_behind_those_that_fit() {
        let event = |at| Frame::Event(Event { at: UnixMillis(at), what: Happening::Account { user: None } });
        let told = told((0..10_000).map(event).chain([result()]));
        let (last, events) = told.split_last().expect("frames");
        assert_eq!(events, (0..EVENTS_MAX as u64).map(event).collect::<Vec<_>>(), "without a gap");
        assert!(matches!(last, Frame::Result(Err(reject)) if reject.code == ErrorCode::BUSY), "{last:?}");
    }
}
