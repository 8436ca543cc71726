//! Handing over: a leader that is about to end has another tracker elected first, so that changes wait for it no longer than for
//! a few writes to the disk.
//!
//! openraft has no word for it. But whoever leads grants its vote to another that has all of its log, and with the other's own
//! that is a majority of three. Among more, those that hear of the leader still refuse theirs until it has been silent for a
//! while: it takes part of an election's time then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::network::Links;
use super::types::{Member, TrackerId, Types};

/// How long it may take. Then the others find out by themselves.
const DEADLINE: Duration = Duration::from_secs(3);

/// How long a tracker may take to answer that it stands, and to be elected then, until another is asked: writes to slow disks.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Has another tracker lead, if this one does and another can. No change may be on its way: whoever follows would lack it.
pub(super) async fn hand_over(raft: &Raft<Types>, links: &Arc<Links>) {
    let me = links.me();
    let another_leads = async {
        let mut leader = raft.metrics();
        let mut tried = BTreeSet::new();
        loop {
            let metrics = leader.borrow_and_update().clone();
            if metrics.current_leader != Some(me) {
                break;
            }
            let Some(next) = successor(&metrics, me, &tried) else { return info!("no other tracker can lead") };
            tried.insert(next);
            info!(tracker = next, "this tracker ends and asks another to lead");
            let asked = async {
                let stands = timeout(ATTEMPT, links.lead(next)).await;
                if matches!(stands, Ok(Ok(()))) {
                    sleep(ATTEMPT).await;
                }
                stands
            };
            let stands = tokio::select! {
                _ = leader.wait_for(|metrics| metrics.current_leader != Some(me)) => continue,
                stands = asked => stands,
            };
            match stands {
                // Those who vote have just heard of this one; soon they have not.
                Ok(Ok(())) => tried.clear(),
                Ok(Err(error)) => debug!(%error, "it does not"),
                Err(_) => debug!("it does not answer"),
            }
        }
        // Whoever is elected is known to all only when it has told them.
        let _ = leader.wait_for(|metrics| metrics.current_leader.is_some()).await;
    };
    let has_others = raft.metrics().borrow().membership_config.voter_ids().any(|voter| voter != me);
    if has_others && timeout(DEADLINE, another_leads).await.is_err() {
        info!("no other tracker leads; the others find out that this one has ended");
    }
}

/// Who is to lead next: the voter that has the most of the log, of those that were not tried.
fn successor(
    metrics: &openraft::RaftMetrics<TrackerId, Member>,
    me: TrackerId,
    tried: &BTreeSet<TrackerId>,
) -> Option<TrackerId> {
    let progress = metrics.replication.as_ref()?;
    let others = metrics.membership_config.voter_ids().filter(|voter| *voter != me && !tried.contains(voter));
    others.max_by_key(|voter| progress.get(voter).copied().flatten().map(|matching| matching.index))
}
