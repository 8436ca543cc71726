//! Random commands against the state and a naive model that keeps everything in flat lists and searches them.
//!
//! After each step the two must answer alike and show the same tables, the invariant must hold, the snapshot must read
//! back, and a second state that was fed alike must be equal to the byte.

use proptest::prelude::*;

use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::tracker::Standing;

use super::super::Revocation;
use super::*;

/// Few names, twins among them, so that random commands meet each other.
const USERS: [&str; 5] = ["ann", "Ann", "bob", "cy", "public"];
const GROUPS: [&str; 4] = ["g", "G", "h", "public"];
const FILES: [&str; 3] = ["f", "F", "x"];
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// The state as a person would write it down. Names are lower-cased, which is all the folding these names need.
#[derive(Default)]
struct Model {
    /// User, password.
    users: Vec<(String, u8)>,
    nodes: Vec<(String, String)>,
    /// Whether the name `public` is taken.
    public_made: bool,
    /// Group, owner (none for the built-in one), policy.
    groups: Vec<(String, String, JoinPolicy)>,
    /// Group, user.
    members: Vec<(String, String)>,
    requests: Vec<(String, String)>,
    /// Group, owner, name as given, content.
    files: Vec<(String, String, String, u8)>,
    epoch: u64,
    /// Group, node or everybody, first epoch whose grants hold; the newest last.
    revoked: Vec<(String, Option<String>, u64)>,
}

fn low(text: impl ToString) -> String {
    text.to_string().to_lowercase()
}

impl Model {
    fn user_of(&self, node: &str) -> Result<String, ErrorCode> {
        self.nodes.iter().find(|(n, _)| n == node).map(|(_, user)| user.clone()).ok_or(ErrorCode::LOGIN_NEEDED)
    }

    fn group(&self, group: &GroupName) -> Result<(String, String, JoinPolicy), ErrorCode> {
        self.groups.iter().find(|(g, ..)| *g == low(group)).cloned().ok_or(ErrorCode::GROUP_NOT_FOUND)
    }

    fn is_member(&self, group: &str, user: &str) -> bool {
        self.members.iter().any(|(g, u)| g == group && u == user)
    }

    fn waits(&self, group: &str, user: &str) -> bool {
        self.requests.iter().any(|(g, u)| g == group && u == user)
    }

    /// A new epoch, in which these lose a group.
    fn revoke(&mut self, group: &str, nodes: Vec<Option<String>>) {
        if !nodes.is_empty() {
            self.epoch += 1;
            self.revoked.extend(nodes.into_iter().map(|node| (group.to_owned(), node, self.epoch)));
        }
    }

    /// Logs those of a user's nodes out that `gone` picks.
    fn withdraw(&mut self, user: &str, gone: impl Fn(&str) -> bool) {
        let withdrawn: Vec<_> = self.nodes.extract_if(.., |(n, u)| u == user && gone(n)).map(|(n, _)| n).collect();
        if withdrawn.is_empty() {
            return;
        }
        self.epoch += 1;
        let logged_out = withdrawn.iter().map(|node| ("public".to_owned(), Some(node.clone()), self.epoch));
        self.revoked.extend(logged_out);
        let mut groups: Vec<_> = self.members.iter().filter(|(_, u)| u == user).map(|(g, _)| g.clone()).collect();
        groups.sort();
        for group in groups {
            self.revoke(&group, withdrawn.iter().cloned().map(Some).collect());
        }
    }

    fn drop_member(&mut self, group: &str, user: &str) {
        let public = self.groups.iter().any(|(g, _, policy)| g == group && *policy == JoinPolicy::Public);
        if !public {
            let nodes = self.nodes.iter().filter(|(_, u)| u == user).map(|(node, _)| Some(node.clone()));
            let nodes = nodes.collect();
            self.revoke(group, nodes);
        }
        self.members.retain(|(g, u)| !(g == group && u == user));
        self.files.retain(|(g, u, ..)| !(g == group && u == user));
    }

    fn end(&mut self, group: &str) {
        self.groups.retain(|(g, ..)| g != group);
        self.members.retain(|(g, _)| g != group);
        self.requests.retain(|(g, _)| g != group);
        self.files.retain(|(g, ..)| g != group);
        self.revoke(group, vec![None]);
        if self.public_made && group == "public" {
            self.add_public();
        }
    }

    fn add_public(&mut self) {
        self.groups.push(("public".to_owned(), String::new(), JoinPolicy::Public));
    }

    /// A group that can be joined and left.
    fn joinable(&self, group: &GroupName) -> Result<(String, String, JoinPolicy), ErrorCode> {
        let found = self.group(group)?;
        if found.1.is_empty() { Err(ErrorCode::NOT_ALLOWED) } else { Ok(found) }
    }

    /// Whether a user may publish in a group.
    fn publishes(&self, group: &str, owner: &str, user: &str) -> bool {
        owner.is_empty() || self.is_member(group, user)
    }

    /// Whether a grant of that epoch is void, by going through all that was ever revoked.
    fn is_void(&self, group: &str, node: &str, granted: u64) -> bool {
        let concerns = |whose: &Option<String>| whose.as_ref().is_none_or(|whose| whose == node);
        let older = self.groups.iter().any(|(g, owner, _)| g == "public" && !owner.is_empty());
        // Who loses the built-in group loses all.
        let of_group = |g: &str, whose: &Option<String>| g == group || (g == "public" && whose.is_some() && !older);
        let mut revoked = self.revoked.iter();
        revoked.any(|(g, whose, epoch)| of_group(g, whose) && concerns(whose) && granted < *epoch)
    }

    /// Actor's group as its owner.
    fn owned(&self, actor: &str, group: &GroupName) -> Result<String, ErrorCode> {
        let user = self.user_of(actor)?;
        let (group, owner, _) = self.joinable(group)?;
        if user == owner { Ok(group) } else { Err(ErrorCode::NOT_OWNER) }
    }

    fn known(&self, user: &UserName) -> Result<String, ErrorCode> {
        self.users.iter().map(|(u, _)| u).find(|u| **u == low(user)).cloned().ok_or(ErrorCode::USER_NOT_FOUND)
    }

    fn waiting(&self, actor: &str, group: &GroupName, user: &UserName) -> Result<(String, String), ErrorCode> {
        let group = self.owned(actor, group)?;
        let user = self.known(user)?;
        if self.waits(&group, &user) {
            Ok((group, user))
        } else if self.is_member(&group, &user) {
            Err(ErrorCode::ALREADY_MEMBER)
        } else {
            Err(ErrorCode::REQUEST_NOT_FOUND)
        }
    }

    fn apply(&mut self, actor: &str, command: &Command) -> Result<&'static str, ErrorCode> {
        match command {
            Command::Initialize(_) => {}
            Command::CreateUser { user, .. } => {
                if self.known(user).is_ok() {
                    return Err(ErrorCode::USER_EXISTS);
                }
                if self.public_made && low(user) == "public" {
                    return Err(ErrorCode::BAD_NAME);
                }
                self.users.push((low(user), 1));
            }
            Command::EnrolNode { user } | Command::Login { user, .. } => {
                let user = self.known(user).map_err(|_| ErrorCode::LOGIN_REFUSED)?;
                if let Command::Login { proved, .. } = command
                    && !self.users.contains(&(user.clone(), proved[0]))
                {
                    return Err(ErrorCode::LOGIN_REFUSED);
                }
                match self.user_of(actor) {
                    Ok(of) if of == user => {}
                    Ok(_) => return Err(ErrorCode::ALREADY_LOGGED_IN),
                    Err(_) => self.nodes.push((actor.to_owned(), user)),
                }
            }
            Command::WithdrawNode => {
                let user = self.user_of(actor)?;
                self.withdraw(&user, |node| node == actor);
            }
            Command::WithdrawNodeOfUser { node } => {
                let user = self.user_of(actor)?;
                let of = |(n, u): &(String, String)| super::node(n) == *node && *u == user;
                if !self.nodes.iter().any(of) {
                    return Err(ErrorCode::NODE_NOT_FOUND);
                }
                self.withdraw(&user, |other| super::node(other) == *node);
            }
            Command::ChangePassword { proved, record, log_out_everywhere } => {
                let user = self.user_of(actor)?;
                let old = (user.clone(), proved[0]);
                let row = self.users.iter_mut().find(|row| **row == old).ok_or(ErrorCode::LOGIN_REFUSED)?;
                row.1 = record[0];
                self.withdraw(&user, |node| *log_out_everywhere && node != actor);
            }
            Command::CreateGroup { group, policy } => {
                let user = self.user_of(actor)?;
                if self.group(group).is_ok() {
                    return Err(ErrorCode::GROUP_EXISTS);
                }
                self.groups.push((low(group), user.clone(), *policy));
                self.members.push((low(group), user));
            }
            Command::JoinGroup { group } => {
                let user = self.user_of(actor)?;
                let (group, _, policy) = self.joinable(group)?;
                if self.is_member(&group, &user) {
                    return Err(ErrorCode::ALREADY_MEMBER);
                }
                if self.waits(&group, &user) {
                    return Err(ErrorCode::ALREADY_REQUESTED);
                }
                if policy == JoinPolicy::Approval {
                    self.requests.push((group, user));
                    return Ok("waiting");
                }
                self.members.push((group, user));
                return Ok("joined");
            }
            Command::LeaveGroup { group, force } => {
                let user = self.user_of(actor)?;
                let (group, owner, _) = self.joinable(group)?;
                let members = self.members.iter().filter(|(g, _)| *g == group).count();
                if self.waits(&group, &user) {
                    self.requests.retain(|(g, u)| !(*g == group && *u == user));
                } else if !self.is_member(&group, &user) {
                    return Err(ErrorCode::NOT_MEMBER);
                } else if owner != user {
                    self.drop_member(&group, &user);
                } else if members > 1 {
                    return Err(ErrorCode::OWNER_MUST_HAND_OVER);
                } else if !force {
                    return Err(ErrorCode::WRONG_STATE);
                } else {
                    self.end(&group);
                }
            }
            Command::AcceptRequest { group, user } => {
                let pair = self.waiting(actor, group, user)?;
                self.requests.retain(|waiting| *waiting != pair);
                self.members.push(pair);
            }
            Command::RejectRequest { group, user } => {
                let pair = self.waiting(actor, group, user)?;
                self.requests.retain(|waiting| *waiting != pair);
            }
            Command::RemoveMember { group, user } => {
                let group = self.owned(actor, group)?;
                let user = self.known(user)?;
                if !self.is_member(&group, &user) {
                    return Err(ErrorCode::USER_NOT_FOUND);
                }
                if self.user_of(actor)? == user {
                    return Err(ErrorCode::OWNER_MUST_HAND_OVER);
                }
                self.drop_member(&group, &user);
            }
            Command::TransferGroup { group, user } => {
                let group = self.owned(actor, group)?;
                let user = self.known(user)?;
                if !self.is_member(&group, &user) {
                    return Err(ErrorCode::USER_NOT_FOUND);
                }
                for row in self.groups.iter_mut().filter(|(g, ..)| *g == group) {
                    row.1.clone_from(&user);
                }
            }
            Command::DeleteGroup { group } => {
                let group = self.owned(actor, group)?;
                self.end(&group);
            }
            Command::Publish { group, name, content, .. } => {
                let user = self.user_of(actor)?;
                let (group, owner, _) = self.group(group)?;
                if !self.publishes(&group, &owner, &user) {
                    return Err(ErrorCode::NOT_MEMBER);
                }
                let mine = self.files.iter().find(|(g, u, n, _)| *g == group && *u == user && low(n) == low(name));
                match mine {
                    Some((_, _, n, c)) if n == name.as_str() && *c == content.0[0] => {}
                    Some(_) => return Err(ErrorCode::FILE_EXISTS),
                    None => self.files.push((group, user, name.to_string(), content.0[0])),
                }
            }
            Command::Unpublish { group, name } => {
                let user = self.user_of(actor)?;
                let (group, owner, _) = self.group(group)?;
                if !self.publishes(&group, &owner, &user) {
                    return Err(ErrorCode::NOT_MEMBER);
                }
                let before = self.files.len();
                self.files.retain(|(g, u, n, _)| !(*g == group && *u == user && low(n) == low(name)));
                if self.files.len() == before {
                    return Err(ErrorCode::FILE_NOT_FOUND);
                }
            }
            Command::SetPolicy { group, policy } => {
                let group = self.owned(actor, group)?;
                for row in self.groups.iter_mut().filter(|(g, ..)| *g == group) {
                    let before = std::mem::replace(&mut row.2, *policy);
                    if before == JoinPolicy::Public && *policy != before {
                        self.epoch += 1;
                        self.revoked.push((group.clone(), None, self.epoch));
                    }
                }
                if *policy != JoinPolicy::Approval {
                    self.members.extend(self.requests.extract_if(.., |(g, _)| *g == group));
                }
            }
            Command::RemoveFile { group, name, owner } => {
                let user = self.user_of(actor)?;
                let (group, decides, _) = self.group(group)?;
                if !self.publishes(&group, &decides, &user) {
                    return Err(ErrorCode::NOT_MEMBER);
                }
                let listed = |(g, u, n, _): &(String, String, String, u8)| {
                    *g == group && *u == low(owner) && low(n) == low(name)
                };
                if !self.files.iter().any(listed) {
                    return Err(ErrorCode::FILE_NOT_FOUND);
                }
                if user != low(owner) && user != decides {
                    return Err(ErrorCode::NOT_OWNER);
                }
                self.files.retain(|file| !listed(file));
            }
            Command::Replace { group, name, content, .. } => {
                let user = self.user_of(actor)?;
                let (group, owner, _) = self.group(group)?;
                if !self.publishes(&group, &owner, &user) {
                    return Err(ErrorCode::NOT_MEMBER);
                }
                let mine = self.files.iter_mut().find(|(g, u, n, _)| *g == group && *u == user && low(n) == low(name));
                match mine {
                    Some((_, _, n, _)) if n != name.as_str() => return Err(ErrorCode::FILE_EXISTS),
                    Some((_, _, _, c)) => *c = content.0[0],
                    None => self.files.push((group, user, name.to_string(), content.0[0])),
                }
            }
            // Births are no part of the model: `rules` has its cases.
            Command::PublishIn { .. } | Command::PublishFolder { .. } => unreachable!("none is drawn"),
            Command::MakePublicGroup => {
                if !std::mem::replace(&mut self.public_made, true) && !self.groups.iter().any(|(g, ..)| g == "public") {
                    self.add_public();
                }
            }
        }
        Ok("done")
    }

    /// What a node sees: its groups with standing, members and files, as lines; or why not.
    fn seen_by(&self, actor: &str) -> Result<Vec<String>, ErrorCode> {
        let user = self.user_of(actor)?;
        let nodes = self.nodes.iter().filter(|(_, of)| *of == user);
        let mut lines: Vec<String> = nodes.map(|(n, _)| format!("node {:?}", super::node(n))).collect();
        for (group, owner, policy) in &self.groups {
            let member = self.is_member(group, &user);
            let standing = if *owner == user {
                Standing::Owner
            } else if member {
                Standing::Member
            } else if self.waits(group, &user) {
                Standing::Requested
            } else {
                Standing::None
            };
            let shown = if owner.is_empty() { "public" } else { owner };
            lines.push(format!("{group} {shown} {policy:?} {standing:?}"));
            if member || *policy == JoinPolicy::Public {
                let members = self.members.iter().filter(|(g, _)| g == group);
                lines.extend(members.map(|(_, u)| format!("{group} member {u}")));
                let files = self.files.iter().filter(|(g, ..)| g == group);
                lines.extend(files.map(|(_, u, n, c)| format!("{group} file {n} {u} {c}")));
            }
            if *owner == user {
                let requests = self.requests.iter().filter(|(g, _)| g == group);
                lines.extend(requests.map(|(_, u)| format!("{group} request {u}")));
            }
        }
        lines.sort();
        Ok(lines)
    }
}

/// The same lines from the real state, through its queries.
fn seen_in(state: &State, actor: &str) -> Result<Vec<String>, ErrorCode> {
    let node = node(actor);
    let nodes = state.nodes(node).map_err(|reject| reject.code)?;
    let mut lines: Vec<String> = nodes.iter().map(|enrolled| format!("node {:?}", enrolled.node)).collect();
    for row in state.groups_page(node, false, None).map_err(|reject| reject.code)? {
        let group = &row.group;
        let shown = low(group);
        lines.push(format!("{shown} {} {:?} {:?}", low(&row.owner), row.policy, row.standing));
        if let Ok(members) = state.members_page(node, group, None) {
            assert_eq!(row.members as usize, members.len());
            lines.extend(members.iter().map(|member| format!("{shown} member {}", low(&member.user))));
        }
        if let Ok(files) = state.files_page(node, group, None) {
            assert_eq!(row.files as usize, files.len());
            for file in files {
                lines.push(format!("{shown} file {} {} {}", file.name, low(&file.owner), file.content.0[0]));
            }
        }
        if let Ok(requests) = state.requests_page(node, group, None) {
            lines.extend(requests.iter().map(|request| format!("{shown} request {}", low(&request.user))));
        }
    }
    let owned = state.owned_requests_page(node, None).expect("the node has a user");
    let owned: Vec<_> = owned.iter().map(|row| format!("{} request {}", low(&row.group), low(&row.user))).collect();
    let waiting: Vec<_> = lines.iter().filter(|line| line.contains(" request ")).cloned().collect();
    assert_eq!(owned, waiting, "the requests of each group, in one list");
    lines.sort();
    Ok(lines)
}

fn any_command() -> impl Strategy<Value = Command> {
    let user = || proptest::sample::select(&USERS[..]).prop_map(name::<UserName>);
    let group = || proptest::sample::select(&GROUPS[..]).prop_map(name::<GroupName>);
    let file = || proptest::sample::select(&FILES[..]).prop_map(name::<FileName>);
    let policy = || proptest::sample::select(&[JoinPolicy::Approval, JoinPolicy::Open, JoinPolicy::Public][..]);
    prop_oneof![
        2 => user().prop_map(|user| Command::CreateUser { user, record: vec![1] }),
        1 => user().prop_map(|user| Command::EnrolNode { user }),
        4 => (user(), 1..3u8).prop_map(|(user, password)| Command::Login { user, proved: vec![password] }),
        2 => (1..3u8, 1..3u8, any::<bool>()).prop_map(|(old, new, all)| change_password(old, new, all)),
        1 => Just(Command::WithdrawNode),
        2 => proptest::sample::select(&NODES[..]).prop_map(|other| Command::WithdrawNodeOfUser { node: node(other) }),
        3 => (group(), policy()).prop_map(|(group, policy)| Command::CreateGroup { group, policy }),
        5 => group().prop_map(|group| Command::JoinGroup { group }),
        2 => (group(), any::<bool>()).prop_map(|(group, force)| Command::LeaveGroup { group, force }),
        4 => (group(), user()).prop_map(|(group, user)| Command::AcceptRequest { group, user }),
        1 => (group(), user()).prop_map(|(group, user)| Command::RejectRequest { group, user }),
        2 => (group(), user()).prop_map(|(group, user)| Command::RemoveMember { group, user }),
        2 => (group(), user()).prop_map(|(group, user)| Command::TransferGroup { group, user }),
        1 => group().prop_map(|group| Command::DeleteGroup { group }),
        5 => (group(), file(), 1..3u8).prop_map(|(group, name, number)| {
            Command::Publish { group, name, content: content(number), length: 10 }
        }),
        2 => (group(), file()).prop_map(|(group, name)| Command::Unpublish { group, name }),
        2 => (group(), policy()).prop_map(|(group, policy)| Command::SetPolicy { group, policy }),
        2 => (group(), file(), user()).prop_map(|(group, name, owner)| Command::RemoveFile { group, name, owner }),
        3 => (group(), file(), 1..3u8).prop_map(|(group, name, number)| {
            Command::Replace { group, name, content: content(number), length: 10 }
        }),
        1 => Just(Command::MakePublicGroup),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_state_agrees_with_a_naive_model(
        steps in proptest::collection::vec((proptest::sample::select(&NODES[..]), any_command()), 1..120)
    ) {
        let (mut bench, mut model, mut replica) = (Bench::default(), Model::default(), State::default());
        for (actor, command) in steps {
            let entry = bench.entry(actor, command);
            bench.step -= 1;
            let before = bench.state.clone();
            let reply = bench.apply(actor, entry.command.clone()).reply;
            if reply.is_err() {
                prop_assert_eq!(&before, &bench.state, "a refusal changes nothing");
            }
            let answer = reply.as_ref().map_err(|reject| reject.code).map(|outcome| match outcome {
                Outcome::Done => "done",
                Outcome::Joined => "joined",
                Outcome::Waiting { .. } => "waiting",
            });
            prop_assert_eq!(answer, model.apply(actor, &entry.command), "{}: {:?}", actor, entry.command);
            for node in NODES {
                prop_assert_eq!(seen_in(&bench.state, node), model.seen_by(node));
            }
            prop_assert_eq!(bench.state.epoch(), model.epoch, "grants carry the epoch");
            for (group, reader) in GROUPS.iter().flat_map(|group| NODES.map(|reader| (group, reader))) {
                let mut told = bench.state.revocations(&name(group), entry.at);
                let logouts = bench.state.logouts(entry.at).into_iter();
                told.extend(logouts.map(|(node, epoch)| Revocation { node: Some(node), epoch }));
                for granted in 0..=model.epoch {
                    let concerns = |whose: Option<NodeId>| whose.is_none_or(|whose| whose == node(reader));
                    let void = told.iter().any(|revoked| concerns(revoked.node) && granted < revoked.epoch);
                    prop_assert_eq!(void, model.is_void(&low(group), reader, granted), "{} in {}", reader, group);
                }
            }
            prop_assert_eq!(replica.apply(&entry).reply, reply);
            let bytes = bench.state.encode();
            prop_assert_eq!(&bytes, &replica.encode(), "two states fed alike are equal to the byte");
            let decoded = State::decode(&bytes);
            prop_assert_eq!(decoded.as_ref(), Ok(&bench.state));
        }
    }
}
