//! The table of shares: files that this node serves in place, by user, group and name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use p2p_proto::id::ContentId;
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;

use super::record::ShareRecord;

/// What names a share.
type Key = (UserName, GroupName, FileName);

/// Every share, of whoever uses this daemon; those of the user who is logged in are active.
#[derive(Debug, Default)]
pub(super) struct Shares {
    shares: BTreeMap<Key, ShareRecord>,
    by_content: BTreeMap<ContentId, BTreeSet<Key>>,
    /// How many each user has.
    counts: BTreeMap<UserName, u32>,
    /// Files that are no longer what was shared, and why.
    broken: BTreeMap<(ContentId, PathBuf), Reject>,
    user: Option<UserName>,
}

impl Shares {
    /// The table as it was remembered; nobody is logged in.
    pub fn new(records: Vec<ShareRecord>) -> Shares {
        let mut shares = Shares::default();
        records.into_iter().for_each(|record| shares.put(record));
        shares
    }

    /// Whose shares are active.
    pub fn set_user(&mut self, user: Option<UserName>) {
        self.user = user;
    }

    /// Adds a share, or replaces the one of that name. Its file was just hashed: it is what it says.
    pub fn put(&mut self, record: ShareRecord) {
        let key = (record.user.clone(), record.group.clone(), record.name.clone());
        self.remove(&key);
        self.broken.remove(&(record.content, record.path.clone()));
        self.by_content.entry(record.content).or_default().insert(key.clone());
        *self.counts.entry(record.user.clone()).or_default() += 1;
        self.shares.insert(key, record);
    }

    /// Gives the shares of the user who is logged in that do not say so, and can be of it, to the group that was born then;
    /// those as they are now.
    pub fn adopt(&mut self, group: &GroupName, born: UnixMillis) -> Vec<ShareRecord> {
        let user = self.user.clone();
        let of_group =
            self.shares.values_mut().filter(|share| Some(&share.user) == user.as_ref() && share.group == *group);
        let adopted = of_group.filter(|share| share.may_be_for(born)).map(|share| {
            share.born = Some(born);
            share.clone()
        });
        adopted.collect()
    }

    /// Takes a share of the user who is logged in out of the table.
    pub fn take(&mut self, group: &GroupName, name: &FileName) -> Option<ShareRecord> {
        self.remove(&(self.user.clone()?, group.clone(), name.clone()))
    }

    /// The share of that name, of the user who is logged in, whether its file is good or not.
    pub fn find(&self, group: &GroupName, name: &FileName) -> Option<&ShareRecord> {
        self.shares.get(&(self.user.clone()?, group.clone(), name.clone()))
    }

    /// The file at a path no longer holds a content. True if it was shared as that and this is news.
    pub fn mark_broken(&mut self, content: ContentId, path: PathBuf, reason: Reject) -> bool {
        let keys = self.by_content.get(&content).into_iter().flatten();
        let shared = keys.filter_map(|key| self.shares.get(key)).any(|share| share.path == path);
        shared && self.broken.insert((content, path), reason).is_none()
    }

    /// The file at a path holds a content again. True if that is news.
    pub fn mark_whole(&mut self, content: ContentId, path: PathBuf) -> bool {
        self.broken.remove(&(content, path)).is_some()
    }

    /// Number of a user's shares.
    pub fn count_of(&self, user: &UserName) -> u32 {
        self.counts.get(user).copied().unwrap_or_default()
    }

    /// Shares that are served: of the user who is logged in, with a good file, not resting.
    pub fn active(&self) -> impl Iterator<Item = &ShareRecord> {
        self.of_user().filter(|share| !share.resting && self.broken(share).is_none())
    }

    /// Shares of the user who is logged in that would be served if they were wanted.
    pub fn resting(&self) -> impl Iterator<Item = &ShareRecord> {
        self.of_user().filter(|share| share.resting && self.broken(share).is_none())
    }

    /// All shares of the user who is logged in.
    pub fn of_user(&self) -> impl Iterator<Item = &ShareRecord> {
        self.shares.values().filter(|share| Some(&share.user) == self.user.as_ref())
    }

    /// Why a share is not served, if its file is not what it was.
    pub fn broken(&self, share: &ShareRecord) -> Option<&Reject> {
        self.broken.get(&(share.content, share.path.clone()))
    }

    /// A share of a content whose file is good, in whatever group, resting or not.
    pub fn with_content(&self, content: ContentId) -> Option<&ShareRecord> {
        self.good(content).next()
    }

    /// An active share of a content in one group, told from others of its name by its birth.
    pub fn in_group(&self, content: ContentId, group: &GroupName, born: UnixMillis) -> Option<&ShareRecord> {
        self.good(content).find(|share| share.group == *group && share.is_for(born) && !share.resting)
    }

    /// All contents that are shared, by whomever.
    pub fn contents(&self) -> impl Iterator<Item = ContentId> {
        self.by_content.keys().copied()
    }

    /// The shares of a content whose file is good, of the user who is logged in, resting ones among them.
    pub fn good(&self, content: ContentId) -> impl Iterator<Item = &ShareRecord> {
        let keys = self.by_content.get(&content).into_iter().flatten();
        let shares = keys.filter_map(|key| self.shares.get(key));
        shares.filter(|share| Some(&share.user) == self.user.as_ref() && self.broken(share).is_none())
    }

    fn remove(&mut self, key: &Key) -> Option<ShareRecord> {
        let record = self.shares.remove(key)?;
        if let Some(count) = self.counts.get_mut(&record.user) {
            *count = count.saturating_sub(1);
        }
        if let Some(keys) = self.by_content.get_mut(&record.content) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_content.remove(&record.content);
            }
        }
        let of_content = self.by_content.get(&record.content).into_iter().flatten();
        if !of_content.filter_map(|key| self.shares.get(key)).any(|share| share.path == record.path) {
            self.broken.remove(&(record.content, record.path.clone()));
        }
        Some(record)
    }
}
