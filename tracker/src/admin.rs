//! The operator's socket in the state folder: whoever may open the folder may ask how the tracker does, and for a copy of it.
//!
//! One byte says what is asked ([`Question`]); the answer ends with the connection.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use p2p_proto::codec;
use p2p_proto::identity::KEY_FILE;
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use crate::server::Reporter;

/// Name of the socket in the state folder, which is closed to others.
pub const SOCKET: &str = "admin.sock";

/// How long whoever connects may take to ask, and the tracker to answer: it copies its whole state for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// How the tracker does: a document ([`crate::status::Status`]).
    Status,
    /// Who has what online: a document ([`crate::seeders::Seeders`]).
    Seeders,
    /// All that it keeps: [`crate::backup::Contents`].
    Copy,
    /// To take over from the other of two: [`crate::promote::Answer`].
    Promote {
        /// Also from one that answers.
        force: bool,
    },
}

impl Question {
    /// The byte that asks it.
    fn byte(self) -> u8 {
        match self {
            Question::Status => b's',
            Question::Seeders => b'w',
            Question::Copy => b'c',
            Question::Promote { force: false } => b'p',
            Question::Promote { force: true } => b'P',
        }
    }

    fn of(byte: u8) -> Option<Question> {
        let promote = [false, true].map(|force| Question::Promote { force });
        let mut all = [Question::Status, Question::Seeders, Question::Copy].into_iter().chain(promote);
        all.find(|question| question.byte() == byte)
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

/// Answers everybody who connects, one after the other: each may cost a copy of the state.
async fn answer(listener: UnixListener, reporter: Reporter, key: PathBuf) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Ok(Ok(byte)) = timeout(DEADLINE, stream.read_u8()).await else { continue };
        let Some(question) = Question::of(byte) else { continue };
        match answer_to(question, &reporter, &key).await {
            // Whoever asked may be gone.
            Ok(bytes) => drop(timeout(DEADLINE, stream.write_all(&bytes)).await),
            Err(error) => warn!(%error, ?question, "the operator is not answered"),
        }
    }
}

async fn answer_to(question: Question, reporter: &Reporter, key: &Path) -> io::Result<Vec<u8>> {
    if let Question::Promote { force } = question {
        return Ok(codec::encode(&reporter.promote(force).await));
    }
    let (reporter, key) = (reporter.clone(), key.to_owned());
    let answer = tokio::task::spawn_blocking(move || match question {
        Question::Status => serde_json::to_vec(&reporter.status()).map_err(io::Error::from),
        Question::Seeders => serde_json::to_vec(&reporter.seeders()).map_err(io::Error::from),
        Question::Copy | Question::Promote { .. } => std::fs::read(&key).map(|key| reporter.copy(key).encode()),
    });
    answer.await.map_err(io::Error::from)?
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
pub fn ask(folder: &Path, question: Question) -> Result<UnixStream, Reject> {
    let asked = UnixStream::connect(folder.join(SOCKET)).and_then(|mut stream| {
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
