//! Two trackers: the second follows, is read when the first is dead, and takes over; the first comes back and follows.

use p2p_tests::Daemon;
use p2p_tests::cluster::Cluster;
use p2p_tests::groups::{made_groups, make_group};
use p2p_tests::wait::eventually;
use rustix::process::Signal;
use serde_json::Value;

const FIRST: usize = 0;
const SECOND: usize = 1;

/// Two trackers that run, of which the second has all that the first has, and a user of both.
fn pair() -> (Cluster, Daemon) {
    let cluster = Cluster::pair();
    let alice = cluster.user("alice");
    make_group(&alice, "of-both");
    cluster.agreed_digest();
    (cluster, alice)
}

#[test]
fn the_second_takes_over_and_the_first_comes_back_to_follow() {
    let (mut cluster, alice) = pair();
    let refused = cluster.trackers[SECOND].asked(&["promote"]).expect_err("the first answers");
    assert!(refused.contains("tracker 1 answers") && refused.contains("--force"), "{refused}");
    let refused = cluster.trackers[FIRST].asked(&["promote"]).expect_err("it decides");
    assert!(refused.contains("decides already"), "{refused}");

    // What the first alone has.
    cluster.trackers[SECOND].stop();
    make_group(&alice, "at-the-first");
    assert_eq!(alice.refusal(&["create_group", "of-both"]).code, "group_exists");
    cluster.trackers[FIRST].kill();
    cluster.trackers[SECOND].restart();

    // Reads go on at once, and are said to be old; changes wait for a person.
    eventually("reads go on", || {
        let output = alice.ctl().output(&["list_groups"]);
        output.status.success().then(|| assert_eq!(made_groups(&alice), ["of-both"]))
    });
    assert_eq!(alice.json(&["list_groups"])["stale"], true);
    let refusal = alice.refusal(&["create_group", "too-early"]);
    assert_eq!((refusal.code.as_str(), refusal.exit_code), ("no_majority", 8));
    assert!(refusal.hint.is_some_and(|hint| hint.contains("tracker promote")));

    let said = cluster.trackers[SECOND].asked(&["promote"]).expect("the first is dead");
    assert!(said.contains("tracker 2 decides from now on, in epoch 1"), "{said}");
    cluster.becomes(SECOND, "leader", 1);
    make_group(&alice, "at-the-second");
    let groups = alice.json(&["list_groups"]);
    assert!(groups["stale"].is_null(), "{groups}");
    // Alone, and started again: nobody can have taken over from it.
    cluster.trackers[SECOND].kill();
    cluster.trackers[SECOND].restart();
    make_group(&alice, "once-more");

    cluster.trackers[FIRST].restart();
    cluster.becomes(FIRST, "learner", 1);
    cluster.agreed_digest();
    let alone = cluster.given_out(FIRST);
    let [made, ..] = &alone[..] else { panic!("nothing was given out") };
    assert_eq!(made["command"]["create_group"]["group"], "at-the-first", "{alone:?}");
    assert_eq!((&made["by"], &made["made"]), (&"alice".into(), &true.into()));
    make_group(&alice, "of-both-again");
    assert_eq!(made_groups(&alice), ["at-the-second", "of-both", "of-both-again", "once-more"]);
    cluster.agreed_digest();

    // And the other way round, with nothing that one alone had.
    cluster.trackers[SECOND].kill();
    cluster.trackers[FIRST].asked(&["promote"]).expect("the second is dead");
    cluster.becomes(FIRST, "leader", 2);
    make_group(&alice, "at-the-first");
    cluster.trackers[SECOND].restart();
    cluster.becomes(SECOND, "learner", 2);
    cluster.agreed_digest();
    assert_eq!(cluster.given_out(SECOND), [] as [Value; 0]);
}

#[test]
fn the_first_takes_no_change_after_a_start_until_it_has_heard_of_the_second() {
    let (mut cluster, alice) = pair();
    cluster.trackers[SECOND].kill();
    cluster.trackers[FIRST].kill();
    cluster.trackers[FIRST].restart();
    cluster.becomes(FIRST, "waiting", 0);
    eventually("reads go on", || alice.ctl().output(&["list_groups"]).status.success().then_some(()));
    assert_eq!(alice.json(&["list_groups"])["stale"], true);
    assert_eq!(alice.refusal(&["create_group", "too-early"]).code, "no_majority");
    cluster.trackers[SECOND].restart();
    cluster.becomes(FIRST, "leader", 0);
    make_group(&alice, "after-all");
    cluster.agreed_digest();
    // Or until a person has said that the second is lost.
    cluster.trackers[SECOND].kill();
    cluster.trackers[FIRST].kill();
    cluster.trackers[FIRST].restart();
    cluster.trackers[FIRST].asked(&["promote"]).expect("the second is dead");
    cluster.becomes(FIRST, "leader", 1);
    make_group(&alice, "alone");
    cluster.trackers[SECOND].restart();
    cluster.becomes(SECOND, "learner", 1);
    cluster.agreed_digest();
    assert_eq!(made_groups(&alice), ["after-all", "alone", "of-both"]);
}

#[test]
fn a_first_that_was_never_dead_gives_way_when_it_hears_of_the_second() {
    let (mut cluster, alice) = pair();
    cluster.trackers[FIRST].process().signal(Signal::STOP);
    cluster.trackers[SECOND].asked(&["promote"]).expect("the first does not answer");
    make_group(&alice, "at-the-second");
    cluster.trackers[FIRST].process().signal(Signal::CONT);
    cluster.becomes(FIRST, "learner", 1);
    cluster.agreed_digest();
    // By force, where both are well: nothing is lost.
    cluster.trackers[FIRST].asked(&["promote", "--force"]).expect("by force");
    cluster.becomes(FIRST, "leader", 2);
    cluster.becomes(SECOND, "learner", 2);
    make_group(&alice, "at-the-first");
    assert_eq!(made_groups(&alice), ["at-the-first", "at-the-second", "of-both"]);
    cluster.agreed_digest();
}

#[test]
fn the_second_takes_over_by_itself_where_that_is_set() {
    let (mut cluster, alice) = pair();
    cluster.trackers[SECOND].stop();
    cluster.trackers[SECOND].write_settings("assume_crash_only = true");
    cluster.trackers[SECOND].restart();
    cluster.agreed_digest();
    cluster.trackers[FIRST].kill();
    cluster.becomes(SECOND, "leader", 1);
    make_group(&alice, "at-the-second");
    cluster.trackers[FIRST].restart();
    cluster.becomes(FIRST, "learner", 1);
    cluster.agreed_digest();
}
