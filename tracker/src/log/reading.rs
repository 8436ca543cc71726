//! Reading what is current: those who read wait together until this tracker has come to what the leader knew when they asked.
//!
//! So whoever has changed something at one tracker sees it at every other. Where nobody leads, or no majority is there, the
//! state is read as it is here: late is better than never.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::Raft;
use p2p_proto::time::UnixMillis;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::error::LogError;
use super::machine::Shared;
use super::network::Links;
use super::quorum;
use super::storage::Store;
use super::types::Types;
use crate::clock;

/// How long those who read wait for a leader that is silent, the first time: a few of its heartbeats. Then they read what may be
/// old, and are told so: an election takes longer than a person likes to wait for a list.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// How long those wait who know of something that is not known here yet: until there is another leader, where there can be.
pub(super) const PATIENCE_FOR_SEEN: Duration = Duration::from_secs(5);

/// And from then on, until one answers again, while nobody leads as far as is known here.
const PATIENCE_WITHOUT_LEADER: Duration = Duration::from_millis(100);

/// How often it is looked whether a majority is there while nobody reads: a small part of the time that grants go on without.
const LOOK: Duration = Duration::from_secs(30);

/// How often it is kept on disk that a majority was there: who restarts without one counts from then.
const KEEP_SIGHT: Duration = Duration::from_secs(60);

/// Those who wait to read. Whoever comes while the leader is being asked waits for the next answer.
#[derive(Debug)]
pub(super) struct Readers {
    /// How many have come.
    came: watch::Sender<u64>,
    /// How many of them may read, and whether what they read is current.
    served: watch::Sender<(u64, bool)>,
    /// When what is known here was current for the last time, or this tracker began for the first; in milliseconds of the
    /// wall clock.
    current: AtomicU64,
    store: Arc<Store>,
}

impl Readers {
    /// Nobody waits; what the store knew was current when it says.
    pub fn new(store: Arc<Store>) -> Result<Readers, LogError> {
        let current = AtomicU64::new(store.sight()?.unwrap_or_else(clock::now).0);
        Ok(Readers { came: watch::Sender::new(0), served: watch::Sender::new((0, false)), current, store })
    }

    /// Waits for a turn to read; whether what is read is current.
    pub async fn turn(&self) -> bool {
        let mut number = 0;
        self.came.send_modify(|came| {
            *came += 1;
            number = *came;
        });
        let mut served = self.served.subscribe();
        // Without an answer the log has ended, and the process does.
        served.wait_for(|(served, _)| *served >= number).await.is_ok_and(|served| served.1)
    }

    /// How long ago what is known here was current.
    pub fn current_ago(&self) -> Duration {
        clock::now().since(UnixMillis(self.current.load(Ordering::Relaxed)))
    }

    /// Serves those who come, one round for all who wait; never ends.
    pub async fn serve(&self, raft: &Raft<Types>, links: &Arc<Links>, shared: &Shared) {
        let mut came = self.came.subscribe();
        let (mut served, mut current, mut kept) = (0, true, UnixMillis(0));
        loop {
            let number = *came.borrow_and_update();
            // Somebody may have come before this began to listen.
            if number == served && timeout(LOOK, came.changed()).await.is_ok() {
                continue;
            }
            served = number;
            // Who has no vote hears of no election, and takes a dead leader for one until there is another.
            let leads = quorum::leader(&raft.metrics().borrow());
            let somebody_leads = leads.is_some_and(|leader| !links.duty.is_silent(leader));
            let patience = if current || somebody_leads { PATIENCE } else { PATIENCE_WITHOUT_LEADER };
            // Who waits to hear whether another has taken over knows nothing for certain, though it would vote for itself.
            current = links.duty.is_open() && timeout(patience, catch_up(raft, links, shared)).await.is_ok();
            if current {
                let now = clock::now();
                self.current.store(now.0, Ordering::Relaxed);
                if !links.is_alone() && now.since(kept) >= KEEP_SIGHT {
                    kept = now;
                    let store = Arc::clone(&self.store);
                    tokio::task::spawn_blocking(move || {
                        if let Err(error) = store.save_sight(now) {
                            warn!(%error, "it cannot be kept that a majority was there");
                        }
                    });
                }
            }
            self.served.send_replace((number, current));
        }
    }
}

/// Comes to what the leader knows now, as often as it takes to find one.
async fn catch_up(raft: &Raft<Types>, links: &Arc<Links>, shared: &Shared) {
    let mut leader = raft.metrics();
    loop {
        let leads = leader.borrow_and_update().current_leader;
        let asked = async {
            match leads {
                Some(leads) if leads == links.me() => place_to_read(raft).await,
                Some(leads) => links.place_to_read(leads).await.map_err(|error| error.to_string()),
                None => Err("nobody leads".to_owned()),
            }
        };
        let known = tokio::select! {
            biased;
            known = asked => known,
            // Whoever was asked may be dead, and would be waited for in vain.
            _ = leader.wait_for(|metrics| metrics.current_leader != leads) => continue,
        };
        match known {
            Ok(place) => return shared.wait_for(place).await,
            Err(error) => debug!(error, "what is current is not known"),
        }
        tokio::select! {
            _ = leader.changed() => {}
            () = tokio::time::sleep(PATIENCE_WITHOUT_LEADER) => {}
        }
    }
}

/// The place before which everything was agreed on when it was asked for; only a leader that a majority still follows
/// knows it.
pub(super) async fn place_to_read(raft: &Raft<Types>) -> Result<u64, String> {
    let place = raft.ensure_linearizable().await.map_err(|error| error.to_string())?;
    // One that leads on after a restart knows from its disk less to be agreed on than it has acknowledged; its log has it all.
    let last = raft.metrics().borrow().last_log_index;
    Ok(place.map(|place| place.index).max(last).map_or(0, |index| index + 1))
}
