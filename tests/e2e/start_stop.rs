//! The daemon's life: started by a command or a service manager, one a home, ended by a command or a signal.

use p2p_tests::wait::eventually;
use p2p_tests::world::PASSWORD;
use p2p_tests::{Daemon, World};

use crate::Shared;

/// Ends a daemon that a command has started, also where the test fails: nothing else would.
struct ShutDown<'a>(&'a Daemon);

impl Drop for ShutDown<'_> {
    fn drop(&mut self) {
        // Fails where it has ended already, as it should have.
        let _ = self.0.ctl().output(&["shutdown"]);
    }
}

/// A daemon that does not run, whose home names the tracker.
fn configured(world: &World, name: &str) -> Daemon {
    let daemon = world.resting_daemon(name);
    let config = daemon.home.join("config");
    std::fs::create_dir_all(&config).expect("a folder");
    let address = world.tracker.address;
    let line = format!("{} {} {}\n", address.ip(), address.port(), world.tracker.id);
    std::fs::write(config.join("tracker_info.txt"), line).expect("writes");
    daemon
}

#[test]
fn a_command_starts_the_daemon_and_another_stops_it() {
    let world = World::new();
    let alice = configured(&world, "alice");
    let _guard = ShutDown(&alice);
    assert_eq!(alice.refusal(&["status"]).code, "no_daemon", "not with --no-start");
    alice.starting_ctl().run(&["create_user", "alice", PASSWORD]);
    let before = alice.json(&["status"]);
    alice.starting_ctl().run(&["login", "alice", PASSWORD]);
    assert_eq!(alice.json(&["status"])["started"], before["started"], "the same daemon answers again");
    alice.run(&["shutdown"]);
    eventually("no daemon answers", || (alice.ctl().output(&["status"]).status.code() == Some(7)).then_some(()));
    assert_eq!(alice.refusal(&["shutdown"]).exit_code, 7);
    assert_eq!(alice.starting_ctl().refusal(&["shutdown"]).exit_code, 7, "nothing is started to be stopped");
    assert_eq!(alice.starting_ctl().json(&["status"])["user"], "alice", "it remembers");
}

#[test]
fn commands_at_once_start_one_daemon() {
    let world = World::new();
    let alice = configured(&world, "alice");
    let _guard = ShutDown(&alice);
    let started: Vec<_> = std::thread::scope(|scope| {
        let commands: Vec<_> =
            (0..4).map(|_| scope.spawn(|| alice.starting_ctl().json(&["status"])["started"].clone())).collect();
        commands.into_iter().map(|command| command.join().expect("does not panic")).collect()
    });
    assert!(started.iter().all(|each| *each == started[0]), "{started:?}");
}

#[test]
fn a_home_has_one_daemon() {
    let world = World::new();
    let alice = world.daemon("alice");
    let error = world.resting_daemon("alice").start().expect_err("a second daemon in one home");
    assert!(error.contains("is not ready"), "{error}");
    assert_eq!(alice.json(&["status"])["type"], "status", "the first goes on");
}

#[test]
fn a_daemon_is_ready_without_its_tracker() {
    let mut world = World::new();
    world.tracker.kill();
    let alice = world.daemon("alice");
    eventually("the tracker is known to be away", || {
        let status = alice.json(&["status"]);
        (status["trackers"][0]["state"] == "unreachable").then_some(())
    });
    world.tracker.restart();
    eventually("the tracker is there", || {
        let status = alice.json(&["status"]);
        (status["trackers"][0]["state"] == "ok").then_some(())
    });
}

#[test]
fn a_signal_ends_the_daemon_cleanly_and_its_shares_come_back() {
    let Shared { alice, bob, .. } = &mut Shared::new(1000);
    alice.stop();
    assert!(!alice.socket().exists(), "the socket is tidied up");
    alice.restart();
    eventually("alice seeds again", || {
        let files = bob.json(&["list_files", "photos"]);
        (files["files"][0]["seeders"] == 1).then_some(())
    });
}
