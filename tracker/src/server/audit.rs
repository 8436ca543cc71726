//! The operator's record: one line for each change of users, groups and grants, made or refused, and who asked for it.
//!
//! Every line is an event of the target `audit` that begins with the same fields: `action` (the verb of `p2pctl`), `result`
//! (`done`, or `refused` with its `code`), `node` (which asked), `by` (its user), `address` (where it is connected from).
//! Behind them stands what it is about. Names are written in their escaped form (`Debug`), since others have chosen them.
//! A retry of what is done already and a command that changes nothing have no line.

use std::collections::BTreeSet;
use std::net::IpAddr;

use p2p_proto::id::NodeId;
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{JoinPolicy, Standing};
use tracing::{debug, info};

use super::requests::Issued;
use super::session::Session;
use crate::state::{Applied, Change, Command, Entry, Outcome, State};

/// One line. What is `None` is not written, but for who asked and from where.
#[derive(Debug, Clone, Default)]
struct Line<'a> {
    action: &'static str,
    code: Option<ErrorCode>,
    node: Option<NodeId>,
    by: Option<&'a UserName>,
    address: Option<IpAddr>,
    user: Option<&'a UserName>,
    group: Option<&'a GroupName>,
    file: Option<&'a FileName>,
    policy: Option<JoinPolicy>,
    device: Option<NodeId>,
    /// Who decides about a request to join.
    waiting_for: Option<&'a UserName>,
    /// Number of nodes that may no longer read what they could.
    cut_off: Option<usize>,
}

/// Writes a [`Line`] at a level, which `tracing` has to know when it is compiled.
macro_rules! write_at {
    ($level:ident, $line:expr) => {{
        let line: &Line<'_> = $line;
        $level!(
            target: "audit",
            action = %line.action,
            result = %if line.code.is_none() { "done" } else { "refused" },
            code = line.code.map(debug),
            node = line.node.map(display),
            by = ?line.by.map_or("", UserName::as_str),
            address = %line.address.map_or("unknown".to_owned(), |address| address.to_canonical().to_string()),
            user = line.user.map(debug),
            group = line.group.map(debug),
            file = line.file.map(debug),
            policy = line.policy.map(debug),
            device = line.device.map(display),
            waiting_for = line.waiting_for.map(debug),
            cut_off = line.cut_off,
        );
    }};
}

/// Writes what has come of an entry that a node at `address` has asked for, where that is known. `state` is as it is behind it;
/// `readers` lost by it what they could read without belonging to it.
pub fn record(state: &State, entry: &Entry, applied: &Applied, address: Option<IpAddr>, readers: &BTreeSet<NodeId>) {
    let Applied { reply, changes } = applied;
    if reply.is_ok() && changes.is_empty() {
        return;
    }
    let Some(mut line) = subject(state, entry, changes) else { return };
    let withdrawn = |change| match change {
        &Change::Withdrawn { node, ref user, .. } => Some((node, user)),
        _ => None,
    };
    // Who has logged out has no user any more.
    let own_logout = changes.iter().filter_map(withdrawn).find(|(node, _)| *node == entry.actor);
    line.by = state.user_of_node(entry.actor).or(own_logout.map(|(_, user)| user));
    line.code = reply.as_ref().err().map(|reject| reject.code);
    line.node = Some(entry.actor);
    line.address = address;
    if let Ok(Outcome::Waiting { owner }) = reply {
        line.waiting_for = Some(owner);
    }
    line.cut_off = cut_off(changes, readers);
    // One's own listings come and go all the time, and tell nothing of rights.
    if line.file.is_some() && line.user.is_none() {
        return write_at!(debug, &line);
    }
    write_at!(info, &line);
    let more = Line { policy: None, cut_off: None, ..line };
    match entry.command {
        Command::ChangePassword { .. } => {
            for (device, _) in changes.iter().filter_map(withdrawn) {
                write_at!(info, &Line { action: "logout", device: Some(device), ..more.clone() });
            }
        }
        // Who waited is let in by it.
        Command::SetPolicy { .. } => {
            for user in changes.iter().filter_map(admitted) {
                write_at!(info, &Line { action: "accept_request", user: Some(user), ..more.clone() });
            }
        }
        _ => {}
    }
}

/// A password that is to be proved or set on a session's connection, from its beginning until it has come to a command,
/// whose entry has a line of its own. However it ends before, that is a line: the other end knows from the first answer
/// whether the password was right, and need not say so.
pub struct Attempt<'a> {
    session: &'a Session,
    action: &'static str,
    user: Option<&'a UserName>,
    by: Option<&'a UserName>,
    /// Why there is no command; `None` once there is.
    code: Option<ErrorCode>,
}

impl<'a> Attempt<'a> {
    /// `action` for `user`, by a node of `by` where it has a user. What is not [`Attempt::ended`] was interrupted.
    pub fn begin(
        session: &'a Session,
        action: &'static str,
        user: Option<&'a UserName>,
        by: Option<&'a UserName>,
    ) -> Attempt<'a> {
        Attempt { session, action, user, by, code: Some(ErrorCode::INTERRUPTED) }
    }

    /// It has come to a command, or to this refusal before.
    pub fn ended(mut self, refused: Option<ErrorCode>) {
        self.code = refused;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Attempt { session, action, user, by, code: code @ Some(_) } = *self else { return };
        let (node, address) = (Some(session.node), Some(session.address()));
        write_at!(info, &Line { action, code, node, address, user, by, ..Line::default() });
    }
}

/// Writes that a grant was issued or refused. A renewal is no change; nor does a stranger write the operator's record by
/// asking for what only users get.
pub fn grant(state: &State, session: &Session, group: &GroupName, granted: &Result<Issued, Reject>) {
    let line = Line {
        action: "grant",
        code: granted.as_ref().err().map(|reject| reject.code),
        node: Some(session.node),
        by: state.user_of_node(session.node),
        address: Some(session.address()),
        group: Some(group),
        ..Line::default()
    };
    if line.by.is_none() || granted.as_ref().is_ok_and(|issued| issued.renews) {
        write_at!(debug, &line);
    } else {
        write_at!(info, &line);
    }
}

/// What an entry is about; `None` for what nobody has asked for.
fn subject<'a>(state: &'a State, entry: &'a Entry, changes: &'a [Change]) -> Option<Line<'a>> {
    // Under the names that they have, rather than as they were spelled here.
    let known = |asked: &'a UserName| Some(state.record(asked).map_or(asked, |(user, _)| user));
    let of_group = |action, asked: &'a GroupName| {
        let group = changes.iter().find_map(group_of).unwrap_or(asked);
        Line { action, group: Some(group), ..Line::default() }
    };
    let of_member = |action, group, user| Line { user: known(user), ..of_group(action, group) };
    let of_node = |action, node| Line { action, device: Some(node), ..Line::default() };
    let of_user = |action, user| Line { action, user: known(user), ..Line::default() };
    Some(match &entry.command {
        Command::Initialize(_) | Command::MakePublicGroup => return None,
        Command::CreateUser { user, .. } => of_user("create_user", user),
        Command::EnrolNode { user } | Command::Login { user, .. } => of_user("login", user),
        Command::WithdrawNode => of_node("logout", entry.actor),
        Command::WithdrawNodeOfUser { node } => of_node("logout", *node),
        Command::ChangePassword { .. } => Line { action: "change_password", ..Line::default() },
        Command::CreateGroup { group, policy } => Line { policy: Some(*policy), ..of_group("create_group", group) },
        Command::JoinGroup { group } => of_group("join_group", group),
        Command::LeaveGroup { group, .. } => of_group("leave_group", group),
        Command::AcceptRequest { group, user } => of_member("accept_request", group, user),
        Command::RejectRequest { group, user } => of_member("reject_request", group, user),
        Command::RemoveMember { group, user } => of_member("remove_member", group, user),
        Command::TransferGroup { group, user } => of_member("transfer_group", group, user),
        Command::DeleteGroup { group } => of_group("delete_group", group),
        Command::Publish { group, name, .. } => Line { file: Some(name), ..of_group("publish", group) },
        Command::Replace { group, name, .. }
        | Command::PublishIn { group, name, .. }
        | Command::PublishFolder { group, name, .. } => Line { file: Some(name), ..of_group("publish", group) },
        Command::Unpublish { group, name } => Line { file: Some(name), ..of_group("remove_file", group) },
        Command::RemoveFile { group, name, owner } => {
            Line { file: Some(name), ..of_member("remove_file", group, owner) }
        }
        Command::SetPolicy { group, policy } => Line { policy: Some(*policy), ..of_group("set_policy", group) },
    })
}

/// The group that a change is about.
fn group_of(change: &Change) -> Option<&GroupName> {
    match change {
        Change::GroupCreated { group, .. }
        | Change::GroupEnded { group, .. }
        | Change::PolicyChanged { group, .. }
        | Change::Membership { group, .. }
        | Change::JoinRequested { group, .. }
        | Change::AccessLost { group, .. }
        | Change::GrantsVoided { group, .. }
        | Change::Published { group, .. }
        | Change::Unpublished { group, .. } => Some(group),
        Change::UserCreated { .. }
        | Change::Enrolled { .. }
        | Change::Withdrawn { .. }
        | Change::PasswordChanged { .. }
        | Change::PublicGroupMade => None,
    }
}

/// Who was let into a group.
fn admitted(change: &Change) -> Option<&UserName> {
    match change {
        Change::Membership { user, standing: Standing::Member, .. } => Some(user),
        _ => None,
    }
}

/// How many nodes lost access to anything; `None` where none did.
fn cut_off(changes: &[Change], readers: &BTreeSet<NodeId>) -> Option<usize> {
    let mut named: BTreeSet<&NodeId> = readers.iter().collect();
    let mut members = 0;
    for change in changes {
        match change {
            Change::AccessLost { nodes, .. } => named.extend(nodes),
            Change::GroupEnded { nodes, .. } => members += nodes,
            _ => {}
        }
    }
    Some(members + named.len()).filter(|nodes| *nodes > 0)
}
