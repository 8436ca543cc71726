//! Fairness: what a seeder sends is shared among users, not among nodes. Everybody downloads a file of their own, so that
//! nobody can bring anything to anybody else.
//!
//! So it is where at least half as many users read as there are places. Among fewer, one who has many nodes gets more, as
//! each of their connections takes its part of the link.

use std::time::Duration;

use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_tests::sim::{Link, World};

/// Bytes per second of every link.
const RATE: u64 = 16 << 20;

/// What each of these users got from the one seeder while all of them wanted more: users by the number of their nodes.
fn shares(seed: u64, nodes_of_users: &[usize]) -> Vec<f64> {
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.thorough = false;
    world.add_member(Link::both(RATE), "seeder");
    let mut places_of_users = Vec::new();
    for (number, nodes) in nodes_of_users.iter().enumerate() {
        let places: Vec<usize> =
            (0..*nodes).map(|_| world.add_member(Link::both(RATE), &format!("user{number}"))).collect();
        for place in &places {
            let name = format!("f{place}");
            world.upload(0, 4096 * PIECE_BYTES_MIN, &name);
            world.start_download(*place, &name);
        }
        places_of_users.push(places);
    }
    let received = |world: &World| {
        let of_place = |place: &usize| world.nodes[*place].received_bytes.values().sum::<u64>();
        places_of_users.iter().map(|places| places.iter().map(of_place).sum()).collect::<Vec<u64>>()
    };
    // Once everybody is served, for as long as 1,200 pieces take.
    world.run_for(Duration::from_secs(10));
    let before = received(&world);
    world.run_for(Duration::from_secs_f64(1200.0 * PIECE_BYTES_MIN as f64 / RATE as f64));
    let got: Vec<u64> = received(&world).iter().zip(before).map(|(after, before)| after - before).collect();
    let mean = got.iter().sum::<u64>() as f64 / got.len() as f64;
    assert!(mean * got.len() as f64 > 1100.0 * PIECE_BYTES_MIN as f64, "the seeder's link was idle");
    got.iter().map(|bytes| *bytes as f64 / mean).collect()
}

#[test]
fn a_user_with_ten_nodes_does_not_crowd_out_twenty_others() {
    let mut nodes_of_users = vec![1; 20];
    nodes_of_users.push(10);
    let shares = shares(40, &nodes_of_users);
    println!("{shares:.2?}");
    assert!(shares.iter().all(|share| (0.95..1.05).contains(share)), "{shares:.2?}");
}

#[test]
fn users_with_a_node_each_get_as_much_as_each_other() {
    for (seed, users) in (41..).zip([2, 7, 20]) {
        let shares = shares(seed, &vec![1; users]);
        println!("{shares:.2?}");
        assert!(shares.iter().all(|share| (0.9..1.1).contains(share)), "{shares:.2?}");
    }
}
