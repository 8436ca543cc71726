//! The driver: one loop that owns the engine, and reads as the list of everything that can happen and be done.

use std::sync::Arc;
use std::time::Duration;

use p2p_proto::geometry::PieceIndex;
use p2p_proto::id::{ContentId, DownloadId};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::service;
use tokio::sync::{Semaphore, mpsc};

use crate::clock::Clock;
use crate::control::Control;
use crate::engine::input::{AskId, CommandId, ConnectionId, FetchError, FetchId, UploadId};
use crate::engine::{Engine, Input, Output};
use crate::figures::{Counters, Question};
use crate::hooks::Hooks;
use crate::net::Net;
use crate::piece_buffer::{BUFFER_BYTES, PiecePool};
use crate::store::{Store, Verdict, spool};
use crate::tracker_link::TrackerLink;

/// Inputs that wait for the engine. When it is full the shells wait, and with them the network and the commands.
pub const INPUTS_MAX: usize = 4096;

/// Inputs handled before the outputs' tasks get a turn again.
const BATCH_MAX: usize = 64;

/// Manifests being sent at once, in KiB: two of the longest, or hundreds of the usual ones, so that slow readers of
/// small ones do not keep others from beginning.
pub const MANIFESTS_SERVED_KIB_MAX: u32 = 32 * 1024;

/// Shared files looked at when somebody asks how the daemon is: a fraction of a millisecond's work.
const LOOK_SOURCES: usize = 256;

/// How long that may hold up the answer.
const LOOK_DEADLINE: Duration = Duration::from_millis(50);

/// How long commands have for reading their results when the daemon ends.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// Everything that performs outputs. Clones share it.
#[derive(Clone)]
pub struct Shells {
    /// The control socket.
    pub control: Control,
    /// The trackers.
    pub tracker_link: TrackerLink,
    /// The peers.
    pub net: Net,
    /// The disk.
    pub store: Store,
    /// Programs of the user's own.
    pub hooks: Hooks,
    /// Buffers for pieces that come in.
    pub fetch_pool: PiecePool,
    /// Buffers for pieces that go out: others' slowness never keeps this daemon's own downloads waiting.
    pub serve_pool: PiecePool,
    /// Those for pieces larger than the usual ones, which never wait for them.
    pub serve_large_pool: PiecePool,
    /// Buffers for pieces that go to commands, which may take them slowly: one for each.
    pub stream_pool: PiecePool,
    /// Manifests are read whole: no more of them are in memory at once than this has room for, in KiB.
    pub manifest_room_kib: Arc<Semaphore>,
    /// Where the ends of what is spawned here are told.
    pub inputs: mpsc::Sender<Input>,
}

/// Runs the engine until it ends the daemon, and says how things stand to whoever asks.
///
/// # Errors
/// What forces the daemon to end.
pub async fn run(
    mut engine: Engine,
    mut inputs: mpsc::Receiver<Input>,
    shells: Shells,
    clock: Clock,
    counters: Counters,
    mut questions: mpsc::Receiver<Question>,
) -> Result<(), Reject> {
    let mut alive = tokio::time::interval(service::alive_interval());
    loop {
        while let Some(output) = engine.poll_output() {
            if let Output::Exit(reason) = output {
                let _ = service::stopping();
                shells.end().await;
                return reason;
            }
            shells.perform(output);
        }
        // Anew at each turn: the time that the machine slept counts, and these timers do not count it.
        let deadline = engine.next_deadline().map(|at| tokio::time::Instant::from_std(clock.look_again(at)));
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            input = inputs.recv() => {
                let input = input.expect("the shells that this loop owns hold senders");
                counters.count(&input);
                engine.handle(clock.now(), input);
                for _ in 1..BATCH_MAX {
                    let Ok(input) = inputs.try_recv() else { break };
                    counters.count(&input);
                    engine.handle(clock.now(), input);
                }
            }
            // Whoever asked may have stopped waiting. Nobody can ask where nothing listens.
            Some(question) = questions.recv() => drop(question.send(engine.status(None))),
            () = due => engine.tick(clock.now()),
            _ = alive.tick() => drop(service::alive()),
        }
    }
}

impl Shells {
    /// Performs one output. Never waits: what takes time goes on by itself and comes back as an input.
    fn perform(&self, output: Output) {
        match output {
            Output::Tell(command, frame) => self.control.tell(command, frame),
            Output::Completed(record) => self.hooks.completed(*record),
            Output::Note(note) => tracing::info!("{}", note.escape_debug()),
            Output::Exit(_) => (), // handled by the loop, which ends with it

            Output::AskTracker(ask, tracker, envelope) => self.tracker_link.ask(ask, tracker, envelope),
            Output::Register(ask, tracker, user, password) => self.tracker_link.register(ask, tracker, user, password),
            Output::Login(ask, tracker, user, password) => self.tracker_link.login(ask, tracker, user, password),
            Output::ChangePassword(ask, tracker, id, change) => {
                self.tracker_link.change_password(ask, tracker, id, change)
            }
            Output::WakeTrackers => self.tracker_link.wake(),

            Output::Dial(node, addresses) => self.net.dial(node, addresses),
            Output::Close(connection, code) => self.net.close(connection, code),
            Output::OpenInterest(interest, connection, shown) => self.net.open_interest(interest, connection, shown),
            Output::RenewInterest(interest, grant) => self.net.renew_interest(interest, grant),
            Output::CloseInterest(interest) => self.net.close_interest(interest),
            Output::Admitted(served, user) => self.net.admitted(served, user),
            Output::Provide(served, message) => self.net.provide(served, message),
            Output::RefuseUpload(upload, reject) => self.net.refuse(upload, reject),
            Output::StopUpload(upload, reject) => self.net.stop_upload(upload, reject),
            Output::LimitUploads(bytes_per_second) => self.net.limit_uploads(bytes_per_second),

            Output::ServePiece(upload, content, piece, bytes) => self.serve_piece(upload, content, piece, bytes),
            Output::ServeManifest(upload, content, bytes) => self.serve_manifest(upload, content, bytes),
            Output::FetchManifest(fetch, connection, content) => self.fetch_manifest(fetch, connection, content),
            Output::FetchPiece(fetch, connection, content, piece, bytes) => {
                self.fetch_piece(fetch, connection, content, piece, bytes);
            }
            Output::CancelFetch(fetch) => self.net.cancel_fetch(fetch),

            Output::StreamPiece(command, download, content, piece, bytes) => {
                self.stream_piece(command, download, (content, piece), bytes);
            }
            Output::CheckStream(download, content) => self.spawn(move |shells| async move {
                Input::StreamChecked(download, shells.store.check_whole(content).await)
            }),

            Output::Import { ask, path, hash, whole_digest, folders } => {
                let progress = self.import_progress(ask);
                self.spawn(move |shells| async move {
                    Input::Imported(ask, shells.store.import(path, hash, whole_digest, folders, progress).await)
                });
            }
            Output::DeleteUpload(path) => drop(tokio::task::spawn_blocking(move || spool::delete(&path))),
            Output::OpenPart(record) => {
                self.spawn(
                    move |shells| async move { Input::PartOpened(record.id, shells.store.open_part(record).await) },
                );
            }
            Output::FinishPart(record) => {
                self.spawn(move |shells| async move {
                    Input::PartFinished(record.id, shells.store.finish_part(record).await)
                });
            }
            Output::CopyLocal(record) => {
                // Begun here, not in the task: a close that follows must find it.
                let (id, copied) = (record.id, self.store.copy_local(record));
                self.spawn(move |_| async move { Input::PartFinished(id, copied.await) });
            }
            Output::VerifyPart(ask, record) => {
                let progress = self.import_progress(ask);
                self.spawn(move |shells| async move {
                    Input::PartVerified(ask, record.id, shells.store.verify_part(record, progress).await)
                });
            }
            Output::LookForRoom(record) => {
                self.spawn(move |shells| async move {
                    Input::RoomLookedFor(record.id, shells.store.has_room(record).await)
                });
            }
            Output::ClosePart(download) => {
                // Begun here, not in the task: an open that follows must find it closed.
                let closed = self.store.close_part(download);
                tokio::spawn(async move {
                    if let Err(reason) = closed.await {
                        tracing::warn!(%reason, "a part file was not synced when it was closed");
                    }
                });
            }
            Output::DiscardPart(record, delete_data) => self.spawn(move |shells| async move {
                Input::PartDiscarded(record.id, shells.store.discard_part(record, delete_data).await)
            }),
            Output::Remember(ask, changes) => {
                // Begun here, not in the task: the order of calls is the order on disk.
                let kept = self.store.remember(changes);
                self.spawn(move |_| async move { Input::Remembered(ask, kept.await) });
            }
            Output::DescribeContent(ask, content) => {
                self.spawn(move |shells| async move { Input::Described(ask, shells.store.describe(content).await) });
            }
            Output::ResolveDestination { ask, destination, name, length, force } => {
                self.spawn(move |shells| async move {
                    let resolved = shells.store.resolve_destination(destination, name, length, force).await;
                    Input::DestinationResolved(ask, resolved)
                });
            }
            Output::ReadMtorrent(ask, path) => {
                self.spawn(
                    move |shells| async move { Input::MtorrentRead(ask, shells.store.read_mtorrent(path).await) },
                );
            }
            Output::WriteMtorrent(ask, written) => self.spawn(move |shells| async move {
                Input::MtorrentWritten(ask, shells.store.write_mtorrent(written).await)
            }),
            Output::MeasureDisk(ask) => {
                self.spawn(move |shells| async move {
                    // Somebody wants to know how things are, but not at the price of waiting for a disk that hangs.
                    let looked = shells.store.look_at_sources(LOOK_SOURCES);
                    let _ = tokio::time::timeout(LOOK_DEADLINE, looked).await;
                    Input::DiskMeasured(ask, shells.store.disk_free_bytes())
                });
            }
        }
    }

    /// Payload out: a buffer, the store fills it, the connection sends it.
    fn serve_piece(&self, upload: UploadId, content: ContentId, piece: PieceIndex, bytes: u64) {
        self.spawn(move |shells| async move {
            let mut sent_bytes = 0;
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let pool = if bytes > BUFFER_BYTES { &shells.serve_large_pool } else { &shells.serve_pool };
            let mut buffer = pool.lease(bytes).await;
            // Looked for only now: a peer that gave up while this waited for a buffer costs no read.
            if let Some(taken) = shells.net.take_upload(upload) {
                match shells.store.read_piece(content, piece, buffer.as_vec_mut()).await {
                    Ok(()) => sent_bytes = taken.send_piece(buffer.into_bytes()).await.0,
                    // If the file is the reason, the store has told it.
                    Err(_) => taken.refuse(not_served()).await,
                }
            }
            Input::UploadEnded(upload, sent_bytes)
        });
    }

    fn serve_manifest(&self, upload: UploadId, content: ContentId, bytes: u64) {
        self.spawn(move |shells| async move {
            let mut sent_bytes = 0;
            let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(MANIFESTS_SERVED_KIB_MAX);
            let _room = shells.manifest_room_kib.acquire_many(kib).await;
            if let Some(taken) = shells.net.take_upload(upload) {
                match shells.store.manifest_bytes(content).await {
                    Ok(encoded) => sent_bytes = taken.send_manifest(encoded).await.0,
                    Err(_) => taken.refuse(not_served()).await,
                }
            }
            Input::UploadEnded(upload, sent_bytes)
        });
    }

    fn fetch_manifest(&self, fetch: FetchId, connection: ConnectionId, content: ContentId) {
        let begun = self.net.begin_fetch(fetch, connection);
        self.spawn(move |shells| async move {
            let kept = match begun.manifest(content).await {
                Ok(encoded) => shells.store.keep_manifest(content, encoded).await.map_err(|reject| match reject.code {
                    ErrorCode::INTEGRITY | ErrorCode::MALFORMED => FetchError::Corrupt,
                    _ => FetchError::Store(reject),
                }),
                Err(error) => Err(error),
            };
            Input::ManifestFetched(fetch, kept)
        });
    }

    /// Payload in: a buffer, the connection fills it, the store checks and writes it.
    fn fetch_piece(&self, fetch: FetchId, connection: ConnectionId, content: ContentId, piece: PieceIndex, bytes: u64) {
        let begun = self.net.begin_fetch(fetch, connection);
        self.spawn(move |shells| async move {
            let leased = tokio::select! {
                buffer = shells.fetch_pool.lease(usize::try_from(bytes).unwrap_or(usize::MAX)) => Some(buffer),
                () = begun.cancelled() => None,
            };
            let (received_bytes, result) = match leased {
                Some(mut buffer) => match begun.piece(content, piece, &mut buffer).await {
                    (received_bytes, Ok(())) => {
                        let written = shells.store.write_piece(content, piece, &buffer).await;
                        (
                            received_bytes,
                            match written {
                                Ok(Verdict::Written) => Ok(()),
                                Ok(Verdict::Corrupt) => Err(FetchError::Corrupt),
                                Err(reject) => Err(FetchError::Store(reject)),
                            },
                        )
                    }
                    failed => failed,
                },
                None => (0, Err(FetchError::Cancelled)),
            };
            Input::PieceFetched { fetch, received_bytes, round_trip: begun.round_trip(), result }
        });
    }

    /// Payload to a command: a buffer, the store fills it, the command takes it.
    fn stream_piece(
        &self,
        command: CommandId,
        download: DownloadId,
        (content, piece): (ContentId, PieceIndex),
        bytes: u64,
    ) {
        self.spawn(move |shells| async move {
            let mut buffer = shells.stream_pool.lease(usize::try_from(bytes).unwrap_or(usize::MAX)).await;
            match shells.store.read_piece(content, piece, buffer.as_vec_mut()).await {
                Err(reject) => Input::PieceStreamed(download, Err(reject)),
                Ok(()) if shells.control.send_bytes(command, buffer.into_bytes()).await => {
                    Input::PieceStreamed(download, Ok(()))
                }
                Ok(()) => Input::CommandGone(command),
            }
        });
    }

    /// Tells how far hashing is. Progress may be lost where the engine is busy; the end of it never is.
    fn import_progress(&self, ask: AskId) -> impl Fn(u64, u64) + Send + Sync + 'static {
        let inputs = self.inputs.clone();
        move |done_bytes, length| {
            let _ = inputs.try_send(Input::ImportProgress { ask, done_bytes, length });
        }
    }

    /// Runs `work` beside the loop and tells what it ends with.
    fn spawn<F>(&self, work: impl FnOnce(Shells) -> F)
    where
        F: Future<Output = Input> + Send + 'static,
    {
        let inputs = self.inputs.clone();
        let work = work(self.clone());
        tokio::spawn(async move {
            // Refused only when the loop has ended, and with it the daemon.
            let _ = inputs.send(work.await).await;
        });
    }

    /// The daemon's end: what is written is synced and marked, commands read their results, connections say goodbye.
    async fn end(self) {
        tokio::join!(self.hooks.shut_down(), self.store.shut_down());
        self.control.drain(DRAIN_DEADLINE).await;
    }
}

/// What a peer is told whose piece cannot be read: nothing of this machine's files.
fn not_served() -> Reject {
    Reject::new(ErrorCode::CONTENT_NOT_FOUND, "this content is no longer served here")
}
