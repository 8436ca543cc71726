//! Whether the groups that files are shared with are still there, and still this user's to read.
//!
//! A tracker tells who announces something in a group that they have no part in any more; asked, it tells why: the group has
//! ended, or is closed to this user.

use std::collections::{BTreeMap, BTreeSet};

use p2p_proto::name::GroupName;
use p2p_proto::reject::ErrorCode;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{self, JoinPolicy, Reply, Request, Standing};

use super::Engine;
use super::file_info::command_line;
use super::record::ShareRecord;
use super::steps::Step;

/// How a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupNow {
    /// No group has it.
    Ended,
    /// This user may not read the group that has it, which was born then.
    Closed(UnixMillis),
    /// The group that has it was born then.
    Born(UnixMillis),
}

/// What is known of the names of shares' groups.
#[derive(Debug, Default)]
pub(super) struct ShareGroups {
    known: BTreeMap<GroupName, GroupNow>,
    /// To be asked about; the one that a tracker is asked about now is none of them.
    waiting: BTreeSet<GroupName>,
    asking: bool,
}

impl Engine {
    /// All is announced again, and what has changed is told then.
    pub(super) fn forget_share_groups(&mut self) {
        self.share_groups = ShareGroups { asking: self.share_groups.asking, ..ShareGroups::default() };
    }

    /// Asks about a group, if something is shared with it.
    pub(super) fn ask_share_group(&mut self, group: &GroupName) {
        if self.shares.of_user().any(|share| share.group == *group) {
            self.share_groups.waiting.insert(group.clone());
            self.ask_next_share_group();
        }
    }

    /// A file is shared now: what was known of the group's name may be of an earlier one.
    pub(super) fn is_shared_now(&mut self, share: &ShareRecord) {
        if self.lost(share).is_some() {
            self.share_groups.known.remove(&share.group);
            self.ask_share_group(&share.group);
        }
    }

    fn ask_next_share_group(&mut self) {
        if self.share_groups.asking || self.account.is_none() {
            return;
        }
        if let Some(group) = self.share_groups.waiting.pop_first() {
            let request = Request::GroupInfo { group: group.clone() };
            // One that answers later tells of it again.
            self.share_groups.asking = self.ask_now(Step::ShareGroup(group), request);
        }
    }

    /// A tracker has told of a group, or could not.
    pub(super) fn share_group_told(&mut self, group: &GroupName, reply: Reply) {
        self.share_groups.asking = false;
        match reply {
            Ok(tracker::Answer::Groups(page)) => {
                if let Some(found) = page.into_iter().find(|found| found.group == *group) {
                    let reads = found.policy == JoinPolicy::Public
                        || matches!(found.standing, Standing::Owner | Standing::Member);
                    let now = if reads { GroupNow::Born(found.born) } else { GroupNow::Closed(found.born) };
                    self.shares_group_is(group, now);
                }
            }
            Err(reject) if reject.code == ErrorCode::GROUP_NOT_FOUND => self.shares_group_is(group, GroupNow::Ended),
            _ => (),
        }
        self.ask_next_share_group();
    }

    /// How the name of a share's group stands, by a tracker's word.
    pub(super) fn shares_group_is(&mut self, group: &GroupName, now: GroupNow) {
        self.share_groups.known.insert(group.clone(), now);
        if matches!(now, GroupNow::Born(_)) && self.left_groups.remove(group) {
            // It was heard before that the user had no part in it.
            self.announce_soon();
        }
        if matches!(now, GroupNow::Ended | GroupNow::Closed(_)) {
            self.stop_serving_group(group);
            self.announce_soon();
        }
    }

    /// Why a file is not shared any more though nothing is wrong with it: its group has ended, or is closed to this user.
    pub(super) fn why_not_shared(&self, share: &ShareRecord) -> Option<String> {
        let what = self.lost(share)?;
        let take_out = command_line("stop_share", &share.group, share.name.as_str(), "");
        Some(format!("{what}: `{take_out}` takes it out of this list"))
    }

    /// One line for each group that something is shared with in vain.
    pub(super) fn lost_groups(&self) -> Vec<String> {
        let lost: BTreeSet<String> = self.shares.of_user().filter_map(|share| self.lost(share)).collect();
        lost.into_iter().map(|what| format!("{what}; `p2pctl list` shows what, and how to take it out")).collect()
    }

    fn lost(&self, share: &ShareRecord) -> Option<String> {
        let group = &share.group;
        let is_of_another = |born: UnixMillis| share.born.is_some_and(|of| of != born);
        match *self.share_groups.known.get(group)? {
            GroupNow::Ended => Some(format!("group {group} has ended, and what was shared with it is not shared")),
            GroupNow::Born(born) | GroupNow::Closed(born) if is_of_another(born) => {
                Some(format!("another group has the name {group} now: what was shared with the old one is not shared"))
            }
            GroupNow::Closed(_) => {
                Some(format!("no longer a member of {group}, and what was shared with it is not shared"))
            }
            GroupNow::Born(_) => None,
        }
    }
}
