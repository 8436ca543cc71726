//! Who is who: keys that stay, are kept from others, and are missed loudly when they change.

use p2p_tests::World;
use p2p_tests::file::{files_under, mode};
use p2p_tests::wait::eventually;

#[test]
fn a_node_keeps_its_name_over_restarts() {
    let world = World::new();
    let mut alice = world.daemon("alice");
    let before = alice.json(&["status"])["node"].clone();
    assert_eq!(before.as_str().map(str::len), Some(64));
    alice.stop();
    alice.restart();
    assert_eq!(alice.json(&["status"])["node"], before);
    alice.kill();
    alice.restart();
    assert_eq!(alice.json(&["status"])["node"], before);
    assert_ne!(world.daemon("bob").json(&["status"])["node"], before);
}

#[test]
fn a_tracker_keeps_its_name_over_restarts() {
    let mut world = World::new();
    let before = (world.tracker.id.clone(), world.tracker.address);
    world.tracker.stop();
    world.tracker.restart();
    assert_eq!((world.tracker.id.clone(), world.tracker.address), before);
    world.tracker.kill();
    world.tracker.restart();
    assert_eq!((world.tracker.id.clone(), world.tracker.address), before);
}

#[test]
fn nobody_else_reads_a_key_or_enters_a_folder() {
    let world = World::new();
    let alice = world.user("alice");
    assert_eq!(mode(&alice.socket()), 0o600);
    assert_eq!(mode(alice.socket().parent().expect("a folder")), 0o700);
    for home in [&alice.home, &world.tracker.home] {
        let files = files_under(home);
        let keys = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "key"));
        assert_eq!(keys.clone().count(), 1, "{files:?}");
        for key in keys {
            assert_eq!(mode(key), 0o600, "{}", key.display());
        }
        for file in &files {
            let folder = file.parent().expect("a folder");
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
    }
}

#[test]
fn a_tracker_with_another_key_is_refused_until_the_hint_is_followed() {
    let mut world = World::new();
    let alice = world.user("alice");
    world.tracker.stop();
    let keys = files_under(&world.tracker.home);
    let key = keys.iter().find(|path| path.ends_with("identity.key")).expect("the tracker's key");
    std::fs::remove_file(key).expect("was there");
    let old_id = world.tracker.id.clone();
    world.tracker.restart();
    assert_ne!(world.tracker.id, old_id);

    let refusal = eventually("the daemon meets the other key", || {
        let refusal = alice.refusal(&["list_groups"]);
        (refusal.code == "tracker_key_changed").then_some(refusal)
    });
    assert_eq!(refusal.exit_code, 8);
    let told = format!("{} {}", refusal.message, refusal.hint.clone().unwrap_or_default());
    assert!(told.contains(&world.tracker.address.to_string()), "which tracker: {told}");
    let status = alice.json(&["status"]);
    assert_eq!(status["trackers"][0]["state"], "key_changed", "{status}");
    assert_ne!(status["problems"], serde_json::json!([]), "{status}");

    follow_hint(&refusal.hint.expect("what to do"));
    // A tracker that lost its key kept its users: the enrolment holds.
    eventually("the tracker is used again", || alice.ctl().output(&["list_groups"]).status.success().then_some(()));
    let status = alice.json(&["status"]);
    assert_eq!((&status["trackers"][0]["state"], &status["user"]), (&"ok".into(), &"alice".into()));
    assert_eq!(status["trackers"][0]["node"], world.tracker.id.as_str());
}

/// Does what the hint says: "remove the line `…` from FILE".
fn follow_hint(hint: &str) {
    let line = hint.split('`').nth(1).unwrap_or_else(|| panic!("the hint names no line: {hint}"));
    let words = hint.split(|c: char| c.is_whitespace() || ",;`".contains(c));
    let path = words.map(std::path::Path::new).find(|path| path.is_file());
    let path = path.unwrap_or_else(|| panic!("the hint names no file: {hint}"));
    let text = std::fs::read_to_string(path).expect("reads");
    assert!(text.lines().any(|known| known == line), "no line `{line}` in {text}");
    let rest: String = text.lines().filter(|known| *known != line).map(|known| format!("{known}\n")).collect();
    std::fs::write(path, rest).expect("writes");
}
