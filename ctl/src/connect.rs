//! The connection to the daemon: greeting, one request out, frames back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use interprocess::local_socket::{GenericFilePath, tokio::Stream, tokio::prelude::*};
use p2p_proto::control::{Frame, Hello, HelloAck, Request};
use p2p_proto::frame;
use p2p_proto::limit::{CONTROL_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX};
use p2p_proto::private_folder;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::version::{CONTROL_PROTOCOL, SOFTWARE};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::error::{Failure, cause};

/// How long a daemon may take to greet: it does so before anything else.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon that has greeted and speaks this program's protocol.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    socket: PathBuf,
    /// Name and version of the daemon.
    pub software: String,
}

impl Connection {
    /// Connects and greets; `None` where nothing listens at `socket`.
    pub async fn open(socket: &Path) -> Result<Option<Connection>, Failure> {
        let stream = match dial(socket).await {
            Ok(stream) => stream,
            Err(error) => return nothing_listens(socket, &error),
        };
        check_owner(socket, &stream)?;
        check_folder(socket)?;
        let mut connection = Connection { stream, socket: socket.to_owned(), software: String::new() };
        match tokio::time::timeout(HELLO_TIMEOUT, connection.greet()).await {
            Ok(greeted) => greeted?,
            Err(_) => {
                let message = format!("the daemon at {} does not answer", socket.display());
                return Err(Failure::new(ErrorCode::NO_DAEMON, message).hint(
                    "it hangs, is stopped, or too many commands wait for it: end those, or else its process `p2pd`",
                ));
            }
        }
        Ok(Some(connection))
    }

    /// Sends the one request of this connection.
    pub async fn send(&mut self, request: &Request) -> Result<(), Failure> {
        self.write(request).await
    }

    /// The next frame. Not cancel-safe: after giving it up the connection is of no more use.
    pub async fn receive(&mut self) -> Result<Frame, Failure> {
        match self.read(CONTROL_FRAME_BYTES_MAX).await {
            Ok(frame) => Ok(frame),
            Err(ReadError::Closed) => Err(self.hung_up()),
            Err(ReadError::Garbage(cause)) => {
                Err(Failure::new(ErrorCode::MALFORMED, format!("the daemon's answer makes no sense: {cause}"))
                    .hint("p2pctl and p2pd should be of one version: restart the daemon"))
            }
        }
    }

    async fn greet(&mut self) -> Result<(), Failure> {
        // A daemon that refuses this user hangs up at once, perhaps before this is written: what is read then says so.
        let _ = self.write(&Hello { version: CONTROL_PROTOCOL, software: SOFTWARE.to_owned() }).await;
        let ack: HelloAck = self.read(HELLO_FRAME_BYTES_MAX).await.map_err(|error| {
            let what = match error {
                ReadError::Closed => "hung up without a greeting".to_owned(),
                ReadError::Garbage(cause) => format!("is not p2pd: {cause}"),
            };
            let message = format!("what listens at {} {what}", self.socket.display());
            Failure::new(ErrorCode::DAEMON_REFUSED, message)
                .hint("only the user that the daemon runs as may talk to it; p2pd.log in its state folder says more")
        })?;
        if ack.version != CONTROL_PROTOCOL {
            let message = format!(
                "{} speaks control protocol {}, and this program ({SOFTWARE}) speaks {CONTROL_PROTOCOL}",
                ack.software, ack.version
            );
            return Err(Failure::new(ErrorCode::DAEMON_REFUSED, message)
                .hint("install p2pctl and p2pd in the same version and restart the daemon"));
        }
        self.software = ack.software;
        Ok(())
    }

    async fn write<T: serde::Serialize>(&mut self, message: &T) -> Result<(), Failure> {
        // Wiped, since a request may hold a password.
        let bytes = Zeroizing::new(frame::encode(message));
        self.stream.write_all(&bytes).await.map_err(|_| self.hung_up())
    }

    async fn read<T: DeserializeOwned>(&mut self, bytes_max: usize) -> Result<T, ReadError> {
        let mut prefix = [0; frame::PREFIX_BYTES];
        self.stream.read_exact(&mut prefix).await?;
        let mut body = vec![0; frame::length(prefix, bytes_max)?];
        self.stream.read_exact(&mut body).await?;
        Ok(frame::decode(&body)?)
    }

    fn hung_up(&self) -> Failure {
        Failure::new(
            ErrorCode::NO_DAEMON,
            format!("the daemon at {} hung up before it answered", self.socket.display()),
        )
        .hint("it may have been stopped; p2pd.log in its state folder says more")
    }
}

/// Why no message came.
enum ReadError {
    Closed,
    Garbage(String),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> ReadError {
        ReadError::Closed
    }
}

impl From<frame::FrameError> for ReadError {
    fn from(error: frame::FrameError) -> ReadError {
        ReadError::Garbage(error.to_string())
    }
}

async fn dial(socket: &Path) -> io::Result<Stream> {
    Stream::connect(socket.to_fs_name::<GenericFilePath>()?).await
}

/// Refuses a daemon of another user, who would hear passwords and see names of files. Root is heard by root anyway.
fn check_owner(socket: &Path, stream: &Stream) -> Result<(), Failure> {
    let owner = stream.peer_creds().ok().and_then(|credentials| credentials.euid());
    match owner {
        Some(owner) if owner == rustix::process::geteuid().as_raw() || owner == 0 => Ok(()),
        _ => {
            let whose = owner.map_or_else(|| "somebody unknown".to_owned(), |owner| format!("user {owner}"));
            let message = format!("what listens at {} is run by {whose}, not by this user", socket.display());
            Err(Failure::new(ErrorCode::DAEMON_REFUSED, message).hint("run as that user, or choose another --home DIR"))
        }
    }
}

/// Refuses a socket that lies where somebody else decides which one it is: this user may have several.
fn check_folder(socket: &Path) -> Result<(), Failure> {
    let checked = socket.parent().map_or(Ok(None), private_folder::check);
    checked.map(drop).map_err(|error| {
        let Reject { message, hint, .. } = error.into();
        Failure::new(ErrorCode::DAEMON_REFUSED, message).hint(hint)
    })
}

/// A socket that is not there or that nobody accepts at is no daemon; any other refusal is one to be told.
fn nothing_listens(socket: &Path, error: &io::Error) -> Result<Option<Connection>, Failure> {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
        io::ErrorKind::PermissionDenied => ErrorCode::DAEMON_REFUSED,
        _ => ErrorCode::NO_DAEMON,
    };
    Err(Failure::new(code, format!("the daemon's socket {}: {}", socket.display(), cause(error))))
}
