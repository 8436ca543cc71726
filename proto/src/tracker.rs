//! Messages between a daemon (or an operator's tool) and a tracker.
//!
//! The daemon opens the first bidirectional stream with [`Hello`]; the tracker answers [`HelloAck`] and then opens one
//! unidirectional stream that carries [`Event`] frames for as long as the connection lives. Every request has a
//! bidirectional stream of its own: one [`Envelope`] out, one [`Replied`] back, both ends finish. Three exchanges have
//! two rounds on their stream, because the tracker keeps a secret between them: `RegisterStart`, `RegisterFinish`,
//! `LoginStart`, `LoginFinish` and `ChangePasswordStart`, `ChangePasswordFinish` (OPAQUE, RFC 9807, sections 5 and 6).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::grant::{ClusterKey, Grant};
use crate::id::{ContentId, NodeId, RequestId};
use crate::name::{FileName, GroupName, UserName};
use crate::reject::Reject;
use crate::time::UnixMillis;

/// A daemon's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version spoken ([`crate::version::TRACKER_PROTOCOL`]).
    pub version: u16,
    /// Name and version of the program, for logs; at most [`crate::limit::SOFTWARE_BYTES_MAX`] bytes.
    pub software: String,
    /// Addresses in the daemon's own networks, for peers that the tracker sees at the same address as it;
    /// at most [`crate::limit::NODE_ADDRESSES_MAX`].
    pub local_addresses: Vec<SocketAddr>,
}

/// The tracker's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {
    /// Protocol version spoken.
    pub version: u16,
    /// Name and version of the program, for logs.
    pub software: String,
    /// Key that grants of this tracker's cluster are signed with.
    pub cluster: ClusterKey,
    /// The tracker's clock.
    pub time: UnixMillis,
    /// The address that the daemon is seen at.
    pub observed: SocketAddr,
    /// The user that the daemon's key is enrolled under.
    pub user: Option<UserName>,
    /// Whether changes are decided here (always, for a single tracker).
    pub leader: bool,
    /// Whether `user` is true now. Without a majority of its cluster a tracker tells what it knew last.
    pub current: bool,
    /// As [`Knowledge::place`].
    pub place: u64,
}

/// One request, with the id that makes a retry safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Chosen at random by who asks; the same again for a retry.
    pub id: RequestId,
    /// The last [`Knowledge::place`] that who asks has heard of: a tracker that knows less tries to come there before it
    /// answers, so that nobody misses what they have changed themselves. 0 for none.
    pub seen: u64,
    /// What is asked.
    pub request: Request,
}

/// Who may join a group, and how. Numbers are part of the disk and wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinPolicy {
    /// The owner decides.
    Approval,
    /// Anybody with an account joins at once.
    Open,
    /// Anybody with an account reads without joining, and joins at once.
    Public,
}

/// What can be asked of a tracker. Who asks is known from the connection's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// New account, first round: OPAQUE registration request. Answered by [`Answer::Challenge`].
    RegisterStart {
        /// The account's name.
        user: UserName,
        /// OPAQUE `RegistrationRequest`.
        message: Vec<u8>,
    },
    /// New account, second round, on the same stream. Answered by [`Answer::Done`].
    RegisterFinish {
        /// OPAQUE `RegistrationRecord`.
        record: Vec<u8>,
    },
    /// Login, first round. Answered by [`Answer::Challenge`], also for a user that does not exist.
    LoginStart {
        /// The account's name.
        user: UserName,
        /// OPAQUE `KE1`.
        message: Vec<u8>,
    },
    /// Login, second round, on the same stream: enrols this connection's key under the user. Answered by [`Answer::Done`].
    LoginFinish {
        /// OPAQUE `KE3`.
        proof: Vec<u8>,
    },
    /// Withdraws the enrolment of this connection's key.
    Logout,
    /// New group, owned by who asks.
    CreateGroup {
        /// Its name.
        group: GroupName,
        /// Who may join.
        policy: JoinPolicy,
    },
    /// Joins, or asks to. Answered by [`Answer::Joined`].
    JoinGroup {
        /// Which group.
        group: GroupName,
    },
    /// Leaves; also takes back a request to join.
    LeaveGroup {
        /// Which group.
        group: GroupName,
        /// The last member ends the group by leaving; only with this.
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
        /// The new owner, a member already.
        user: UserName,
    },
    /// Ends the group with all its listings.
    DeleteGroup {
        /// Which group.
        group: GroupName,
    },
    /// Lists a file in a group. The same again is no change; the name with another content is refused, unless it is to
    /// be replaced.
    Publish {
        /// Which group.
        group: GroupName,
        /// The file's name there.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Bytes.
        length: u64,
        /// Takes the place of one's own listing of that name; at no moment is there none.
        replace: bool,
        /// When the group was born that it is meant for ([`Group::born`]); refused where another one has the name. `None`:
        /// whichever has it.
        born: Option<UnixMillis>,
    },
    /// Takes a listing out of the group: one's own, or, as the group's owner, anybody's.
    Unpublish {
        /// Which group.
        group: GroupName,
        /// The file's name.
        name: FileName,
        /// Whose listing; one's own where it is not said.
        owner: Option<UserName>,
    },
    /// All groups, by name. Answered by [`Answer::Groups`].
    ListGroups {
        /// Only those that who asks belongs to.
        mine: bool,
        /// Continue behind this one.
        after: Option<GroupName>,
    },
    /// One group. Answered by [`Answer::Groups`] with one entry.
    GroupInfo {
        /// Which.
        group: GroupName,
    },
    /// A group's members, by name. Answered by [`Answer::Members`].
    ListMembers {
        /// Which group.
        group: GroupName,
        /// Continue behind this one.
        after: Option<UserName>,
    },
    /// Who waits to be let in; the owner asks. Answered by [`Answer::Requests`].
    ListRequests {
        /// Which group.
        group: GroupName,
        /// Continue behind this one.
        after: Option<UserName>,
    },
    /// A group's files, by name and owner. Answered by [`Answer::Files`].
    ListFiles {
        /// Which group.
        group: GroupName,
        /// Continue behind this one.
        after: Option<(FileName, UserName)>,
    },
    /// All listings under one name. Answered by [`Answer::Files`]; none is `file_not_found`.
    FindFile {
        /// Which group.
        group: GroupName,
        /// The file's name.
        name: FileName,
        /// Only this publisher's.
        owner: Option<UserName>,
    },
    /// Who is online with a content. Answered by [`Answer::Providers`].
    Lookup {
        /// Through which group.
        group: GroupName,
        /// Which content.
        content: ContentId,
    },
    /// Statement that this node may read the group. Answered by [`Answer::Grant`].
    Grant {
        /// Which group.
        group: GroupName,
    },
    /// What this node has. Soft state: gone with the connection. Answered by [`Answer::Done`].
    Announce(Announce),
    /// Changes who may join a group; the owner asks.
    SetPolicy {
        /// Which group.
        group: GroupName,
        /// From now on.
        policy: JoinPolicy,
    },
    /// The nodes enrolled under this user, by id. Answered by [`Answer::Nodes`].
    ListNodes,
    /// Withdraws the enrolment of another node of this user.
    WithdrawNode {
        /// Which.
        node: NodeId,
    },
    /// Another password, first round: proves the old one and registers the new one. Answered by
    /// [`Answer::PasswordChallenge`]. Both rounds have one id; under the id of a change that was made already, whose
    /// answer was lost, this is answered by [`Answer::Done`].
    ChangePasswordStart {
        /// OPAQUE `KE1`, with the old password.
        login: Vec<u8>,
        /// OPAQUE `RegistrationRequest`, with the new one.
        registration: Vec<u8>,
    },
    /// Another password, second round, on the same stream. Answered by [`Answer::Done`].
    ChangePasswordFinish {
        /// OPAQUE `KE3`, with the old password.
        proof: Vec<u8>,
        /// OPAQUE `RegistrationRecord`, with the new one.
        record: Vec<u8>,
        /// Also withdraws the enrolment of every other node of this user.
        log_out_everywhere: bool,
    },
    /// Requests to join any group that this user owns, by group and user. Answered by [`Answer::OwnedRequests`].
    ListOwnedRequests {
        /// Continue behind this one.
        after: Option<(GroupName, UserName)>,
    },
    /// What this node would share again if somebody asked for it and nobody else online had it; `complete` says
    /// nothing here. Soft state beside [`Request::Announce`]'s. Answered by [`Answer::Done`].
    Standby(Announce),
    /// Lists a folder as [`Request::Publish`] does a file.
    PublishFolder {
        /// Which group.
        group: GroupName,
        /// When the group was born that it is meant for.
        born: UnixMillis,
        /// The folder's name there.
        name: FileName,
        /// What it holds.
        content: ContentId,
        /// Bytes of all its files.
        length: u64,
        /// Number of its files, as its publisher says; what is downloaded goes by the manifest.
        files: u32,
        /// Takes the place of one's own listing of that name.
        replace: bool,
    },
}

impl Request {
    /// Whether it changes nothing, so that it may be asked of several trackers at once.
    pub fn is_read(&self) -> bool {
        match self {
            Request::ListGroups { .. }
            | Request::GroupInfo { .. }
            | Request::ListMembers { .. }
            | Request::ListRequests { .. }
            | Request::ListOwnedRequests { .. }
            | Request::ListFiles { .. }
            | Request::FindFile { .. }
            | Request::Lookup { .. }
            | Request::Grant { .. }
            | Request::ListNodes => true,
            Request::RegisterStart { .. }
            | Request::RegisterFinish { .. }
            | Request::LoginStart { .. }
            | Request::LoginFinish { .. }
            | Request::ChangePasswordStart { .. }
            | Request::ChangePasswordFinish { .. }
            | Request::Logout
            | Request::WithdrawNode { .. }
            | Request::CreateGroup { .. }
            | Request::JoinGroup { .. }
            | Request::LeaveGroup { .. }
            | Request::AcceptRequest { .. }
            | Request::RejectRequest { .. }
            | Request::RemoveMember { .. }
            | Request::TransferGroup { .. }
            | Request::DeleteGroup { .. }
            | Request::SetPolicy { .. }
            | Request::Publish { .. }
            | Request::Unpublish { .. }
            | Request::Announce(_)
            | Request::Standby(_)
            | Request::PublishFolder { .. } => false,
        }
    }
}

/// What a node has online.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Forget what was announced before.
    pub replace: bool,
    /// New or changed; at most [`crate::limit::PAGE_ITEMS_MAX`].
    pub present: Vec<Presence>,
    /// No longer here; at most [`crate::limit::PAGE_ITEMS_MAX`].
    pub withdrawn: Vec<(GroupName, ContentId)>,
}

/// One content of one group on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Through which group.
    pub group: GroupName,
    /// Which content.
    pub content: ContentId,
    /// All pieces (a seeder) or some, perhaps none yet (a leecher).
    pub complete: bool,
    /// When that group was born ([`Group::born`]): it counts only while that one has the name. `None` where it is not known
    /// (what was kept before groups had it), which [`Event::Born`] answers.
    pub born: Option<UnixMillis>,
}

/// What comes of a request.
pub type Reply = Result<Answer, Reject>;

/// What comes back for every frame that a daemon sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replied {
    /// What came of it.
    pub reply: Reply,
    /// How much the tracker knew that says so.
    pub knowledge: Knowledge,
}

/// How much a tracker knew when it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knowledge {
    /// Whether it was all that had been acknowledged by then. Without a majority of its cluster a tracker tells what it knew
    /// last.
    pub current: bool,
    /// How far in the cluster's log it was: of two trackers of a cluster, or two answers, the larger one knew more. A place of
    /// a later epoch is larger than all of an earlier one.
    pub place: u64,
}

/// Places of an epoch, which begin at a multiple of it: more than are used up in a hundred thousand years of one every second.
pub const EPOCH_PLACES: u64 = 1 << 40;

/// The epoch that a place of the log belongs to. The second of two trackers begins one when it takes over from the first: what
/// that one says from then on, of an earlier epoch, is old.
pub fn epoch_of(place: u64) -> u64 {
    place / EPOCH_PLACES
}

/// The tracker's answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is done, and on disk if it was a change of users, groups or files.
    Done,
    /// First round of an OPAQUE exchange: `RegistrationResponse` or `KE2`.
    Challenge(Vec<u8>),
    /// Whether the group was joined at once.
    Joined(Joined),
    /// A page of groups; more follow if it is full ([`crate::limit::PAGE_ITEMS_MAX`]).
    Groups(Vec<Group>),
    /// A page of members.
    Members(Vec<Member>),
    /// A page of requests to join.
    Requests(Vec<JoinRequest>),
    /// A page of listings.
    Files(Vec<Listing>),
    /// Who is online with a content.
    Providers(Providers),
    /// The statement asked for.
    Grant(Grant),
    /// Enrolled nodes.
    Nodes(Vec<EnrolledNode>),
    /// First round of a change of password.
    PasswordChallenge {
        /// OPAQUE `KE2`, for the old password.
        login: Vec<u8>,
        /// OPAQUE `RegistrationResponse`, for the new one.
        registration: Vec<u8>,
    },
    /// A page of requests to join this user's groups; more follow if it is full.
    OwnedRequests(Vec<OwnedRequest>),
}

/// What became of a request to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Joined {
    /// A member now.
    Member,
    /// Waiting for this owner.
    Waiting {
        /// Who decides.
        owner: UserName,
    },
}

/// How who asks stands to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its owner, a member too.
    Owner,
    /// A member.
    Member,
    /// Has asked to join.
    Requested,
    /// Nothing to do with it.
    None,
}

/// A group as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub group: GroupName,
    /// Who decides; for the built-in group the name that is nobody's, [`crate::name::PUBLIC`].
    pub owner: UserName,
    /// Who may join.
    pub policy: JoinPolicy,
    /// Number of members, the owner among them; 0 for the built-in group.
    pub members: u32,
    /// Number of listings.
    pub files: u32,
    /// How who asks stands to it.
    pub standing: Standing,
    /// When it was made, by the tracker's clock, and later than any group made before it: tells it from others that have
    /// had its name. [`BUILT_IN_BORN`] for the built-in group.
    pub born: UnixMillis,
}

/// When the built-in group was born: before any other, at every tracker.
pub const BUILT_IN_BORN: UnixMillis = UnixMillis(0);

impl Group {
    /// Whether it is the built-in group `public`: any other has at least its owner as a member.
    pub fn is_built_in(&self) -> bool {
        self.members == 0 && self.group == GroupName::public()
    }

    /// Whether the user who was told of it may publish in it.
    pub fn is_published_in(&self) -> bool {
        self.is_built_in() || matches!(self.standing, Standing::Owner | Standing::Member)
    }
}

/// A member as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub user: UserName,
    /// Whether it is the owner.
    pub owner: bool,
    /// Since when.
    pub since: UnixMillis,
    /// Number of the member's nodes that are online.
    pub nodes_online: u32,
}

/// Somebody who waits to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Who.
    pub user: UserName,
    /// Since when.
    pub since: UnixMillis,
}

/// Somebody who waits to be let into a group of who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedRequest {
    /// Which group.
    pub group: GroupName,
    /// Who.
    pub user: UserName,
    /// Since when.
    pub since: UnixMillis,
}

/// A node that is logged in under a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolledNode {
    /// Its id.
    pub node: NodeId,
    /// When it logged in; `None` where an older tracker took it in.
    pub since: Option<UnixMillis>,
    /// Whether it is connected to the tracker that answers.
    pub online: bool,
}

/// A file in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its name there.
    pub name: FileName,
    /// Who published it.
    pub owner: UserName,
    /// What it holds.
    pub content: ContentId,
    /// Bytes.
    pub length: u64,
    /// When it was published.
    pub added: UnixMillis,
    /// Nodes online with all of it.
    pub seeders: u32,
    /// Nodes online that download it.
    pub partial: u32,
    /// When the group that lists it was born ([`Group::born`]).
    pub born: UnixMillis,
    /// Number of its files, where it is a folder.
    pub files: Option<u32>,
}

/// Who is online with a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Providers {
    /// At most [`crate::limit::LOOKUP_PROVIDERS_MAX`], seeders first; never who asks.
    pub providers: Vec<Provider>,
    /// The seeder that was online last, where none is now and one is remembered.
    pub last_seeder: Option<(UserName, UnixMillis)>,
}

/// One node with a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its key's name: a dial that meets another key is refused.
    pub node: NodeId,
    /// Whose node.
    pub user: UserName,
    /// Where it may be reached; at most [`crate::limit::NODE_ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// All pieces or some.
    pub complete: bool,
}

/// What a tracker tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// This node is enrolled under another user than before, or none.
    Enrolment {
        /// Whose node this is now.
        user: Option<UserName>,
    },
    /// This user's standing in a group has changed.
    Membership {
        /// Which group.
        group: GroupName,
        /// What it is now.
        standing: Standing,
    },
    /// Somebody asks to join a group of this user.
    JoinRequested {
        /// Which group.
        group: GroupName,
        /// Who.
        user: UserName,
    },
    /// A node that this one may be served by came online, or has all of a content now that this node has announced in part.
    Provider {
        /// Through which group.
        group: GroupName,
        /// Which content.
        content: ContentId,
        /// Who has it.
        provider: Provider,
    },
    /// Grants are void before their end: whoever serves by one stops at once.
    Revoked {
        /// Of which group.
        group: GroupName,
        /// Of which node, which may no longer read the group; `None` for those of all nodes, of which the ones that
        /// still may read ask for new ones.
        node: Option<NodeId>,
        /// Void are those with an earlier [`crate::grant::GrantBody::epoch`].
        epoch: u64,
    },
    /// Somebody asks for a content that nobody online has, and that this node has announced with [`Request::Standby`].
    Wanted {
        /// Through which group.
        group: GroupName,
        /// Which content.
        content: ContentId,
    },
    /// What this node has announced of a group does not count: it is of another group, which had the name before, or does
    /// not say of which.
    Born {
        /// Which name.
        group: GroupName,
        /// When the group was born that has it now ([`Group::born`]).
        born: UnixMillis,
    },
    /// Nodes are logged out: their grants for every group are void before their end, and whoever serves by one stops at once.
    LoggedOut {
        /// Which, and the epochs that began then: void are grants of earlier ones. At most [`crate::limit::PAGE_ITEMS_MAX`].
        nodes: Vec<(NodeId, u64)>,
    },
}
