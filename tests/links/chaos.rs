//! A cluster of trackers that are killed and cut off from each other under load: what it answered has one explanation.

use std::time::Duration;

use p2p_tests::chaos::{Plan, run};
use p2p_tests::namespace::Loopback;

#[test]
fn whatever_happens_to_trackers_no_acknowledged_change_is_lost_or_made_twice() {
    let network = match Loopback::new() {
        Ok(network) => network,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let plan = Plan {
        kills: 2,
        kill_every: Duration::from_secs(10),
        partitions: 2,
        partition: Duration::from_secs(8),
        clients: 3,
        transfer_rate: 256 << 10,
        seed: 1,
    };
    let report = run(&plan, &network).unwrap_or_else(|violations| {
        panic!("{}", violations.iter().map(ToString::to_string).collect::<String>());
    });
    println!("{report}");
    assert!(report.acknowledged > 0 && report.looks > 0);
    assert_eq!((report.inflicted.kills, report.inflicted.partitions, report.inflicted.restarts), (2, 2, 1));
    assert!(report.transfer.bytes > 0);
}
