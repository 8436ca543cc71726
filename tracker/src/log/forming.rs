//! How trackers become a cluster: those of a `tracker_info.txt` meet, and the first of them makes one of them all.
//!
//! At the first start all of them have to be there: the first of the list asks each whether it is new, and only then are
//! all of them voters from the start. So a tracker whose folder was lost founds nothing in the place of what was. A list that
//! has grown since is followed by whoever leads: a new tracker gets the whole state first, and a vote when all of the list
//! have it. With two trackers the second one follows without a vote: two voters would need both, which is worse than one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, Raft};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::duty::ASSUMED_CRASHED;
use super::network::{Links, PeerStatus};
use super::turn::Turn;
use super::types::{Member, StoredMembership, TrackerId, Types};

/// Pause before the others are asked again, while there is no cluster yet.
const PAUSE: Duration = Duration::from_millis(200);

/// Pause between two looks at whether the list has a tracker that the cluster has not.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long another tracker may take to say what it is.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);

/// How long a new tracker may take to get the whole state.
const JOIN_DEADLINE: Duration = Duration::from_secs(120);

/// Members of a cluster in which one decides and the other follows.
const PAIR: usize = 2;

/// Fewest voters of a cluster that lives on without one of them.
pub(super) const VOTERS_MIN: usize = 3;

/// Makes the listed trackers one cluster, and keeps at it; never ends.
pub(super) async fn form(raft: &Raft<Types>, links: &Arc<Links>) {
    let mut told = String::new();
    loop {
        if links.is_alone() {
            return std::future::pending().await;
        }
        let outcome = step(raft, links).await;
        let complete = outcome.is_ok();
        if complete {
            told.clear();
        }
        if let Err(waiting) = outcome
            && waiting != told
        {
            warn!("{waiting}");
            told = waiting;
        }
        sleep(if complete { LOOK_INTERVAL } else { PAUSE }).await;
    }
}

/// Does what can be done now; what it waits for, where that is not all.
async fn step(raft: &Raft<Types>, links: &Arc<Links>) -> Result<(), String> {
    let mut missing = Ok(());
    for id in links.others() {
        if let Err(error) = links.meet(id).await {
            missing = Err(format!("waiting for tracker {id}: {error}"));
        }
    }
    let me = links.me();
    let initialized = raft.is_initialized().await.map_err(|error| error.to_string())?;
    let own = links.duty.status(!initialized)?;
    if !initialized {
        missing?;
        let first = links.others().next().is_none_or(|other| me < other);
        return if first {
            found(raft, links, &own).await
        } else {
            Err("waiting to be taken into the cluster".to_owned())
        };
    }
    let metrics = raft.metrics().borrow().clone();
    let members = metrics.membership_config;
    if links.assume_crash_only {
        assume_crashed(links, &own, &Pair::of(&members, me)).await;
    }
    if metrics.current_leader != Some(me) {
        return Ok(());
    }
    if links.duty.waits() {
        for id in members.membership().learner_ids() {
            let asked = timeout(STATUS_DEADLINE, links.status(id, &own)).await;
            asked
                .map_err(|_| silent(id))?
                .map_err(|error| format!("changes wait for word of tracker {id}: {error}"))?;
        }
        // Whoever has taken over has been heard of by now.
        links.duty.go_on();
    }
    let mut voting: BTreeSet<TrackerId> = BTreeSet::from([me]);
    let mut missing = Ok(());
    for id in links.others().filter(|id| !was_taken_out(&members, *id)) {
        // One that is away keeps nobody else out.
        match take_in(raft, links, &own, &members, id).await {
            Ok(()) => drop(voting.insert(id)),
            Err(waiting) => missing = Err(waiting),
        }
    }
    let voters: BTreeSet<TrackerId> = members.membership().voter_ids().collect();
    if voting.len() >= VOTERS_MIN && !voting.is_subset(&voters) {
        info!(?voting, "all listed trackers that are there get a vote");
        let changed = raft.change_membership(ChangeMembers::AddVoterIds(voting), true).await;
        changed.map_err(|error| error.to_string())?;
    }
    missing
}

/// Whether a tracker that is listed once belonged to the cluster: new ones come at the list's end, and numbers are not given
/// again. Who decides alone takes in everybody: it has taken over from those before it.
fn was_taken_out(members: &StoredMembership, id: TrackerId) -> bool {
    let members = members.membership();
    let last = members.nodes().map(|(id, _)| *id).max();
    members.voter_ids().count() > 1 && members.get_node(&id).is_none() && Some(id) < last
}

/// Takes a tracker that is new into the cluster, without a vote, and returns when it has the whole state.
async fn take_in(
    raft: &Raft<Types>,
    links: &Arc<Links>,
    own: &PeerStatus,
    members: &StoredMembership,
    id: TrackerId,
) -> Result<(), String> {
    if members.membership().get_node(&id).is_some() {
        return Ok(());
    }
    let key = new_tracker(links, id, own).await?;
    info!(tracker = id, "taking a tracker into the cluster");
    let joined = timeout(JOIN_DEADLINE, raft.add_learner(id, Member { key: Some(key) }, true)).await;
    joined.map_err(|_| format!("tracker {id} does not catch up"))?.map_err(|error| error.to_string())?;
    Ok(())
}

/// Makes the first cluster of all who are listed.
async fn found(raft: &Raft<Types>, links: &Arc<Links>, own: &PeerStatus) -> Result<(), String> {
    let mut members = BTreeMap::from([(links.me(), links.member())]);
    for id in links.others() {
        members.insert(id, Member { key: Some(new_tracker(links, id, own).await?) });
    }
    if members.len() < VOTERS_MIN {
        // The other follows when this one leads.
        members = BTreeMap::from([(links.me(), links.member())]);
    }
    info!(trackers = members.len(), "all trackers are there and new: the cluster begins");
    raft.initialize(members).await.map_err(|error| error.to_string())
}

/// The key of a tracker that belongs to no cluster yet, asked now.
async fn new_tracker(links: &Arc<Links>, id: TrackerId, own: &PeerStatus) -> Result<p2p_proto::id::NodeId, String> {
    let asked = timeout(STATUS_DEADLINE, links.status(id, own)).await;
    let status = asked.map_err(|_| silent(id))?;
    let status = status.map_err(|error| format!("waiting for tracker {id}: {error}"))?;
    if status.id != id {
        return Err(format!("the tracker at the address of tracker {id} takes itself for tracker {}", status.id));
    }
    if !status.blank && own.blank {
        return Err(format!("tracker {id} belongs to a cluster: waiting to be taken into it"));
    }
    if !status.blank {
        return Err(format!(
            "tracker {id} belongs to another cluster: give it an empty folder to take it into this one"
        ));
    }
    links.key_of(id).ok_or_else(|| format!("waiting for tracker {id}: its key is not known"))
}

fn silent(id: TrackerId) -> String {
    format!("waiting for tracker {id}: it does not answer")
}

/// Where a tracker stands beside one other, of which one decides and the other follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pair {
    /// There are not two, or both have a vote.
    None,
    /// It decides alone; who follows, if anybody.
    Decides(Option<TrackerId>),
    /// It follows the other.
    Follows(TrackerId),
}

impl Pair {
    /// Where `me` stands among these members.
    pub fn of(members: &StoredMembership, me: TrackerId) -> Pair {
        let members = members.membership();
        let voters: Vec<TrackerId> = members.voter_ids().collect();
        match voters[..] {
            [decides] if decides == me && members.nodes().count() <= PAIR => {
                Pair::Decides(members.learner_ids().next())
            }
            [decides] if members.nodes().count() == PAIR && members.get_node(&me).is_some() => Pair::Follows(decides),
            _ => Pair::None,
        }
    }
}

/// Takes over where the other of two is silent for so long that it is taken for crashed: from who decides, or, where this one
/// waits for word of who follows, from who may have taken over.
async fn assume_crashed(links: &Arc<Links>, own: &PeerStatus, pair: &Pair) {
    let other = match *pair {
        Pair::Follows(other) => other,
        Pair::Decides(Some(other)) if links.duty.waits() => other,
        Pair::Decides(_) | Pair::None => return,
    };
    let silence = links.duty.silence(other);
    if silence < ASSUMED_CRASHED || matches!(timeout(STATUS_DEADLINE, links.status(other, own)).await, Ok(Ok(_))) {
        return;
    }
    warn!(tracker = other, silent_s = silence.as_secs(), "the other tracker is assumed to have crashed: taking over");
    links.duty.decide(Turn::TakeOver);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as `1 2+` has them: the first without a vote, the second with one.
    fn members(text: &str) -> StoredMembership {
        let id = |word: &str| word.trim_end_matches('+').parse::<TrackerId>().expect("a number");
        let voters = text.split(' ').filter(|word| word.ends_with('+')).map(id).collect();
        let nodes: BTreeMap<TrackerId, Member> = text.split(' ').map(|word| (id(word), Member::default())).collect();
        StoredMembership::new(None, openraft::Membership::new(vec![voters], nodes))
    }

    #[test]
    fn of_two_one_decides_and_the_other_follows() {
        for (text, me, expected) in [
            ("1+", 1, Pair::Decides(None)),
            ("1+ 2", 1, Pair::Decides(Some(2))),
            ("1+ 2", 2, Pair::Follows(1)),
            ("1+", 2, Pair::None),
            ("1+ 2 3", 1, Pair::None),
            ("1+ 2 3", 2, Pair::None),
            ("1+ 2+ 3+", 1, Pair::None),
        ] {
            assert_eq!(Pair::of(&members(text), me), expected, "{text}, {me}");
        }
    }

    #[test]
    fn who_was_taken_out_is_not_taken_in_again() {
        for (text, id, expected) in [
            ("1+ 3+ 4+", 2, true),
            ("1+ 3+ 4+", 5, false),
            ("1+ 2+ 3+", 4, false),
            ("1+ 2+ 3+ 4", 4, false),
            // It has taken over from the first, which is back.
            ("2+", 1, false),
            ("1+", 2, false),
        ] {
            assert_eq!(was_taken_out(&members(text), id), expected, "{text}, {id}");
        }
    }
}
