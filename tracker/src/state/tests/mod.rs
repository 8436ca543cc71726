//! Tests of the state. `transcripts/*.txt` show what it does and are read first; `rules.rs` holds one rule a test;
//! `public.rs` those of the built-in group; `model.rs` compares it with a naive model over random commands.

mod model;
mod public;
mod rules;
mod transcript;

use p2p_proto::id::{ContentId, NodeId, RequestId};
use p2p_proto::reject::ErrorCode;
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::JoinPolicy;

use super::{Applied, Command, Entry, Outcome, State};

/// A name that the test knows to be allowed.
fn name<T: std::str::FromStr<Err = p2p_proto::name::NameError>>(text: &str) -> T {
    text.parse().expect("the test's names are allowed")
}

/// The node called `label`, padded with zeros.
fn node(label: &str) -> NodeId {
    let mut id = [0; 32];
    id[..label.len()].copy_from_slice(label.as_bytes());
    NodeId(id)
}

/// The content made of one number.
fn content(number: u8) -> ContentId {
    ContentId([number; 32])
}

/// A state under test: counts requests and time, checks the invariant after each step, and that the same entry again
/// is answered alike and changes nothing.
#[derive(Default)]
struct Bench {
    state: State,
    step: u64,
}

impl Bench {
    /// A bench with these users, each logged in on the node of the same name.
    fn with_users(users: &[&str]) -> Bench {
        let mut bench = Bench::default();
        for user in users {
            bench.ok(user, Command::CreateUser { user: name(user), record: vec![1] });
            bench.ok(user, login(user, 1));
        }
        bench
    }

    fn entry(&mut self, actor: &str, command: Command) -> Entry {
        self.step += 1;
        let mut request = [0; 16];
        request[..8].copy_from_slice(&self.step.to_le_bytes());
        Entry { request: RequestId(request), actor: node(actor), at: UnixMillis(self.step * 1000), command }
    }

    fn apply(&mut self, actor: &str, command: Command) -> Applied {
        let entry = self.entry(actor, command);
        let applied = self.state.apply(&entry);
        self.state.invariant();
        if applied.reply.is_ok() {
            let before = self.state.clone();
            let again = self.state.apply(&entry);
            assert_eq!(again.reply, applied.reply, "a retry is answered alike");
            assert!(again.changes.is_empty() && self.state == before, "a retry changes nothing");
        }
        applied
    }

    fn ok(&mut self, actor: &str, command: Command) -> Outcome {
        let shown = format!("{actor}: {command:?}");
        self.apply(actor, command).reply.unwrap_or_else(|reject| panic!("{shown} is refused: {reject}"))
    }

    fn refused(&mut self, actor: &str, command: Command) -> ErrorCode {
        let before = self.state.clone();
        let shown = format!("{actor}: {command:?}");
        let reject = self.apply(actor, command).reply.expect_err(&shown);
        assert_eq!(self.state, before, "a refusal changes nothing");
        reject.code
    }
}

/// A login with this password; accounts are made with 1.
fn login(user: &str, password: u8) -> Command {
    Command::Login { user: name(user), proved: vec![password] }
}

fn change_password(old: u8, new: u8, log_out_everywhere: bool) -> Command {
    Command::ChangePassword { proved: vec![old], record: vec![new], log_out_everywhere }
}

fn create(group: &str, policy: JoinPolicy) -> Command {
    Command::CreateGroup { group: name(group), policy }
}

fn join(group: &str) -> Command {
    Command::JoinGroup { group: name(group) }
}

fn leave(group: &str, force: bool) -> Command {
    Command::LeaveGroup { group: name(group), force }
}

fn accept(group: &str, user: &str) -> Command {
    Command::AcceptRequest { group: name(group), user: name(user) }
}

fn turn_away(group: &str, user: &str) -> Command {
    Command::RejectRequest { group: name(group), user: name(user) }
}

fn remove(group: &str, user: &str) -> Command {
    Command::RemoveMember { group: name(group), user: name(user) }
}

fn transfer(group: &str, user: &str) -> Command {
    Command::TransferGroup { group: name(group), user: name(user) }
}

fn publish(group: &str, file: &str, number: u8) -> Command {
    Command::Publish { group: name(group), name: name(file), content: content(number), length: 10 }
}

fn unpublish(group: &str, file: &str) -> Command {
    Command::Unpublish { group: name(group), name: name(file) }
}

fn replace(group: &str, file: &str, number: u8) -> Command {
    Command::Replace { group: name(group), name: name(file), content: content(number), length: 10 }
}

fn remove_file(group: &str, file: &str, owner: &str) -> Command {
    Command::RemoveFile { group: name(group), name: name(file), owner: name(owner) }
}

fn set_policy(group: &str, policy: JoinPolicy) -> Command {
    Command::SetPolicy { group: name(group), policy }
}
