//! Reading what is current: those who read wait together until this tracker has come to what the leader knew when they asked.
//!
//! So whoever has changed something at one tracker sees it at every other. Where nobody leads, or no majority is there, the
//! state is read as it is here: late is better than never.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::debug;

use super::machine::Shared;
use super::network::Links;
use super::quorum;
use super::types::Types;

/// How long those who read wait for a leader that is silent, the first time: a few of its heartbeats. Then they read what may be
/// old, and are told so: an election takes longer than a person likes to wait for a list.
const PATIENCE: Duration = Duration::from_millis(1_200);

/// How long those wait who know of something that is not known here yet: until there is another leader, where there can be.
pub(super) const PATIENCE_FOR_SEEN: Duration = Duration::from_secs(5);

/// And from then on, until one answers again, while nobody leads as far as is known here.
const PATIENCE_WITHOUT_LEADER: Duration = Duration::from_millis(100);

/// Those who wait to read. Whoever comes while the leader is being asked waits for the next answer.
#[derive(Debug)]
pub(super) struct Readers {
    /// How many have come.
    came: watch::Sender<u64>,
    /// How many of them may read, and whether what they read is current.
    served: watch::Sender<(u64, bool)>,
}

impl Readers {
    pub fn new() -> Readers {
        Readers { came: watch::Sender::new(0), served: watch::Sender::new((0, false)) }
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

    /// Serves those who come, one round for all who wait; never ends.
    pub async fn serve(&self, raft: &Raft<Types>, links: &Arc<Links>, shared: &Shared) {
        let mut came = self.came.subscribe();
        let (mut served, mut current) = (0, true);
        loop {
            let number = *came.borrow_and_update();
            // Somebody may have come before this began to listen.
            if number == served {
                // The sender is this one, so that it is not closed.
                let _ = came.changed().await;
                continue;
            }
            served = number;
            let somebody_leads = quorum::leader(&raft.metrics().borrow()).is_some();
            let patience = if current || somebody_leads { PATIENCE } else { PATIENCE_WITHOUT_LEADER };
            current = timeout(patience, catch_up(raft, links, shared)).await.is_ok();
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
