//! A stand-in for the daemon in tests: real frames over a real socket, answers made up.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use p2p_proto::control::{Frame, Hello, HelloAck, Request};
use p2p_proto::frame;
use p2p_proto::limit::CONTROL_FRAME_BYTES_MAX;
use p2p_proto::paths::Folders;
use p2p_proto::version::{CONTROL_PROTOCOL, SOFTWARE};

use crate::args::Globals;
use crate::session::Session;

/// A folder for `--home`, with a socket folder in it.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Home {
        let home = Home { folder: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(home.folders().runtime).expect("made");
        home
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn folders(&self) -> Folders {
        Folders::under_home(self.path())
    }

    pub fn socket(&self) -> PathBuf {
        self.folders().control_socket().expect("short")
    }

    /// A session that starts no daemon and says nothing but errors.
    pub fn session(&self) -> Session {
        let home = Some(self.path().to_owned());
        Session::new(Globals { home, no_start: true, quiet: true, ..Globals::default() }).expect("a session")
    }
}

/// What the stand-in greets with.
pub fn greeting() -> HelloAck {
    HelloAck { version: CONTROL_PROTOCOL, software: SOFTWARE.to_owned() }
}

/// Serves one connection at `socket`: greets, takes a request, sends `frames`. Gives back the request.
pub fn serve_once(socket: &Path, greeting: HelloAck, frames: Vec<Frame>) -> JoinHandle<Option<Request>> {
    let listener = UnixListener::bind(socket).expect("bound");
    std::thread::spawn(move || converse(&listener, &greeting, &frames).ok())
}

/// Accepts until somebody asks something: a starter may look whether anybody is there before it asks.
pub fn converse(listener: &UnixListener, greeting: &HelloAck, frames: &[Frame]) -> io::Result<Request> {
    let (mut stream, _) = listener.accept()?;
    let hello: Hello = read(&mut stream)?;
    assert_eq!(hello.version, CONTROL_PROTOCOL);
    stream.write_all(&frame::encode(greeting))?;
    let request = read(&mut stream)?;
    for answer in frames {
        stream.write_all(&frame::encode(answer))?;
    }
    Ok(request)
}

fn read<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut prefix = [0; frame::PREFIX_BYTES];
    stream.read_exact(&mut prefix)?;
    let mut body = vec![0; frame::length(prefix, CONTROL_FRAME_BYTES_MAX).map_err(io::Error::other)?];
    stream.read_exact(&mut body)?;
    frame::decode(&body).map_err(io::Error::other)
}
