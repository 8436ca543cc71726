//! The whole state as bytes and back: what the log starts from, and what a new tracker of a cluster is sent.
//!
//! ```text
//! 0         1
//! +---------+-------------+-----------+
//! | version |  tables     |  sections |    version: u8, 2; tables: SnapshotV1, postcard; sections: a list of Section
//! +---------+-------------+-----------+
//! ```
//!
//! A table that comes later is a section of its own, behind the others; version 1 has none.
//!
//! Only what cannot be derived is written: keys are folded from names again, indexes are rebuilt. Two equal states have
//! equal bytes, since every table is written in the order of its keys.

use p2p_proto::codec::{self, CodecError};
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::JoinPolicy;
use serde::{Deserialize, Serialize};

use super::State;
use super::command::Setup;
use super::files::{Files, Listed};
use super::groups::Group;
use super::key::{GroupKey, UserKey};
use super::remembered::{Remembered, RememberedRow};
use super::revocations::{RevocationRows, Revocations};

/// The version that is written. 1: the first, without sections. 2: sections behind it.
const SNAPSHOT_VERSION: u8 = 2;

/// Why bytes are not a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a later version of the program, or not a snapshot.
    #[error("a snapshot of version {0} where this program knows version {SNAPSHOT_VERSION}")]
    Version(u8),
    /// No bytes at all.
    #[error("an empty snapshot")]
    Empty,
    /// Not an encoding of one.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Tables that do not fit each other.
    #[error("a snapshot names the user `{0}`, whom it does not hold")]
    UnknownUser(UserName),
    /// As [`SnapshotError::UnknownUser`].
    #[error("a snapshot names the node {0}, which belongs to nobody in it")]
    UnknownNode(NodeId),
}

/// The tables that version 1 had.
#[derive(Serialize, Deserialize)]
struct SnapshotV1 {
    setup: Option<Setup>,
    epoch: u64,
    users: Vec<UserRow>,
    groups: Vec<GroupRow>,
    remembered: Vec<RememberedRow>,
}

/// The built-in group; with an older group of its name among the others, it has yet to take its place.
#[derive(Serialize, Deserialize)]
struct PublicRow {
    files: Vec<FileRow>,
}

/// A table that version 1 did not have. New ones go to the end, each is written once at the most.
#[derive(Serialize, Deserialize)]
enum Section {
    Revocations(RevocationRows),
    /// Once it has been made.
    PublicGroup(PublicRow),
    /// When each node was enrolled, by id, where that is known.
    Enrolled(Vec<(NodeId, UnixMillis)>),
    /// When the latest group was born, where that one is gone.
    LastBirth(UnixMillis),
    /// The listings that are folders.
    Folders(Vec<FolderRow>),
}

/// A listing of some group that is a folder.
#[derive(Serialize, Deserialize)]
struct FolderRow {
    group: GroupName,
    name: FileName,
    owner: UserName,
    files: u32,
}

#[derive(Serialize, Deserialize)]
struct UserRow {
    name: UserName,
    record: Vec<u8>,
    created: UnixMillis,
    nodes: Vec<NodeId>,
}

#[derive(Serialize, Deserialize)]
struct GroupRow {
    name: GroupName,
    owner: UserName,
    policy: JoinPolicy,
    /// In older snapshots simply the time at which it was made.
    born: UnixMillis,
    /// The group's own epoch in version 1; 0 since grants carry the state's.
    epoch: u64,
    members: Vec<(UserName, UnixMillis)>,
    requests: Vec<(UserName, UnixMillis)>,
    files: Vec<FileRow>,
}

#[derive(Serialize, Deserialize)]
struct FileRow {
    name: FileName,
    owner: UserName,
    content: ContentId,
    length: u64,
    added: UnixMillis,
}

impl State {
    /// The whole state as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let users = self.users.by_key.values().map(|user| UserRow {
            name: user.name.clone(),
            record: user.record.clone(),
            created: user.created,
            nodes: user.nodes.iter().copied().collect(),
        });
        let first = SnapshotV1 {
            setup: self.setup.clone(),
            epoch: self.epoch,
            users: users.collect(),
            groups: self.groups.by_key.values().filter_map(|group| self.group_row(group)).collect(),
            remembered: self.remembered.rows().collect(),
        };
        let enrolled = self.users.nodes.iter().filter_map(|(node, enrolment)| Some((*node, enrolment.since?)));
        let built_in = self.groups.by_key.values().find(|group| group.is_built_in());
        let public = self
            .public_made
            .then(|| PublicRow { files: built_in.map_or_else(Vec::new, |group| self.file_rows(group)) });
        let mut sections = vec![Section::Revocations(self.revocations.rows())];
        sections.extend(public.map(Section::PublicGroup));
        sections.push(Section::Enrolled(enrolled.collect()));
        if self.last_birth > self.groups.last_birth() {
            sections.push(Section::LastBirth(self.last_birth));
        }
        let folders: Vec<_> = self.groups.by_key.values().flat_map(|group| self.folder_rows(group)).collect();
        if !folders.is_empty() {
            sections.push(Section::Folders(folders));
        }
        let mut bytes = vec![SNAPSHOT_VERSION];
        bytes.extend(codec::encode(&(first, sections)));
        bytes
    }

    /// The state that `bytes` hold.
    pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
        let (snapshot, sections): (SnapshotV1, Vec<Section>) = match bytes {
            [] => return Err(SnapshotError::Empty),
            [1, body @ ..] => (codec::decode(body)?, Vec::new()),
            [SNAPSHOT_VERSION, body @ ..] => codec::decode(body)?,
            [version, ..] => return Err(SnapshotError::Version(*version)),
        };
        let mut state = State {
            setup: snapshot.setup,
            epoch: snapshot.epoch,
            remembered: Remembered::from_rows(snapshot.remembered),
            ..State::default()
        };
        for row in snapshot.users {
            let key = UserKey::from(&row.name);
            state.users.insert(row.name, row.record, row.created);
            for node in row.nodes {
                state.users.enrol(node, key.clone(), None);
            }
        }
        for row in snapshot.groups {
            state.insert_group(row)?;
        }
        state.last_birth = state.groups.last_birth();
        for section in sections {
            match section {
                Section::Revocations(rows) => state.revocations = Revocations::from_rows(rows),
                Section::PublicGroup(row) => {
                    state.public_made = true;
                    if state.groups.find(&GroupName::public()).is_err() {
                        let files = state.files(row.files)?;
                        state.insert_public(files);
                    }
                }
                Section::Enrolled(rows) => {
                    for (node, since) in rows {
                        let enrolment = state.users.nodes.get_mut(&node).ok_or(SnapshotError::UnknownNode(node))?;
                        enrolment.since = Some(since);
                    }
                }
                Section::LastBirth(at) => state.last_birth = state.last_birth.max(at),
                Section::Folders(rows) => {
                    for FolderRow { group, name, owner, files } in rows {
                        let owner = state.known(owner)?;
                        let group = state.groups.by_key.get_mut(&GroupKey::from(&group));
                        // A row of a listing that is not there says nothing.
                        if let Some(group) = group {
                            group.files.set_files(&name, owner, files);
                        }
                    }
                }
            }
        }
        Ok(state)
    }

    /// A group's row; `None` for the built-in one, whose row stands apart.
    fn group_row(&self, group: &Group) -> Option<GroupRow> {
        let named = |(user, since): (&UserKey, &UnixMillis)| (self.users.name(user).clone(), *since);
        Some(GroupRow {
            name: group.name.clone(),
            owner: self.users.name(group.owner.as_ref()?).clone(),
            policy: group.policy,
            born: group.born,
            epoch: 0,
            members: group.members.iter().map(named).collect(),
            requests: group.requests.iter().map(named).collect(),
            files: self.file_rows(group),
        })
    }

    fn file_rows(&self, group: &Group) -> Vec<FileRow> {
        let rows = group.files.after(None).map(|(owner, listed)| FileRow {
            name: listed.name.clone(),
            owner: self.users.name(owner).clone(),
            content: listed.content,
            length: listed.length,
            added: listed.added,
        });
        rows.collect()
    }

    fn folder_rows<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = FolderRow> + 'a {
        group.files.after(None).filter_map(|(owner, listed)| {
            let (name, owner) = (listed.name.clone(), self.users.name(owner).clone());
            Some(FolderRow { group: group.name.clone(), name, owner, files: listed.files? })
        })
    }

    fn insert_group(&mut self, row: GroupRow) -> Result<(), SnapshotError> {
        let key = GroupKey::from(&row.name);
        let mut group = Group {
            name: row.name,
            owner: Some(self.known(row.owner)?),
            policy: row.policy,
            born: row.born,
            members: Default::default(),
            requests: Default::default(),
            files: self.files(row.files)?,
        };
        for (owner, count) in group.files.owners() {
            self.count_listings(owner, count);
        }
        for (user, since) in row.members {
            let user = self.known(user)?;
            self.users.get_mut(&user).groups.insert(key.clone());
            group.members.insert(user, since);
        }
        for (user, since) in row.requests {
            let user = self.known(user)?;
            self.users.get_mut(&user).requested.insert(key.clone());
            group.requests.insert(user, since);
        }
        self.groups.by_key.insert(key, group);
        Ok(())
    }

    fn files(&self, rows: Vec<FileRow>) -> Result<Files, SnapshotError> {
        let mut files = Files::default();
        for row in rows {
            let listed =
                Listed { name: row.name, content: row.content, length: row.length, files: None, added: row.added };
            files.insert(self.known(row.owner)?, listed);
        }
        Ok(files)
    }

    /// The shared key of a user that the snapshot holds.
    fn known(&self, user: UserName) -> Result<UserKey, SnapshotError> {
        match self.users.find(&user) {
            Some((key, _)) => Ok(key),
            None => Err(SnapshotError::UnknownUser(user)),
        }
    }
}
