//! The life of the process: folder, lock, identity, server, ready line, signals, end.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use p2p_host::log::Log;
use p2p_host::monitor::Monitor;
use p2p_host::reload::Reloads;
use p2p_proto::identity::{Identity, KEY_FILE};
use p2p_proto::private_folder;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::service;
use rustix::fs::{FlockOperation, Mode, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::admin;
use crate::config::{Config, Source};
use crate::log::{self, LogError, Store};
use crate::server::{Server, ServerError};
use crate::turn;

/// Held for as long as the process lives: who holds its lock owns the folder.
const LOCK_FILE: &str = "tracker.lock";

/// How the tracker ends where nothing has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// It is to begin again at once, as something else.
    Again,
}

/// Serves until SIGTERM or SIGINT, or until it has to begin again; reads `source` again at SIGHUP.
///
/// # Errors
/// Why the tracker cannot start or go on, as it is told to a person: message, hint, exit code.
pub async fn run(mut config: Config, source: &Source, log: &Log) -> Result<End, Reject> {
    // Nothing that is made here is for others to read.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let _lock = own(config.home.as_deref(), &config.folder)?;
    refuse_lost_log(&config.folder)?;
    let store = Store::open(&config.folder).map_err(log_refusal)?;
    let identity = Identity::load_or_create(&config.folder)
        .map_err(|error| Reject::new(ErrorCode::DISK_ERROR, error.to_string()))?;
    let node = identity.node_id();
    if let Some(pin) = config.pin.filter(|pin| *pin != node) {
        let message = format!("tracker_info.txt names the tracker {pin} here, and this one is {node}");
        return Err(Reject::new(ErrorCode::TRACKER_KEY_CHANGED, message)
            .hint("put back this tracker's identity.key, or correct the file and tell all who use it"));
    }
    turn::take(&store, &config.folder, &identity)?;
    // Before the ready line, so that nobody can signal a process that would not hear.
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let reloads = Reloads::begin();
    let server = Server::start(&identity, config.listen, &config.cluster, store, config.grant_terms);
    let server = server.await.map_err(server_refusal)?;
    let address = server.address().map_err(|error| Reject::new(ErrorCode::INTERNAL, error.to_string()))?;
    if let Some(address) = config.metrics {
        let watch = Arc::new(server.reporter().watch());
        tokio::spawn(Monitor::listen(address).await?.serve(watch));
    }
    let _admin = admin::listen(&config.folder, server.reporter());
    let folder = config.folder.clone();
    let serving = async {
        server.ready().await.map_err(server_refusal)?;
        info!(%address, %node, folder = %folder.display(), "tracker ready");
        // Whoever started the tracker may have stopped reading.
        let _ = writeln!(io::stdout(), "tracker ready {address} id {node}").and_then(|()| io::stdout().flush());
        if let Err(error) = service::ready() {
            warn!(%error, "the service manager cannot be told that the tracker is ready");
        }
        std::future::pending::<Result<Infallible, Reject>>().await
    };
    let [terminate, interrupt] = &mut signals;
    tokio::select! {
        Err(refusal) = serving => return Err(refusal),
        error = server.failed() => {
            return Err(Reject::new(ErrorCode::DISK_ERROR, error.to_string()).hint(error.hint()));
        }
        () = server.decided() => {
            server.abandon().await;
            return Ok(End::Again);
        }
        () = heard(terminate) => info!("stopping on SIGTERM"),
        () = heard(interrupt) => info!("stopping on SIGINT"),
        () = stay_alive(&server) => {}
        () = reload(reloads, source, &mut config, &server, log) => {}
    }
    let _ = service::stopping();
    server.stop().await;
    info!("tracker stopped");
    Ok(End::Stopped)
}

/// Tells the service manager again and again that the tracker lives, by way of the state that every request reads: if that
/// is never free, nothing is told. Never returns.
async fn stay_alive(server: &Server) {
    let mut alive = tokio::time::interval(service::alive_interval());
    loop {
        alive.tick().await;
        server.read_state();
        let _ = service::alive();
    }
}

/// Reads the settings again at each SIGHUP, and has those hold that can. Never returns.
async fn reload(reloads: io::Result<Reloads>, source: &Source, config: &mut Config, server: &Server, log: &Log) {
    let mut reloads = match reloads {
        Ok(reloads) => reloads,
        Err(error) => {
            warn!(%error, "SIGHUP cannot be heard; it ends the tracker");
            return std::future::pending().await;
        }
    };
    loop {
        let changes = config.take_over(reloads.next(|| source.config()).await);
        log.set_filter(&config.log);
        server.set_grant_terms(config.grant_terms);
        reloads.done(&changes);
    }
}

/// Waits for a signal; for ever where the system does not let it be heard.
async fn heard(signal: &mut io::Result<Signal>) {
    match signal {
        Ok(signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// Makes the folder, and the home that it lies in where one was given, for this user alone, and takes its lock.
fn own(home: Option<&Path>, folder: &Path) -> Result<File, Reject> {
    let refused = |what: &'static str| {
        move |error: io::Error| {
            Reject::new(
                ErrorCode::NOT_WRITABLE,
                format!("the state folder {} cannot be {what}: {error}", folder.display()),
            )
            .hint("choose another with --home DIR")
        }
    };
    home.into_iter().chain([folder]).try_for_each(private_folder::make)?;
    // It holds password records and keys, also where this user has made the folder by hand.
    private_folder::make_closed(folder)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK_FILE));
    let lock = lock.map_err(refused("locked"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match io::Error::from(error) {
        error if error.kind() == io::ErrorKind::WouldBlock => {
            let message = format!("another tracker runs on the state folder {}", folder.display());
            Reject::new(ErrorCode::WRONG_STATE, message).hint("stop that one first, or choose another with --home DIR")
        }
        error => refused("locked")(error),
    })?;
    Ok(lock)
}

/// Refuses a folder with a key and no log. The log is made first, so this one had a log, and whoever started without it would
/// have forgotten every user and group.
fn refuse_lost_log(folder: &Path) -> Result<(), Reject> {
    let log = fs::metadata(folder.join(log::FILE_NAME)).map_or(0, |file| file.len());
    if log > 0 || !folder.join(KEY_FILE).exists() {
        return Ok(());
    }
    let message = format!("the state folder {} has the tracker's key but its log is gone", folder.display());
    let hint = format!("put back {} from a backup, or move {KEY_FILE} away to begin a new tracker", log::FILE_NAME);
    Err(Reject::new(ErrorCode::INTEGRITY, message).hint(hint))
}

fn log_refusal(error: LogError) -> Reject {
    let code = match error {
        LogError::Open { .. } | LogError::Folder { .. } | LogError::Disk(_) | LogError::Died | LogError::Ended(_) => {
            ErrorCode::DISK_ERROR
        }
        LogError::Thread(_) => ErrorCode::INTERNAL,
        LogError::OtherTracker { .. } | LogError::Follows => ErrorCode::USAGE,
        LogError::Format(_) => ErrorCode::UNSUPPORTED,
        LogError::Damaged { .. }
        | LogError::Missing(_)
        | LogError::Unexpected(_)
        | LogError::Entry { .. }
        | LogError::Unreadable { .. }
        | LogError::OldSnapshot
        | LogError::Snapshot(_) => ErrorCode::INTEGRITY,
    };
    Reject::new(code, error.to_string()).hint(error.hint())
}

fn server_refusal(error: ServerError) -> Reject {
    match error {
        ServerError::Log(error) => log_refusal(error),
        ServerError::Setup(reject) => reject,
        ServerError::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
            Reject::new(ErrorCode::WRONG_STATE, format!("another program listens at {address}"))
                .hint("stop it, or give this tracker another port")
        }
        ServerError::Listen { .. } => Reject::new(ErrorCode::USAGE, error.to_string())
            .hint("give an address of this machine, or 0.0.0.0 for all of them"),
        ServerError::GrantKey(_) | ServerError::Password(_) => Reject::new(ErrorCode::INTEGRITY, error.to_string()),
        ServerError::Tls(_) | ServerError::Quic(_) => Reject::new(ErrorCode::INTERNAL, error.to_string()),
    }
}
