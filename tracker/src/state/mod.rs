//! The replicated machine: users, nodes, groups, requests and listings, and every rule about them.
//!
//! [`State`] is pure. It opens nothing, starts nothing, reads no clock and draws no random number: all that it needs
//! stands in the [`Entry`] that it is given. Two states that were given the same entries in the same order are equal to
//! the byte, which is what replication and recovery rest on. Its methods are of three kinds:
//!
//! - [`State::apply`] changes it. It is total: whatever the entry says, the answer is an outcome or a refusal, never a
//!   panic, and a refusal changes nothing.
//! - the queries in `query.rs` read it, each on behalf of a node, with the rights that `policy.rs` gives to the node's user.
//! - [`State::encode`] and [`State::decode`] make a snapshot of it and back.
//!
//! Read `tests/transcripts/` first: they show what it does, line by line.

pub mod bound;
mod command;
mod files;
mod groups;
mod key;
mod policy;
mod query;
pub mod refusal;
mod remembered;
mod revocations;
mod snapshot;
#[cfg(test)]
mod tests;
mod users;

pub use command::{Applied, Change, Command, Entry, Outcome, Setup};
pub(crate) use key::GroupKey;
pub use query::{Found, Readable};
pub use revocations::Revocation;
pub use snapshot::SnapshotError;

use p2p_proto::name::GroupName;
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;

use groups::Groups;
use remembered::Remembered;
use revocations::Revocations;
use users::Users;

/// Everything that a cluster of trackers agrees on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    setup: Option<Setup>,
    users: Users,
    groups: Groups,
    /// Whether the built-in group has been made, or is to take the place of an older group that has its name.
    public_made: bool,
    /// When the latest group was born, whether it is still there or not.
    last_birth: UnixMillis,
    /// Listings of all groups; derived.
    listings: usize,
    /// How often any node has lost access to any group. One count for all groups, so that a group made again under an
    /// old name does not meet grants of the old one.
    epoch: u64,
    revocations: Revocations,
    remembered: Remembered,
}

impl State {
    /// Applies one entry. Entries come in the order of the log, each once.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        if let Some(outcome) = self.remembered.find(entry.actor, entry.request) {
            return Applied { reply: Ok(outcome.clone()), changes: Vec::new() };
        }
        let mut changes = Vec::new();
        let reply = self.change(entry, &mut changes);
        match &reply {
            Ok(outcome) => {
                self.remembered.insert(entry.actor, entry.request, outcome.clone());
                self.remember_revocations(entry.at, &changes);
            }
            Err(_) => debug_assert!(changes.is_empty(), "a refusal changes nothing"),
        }
        Applied { reply, changes }
    }

    fn change(&mut self, entry: &Entry, changes: &mut Vec<Change>) -> Result<Outcome, Reject> {
        let &Entry { actor, at, ref command, .. } = entry;
        match command {
            Command::Initialize(setup) => {
                self.setup.get_or_insert_with(|| setup.clone());
                Ok(Outcome::Done)
            }
            Command::CreateUser { user, record } => self.create_user(user, record, at, changes),
            Command::EnrolNode { user } => self.enrol_node(actor, user, None, at, changes),
            Command::WithdrawNode => self.withdraw_node(actor, actor, changes),
            Command::CreateGroup { group, policy } => self.create_group(actor, group, *policy, at, changes),
            Command::JoinGroup { group } => self.join_group(actor, group, at, changes),
            Command::LeaveGroup { group, force } => self.leave_group(actor, group, *force, changes),
            Command::AcceptRequest { group, user } => self.accept_request(actor, group, user, at, changes),
            Command::RejectRequest { group, user } => self.reject_request(actor, group, user, changes),
            Command::RemoveMember { group, user } => self.remove_member(actor, group, user, changes),
            Command::TransferGroup { group, user } => self.transfer_group(actor, group, user, changes),
            Command::DeleteGroup { group } => self.delete_group(actor, group, changes),
            Command::Publish { group, name, content, length } => {
                self.publish(actor, group, None, name, *content, *length, None, false, at, changes)
            }
            Command::Unpublish { group, name } => self.unpublish(actor, group, name, changes),
            Command::SetPolicy { group, policy } => self.set_policy(actor, group, *policy, at, changes),
            Command::RemoveFile { group, name, owner } => self.remove_file(actor, group, name, owner, changes),
            Command::Replace { group, name, content, length } => {
                self.publish(actor, group, None, name, *content, *length, None, true, at, changes)
            }
            Command::Login { user, proved } => self.enrol_node(actor, user, Some(proved), at, changes),
            Command::ChangePassword { proved, record, log_out_everywhere } => {
                self.change_password(actor, proved, record, *log_out_everywhere, changes)
            }
            Command::WithdrawNodeOfUser { node } => self.withdraw_node(actor, *node, changes),
            Command::MakePublicGroup => Ok(self.make_public_group(changes)),
            Command::PublishIn { group, born, name, content, length, replace } => {
                self.publish(actor, group, Some(*born), name, *content, *length, None, *replace, at, changes)
            }
            Command::PublishFolder { group, born, name, content, length, files, replace } => {
                self.publish(actor, group, Some(*born), name, *content, *length, Some(*files), *replace, at, changes)
            }
        }
    }

    /// Panics unless every table is as it must be and fits the others. Tests call it after every step.
    pub fn invariant(&self) {
        self.users.invariant();
        self.groups.invariant();
        self.revocations.invariant(self.epoch);
        self.remembered.invariant();
        let built_in = self.groups.by_key.values().any(groups::Group::is_built_in);
        let its_name_is_taken = self.groups.find(&GroupName::public()).is_ok();
        assert!(its_name_is_taken || !self.public_made, "the built-in group was made and is not there");
        assert!(self.public_made || !built_in, "the built-in group is there and was not made");
        assert!(self.groups.last_birth() <= self.last_birth, "a group was born after the last one");
        let listings: usize = self.groups.by_key.values().map(|group| group.files.len()).sum();
        assert_eq!(self.listings, listings, "the count of all listings is wrong");
        let of_users: usize = self.users.by_key.values().map(|user| user.listings).sum();
        assert_eq!(self.listings, of_users, "the count of all users' listings is wrong");
        let (mut memberships, mut requests) = (0, 0);
        for (user, row) in &self.users.by_key {
            assert!(row.groups.len() <= bound::GROUPS_PER_USER_MAX, "a user belongs to more groups than allowed");
            assert!(row.requested.len() <= bound::REQUESTS_PER_USER_MAX, "a user has more requests than allowed");
            assert!(row.groups.iter().all(|group| self.groups.get(group).members.contains_key(user)));
            assert!(row.requested.iter().all(|group| self.groups.get(group).requests.contains_key(user)));
            let listed: usize = self.groups.by_key.values().map(|group| group.files.count_of(user)).sum();
            assert_eq!(row.listings, listed, "the count of a user's listings is wrong");
            memberships += row.groups.len();
            requests += row.requested.len();
        }
        let (mut members, mut waiting) = (0, 0);
        for group in self.groups.by_key.values() {
            members += group.members.len();
            waiting += group.requests.len();
        }
        assert_eq!((memberships, requests), (members, waiting), "a group has a member or request that the user lacks");
    }
}
