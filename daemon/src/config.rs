//! What the daemon is told: flags over environment over the settings file over defaults, checked into one [`Config`].

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Parser;
use p2p_host::log::{LogFilter, LogFormat};
use p2p_host::monitor::LocalAddress;
use p2p_host::reload::Changes;
use p2p_host::settings::{self, text, texts};
use p2p_proto::control::{check_rate_limit, parse_rate};
use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_proto::paths::Folders;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker_info::{TrackerAddress, parse_tracker_info, tracker_info_text};
use serde::Deserialize;

use crate::engine::Limits;
use crate::piece_buffer::POOL_BYTES;
use crate::watch::Watch;

/// File of settings in the config folder.
pub const SETTINGS_FILE: &str = "p2pd.toml";

/// File in the config folder that names the trackers, unless something else does.
pub const TRACKER_INFO_FILE: &str = "tracker_info.txt";

/// Where a tracker is looked for when nobody says: where `tracker` listens when nobody says.
pub const TRACKER_DEFAULT: &str = "127.0.0.1:9000";

/// Where the daemon listens when nobody says: at every address, on any port that is free.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// The most downloads that may receive at once: with more, some would have no room to ask for a piece.
pub const ACTIVE_DOWNLOADS_MAX: usize = POOL_BYTES / PIECE_BYTES_MIN as usize;

/// Shares and downloads files with the members of groups.
#[derive(Debug, Clone, Parser)]
#[command(name = "p2pd", version, about, after_help = EXAMPLES)]
pub struct Arguments {
    /// Folder that holds this whole daemon: state, config and socket; without it, the platform's folders
    #[arg(long, env = "P2P_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,

    /// File of settings; flags and environment are over it [default: p2pd.toml in the config folder]
    #[arg(long, env = "P2P_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Say whether the settings are right, with file and line where they are not, and end
    #[arg(long)]
    pub check_config: bool,

    /// Print the manual page and end
    #[arg(long)]
    pub man: bool,

    /// What the settings file may say as well.
    #[command(flatten)]
    pub settings: Settings,
}

/// The settings: each field is a key of the file and, with dashes, a flag. Units, defaults and ranges: `systemd/p2pd.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// A tracker, several times for several; the id pins its key [default: 127.0.0.1:9000]
    #[arg(long = "tracker", env = "P2P_TRACKER", value_name = "HOST:PORT[#ID]", value_delimiter = ',')]
    #[serde(deserialize_with = "texts")]
    pub trackers: Option<Vec<TrackerAddress>>,

    /// File that names the trackers, one `IP PORT [ID]` a line [default: tracker_info.txt in the config folder]
    #[arg(long, value_name = "FILE", conflicts_with = "trackers")]
    pub tracker_info: Option<PathBuf>,

    /// Address and UDP port for everything; port 0 takes any [default: [::]:0]
    #[arg(long, env = "P2P_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,

    /// What goes out to all peers together, a second, as 500KB or 10MB; 0 is no limit [default: as `p2pctl limit` has set it]
    #[arg(long, env = "P2P_UP_LIMIT", value_name = "RATE")]
    #[serde(deserialize_with = "text")]
    pub up_limit: Option<Rate>,

    /// What comes in from all peers together, likewise
    #[arg(long, env = "P2P_DOWN_LIMIT", value_name = "RATE")]
    #[serde(deserialize_with = "text")]
    pub down_limit: Option<Rate>,

    /// Downloads that receive at once, from 1 to 24; the others wait for their turn [default: 8]
    #[arg(long, env = "P2P_ACTIVE_DOWNLOADS", value_name = "NUMBER")]
    #[serde(deserialize_with = "text")]
    pub active_downloads: Option<ActiveDownloads>,

    /// Which lines are logged, as warn, or info,p2pd::net=debug [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    #[serde(deserialize_with = "text")]
    pub log: Option<LogFilter>,

    /// How they look: text or json [default: text]
    #[arg(long, env = "P2P_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(deserialize_with = "text")]
    pub log_format: Option<LogFormat>,

    /// Address and TCP port of this machine for /metrics and /health; port 0 takes any [default: none]
    #[arg(long, env = "P2P_METRICS", value_name = "ADDR:PORT")]
    #[serde(deserialize_with = "text")]
    pub metrics: Option<LocalAddress>,

    /// Program that is run for each download that is complete, told by P2P_… in its environment which [default: none]
    #[arg(long, env = "P2P_ON_COMPLETE", value_name = "PROGRAM")]
    #[serde(deserialize_with = "text")]
    pub on_complete: Option<Program>,

    /// Folder whose files and folders are uploaded to a group as they appear, several times for several [default: none]
    #[arg(long, value_name = "GROUP:FOLDER")]
    #[serde(deserialize_with = "texts")]
    pub watch: Option<Vec<Watch>>,
}

/// Shown behind the options.
const EXAMPLES: &str = "Examples:
  p2pd                                     one daemon for this user, tracker at 127.0.0.1:9000
  p2pd --tracker tracker.example.org:9000  another tracker
  p2pd --home ~/second --listen 0.0.0.0:4433
  p2pd --check-config                      is ~/.config/p2pd/p2pd.toml right?";

/// Bytes per second, 0 for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let rate = parse_rate(text)?;
        check_rate_limit(rate).map_err(|reject| format!("{reject}; {}", reject.hint))?;
        Ok(Rate(rate))
    }
}

/// Downloads that receive at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveDownloads(pub usize);

impl FromStr for ActiveDownloads {
    type Err = String;

    fn from_str(text: &str) -> Result<ActiveDownloads, String> {
        let number = text.parse().ok().filter(|number| (1..=ACTIVE_DOWNLOADS_MAX).contains(number));
        number.map(ActiveDownloads).ok_or_else(|| format!("`{text}` is no number from 1 to {ACTIVE_DOWNLOADS_MAX}"))
    }
}

/// A program by its whole path: the daemon's folder and `PATH` are not those of whoever writes settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(pub PathBuf);

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Program, String> {
        let path = PathBuf::from(text);
        if !path.is_absolute() {
            return Err(format!("`{text}` is not the whole path of a program; it takes no arguments either"));
        }
        Ok(Program(path))
    }
}

impl settings::Settings for Settings {
    const EXCLUSIVE: &'static [[&'static str; 2]] = &[["trackers", "tracker_info"]];
}

impl Settings {
    /// These, and where they say nothing, those of a file.
    fn over(self, file: Settings) -> Settings {
        let names_trackers = self.trackers.is_some() || self.tracker_info.is_some();
        Settings {
            trackers: self.trackers.or(file.trackers.filter(|_| !names_trackers)),
            tracker_info: self.tracker_info.or(file.tracker_info.filter(|_| !names_trackers)),
            listen: self.listen.or(file.listen),
            up_limit: self.up_limit.or(file.up_limit),
            down_limit: self.down_limit.or(file.down_limit),
            active_downloads: self.active_downloads.or(file.active_downloads),
            log: self.log.or(file.log),
            log_format: self.log_format.or(file.log_format),
            metrics: self.metrics.or(file.metrics),
            on_complete: self.on_complete.or(file.on_complete),
            watch: self.watch.or(file.watch),
        }
    }

    /// The trackers to connect to, in order: those named, else those of the file in the config folder, else the default.
    fn tracker_list(&self, folders: &Folders) -> Result<Vec<TrackerAddress>, Reject> {
        if let Some(trackers) = self.trackers.as_ref().filter(|trackers| !trackers.is_empty()) {
            return Ok(trackers.clone());
        }
        if let Some(path) = &self.tracker_info {
            return read_tracker_info(path)?.ok_or_else(|| missing(path));
        }
        match read_tracker_info(&folders.config.join(TRACKER_INFO_FILE))? {
            Some(trackers) => Ok(trackers),
            None => Ok(vec![TRACKER_DEFAULT.parse().expect("the default is an address and a port")]),
        }
    }
}

/// What the daemon runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The trackers to connect to, in order.
    pub trackers: Vec<TrackerAddress>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Bytes per second going out; `None`: as `p2pctl limit` has set it.
    pub up_limit: Option<Rate>,
    /// Bytes per second coming in, likewise.
    pub down_limit: Option<Rate>,
    /// Downloads that receive at once.
    pub active_downloads: ActiveDownloads,
    /// Which lines are logged.
    pub log: LogFilter,
    /// How they look.
    pub log_format: LogFormat,
    /// Where it tells its figures.
    pub metrics: Option<LocalAddress>,
    /// What is run for each download that is complete.
    pub on_complete: Option<Program>,
    /// Folders whose files are uploaded as they appear.
    pub watch: Vec<Watch>,
}

impl Config {
    /// Reads the settings file and checks everything.
    ///
    /// # Errors
    /// What is wrong, with its file and line where it is in one.
    pub fn read(arguments: &Arguments, folders: &Folders) -> Result<Config, Reject> {
        let path = settings_file(arguments, folders);
        let mut file: Settings = match settings::read(&path)? {
            Some(settings) => settings,
            None if arguments.config.is_some() => return Err(missing(&path)),
            None => Settings::default(),
        };
        // In a file, a path is from where the file is: the daemon may run anywhere.
        file.tracker_info = file.tracker_info.map(|info| path.parent().unwrap_or(Path::new("/")).join(info));
        let settings = arguments.settings.clone().over(file);
        Ok(Config {
            trackers: settings.tracker_list(folders)?,
            listen: settings.listen.unwrap_or(LISTEN_DEFAULT),
            up_limit: settings.up_limit,
            down_limit: settings.down_limit,
            active_downloads: settings
                .active_downloads
                .unwrap_or(ActiveDownloads(Limits::default().active_downloads_max)),
            log: settings.log.unwrap_or_default(),
            log_format: settings.log_format.unwrap_or_default(),
            metrics: settings.metrics,
            on_complete: settings.on_complete,
            watch: settings.watch.unwrap_or_default(),
        })
    }

    /// Takes from `new` what can change while the daemon runs.
    pub fn take_over(&mut self, new: Config) -> Changes {
        let Config {
            trackers,
            listen,
            up_limit,
            down_limit,
            active_downloads,
            log,
            log_format,
            metrics,
            on_complete,
            watch,
        } = new;
        let mut changes = Changes::default();
        changes.leave("watch", &self.watch, &watch);
        changes.leave("trackers", &self.trackers, &trackers);
        changes.leave("listen", &self.listen, &listen);
        changes.make("up_limit", &mut self.up_limit, up_limit);
        changes.make("down_limit", &mut self.down_limit, down_limit);
        changes.make("active_downloads", &mut self.active_downloads, active_downloads);
        changes.make("log", &mut self.log, log);
        changes.leave("log_format", &self.log_format, &log_format);
        changes.leave("metrics", &self.metrics, &metrics);
        changes.make("on_complete", &mut self.on_complete, on_complete);
        changes
    }

    /// What a person is told whose settings are right.
    ///
    /// # Errors
    /// A program that is to be run, and cannot be. The daemon starts all the same: it may come with a disk that is not there yet.
    pub fn approve(&self, arguments: &Arguments, folders: &Folders) -> Result<String, Reject> {
        if let Some(Program(path)) = &self.on_complete {
            rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|error| {
                let message = format!("the program {} of on_complete cannot be run: {error}", path.display());
                Reject::new(ErrorCode::FILE_UNREADABLE, message)
            })?;
        }
        Ok(settings::approval(&settings_file(arguments, folders)))
    }
}

/// Where the settings are, if there are any.
fn settings_file(arguments: &Arguments, folders: &Folders) -> PathBuf {
    arguments.config.clone().unwrap_or_else(|| folders.config.join(SETTINGS_FILE))
}

fn missing(path: &Path) -> Reject {
    Reject::new(ErrorCode::FILE_MISSING, format!("there is no file {}", path.display()))
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

#[cfg(test)]
mod tests;
