//! A download of what is shared from here already is copied: what stops it stops that, and says what holds.

use std::fs::File;
use std::path::PathBuf;

use p2p_tests::file::{assert_equal, files_under};
use p2p_tests::wait::eventually;
use p2p_tests::{Daemon, World};

use crate::{MIB, NAME, only_download, text};

/// Long enough that a command meets the copy in the middle.
const LENGTH: u64 = 1024 * MIB;

/// Alice copies what she shares.
struct Copying {
    alice: Daemon,
    id: String,
    file: PathBuf,
    /// Where to; nothing else lies there.
    folder: PathBuf,
    _world: World,
}

impl Copying {
    fn begin() -> Copying {
        let world = World::new();
        let alice = world.user("alice");
        let (file, folder) = (world.path(NAME), world.path("copies"));
        File::create(&file).and_then(|file| file.set_len(LENGTH)).expect("a sparse file");
        std::fs::create_dir(&folder).expect("a folder");
        alice.run(&["create_group", "photos"]);
        alice.run(&["upload_file", text(&file), "photos"]);
        let started = alice.json(&["download_file", "photos", NAME, text(&folder), "--detach"]);
        let id = started["id"].as_str().expect("an id").to_owned();
        let copying = Copying { alice, id, file, folder, _world: world };
        eventually("the copy is begun", || (!copying.files().is_empty()).then_some(()));
        copying
    }

    fn files(&self) -> Vec<PathBuf> {
        files_under(&self.folder)
    }

    fn copy(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn state(&self) -> String {
        only_download(&self.alice)["state"].as_str().expect("a state").to_owned()
    }
}

#[test]
fn a_cancelled_copy_leaves_nothing() {
    let mut copying = Copying::begin();
    let cancelled = copying.alice.ctl().output(&["cancel", &copying.id]);
    if cancelled.status.success() {
        assert_eq!(copying.files(), Vec::<PathBuf>::new());
        copying.alice.stop();
        assert_eq!(copying.files(), Vec::<PathBuf>::new(), "not later either");
    } else {
        // It was faster, and says so.
        assert_eq!(cancelled.status.code(), Some(6), "{cancelled:?}");
        assert_ne!(copying.state(), "paused");
        assert_equal(&copying.file, &copying.copy());
    }
    assert!(copying.file.exists());
}

#[test]
fn a_cancelled_copy_is_deleted_with_its_data() {
    let copying = Copying::begin();
    copying.alice.run(&["cancel", &copying.id, "--delete-data"]);
    assert_eq!(copying.files(), Vec::<PathBuf>::new());
    assert!(copying.file.exists(), "what it was copied from is not its data");
}

#[test]
fn a_paused_copy_waits_and_goes_on() {
    let copying = Copying::begin();
    copying.alice.run(&["pause", &copying.id]);
    assert_eq!(copying.state(), "paused");
    copying.alice.run(&["resume", &copying.id]);
    copying.alice.run(&["wait", &copying.id]);
    assert_equal(&copying.file, &copying.copy());
}

#[test]
fn a_copy_goes_on_after_the_daemons_end() {
    for end in [Daemon::stop, Daemon::kill] {
        let mut copying = Copying::begin();
        end(&mut copying.alice);
        copying.alice.restart();
        copying.alice.run(&["wait", &copying.id]);
        assert_equal(&copying.file, &copying.copy());
    }
}

#[test]
fn a_copy_of_what_is_no_longer_shared_waits_for_others_who_have_it() {
    let copying = Copying::begin();
    copying.alice.run(&["stop_share", "photos", NAME]);
    let state = eventually("the copy has ended", || Some(copying.state()).filter(|state| state != "verifying"));
    // Done before, or to be brought by peers; no failure.
    assert!(["complete", "seeding", "waiting", "queued"].contains(&state.as_str()), "{state}");
}
