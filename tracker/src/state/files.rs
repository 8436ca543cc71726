//! A group's table of listings, and the commands on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;

use super::bound::{LISTINGS_MAX, LISTINGS_PER_GROUP_MAX, LISTINGS_PER_USER_MAX};
use super::command::{Change, Outcome};
use super::key::{FileKey, UserKey};
use super::policy::{self, Right};
use super::{State, refusal};

/// One listing; its owner stands in its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// As it was given when it was published.
    pub name: FileName,
    pub content: ContentId,
    /// Bytes.
    pub length: u64,
    /// Number of its files, where it is a folder.
    pub files: Option<u32>,
    pub added: UnixMillis,
}

/// The listings of one group, by name and owner: two members may list different files under one name, one member may not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    listings: BTreeMap<(FileKey, UserKey), Listed>,
    /// How many listings each content has; derived.
    contents: BTreeMap<ContentId, u32>,
    /// Which listings each owner has; derived. Who goes takes theirs along without a look at those of others.
    owned: BTreeMap<UserKey, BTreeSet<FileKey>>,
}

impl Files {
    pub fn len(&self) -> usize {
        self.listings.len()
    }

    pub fn get(&self, name: &FileName, owner: &UserKey) -> Option<&Listed> {
        self.listings.get(&(FileKey::from(name), owner.clone()))
    }

    /// Whether any listing holds this content.
    pub fn holds(&self, content: &ContentId) -> bool {
        self.contents.contains_key(content)
    }

    /// All listings behind a name and owner, or from the first on, in order.
    pub fn after(&self, after: Option<(FileKey, UserKey)>) -> impl Iterator<Item = (&UserKey, &Listed)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.listings.range((start, Bound::Unbounded)).map(|((_, owner), listed)| (owner, listed))
    }

    /// All owners' listings under one name.
    pub fn named(&self, name: &FileName) -> impl Iterator<Item = (&UserKey, &Listed)> {
        let key = FileKey::from(name);
        let from = (key.clone(), UserKey::first());
        self.listings
            .range(from..)
            .take_while(move |((listed, _), _)| *listed == key)
            .map(|((_, owner), listed)| (owner, listed))
    }

    /// Everybody who has a listing, and how many.
    pub fn owners(&self) -> impl Iterator<Item = (&UserKey, usize)> {
        self.owned.iter().map(|(owner, names)| (owner, names.len()))
    }

    /// How many listings an owner has.
    pub fn count_of(&self, owner: &UserKey) -> usize {
        self.owned.get(owner).map_or(0, BTreeSet::len)
    }

    /// Adds a listing, or replaces the owner's of that name.
    pub fn insert(&mut self, owner: UserKey, listed: Listed) {
        let name = FileKey::from(&listed.name);
        *self.contents.entry(listed.content).or_default() += 1;
        self.owned.entry(owner.clone()).or_default().insert(name.clone());
        if let Some(replaced) = self.listings.insert((name, owner), listed) {
            self.forget_content(&replaced.content);
        }
    }

    /// Says of a listing that it is a folder of so many files.
    pub fn set_files(&mut self, name: &FileName, owner: UserKey, files: u32) {
        if let Some(listed) = self.listings.get_mut(&(FileKey::from(name), owner)) {
            listed.files = Some(files);
        }
    }

    fn remove(&mut self, name: &FileName, owner: &UserKey) -> Option<Listed> {
        let key = (FileKey::from(name), owner.clone());
        let listed = self.listings.remove(&key)?;
        self.forget_content(&listed.content);
        if let Some(names) = self.owned.get_mut(owner) {
            names.remove(&key.0);
            if names.is_empty() {
                self.owned.remove(owner);
            }
        }
        Some(listed)
    }

    /// Takes all listings of one member out and says how many there were.
    pub fn remove_owner(&mut self, owner: &UserKey) -> usize {
        let names = self.owned.remove(owner).unwrap_or_default();
        let count = names.len();
        for name in names {
            if let Some(listed) = self.listings.remove(&(name, owner.clone())) {
                self.forget_content(&listed.content);
            }
        }
        count
    }

    /// Counts one listing of a content less.
    fn forget_content(&mut self, content: &ContentId) {
        if let Some(count) = self.contents.get_mut(content) {
            *count -= 1;
            if *count == 0 {
                self.contents.remove(content);
            }
        }
    }

    pub fn invariant(&self) {
        assert!(self.listings.len() <= LISTINGS_PER_GROUP_MAX, "a group has more listings than allowed");
        let (mut contents, mut owned) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
        for ((key, owner), listed) in &self.listings {
            assert_eq!(*key, FileKey::from(&listed.name), "a listing is filed under another name's key");
            *contents.entry(listed.content).or_insert(0u32) += 1;
            owned.entry(owner.clone()).or_default().insert(key.clone());
        }
        assert_eq!(contents, self.contents, "the count of listings by content is wrong");
        assert_eq!(owned, self.owned, "the listings by owner are wrong");
    }
}

impl State {
    #[allow(clippy::too_many_arguments)] // The fields of one command.
    pub(super) fn publish(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        born: Option<UnixMillis>,
        name: &FileName,
        content: ContentId,
        length: u64,
        files: Option<u32>,
        replace: bool,
        at: UnixMillis,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (user, row) = policy::actor(self, actor)?;
        let (key, found) = self.groups.find(group)?;
        policy::require(self, Right::Publish, found, &user)?;
        if born.is_some_and(|born| born != found.born) {
            return Err(refusal::another_group(name, &found.name));
        }
        let is_new = match found.files.get(name, &user) {
            Some(listed) if listed.name != *name => {
                return Err(refusal::twin_file(name, &listed.name, &found.name));
            }
            Some(listed) if (listed.content, listed.length, listed.files) == (content, length, files) => {
                return Ok(Outcome::Done);
            }
            Some(_) if !replace => return Err(refusal::other_content(name, &found.name)),
            Some(_) => false,
            None => true,
        };
        if is_new && found.files.len() >= LISTINGS_PER_GROUP_MAX {
            return Err(refusal::full(format!("group `{}` has {LISTINGS_PER_GROUP_MAX} files", found.name)));
        }
        let mine_max = policy::listings_max(found);
        if is_new && found.files.count_of(&user) >= mine_max {
            return Err(refusal::full(format!("`{}` lists {mine_max} files in group `{}`", row.name, found.name)));
        }
        if is_new && row.listings >= LISTINGS_PER_USER_MAX {
            return Err(refusal::full(format!("`{}` lists {LISTINGS_PER_USER_MAX} files in all groups", row.name)));
        }
        if is_new && self.listings >= LISTINGS_MAX {
            return Err(refusal::full(format!("this tracker lists {LISTINGS_MAX} files")));
        }
        changes.push(Change::Published {
            group: found.name.clone(),
            name: name.clone(),
            owner: row.name.clone(),
            content,
        });
        if is_new {
            self.count_listings(&user, 1);
        }
        let listed = Listed { name: name.clone(), content, length, files, added: at };
        self.groups.get_mut(&key).files.insert(user, listed);
        Ok(Outcome::Done)
    }

    pub(super) fn unpublish(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        name: &FileName,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (_, row) = policy::actor(self, actor)?;
        let owner = row.name.clone();
        self.remove_file(actor, group, name, &owner, changes)
    }

    pub(super) fn remove_file(
        &mut self,
        actor: NodeId,
        group: &GroupName,
        name: &FileName,
        owner: &UserName,
        changes: &mut Vec<Change>,
    ) -> Result<Outcome, Reject> {
        let (user, _) = policy::actor(self, actor)?;
        let (key, found) = self.groups.find(group)?;
        policy::require(self, Right::Publish, found, &user)?;
        let group = found.name.clone();
        let Some((owner, row)) = self.users.find(owner).filter(|(owner, _)| found.files.get(name, owner).is_some())
        else {
            return Err(refusal::not_your_file(name, &group, owner));
        };
        if owner != user && !policy::allows(Right::Decide, found, &user) {
            let decides = found.owner.as_ref().map(|owner| self.users.name(owner));
            return Err(refusal::not_your_listing(name, &row.name, &group, decides));
        }
        let owner_name = row.name.clone();
        if let Some(listed) = self.groups.get_mut(&key).files.remove(name, &owner) {
            self.discount_listings(&owner, 1);
            changes.push(Change::Unpublished { group, name: listed.name, owner: owner_name });
        }
        Ok(Outcome::Done)
    }

    /// Counts listings of a user more.
    pub(super) fn count_listings(&mut self, owner: &UserKey, count: usize) {
        self.listings += count;
        self.users.get_mut(owner).listings += count;
    }

    /// Counts listings of a user less.
    pub(super) fn discount_listings(&mut self, owner: &UserKey, count: usize) {
        self.listings -= count;
        self.users.get_mut(owner).listings -= count;
    }
}
