//! Fairness: what a seeder sends is shared among users, not among nodes. Everybody downloads a file of their own, so that
//! nobody can bring anything to anybody else.

use std::time::Duration;

use p2p_proto::limit::PIECE_BYTES_MIN;
use p2p_tests::sim::{Link, World};

/// Bytes per second of every link, but for what a test says.
const RATE: u64 = 16 << 20;

/// Users by the number of their nodes, and the rate of each node's link.
type Users = [(usize, u64)];

/// Which share of the one seeder's link each of these users got while all of them wanted more.
fn shares(seed: u64, users: &Users) -> Vec<f64> {
    println!("seed {seed}");
    let mut world = World::new(seed);
    world.thorough = false;
    world.add_member(Link::both(RATE), "seeder");
    let mut places_of_users = Vec::new();
    for (number, (nodes, rate)) in users.iter().enumerate() {
        let places: Vec<usize> =
            (0..*nodes).map(|_| world.add_member(Link::both(*rate), &format!("user{number}"))).collect();
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
    // Once it is known who gets what, for as long as 1,200 pieces take.
    world.run_for(Duration::from_secs(15));
    let before = received(&world);
    let sent_bytes = 1200 * PIECE_BYTES_MIN;
    world.run_for(Duration::from_secs_f64(sent_bytes as f64 / RATE as f64));
    let got = received(&world).into_iter().zip(before).map(|(after, before)| after - before);
    let shares: Vec<f64> = got.map(|bytes| bytes as f64 / sent_bytes as f64).collect();
    println!("{shares:.3?}");
    shares
}

/// All users get as much as each other, and together what the link can carry.
fn assert_fair(shares: &[f64], tolerance: f64) {
    let sum: f64 = shares.iter().sum();
    assert!(sum > 0.95, "the seeder's link was idle: {shares:.3?}");
    let mean = sum / shares.len() as f64;
    assert!(shares.iter().all(|share| (share / mean - 1.0).abs() < tolerance), "{shares:.3?}");
}

#[test]
fn a_user_with_ten_nodes_gets_no_more_than_users_with_one() {
    for (seed, others) in (40..).zip([1, 2, 5, 20]) {
        let mut users = vec![(1, RATE); others];
        users.push((10, RATE));
        assert_fair(&shares(seed, &users), 0.1);
    }
}

#[test]
fn users_with_different_numbers_of_nodes_get_as_much_as_each_other() {
    assert_fair(&shares(44, &[(1, RATE), (4, RATE), (10, RATE)]), 0.1);
}

#[test]
fn users_with_a_node_each_get_as_much_as_each_other() {
    for (seed, users) in (45..).zip([2, 7, 20]) {
        assert_fair(&shares(seed, &vec![(1, RATE); users]), 0.1);
    }
}

#[test]
fn a_user_whose_own_link_is_slow_does_not_hold_back_one_with_ten_nodes() {
    for (seed, slower) in (48..).zip([4, 20]) {
        let shares = shares(seed, &[(1, RATE / slower), (10, RATE)]);
        assert!(shares.iter().sum::<f64>() > 0.9, "{shares:.3?}");
    }
}
