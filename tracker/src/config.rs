//! What the tracker is told when it starts: where to listen, where to keep its state.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use p2p_proto::id::NodeId;
use p2p_proto::limit::GRANT_LIFE_SECONDS;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker_info::{TrackerAddress, parse_tracker_info, tracker_info_text};

use crate::log::{Listed, TrackerId};

/// Where a tracker listens that is told nothing.
const DEFAULT_PLACE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// Shortest life of a grant, in seconds: it is renewed at half of it, and a renewal that failed is tried again after five.
const GRANT_LIFE_SECONDS_MIN: u64 = 10;

/// Tracker of a private file sharing group: knows users, groups, listings and who is online, never a file or a password.
#[derive(Debug, Parser)]
#[command(name = "tracker", version)]
struct Arguments {
    /// Folder of the whole state, in its subfolder `tracker` [default: the platform's folder for state]
    #[arg(long, env = "P2P_HOME", value_name = "DIR", global = true)]
    home: Option<PathBuf>,

    /// What to do instead of serving.
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Where to listen: an address and port, a port of this machine alone, or a file with a line `IP PORT [TRACKER-ID]`
    /// [default: 127.0.0.1:9000]
    #[arg(value_name = "ADDR:PORT | PORT | tracker_info.txt")]
    place: Option<String>,

    /// Which line of tracker_info.txt this tracker is, from 1 [default: 1]
    #[arg(value_name = "ID")]
    id: Option<TrackerId>,

    /// How long a grant to read a group lives, from 10 to 600: who loses access is cut off at once by everybody online,
    /// and, while no tracker answers, after this time at the latest
    #[arg(long, value_name = "SECONDS", default_value_t = GRANT_LIFE_SECONDS,
        value_parser = clap::value_parser!(u64).range(GRANT_LIFE_SECONDS_MIN..=GRANT_LIFE_SECONDS))]
    grant_life: u64,

    /// Print the manual page and end
    #[arg(long)]
    man: bool,
}

/// What can be asked of a tracker that runs.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Shows what the tracker of this folder is doing: who leads, how far it is, what its state comes to
    ///
    /// Example: tracker status --home /srv/p2p --json
    Status {
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },

    /// Shows who has what online, one line each
    ///
    /// Example: tracker seeders --home /srv/p2p --json
    Seeders {
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },

    /// Copies all that the tracker of this folder keeps into one new file, while it runs
    ///
    /// The copy holds its keys and password records: whoever has it can pass for the tracker.
    ///
    /// Example: tracker backup --home /srv/p2p /backup/tracker-2026-11-21
    Backup {
        /// The file to write; it must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },

    /// Puts a copy back into a state folder that is empty
    ///
    /// For when a tracker, or every tracker of its cluster, is lost: it starts as one that is alone, and grows again with new
    /// ones. What was changed since the copy is gone, also what was taken away from somebody.
    ///
    /// Example: tracker restore --home /srv/p2p /backup/tracker-2026-11-21
    Restore {
        /// What `tracker backup` has written
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// What the program is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Serve.
    Serve(Config),
    /// Show the status of the tracker that runs on a folder.
    Status {
        /// Its state folder.
        folder: PathBuf,
        /// As JSON.
        json: bool,
    },
    /// Show who has what online at the tracker that runs on a folder.
    Seeders {
        /// Its state folder.
        folder: PathBuf,
        /// As JSON.
        json: bool,
    },
    /// Copy the tracker that runs on a folder.
    Backup {
        /// Its state folder.
        folder: PathBuf,
        /// Where to.
        file: PathBuf,
    },
    /// Put a copy back.
    Restore {
        /// Into this state folder.
        folder: PathBuf,
        /// What copy.
        file: PathBuf,
    },
}

/// The checked form of all that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// Which key this tracker must have, where the file says so.
    pub pin: Option<NodeId>,
    /// With whom it makes a cluster.
    pub cluster: Cluster,
    /// The home that was given, in which the state lies.
    pub home: Option<PathBuf>,
    /// Where the state is.
    pub folder: PathBuf,
    /// How long a grant lives.
    pub grant_life: Duration,
}

/// The trackers of a `tracker_info.txt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Which of them this one is; `None` where there is no file.
    pub asked: Option<TrackerId>,
    /// All of them by their place in the file, from 1.
    pub listed: BTreeMap<TrackerId, Listed>,
}

/// Why the arguments are not usable.
#[derive(Debug)]
pub enum ConfigError {
    /// Not the right words; also how `--help` and `--version` end.
    Usage(clap::Error),
    /// Nothing to do but to print the manual page.
    ManualPage(Box<clap::Command>),
    /// The right words, but nothing that can be done.
    Refused(Reject),
}

impl From<Reject> for ConfigError {
    fn from(reject: Reject) -> ConfigError {
        ConfigError::Refused(reject)
    }
}

impl Config {
    /// Reads the command line and what it names.
    ///
    /// # Errors
    /// Every [`ConfigError`].
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Task, ConfigError> {
        let arguments = Arguments::try_parse_from(arguments).map_err(ConfigError::Usage)?;
        if arguments.man {
            return Err(ConfigError::ManualPage(Box::new(Arguments::command())));
        }
        if let Some(verb) = arguments.verb {
            let folder = state_folder(arguments.home.as_deref())?;
            return Ok(match verb {
                Verb::Status { json } => Task::Status { folder, json },
                Verb::Seeders { json } => Task::Seeders { folder, json },
                Verb::Backup { file } => Task::Backup { folder, file },
                Verb::Restore { file } => Task::Restore { folder, file },
            });
        }
        let (listen, pin, cluster) = match arguments.place.as_deref() {
            None => (DEFAULT_PLACE, None, Cluster::default()),
            Some(place) => match address(place) {
                Some(_) if arguments.id.is_some() => {
                    return Err(
                        usage(format!("an ID goes with a tracker_info.txt, not with the address `{place}`")).into()
                    );
                }
                Some(address) => (address, None, Cluster::default()),
                None => from_file(Path::new(place), arguments.id.unwrap_or(1))?,
            },
        };
        let grant_life = Duration::from_secs(arguments.grant_life);
        let folder = state_folder(arguments.home.as_deref())?;
        Ok(Task::Serve(Config { listen, pin, cluster, home: arguments.home, folder, grant_life }))
    }
}

/// `ADDR:PORT`, or `PORT` of this machine.
fn address(place: &str) -> Option<SocketAddr> {
    let port = || place.parse().ok().map(|port| SocketAddr::new(DEFAULT_PLACE.ip(), port));
    place.parse().ok().or_else(port)
}

/// The line of a `tracker_info.txt` that this tracker is, and all the others.
fn from_file(path: &Path, id: TrackerId) -> Result<(SocketAddr, Option<NodeId>, Cluster), Reject> {
    let shown = path.display();
    let text = tracker_info_text(path).map_err(|error| {
        Reject::new(ErrorCode::USAGE, format!("`{shown}` is neither ADDR:PORT, nor a port, nor a file: {error}"))
            .hint("an example: tracker 192.0.2.10:9000")
    })?;
    let trackers = parse_tracker_info(&text).map_err(|error| usage(format!("`{shown}`: {error}")))?;
    let mut listed = BTreeMap::new();
    for (id, TrackerAddress { host_port, pin }) in (1..).zip(trackers) {
        let Ok(address) = host_port.parse() else {
            let message = format!("`{shown}`: `{host_port}` has a host name where a tracker needs its IP address");
            return Err(usage(message));
        };
        listed.insert(id, Listed { address, pin });
    }
    let Some(&Listed { address, pin }) = listed.get(&id) else {
        return Err(usage(format!("`{shown}` has no tracker {id}")).hint("the ID counts its trackers, from 1"));
    };
    Ok((address, pin, Cluster { asked: Some(id), listed }))
}

/// The tracker's own folder: apart from a daemon's, which may share the home.
fn state_folder(home: Option<&Path>) -> Result<PathBuf, Reject> {
    match home {
        Some(home) => match std::path::absolute(home) {
            Ok(home) => Ok(home.join("tracker")),
            Err(error) => Err(usage(format!("the folder `{}` is not usable: {error}", home.display()))),
        },
        None => {
            let project = directories::ProjectDirs::from("", "", "p2p-tracker");
            let project =
                project.ok_or_else(|| usage("this user has no home folder".to_owned()).hint("use --home DIR"))?;
            Ok(project.state_dir().unwrap_or(project.data_local_dir()).to_owned())
        }
    }
}

fn usage(message: String) -> Reject {
    Reject::new(ErrorCode::USAGE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, String> {
        let home = ["tracker", "--home", "/srv/t"].into_iter();
        match Config::read(home.chain(arguments.iter().copied()).map(OsString::from)) {
            Ok(Task::Serve(config)) => Ok(config),
            Ok(other) => Err(format!("{other:?}")),
            Err(ConfigError::Refused(reject)) => Err(reject.message),
            Err(ConfigError::Usage(error)) => Err(error.to_string()),
            Err(ConfigError::ManualPage(_)) => Err("the manual page".to_owned()),
        }
    }

    fn listens(arguments: &[&str]) -> String {
        read(arguments).expect("usable").listen.to_string()
    }

    #[test]
    fn a_place_is_an_address_a_port_or_nothing() {
        assert_eq!(listens(&[]), "127.0.0.1:9000");
        assert_eq!(listens(&["0"]), "127.0.0.1:0");
        assert_eq!(listens(&["9001"]), "127.0.0.1:9001");
        assert_eq!(listens(&["0.0.0.0:9002"]), "0.0.0.0:9002");
        assert_eq!(listens(&["[::1]:9003"]), "[::1]:9003");
        assert_eq!(read(&[]).expect("usable").folder, Path::new("/srv/t/tracker"));
    }

    #[test]
    fn the_status_is_of_the_same_folder() {
        for arguments in [["status", "--json", "--home", "/srv/t"], ["--home", "/srv/t", "status", "--json"]] {
            let words = ["tracker"].into_iter().chain(arguments).map(OsString::from);
            let task = Config::read(words).expect("usable");
            assert_eq!(task, Task::Status { folder: "/srv/t/tracker".into(), json: true });
        }
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        for bad in
            [&["70000"][..], &["localhost:9000"], &["9000", "1"], &["/nonexistent/tracker_info.txt"], &["a", "b", "c"]]
        {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_grant_lives_for_ten_minutes_or_as_much_less_as_is_asked_for() {
        let life = |arguments: &[&str]| read(arguments).map(|config| config.grant_life.as_secs());
        assert_eq!((life(&[]), life(&["--grant-life", "10"])), (Ok(600), Ok(10)));
        assert!(life(&["--grant-life", "9"]).is_err() && life(&["--grant-life", "601"]).is_err());
    }

    #[test]
    fn a_file_of_one_tracker_says_where_to_listen() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tracker_info.txt");
        let path = path.to_str().expect("ASCII");
        let id = "5d".repeat(32);
        std::fs::write(path, format!("# ours\n127.0.0.1 9100 {id}\n")).expect("writes");
        let config = read(&[path, "1"]).expect("usable");
        assert_eq!((config.listen.port(), config.pin.map(|pin| pin.to_string())), (9100, Some(id)));
        assert_eq!(read(&[path]), Ok(config));
        assert!(read(&[path, "2"]).expect_err("one line").contains("no tracker 2"));
        assert!(read(&[path, "0"]).is_err());
        std::fs::write(path, "127.0.0.1 9100\n127.0.0.1 9101\n").expect("writes");
        let config = read(&[path, "2"]).expect("usable");
        assert_eq!((config.listen.port(), config.cluster.asked, config.cluster.listed.len()), (9101, Some(2), 2));
        std::fs::write(path, "t.example 9100\n").expect("writes");
        assert!(read(&[path]).expect_err("a host name").contains("host name"));
    }
}
