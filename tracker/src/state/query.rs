//! What can be asked of the state. Pages follow the order of folded names and end after [`PAGE_ITEMS_MAX`] items.
//!
//! Counts of what is online are zero here: presence is not part of the state, the server fills them in.

use std::collections::BTreeMap;
use std::ops::Bound;

use p2p_proto::id::{ContentId, NodeId, RequestId};
use p2p_proto::limit::PAGE_ITEMS_MAX;
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{EnrolledNode, Group as GroupShown, JoinPolicy, JoinRequest, Listing, Member, OwnedRequest};

use super::command::{Outcome, Setup};
use super::files::Listed;
use super::groups::Group;
use super::key::{FileKey, GroupKey, UserKey};
use super::policy::{self, Right};
use super::{State, refusal};

/// A group that a node may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Its name as it was given when it was made.
    pub group: GroupName,
    /// [`State::epoch`], for grants.
    pub epoch: u64,
    /// When it was made: tells it from others that have had its name.
    pub born: UnixMillis,
}

/// How a content is found through a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file with it is listed.
    Listed,
    /// By its id alone.
    ById,
}

impl State {
    /// The cluster's secrets, once they have been made.
    pub fn setup(&self) -> Option<&Setup> {
        self.setup.as_ref()
    }

    /// A user's name as it was given, and OPAQUE registration record.
    pub fn record(&self, user: &UserName) -> Option<(&UserName, &[u8])> {
        self.users.find(user).map(|(_, user)| (&user.name, user.record.as_slice()))
    }

    /// Refuses a name that an account has already, or that no account can have.
    pub fn may_create(&self, user: &UserName) -> Result<(), Reject> {
        match self.users.find(user) {
            Some(_) => Err(refusal::user_exists(user)),
            None if self.public_made && *user == UserName::public() => Err(refusal::reserved_user(user)),
            None => Ok(()),
        }
    }

    /// Whether the built-in group has been made, or waits for the end of an older one that has its name.
    pub fn public_made(&self) -> bool {
        self.public_made
    }

    /// Who owns a group that stands in the place of the built-in one.
    pub fn owner_of_older_public(&self) -> Option<&UserName> {
        let (_, group) = self.groups.find(&GroupName::public()).ok()?;
        group.owner.as_ref().map(|owner| self.users.name(owner))
    }

    /// The user that a node is enrolled under.
    pub fn user_of_node(&self, node: NodeId) -> Option<&UserName> {
        self.users.of_node(node).map(|(_, user)| &user.name)
    }

    /// The nodes enrolled under a user.
    pub fn nodes_of_user(&self, user: &UserName) -> impl Iterator<Item = NodeId> {
        self.users.find(user).into_iter().flat_map(|(_, user)| user.nodes.iter().copied())
    }

    /// The nodes enrolled under the user of this one, by id.
    pub fn nodes(&self, node: NodeId) -> Result<Vec<EnrolledNode>, Reject> {
        let (_, user) = policy::actor(self, node)?;
        let since = |node| self.users.nodes.get(node).and_then(|enrolment| enrolment.since);
        Ok(user.nodes.iter().map(|node| EnrolledNode { node: *node, since: since(node), online: false }).collect())
    }

    /// What a request was answered with that has been applied already, and whose answer may have been lost.
    pub fn applied(&self, actor: NodeId, request: RequestId) -> Option<&Outcome> {
        self.remembered.find(actor, request)
    }

    /// The group, if the node may read it.
    pub fn may_read(&self, node: NodeId, group: &GroupName) -> Result<Readable, Reject> {
        let group = self.readable(node, group)?;
        Ok(Readable { group: group.name.clone(), epoch: self.epoch, born: group.born })
    }

    /// Whether everybody with an account reads a group.
    pub fn is_public(&self, group: &GroupName) -> bool {
        self.groups.find(group).is_ok_and(|(_, group)| group.policy == JoinPolicy::Public)
    }

    /// As [`State::may_read`], and this content must be one to be found through the group.
    pub fn may_read_content(&self, node: NodeId, group: &GroupName, content: &ContentId) -> Result<Readable, Reject> {
        let group = self.readable(node, group)?;
        if found_in(group, content).is_none() {
            return Err(refusal::content_not_listed(&group.name));
        }
        Ok(Readable { group: group.name.clone(), epoch: self.epoch, born: group.born })
    }

    /// How a content is found through a group, if it is.
    pub fn found(&self, group: &GroupName, content: &ContentId) -> Option<Found> {
        self.groups.find(group).ok().and_then(|(_, group)| found_in(group, content))
    }

    /// The names under which each content of a group is listed, by content.
    pub fn names(&self, group: &GroupName) -> BTreeMap<ContentId, Vec<FileName>> {
        let mut names: BTreeMap<ContentId, Vec<FileName>> = BTreeMap::new();
        if let Ok((_, found)) = self.groups.find(group) {
            for (_, listed) in found.files.after(None) {
                names.entry(listed.content).or_default().push(listed.name.clone());
            }
        }
        names
    }

    /// All groups, or those that the node's user belongs to, behind `after`.
    pub fn groups_page(&self, node: NodeId, mine: bool, after: Option<&GroupName>) -> Result<Vec<GroupShown>, Reject> {
        let (key, user) = policy::actor(self, node)?;
        let start = after.map(GroupKey::from).map_or(Bound::Unbounded, Bound::Excluded);
        let range = (start, Bound::Unbounded);
        let page = if mine {
            let groups = user.groups.range(range).take(PAGE_ITEMS_MAX);
            groups.map(|group| self.shown(self.groups.get(group), &key)).collect()
        } else {
            let groups = self.groups.by_key.range(range).take(PAGE_ITEMS_MAX);
            groups.map(|(_, group)| self.shown(group, &key)).collect()
        };
        Ok(page)
    }

    /// One group.
    pub fn group_info(&self, node: NodeId, group: &GroupName) -> Result<GroupShown, Reject> {
        let (user, _) = policy::actor(self, node)?;
        let (_, group) = self.groups.find(group)?;
        Ok(self.shown(group, &user))
    }

    /// A group's members behind `after`.
    pub fn members_page(
        &self,
        node: NodeId,
        group: &GroupName,
        after: Option<&UserName>,
    ) -> Result<Vec<Member>, Reject> {
        let group = self.readable(node, group)?;
        let start = after.map(UserKey::from).map_or(Bound::Unbounded, Bound::Excluded);
        let members = group.members.range((start, Bound::Unbounded)).take(PAGE_ITEMS_MAX);
        let shown = members.map(|(user, since)| Member {
            user: self.users.name(user).clone(),
            owner: group.owner.as_ref() == Some(user),
            since: *since,
            nodes_online: 0,
        });
        Ok(shown.collect())
    }

    /// Who waits at a group that the node's user owns, behind `after`.
    pub fn requests_page(
        &self,
        node: NodeId,
        group: &GroupName,
        after: Option<&UserName>,
    ) -> Result<Vec<JoinRequest>, Reject> {
        let (user, _) = policy::actor(self, node)?;
        let (_, group) = self.groups.find(group)?;
        policy::require(self, Right::Decide, group, &user)?;
        let start = after.map(UserKey::from).map_or(Bound::Unbounded, Bound::Excluded);
        let requests = group.requests.range((start, Bound::Unbounded)).take(PAGE_ITEMS_MAX);
        Ok(requests.map(|(user, since)| JoinRequest { user: self.users.name(user).clone(), since: *since }).collect())
    }

    /// Who waits at any group that the node's user owns, behind `after`.
    pub fn owned_requests_page(
        &self,
        node: NodeId,
        after: Option<&(GroupName, UserName)>,
    ) -> Result<Vec<OwnedRequest>, Reject> {
        let (owner, user) = policy::actor(self, node)?;
        let after = after.map(|(group, user)| (GroupKey::from(group), UserKey::from(user)));
        let first = after.as_ref().map_or(Bound::Unbounded, |(group, _)| Bound::Included(group));
        let owned = user.groups.range::<GroupKey, _>((first, Bound::Unbounded));
        let owned =
            owned.map(|key| (key, self.groups.get(key))).filter(|(_, group)| group.owner.as_ref() == Some(&owner));
        let requests = owned.flat_map(|(key, group)| {
            let begun = after.as_ref().filter(|(first, _)| first == key);
            let start = begun.map_or(Bound::Unbounded, |(_, user)| Bound::Excluded(user));
            group.requests.range::<UserKey, _>((start, Bound::Unbounded)).map(|(user, since)| OwnedRequest {
                group: group.name.clone(),
                user: self.users.name(user).clone(),
                since: *since,
            })
        });
        Ok(requests.take(PAGE_ITEMS_MAX).collect())
    }

    /// A group's listings behind `after`, by name and owner.
    pub fn files_page(
        &self,
        node: NodeId,
        group: &GroupName,
        after: Option<&(FileName, UserName)>,
    ) -> Result<Vec<Listing>, Reject> {
        let group = self.readable(node, group)?;
        let after = after.map(|(name, owner)| (FileKey::from(name), UserKey::from(owner)));
        Ok(group
            .files
            .after(after)
            .take(PAGE_ITEMS_MAX)
            .map(|(owner, listed)| self.listing(group, owner, listed))
            .collect())
    }

    /// All listings of a group under one name, or that of one owner.
    pub fn find_file(
        &self,
        node: NodeId,
        group: &GroupName,
        name: &FileName,
        owner: Option<&UserName>,
    ) -> Result<Vec<Listing>, Reject> {
        let group = self.readable(node, group)?;
        let found: Vec<_> = match owner.map(UserKey::from) {
            Some(owner) => {
                group.files.get(name, &owner).map(|listed| self.listing(group, &owner, listed)).into_iter().collect()
            }
            None => group
                .files
                .named(name)
                .take(PAGE_ITEMS_MAX)
                .map(|(owner, listed)| self.listing(group, owner, listed))
                .collect(),
        };
        match owner {
            _ if !found.is_empty() => Ok(found),
            Some(owner) => Err(refusal::not_your_file(name, &group.name, owner)),
            None => Err(refusal::file_not_found(name, &group.name)),
        }
    }

    /// How many users, groups and listings there are.
    pub fn counts(&self) -> [usize; 3] {
        [self.users.by_key.len(), self.groups.by_key.len(), self.listings]
    }

    /// How many rows there are in all tables, as a measure of what a snapshot costs.
    pub fn rows(&self) -> usize {
        self.listings + self.users.by_key.len() + self.users.nodes.len() + self.groups.by_key.len()
    }

    fn readable(&self, node: NodeId, group: &GroupName) -> Result<&Group, Reject> {
        let (user, _) = policy::actor(self, node)?;
        let (_, group) = self.groups.find(group)?;
        policy::require(self, Right::Read, group, &user)?;
        Ok(group)
    }

    fn shown(&self, group: &Group, asker: &UserKey) -> GroupShown {
        // Both counts are bounded far below u32::MAX by `bound`.
        GroupShown {
            group: group.name.clone(),
            owner: group.owner.as_ref().map_or_else(UserName::public, |owner| self.users.name(owner).clone()),
            policy: group.policy,
            members: group.members.len() as u32,
            files: group.files.len() as u32,
            standing: group.standing(asker),
            born: group.born,
        }
    }

    fn listing(&self, group: &Group, owner: &UserKey, listed: &Listed) -> Listing {
        Listing {
            name: listed.name.clone(),
            owner: self.users.name(owner).clone(),
            content: listed.content,
            length: listed.length,
            added: listed.added,
            seeders: 0,
            partial: 0,
            born: group.born,
            files: listed.files,
        }
    }
}

fn found_in(group: &Group, content: &ContentId) -> Option<Found> {
    if group.files.holds(content) {
        return Some(Found::Listed);
    }
    policy::finds_unlisted(group).then_some(Found::ById)
}
