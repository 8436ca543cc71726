//! Putting the daemon together: folders, lock, identity, store, endpoint, shells, engine; then the driver.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use p2p_host::log::Log;
use p2p_host::monitor::Monitor;
use p2p_host::reload::Reloads;
use p2p_proto::identity::Identity;
use p2p_proto::paths::Folders;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::service;
use p2p_proto::version::SOFTWARE;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::clock::Clock;
use crate::config::{Arguments, Config, Program, Rate};
use crate::control::{self, Control};
use crate::driver::{self, INPUTS_MAX, MANIFESTS_SERVED_KIB_MAX, Shells};
use crate::endpoint::Endpoint;
use crate::engine::{self, Engine, Input, Limits};
use crate::figures::{self, Counters, QUESTIONS_MAX, Watch};
use crate::hooks::Hooks;
use crate::net::Net;
use crate::piece_buffer::{LARGE_POOL_BYTES, POOL_BYTES, PiecePool, STREAM_POOL_BYTES};
use crate::store::{Store, StoreEvent, spool};
use crate::tracker_link::TrackerLink;
use crate::watch;

/// How long work that waits for the disk may go on when all else has ended; it is safe to cut at any moment.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);

/// How long peers have for hearing that their connections are closed.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);

/// How often some of the shared files are looked at: often enough that one that is gone is not offered for hours, rarely
/// enough that an idle daemon stays idle.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// How many are looked at each time: a few milliseconds' work, and ten thousand shares in five minutes.
const LOOK_SOURCES: usize = 1000;

/// Threads that run the daemon's tasks. Two measure no faster than one for a single transfer, but keep commands
/// answered while a piece is hashed.
const WORKER_THREADS: usize = 2;

/// Runs the daemon until it is told to end.
///
/// # Errors
/// Why it cannot start or go on, as it is told to a person: message, hint, exit code.
pub fn run(arguments: Arguments, folders: Folders, config: Config, log: Log) -> Result<(), Reject> {
    folders.make_state()?;
    let _lock = lock(&folders.state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Reject::new(ErrorCode::INTERNAL, format!("cannot start threads: {error}")))?;
    let streams = folders.streams();
    let ended = runtime.block_on(serve(arguments, folders, config, log));
    runtime.shutdown_timeout(SHUTDOWN_DEADLINE);
    if let Err(error) = spool::empty(&streams) {
        tracing::warn!(%error, "what was streamed stays until the next start");
    }
    ended
}

/// Starts every part, says that it is ready, and drives the engine.
async fn serve(arguments: Arguments, folders: Folders, config: Config, log: Log) -> Result<(), Reject> {
    let local = |error: &dyn std::fmt::Display| Reject::new(ErrorCode::DISK_ERROR, error.to_string());
    let socket = folders.control_socket().map_err(|error| Reject::new(ErrorCode::USAGE, error.to_string()))?;
    let identity = Arc::new(Identity::load_or_create(&folders.state).map_err(|error| local(&error))?);
    let (inputs, received) = mpsc::channel(INPUTS_MAX);

    spool::empty(&folders.streams())?;
    let (store_events, told) = mpsc::unbounded_channel();
    let (store, mut restored) = Store::open(&folders.state, store_events).map_err(|error| local(&error))?;
    let waiting = restored.publications.iter().map(|publication| &publication.share);
    spool::sweep(&folders.uploads(), restored.shares.iter().chain(waiting).map(|share| share.path.as_path()));
    tokio::spawn(tell_store_events(told, inputs.clone()));
    let endpoint = Endpoint::bind(Arc::clone(&identity), config.listen).map_err(|error| {
        Reject::new(ErrorCode::INTERNAL, error.to_string()).hint("another address or port: --listen ADDR:PORT")
    })?;
    // What the settings say holds at a start, whatever `limit` has kept.
    restored.limits.up_limit = config.up_limit.map_or(restored.limits.up_limit, |Rate(rate)| rate);
    restored.limits.down_limit = config.down_limit.map_or(restored.limits.down_limit, |Rate(rate)| rate);
    let active_downloads_max = config.active_downloads.0;
    let clock = Clock::start();
    let engine = Engine::new(
        engine::Config {
            node: identity.node_id(),
            software: SOFTWARE.to_owned(),
            trackers: config.trackers.iter().map(ToString::to_string).collect(),
            seed: fastrand::u64(..),
            process_id: std::process::id(),
            streams_folder: folders.streams(),
            uploads_folder: folders.uploads(),
            limits: Limits { fetch_bytes_max: POOL_BYTES as u64, active_downloads_max, ..Limits::default() },
        },
        restored,
        clock.now(),
    );
    let figures = figures::begin(clock.now().wall);
    let counters = Counters::new(&figures);
    let home = arguments.home.as_deref().and_then(|home| std::path::absolute(home).ok());
    let hooks = Hooks::start(home.as_deref(), &figures);
    hooks.set_on_complete(config.on_complete.clone().map(|Program(path)| path));
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    if let Some(address) = config.metrics {
        let watch = Arc::new(Watch::new(figures, questions));
        tokio::spawn(Monitor::listen(address).await?.serve(watch));
    }
    let activated = control::activated_socket();
    let is_own_socket = activated.is_none();
    let shells = Shells {
        control: Control::listen(&socket, activated, inputs.clone()).await?,
        tracker_link: TrackerLink::start(endpoint.clone(), config.trackers.clone(), &folders.state, inputs.clone()),
        net: Net::start(endpoint.clone(), inputs.clone()),
        store,
        hooks: hooks.clone(),
        fetch_pool: PiecePool::new(POOL_BYTES),
        serve_pool: PiecePool::new(POOL_BYTES),
        serve_large_pool: PiecePool::new(LARGE_POOL_BYTES),
        stream_pool: PiecePool::new(STREAM_POOL_BYTES),
        manifest_room_kib: Arc::new(Semaphore::new(MANIFESTS_SERVED_KIB_MAX as usize)),
        inputs: inputs.clone(),
    };
    tokio::spawn(look_at_sources(shells.store.clone()));
    for (number, watch) in config.watch.iter().cloned().enumerate() {
        let (control, commands, problems) = (shells.control.clone(), inputs.clone(), inputs.clone());
        let ask = move |request| {
            let (control, commands) = (control.clone(), commands.clone());
            async move { control.ask(&commands, request).await }
        };
        let tell = move |problem| {
            let problems = problems.clone();
            async move { drop(problems.send(Input::Watched(number, problem)).await) }
        };
        tokio::spawn(watch::run(watch, ask, tell));
    }
    // Before the ready line, so that nobody can signal a process that would not hear.
    match Reloads::begin() {
        Ok(reloads) => drop(tokio::spawn(reload(reloads, arguments, folders, config, log, hooks, inputs.clone()))),
        Err(error) => tracing::warn!(%error, "SIGHUP cannot be heard; it ends the daemon"),
    }
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => drop(tokio::spawn(tell_signals(terminate, interrupt, inputs))),
        _ => tracing::warn!("signals cannot be caught; the daemon ends at once when it gets one"),
    }
    say_ready(&socket, &endpoint)?;
    let ended = driver::run(engine, received, shells, clock, counters, asked).await;
    endpoint.close();
    let _ = tokio::time::timeout(GOODBYE_DEADLINE, endpoint.wait_idle()).await;
    // The lock is held until here, so what lies there is this daemon's, or the service manager's, who listens on.
    if is_own_socket {
        let _ = std::fs::remove_file(&socket);
    }
    tracing::info!("stopped");
    ended
}

/// The line that says: commands are answered from now on. Read by `p2pctl` when it starts the daemon, and by tests.
fn say_ready(socket: &Path, endpoint: &Endpoint) -> Result<(), Reject> {
    let mut stdout = std::io::stdout().lock();
    // Whoever started the daemon may have closed its end already: the daemon runs all the same.
    let _ = writeln!(stdout, "p2pd ready {} {} id {}", socket.display(), endpoint.local_address(), endpoint.node_id());
    let _ = stdout.flush();
    if let Err(error) = service::ready() {
        tracing::warn!(%error, "the service manager cannot be told that the daemon is ready");
    }
    tracing::info!(socket = %socket.display(), address = %endpoint.local_address(), node = %endpoint.node_id(), "ready");
    Ok(())
}

/// Takes the store's events to the engine.
async fn tell_store_events(mut events: mpsc::UnboundedReceiver<StoreEvent>, inputs: mpsc::Sender<Input>) {
    while let Some(event) = events.recv().await {
        let input = match event {
            StoreEvent::PiecesDurable(download, pieces) => Input::PiecesDurable(download, pieces),
            StoreEvent::SyncFailed(download, reject) => Input::SyncFailed(download, reject),
            StoreEvent::SourceChanged(content, path, reject) => Input::SourceChanged(content, path, reject),
            StoreEvent::SourceBack(content, path) => Input::SourceBack(content, path),
            StoreEvent::JournalLost(reject) => Input::JournalLost(reject),
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

/// Looks at the shared files again and again, some at a time.
async fn look_at_sources(store: Store) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        store.look_at_sources(LOOK_SOURCES).await;
    }
}

/// Reads the settings again at each SIGHUP, and has those hold that can.
async fn reload(
    mut reloads: Reloads,
    arguments: Arguments,
    folders: Folders,
    mut config: Config,
    log: Log,
    hooks: Hooks,
    inputs: mpsc::Sender<Input>,
) {
    loop {
        let before = config.clone();
        let changes = config.take_over(reloads.next(|| Config::read(&arguments, &folders)).await);
        if config.log != before.log {
            log.set_filter(&config.log);
        }
        hooks.set_on_complete(config.on_complete.clone().map(|Program(path)| path));
        // A limit that the settings have not changed is left to `p2pctl limit`.
        let changed = |now: Option<Rate>, before| now.filter(|_| now != before).map(|Rate(rate)| rate);
        let tuned = Input::Tuned {
            up_limit: changed(config.up_limit, before.up_limit),
            down_limit: changed(config.down_limit, before.down_limit),
            active_downloads_max: config.active_downloads.0,
        };
        if inputs.send(tuned).await.is_err() {
            return;
        }
        reloads.done(&changes);
    }
}

/// Takes the first SIGTERM or SIGINT to the engine, which ends the daemon cleanly.
async fn tell_signals(mut terminate: Signal, mut interrupt: Signal, inputs: mpsc::Sender<Input>) {
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
    let _ = inputs.send(Input::Terminate).await;
}

/// Takes the folder's lock: whoever holds it is its one daemon. Given back by the system when the process ends.
fn lock(folder: &Path) -> Result<File, Reject> {
    let path = folder.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(|error| {
            Reject::new(ErrorCode::NOT_WRITABLE, format!("cannot open {}: {error}", path.display()))
        })?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Reject::new(ErrorCode::WRONG_STATE, format!("another p2pd runs on {}", folder.display()))
            .hint("`p2pctl status` asks it how it is; `--home DIR` is for a second one")),
    }
}
