//! What the operator's record says of each kind of change. What needs connections is tested with the real programs.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use p2p_proto::id::{ContentId, NodeId, RequestId};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::JoinPolicy;
use tracing::Level;

use super::super::audit;
use super::harness::named;
use crate::state::{Command, Entry, State};

/// A state, and the record of what happens to it.
struct Record {
    state: State,
    step: u8,
    text: Arc<Mutex<Vec<u8>>>,
    /// Who loses what it only read, by what happens next.
    readers: BTreeSet<NodeId>,
}

impl Record {
    fn new() -> Record {
        Record { state: State::default(), step: 0, text: Arc::default(), readers: BTreeSet::new() }
    }

    /// Applies a command of a node and gives the lines that it is worth, without the two that every line has: who asked, and
    /// from where.
    fn lines(&mut self, level: Level, actor: u8, command: Command) -> Vec<String> {
        self.step += 1;
        let (request, at) = (RequestId([self.step; 16]), UnixMillis(self.step.into()));
        self.lines_of(level, &Entry { request, actor: NodeId([actor; 32]), at, command })
    }

    fn lines_of(&mut self, level: Level, entry: &Entry) -> Vec<String> {
        let text = Arc::clone(&self.text);
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || Text(Arc::clone(&text)))
            .finish();
        let applied = self.state.apply(entry);
        let address = "192.0.2.7".parse().expect("an address");
        tracing::subscriber::with_default(subscriber, || {
            audit::record(&self.state, entry, &applied, Some(address), &self.readers);
        });
        let written = std::mem::take(&mut *self.text.lock().expect("whole"));
        let written = String::from_utf8(written).expect("text");
        let of_actor = format!(" node={} ", entry.actor);
        let shown = |line: &str| {
            assert!(line.contains(&of_actor) && line.contains(" address=192.0.2.7"), "{line}");
            line.replace(&of_actor, " ").replace(" address=192.0.2.7", "").trim_start().replace(" audit:", "")
        };
        written.lines().map(shown).collect()
    }
}

struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const ALICE: u8 = 0xa1;
const PHONE: u8 = 0xa2;
const BOB: u8 = 0xb1;

fn password(proved: u8, record: u8, log_out_everywhere: bool) -> Command {
    Command::ChangePassword { proved: vec![proved], record: vec![record], log_out_everywhere }
}

#[test]
fn each_change_is_a_line() {
    let (alice, bob) = (|| named("Alice"), || named("bob"));
    let group = || named("photos");
    let create_user = |user| Command::CreateUser { user, record: vec![1] };
    let login = |user| Command::Login { user, proved: vec![1] };
    let device = |node: u8| NodeId([node; 32]).to_string();
    let (phone, bobs) = (device(PHONE), device(BOB));
    let steps = [
        (ALICE, create_user(alice()), r#"action=create_user result=done by="" user="Alice""#),
        (ALICE, login(named("alice")), r#"action=login result=done by="Alice" user="Alice""#),
        (BOB, create_user(named("ALICE")), r#"action=create_user result=refused code=user_exists by="" user="Alice""#),
        (BOB, login(bob()), r#"action=login result=refused code=login_refused by="" user="bob""#),
        (BOB, create_user(bob()), r#"action=create_user result=done by="" user="bob""#),
        (BOB, login(bob()), r#"action=login result=done by="bob" user="bob""#),
        (
            ALICE,
            Command::CreateGroup { group: named("Photos"), policy: JoinPolicy::Approval },
            r#"action=create_group result=done by="Alice" group="Photos" policy=Approval"#,
        ),
        (
            BOB,
            Command::JoinGroup { group: group() },
            r#"action=join_group result=done by="bob" group="Photos" waiting_for="Alice""#,
        ),
        (
            BOB,
            Command::AcceptRequest { group: group(), user: bob() },
            r#"action=accept_request result=refused code=not_owner by="bob" user="bob" group="photos""#,
        ),
        (
            ALICE,
            Command::RejectRequest { group: group(), user: bob() },
            r#"action=reject_request result=done by="Alice" user="bob" group="Photos""#,
        ),
        (
            BOB,
            Command::JoinGroup { group: group() },
            r#"action=join_group result=done by="bob" group="Photos" waiting_for="Alice""#,
        ),
        (
            ALICE,
            Command::AcceptRequest { group: group(), user: bob() },
            r#"action=accept_request result=done by="Alice" user="bob" group="Photos""#,
        ),
        (
            BOB,
            Command::RemoveMember { group: group(), user: alice() },
            r#"action=remove_member result=refused code=not_owner by="bob" user="Alice" group="photos""#,
        ),
        (
            ALICE,
            Command::RemoveMember { group: group(), user: bob() },
            r#"action=remove_member result=done by="Alice" user="bob" group="Photos" cut_off=1"#,
        ),
        (
            ALICE,
            Command::CreateGroup { group: named("open\""), policy: JoinPolicy::Open },
            r#"action=create_group result=done by="Alice" group="open\"" policy=Open"#,
        ),
        (
            BOB,
            Command::JoinGroup { group: named("open\"") },
            r#"action=join_group result=done by="bob" group="open\"""#,
        ),
        (
            ALICE,
            Command::TransferGroup { group: named("open\""), user: bob() },
            r#"action=transfer_group result=done by="Alice" user="bob" group="open\"""#,
        ),
        (
            ALICE,
            Command::LeaveGroup { group: named("open\""), force: false },
            r#"action=leave_group result=done by="Alice" group="open\"" cut_off=1"#,
        ),
        (
            ALICE,
            Command::DeleteGroup { group: group() },
            r#"action=delete_group result=done by="Alice" group="Photos" cut_off=1"#,
        ),
        (PHONE, login(alice()), r#"action=login result=done by="Alice" user="Alice""#),
        (ALICE, password(7, 2, true), r#"action=change_password result=refused code=login_refused by="Alice""#),
        (
            ALICE,
            password(1, 2, true),
            &format!(
                "action=change_password result=done by=\"Alice\"\nINFO action=logout result=done by=\"Alice\" device={phone}"
            ),
        ),
        (
            ALICE,
            Command::WithdrawNodeOfUser { node: NodeId([BOB; 32]) },
            &format!("action=logout result=refused code=node_not_found by=\"Alice\" device={bobs}"),
        ),
        (BOB, Command::WithdrawNode, &format!("action=logout result=done by=\"bob\" device={bobs} cut_off=1")),
    ];
    let mut record = Record::new();
    for (actor, command, expected) in steps {
        assert_eq!(record.lines(Level::INFO, actor, command).join("\n"), format!("INFO {expected}"));
    }
}

#[test]
fn a_retry_and_what_changes_nothing_have_no_line() {
    let mut record = Record::new();
    let create = Command::CreateUser { user: named("alice"), record: vec![1] };
    let entry = Entry { request: RequestId([9; 16]), actor: NodeId([ALICE; 32]), at: UnixMillis(1), command: create };
    assert_eq!(record.lines_of(Level::INFO, &entry).len(), 1);
    assert!(record.lines_of(Level::INFO, &entry).is_empty());
    let login = || Command::Login { user: named("alice"), proved: vec![1] };
    assert_eq!(record.lines(Level::INFO, ALICE, login()).len(), 1);
    assert!(record.lines(Level::INFO, ALICE, login()).is_empty());
}

#[test]
fn listings_have_lines_for_who_looks_closer() {
    let mut record = Record::new();
    record.lines(Level::INFO, ALICE, Command::CreateUser { user: named("alice"), record: vec![1] });
    record.lines(Level::INFO, ALICE, Command::Login { user: named("alice"), proved: vec![1] });
    record.lines(Level::INFO, ALICE, Command::CreateGroup { group: named("g"), policy: JoinPolicy::Open });
    let publish =
        |name| Command::Publish { group: named("g"), name: named(name), content: ContentId([1; 32]), length: 1 };
    assert!(record.lines(Level::INFO, ALICE, publish("a")).is_empty());
    let expected = r#"DEBUG action=publish result=done by="alice" group="g" file="b""#;
    assert_eq!(record.lines(Level::DEBUG, ALICE, publish("b")), [expected]);
    let unpublish = Command::Unpublish { group: named("g"), name: named("b") };
    let expected = r#"DEBUG action=remove_file result=done by="alice" group="g" file="b""#;
    assert_eq!(record.lines(Level::DEBUG, ALICE, unpublish), [expected]);
}

#[test]
fn a_policy_that_lets_in_or_cuts_off_says_whom_and_how_many() {
    let mut record = Record::new();
    for (node, user) in [(ALICE, "alice"), (PHONE, "phil"), (BOB, "bob")] {
        record.lines(Level::INFO, node, Command::CreateUser { user: named(user), record: vec![1] });
        record.lines(Level::INFO, node, Command::Login { user: named(user), proved: vec![1] });
    }
    let policy = |policy| Command::SetPolicy { group: named("g"), policy };
    record.lines(Level::INFO, ALICE, Command::CreateGroup { group: named("g"), policy: JoinPolicy::Approval });
    for node in [PHONE, BOB] {
        record.lines(Level::INFO, node, Command::JoinGroup { group: named("g") });
    }
    let expected = [
        r#"INFO action=set_policy result=done by="alice" group="g" policy=Public"#,
        r#"INFO action=accept_request result=done by="alice" user="phil" group="g""#,
        r#"INFO action=accept_request result=done by="alice" user="bob" group="g""#,
    ];
    assert_eq!(record.lines(Level::INFO, ALICE, policy(JoinPolicy::Public)), expected);
    record.readers = BTreeSet::from([NodeId([1; 32]), NodeId([2; 32])]);
    let expected = [r#"INFO action=set_policy result=done by="alice" group="g" policy=Open cut_off=2"#];
    assert_eq!(record.lines(Level::INFO, ALICE, policy(JoinPolicy::Open)), expected);
    let expected = [r#"INFO action=delete_group result=done by="alice" group="g" cut_off=5"#];
    assert_eq!(record.lines(Level::INFO, ALICE, Command::DeleteGroup { group: named("g") }), expected);
}
