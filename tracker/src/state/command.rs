//! Commands: everything that can change the state, as it stands in the log, and what comes of one.
//!
//! The order of variants and fields is the log's format (postcard): new ones go to the end of [`Command`] and
//! [`Outcome`], and `log::record` gets a new version when an old one changes.

use p2p_proto::id::{ContentId, NodeId, RequestId};
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::Reject;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Answer, JoinPolicy, Joined, Standing};
use serde::{Deserialize, Serialize};

/// One command in its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The request that it answers, chosen by who asks; together with `actor` it tells a retry.
    pub request: RequestId,
    /// The key that asked, proved by its connection. The state knows whose it is when the entry is applied.
    pub actor: NodeId,
    /// When it was proposed, by the proposer's clock. The state has no other clock.
    pub at: UnixMillis,
    /// What to change.
    pub command: Command,
}

/// Everything that can change the state. In JSON, which is for people, variants have the names of verbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Keeps the cluster's secrets, made by the first proposer. The first one counts, later ones change nothing.
    Initialize(Setup),
    /// New account. The actor needs none.
    CreateUser {
        /// Its name.
        user: UserName,
        /// OPAQUE registration record: with it a password can be checked, not learned.
        record: Vec<u8>,
    },
    /// Puts the actor's key under a user, whose password the proposer has checked. Of older logs; now it is
    /// [`Command::Login`].
    EnrolNode {
        /// Whose it is from now on.
        user: UserName,
    },
    /// Takes the actor's key from its user.
    WithdrawNode,
    /// New group, owned by the actor's user.
    CreateGroup {
        /// Its name.
        group: GroupName,
        /// Who may join.
        policy: JoinPolicy,
    },
    /// Joins, or asks to.
    JoinGroup {
        /// Which group.
        group: GroupName,
    },
    /// Leaves, or takes a request back.
    LeaveGroup {
        /// Which group.
        group: GroupName,
        /// Also as its last member, which ends it.
        force: bool,
    },
    /// Lets in who asked.
    AcceptRequest {
        /// Which group.
        group: GroupName,
        /// Who waits.
        user: UserName,
    },
    /// Turns away who asked.
    RejectRequest {
        /// Which group.
        group: GroupName,
        /// Who waits.
        user: UserName,
    },
    /// Takes a member out.
    RemoveMember {
        /// Which group.
        group: GroupName,
        /// Who goes.
        user: UserName,
    },
    /// Hands the group to another member.
    TransferGroup {
        /// Which group.
        group: GroupName,
        /// The new owner.
        user: UserName,
    },
    /// Ends the group.
    DeleteGroup {
        /// Which group.
        group: GroupName,
    },
    /// Lists a file.
    Publish {
        /// In which group.
        group: GroupName,
        /// Its name there.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Bytes.
        length: u64,
    },
    /// Takes the actor's own listing out.
    Unpublish {
        /// Of which group.
        group: GroupName,
        /// Its name there.
        name: FileName,
    },
    /// Changes who may join; who waits is let in where nobody has to decide any more.
    SetPolicy {
        /// Of which group.
        group: GroupName,
        /// From now on.
        policy: JoinPolicy,
    },
    /// Takes one owner's listing out: the actor's own, or, as the group's owner, anybody's.
    RemoveFile {
        /// Of which group.
        group: GroupName,
        /// Its name there.
        name: FileName,
        /// Whose listing.
        owner: UserName,
    },
    /// As [`Command::Publish`], in the place of what the actor lists under that name.
    Replace {
        /// In which group.
        group: GroupName,
        /// Its name there.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Bytes.
        length: u64,
    },
    /// Puts the actor's key under a user, whose password the proposer has checked. Refused where the password has been
    /// changed since, so that nobody gets in by one that is no longer right.
    Login {
        /// Whose it is from now on.
        user: UserName,
        /// The registration record that the password was checked against.
        proved: Vec<u8>,
    },
    /// Gives the actor's user another password. The proposer has checked the old one.
    ChangePassword {
        /// The registration record that the old password was checked against: of two changes at once, one is refused.
        proved: Vec<u8>,
        /// From now on.
        record: Vec<u8>,
        /// Also takes every other key from the user.
        log_out_everywhere: bool,
    },
    /// Takes a key, the actor's own or another, from the actor's user.
    WithdrawNodeOfUser {
        /// Which.
        node: NodeId,
    },
    /// Makes the built-in group `public` and takes its name, for groups and users alike. The first one counts, later ones
    /// change nothing. In the log, so that what was accepted before it still means what it meant then.
    MakePublicGroup,
    /// As [`Command::Publish`] or [`Command::Replace`], in the group of that name that was born then. Refused where another
    /// one has the name: who prepared it meant the one before.
    PublishIn {
        /// In which group.
        group: GroupName,
        /// When it was born.
        born: UnixMillis,
        /// The file's name there.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Bytes.
        length: u64,
        /// In the place of what the actor lists under that name.
        replace: bool,
    },
    /// As [`Command::PublishIn`], for a folder.
    PublishFolder {
        /// In which group.
        group: GroupName,
        /// When it was born.
        born: UnixMillis,
        /// The folder's name there.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Bytes of all its files.
        length: u64,
        /// Number of its files.
        files: u32,
        /// In the place of what the actor lists under that name.
        replace: bool,
    },
}

/// Secrets of the whole cluster: made once, the same on every tracker, never sent to anybody else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// OPAQUE `ServerSetup`.
    pub server_setup: Vec<u8>,
    /// The key that grants are signed with.
    pub cluster_key: Vec<u8>,
}

impl std::fmt::Debug for Setup {
    /// Without the secrets: entries are logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").finish_non_exhaustive()
    }
}

/// What an applied entry is answered with, and what it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The answer to who asked.
    pub reply: Result<Outcome, Reject>,
    /// What changed, in order; empty for a refusal, a retry and a command that found everything as it wanted it.
    pub changes: Vec<Change>,
}

/// The answer to a command that was not refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The actor's user is a member now.
    Joined,
    /// The actor's user waits to be let in.
    Waiting {
        /// Who decides.
        owner: UserName,
    },
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Done => Answer::Done,
            Outcome::Joined => Answer::Joined(Joined::Member),
            Outcome::Waiting { owner } => Answer::Joined(Joined::Waiting { owner }),
        }
    }
}

/// One thing that an entry changed: what the operator's log, the nodes online and the presence table hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An account was made.
    UserCreated {
        /// Its name.
        user: UserName,
    },
    /// A node was put under a user.
    Enrolled {
        /// Which node.
        node: NodeId,
        /// Whose it is now.
        user: UserName,
    },
    /// A node belongs to nobody any more.
    Withdrawn {
        /// Which node.
        node: NodeId,
        /// Whose it was.
        user: UserName,
        /// What it was granted in an earlier epoch is void, in every group.
        epoch: u64,
    },
    /// A group was made.
    GroupCreated {
        /// Its name.
        group: GroupName,
        /// Its owner.
        owner: UserName,
        /// Who may join.
        policy: JoinPolicy,
    },
    /// The built-in group is there from now on.
    PublicGroupMade,
    /// A group is gone, with its listings.
    GroupEnded {
        /// Its name.
        group: GroupName,
        /// Number of its members' nodes.
        nodes: usize,
    },
    /// A user stands otherwise to a group than before.
    Membership {
        /// Which group.
        group: GroupName,
        /// Who.
        user: UserName,
        /// How, from now on.
        standing: Standing,
    },
    /// A user waits to be let in.
    JoinRequested {
        /// Which group.
        group: GroupName,
        /// Who decides.
        owner: UserName,
        /// Who waits.
        user: UserName,
    },
    /// Nodes that may not read a group any more.
    AccessLost {
        /// Which group.
        group: GroupName,
        /// Which nodes.
        nodes: Vec<NodeId>,
        /// What they were granted in an earlier epoch is void.
        epoch: u64,
    },
    /// Whoever reads a group has to be granted it anew.
    GrantsVoided {
        /// Which group.
        group: GroupName,
        /// What was granted in an earlier epoch is void.
        epoch: u64,
    },
    /// A file was listed, or another content under the same name.
    Published {
        /// In which group.
        group: GroupName,
        /// Its name there.
        name: FileName,
        /// Who lists it.
        owner: UserName,
        /// What it holds.
        content: ContentId,
    },
    /// Another policy than before. Who read a public group without belonging to it is known to presence alone, which
    /// has to ask the state again who may.
    PolicyChanged {
        /// Of which group.
        group: GroupName,
        /// From now on.
        policy: JoinPolicy,
    },
    /// A listing was taken out.
    Unpublished {
        /// Of which group.
        group: GroupName,
        /// Its name there.
        name: FileName,
        /// Whose it was.
        owner: UserName,
    },
    /// A user has another password.
    PasswordChanged {
        /// Whose.
        user: UserName,
    },
}
