//! The operator's socket in the state folder: whoever may open the folder may ask how the tracker does, and for a copy of it.
//!
//! One byte says what is asked ([`Question`]), with another one where it is about a tracker; the answer ends with the connection.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use p2p_proto::codec;
use p2p_proto::identity::KEY_FILE;
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use crate::server::Reporter;

/// Name of the socket in the state folder, which is closed to others.
pub const SOCKET: &str = "admin.sock";

/// How long the tracker may take to answer, and whoever has asked to read it: it copies its whole state for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long whoever connects may take to ask.
const ASK_DEADLINE: Duration = Duration::from_secs(5);

/// Connections at once: several operators and their scripts. More wait.
const CONNECTIONS_MAX: usize = 16;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// How the tracker does: a document ([`crate::status::Status`]).
    Status,
    /// Who has what online: a document ([`crate::seeders::Seeders`]).
    Seeders,
    /// All that it keeps: [`crate::backup::Contents`].
    Copy,
    /// To take over from the other of two: [`Answer`], the first place of the epoch that it begins.
    Promote {
        /// Also from one that answers.
        force: bool,
    },
    /// To take a tracker out of the cluster: [`Answer`], the number of votes that are left.
    Remove {
        /// Which.
        tracker: u8,
        /// Also one that answers, or where too few are left.
        force: bool,
    },
    /// To come to what the cluster knows now; whether it has: a document that is `true` or `false`.
    CatchUp,
}

/// What comes of a command: a number, or why nothing.
pub type Answer = Result<u64, Reject>;

/// Longest [`Answer`] read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

impl Question {
    /// The bytes that ask it.
    fn bytes(self) -> Vec<u8> {
        match self {
            Question::Status => vec![b's'],
            Question::Seeders => vec![b'w'],
            Question::Copy => vec![b'c'],
            Question::Promote { force: false } => vec![b'p'],
            Question::Promote { force: true } => vec![b'P'],
            Question::Remove { tracker, force: false } => vec![b'r', tracker],
            Question::Remove { tracker, force: true } => vec![b'R', tracker],
            Question::CatchUp => vec![b'u'],
        }
    }

    /// What is asked on a connection; `None` where it cannot be told.
    async fn read(stream: &mut tokio::net::UnixStream) -> Option<Question> {
        Some(match stream.read_u8().await.ok()? {
            b's' => Question::Status,
            b'w' => Question::Seeders,
            b'c' => Question::Copy,
            b'p' => Question::Promote { force: false },
            b'P' => Question::Promote { force: true },
            b'r' => Question::Remove { tracker: stream.read_u8().await.ok()?, force: false },
            b'R' => Question::Remove { tracker: stream.read_u8().await.ok()?, force: true },
            b'u' => Question::CatchUp,
            _ => return None,
        })
    }
}

/// The socket, for as long as it is listened to.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    listening: JoinHandle<()>,
}

/// Listens in `folder`, whose lock this process has. A path that is too long for a socket costs the answers, not the tracker.
pub fn listen(folder: &Path, reporter: Reporter) -> Option<Admin> {
    let path = folder.join(SOCKET);
    let bound = match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(&path),
    };
    match bound {
        Ok(listener) => {
            let listening = tokio::spawn(answer(listener, reporter, folder.join(KEY_FILE)));
            Some(Admin { path, listening })
        }
        Err(error) => {
            warn!(path = %path.display(), %error, "no `tracker status`: its socket cannot be made");
            None
        }
    }
}

/// Answers everybody who connects.
async fn answer(listener: UnixListener, reporter: Reporter, key: PathBuf) {
    let (places, turn) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::new(Mutex::new(())));
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (reporter, key, turn) = (reporter.clone(), key.clone(), Arc::clone(&turn));
        tokio::spawn(async move {
            answer_one(stream, reporter, key, &turn).await;
            drop(place);
        });
    }
}

/// Answers one connection. Those that cost a copy of the state, also while it is read, take turns.
async fn answer_one(mut stream: UnixStream, reporter: Reporter, key: PathBuf, turn: &Mutex<()>) {
    let Ok(Some(question)) = timeout(ASK_DEADLINE, Question::read(&mut stream)).await else { return };
    let _turn = match question {
        Question::Status | Question::Seeders | Question::Copy => Some(turn.lock().await),
        Question::Promote { .. } | Question::Remove { .. } | Question::CatchUp => None,
    };
    match answer_to(question, &reporter, &key).await {
        // Whoever asked may be gone.
        Ok(bytes) => drop(timeout(DEADLINE, stream.write_all(&bytes)).await),
        Err(error) => warn!(%error, ?question, "the operator is not answered"),
    }
}

async fn answer_to(question: Question, reporter: &Reporter, key: &Path) -> io::Result<Vec<u8>> {
    let (told, key) = (reporter.clone(), key.to_owned());
    let telling = match question {
        Question::CatchUp => return serde_json::to_vec(&reporter.catch_up().await).map_err(io::Error::from),
        Question::Promote { force } => return Ok(codec::encode::<Answer>(&reporter.promote(force).await)),
        Question::Remove { tracker, force } => {
            return Ok(codec::encode::<Answer>(&reporter.remove(tracker.into(), force).await));
        }
        Question::Status => {
            tokio::task::spawn_blocking(move || serde_json::to_vec(&told.status()).map_err(io::Error::from))
        }
        Question::Seeders => {
            tokio::task::spawn_blocking(move || serde_json::to_vec(&told.seeders()).map_err(io::Error::from))
        }
        Question::Copy => tokio::task::spawn_blocking(move || std::fs::read(&key).map(|key| told.copy(key).encode())),
    };
    telling.await.map_err(io::Error::from)?
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.listening.abort();
        // The next start takes it away otherwise.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Asks the tracker that runs on `folder`; the answer is to be read to its end.
///
/// # Errors
/// That none runs there.
pub fn ask(folder: &Path, question: Question) -> Result<net::UnixStream, Reject> {
    let asked = net::UnixStream::connect(folder.join(SOCKET)).and_then(|mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(&question.bytes())?;
        Ok(stream)
    });
    asked.map_err(|error| silent(folder, &error))
}

/// Has the tracker that runs on `folder` do something, and says what has come of it.
///
/// # Errors
/// That none runs there, or why it has not done it.
pub fn command(folder: &Path, question: Question) -> Answer {
    let mut bytes = Vec::new();
    let read = ask(folder, question)?.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| silent(folder, &error))?;
    codec::decode::<Answer>(&bytes).unwrap_or_else(|error| {
        Err(Reject::new(ErrorCode::MALFORMED, format!("the tracker's answer cannot be read: {error}"))
            .hint("the command has to be of the same version as the tracker"))
    })
}

/// No tracker answers on `folder`.
pub fn silent(folder: &Path, error: &io::Error) -> Reject {
    let message = format!("no tracker answers on the state folder {}: {error}", folder.display());
    Reject::new(ErrorCode::NO_TRACKER, message).hint("start it there, or name its folder with --home DIR")
}
