//! The built-in group `public`, one rule a test. What it refuses stands in `transcripts/3_public.txt`.

use super::super::bound::PUBLIC_LISTINGS_PER_USER_MAX;
use super::super::policy::Right;
use super::JoinPolicy::Approval;
use super::*;
use p2p_proto::tracker::BUILT_IN_BORN;

/// Users beside a built-in group.
fn with_public(users: &[&str]) -> Bench {
    let mut bench = Bench::with_users(users);
    bench.ok("t", Command::MakePublicGroup);
    bench
}

#[test]
fn it_is_shown_as_nobodys() {
    let bench = with_public(&["alice"]);
    let shown = bench.state.group_info(node("alice"), &name("public")).expect("everybody sees it");
    assert!(shown.is_built_in());
    assert_eq!((shown.owner.as_str(), shown.policy, shown.members), ("public", JoinPolicy::Public, 0));
    assert!(bench.state.groups_page(node("alice"), true, None).expect("logged in").is_empty(), "nobody belongs to it");
}

#[test]
fn a_group_of_somebodys_is_not_taken_for_it() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("public", JoinPolicy::Public));
    bench.ok("t", Command::MakePublicGroup);
    let shown = bench.state.group_info(node("alice"), &name("public")).expect("a member");
    assert!(!shown.is_built_in());
    assert_eq!(bench.state.owner_of_older_public(), Some(&name("alice")));
}

#[test]
fn what_takes_the_place_of_an_older_group_is_not_that_group() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("public", Approval));
    bench.ok("t", Command::MakePublicGroup);
    let born = |bench: &Bench| bench.state.may_read(node("alice"), &name("public")).expect("may read").born;
    assert_ne!(born(&bench), BUILT_IN_BORN);
    bench.ok("alice", Command::DeleteGroup { group: name("public") });
    assert_eq!(born(&bench), BUILT_IN_BORN);
    assert_eq!(born(&with_public(&["alice"])), BUILT_IN_BORN, "the same everywhere");
}

#[test]
fn a_content_is_found_through_it_without_a_listing() {
    let mut bench = with_public(&["alice", "bob"]);
    bench.ok("alice", create("photos", JoinPolicy::Public));
    let may = |bench: &Bench, node_of: &str, group: &str| {
        bench.state.may_read_content(node(node_of), &name(group), &content(7)).map_err(|reject| reject.code)
    };
    assert!(may(&bench, "bob", "public").is_ok());
    assert_eq!(may(&bench, "bob", "photos"), Err(ErrorCode::FILE_NOT_FOUND));
    assert_eq!(may(&bench, "nobody", "public"), Err(ErrorCode::LOGIN_NEEDED));
}

#[test]
fn one_user_does_not_fill_it() {
    let mut bench = with_public(&["alice", "bob"]);
    bench.ok("alice", create("mine", Approval));
    for number in 0..PUBLIC_LISTINGS_PER_USER_MAX {
        let entry = bench.entry("alice", publish("public", &number.to_string(), 1));
        bench.state.apply(&entry).reply.expect("within the bound");
    }
    assert_eq!(bench.refused("alice", publish("public", "one more", 1)), ErrorCode::NOT_ALLOWED);
    bench.ok("alice", publish("mine", "elsewhere", 1));
    bench.ok("bob", publish("public", "of another", 1));
    bench.ok("alice", unpublish("public", "0"));
    bench.ok("alice", publish("public", "one more", 1));
}

#[test]
fn nobody_decides_in_it() {
    let bench = with_public(&["alice", "bob"]);
    let (_, group) = bench.state.groups.find(&name("public")).expect("made");
    for user in bench.state.users.by_key.keys() {
        let rights = [Right::Read, Right::Publish, Right::Decide];
        let allowed = rights.map(|right| super::super::policy::allows(right, group, user));
        assert_eq!(allowed, [true, true, false]);
    }
}

#[test]
fn it_outlives_a_snapshot_with_its_listings() {
    let mut bench = with_public(&["alice"]);
    bench.ok("alice", publish("public", "f", 1));
    let decoded = State::decode(&bench.state.encode()).expect("reads back");
    decoded.invariant();
    assert_eq!(decoded, bench.state);
    assert_eq!(decoded.files_page(node("alice"), &name("public"), None).expect("readable").len(), 1);
}

/// Written by the version before the built-in group: alice, logged in, with a group `public` of her own and a listing in it.
const SNAPSHOT_V1: &str = "\
    0100010105616c6963650101e80701616c696365000000000000000000000000000000000000000000000000000000010670\
    75626c696305616c69636500b817010105616c696365b8170001016605616c69636501010101010101010101010101010101\
    010101010101010101010101010101010aa01f04616c69636500000000000000000000000000000000000000000000000000\
    00000100000000000000000000000000000000616c6963650000000000000000000000000000000000000000000000000000\
    000200000000000000000000000000000000616c696365000000000000000000000000000000000000000000000000000000\
    0300000000000000000000000000000000616c69636500000000000000000000000000000000000000000000000000000004\
    00000000000000000000000000000000";

#[test]
fn a_snapshot_of_the_version_before_is_read() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("public", Approval));
    bench.ok("alice", publish("public", "f", 1));
    let state = State::decode(&hex(SNAPSHOT_V1)).expect("still read");
    state.invariant();
    // Then nobody knew when a node had logged in, and a new group began an epoch too.
    bench.state.users.nodes.values_mut().for_each(|enrolment| enrolment.since = None);
    bench.state.epoch = 1;
    assert_eq!(state, bench.state);
    assert!(!state.public_made());
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |place| u8::from_str_radix(&digits[place..place + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}
