//! What the daemon is told at its start: flags, environment, and the tracker file in its config folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use p2p_proto::paths::Folders;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker_info::{TrackerAddress, parse_tracker_info, tracker_info_text};

/// File in the config folder that names the trackers, unless flags do.
pub const TRACKER_INFO_FILE: &str = "tracker_info.txt";

/// Where a tracker is looked for when nobody says: where `tracker` listens when nobody says.
pub const TRACKER_DEFAULT: &str = "127.0.0.1:9000";

/// Shares and downloads files with the members of groups.
#[derive(Debug, Parser)]
#[command(name = "p2pd", version, about, after_help = EXAMPLES)]
pub struct Arguments {
    /// Folder that holds this whole daemon: state, config and socket; without it, the platform's folders
    #[arg(long, env = "P2P_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,

    /// A tracker, several times for several; the id pins its key
    #[arg(long = "tracker", env = "P2P_TRACKER", value_name = "HOST:PORT[#ID]", value_delimiter = ',')]
    pub trackers: Vec<TrackerAddress>,

    /// File that names the trackers, one `IP PORT [ID]` a line; default: tracker_info.txt in the config folder
    #[arg(long, value_name = "FILE", conflicts_with = "trackers")]
    pub tracker_info: Option<PathBuf>,

    /// Address and UDP port for everything; port 0 takes any
    #[arg(long, env = "P2P_LISTEN", value_name = "ADDR:PORT", default_value = "[::]:0")]
    pub listen: SocketAddr,

    /// Print the manual page and end
    #[arg(long)]
    pub man: bool,
}

/// Shown behind the options.
const EXAMPLES: &str = "Examples:
  p2pd                                     one daemon for this user, tracker at 127.0.0.1:9000
  p2pd --tracker tracker.example.org:9000  another tracker
  p2pd --home ~/second --listen 0.0.0.0:4433";

impl Arguments {
    /// The trackers to connect to, in order: from flags or environment, else from the file, else the default.
    pub fn tracker_list(&self, folders: &Folders) -> Result<Vec<TrackerAddress>, Reject> {
        if !self.trackers.is_empty() {
            return Ok(self.trackers.clone());
        }
        if let Some(path) = &self.tracker_info {
            return read_tracker_info(path)?
                .ok_or_else(|| Reject::new(ErrorCode::FILE_MISSING, format!("there is no file {}", path.display())));
        }
        match read_tracker_info(&folders.config.join(TRACKER_INFO_FILE))? {
            Some(trackers) => Ok(trackers),
            None => Ok(vec![TRACKER_DEFAULT.parse().expect("the default is an address and a port")]),
        }
    }
}

/// The trackers that a file names; `None` where there is no file.
fn read_tracker_info(path: &Path) -> Result<Option<Vec<TrackerAddress>>, Reject> {
    match tracker_info_text(path) {
        Ok(text) => parse_tracker_info(&text)
            .map(Some)
            .map_err(|error| Reject::new(ErrorCode::USAGE, format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Reject::new(ErrorCode::FILE_UNREADABLE, format!("cannot read {}: {error}", path.display()))),
    }
}
