//! The simulated tracker: accounts, one table of groups and listings, presence and grants, without a network or a disk.
//!
//! What the real one decides is tested with the real one; here it only has to say what daemons need to hear.

use std::collections::{BTreeMap, BTreeSet};

use p2p_proto::grant::{GrantBody, GrantSigner};
use p2p_proto::id::{ContentId, NodeId};
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

use super::{LATENCY, World};

/// Everything the tracker knows.
pub(super) struct Tracker {
    signer: GrantSigner,
    enrolled: BTreeMap<NodeId, UserName>,
    members: BTreeMap<GroupName, BTreeSet<UserName>>,
    listings: BTreeMap<(GroupName, FileName), Listing>,
    present: BTreeMap<(GroupName, ContentId), BTreeMap<NodeId, bool>>,
    standby: BTreeMap<(GroupName, ContentId), BTreeSet<NodeId>>,
}

impl Tracker {
    pub fn new() -> Tracker {
        let document = GrantSigner::generate_document().expect("a key can be made");
        Tracker {
            signer: GrantSigner::from_document(&document).expect("just made"),
            enrolled: BTreeMap::new(),
            members: BTreeMap::new(),
            listings: BTreeMap::new(),
            present: BTreeMap::new(),
            standby: BTreeMap::new(),
        }
    }

    /// A node's connection is gone, and what it announced with it.
    pub fn disconnected(&mut self, node: NodeId) {
        self.forget_present(node);
        self.standby.values_mut().for_each(|nodes| {
            nodes.remove(&node);
        });
    }

    fn forget_present(&mut self, node: NodeId) {
        self.present.values_mut().for_each(|nodes| {
            nodes.remove(&node);
        });
    }

    fn provider(&self, node: NodeId, complete: bool) -> Option<Provider> {
        let user = self.enrolled.get(&node)?.clone();
        let address = "192.0.2.1:4433".parse().expect("an address");
        Some(Provider { node, user, addresses: vec![address], complete })
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

    fn answer(&mut self, node: NodeId, request: Request, now: UnixMillis) -> Reply {
        match request {
            Request::CreateGroup { group, .. } | Request::JoinGroup { group } => {
                let user = self.enrolled.get(&node).cloned();
                let user = user.ok_or_else(|| Reject::new(ErrorCode::LOGIN_NEEDED, "nobody is logged in"))?;
                self.members.entry(group).or_default().insert(user);
                Ok(Answer::Done)
            }
            Request::Logout => {
                self.enrolled.remove(&node);
                self.disconnected(node);
                Ok(Answer::Done)
            }
            Request::GroupInfo { group } => {
                let owner = self.require_member(node, &group)?;
                let (members, files, standing) = (1, 0, Standing::Member);
                Ok(Answer::Groups(vec![Group { group, owner, policy: JoinPolicy::Open, members, files, standing }]))
            }
            Request::Publish { group, name, content, length, replace } => {
                let owner = self.require_member(node, &group)?;
                let listed = self.listings.get(&(group.clone(), name.clone()));
                if listed.is_some_and(|listed| listed.content != content) && !replace {
                    return Err(Reject::new(ErrorCode::FILE_EXISTS, "you list another file under that name"));
                }
                let listing =
                    Listing { name: name.clone(), owner, content, length, added: now, seeders: 0, partial: 0 };
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
                let others = present.filter(|(other, _)| **other != node);
                let providers = others.filter_map(|(other, complete)| self.provider(*other, *complete)).collect();
                Ok(Answer::Providers(Providers { providers, last_seeder: None }))
            }
            Request::Grant { group } => {
                let user = self.require_member(node, &group)?;
                let body = GrantBody::new(self.signer.public_key(), node, user, group, 1, now);
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
            self.forget_present(node);
        }
        for item in announce.present {
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
    /// Connects a node to the tracker.
    pub(super) fn connect_tracker(&mut self, place: usize) {
        let id = self.nodes[place].id;
        let ack = HelloAck {
            version: TRACKER_PROTOCOL,
            software: SOFTWARE.to_owned(),
            cluster: self.tracker.signer.public_key(),
            time: self.now().wall,
            observed: "192.0.2.1:4433".parse().expect("an address"),
            user: self.tracker.enrolled.get(&id).cloned(),
            leader: true,
        };
        self.tell(
            place,
            2 * LATENCY,
            Input::TrackerConnected {
                tracker: TrackerId(0),
                node: NodeId([0xee; 32]),
                ack,
                round_trip: 2 * LATENCY,
                key_exchange: "none".to_owned(),
            },
        );
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
            Output::AskTracker(ask, _, _) if !self.tracker_up => {
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
                let mut told = announced.map_or_else(Vec::new, |news| self.tracker.interested(node, &news));
                told.extend(if asked { self.tracker.wanted() } else { Vec::new() });
                for (other, event) in told {
                    if let Some(other) = self.place(other) {
                        self.tell(other, 2 * LATENCY, Input::TrackerEvent(TrackerId(0), event));
                    }
                }
                (ask, reply)
            }
            other => panic!("not the tracker's: {other:?}"),
        };
        self.tell(place, 2 * LATENCY, Input::TrackerAnswered(ask, reply));
    }
}
