//! The operator's socket in the state folder: whoever may open the folder may ask how the tracker does.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::server::Reporter;

/// Name of the socket in the state folder, which is closed to others.
pub const SOCKET: &str = "admin.sock";

/// The socket, for as long as it is listened to.
#[derive(Debug)]
pub struct Admin {
    path: PathBuf,
    listening: JoinHandle<()>,
}

/// Listens in `folder`, whose lock this process has. A path that is too long for a socket costs the status, not the tracker.
pub fn listen(folder: &Path, reporter: Reporter) -> Option<Admin> {
    let path = folder.join(SOCKET);
    let bound = match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(&path),
    };
    match bound {
        Ok(listener) => Some(Admin { path, listening: tokio::spawn(answer(listener, reporter)) }),
        Err(error) => {
            warn!(path = %path.display(), %error, "no `tracker status`: its socket cannot be made");
            None
        }
    }
}

/// Tells everybody who connects, one after the other.
async fn answer(listener: UnixListener, reporter: Reporter) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let reporter = reporter.clone();
        // The state is copied for it, which may take a second.
        let Ok(status) = tokio::task::spawn_blocking(move || reporter.status()).await else { continue };
        if let Ok(text) = serde_json::to_vec(&status) {
            // Whoever asked may be gone.
            let _ = stream.write_all(&text).await;
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.listening.abort();
        // The next start takes it away otherwise.
        let _ = std::fs::remove_file(&self.path);
    }
}
