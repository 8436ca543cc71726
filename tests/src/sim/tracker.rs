//! The simulated tracker: accounts, one table of groups and listings, presence and grants, without a network or a disk.
//!
//! What the real one decides is tested with the real one; here it only has to say what daemons need to hear.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use p2p_proto::control::TrackerState;
use p2p_proto::grant::{GrantBody, GrantSigner};
use p2p_proto::id::{ContentId, NodeId};
use p2p_proto::limit::LOOKUP_PROVIDERS_MAX;
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{
    Announce, Answer, Event as TrackerEvent, Group, HelloAck, JoinPolicy, Listing, Provider, Providers, Reply, Request,
    Standing,
};
use p2p_proto::version::{SOFTWARE, TRACKER_PROTOCOL};
use p2pd::engine::input::TrackerId;
use p2pd::engine::{Input, Output};

use super::{TRACKER_DELAY, World};

/// Everything the tracker knows.
pub(super) struct Tracker {
    signer: GrantSigner,
    enrolled: BTreeMap<NodeId, UserName>,
    members: BTreeMap<GroupName, BTreeSet<UserName>>,
    /// When each of them was born, and the latest of all that ever were.
    births: BTreeMap<GroupName, UnixMillis>,
    last_birth: UnixMillis,
    listings: BTreeMap<(GroupName, FileName), Listing>,
    present: BTreeMap<(GroupName, ContentId), BTreeMap<NodeId, bool>>,
    standby: BTreeMap<(GroupName, ContentId), BTreeSet<NodeId>>,
    connected: BTreeSet<NodeId>,
    /// How often anybody lost access, and what that voided; nothing is forgotten here.
    epoch: u64,
    revoked: Vec<(GroupName, NodeId, u64)>,
    /// What nodes are to be told.
    events: Vec<(NodeId, TrackerEvent)>,
    /// Where nodes are said to be.
    pub addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
}

impl Tracker {
    pub fn new() -> Tracker {
        let document = GrantSigner::generate_document().expect("a key can be made");
        Tracker {
            signer: GrantSigner::from_document(&document).expect("just made"),
            enrolled: BTreeMap::new(),
            members: BTreeMap::new(),
            births: BTreeMap::new(),
            last_birth: UnixMillis::default(),
            listings: BTreeMap::new(),
            present: BTreeMap::new(),
            standby: BTreeMap::new(),
            connected: BTreeSet::new(),
            epoch: 0,
            revoked: Vec::new(),
            events: Vec::new(),
            addresses: BTreeMap::new(),
        }
    }

    /// A node's connection is gone, and what it announced with it.
    pub fn disconnected(&mut self, node: NodeId) {
        self.connected.remove(&node);
        self.forget_announced(node);
        self.standby.values_mut().for_each(|nodes| {
            nodes.remove(&node);
        });
    }

    /// A node's announcements are gone.
    fn forget_announced(&mut self, node: NodeId) {
        self.present.values_mut().for_each(|nodes| {
            nodes.remove(&node);
        });
    }

    fn provider(&self, node: NodeId, complete: bool) -> Option<Provider> {
        let user = self.enrolled.get(&node)?.clone();
        let addresses = self.addresses.get(&node).cloned().unwrap_or_default();
        Some(Provider { node, user, addresses, complete })
    }

    fn require_member(&self, node: NodeId, group: &GroupName) -> Result<UserName, Reject> {
        let user = self.enrolled.get(&node);
        let user = user.ok_or_else(|| Reject::new(ErrorCode::LOGIN_NEEDED, "nobody is logged in at this node"))?;
        let members = self.members.get(group);
        let members = members.ok_or_else(|| Reject::new(ErrorCode::GROUP_NOT_FOUND, "there is no such group"))?;
        if members.contains(user) {
            Ok(user.clone())
        } else {
            Err(Reject::new(ErrorCode::NOT_MEMBER, "only members may"))
        }
    }

    /// When a group was born that is there.
    fn born(&self, group: &GroupName) -> UnixMillis {
        self.births.get(group).copied().unwrap_or_default()
    }

    fn answer(&mut self, node: NodeId, request: Request, now: UnixMillis) -> Reply {
        match request {
            Request::CreateGroup { group, .. } | Request::JoinGroup { group } => {
                let user = self.enrolled.get(&node).cloned();
                let user = user.ok_or_else(|| Reject::new(ErrorCode::LOGIN_NEEDED, "nobody is logged in"))?;
                if !self.births.contains_key(&group) {
                    self.last_birth = now.max(UnixMillis(self.last_birth.0 + 1));
                    self.births.insert(group.clone(), self.last_birth);
                }
                self.members.entry(group.clone()).or_default().insert(user.clone());
                self.tell_standing(&group, &user, Standing::Member);
                Ok(Answer::Done)
            }
            Request::Logout => {
                let groups = self.members.keys().filter(|group| self.require_member(node, group).is_ok());
                let groups: Vec<GroupName> = groups.cloned().collect();
                for group in groups {
                    self.revoke(&group, &[node]);
                }
                self.enrolled.remove(&node);
                self.forget_announced(node);
                self.events.push((node, TrackerEvent::Enrolment { user: None }));
                Ok(Answer::Done)
            }
            Request::RemoveMember { group, user } => {
                self.require_member(node, &group)?;
                self.drop_member(&group, &user);
                Ok(Answer::Done)
            }
            Request::LeaveGroup { group, .. } => {
                let user = self.require_member(node, &group)?;
                self.drop_member(&group, &user);
                Ok(Answer::Done)
            }
            Request::DeleteGroup { group } => {
                self.require_member(node, &group)?;
                for user in self.members.remove(&group).unwrap_or_default() {
                    self.drop_member(&group, &user);
                }
                self.births.remove(&group);
                self.listings.retain(|(of, _), _| *of != group);
                Ok(Answer::Done)
            }
            Request::GroupInfo { group } => {
                let owner = self.require_member(node, &group)?;
                let (born, policy, standing) = (self.born(&group), JoinPolicy::Open, Standing::Member);
                Ok(Answer::Groups(vec![Group { group, owner, policy, members: 1, files: 0, standing, born }]))
            }
            Request::Publish { group, name, content, length, replace, .. } => {
                let owner = self.require_member(node, &group)?;
                let listed = self.listings.get(&(group.clone(), name.clone()));
                if listed.is_some_and(|listed| listed.content != content) && !replace {
                    return Err(Reject::new(ErrorCode::FILE_EXISTS, "you list another file under that name"));
                }
                let (born, added) = (self.born(&group), now);
                let listing = Listing {
                    name: name.clone(),
                    owner,
                    content,
                    length,
                    added,
                    seeders: 0,
                    partial: 0,
                    born,
                    files: None,
                };
                self.listings.insert((group, name), listing);
                Ok(Answer::Done)
            }
            Request::Unpublish { group, name, .. } => {
                self.require_member(node, &group)?;
                let missing = || Reject::new(ErrorCode::FILE_NOT_FOUND, "there is no such file");
                self.listings.remove(&(group, name)).map(|_| Answer::Done).ok_or_else(missing)
            }
            Request::ListOwnedRequests { .. } => Ok(Answer::OwnedRequests(Vec::new())),
            Request::FindFile { group, name, .. } => {
                self.require_member(node, &group)?;
                Ok(Answer::Files(self.listings.get(&(group, name)).cloned().into_iter().collect()))
            }
            Request::Lookup { group, content } => {
                self.require_member(node, &group)?;
                if !self.listings.iter().any(|((of, _), listing)| *of == group && listing.content == content) {
                    return Err(Reject::new(ErrorCode::FILE_NOT_FOUND, "no file with this content is listed"));
                }
                let present = self.present.get(&(group, content)).into_iter().flatten();
                let mut others: Vec<_> = present.filter(|(other, _)| **other != node).collect();
                // Of many, some: others each time.
                let at = usize::try_from(now.0).unwrap_or(0) % others.len().max(1);
                others.rotate_left(at);
                others.truncate(LOOKUP_PROVIDERS_MAX);
                let others = others.into_iter();
                let providers = others.filter_map(|(other, complete)| self.provider(*other, *complete)).collect();
                Ok(Answer::Providers(Providers { providers, last_seeder: None }))
            }
            Request::Grant { group } => {
                let user = self.require_member(node, &group)?;
                let born = self.born(&group);
                let body = GrantBody::new(self.signer.public_key(), node, user, group, born, self.epoch, now);
                Ok(Answer::Grant(self.signer.sign(&body)))
            }
            Request::Announce(announce) => {
                self.announce(node, announce);
                Ok(Answer::Done)
            }
            Request::Standby(announce) => {
                self.stand_by(node, announce);
                Ok(Answer::Done)
            }
            other => Err(Reject::new(ErrorCode::UNSUPPORTED, format!("the simulated tracker has no {other:?}"))),
        }
    }

    fn announce(&mut self, node: NodeId, announce: Announce) {
        if announce.replace {
            self.forget_announced(node);
        }
        for item in announce.present {
            if self.require_member(node, &item.group).is_err() {
                let standing = Standing::None;
                self.events.push((node, TrackerEvent::Membership { group: item.group, standing }));
                continue;
            }
            let born = self.born(&item.group);
            if item.born != Some(born) {
                self.events.push((node, TrackerEvent::Born { group: item.group, born }));
                continue;
            }
            if !self.nodes_of_group(&item.group).contains(&node) {
                let of_group = self.revoked.iter().filter(|(group, ..)| *group == item.group);
                self.events.extend(of_group.cloned().map(|revoked| (node, revocation(revoked))));
            }
            self.present.entry((item.group, item.content)).or_default().insert(node, item.complete);
        }
        for item in announce.withdrawn {
            self.present.entry(item).or_default().remove(&node);
        }
    }

    fn stand_by(&mut self, node: NodeId, announce: Announce) {
        if announce.replace {
            self.standby.values_mut().for_each(|nodes| {
                nodes.remove(&node);
            });
        }
        for item in announce.present {
            self.standby.entry((item.group, item.content)).or_default().insert(node);
        }
        for item in announce.withdrawn {
            self.standby.entry(item).or_default().remove(&node);
        }
    }

    /// Those on standby for what is downloaded and nobody has all of, and what they are told.
    fn wanted(&self) -> Vec<(NodeId, TrackerEvent)> {
        let lonely = |item: &(GroupName, ContentId)| {
            self.present.get(item).is_some_and(|nodes| !nodes.is_empty() && nodes.values().all(|complete| !complete))
        };
        let wanted = self.standby.iter().filter(|(item, _)| lonely(item));
        let told = wanted.flat_map(|((group, content), nodes)| {
            let event = TrackerEvent::Wanted { group: group.clone(), content: *content };
            nodes.iter().map(move |node| (*node, event.clone()))
        });
        told.collect()
    }

    /// Takes a user out of a group, if it is still there or not.
    fn drop_member(&mut self, group: &GroupName, user: &UserName) {
        if let Some(members) = self.members.get_mut(group) {
            members.remove(user);
        }
        let nodes: Vec<NodeId> = self.nodes_of_user(user).collect();
        self.tell_standing(group, user, Standing::None);
        self.revoke(group, &nodes);
    }

    /// Voids what nodes were granted, and tells those who may serve them.
    fn revoke(&mut self, group: &GroupName, nodes: &[NodeId]) {
        self.epoch += 1;
        for node in nodes {
            for announced in self.present.iter_mut().filter(|((of, _), _)| of == group).map(|(_, nodes)| nodes) {
                announced.remove(node);
            }
            let revoked = (group.clone(), *node, self.epoch);
            let told = self.nodes_of_group(group);
            self.events.extend(told.into_iter().map(|server| (server, revocation(revoked.clone()))));
            self.revoked.push(revoked);
        }
    }

    fn tell_standing(&mut self, group: &GroupName, user: &UserName, standing: Standing) {
        let event = TrackerEvent::Membership { group: group.clone(), standing };
        let told: Vec<_> = self.nodes_of_user(user).map(|node| (node, event.clone())).collect();
        self.events.extend(told);
    }

    fn nodes_of_user(&self, user: &UserName) -> impl Iterator<Item = NodeId> {
        self.enrolled.iter().filter(move |(_, of)| *of == user).map(|(node, _)| *node)
    }

    /// Nodes that have announced anything in a group.
    fn nodes_of_group(&self, group: &GroupName) -> BTreeSet<NodeId> {
        let of_group = self.present.iter().filter(|((of, _), _)| of == group);
        of_group.flat_map(|(_, nodes)| nodes.keys().copied()).collect()
    }

    /// Those who download what a node has just announced, and what they are told.
    fn interested(&self, node: NodeId, announce: &Announce) -> Vec<(NodeId, TrackerEvent)> {
        let mut told = Vec::new();
        for item in &announce.present {
            let present = self.present.get(&(item.group.clone(), item.content)).into_iter().flatten();
            for (other, _) in present.filter(|(other, complete)| **other != node && !**complete) {
                if let Some(provider) = self.provider(node, item.complete) {
                    let (group, content) = (item.group.clone(), item.content);
                    told.push((*other, TrackerEvent::Provider { group, content, provider }));
                }
            }
        }
        told
    }
}

impl World {
    /// Where the tracker says that a node is.
    pub fn set_addresses(&mut self, place: usize, addresses: Vec<SocketAddr>) {
        self.tracker.addresses.insert(self.nodes[place].id, addresses);
    }

    /// The tracker says from now on that a node which does not exist seeds a content, at these addresses.
    pub fn invent_seeder(&mut self, content: ContentId, addresses: Vec<SocketAddr>) {
        let mut id = [0xff; 32];
        id[..8].copy_from_slice(&self.random.u64(..).to_be_bytes());
        let node = NodeId(id);
        self.tracker.addresses.insert(node, addresses);
        self.tracker.enrolled.insert(node, "nobody".parse().expect("a good name"));
        let group = "g".parse().expect("a good name");
        self.tracker.present.entry((group, content)).or_default().insert(node, true);
    }

    /// Connects a node to the tracker.
    pub fn connect_tracker(&mut self, place: usize) {
        let id = self.nodes[place].id;
        self.tracker.connected.insert(id);
        let ack = HelloAck {
            version: TRACKER_PROTOCOL,
            software: SOFTWARE.to_owned(),
            cluster: self.tracker.signer.public_key(),
            time: self.now().wall,
            observed: "192.0.2.1:4433".parse().expect("an address"),
            user: self.tracker.enrolled.get(&id).cloned(),
            leader: true,
            current: true,
            place: 0,
        };
        self.tell(
            place,
            2 * TRACKER_DELAY,
            Input::TrackerConnected {
                tracker: TrackerId(0),
                node: NodeId([0xee; 32]),
                ack,
                round_trip: 2 * TRACKER_DELAY,
                key_exchange: "none".to_owned(),
            },
        );
    }

    /// Cuts a node off from the tracker.
    pub fn cut_tracker(&mut self, place: usize) {
        self.tracker.disconnected(self.nodes[place].id);
        let reason = Reject::new(ErrorCode::NO_TRACKER, "the tracker is down");
        let state = TrackerState::Unreachable;
        self.tell(place, TRACKER_DELAY, Input::TrackerLost { tracker: TrackerId(0), state, reason });
    }

    /// Answers what a node asks the tracker.
    pub(super) fn perform_tracker(&mut self, place: usize, output: Output) {
        let (node, now) = (self.nodes[place].id, self.now().wall);
        let (ask, reply) = match output {
            Output::Register(ask, ..) | Output::ChangePassword(ask, ..) => (ask, Ok(Answer::Done)),
            Output::Login(ask, _, user, _) => {
                self.tracker.enrolled.insert(node, user);
                (ask, Ok(Answer::Done))
            }
            Output::AskTracker(ask, _, _) if !self.tracker.connected.contains(&node) => {
                (ask, Err(Reject::new(ErrorCode::NO_TRACKER, "the tracker is down")))
            }
            Output::AskTracker(ask, _, envelope) => {
                let announced = match &envelope.request {
                    Request::Announce(announce) => Some(announce.clone()),
                    _ => None,
                };
                let asked =
                    matches!(envelope.request, Request::Announce(_) | Request::Standby(_) | Request::Lookup { .. });
                let reply = self.tracker.answer(node, envelope.request, now);
                let mut events = std::mem::take(&mut self.tracker.events);
                events.extend(announced.map_or_else(Vec::new, |news| self.tracker.interested(node, &news)));
                events.extend(if asked { self.tracker.wanted() } else { Vec::new() });
                events.retain(|(other, _)| self.tracker.connected.contains(other));
                for (other, event) in events {
                    if let Some(other) = self.place(other) {
                        self.tell(other, 2 * TRACKER_DELAY, Input::TrackerEvent(TrackerId(0), event));
                    }
                }
                (ask, reply)
            }
            other => panic!("not the tracker's: {other:?}"),
        };
        let answered = Input::TrackerAnswered { ask, tracker: TrackerId(0), reply, knowledge: None };
        self.tell(place, 2 * TRACKER_DELAY, answered);
    }
}

fn revocation((group, node, epoch): (GroupName, NodeId, u64)) -> TrackerEvent {
    TrackerEvent::Revoked { group, node: Some(node), epoch }
}
