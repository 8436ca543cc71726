//! Two trackers that are cut off from each other: both take changes once the second has taken over, and when they meet again the
//! first gives way, and gives out what it alone had.

use p2p_tests::cluster::Cluster;
use p2p_tests::groups::{made_groups, make_group};
use p2p_tests::namespace::Loopback;
use p2p_tests::wait::eventually;

const FIRST: usize = 0;
const SECOND: usize = 1;

#[test]
fn who_is_cut_off_from_its_successor_gives_way_when_they_meet() {
    let network = match Loopback::new() {
        Ok(network) => network,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    network.enter(|| {
        let cluster = Cluster::pair();
        let [first, second] = [FIRST, SECOND].map(|place| cluster.addresses()[place]);
        // One reaches both, the other the first alone.
        let (alice, bob) = (cluster.user("alice"), cluster.user_of("bob", &[first]));
        make_group(&alice, "of-both");
        cluster.agreed_digest();

        network.cut_off(first, Some(&vec![second]));
        cluster.trackers[SECOND].asked(&["promote"]).expect("the first is not reached");
        cluster.becomes(SECOND, "leader", 1);
        make_group(&bob, "at-the-first");
        // The later epoch counts for who knows both, though the first answers and takes itself for the one that decides.
        eventually("the first is known to be old", || {
            (alice.json(&["status"])["trackers"][FIRST]["stale"] == true).then_some(())
        });
        make_group(&alice, "at-the-second");
        assert_eq!(made_groups(&alice), ["at-the-second", "of-both"]);
        assert!(alice.json(&["list_groups"])["stale"].is_null());
        assert_eq!(made_groups(&bob), ["at-the-first", "of-both"]);
        cluster.becomes(FIRST, "leader", 0);

        network.mend();
        cluster.becomes(FIRST, "learner", 1);
        cluster.agreed_digest();
        let alone = cluster.given_out(FIRST);
        let [change] = &alone[..] else { panic!("not one change: {alone:?}") };
        assert_eq!(change["command"]["create_group"]["group"], "at-the-first");
        assert_eq!((&change["by"], &change["made"]), (&"bob".into(), &true.into()));
        eventually("what was at the first alone is gone", || {
            let output = bob.ctl().output(&["list_groups"]);
            (output.status.success() && made_groups(&bob) == ["at-the-second", "of-both"]).then_some(())
        });
        make_group(&bob, "at-the-first-again");
        cluster.agreed_digest();
    });
}
