//! What an operator has a tracker do to its cluster: take over from the other of two, and take a tracker out of it.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::ChangeMembers;
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::time::timeout;

use super::forming::{Pair, VOTERS_MIN};
use super::proposals::no_majority;
use super::{Consensus, Epoch, TrackerId, Turn};

/// How long another tracker may take to say that it is there, before it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the cluster may take to agree on who belongs to it: twice, with an election in between.
const AGREE_DEADLINE: Duration = Duration::from_secs(15);

fn wrong(message: String) -> Reject {
    Reject::new(ErrorCode::WRONG_STATE, message)
}

impl Consensus {
    /// Has this tracker take over from the other of two, which does not answer; with `force` also where it does. The first
    /// place of the new epoch: it begins when this process has begun again.
    ///
    /// # Errors
    /// Why it may not, and what to do; nothing is changed then.
    pub async fn promote(&self, force: bool) -> Result<u64, Reject> {
        let other = match self.pair() {
            Pair::Follows(other) => other,
            Pair::Decides(Some(other)) if self.links.duty.waits() => other,
            Pair::Decides(_) => {
                return Err(wrong("this tracker decides already".to_owned()).hint("there is nothing to do"));
            }
            Pair::None => {
                return Err(wrong(
                    "this tracker is not one of two, of which one decides and the other follows".to_owned(),
                )
                .hint("three or more elect by themselves who decides; see `tracker status`"));
            }
        };
        if self.query(|state| state.setup().is_none()) {
            return Err(wrong("this tracker has nothing of its cluster yet".to_owned())
                .hint("put back a copy with `tracker restore`, if there is one"));
        }
        if !force && self.answers(other).await? {
            return Err(wrong(format!("tracker {other} answers, so nothing has to be taken over from it"))
                .hint("stop it first, or use --force: it gives way to this one then, at once"));
        }
        match self.links.duty.decide(Turn::TakeOver) {
            Some(Turn::TakeOver) => Ok(Epoch::of(self.place()).next(self.links.me()).first_place()),
            Some(Turn::GiveWay { .. }) => Err(wrong(format!("tracker {other} has taken over already"))
                .hint("this tracker follows it from now on; see `tracker status`")),
            None => Err(Reject::new(ErrorCode::DISK_ERROR, "the decision could not be written to the disk")),
        }
    }

    /// Takes a tracker out of the cluster that is lost; with `force` also one that answers, or where too few are left.
    /// The number of votes that are left.
    ///
    /// # Errors
    /// Why it may not, and what to do; nothing is changed then, unless too few answer to say so.
    pub async fn remove(&self, id: TrackerId, force: bool) -> Result<u64, Reject> {
        let metrics = self.raft.metrics().borrow().clone();
        let members = metrics.membership_config.membership();
        if members.get_node(&id).is_none() {
            return Err(wrong(format!("tracker {id} does not belong to the cluster")).hint("see `tracker status`"));
        }
        if id == self.links.me() {
            return Err(wrong("this tracker cannot take out itself".to_owned()).hint("ask another one of its cluster"));
        }
        if !self.is_leader() {
            let leads = metrics.current_leader.filter(|leads| *leads != self.links.me());
            return Err(leads.map_or_else(no_majority, |leads| {
                wrong(format!("tracker {leads} leads the cluster, and not this one")).hint("ask it to do that")
            }));
        }
        let mut voters: BTreeSet<TrackerId> = members.voter_ids().collect();
        let votes = voters.remove(&id);
        if votes && voters.len() < VOTERS_MIN && !force {
            return Err(wrong(format!("without tracker {id} only {} votes would be left", voters.len()))
                .hint("take in another one first, as a new line at the list's end; or use --force"));
        }
        if !force && self.answers(id).await? {
            return Err(wrong(format!("tracker {id} answers")).hint("stop it for good first, or use --force"));
        }
        let gone = BTreeSet::from([id]);
        let change = if votes { ChangeMembers::RemoveVoters(gone) } else { ChangeMembers::RemoveNodes(gone) };
        match timeout(AGREE_DEADLINE, self.raft.change_membership(change, false)).await {
            Ok(Ok(_)) => Ok(voters.len() as u64),
            Ok(Err(error)) => Err(wrong(format!("tracker {id} cannot be taken out now: {error}")).hint("try again")),
            Err(_) => Err(no_majority()),
        }
    }

    /// Whether another tracker says that it is there. Each of the two hears what the other is.
    async fn answers(&self, id: TrackerId) -> Result<bool, Reject> {
        let own = self.links.duty.status(false);
        let own = own.map_err(|error| Reject::new(ErrorCode::BUSY, error).hint("try again in a few seconds"))?;
        Ok(matches!(timeout(PATIENCE, self.links.status(id, &own)).await, Ok(Ok(_))))
    }
}
