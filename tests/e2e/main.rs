//! End-to-end tests over the real programs: everything that a person or a script meets, kills included.
//!
//! Each test has a world of its own ([`p2p_tests::World`]): a tracker, daemons and commands in a temporary folder.
//! They run beside each other. A failing test prints the logs of its programs.

mod accounts;
mod audit;
mod backup;
mod changes;
mod cluster;
mod control_socket;
mod copies;
mod datagrams;
mod descriptors;
mod disk_faults;
mod events;
mod exit_codes;
mod figures;
mod files;
mod folders;
mod folders_shared;
mod groups;
mod hooks;
mod hostile;
mod identity;
mod interrupted;
mod kills;
mod limits;
mod local_copy;
mod login_flood;
mod owners;
mod package;
mod pair;
mod public;
mod publications;
mod quick_start;
mod recipes;
mod refusals;
mod refusals_files;
mod restart;
mod revocation;
mod same_name;
mod schemas;
mod service;
mod settings;
mod source_faults;
mod standby;
mod start_stop;
mod streams;
mod swarm;
mod tracker_kills;
mod verify;
mod watch;

use std::path::{Path, PathBuf};

use p2p_tests::file::random_file;
use p2p_tests::groups::made_groups;
use p2p_tests::{Daemon, World};
use serde_json::Value;

/// Bytes of a mebibyte.
const MIB: u64 = 1 << 20;

/// Alice has published a file in the public group `photos`; bob is logged in.
struct Shared {
    alice: Daemon,
    bob: Daemon,
    file: PathBuf,
    world: World,
}

/// The name of the file in [`Shared`].
const NAME: &str = "beach.jpg";

impl Shared {
    /// With a file of `length` random bytes.
    fn new(length: u64) -> Shared {
        let world = World::new();
        let (alice, bob) = (world.user("alice"), world.user("bob"));
        let file = random_file(world.folder(), NAME, length);
        alice.run(&["create_group", "photos", "--policy", "public"]);
        alice.run(&["upload_file", text(&file), "photos"]);
        Shared { alice, bob, file, world }
    }

    /// Where bob puts it.
    fn copy(&self) -> PathBuf {
        self.world.path("bob's copy")
    }
}

/// A path as a word of a command.
fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// The entry of a list whose `field` is `value`.
fn entry<'a>(list: &'a Value, field: &str, value: &str) -> &'a Value {
    let entries = list.as_array().unwrap_or_else(|| panic!("not a list: {list}"));
    entries.iter().find(|entry| entry[field] == value).unwrap_or_else(|| panic!("no {field} `{value}` in {list}"))
}

/// The values of `field` in a list, in its order.
fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    let entries = list.as_array().unwrap_or_else(|| panic!("not a list: {list}"));
    entries.iter().map(|entry| entry[field].as_str().expect("a text")).collect()
}

/// The number in a field.
fn number(document: &Value, field: &str) -> u64 {
    document[field].as_u64().unwrap_or_else(|| panic!("{field} is no number in {document}"))
}

/// The download of a daemon, which has only one.
fn only_download(daemon: &Daemon) -> Value {
    let downloads = daemon.json(&["show_downloads"]);
    match downloads["downloads"].as_array().map(Vec::as_slice) {
        Some([download]) => download.clone(),
        _ => panic!("not one download: {downloads}"),
    }
}
