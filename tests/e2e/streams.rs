//! Downloads to standard output and uploads from standard input: pipes that are read to the end, slowly, or not.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use p2p_tests::file::{files_under, random_file};
use p2p_tests::wait::eventually;
use serde_json::json;

use super::*;

/// Several pieces, and a short one.
const LENGTH: u64 = 5 * MIB + 4_711;

/// So much that a reader who pauses holds it up.
const LONG: u64 = 256 * MIB;

/// `p2pctl download_file … -` with both outputs piped.
fn streaming(daemon: &Daemon) -> Command {
    let mut command = daemon.command_in_its_home();
    command.args(["download_file", "photos", NAME, "-"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command that runs, and what it writes.
fn start(mut command: Command) -> (Child, ChildStdout) {
    let mut child = command.spawn().expect("p2pctl starts");
    let stdout = child.stdout.take().expect("piped");
    (child, stdout)
}

/// What is left of streams on a daemon's disk.
fn left_of_streams(daemon: &Daemon) -> Vec<PathBuf> {
    files_under(&daemon.home.join("state").join("streams"))
}

/// Waits until the daemon has neither a download nor a byte of one.
fn nothing_is_left(daemon: &Daemon) {
    eventually("nothing is left of the stream", || {
        let downloads = daemon.json(&["show_downloads"])["downloads"] == json!([]);
        (downloads && left_of_streams(daemon).is_empty()).then_some(())
    });
}

#[test]
fn a_file_goes_to_standard_output_whole_and_nothing_else_does() {
    for length in [LENGTH, 0, 1] {
        let shared = Shared::new(length);
        let output = streaming(&shared.bob).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(output.stdout == std::fs::read(&shared.file).expect("readable"), "{length} bytes are not the file's");
        assert!(said.contains("→ standard output"), "{said}");
        nothing_is_left(&shared.bob);
        assert_eq!(shared.bob.json(&["list"])["shares"], json!([]), "it is not shared on");
    }
}

#[test]
fn documents_go_to_standard_error_while_a_file_has_the_other() {
    let shared = Shared::new(LENGTH);
    let output = streaming(&shared.bob).arg("--json").output().expect("runs");
    assert!(output.stdout == std::fs::read(&shared.file).expect("readable"));
    let said = String::from_utf8_lossy(&output.stderr);
    let documents: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = documents.last().expect("a result");
    assert_eq!((&documents[0]["type"], &last["type"]), (&"started".into(), &"result".into()), "{said}");
    assert_eq!((&last["destination"], number(last, "length")), (&"-".into(), LENGTH));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let shared = Shared::new(LONG);
    let (child, mut stdout) = start(streaming(&shared.bob));
    let mut begin = vec![0; 100];
    stdout.read_exact(&mut begin).expect("the first bytes");
    drop(stdout);
    let output = child.wait_with_output().expect("ends");
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), ""),
        "as `head` has it"
    );
    assert!(std::fs::read(&shared.file).expect("readable").starts_with(&begin));
    nothing_is_left(&shared.bob);
}

#[test]
fn a_reader_that_pauses_holds_the_transfer_up_and_a_killed_command_leaves_nothing() {
    let shared = Shared::new(LONG);
    let (mut child, mut stdout) = start(streaming(&shared.bob));
    let mut begin = vec![0; 100];
    stdout.read_exact(&mut begin).expect("the first bytes");
    let waiting = eventually("it waits for its reader", || {
        let download = only_download(&shared.bob);
        let waits = download["reason"].as_str().is_some_and(|reason| reason.contains("reads"));
        waits.then_some(download)
    });
    assert_eq!((&waiting["state"], &waiting["destination"]), (&"waiting".into(), &"-".into()));
    assert!(number(&waiting, "have_bytes") <= 64 * MIB, "no further ahead than it may be: {waiting}");
    let id = waiting["id"].as_str().expect("an id");
    assert_eq!(shared.bob.json(&["why", id])["bottleneck"], "reader");
    assert_eq!(shared.bob.refusal(&["pause", id]).code, "wrong_state");
    // A download into a file does not wait for it.
    let copy = shared.copy();
    shared.bob.run(&["download_file", "photos", NAME, text(&copy)]);
    p2p_tests::file::assert_equal(&shared.file, &copy);
    // And it goes on from there.
    let mut some = vec![0; (64 * MIB) as usize];
    stdout.read_exact(&mut some).expect("it goes on");
    let file = std::fs::read(&shared.file).expect("readable");
    assert!(file[100..].starts_with(&some));
    child.kill().expect("runs");
    child.wait().expect("killed");
    eventually("only the other download is left", || {
        (only_download(&shared.bob)["destination"] != "-" && left_of_streams(&shared.bob).is_empty()).then_some(())
    });
}

#[test]
fn what_is_shared_from_here_is_streamed_from_here() {
    let shared = Shared::new(LENGTH);
    let output = streaming(&shared.alice).output().expect("runs");
    assert!(output.stdout == std::fs::read(&shared.file).expect("readable"));
    nothing_is_left(&shared.alice);
    assert!(shared.file.exists(), "the shared file stays");
}

#[test]
fn a_file_here_that_changes_under_a_stream_is_gone_on_with_from_others() {
    let shared = Shared::new(LONG);
    let copy = shared.copy();
    shared.bob.run(&["download_file", "photos", NAME, text(&copy)]);
    let (child, mut stdout) = start(streaming(&shared.bob));
    let mut written = vec![0; 100];
    stdout.read_exact(&mut written).expect("the first bytes");
    std::fs::File::options().write(true).open(&copy).and_then(|file| file.set_len(MIB)).expect("cut short");
    stdout.read_to_end(&mut written).expect("reads");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(written == std::fs::read(&shared.file).expect("readable"));
    assert!(left_of_streams(&shared.bob).is_empty());
}

#[test]
fn two_streams_of_one_file_go_beside_each_other() {
    let shared = Shared::new(64 * MIB);
    let (mut first, mut stdout) = start(streaming(&shared.bob));
    let mut written = vec![0; 100];
    stdout.read_exact(&mut written).expect("the first bytes");
    let (mut second, other) = start(streaming(&shared.bob));
    let reader = std::thread::spawn(move || {
        let (mut other, mut bytes) = (other, Vec::new());
        other.read_to_end(&mut bytes).expect("reads");
        bytes
    });
    eventually("the second has begun", || {
        let downloads = shared.bob.json(&["show_downloads"]);
        (downloads["downloads"].as_array().is_some_and(|downloads| downloads.len() == 2)).then_some(())
    });
    // The first has seen enough; the second brings the rest by itself.
    drop(stdout);
    assert!(first.wait().expect("ends").success());
    assert!(reader.join().expect("read") == std::fs::read(&shared.file).expect("readable"));
    assert!(second.wait().expect("ends").success());
    nothing_is_left(&shared.bob);
}

#[test]
fn who_is_cut_off_or_cancelled_has_what_was_right_and_the_exit_code() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let file = random_file(world.folder(), NAME, LONG);
    alice.run(&["create_group", "photos", "--policy", "open"]);
    alice.run(&["upload_file", text(&file), "photos"]);
    bob.run(&["join_group", "photos"]);
    let original = std::fs::read(&file).expect("readable");
    let ended = |end: &dyn Fn()| {
        let (child, mut stdout) = start(streaming(&bob));
        let mut written = vec![0; 100];
        stdout.read_exact(&mut written).expect("the first bytes");
        end();
        stdout.read_to_end(&mut written).expect("reads");
        assert!(written.len() < original.len() && original.starts_with(&written), "what was written is right");
        let output = child.wait_with_output().expect("ends");
        nothing_is_left(&bob);
        output.status.code()
    };
    let cancel = || {
        let id = only_download(&bob)["id"].as_str().expect("an id").to_owned();
        bob.run(&["cancel", &id]);
    };
    assert_eq!(ended(&cancel), Some(6));
    assert_eq!(ended(&|| drop(alice.run(&["remove_member", "photos", "bob"]))), Some(5));
    assert_eq!(bob.refusal(&["download_file", "photos", NAME, "-"]).exit_code, 5);
}

#[test]
fn an_interrupted_stream_is_130_and_one_that_takes_too_long_11() {
    let mut shared = Shared::new(LONG);
    let (child, mut stdout) = start(streaming(&shared.bob));
    stdout.read_exact(&mut [0; 100]).expect("the first bytes");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).expect("our own child");
    // Nobody reads: the command ends all the same.
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the daemon keeps nothing of it"), "{said}");
    nothing_is_left(&shared.bob);
    shared.alice.stop();
    let output = streaming(&shared.bob).args(["--timeout", "300ms"]).output().expect("runs");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(11), 0));
    nothing_is_left(&shared.bob);
}

#[test]
fn a_daemon_that_is_killed_under_a_stream_starts_without_it() {
    let mut shared = Shared::new(LONG);
    let (child, mut stdout) = start(streaming(&shared.bob));
    stdout.read_exact(&mut [0; 100]).expect("the first bytes");
    assert!(!left_of_streams(&shared.bob).is_empty(), "it lies in the state folder meanwhile");
    shared.bob.kill();
    drop(stdout);
    let output = child.wait_with_output().expect("ends");
    assert!(matches!(output.status.code(), Some(0 | 7)), "its reader or the daemon was gone first: {output:?}");
    shared.bob.restart();
    nothing_is_left(&shared.bob);
}

#[test]
fn a_file_with_a_digest_of_its_whole_is_checked_and_comes() {
    let shared = Shared::new(LENGTH);
    let (other, bob) = (&shared.alice, &shared.bob);
    other.run(&["upload_file", text(&shared.file), "photos", "--name", "checked", "--whole-digest"]);
    let mut command = bob.command_in_its_home();
    let output = command.args(["download_file", "photos", "checked", "-"]).output().expect("runs");
    assert!(output.status.success() && output.stdout == std::fs::read(&shared.file).expect("readable"));
}

#[test]
fn standard_output_goes_with_no_other_place() {
    let shared = Shared::new(LENGTH);
    for option in ["--detach", "--force"] {
        assert_eq!(shared.bob.refusal(&["download_file", "photos", NAME, "-", option]).exit_code, 2);
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("there is one");
    let output = streaming(&shared.bob).stdout(full).output().expect("runs");
    assert_eq!(output.status.code(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    nothing_is_left(&shared.bob);
}

/// `p2pctl upload_file - photos …` by alice, with all three pipes.
fn uploading(daemon: &Daemon, options: &[&str]) -> Child {
    let mut command = daemon.command_in_its_home();
    command.args(["upload_file", "-", "photos"]).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("p2pctl starts")
}

/// Its exit code when it is given all these bytes, and what it says.
fn upload(daemon: &Daemon, bytes: &[u8], options: &[&str]) -> (Option<i32>, String) {
    let mut child = uploading(daemon, options);
    // Refused before it has read all, it hangs up.
    let _ = child.stdin.take().expect("piped").write_all(bytes);
    let output = child.wait_with_output().expect("ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What is kept of uploads on a daemon's disk.
fn kept_uploads(daemon: &Daemon) -> Vec<PathBuf> {
    let folder = daemon.home.join("state").join("uploads");
    if folder.exists() { files_under(&folder) } else { Vec::new() }
}

#[test]
fn standard_input_is_shared_and_kept_for_as_long_as_it_is() {
    let mut shared = Shared::new(1);
    let bytes = std::fs::read(random_file(shared.world.folder(), "piped", LENGTH)).expect("readable");
    assert_eq!(upload(&shared.alice, &bytes, &["--name", "piped.tar"]).0, Some(0));
    let kept = kept_uploads(&shared.alice);
    assert_eq!((kept.len(), p2p_tests::file::mode(&kept[0])), (1, 0o600));
    let fetch = |name: &str| {
        let mut command = shared.bob.command_in_its_home();
        command.args(["download_file", "photos", name, "-"]).output().expect("runs").stdout
    };
    assert!(fetch("piped.tar") == bytes);
    // Another of the name is refused and leaves nothing; in its place, it leaves nothing of the first.
    let (code, said) = upload(&shared.alice, b"other", &["--name", "piped.tar"]);
    assert_eq!(code, Some(6), "{said}");
    assert_eq!(kept_uploads(&shared.alice), kept);
    assert_eq!(upload(&shared.alice, b"other", &["--name", "piped.tar", "--force"]).0, Some(0));
    assert_eq!(fetch("piped.tar"), b"other");
    eventually("the first is deleted", || (kept_uploads(&shared.alice).len() == 1).then_some(()));
    assert_ne!(kept_uploads(&shared.alice), kept);
    // It is there over a restart, and gone with its listing.
    assert_eq!(upload(&shared.alice, b"", &["--name", "nothing"]).0, Some(0));
    shared.alice.kill();
    shared.alice.restart();
    assert_eq!(kept_uploads(&shared.alice).len(), 2);
    shared.alice.run(&["remove_file", "photos", "piped.tar"]);
    shared.alice.run(&["stop_share", "photos", "nothing"]);
    eventually("what is not shared is not kept", || kept_uploads(&shared.alice).is_empty().then_some(()));
}

#[test]
fn standard_input_that_no_tracker_can_publish_yet_is_kept() {
    let mut shared = Shared::new(1);
    shared.world.tracker.kill();
    let (code, said) = upload(&shared.alice, b"piped", &["--name", "later"]);
    assert_eq!((code, said.contains("waits to be published")), (Some(8), true), "{said}");
    assert_eq!(upload(&shared.alice, b"given up", &["--name", "never"]).0, Some(8));
    shared.alice.run(&["stop_share", "photos", "never"]);
    eventually("what is given up is not kept", || (kept_uploads(&shared.alice).len() == 1).then_some(()));
    shared.alice.kill();
    shared.alice.restart();
    shared.world.tracker.restart();
    let fetched = eventually("it is published", || {
        let mut command = shared.bob.command_in_its_home();
        let output = command.args(["download_file", "photos", "later", "-"]).output().expect("runs");
        output.status.success().then_some(output.stdout)
    });
    assert_eq!(fetched, b"piped");
}

#[test]
fn an_upload_that_is_interrupted_or_killed_publishes_nothing_and_leaves_nothing() {
    let shared = Shared::new(1);
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::KILL] {
        let mut child = uploading(&shared.alice, &["--name", "cut"]);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&vec![7; MIB as usize]).expect("taken");
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, signal).expect("our own child");
        let output = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(130) | None), "{signal:?}: {said}");
        drop(stdin);
        assert_eq!(kept_uploads(&shared.alice), Vec::<PathBuf>::new());
    }
    assert_eq!(shared.bob.refusal(&["file_info", "photos", "cut"]).code, "file_not_found");
    let (code, said) = upload(&shared.alice, b"no name", &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("--name"), "{said}");
}

#[test]
fn a_disk_without_room_for_what_is_piped_is_exit_code_9() {
    let Some(disk) = p2p_tests::small_disk::SmallDisk::new(32) else { return };
    let shared = Shared::new(LONG);
    for (daemon, folder) in [(&shared.alice, "uploads"), (&shared.bob, "streams")] {
        let (place, link) = (disk.path().join(folder), daemon.home.join("state").join(folder));
        std::fs::create_dir(&place).expect("made");
        let _ = std::fs::remove_dir(&link);
        std::os::unix::fs::symlink(&place, &link).expect("linked");
    }
    let (code, said) = upload(&shared.alice, &vec![7; 64 << 20], &["--name", "large"]);
    assert_eq!(code, Some(9), "{said}");
    let output = streaming(&shared.bob).output().expect("runs");
    assert_eq!(output.status.code(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    eventually("nothing is left", || files_under(disk.path()).is_empty().then_some(()));
}
