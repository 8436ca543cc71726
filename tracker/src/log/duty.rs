//! Two trackers: which of them takes changes. The first decides alone and the second follows, so that each has to know when the
//! other may have gone on without it.
//!
//! - One that led, and starts again, waits: the other may have taken over meanwhile. It takes changes when every tracker that
//!   followed it has said that it has not, or when a person says so (`tracker promote`).
//! - One that hears of a later epoch of its cluster from another gives way at once: it takes no more changes, keeps what it
//!   alone had in files, and begins again as one that follows.
//!
//! What has been decided is on disk before anything is done about it, and done by the next start ([`super::turn`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use p2p_proto::grant::GrantSigner;
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::epoch::Epoch;
use super::machine::Shared;
use super::network::PeerStatus;
use super::storage::Store;
use super::turn::Turn;
use super::types::TrackerId;

/// A leader from whom nothing came for so long is taken for silent: five of its heartbeats.
const SILENT: Duration = Duration::from_millis(2_500);

/// How long the other tracker has to be silent before it is assumed to have crashed, where the operator has said that it may be:
/// several times what a restart of the program takes, less than a person takes to notice.
pub const ASSUMED_CRASHED: Duration = Duration::from_secs(15);

/// What this tracker may do, and what it has decided to become.
#[derive(Debug)]
pub(super) struct Duty {
    me: TrackerId,
    shared: Arc<Shared>,
    store: Arc<Store>,
    /// Whether changes wait for word of who followed before this start.
    waits: watch::Sender<bool>,
    /// Set once; everything ends then, to begin again.
    turn: watch::Sender<Option<Turn>>,
    began: Instant,
    /// Whether it was said that there is another epoch beside a majority: it is told again and again.
    told: AtomicBool,
    /// When each of the others was heard last.
    heard: Mutex<BTreeMap<TrackerId, Instant>>,
}

impl Duty {
    pub fn new(me: TrackerId, shared: Arc<Shared>, store: Arc<Store>) -> Duty {
        let (waits, turn) = (watch::Sender::new(false), watch::Sender::new(None));
        Duty {
            me,
            shared,
            store,
            waits,
            turn,
            began: Instant::now(),
            told: AtomicBool::new(false),
            heard: Mutex::default(),
        }
    }

    /// From now on changes wait until it is known that nobody has taken over.
    pub fn wait(&self) {
        warn!("who follows may have taken over while this tracker was away: changes wait for word of it");
        self.waits.send_replace(true);
    }

    /// Nobody has taken over: changes wait no longer.
    pub fn go_on(&self) {
        if self.turn.borrow().is_none() && self.waits.send_replace(false) {
            info!("nobody has taken over: changes go on here");
        }
    }

    /// Whether changes wait for word of who follows.
    pub fn waits(&self) -> bool {
        *self.waits.borrow()
    }

    /// Whether changes may be taken here, as far as that is up to this tracker.
    pub fn is_open(&self) -> bool {
        !self.waits() && self.turn.borrow().is_none()
    }

    /// Why a change is not taken here now.
    pub fn closed(&self) -> Reject {
        let message = match self.waits() {
            true => "this tracker waits for word of the other one, which may have taken over",
            false => "this tracker gives way to the other one, or takes over from it",
        };
        Reject::new(ErrorCode::NO_MAJORITY, message)
            .hint("start the other one; if it is lost, `tracker promote` on this one; asking again is safe")
    }

    /// Another tracker has spoken.
    pub fn heard(&self, id: TrackerId) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now());
    }

    /// For how long another tracker has been silent, at most since this one began.
    pub fn silence(&self, id: TrackerId) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        heard.unwrap_or(self.began).elapsed()
    }

    /// Whether another tracker is silent, so that nobody need wait for it.
    pub fn is_silent(&self, id: TrackerId) -> bool {
        id != self.me && self.silence(id) > SILENT
    }

    /// What this tracker is, for another one. Not told once it is to become something else: what it is then counts.
    pub fn status(&self, blank: bool) -> Result<PeerStatus, String> {
        if self.turn.borrow().is_some() {
            return Err("this tracker is about to begin again".to_owned());
        }
        let setup = self.shared.query(|state| state.setup().cloned());
        let cluster = setup.and_then(|setup| GrantSigner::from_document(&setup.cluster_key).ok());
        let left = self.store.left().map_err(|error| error.to_string())?;
        let cluster = cluster.map(|signer| signer.public_key());
        Ok(PeerStatus { id: self.me, blank, cluster, place: self.shared.place(), left })
    }

    /// Hears what another tracker says of itself. One of the same cluster in a later epoch has taken over: this one gives way.
    pub fn compare(&self, own: &PeerStatus, other: &PeerStatus) {
        let (epoch, later) = (Epoch::of(own.place), Epoch::of(other.place));
        if own.blank || other.blank || own.cluster.is_none() || own.cluster != other.cluster || later <= epoch {
            return;
        }
        if self.shared.members().membership().voter_ids().count() > 1 {
            if !self.told.swap(true, Ordering::Relaxed) {
                error!(
                    tracker = other.id, epoch = %later,
                    "another tracker has taken over on its own, and here is a majority: one of the two has to be given an empty folder"
                );
            }
            return;
        }
        let from = other.left.iter().copied().find(|place| Epoch::of(*place) == epoch).unwrap_or(0);
        warn!(tracker = other.id, epoch = %later, own = %epoch, "another tracker has taken over: this one gives way");
        self.decide(Turn::GiveWay { from });
    }

    /// Decides what the next start does, durably, and has everything end for it. The first decision counts, and is told.
    pub fn decide(&self, turn: Turn) -> Option<Turn> {
        self.turn.send_if_modified(|decided| {
            if decided.is_some() {
                return false;
            }
            // Without it on disk nothing is decided: it is tried again when the cause is met again.
            match self.store.save_turn(&turn) {
                Ok(()) => *decided = Some(turn),
                Err(error) => error!(%error, "what was decided cannot be kept"),
            }
            decided.is_some()
        });
        *self.turn.borrow()
    }

    /// Waits until it is decided that this tracker begins again as something else.
    pub async fn decided(&self) {
        let mut turn = self.turn.subscribe();
        if turn.wait_for(Option::is_some).await.is_err() {
            // The sender is this one.
            std::future::pending().await
        }
    }
}
