//! The daemon's figures: counted by the driver as things happen; how things stand is asked of the engine when somebody reads.

use std::time::Duration;

use p2p_host::figures::{Figures, gauge_value};
use p2p_host::monitor::Watched;
use p2p_proto::control::{Status, TrackerState};
use p2p_proto::time::UnixMillis;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::engine::Input;
use crate::engine::input::FetchError;

/// Questions that wait for the driver: more than may be connected to ask them.
pub const QUESTIONS_MAX: usize = 16;

/// How long the driver may take to answer one. It is asked in its own loop, so that silence means that this hangs.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Somebody wants to know how things stand.
pub type Question = oneshot::Sender<Status>;

/// What can come of a fetch, as the label has it.
const FETCHED: &[&str] = &["verified", "corrupt", "refused", "lost", "cancelled", "not_written"];

/// What the driver counts. Clones share it.
#[derive(Debug, Clone)]
pub struct Counters {
    commands: IntCounter,
    peer_connections: IntCounter,
    peer_dials_failed: IntCounter,
    tracker_losses: IntCounter,
    pieces_fetched: IntCounterVec,
    received_bytes: IntCounter,
    uploads: IntCounter,
    sent_bytes: IntCounter,
    downloads_completed: IntCounter,
}

impl Counters {
    /// All at 0.
    pub fn new(figures: &Figures) -> Counters {
        let counter = |name, help| figures.counter(name, help);
        Counters {
            commands: counter("p2pd_commands_total", "Commands received at the control socket."),
            peer_connections: counter(
                "p2pd_peer_connections_total",
                "Connections to peers that were made, either way.",
            ),
            peer_dials_failed: counter("p2pd_peer_dials_failed_total", "Dials of a peer that led nowhere."),
            tracker_losses: counter(
                "p2pd_tracker_losses_total",
                "Times that a tracker did not answer, or not any more.",
            ),
            pieces_fetched: figures.counters(
                "p2pd_pieces_fetched_total",
                "Pieces asked of peers, by what came of it.",
                "result",
                FETCHED,
            ),
            received_bytes: counter("p2pd_received_bytes_total", "Payload received from peers, verified or not."),
            uploads: counter("p2pd_uploads_total", "Requests of peers for a piece or manifest that have ended."),
            sent_bytes: counter("p2pd_sent_bytes_total", "Payload sent to peers."),
            downloads_completed: counter("p2pd_downloads_completed_total", "Downloads that were put into their place."),
        }
    }

    /// Counts what the engine is about to hear.
    pub fn count(&self, input: &Input) {
        match input {
            Input::Command(..) => self.commands.inc(),
            Input::PeerConnected { .. } => self.peer_connections.inc(),
            Input::DialFailed { .. } => self.peer_dials_failed.inc(),
            Input::TrackerLost { .. } => self.tracker_losses.inc(),
            Input::PieceFetched { received_bytes, result, .. } => {
                self.received_bytes.inc_by(*received_bytes);
                self.pieces_fetched.with_label_values(&[fetched(result)]).inc();
            }
            Input::UploadEnded(_, sent_bytes) => {
                self.uploads.inc();
                self.sent_bytes.inc_by(*sent_bytes);
            }
            Input::PartFinished(_, Ok(_)) => self.downloads_completed.inc(),
            _ => (),
        }
    }
}

fn fetched(result: &Result<(), FetchError>) -> &'static str {
    match result {
        Ok(()) => "verified",
        Err(FetchError::Corrupt) => "corrupt",
        Err(FetchError::Refused(_)) => "refused",
        Err(FetchError::Lost) => "lost",
        Err(FetchError::Cancelled) => "cancelled",
        Err(FetchError::Store(_)) => "not_written",
    }
}

/// Whom whoever watches the daemon asks.
#[derive(Debug)]
pub struct Watch {
    figures: Figures,
    questions: mpsc::Sender<Question>,
    logged_in: IntGauge,
    trackers: IntGaugeVec,
    peers: IntGauge,
    shares: IntGaugeVec,
    downloads: IntGaugeVec,
    limits: IntGaugeVec,
}

impl Watch {
    /// One that asks the driver at the other end of `questions`.
    pub fn new(figures: Figures, questions: mpsc::Sender<Question>) -> Watch {
        let (gauge, gauges) =
            (|name, help| figures.gauge(name, help), |name, help, label| figures.gauges(name, help, label));
        Watch {
            questions,
            logged_in: gauge("p2pd_logged_in", "Whether a user is logged in."),
            trackers: gauges(
                "p2pd_trackers",
                "Trackers that the daemon was given, by whether they are connected.",
                "state",
            ),
            peers: gauge("p2pd_peers", "Peers connected."),
            shares: gauges("p2pd_shares", "Shares of the user who is logged in.", "state"),
            downloads: gauges("p2pd_downloads", "Downloads of that user that are not complete.", "state"),
            limits: gauges("p2pd_limit_bytes_per_second", "Limits of the rates; 0 is no limit.", "direction"),
            figures,
        }
    }

    /// How things stand; `None` where the driver does not say in time.
    async fn ask(&self) -> Option<Status> {
        let asked = async {
            let (question, answer) = oneshot::channel();
            self.questions.send(question).await.ok()?;
            answer.await.ok()
        };
        timeout(ANSWER_DEADLINE, asked).await.ok().flatten()
    }
}

impl Watched for Watch {
    async fn figures(&self) -> Option<String> {
        let status = self.ask().await?;
        let connected = status.trackers.iter().filter(|tracker| tracker.state == TrackerState::Ok).count();
        let set = |gauges: &IntGaugeVec, word: &str, value: i64| gauges.with_label_values(&[word]).set(value);
        self.logged_in.set(status.user.is_some().into());
        set(&self.trackers, "connected", gauge_value(connected));
        set(&self.trackers, "lost", gauge_value(status.trackers.len() - connected));
        self.peers.set(status.peers.into());
        set(&self.shares, "seeding", status.shares_seeding.into());
        set(&self.shares, "stopped", status.shares_stopped.into());
        set(&self.downloads, "active", status.downloads_active.into());
        set(&self.downloads, "waiting", status.downloads_waiting.into());
        set(&self.downloads, "paused", status.downloads_paused.into());
        set(&self.downloads, "failed", status.downloads_failed.into());
        set(&self.limits, "up", gauge_value(status.limits.up_limit));
        set(&self.limits, "down", gauge_value(status.limits.down_limit));
        Some(self.figures.text())
    }

    async fn fault(&self) -> Option<&'static str> {
        let Some(status) = self.ask().await else { return Some("the daemon does not answer in time") };
        let lost = status.trackers.iter().all(|tracker| tracker.state != TrackerState::Ok);
        lost.then_some("no tracker answers; transfers go on for as long as grants hold")
    }
}

/// Figures as every daemon has them.
pub fn begin(now: UnixMillis) -> Figures {
    Figures::new("p2pd", env!("CARGO_PKG_VERSION"), now)
}
