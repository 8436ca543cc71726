//! Requests: one stream, one message in, one answer out.

use std::collections::BTreeSet;
use std::sync::Arc;

use p2p_proto::grant::{Grant, GrantBody};
use p2p_proto::id::{NodeId, RequestId};
use p2p_proto::limit::{PAGE_ITEMS_MAX, TRACKER_FRAME_BYTES_MAX};
use p2p_proto::name::GroupName;
use p2p_proto::peer::stream_code;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{Announce, Answer, Envelope, Event, Knowledge, Listing, Replied, Reply, Request, Standing};
use quinn::{RecvStream, SendStream, VarInt};

use super::accounts::{End, Exchange};
use super::online::Online;
use super::session::Session;
use super::{Shared, audit};
use crate::clock;
use crate::frames::{self, ReadError};
use crate::log;
use crate::presence::Have;
use crate::state::{Command, Entry, State, refusal};

/// Longest frame of all requests but an announcement, in bytes: three names of 255 bytes, or a password message.
pub const SMALL_FRAME_BYTES_MAX: usize = 2 * 1024;

/// Serves one stream.
pub async fn serve(shared: Arc<Shared>, session: Arc<Session>, mut send: SendStream, mut recv: RecvStream) {
    let _served = shared.serving.read().await;
    let (reply, current) = match read(&shared, &session, &mut recv).await {
        Ok(envelope) => match envelope.request {
            Request::RegisterStart { .. } | Request::LoginStart { .. } | Request::ChangePasswordStart { .. } => {
                let current = shared.consensus.catch_up(envelope.seen).await;
                (exchange(&shared, &session, &mut send, &mut recv, envelope).await, current)
            }
            _ => {
                let (reply, current) = answer(&shared, &session, envelope).await;
                (Some(reply), current)
            }
        },
        Err(refusal) => (refusal.map(Err), true),
    };
    let Some(reply) = reply else {
        // An error here is a stream that is gone already.
        let _ = send.reset(VarInt::from_u32(stream_code::TIMED_OUT));
        return;
    };
    shared.counters.answered(&reply);
    if frames::write(&mut send, &replied(&shared, reply, current)).await {
        let _ = send.finish();
    } else {
        let _ = send.reset(VarInt::from_u32(stream_code::TIMED_OUT));
    }
}

/// A reply with how much is known here.
pub fn replied(shared: &Shared, reply: Reply, current: bool) -> Replied {
    Replied { reply, knowledge: Knowledge { current, place: shared.consensus.place() } }
}

/// The answer to a password exchange, both rounds; `None` where the other end is gone.
async fn exchange(
    shared: &Shared,
    session: &Session,
    send: &mut SendStream,
    recv: &mut RecvStream,
    Envelope { id, request, .. }: Envelope,
) -> Option<Reply> {
    let mut exchange = Exchange { shared, session, send, recv };
    let ended = match request {
        Request::RegisterStart { user, message } => exchange.register(user, &message).await,
        Request::LoginStart { user, message } => exchange.login(user, &message).await,
        Request::ChangePasswordStart { login, registration } => {
            exchange.change_password(id, &login, &registration).await
        }
        _ => Err(End::Refused(out_of_place())),
    };
    match ended {
        Ok(reply) => Some(reply),
        Err(End::Refused(reject)) => Some(Err(reject)),
        Err(End::Gone) => None,
    }
}

/// Reads a request. `Err(None)` where the stream ended or was too slow, so that nobody waits for an answer.
async fn read(shared: &Shared, session: &Session, recv: &mut RecvStream) -> Result<Envelope, Option<Reject>> {
    let length = frames::read_length(recv, TRACKER_FRAME_BYTES_MAX).await.map_err(refuse)?;
    let _large = if length > SMALL_FRAME_BYTES_MAX {
        // Only a user's node has anything long to say.
        if shared.consensus.query(|state| state.user_of_node(session.node).is_none()) {
            return Err(Some(refusal::login_needed()));
        }
        Some(shared.large_frames.acquire().await.map_err(|_| None)?)
    } else {
        None
    };
    frames::read_body(recv, length).await.map_err(refuse)
}

/// The answer to bytes that are not a request, where one is possible.
pub fn refuse(error: ReadError) -> Option<Reject> {
    match error {
        ReadError::Ended | ReadError::Late => None,
        ReadError::Frame(error) => Some(Reject::new(ErrorCode::MALFORMED, error.to_string())),
    }
}

/// Answers everything but the first round of a password exchange; whether it is known to be current.
async fn answer(shared: &Shared, session: &Session, Envelope { id, seen, request }: Envelope) -> (Reply, bool) {
    match command(request) {
        Ok(command) => (change(shared, session.node, id, command).await, true),
        Err(request) => {
            // What this node has changed at another tracker is seen here as well, as far as that can be known.
            let current = shared.consensus.catch_up(seen).await;
            (query(shared, session, *request, current), current)
        }
    }
}

/// Proposes a command on behalf of a node.
pub async fn change(shared: &Shared, actor: NodeId, request: RequestId, command: Command) -> Reply {
    let open_to_all = matches!(command, Command::CreateUser { .. } | Command::Login { .. });
    // The state refuses it as well; here it costs no write, so strangers cannot keep the disk busy.
    let is_nobody = || shared.consensus.query(|state| state.user_of_node(actor).is_none());
    if !open_to_all && is_nobody() {
        // It may have logged in at another tracker a moment ago.
        let current = shared.consensus.catch_up(0).await;
        if is_nobody() {
            return Err(if current { refusal::login_needed() } else { log::no_majority() });
        }
    }
    let entry = Entry { request, actor, at: clock::now(), command };
    shared.consensus.propose(entry).await.map(Answer::from)
}

/// The change that a request asks for, or the request back where it asks for none.
fn command(request: Request) -> Result<Command, Box<Request>> {
    Ok(match request {
        Request::Logout => Command::WithdrawNode,
        Request::CreateGroup { group, policy } => Command::CreateGroup { group, policy },
        Request::JoinGroup { group } => Command::JoinGroup { group },
        Request::LeaveGroup { group, force } => Command::LeaveGroup { group, force },
        Request::AcceptRequest { group, user } => Command::AcceptRequest { group, user },
        Request::RejectRequest { group, user } => Command::RejectRequest { group, user },
        Request::RemoveMember { group, user } => Command::RemoveMember { group, user },
        Request::TransferGroup { group, user } => Command::TransferGroup { group, user },
        Request::DeleteGroup { group } => Command::DeleteGroup { group },
        Request::Publish { group, name, content, length, replace, born: Some(born) } => {
            Command::PublishIn { group, born, name, content, length, replace }
        }
        Request::Publish { group, name, content, length, replace: false, born: None } => {
            Command::Publish { group, name, content, length }
        }
        Request::Publish { group, name, content, length, replace: true, born: None } => {
            Command::Replace { group, name, content, length }
        }
        Request::PublishFolder { group, born, name, content, length, files, replace } => {
            Command::PublishFolder { group, born, name, content, length, files, replace }
        }
        Request::Unpublish { group, name, owner: None } => Command::Unpublish { group, name },
        Request::Unpublish { group, name, owner: Some(owner) } => Command::RemoveFile { group, name, owner },
        Request::SetPolicy { group, policy } => Command::SetPolicy { group, policy },
        Request::WithdrawNode { node } => Command::WithdrawNodeOfUser { node },
        other => return Err(Box::new(other)),
    })
}

/// Answers from what is known, and whether that is `current`. The state is held still meanwhile, so that rights and presence
/// belong together.
fn query(shared: &Shared, session: &Session, request: Request, current: bool) -> Reply {
    let node = session.node;
    shared.consensus.query(|state| match request {
        Request::ListGroups { mine, after } => state.groups_page(node, mine, after.as_ref()).map(Answer::Groups),
        Request::GroupInfo { group } => state.group_info(node, &group).map(|group| Answer::Groups(vec![group])),
        Request::ListMembers { group, after } => {
            let mut members = state.members_page(node, &group, after.as_ref())?;
            let online = shared.online();
            for member in &mut members {
                let here = state.nodes_of_user(&member.user).filter(|node| online.presence.is_online(*node)).count();
                member.nodes_online = u32::try_from(here).unwrap_or(u32::MAX);
            }
            Ok(Answer::Members(members))
        }
        Request::ListRequests { group, after } => {
            state.requests_page(node, &group, after.as_ref()).map(Answer::Requests)
        }
        Request::ListOwnedRequests { after } => {
            state.owned_requests_page(node, after.as_ref()).map(Answer::OwnedRequests)
        }
        Request::ListFiles { group, after } => {
            let files = state.files_page(node, &group, after.as_ref())?;
            Ok(Answer::Files(counted(&shared.online(), &group, files)))
        }
        Request::FindFile { group, name, owner } => {
            let files = state.find_file(node, &group, &name, owner.as_ref())?;
            Ok(Answer::Files(counted(&shared.online(), &group, files)))
        }
        Request::Lookup { group, content } => {
            state.may_read_content(node, &group, &content)?;
            let mut online = shared.online();
            online.presence.observe(node, session.connection.remote_address());
            let wanted = online.presence.ask(node, &group, content);
            online.tell_all(wanted);
            Ok(Answer::Providers(online.lookup(node, &group, content)))
        }
        Request::Grant { group } => {
            let granted = grant(shared, state, node, &group, current);
            audit::grant(state, session, &group, &granted);
            granted.map(|issued| Answer::Grant(issued.grant))
        }
        Request::ListNodes => {
            let mut nodes = state.nodes(node)?;
            let online = shared.online();
            for enrolled in &mut nodes {
                enrolled.online = online.presence.is_online(enrolled.node);
            }
            Ok(Answer::Nodes(nodes))
        }
        Request::Announce(announce) => note(shared, state, session, &announce, current, Have::announced),
        Request::Standby(standby) => note(shared, state, session, &standby, current, |_| Have::Standby),
        _ => Err(out_of_place()),
    })
}

fn out_of_place() -> Reject {
    Reject::new(ErrorCode::MALFORMED, "this request has no place here")
}

/// Fills in how many nodes are online with each listing's content.
fn counted(online: &Online, group: &GroupName, mut files: Vec<Listing>) -> Vec<Listing> {
    for file in &mut files {
        (file.seeders, file.partial) = online.presence.counts(group, file.content);
    }
    files
}

/// A grant that was issued.
pub struct Issued {
    grant: Grant,
    /// Whether it takes the place of one that holds still.
    pub renews: bool,
}

/// A statement that the node may read the group, for a few minutes; `current` where what is known of that is.
fn grant(shared: &Shared, state: &State, node: NodeId, group: &GroupName, current: bool) -> Result<Issued, Reject> {
    // Who may not has been revoked before; asked for again, it is no renewal.
    let readable = state.may_read(node, group).inspect_err(|_| shared.online().granted.revoke(node, group))?;
    let user = state.user_of_node(node).cloned().ok_or_else(refusal::login_needed)?;
    let (cluster, now, terms) = (shared.signer().public_key(), clock::now(), shared.grant_terms());
    if !current && shared.consensus.without_majority() > terms.without_majority {
        return Err(refusal_without_majority());
    }
    let expires = now.plus(terms.life);
    let renews = shared.online().granted.insert(node, &readable.group, expires, now).map_err(|too_many| {
        Reject::new(ErrorCode::BUSY, too_many.to_string()).hint("try again when some of its grants have ended")
    })?;
    let mut body = GrantBody::new(cluster, node, user, readable.group, readable.born, readable.epoch, now);
    body.expires = expires;
    Ok(Issued { grant: shared.signer().sign(&body), renews })
}

/// Whether somebody may still read a group is not known well enough any more.
fn refusal_without_majority() -> Reject {
    let message = "too few trackers of the cluster have been there for too long to let anybody begin to read";
    Reject::new(ErrorCode::NO_MAJORITY, message).hint("start the others; what waits goes on by itself then")
}

/// Takes note of what a node has. Items that the group does not list are not announced: the daemon may not have heard of a
/// change yet, and the rest of its announcement still counts. But it serves them, and so it listens in their group, and is
/// told what others have lost there meanwhile. Of a group that it may not read any more it is told so: it may have been
/// away when it lost it. So it is where it speaks of another group than the one that has the name now. But nobody is told of a
/// loss by who may only not have heard of a gain, where what is known is not `current`. `have` makes what a
/// node has of what it says of an item's completeness. Where there is no room, all else is noted before that is said.
fn note(
    shared: &Shared,
    state: &State,
    session: &Session,
    announce: &Announce,
    current: bool,
    have: impl Fn(bool) -> Have,
) -> Reply {
    let node = session.node;
    if announce.present.len() > PAGE_ITEMS_MAX || announce.withdrawn.len() > PAGE_ITEMS_MAX {
        let message = format!("an announcement has more than {PAGE_ITEMS_MAX} items");
        return Err(Reject::new(ErrorCode::MALFORMED, message));
    }
    if state.user_of_node(node).is_none() {
        return Err(refusal::login_needed());
    }
    let now = clock::now();
    let mut online = shared.online();
    if !online.is_current(node, session.serial) {
        // What an older connection of the node still had to say is not true of the newer one.
        return Err(Reject::new(ErrorCode::WRONG_STATE, "this connection has been replaced by a newer one"));
    }
    online.presence.observe(node, session.connection.remote_address());
    if announce.replace {
        let kept: Vec<_> = announce.present.iter().map(|item| (item.group.clone(), item.content)).collect();
        online.presence.keep_only(node, &kept, have(true), now);
    }
    for (group, content) in &announce.withdrawn {
        online.presence.withdraw(node, group, *content, have(true), now);
    }
    let (mut lost, mut another, mut full) = (BTreeSet::new(), BTreeSet::new(), None);
    for item in &announce.present {
        let Ok(readable) = state.may_read(node, &item.group) else {
            if lost.insert(&item.group) && current {
                online.tell(node, Event::Membership { group: item.group.clone(), standing: Standing::None });
            }
            continue;
        };
        if item.born != Some(readable.born) {
            online.presence.withdraw(node, &item.group, item.content, have(true), now);
            if another.insert(&item.group) && current {
                online.tell(node, Event::Born { group: item.group.clone(), born: readable.born });
            }
            continue;
        };
        match online.presence.listen(node, &readable.group) {
            Ok(true) => {
                online.tell_revocations(node, &readable.group, &state.revocations(&readable.group, now));
                if state.is_public(&readable.group) {
                    online.tell_earlier_logouts(node, state, now);
                }
            }
            Ok(false) => {}
            Err(reason) => full = Some(reason),
        }
        let Some(found) = state.found(&readable.group, &item.content) else { continue };
        match online.presence.announce(node, &readable.group, item.content, found, have(item.complete), now) {
            Ok(notices) => online.tell_all(notices),
            Err(reason) => full = Some(reason),
        }
    }
    match full {
        Some(reason) => Err(Reject::new(ErrorCode::NOT_ALLOWED, reason.to_string())),
        None => Ok(Answer::Done),
    }
}
