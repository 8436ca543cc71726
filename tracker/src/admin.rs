//! The operator's socket in the state folder: whoever may open the folder may ask how the tracker does, and for a copy of it.
//!
//! One byte says what is asked ([`Question`]); the answer ends with the connection.

use std::io::{self, Write as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    /// To come to what the cluster knows now; whether it has: a document that is `true` or `false`.
    CatchUp,
}

impl Question {
    /// The byte that asks it.
    fn byte(self) -> u8 {
        match self {
            Question::Status => b's',
            Question::Seeders => b'w',
            Question::Copy => b'c',
            Question::CatchUp => b'u',
        }
    }

    fn of(byte: u8) -> Option<Question> {
        let all = [Question::Status, Question::Seeders, Question::Copy, Question::CatchUp];
        all.into_iter().find(|question| question.byte() == byte)
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

/// Answers one connection. Those that have asked take turns: each may cost a copy of the state, also while it is read.
async fn answer_one(mut stream: UnixStream, reporter: Reporter, key: PathBuf, turn: &Mutex<()>) {
    let Ok(Ok(byte)) = timeout(ASK_DEADLINE, stream.read_u8()).await else { return };
    let Some(question) = Question::of(byte) else { return };
    if question == Question::CatchUp {
        let known: &[u8] = if reporter.catch_up().await { b"true" } else { b"false" };
        return drop(timeout(DEADLINE, stream.write_all(known)).await);
    }
    let _turn = turn.lock().await;
    let answer = tokio::task::spawn_blocking(move || match question {
        Question::Status => serde_json::to_vec(&reporter.status()).map_err(io::Error::from),
        Question::Seeders => serde_json::to_vec(&reporter.seeders()).map_err(io::Error::from),
        Question::Copy | Question::CatchUp => std::fs::read(&key).map(|key| reporter.copy(key).encode()),
    });
    match answer.await {
        // Whoever asked may be gone.
        Ok(Ok(bytes)) => drop(timeout(DEADLINE, stream.write_all(&bytes)).await),
        Ok(Err(error)) => warn!(%error, ?question, "the operator is not answered"),
        Err(_) => {}
    }
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
        stream.write_all(&[question.byte()])?;
        Ok(stream)
    });
    asked.map_err(|error| silent(folder, &error))
}

/// No tracker answers on `folder`.
pub fn silent(folder: &Path, error: &io::Error) -> Reject {
    let message = format!("no tracker answers on the state folder {}: {error}", folder.display());
    Reject::new(ErrorCode::NO_TRACKER, message).hint("start it there, or name its folder with --home DIR")
}
