//! What the tracker is told: flags over environment over the settings file over defaults, checked into one [`Config`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use p2p_host::log::{LogFilter, LogFormat};
use p2p_host::monitor::LocalAddress;
use p2p_host::reload::Changes;
use p2p_host::settings::{self, text};
use p2p_proto::id::NodeId;
use p2p_proto::limit::{GRANT_LIFE_SECONDS, GRANTS_WITHOUT_MAJORITY_SECONDS};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker_info::{TrackerAddress, parse_tracker_info, tracker_info_text};
use serde::Deserialize;

use crate::log::{Listed, TrackerId};

/// File of settings in the config folder.
const SETTINGS_FILE: &str = "tracker.toml";

/// Where a service manager says that a service's settings are (systemd.exec(5)).
const MANAGERS_FOLDER: &str = "CONFIGURATION_DIRECTORY";

/// Where a tracker listens that is told nothing.
const DEFAULT_PLACE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// Shortest life of a grant, in seconds: it is renewed at half of it, and a renewal that failed is tried again after five.
const GRANT_LIFE_SECONDS_MIN: u64 = 10;

/// Tracker of a private file sharing group: knows users, groups, listings and who is online, never a file or a password.
#[derive(Debug, Clone, Parser)]
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
    #[arg(env = "P2P_TRACKER_LISTEN", value_name = "ADDR:PORT | PORT | tracker_info.txt")]
    place: Option<String>,

    /// Which line of tracker_info.txt this tracker is, from 1 [default: 1]
    #[arg(value_name = "ID")]
    id: Option<TrackerId>,

    /// File of settings; flags and environment are over it [default: tracker.toml in the folder `config` of the home, or in
    /// the platform's folder for settings]
    #[arg(long, env = "P2P_TRACKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Say whether the settings are right, with file and line where they are not, and end
    #[arg(long)]
    check_config: bool,

    #[command(flatten)]
    settings: Settings,

    /// Print the manual page and end
    #[arg(long)]
    man: bool,
}

/// The settings: each field is a key of the file. Units, defaults and ranges: `systemd/tracker.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default)]
struct Settings {
    /// Where to listen.
    #[arg(skip)]
    listen: Option<SocketAddr>,

    /// The file of all trackers of the cluster, this one among them.
    #[arg(skip)]
    tracker_info: Option<PathBuf>,

    /// Which line of it this one is.
    #[arg(skip)]
    id: Option<TrackerId>,

    /// How long a grant to read a group lives, from 10 to 600 [default: 600]: who loses access is cut off at once by
    /// everybody online, and, while no tracker answers, after this time at the latest
    #[arg(long, env = "P2P_TRACKER_GRANT_LIFE", value_name = "SECONDS")]
    #[serde(deserialize_with = "text")]
    grant_life: Option<Seconds<GRANT_LIFE_SECONDS_MIN, GRANT_LIFE_SECONDS>>,

    /// For how many seconds of having lost its majority this tracker of a cluster goes on granting what it knew last, 0 to
    /// 3600: as long somebody who is removed elsewhere meanwhile can get grants [default: 3600]
    #[arg(long, env = "P2P_TRACKER_GRANTS_WITHOUT_MAJORITY", value_name = "SECONDS")]
    #[serde(deserialize_with = "text")]
    grants_without_majority: Option<Seconds<0, GRANTS_WITHOUT_MAJORITY_SECONDS>>,

    /// Of two trackers: take the other one for crashed when it is silent for 15 seconds, true or false, and take over from it. If
    /// it was only cut off, both take changes until they meet again [default: false]
    #[arg(
        long, env = "P2P_TRACKER_ASSUME_CRASH_ONLY", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true"
    )]
    assume_crash_only: Option<bool>,

    /// Which lines are logged, as warn, or warn,audit=info [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    #[serde(deserialize_with = "text")]
    log: Option<LogFilter>,

    /// How they look: text or json [default: text]
    #[arg(long, env = "P2P_TRACKER_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(deserialize_with = "text")]
    log_format: Option<LogFormat>,

    /// Address and TCP port of this machine for /metrics and /health; port 0 takes any [default: none]
    #[arg(long, env = "P2P_TRACKER_METRICS", value_name = "ADDR:PORT")]
    #[serde(deserialize_with = "text")]
    metrics: Option<LocalAddress>,
}

impl settings::Settings for Settings {
    const EXCLUSIVE: &'static [[&'static str; 2]] = &[["listen", "tracker_info"], ["listen", "id"]];
}

/// How it is granted to read groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantTerms {
    /// How long a grant lives, at most [`p2p_proto::limit::GRANT_LIFE_SECONDS`].
    pub life: Duration,
    /// How long after this tracker has lost sight of its majority it goes on granting, at most
    /// [`p2p_proto::limit::GRANTS_WITHOUT_MAJORITY_SECONDS`].
    pub without_majority: Duration,
}

/// Seconds from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seconds<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> FromStr for Seconds<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|seconds| (MIN..=MAX).contains(seconds));
        seconds.map(Seconds).ok_or_else(|| format!("`{text}` is no number of seconds from {MIN} to {MAX}"))
    }
}

impl<const MIN: u64, const MAX: u64> Seconds<MIN, MAX> {
    /// What a flag says, or else the file, or else the longest.
    fn or_longest(flag: Option<Self>, file: Option<Self>) -> Duration {
        Duration::from_secs(flag.or(file).map_or(MAX, |seconds| seconds.0))
    }
}

/// What can be asked of a tracker that runs.
#[derive(Debug, Clone, Subcommand)]
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

    /// Has the tracker of this folder take over from the other of two, which is lost or switched off
    ///
    /// It decides alone from then on, in a new epoch. The other one, when it is back, keeps what it alone had in files that it
    /// names in its log, and follows. Make sure that it does not run: what it takes while it is only cut off is not taken over.
    ///
    /// Example: tracker promote --home /srv/p2p
    Promote {
        /// Also where the other one answers: it gives way at once
        #[arg(long)]
        force: bool,
    },

    /// Has the tracker of this folder, which leads, take another one out of the cluster that is lost for good
    ///
    /// Its line stays in tracker_info.txt, since lines are counted; its number is not given again. To replace it, first add the
    /// line of a new one at the end of the list.
    ///
    /// Example: tracker remove --home /srv/p2p 2
    Remove {
        /// Its line in tracker_info.txt, from 1
        #[arg(value_name = "ID")]
        tracker: u8,

        /// Also where it answers, or where fewer than three votes are left
        #[arg(long)]
        force: bool,
    },
}

/// What the program is to do.
#[derive(Debug)]
pub enum Task {
    /// Serve.
    Serve(Source),
    /// Say whether the settings are right.
    Check(Source),
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
    /// Have the tracker that runs on a folder take over.
    Promote {
        /// Its state folder.
        folder: PathBuf,
        /// Also from one that answers.
        force: bool,
    },
    /// Have the tracker that runs on a folder take another one out of its cluster.
    Remove {
        /// Its state folder.
        folder: PathBuf,
        /// Which.
        tracker: u8,
        /// Also one that answers.
        force: bool,
    },
}

/// The command line, from which everything can be read again while the tracker runs.
#[derive(Debug)]
pub struct Source {
    arguments: Arguments,
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
    /// How it is granted to read groups.
    pub grant_terms: GrantTerms,
    /// Which lines are logged.
    pub log: LogFilter,
    /// How they look.
    pub log_format: LogFormat,
    /// Where it tells its figures.
    pub metrics: Option<LocalAddress>,
}

/// The trackers of a `tracker_info.txt`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Which of them this one is; `None` where there is no file.
    pub asked: Option<TrackerId>,
    /// All of them by their place in the file, from 1.
    pub listed: BTreeMap<TrackerId, Listed>,
    /// Whether the other of two is taken for crashed when it is silent.
    pub assume_crash_only: bool,
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

impl Task {
    /// Reads the command line.
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
                Verb::Promote { force } => Task::Promote { folder, force },
                Verb::Remove { tracker, force } => Task::Remove { folder, tracker, force },
            });
        }
        let check = arguments.check_config;
        let source = Source { arguments };
        Ok(if check { Task::Check(source) } else { Task::Serve(source) })
    }
}

impl Source {
    /// Reads the settings file and checks everything.
    ///
    /// # Errors
    /// What is wrong, with its file and line where it is in one.
    pub fn config(&self) -> Result<Config, Reject> {
        let Arguments { settings: flags, home, .. } = &self.arguments;
        let path = self.settings_file()?;
        let file: Settings = match settings::read(&path)? {
            Some(settings) => settings,
            None if self.arguments.config.is_some() => {
                return Err(Reject::new(ErrorCode::FILE_MISSING, format!("there is no file {}", path.display())));
            }
            None => Settings::default(),
        };
        let (listen, pin, mut cluster) = match self.arguments.place.as_deref() {
            Some(place) => self.place(place)?,
            None if self.arguments.id.is_some() => return Err(usage("an ID goes with a tracker_info.txt".to_owned())),
            None => match (&file.tracker_info, file.id) {
                // In a file, a path is from where the file is: the tracker may run anywhere.
                (Some(info), id) => from_file(&path.parent().unwrap_or(Path::new("/")).join(info), id.unwrap_or(1))?,
                (None, Some(_)) => {
                    return Err(usage(format!("{}: `id` goes with `tracker_info`", path.display())));
                }
                (None, None) => (file.listen.unwrap_or(DEFAULT_PLACE), None, Cluster::default()),
            },
        };
        let grant_terms = GrantTerms {
            life: Seconds::or_longest(flags.grant_life, file.grant_life),
            without_majority: Seconds::or_longest(flags.grants_without_majority, file.grants_without_majority),
        };
        cluster.assume_crash_only = flags.assume_crash_only.or(file.assume_crash_only).unwrap_or_default();
        Ok(Config {
            listen,
            pin,
            cluster,
            home: home.clone(),
            folder: state_folder(home.as_deref())?,
            grant_terms,
            log: flags.log.clone().or(file.log).unwrap_or_default(),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            metrics: flags.metrics.or(file.metrics),
        })
    }

    /// What a person is told whose settings are right.
    ///
    /// # Errors
    /// What is wrong, as [`Source::config`] has it.
    pub fn approve(&self) -> Result<String, Reject> {
        self.config()?;
        Ok(settings::approval(&self.settings_file()?))
    }

    /// Where to listen by the command line.
    fn place(&self, place: &str) -> Result<(SocketAddr, Option<NodeId>, Cluster), Reject> {
        match address(place) {
            Some(_) if self.arguments.id.is_some() => {
                Err(usage(format!("an ID goes with a tracker_info.txt, not with the address `{place}`")))
            }
            Some(address) => Ok((address, None, Cluster::default())),
            None => from_file(Path::new(place), self.arguments.id.unwrap_or(1)),
        }
    }

    /// Where the settings are, if there are any.
    fn settings_file(&self) -> Result<PathBuf, Reject> {
        let Arguments { config, home, .. } = &self.arguments;
        if let Some(config) = config {
            return Ok(config.clone());
        }
        // Of several folders the first is the nearest.
        let managers = std::env::var_os(MANAGERS_FOLDER);
        if let Some(folder) = managers.as_ref().and_then(|folders| std::env::split_paths(folders).next()) {
            return Ok(folder.join(SETTINGS_FILE));
        }
        match home {
            Some(home) => Ok(absolute(home)?.join("config").join(SETTINGS_FILE)),
            None => Ok(project()?.config_dir().join(SETTINGS_FILE)),
        }
    }
}

impl Config {
    /// Takes from `new` what can change while the tracker runs.
    pub fn take_over(&mut self, new: Config) -> Changes {
        let Config { listen, pin, cluster, home: _, folder, grant_terms, log, log_format, metrics } = new;
        let mut changes = Changes::default();
        let (own, new) = (&self.cluster, &cluster);
        let place = (self.listen, self.pin, own.asked, &own.listed);
        let new_place = (listen, pin, new.asked, &new.listed);
        changes.leave(if cluster.asked.is_some() { "tracker_info" } else { "listen" }, &place, &new_place);
        changes.leave("home", &self.folder, &folder);
        let GrantTerms { life, without_majority } = grant_terms;
        changes.make("grant_life", &mut self.grant_terms.life, life);
        changes.make("grants_without_majority", &mut self.grant_terms.without_majority, without_majority);
        changes.leave("assume_crash_only", &own.assume_crash_only, &new.assume_crash_only);
        changes.make("log", &mut self.log, log);
        changes.leave("log_format", &self.log_format, &log_format);
        changes.leave("metrics", &self.metrics, &metrics);
        changes
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
    Ok((address, pin, Cluster { asked: Some(id), listed, assume_crash_only: false }))
}

/// The tracker's own folder: apart from a daemon's, which may share the home.
fn state_folder(home: Option<&Path>) -> Result<PathBuf, Reject> {
    match home {
        Some(home) => Ok(absolute(home)?.join("tracker")),
        None => {
            let project = project()?;
            Ok(project.state_dir().unwrap_or(project.data_local_dir()).to_owned())
        }
    }
}

fn absolute(home: &Path) -> Result<PathBuf, Reject> {
    std::path::absolute(home).map_err(|error| usage(format!("the folder `{}` is not usable: {error}", home.display())))
}

/// The platform's folders.
fn project() -> Result<directories::ProjectDirs, Reject> {
    directories::ProjectDirs::from("", "", "p2p-tracker")
        .ok_or_else(|| usage("this user has no home folder".to_owned()).hint("use --home DIR"))
}

fn usage(message: String) -> Reject {
    Reject::new(ErrorCode::USAGE, message)
}

#[cfg(test)]
mod tests;
