//! Whether a majority follows a tracker that leads: one that is cut off from the others goes on to take itself for the leader.

use std::time::Duration;

use openraft::{Raft, ServerState};
use tokio::time::{Instant, sleep};

use super::types::{Member, TrackerId, Types};

/// How long a leader that hears nothing of a majority goes on to wait for it: about as long as the others take to elect another,
/// so that whoever is sent on to them finds it.
const SILENCE_MAX: Duration = Duration::from_millis(2_000);

/// Pause between two looks at how long that is: openraft notes it about as often.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

type Metrics = openraft::RaftMetrics<TrackerId, Member>;

/// How long this tracker has led and heard nothing of a majority; `None` while it does not lead, or nobody has followed it yet.
fn silence(metrics: &Metrics) -> Option<Duration> {
    metrics.millis_since_quorum_ack.filter(|_| metrics.state == ServerState::Leader).map(Duration::from_millis)
}

/// Who leads as far as is known: not this tracker when no majority follows it any more.
pub(super) fn leader(metrics: &Metrics) -> Option<TrackerId> {
    let is_lost = silence(metrics).is_some_and(|silence| silence >= SILENCE_MAX);
    metrics.current_leader.filter(|_| !is_lost)
}

/// Waits until this tracker, which leads, has heard nothing of a majority for too long. One that was elected a moment ago, or
/// leads on after a restart, is given that time from now.
pub(super) async fn lost(raft: &Raft<Types>) {
    let began = Instant::now();
    while silence(&raft.metrics().borrow()).unwrap_or_else(|| began.elapsed()) < SILENCE_MAX {
        sleep(LOOK_INTERVAL).await;
    }
}
