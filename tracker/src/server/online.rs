//! The nodes connected here: their event queues and their presence, and what each of them hears of a change.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::limit::PAGE_ITEMS_MAX;
use p2p_proto::name::{GroupName, UserName};
use p2p_proto::peer::close_code;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Event, Providers, Standing};
use quinn::{Connection, VarInt};
use tokio::sync::mpsc;
use tracing::debug;

use crate::granted::Granted;
use crate::presence::{Notice, Presence};
use crate::state::{Change, Revocation, State};

/// Events that wait for one node to read them, some hundred bytes each. A node with more is disconnected: it announces and
/// looks up anew when it comes back, so it misses nothing. [`Online::tell_revocations`] keeps one change from filling it.
const EVENTS_MAX: usize = 4_096;

/// Everybody who is connected.
#[derive(Debug, Default)]
pub struct Online {
    /// Who has what.
    pub presence: Presence,
    /// Who may be served, also while it is not here.
    pub granted: Granted,
    sessions: HashMap<NodeId, Session>,
    /// Given to the last session.
    serial: u64,
}

#[derive(Debug)]
struct Session {
    serial: u64,
    events: mpsc::Sender<Event>,
    connection: Connection,
    /// Whether it has been told who was logged out before it came.
    knows_logouts: bool,
}

/// A session's own end.
#[derive(Debug)]
pub struct Entered {
    /// Tells this session from a later one of the same node.
    pub serial: u64,
    /// What to write to the event stream.
    pub events: mpsc::Receiver<Event>,
}

impl Online {
    /// A node has said Hello. An older connection of the same node is closed: its daemon has given it up.
    pub fn enter(
        &mut self,
        node: NodeId,
        user: Option<UserName>,
        connection: Connection,
        local: &[SocketAddr],
        now: UnixMillis,
    ) -> Entered {
        self.presence.connect(node, user, connection.remote_address(), local, now);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        self.serial += 1;
        let serial = self.serial;
        if let Some(older) =
            self.sessions.insert(node, Session { serial, events: sender, connection, knows_logouts: false })
        {
            older.connection.close(VarInt::from_u32(close_code::DUPLICATE), b"a newer connection of this node");
        }
        Entered { serial, events }
    }

    /// A session has ended.
    pub fn leave(&mut self, node: NodeId, serial: u64, now: UnixMillis) {
        if self.is_current(node, serial) {
            self.sessions.remove(&node);
            self.presence.disconnect(node, now);
        }
    }

    /// Whether a session is its node's newest.
    pub fn is_current(&self, node: NodeId, serial: u64) -> bool {
        self.sessions.get(&node).is_some_and(|session| session.serial == serial)
    }

    /// How many nodes are here.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Where a node is connected from, if it is here.
    pub fn address(&self, node: NodeId) -> Option<IpAddr> {
        self.sessions.get(&node).map(|session| session.connection.remote_address().ip())
    }

    /// Puts an event into a node's queue, if it is here.
    pub fn tell(&self, node: NodeId, event: Event) {
        let Some(session) = self.sessions.get(&node) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = session.events.try_send(event) {
            debug!(%node, "a node does not read its events and is disconnected");
            session.connection.close(VarInt::from_u32(close_code::BUSY), b"events are not read");
        }
    }

    /// Closes every connection, with a code and why. Whoever was connected comes back, announces anew, and is told what was
    /// revoked meanwhile.
    pub fn disconnect_all(&self, code: u32, why: &[u8]) {
        for session in self.sessions.values() {
            session.connection.close(VarInt::from_u32(code), why);
        }
    }

    /// [`Online::tell`] for each.
    pub fn tell_all(&self, notices: Vec<Notice>) {
        for (node, event) in notices {
            self.tell(node, event);
        }
    }

    /// Who has a content, for a node that asks, and where they are seen now: somebody's router may have got another address
    /// since, which only the connection knows.
    pub fn lookup(&mut self, asker: NodeId, group: &GroupName, content: ContentId) -> Providers {
        let found = self.presence.lookup(asker, group, content);
        let seen = |node| Some((node, self.sessions.get(&node)?.connection.remote_address()));
        let seen: Vec<_> = found.providers.iter().filter_map(|provider| seen(provider.node)).collect();
        let mut moved = false;
        for (node, address) in seen {
            moved |= self.presence.observe(node, address);
        }
        if moved { self.presence.lookup(asker, group, content) } else { found }
    }

    /// Takes note of changes and tells everybody whom they concern. Gives the nodes that lost what they could read without
    /// belonging to it, which the changes do not name.
    pub fn changed(&mut self, state: &State, changes: &[Change], now: UnixMillis) -> BTreeSet<NodeId> {
        let (mut readers, mut logged_out) = (BTreeSet::new(), Vec::new());
        for change in changes {
            match change {
                Change::Enrolled { node, user } => {
                    self.presence.set_user(*node, Some(user.clone()), now);
                    self.tell(*node, Event::Enrolment { user: Some(user.clone()) });
                }
                Change::Withdrawn { node, epoch, .. } => {
                    if self.presence.listens(*node) | self.granted.forget(*node) {
                        readers.insert(*node);
                    }
                    self.presence.set_user(*node, None, now);
                    self.tell(*node, Event::Enrolment { user: None });
                    logged_out.push((*node, *epoch));
                }
                Change::Membership { group, user, standing } => {
                    for node in state.nodes_of_user(user) {
                        self.tell(node, Event::Membership { group: group.clone(), standing: *standing });
                    }
                }
                Change::JoinRequested { group, owner, user } => {
                    for node in state.nodes_of_user(owner) {
                        self.tell(node, Event::JoinRequested { group: group.clone(), user: user.clone() });
                    }
                }
                Change::AccessLost { group, nodes, epoch } => self.revoked(group, nodes, *epoch, now),
                Change::GrantsVoided { group, epoch } => {
                    readers.extend(self.voided(state, group, *epoch, changes, now));
                }
                Change::UserCreated { .. }
                | Change::PasswordChanged { .. }
                | Change::GroupCreated { .. }
                | Change::PublicGroupMade
                | Change::PolicyChanged { .. }
                | Change::GroupEnded { .. }
                | Change::Published { .. }
                | Change::Unpublished { .. } => {}
            }
        }
        if !logged_out.is_empty() {
            for server in self.presence.nodes_that_listen(|group| state.is_public(group)) {
                self.tell_logouts(server, &logged_out);
            }
        }
        readers
    }

    /// Tells a node that listens in a group what is revoked there. One by one where its queue has room for that, or else at
    /// once for everybody: however many are logged out of however many groups, nobody is disconnected for it.
    pub fn tell_revocations(&self, node: NodeId, group: &GroupName, revocations: &[Revocation]) {
        let Some(last) = revocations.iter().map(|revocation| revocation.epoch).max() else { return };
        let room = self.sessions.get(&node).map_or(0, |session| session.events.capacity());
        let all_at_once = [Revocation { node: None, epoch: last }];
        let told = if revocations.len() <= room / 2 { revocations } else { &all_at_once };
        for &Revocation { node: whose, epoch } in told {
            self.tell(node, Event::Revoked { group: group.clone(), node: whose, epoch });
        }
    }

    /// Tells a node that listens in a public group who was logged out before it came, if it has not been told.
    pub fn tell_earlier_logouts(&mut self, node: NodeId, state: &State, now: UnixMillis) {
        let Some(session) = self.sessions.get_mut(&node) else { return };
        if !std::mem::replace(&mut session.knows_logouts, true) {
            self.tell_logouts(node, &state.logouts(now));
        }
    }

    /// Whoever serves a public group may be serving it to nodes that are logged out: no tracker knows all that was granted.
    fn tell_logouts(&self, server: NodeId, nodes: &[(NodeId, u64)]) {
        for page in nodes.chunks(PAGE_ITEMS_MAX) {
            self.tell(server, Event::LoggedOut { nodes: page.to_vec() });
        }
    }

    /// Nodes may not read a group any more: everybody who may be serving it to them is told.
    fn revoked(&mut self, group: &GroupName, nodes: &[NodeId], epoch: u64, now: UnixMillis) {
        for node in nodes {
            self.presence.revoke(*node, group, now);
            self.granted.revoke(*node, group);
        }
        let revocations: Vec<Revocation> = nodes.iter().map(|node| Revocation { node: Some(*node), epoch }).collect();
        for server in self.presence.listeners(group) {
            self.tell_revocations(server, group, &revocations);
        }
    }

    /// Whoever reads a group has to be granted it anew. Those who may are told so. Those who may not (a public group that
    /// is not any more, or is gone) are told that they stand nowhere in it, and given back, unless they were told as its
    /// members.
    fn voided(
        &mut self,
        state: &State,
        group: &GroupName,
        epoch: u64,
        changes: &[Change],
        now: UnixMillis,
    ) -> Vec<NodeId> {
        let told: BTreeSet<NodeId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Membership { user, .. } => Some(state.nodes_of_user(user)),
                _ => None,
            })
            .flatten()
            .collect();
        // Another group may have the name already, the built-in one: nothing of this one is in it.
        let ended = changes.iter().any(|change| matches!(change, Change::GroupEnded { group: of, .. } if of == group));
        let (listening, granted) = (self.presence.listeners(group), self.granted.readers(group));
        let mut cut_off = Vec::new();
        for node in listening.into_iter().chain(granted).collect::<BTreeSet<_>>() {
            if state.may_read(node, group).is_ok() {
                if ended {
                    self.presence.revoke(node, group, now);
                }
                self.tell(node, Event::Revoked { group: group.clone(), node: None, epoch });
                continue;
            }
            self.presence.revoke(node, group, now);
            self.granted.revoke(node, group);
            if !told.contains(&node) {
                self.tell(node, Event::Membership { group: group.clone(), standing: Standing::None });
                cut_off.push(node);
            }
        }
        cut_off
    }
}
