//! Where a daemon keeps its state, settings and socket: one rule for `p2pd`, which makes them, and `p2pctl`, which looks.

use std::io;
use std::path::{Path, PathBuf};

use crate::private_folder::{self, FolderError};

/// Longest path of a Unix socket, in bytes: `sun_path` holds 108 with the NUL behind it (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The folder of [`Folders::uploads`] in that of the state.
pub const UPLOADS: &str = "uploads";

/// Why there is no place for a daemon.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// The system names no home folder for this user.
    #[error("this user has no home folder")]
    NoHome,
    /// The folder given cannot be made absolute.
    #[error("the folder `{}` is not usable: {cause}", .home.display())]
    Home {
        /// What was given.
        home: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The system could not bind or connect to it.
    #[error("the control socket's path `{}` is longer than {SOCKET_PATH_BYTES_MAX} bytes", .0.display())]
    SocketTooLong(PathBuf),
}

/// The base folders of one daemon, all absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The one that all others lie in, where one was given.
    pub home: Option<PathBuf>,
    /// Keys, journal, log: what must outlive a restart of the machine.
    pub state: PathBuf,
    /// What the user writes: settings, `tracker_info.txt`.
    pub config: PathBuf,
    /// The socket: need not outlive the daemon. Only this user may enter it (0700).
    pub runtime: PathBuf,
}

impl Folders {
    /// The folders of the daemon that belongs to `home` (`--home`, `P2P_HOME`), or of this user's one where none is given.
    pub fn find(home: Option<&Path>) -> Result<Folders, PathsError> {
        match home {
            Some(home) => match std::path::absolute(home) {
                Ok(absolute) => Ok(Folders::under_home(&absolute)),
                Err(cause) => Err(PathsError::Home { home: home.to_owned(), cause }),
            },
            None => {
                let project = directories::ProjectDirs::from("", "", "p2pd").ok_or(PathsError::NoHome)?;
                let state = project.state_dir().unwrap_or(project.data_local_dir());
                Ok(Folders::platform(state, project.config_dir(), project.runtime_dir()))
            }
        }
    }

    /// A whole daemon under one folder, so that several can live on one machine.
    pub fn under_home(home: &Path) -> Folders {
        Folders {
            home: Some(home.to_owned()),
            state: home.join("state"),
            config: home.join("config"),
            runtime: home.join("run"),
        }
    }

    /// The platform's folders for `p2pd`. Without a runtime folder (no `XDG_RUNTIME_DIR`) the socket lies with the state.
    pub fn platform(state: &Path, config: &Path, runtime: Option<&Path>) -> Folders {
        Folders {
            home: None,
            state: state.to_owned(),
            config: config.to_owned(),
            runtime: runtime.map_or_else(|| state.join("run"), Path::to_owned),
        }
    }

    /// Makes the folder of the state, for this user alone.
    ///
    /// # Errors
    /// Where it, or the home given, is somebody else's or can be changed by others.
    pub fn make_state(&self) -> Result<(), FolderError> {
        self.home.iter().chain([&self.state]).try_for_each(|folder| private_folder::make(folder))
    }

    /// The socket that the daemon listens on, refused where the system could not use it.
    pub fn control_socket(&self) -> Result<PathBuf, PathsError> {
        let socket = self.runtime.join("control.sock");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(PathsError::SocketTooLong(socket));
        }
        Ok(socket)
    }

    /// Where the daemon keeps what it streams to commands for as long as they read it. Empty when it starts.
    pub fn streams(&self) -> PathBuf {
        self.state.join("streams")
    }

    /// Where what came from standard input is kept for as long as it is shared. Commands put it there, the daemon deletes it.
    pub fn uploads(&self) -> PathBuf {
        self.state.join(UPLOADS)
    }

    /// Where the standard error of a daemon started in the background goes.
    pub fn daemon_log(&self) -> PathBuf {
        self.state.join("p2pd.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_holds_everything() {
        let folders = Folders::find(Some(Path::new("/srv/alice"))).expect("absolute");
        assert_eq!(folders.control_socket().expect("short"), Path::new("/srv/alice/run/control.sock"));
        assert_eq!(folders.daemon_log(), Path::new("/srv/alice/state/p2pd.log"));
        assert_eq!(folders.config, Path::new("/srv/alice/config"));
        assert!(Folders::find(Some(Path::new("alice"))).expect("made absolute").state.is_absolute());
        assert!(matches!(Folders::find(Some(Path::new(""))), Err(PathsError::Home { .. })));
    }

    #[test]
    fn the_socket_lies_with_the_state_where_there_is_no_runtime_folder() {
        let (state, config) = (Path::new("/h/.local/state/p2pd"), Path::new("/h/.config/p2pd"));
        assert_eq!(Folders::platform(state, config, None).runtime, state.join("run"));
        let runtime = Path::new("/run/user/1000/p2pd");
        assert_eq!(Folders::platform(state, config, Some(runtime)).runtime, runtime);
    }

    #[test]
    fn a_socket_path_that_no_system_takes_is_refused() {
        let home = |bytes| format!("/{}", "x".repeat(bytes - 1 - "/run/control.sock".len()));
        let socket = |bytes| Folders::under_home(Path::new(&home(bytes))).control_socket();
        assert_eq!(socket(SOCKET_PATH_BYTES_MAX).expect("just fits").as_os_str().len(), SOCKET_PATH_BYTES_MAX);
        assert!(matches!(socket(SOCKET_PATH_BYTES_MAX + 1), Err(PathsError::SocketTooLong(_))));
    }
}
