//! Runs the transcripts: text files that show what the state does, after the manner of etcd's `testdata`.
//!
//! A line beginning with a letter or `NODE:` is a command, the indented lines below are what it must answer and change; `#`
//! comments. `REWRITE_TRANSCRIPTS=1 cargo test -p p2p-tracker transcript` writes what is answered now into the files,
//! to be read in the diff.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use p2p_proto::tracker::EnrolledNode;

use super::super::{Change, Revocation};
use super::*;

#[test]
fn transcripts_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state/tests/transcripts");
    let mut files = 0;
    for file in fs::read_dir(&folder).expect("the folder of transcripts") {
        let path = file.expect("readable").path();
        let text = fs::read_to_string(&path).expect("readable");
        let played = play(&text);
        files += 1;
        if std::env::var_os("REWRITE_TRANSCRIPTS").is_some() {
            fs::write(&path, played).expect("writable");
        } else {
            assert_eq!(text, played, "{} no longer holds", path.display());
        }
    }
    assert!(files > 0, "no transcripts were found");
}

/// The transcript with each command's answer as it is now.
fn play(text: &str) -> String {
    let mut bench = Bench::default();
    let mut played = String::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            continue;
        }
        played.push_str(line);
        played.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            answer(&mut bench, line, &mut played);
        }
    }
    played
}

/// Runs one line `NODE: VERB ARGUMENTS` and writes what comes of it.
fn answer(bench: &mut Bench, line: &str, out: &mut String) {
    let (actor, rest) = line.split_once(": ").expect("a line is NODE: VERB ARGUMENTS");
    let words: Vec<&str> = rest.split(' ').collect();
    if show(bench, actor, &words, out) {
        return;
    }
    let applied = bench.apply(actor, command(&words));
    match &applied.reply {
        Ok(outcome) => writeln!(out, "  {outcome:?}"),
        Err(reject) if reject.hint.is_empty() => writeln!(out, "  refused {:?}: {reject}", reject.code),
        Err(reject) => writeln!(out, "  refused {:?}: {reject} | {}", reject.code, reject.hint),
    }
    .expect("writes to memory");
    for change in &applied.changes {
        writeln!(out, "    {}", shown(change)).expect("writes to memory");
    }
}

/// The command that words spell.
fn command(words: &[&str]) -> Command {
    match *words {
        ["create_user", user] => Command::CreateUser { user: name(user), record: vec![1] },
        ["login", user] => login(user, 1),
        ["login", user, password] => login(user, number(password)),
        ["logout"] => Command::WithdrawNode,
        ["logout", "--node", other] => Command::WithdrawNodeOfUser { node: node(other) },
        ["change_password", old, new] => change_password(number(old), number(new), false),
        ["change_password", old, new, "--log-out-everywhere"] => change_password(number(old), number(new), true),
        ["create_group", group, policy] => create(group, self::policy(policy)),
        ["set_policy", group, policy] => set_policy(group, self::policy(policy)),
        ["join_group", group] => join(group),
        ["leave_group", group] => leave(group, false),
        ["leave_group", group, "--force"] => leave(group, true),
        ["accept_request", group, user] => accept(group, user),
        ["reject_request", group, user] => turn_away(group, user),
        ["remove_member", group, user] => remove(group, user),
        ["transfer_group", group, user] => transfer(group, user),
        ["delete_group", group] => Command::DeleteGroup { group: name(group) },
        ["publish", group, file, number] => publish(group, file, self::number(number)),
        ["replace", group, file, number] => replace(group, file, self::number(number)),
        ["unpublish", group, file] => unpublish(group, file),
        ["remove_file", group, file, owner] => remove_file(group, file, owner),
        ["make_public_group"] => Command::MakePublicGroup,
        _ => panic!("no command `{}`", words.join(" ")),
    }
}

fn policy(word: &str) -> JoinPolicy {
    match word {
        "approval" => JoinPolicy::Approval,
        "open" => JoinPolicy::Open,
        "public" => JoinPolicy::Public,
        _ => panic!("no policy `{word}`"),
    }
}

/// A content or a password, which here are numbers.
fn number(word: &str) -> u8 {
    word.parse().expect("a content or a password is a number")
}

/// Answers the words if they are a query.
fn show(bench: &Bench, actor: &str, words: &[&str], out: &mut String) -> bool {
    let (state, node) = (&bench.state, node(actor));
    let lines: Result<Vec<String>, _> = match *words {
        ["list_groups"] => state.groups_page(node, false, None).map(|page| {
            let line = |group: &p2p_proto::tracker::Group| {
                let p2p_proto::tracker::Group { group, owner, policy, members, files, standing, born: _ } = group;
                format!("{group} of {owner}, {policy:?}, {members} members, {files} files, you: {standing:?}")
            };
            page.iter().map(line).collect()
        }),
        ["list_members", group] => state.members_page(node, &name(group), None).map(|page| {
            page.iter().map(|member| format!("{}{}", member.user, if member.owner { ", owner" } else { "" })).collect()
        }),
        ["list_requests", group] => state
            .requests_page(node, &name(group), None)
            .map(|page| page.iter().map(|request| request.user.to_string()).collect()),
        ["list_owned_requests"] => state.owned_requests_page(node, None).map(|page| {
            page.iter().map(|request| format!("{} asks to join {}", request.user, request.group)).collect()
        }),
        ["list_files", group] => state.files_page(node, &name(group), None).map(|page| {
            page.iter().map(|file| format!("{} of {}: content {}", file.name, file.owner, file.content.0[0])).collect()
        }),
        ["list_nodes"] => state.nodes(node).map(|nodes| {
            let since = |node: &EnrolledNode| node.since.map_or("?".to_owned(), |since| since.0.to_string());
            nodes.iter().map(|node| format!("{} since {}", label(&node.node), since(node))).collect()
        }),
        ["grant", group] => {
            state.may_read(node, &name(group)).map(|readable| vec![format!("of epoch {}", readable.epoch)])
        }
        ["revocations", group] => {
            let line = |revocation: &Revocation| match revocation.node {
                Some(node) => format!("{} before epoch {}", label(&node), revocation.epoch),
                None => format!("everybody before epoch {}", revocation.epoch),
            };
            Ok(state.revocations(&name(group), UnixMillis(bench.step * 1000)).iter().map(line).collect())
        }
        _ => return false,
    };
    match lines {
        Ok(lines) if lines.is_empty() => writeln!(out, "  (none)"),
        Ok(lines) => lines.iter().try_for_each(|line| writeln!(out, "  {line}")),
        Err(reject) => writeln!(out, "  refused {:?}: {reject}", reject.code),
    }
    .expect("writes to memory");
    true
}

/// What the transcript calls a node.
fn label(node: &NodeId) -> String {
    String::from_utf8_lossy(&node.0).trim_end_matches('\0').to_owned()
}

/// A change as a line.
fn shown(change: &Change) -> String {
    match change {
        Change::UserCreated { user } => format!("user created: {user}"),
        Change::Enrolled { node, user } => format!("enrolled: node {} under {user}", label(node)),
        Change::Withdrawn { node, user, .. } => format!("withdrawn: node {} of {user}", label(node)),
        Change::GroupCreated { group, owner, policy } => format!("group created: {group} of {owner}, {policy:?}"),
        Change::PublicGroupMade => "the group public is built in from now on".to_owned(),
        Change::GroupEnded { group, .. } => format!("group ended: {group}"),
        Change::Membership { group, user, standing } => format!("in {group}, {user} is now: {standing:?}"),
        Change::JoinRequested { group, owner, user } => format!("in {group}, {owner} decides about {user}"),
        Change::AccessLost { group, nodes, epoch } => {
            let nodes: Vec<_> = nodes.iter().map(label).collect();
            format!("access to {group} lost: {}, void are grants before epoch {epoch}", nodes.join(" "))
        }
        Change::PolicyChanged { group, policy } => format!("policy of {group} is now: {policy:?}"),
        Change::GrantsVoided { group, epoch } => format!("void are all grants for {group} before epoch {epoch}"),
        Change::Published { group, name, owner, content } => {
            format!("published in {group}: {name} of {owner}, content {}", content.0[0])
        }
        Change::Unpublished { group, name, owner } => format!("unpublished from {group}: {name} of {owner}"),
        Change::PasswordChanged { user } => format!("password changed: {user}"),
    }
}
