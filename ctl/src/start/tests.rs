//! Starting, with a shell script for a daemon: it moves a socket that is listened at into its place, and says so.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, PoisonError};

use p2p_proto::control::{Answer, Frame, Request, Shares};

use super::*;
use crate::fake_daemon::{Home, converse, greeting};

/// A starter of a script, in a home of its own.
fn starter(home: &Home, script: &str, timeout: Duration) -> Starter {
    let program = home.path().join("p2pd");
    let staged = home.path().join("staged.sock");
    let text = format!("#!/bin/sh\nserve() {{ mv '{}' '{}'; }}\n{script}\n", staged.display(), home.socket().display());
    std::fs::write(&program, text).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("executable");
    Starter { program, home: Some(home.path().to_owned()), folders: home.folders(), timeout }
}

/// One script at a time: a program cannot be executed (ETXTBSY) while the child that another test has just forked
/// still holds it open for writing.
static STARTING: Mutex<()> = Mutex::new(());

/// Starts the script and asks it for its shares; with the process id of a daemon that serves.
fn start(home: &Home, script: &str, timeout: Duration) -> (Result<Connection, Failure>, Option<u32>) {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    start_with(&starter(home, script, timeout), home)
}

fn start_with(starter: &Starter, home: &Home) -> (Result<Connection, Failure>, Option<u32>) {
    let mut process_id = None;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(async {
        let mut connection = starter.start(&home.socket(), |id| process_id = Some(id)).await?;
        connection.send(&Request::ListShares).await?;
        assert_eq!(connection.receive().await?, Frame::Result(Ok(no_shares())));
        Ok(connection)
    });
    (outcome, process_id)
}

fn no_shares() -> Answer {
    Answer::Shares(Shares { shares: Vec::new() })
}

/// A daemon that listens, under the name that the script moves into place.
fn stage(home: &Home) {
    let listener = UnixListener::bind(home.path().join("staged.sock")).expect("bound");
    std::thread::spawn(move || converse(&listener, &greeting(), &[Frame::Result(Ok(no_shares()))]));
}

fn refusal(outcome: Result<Connection, Failure>) -> p2p_proto::reject::Reject {
    match outcome {
        Err(Failure::Refused(reject)) => reject,
        other => panic!("{other:?}"),
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_daemon_is_started_with_its_home_and_asked_once_it_is_ready() {
    let home = Home::new();
    stage(&home);
    let script = "echo starting; echo \"$@\" >&2; serve; echo 'p2pd ready here'; exec sleep 0";
    let (outcome, process_id) = start(&home, script, LONG);
    outcome.expect("started");
    assert!(process_id.is_some());
    let log = std::fs::read_to_string(home.folders().daemon_log()).expect("a log");
    assert_eq!(log.trim(), format!("--home {}", home.path().display()));
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&home.folders().daemon_log()), mode(&home.folders().state)), (0o600, 0o700));
}

#[test]
fn a_daemon_that_somebody_else_has_started_is_used() {
    let home = Home::new();
    stage(&home);
    let script = "serve; echo 'error: another daemon runs' >&2; exit 1";
    let (outcome, _) = start(&home, script, LONG);
    outcome.expect("connected");
}

#[test]
fn a_daemon_that_ends_leaves_its_last_words() {
    let home = Home::new();
    std::fs::create_dir(home.folders().state).expect("made");
    std::fs::write(home.folders().daemon_log(), "words of yesterday\n").expect("written");
    let script = "for n in 1 2 3 4; do echo \"line $n\" >&2; done; exit 3";
    let refusal = refusal(start(&home, script, LONG).0);
    assert_eq!(refusal.code, ErrorCode::NO_DAEMON);
    assert_eq!(refusal.message, "p2pd could not be started: it ended (exit status: 3): line 2; line 3; line 4");
    assert!(refusal.hint.contains("p2pd.log"));
    let refusal = self::refusal(start(&home, "exit 0", LONG).0);
    assert_eq!(refusal.message, "p2pd could not be started: it ended (exit status: 0)", "nothing of earlier starts");
}

#[test]
fn a_daemon_that_never_gets_ready_is_not_waited_for() {
    let home = Home::new();
    let refusal = refusal(start(&home, "exec sleep 1", Duration::ZERO).0);
    assert_eq!(refusal.code, ErrorCode::NO_DAEMON);
    assert!(refusal.message.contains("is not ready after 0 s"), "{}", refusal.message);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let home = Home::new();
    let (program, folders) = (home.path().join("nothing"), home.folders());
    let starter = Starter { program, home: None, folders, timeout: LONG };
    let refusal = refusal(start_with(&starter, &home).0);
    assert_eq!(refusal.message, "p2pd is neither beside p2pctl nor in PATH");
}
