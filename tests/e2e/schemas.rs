//! Every verb with `--json`: each document is as its JSON Schema has it, and each schema has its document.

use std::collections::BTreeSet;

use p2p_tests::schema;
use p2p_tests::world::PASSWORD;

use super::*;

/// Runs commands, whose documents are checked where they are read, and notes their types.
struct Seen(BTreeSet<String>);

impl Seen {
    fn ran(&mut self, daemon: &Daemon, words: &str) -> Value {
        let words: Vec<&str> = words.split(' ').collect();
        let documents = daemon.ctl().documents(&words);
        self.0.extend(documents.iter().filter_map(|document| document["type"].as_str().map(str::to_owned)));
        documents.last().cloned().unwrap_or_default()
    }

    fn id(&mut self, daemon: &Daemon, words: &str) -> String {
        self.ran(daemon, words)["id"].as_str().expect("an id").to_owned()
    }
}

#[test]
fn every_document_of_every_verb_is_as_its_schema_has_it() {
    let world = World::new();
    let (alice, bob, other) = (world.user("alice"), world.user("bob"), world.daemon("other"));
    let mut seen = Seen(BTreeSet::new());
    let file = random_file(world.folder(), "beach.jpg", 3 * MIB);
    let large = random_file(world.folder(), "large", 64 * MIB);
    let (file, large) = (text(&file), text(&large));
    let mut events = bob.follow(&["events"]);
    assert_eq!(events.next_document().expect("begins")["type"], "started");

    // Accounts.
    seen.ran(&other, &format!("create_user carol {}", PASSWORD.replace(' ', "")));
    seen.ran(&other, &format!("login carol {}", PASSWORD.replace(' ', "")));
    seen.ran(&other, "logout");
    other.run(&["login", "alice", PASSWORD]);
    let (old, new) = (world.path("old"), world.path("new"));
    std::fs::write(&old, PASSWORD).expect("written");
    std::fs::write(&new, "another long password").expect("written");
    let change = format!("change_password --old-password-file {} --password-file {}", text(&old), text(&new));
    seen.ran(&alice, &change);
    let node = other.json(&["status"])["node"].as_str().expect("an id").to_owned();
    seen.ran(&alice, &format!("logout --node {node}"));
    seen.ran(&alice, "status");

    // Groups.
    seen.ran(&alice, "create_group photos");
    seen.ran(&bob, "join_group photos");
    seen.ran(&alice, "list_requests photos");
    seen.ran(&alice, "reject_request photos bob");
    seen.ran(&bob, "join_group photos");
    seen.ran(&alice, "accept_request photos bob");
    seen.ran(&alice, "list_groups");
    seen.ran(&bob, "list_my_groups");
    seen.ran(&alice, "list_members photos");
    seen.ran(&alice, "set_policy photos open");

    // Files, one of which comes slowly enough to be looked at.
    seen.ran(&alice, &format!("upload_file {file} photos --whole-digest"));
    alice.run(&["upload_file", large, "photos"]);
    seen.ran(&bob, "list_files photos");
    seen.ran(&bob, "file_info photos beach.jpg --digests");
    seen.ran(&bob, "limit --down 1MB");
    let id = seen.id(&bob, "download_file photos large large.copy --detach");
    seen.ran(&bob, &format!("why {id}"));
    seen.ran(&bob, "show_downloads");
    let mut waiting = bob.follow(&["wait", &id]);
    let progress = waiting.until(|document| document["type"] == "progress");
    seen.0.insert(progress["type"].as_str().expect("checked").to_owned());
    drop(waiting);
    seen.ran(&bob, &format!("pause {id}"));
    seen.ran(&bob, &format!("verify {id}"));
    seen.ran(&bob, &format!("resume {id}"));
    seen.ran(&bob, &format!("cancel {id}"));
    seen.ran(&bob, "limit --down 0");
    seen.ran(&bob, "download_file photos beach.jpg copy");
    seen.ran(&bob, "list");
    seen.ran(&bob, "stop_share photos beach.jpg --until-requested");
    seen.ran(&alice, &format!("upload_file {file} photos --name again --wait-copies 0"));
    seen.ran(&alice, "remove_file photos again");
    let mut copied = alice.follow(&["upload_file", large, "photos", "--name", "copied", "--wait-copies", "1"]);
    copied.until(|document| document["type"] == "started");
    bob.run(&["download_file", "photos", "copied", "copied"]);
    assert!(copied.finish().status.success());
    seen.ran(&alice, &format!("share {file} beach.mtorrent"));
    seen.ran(&bob, "get beach.mtorrent beach.got");
    seen.ran(&bob, "download beach.jpg beach.again");
    seen.ran(&alice, "remove beach.mtorrent");

    // Ends.
    seen.ran(&alice, "remove_member photos bob");
    seen.ran(&bob, "join_group photos");
    seen.ran(&alice, "transfer_group photos bob");
    seen.ran(&alice, "leave_group photos");
    let happened = events.until(|document| document["event"] == "membership" && document["standing"] == "owner");
    seen.0.insert(happened["type"].as_str().expect("checked").to_owned());
    seen.ran(&bob, "delete_group photos");
    seen.ran(&bob, "shutdown");
    let error = bob.ctl().json_refusal(&["status"]);
    assert_eq!((error.exit_code, error.code.as_str()), (7, "no_daemon"));
    seen.0.insert("error".to_owned());

    let unseen: Vec<&str> = schema::types().filter(|name| !seen.0.contains(*name)).collect();
    assert!(unseen.is_empty(), "no verb has printed {unseen:?}");
}

#[test]
fn a_schema_is_printed_by_its_name() {
    let world = World::new();
    let daemon = world.resting_daemon("nobody");
    let names = daemon.run(&["schema"]);
    assert!(names.lines().eq(schema::types()), "{names}");
    let printed: Value = serde_json::from_str(&daemon.run(&["schema", "status"])).expect("JSON");
    assert_eq!(printed["properties"]["type"]["const"], "status");
    assert_eq!(daemon.refusal(&["schema", "nonsense"]).exit_code, 2);
}
