//! One rule a test.

use p2p_proto::limit::{PAGE_ITEMS_MAX, REVOCATION_SECONDS};
use p2p_proto::tracker::Standing;

use super::super::bound::{
    GROUPS_PER_USER_MAX, LISTINGS_PER_USER_MAX, NODES_PER_USER_MAX, RECORD_BYTES_MAX, REMEMBERED_MAX,
    REQUESTS_PER_USER_MAX, REVOCATIONS_MAX,
};
use super::super::{Change, Found, Setup, SnapshotError};
use super::JoinPolicy::{Approval, Open, Public};
use super::*;

fn create_user(user: &str) -> Command {
    Command::CreateUser { user: name(user), record: vec![1] }
}

fn enrol(user: &str) -> Command {
    Command::EnrolNode { user: name(user) }
}

#[test]
fn a_twin_of_a_users_name_is_refused_and_says_why() {
    let mut bench = Bench::with_users(&["Zoë"]);
    let reject = bench.apply("x", create_user("zoe\u{308}")).reply.expect_err("a twin");
    assert_eq!(reject.code, ErrorCode::USER_EXISTS);
    // A stranger may ask, so that the spelling that stands is not told.
    assert_eq!(reject.message, "user `zoe\u{308}` exists already, perhaps in another spelling");
}

#[test]
fn a_name_finds_its_row_in_any_case() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("Photos", Approval));
    bench.ok("bob", join("PHOTOS"));
    bench.ok("alice", accept("photos", "BOB"));
    let page = bench.state.groups_page(node("bob"), true, None).expect("bob is logged in");
    assert_eq!((page[0].group.as_str(), page[0].standing), ("Photos", Standing::Member));
}

#[test]
fn a_node_of_nobody_may_only_make_an_account_and_log_in() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("g", Public));
    let commands = [
        Command::WithdrawNode,
        create("h", Open),
        join("g"),
        leave("g", false),
        accept("g", "alice"),
        turn_away("g", "alice"),
        remove("g", "alice"),
        transfer("g", "alice"),
        Command::DeleteGroup { group: name("g") },
        publish("g", "f", 1),
        unpublish("g", "f"),
    ];
    for command in commands {
        assert_eq!(bench.refused("stranger", command), ErrorCode::LOGIN_NEEDED);
    }
    let stranger = node("stranger");
    assert!(bench.state.groups_page(stranger, false, None).is_err());
    assert!(bench.state.may_read(stranger, &name("g")).is_err());
    bench.ok("stranger", create_user("eve"));
    bench.ok("stranger", enrol("eve"));
}

#[test]
fn a_node_belongs_to_one_user_at_a_time() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    assert_eq!(bench.ok("alice", enrol("alice")), Outcome::Done, "the same user again is no change");
    assert_eq!(bench.refused("alice", enrol("bob")), ErrorCode::ALREADY_LOGGED_IN);
    bench.ok("alice", Command::WithdrawNode);
    bench.ok("alice", enrol("bob"));
    assert_eq!(bench.state.nodes_of_user(&name("bob")).count(), 2);
}

#[test]
fn a_user_that_is_gone_by_the_time_of_the_login_is_refused_as_a_wrong_password() {
    let mut bench = Bench::default();
    assert_eq!(bench.refused("x", enrol("nobody")), ErrorCode::LOGIN_REFUSED);
}

#[test]
fn logging_out_takes_access_to_every_group_from_the_node_alone() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("laptop", enrol("alice"));
    bench.ok("alice", create("a", Approval));
    bench.ok("alice", create("b", Approval));
    let applied = bench.apply("laptop", Command::WithdrawNode);
    assert_eq!(lost(&applied), [("a", vec![node("laptop")]), ("b", vec![node("laptop")])]);
    assert!(bench.state.may_read(node("alice"), &name("a")).is_ok());
    assert!(bench.state.may_read(node("laptop"), &name("a")).is_err());
}

#[test]
fn a_member_who_goes_loses_access_and_listings_and_moves_the_epoch() {
    for leaves in [true, false] {
        let mut bench = Bench::with_users(&["alice", "bob"]);
        bench.ok("alice", create("g", Open));
        bench.ok("bob", join("g"));
        bench.ok("bob", publish("g", "f", 1));
        bench.ok("alice", publish("g", "kept", 1));
        let before = granted(&bench, "bob", "g");
        let applied =
            if leaves { bench.apply("bob", leave("g", false)) } else { bench.apply("alice", remove("g", "bob")) };
        assert_eq!(lost(&applied), [("g", vec![node("bob")])]);
        assert!(void(&bench, "bob", "g", before) && !void(&bench, "alice", "g", before));
        let files = bench.state.files_page(node("alice"), &name("g"), None).expect("a member");
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["kept"]);
    }
}

#[test]
fn leaving_a_public_group_keeps_the_right_to_read() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Public));
    bench.ok("bob", join("g"));
    let applied = bench.apply("bob", leave("g", false));
    assert!(!applied.changes.iter().any(|change| matches!(change, Change::AccessLost { .. })));
    assert!(bench.state.may_read(node("bob"), &name("g")).is_ok());
    assert_eq!(bench.refused("bob", publish("g", "f", 1)), ErrorCode::NOT_MEMBER);
}

#[test]
fn a_group_made_again_takes_no_grant_of_the_old_one() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Public));
    let (reader, member) = (granted(&bench, "bob", "g"), granted(&bench, "alice", "g"));
    bench.ok("alice", leave("g", true));
    bench.ok("alice", create("G", Open));
    assert!(void(&bench, "bob", "g", reader) && void(&bench, "alice", "g", member));
    assert!(!void(&bench, "alice", "g", granted(&bench, "alice", "g")));
}

#[test]
fn who_comes_back_is_granted_anew_at_once() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Open));
    for _ in 0..3 {
        bench.ok("bob", join("g"));
        let before = granted(&bench, "bob", "g");
        assert!(!void(&bench, "bob", "g", before));
        bench.ok("alice", remove("g", "bob"));
        assert!(void(&bench, "bob", "g", before));
    }
    let now = UnixMillis(bench.step * 1000);
    assert_eq!(bench.state.revocations(&name("g"), now).len(), 1, "the last one of a node says it all");
    bench.ok("bob", Command::WithdrawNode);
    bench.ok("bob", enrol("bob"));
    bench.ok("bob", join("g"));
    assert!(!void(&bench, "bob", "g", granted(&bench, "bob", "g")));
}

#[test]
fn a_revocation_is_kept_for_as_long_as_a_grant_may_live_and_no_longer() {
    const KEPT_MS: u64 = REVOCATION_SECONDS * 1000;
    let mut bench = Bench::with_users(&["alice", "bob", "carol"]);
    bench.ok("alice", create("g", Open));
    bench.ok("bob", join("g"));
    bench.ok("carol", join("g"));
    bench.ok("alice", remove("g", "bob"));
    let at = bench.step * 1000;
    let known = |bench: &Bench, now| bench.state.revocations(&name("g"), UnixMillis(now)).len();
    assert_eq!([at, at + KEPT_MS, at + KEPT_MS + 1].map(|now| known(&bench, now)), [1, 1, 0]);
    bench.step += KEPT_MS / 1000;
    bench.ok("alice", remove("g", "carol"));
    assert_eq!(known(&bench, at), 1, "the older one has been taken out");
    assert_eq!(State::decode(&bench.state.encode()).as_ref(), Ok(&bench.state));
}

#[test]
fn revocations_beyond_their_bound_void_more_and_not_less() {
    let mut bench = Bench::with_users(&["alice", "bob", "carol"]);
    bench.ok("alice", create("g", Open));
    bench.ok("carol", join("g"));
    let before = granted(&bench, "carol", "g");
    bench.ok("carol", leave("g", false));
    bench.ok("alice", create("other", Open));
    for _ in 0..REVOCATIONS_MAX {
        for command in [join("other"), leave("other", false)] {
            // At one moment, so that none is too old.
            let entry = Entry { at: UnixMillis(0), ..bench.entry("bob", command) };
            bench.state.apply(&entry).reply.expect("a member or not");
        }
    }
    bench.step = 0;
    bench.state.invariant();
    assert!(void(&bench, "carol", "g", before));
    let after = granted(&bench, "alice", "g");
    assert!(!void(&bench, "alice", "g", after), "who asks again is granted what holds");
    assert_eq!(State::decode(&bench.state.encode()).as_ref(), Ok(&bench.state));
}

/// The epoch of what a node is granted.
fn granted(bench: &Bench, reader: &str, group: &str) -> u64 {
    bench.state.may_read(node(reader), &name(group)).expect("may read").epoch
}

/// Whether what a node was granted then is void, as a daemon sees it that is told now.
fn void(bench: &Bench, reader: &str, group: &str, granted: u64) -> bool {
    let told = bench.state.revocations(&name(group), UnixMillis(bench.step * 1000));
    told.iter().any(|revoked| revoked.node.is_none_or(|whose| whose == node(reader)) && granted < revoked.epoch)
}

/// Which nodes have lost which group.
fn lost(applied: &Applied) -> Vec<(&str, Vec<NodeId>)> {
    let lost = applied.changes.iter().filter_map(|change| match change {
        Change::AccessLost { group, nodes, .. } => Some((group.as_str(), nodes.clone())),
        _ => None,
    });
    lost.collect()
}

#[test]
fn an_owner_hands_on_before_leaving() {
    let mut bench = Bench::with_users(&["alice", "bob", "carol"]);
    bench.ok("alice", create("g", Open));
    bench.ok("bob", join("g"));
    let reject = bench.apply("alice", leave("g", true)).reply.expect_err("others remain");
    assert_eq!(reject.code, ErrorCode::OWNER_MUST_HAND_OVER);
    assert!(reject.hint.contains("transfer_group"));
    assert_eq!(bench.refused("alice", transfer("g", "carol")), ErrorCode::USER_NOT_FOUND);
    assert_eq!(bench.refused("bob", transfer("g", "bob")), ErrorCode::NOT_OWNER);
    bench.ok("alice", transfer("g", "bob"));
    bench.ok("alice", leave("g", false));
    assert_eq!(bench.refused("bob", leave("g", false)), ErrorCode::WRONG_STATE);
    bench.ok("bob", leave("g", true));
    assert_eq!(bench.refused("bob", join("g")), ErrorCode::GROUP_NOT_FOUND);
}

#[test]
fn who_was_turned_away_may_ask_again() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Approval));
    assert_eq!(bench.ok("bob", join("g")), Outcome::Waiting { owner: name("alice") });
    assert_eq!(bench.refused("bob", join("g")), ErrorCode::ALREADY_REQUESTED);
    bench.ok("alice", turn_away("g", "bob"));
    assert_eq!(bench.refused("alice", accept("g", "bob")), ErrorCode::REQUEST_NOT_FOUND);
    bench.ok("bob", join("g"));
    bench.ok("bob", leave("g", false));
    assert!(bench.state.requests_page(node("alice"), &name("g"), None).expect("the owner").is_empty());
}

#[test]
fn two_members_may_list_different_files_under_one_name() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Open));
    bench.ok("bob", join("g"));
    bench.ok("alice", publish("g", "f.txt", 1));
    bench.ok("bob", publish("g", "F.txt", 2));
    let find = |owner: Option<&str>| {
        let owner = owner.map(name);
        let found = bench.state.find_file(node("alice"), &name("g"), &name("f.txt"), owner.as_ref());
        found.map(|found| found.len()).map_err(|reject| reject.code)
    };
    assert_eq!(find(None), Ok(2));
    assert_eq!(find(Some("bob")), Ok(1));
    assert_eq!(find(Some("carol")), Err(ErrorCode::FILE_NOT_FOUND));
}

#[test]
fn one_member_may_not_list_two_files_that_look_alike() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("g", Open));
    bench.ok("alice", publish("g", "A.txt", 1));
    assert_eq!(bench.ok("alice", publish("g", "A.txt", 1)), Outcome::Done, "the same again is no change");
    assert_eq!(bench.refused("alice", publish("g", "A.txt", 2)), ErrorCode::FILE_EXISTS);
    let reject = bench.apply("alice", publish("g", "a.txt", 1)).reply.expect_err("a twin");
    assert_eq!(reject.code, ErrorCode::FILE_EXISTS);
    assert!(reject.message.contains("A.txt"), "{}", reject.message);
}

#[test]
fn only_its_owner_takes_a_listing_out() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Open));
    bench.ok("bob", join("g"));
    bench.ok("bob", publish("g", "f", 1));
    assert_eq!(bench.refused("alice", unpublish("g", "f")), ErrorCode::FILE_NOT_FOUND);
    assert!(bench.state.may_read_content(node("alice"), &name("g"), &content(1)).is_ok());
    bench.ok("bob", unpublish("g", "f"));
    assert!(bench.state.may_read_content(node("alice"), &name("g"), &content(1)).is_err());
}

#[test]
fn a_page_continues_where_the_last_one_ended() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("g", Open));
    for number in 0..PAGE_ITEMS_MAX + 5 {
        bench.ok("alice", publish("g", &format!("{number:04}"), 1));
    }
    let first = bench.state.files_page(node("alice"), &name("g"), None).expect("a member");
    assert_eq!(first.len(), PAGE_ITEMS_MAX);
    let after = (first[PAGE_ITEMS_MAX - 1].name.clone(), name("alice"));
    bench.ok("alice", unpublish("g", after.0.as_str()));
    let second = bench.state.files_page(node("alice"), &name("g"), Some(&after)).expect("a member");
    assert_eq!(second.len(), 5);
    assert!(second[0].name > after.0);
}

#[test]
fn a_group_that_ends_takes_requests_and_listings_with_it() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Approval));
    bench.ok("alice", publish("g", "f", 1));
    bench.ok("bob", join("g"));
    let applied = bench.apply("alice", Command::DeleteGroup { group: name("g") });
    for user in ["alice", "bob"] {
        let told = Change::Membership { group: name("g"), user: name(user), standing: Standing::None };
        assert!(applied.changes.contains(&told), "{user}");
    }
    bench.ok("bob", create("g", Approval));
    assert!(bench.state.files_page(node("bob"), &name("g"), None).expect("a member").is_empty());
}

#[test]
fn tables_do_not_grow_beyond_their_bounds() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    for number in 0..GROUPS_PER_USER_MAX {
        let entry = bench.entry("alice", create(&format!("g{number}"), Approval));
        bench.state.apply(&entry).reply.expect("within the bound");
    }
    assert_eq!(bench.refused("alice", create("one more", Open)), ErrorCode::NOT_ALLOWED);
    for number in 0..REQUESTS_PER_USER_MAX {
        let entry = bench.entry("bob", join(&format!("g{number}")));
        bench.state.apply(&entry).reply.expect("within the bound");
    }
    assert_eq!(bench.refused("bob", join("g999")), ErrorCode::NOT_ALLOWED);
    for number in 1..NODES_PER_USER_MAX {
        let entry = bench.entry(&format!("n{number}"), enrol("bob"));
        bench.state.apply(&entry).reply.expect("within the bound");
    }
    assert_eq!(bench.refused("one more", enrol("bob")), ErrorCode::NOT_ALLOWED);
}

#[test]
fn a_user_lists_so_many_files_in_all_groups_and_no_more() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    for group in ["g", "h"] {
        bench.ok("alice", create(group, Open));
        bench.ok("bob", join(group));
        bench.ok("alice", publish(group, "hers", 1));
    }
    for number in 0..LISTINGS_PER_USER_MAX {
        let group = if number % 2 == 0 { "g" } else { "h" };
        let entry = bench.entry("bob", publish(group, &format!("f{number}"), 7));
        bench.state.apply(&entry).reply.expect("within the bound");
    }
    for group in ["g", "h"] {
        assert_eq!(bench.refused("bob", publish(group, "one more", 7)), ErrorCode::NOT_ALLOWED);
    }
    bench.ok("alice", publish("g", "another", 2));
    assert_eq!(bench.ok("bob", publish("g", "f0", 7)), Outcome::Done, "listed already");
    bench.ok("bob", unpublish("g", "f0"));
    bench.ok("bob", publish("h", "one more", 7));
    bench.ok("bob", leave("g", false));
    let found = |bench: &Bench, group, content| bench.state.found(&name(group), &super::content(content));
    assert_eq!((found(&bench, "g", 7), found(&bench, "g", 1)), (None, Some(Found::Listed)), "hers stay");
    assert_eq!(found(&bench, "h", 7), Some(Found::Listed));
    bench.ok("alice", Command::DeleteGroup { group: name("h") });
    bench.ok("bob", join("g"));
    bench.ok("bob", publish("g", "room again", 7));
}

#[test]
fn a_request_id_means_nothing_without_the_key_that_chose_it() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    let entry = bench.entry("alice", create("g", Open));
    bench.state.apply(&entry).reply.expect("new");
    let same_id = Entry { actor: node("bob"), command: join("g"), ..entry };
    assert_eq!(bench.state.apply(&same_id).reply, Ok(Outcome::Joined));
}

#[test]
fn answers_are_remembered_up_to_their_bound() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("g", Open));
    let entry = bench.entry("alice", publish("g", "f", 1));
    bench.state.apply(&entry).reply.expect("new");
    for _ in 0..REMEMBERED_MAX {
        let other = bench.entry("alice", publish("g", "f", 1));
        bench.state.apply(&other).reply.expect("no change");
    }
    bench.state.invariant();
    bench.ok("alice", unpublish("g", "f"));
    assert!(!bench.state.apply(&entry).changes.is_empty(), "forgotten, so applied anew");
}

#[test]
fn a_group_that_is_no_longer_public_has_a_new_epoch_and_fewer_readers() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Public));
    let before = bench.state.may_read(node("bob"), &name("g")).expect("public").epoch;
    let applied = bench.apply("alice", set_policy("g", Open));
    let voided = Change::GrantsVoided { group: name("g"), epoch: before + 1 };
    assert_eq!(applied.changes, [Change::PolicyChanged { group: name("g"), policy: Open }, voided]);
    assert!(bench.state.may_read(node("bob"), &name("g")).is_err());
    let after = bench.state.may_read(node("alice"), &name("g")).expect("a member").epoch;
    assert!(after > before);
    bench.ok("alice", set_policy("g", Approval));
    assert_eq!(bench.state.may_read(node("alice"), &name("g")).expect("a member").epoch, after, "nobody lost access");
}

#[test]
fn who_waits_is_let_in_by_the_policy_as_far_as_there_is_room() {
    let mut bench = Bench::with_users(&["alice", "bob", "carol"]);
    bench.ok("alice", create("g", Approval));
    bench.ok("carol", join("g"));
    bench.ok("bob", join("g"));
    for number in 0..GROUPS_PER_USER_MAX {
        let entry = bench.entry("carol", create(&format!("g{number}"), Open));
        bench.state.apply(&entry).reply.expect("within the bound");
    }
    let applied = bench.apply("alice", set_policy("g", Public));
    let told = Change::Membership { group: name("g"), user: name("bob"), standing: Standing::Member };
    assert_eq!(applied.changes, [Change::PolicyChanged { group: name("g"), policy: Public }, told]);
    let waiting = bench.state.requests_page(node("alice"), &name("g"), None).expect("the owner");
    assert_eq!(waiting.iter().map(|row| row.user.as_str()).collect::<Vec<_>>(), ["carol"]);
}

#[test]
fn a_replaced_content_is_no_longer_listed_unless_another_lists_it() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Open));
    bench.ok("bob", join("g"));
    bench.ok("alice", publish("g", "f", 1));
    bench.ok("bob", publish("g", "f", 1));
    bench.ok("alice", replace("g", "f", 2));
    let listed =
        |bench: &Bench, number| bench.state.may_read_content(node("bob"), &name("g"), &content(number)).is_ok();
    assert!(listed(&bench, 1) && listed(&bench, 2));
    bench.ok("bob", replace("g", "f", 2));
    assert!(!listed(&bench, 1));
}

#[test]
fn requests_to_all_of_an_owners_groups_come_in_pages() {
    let mut bench = Bench::with_users(&["alice", "bob", "carol"]);
    for number in 0..3 {
        bench.ok("alice", create(&format!("g{number}"), Approval));
        bench.ok("carol", join(&format!("g{number}")));
        bench.ok("bob", join(&format!("g{number}")));
    }
    let all = bench.state.owned_requests_page(node("alice"), None).expect("logged in");
    assert_eq!(all.len(), 6);
    for (place, row) in all.iter().enumerate() {
        let after = (row.group.clone(), row.user.clone());
        let rest = bench.state.owned_requests_page(node("alice"), Some(&after)).expect("logged in");
        assert_eq!(rest, all[place + 1..]);
    }
}

#[test]
fn the_first_secrets_stay() {
    let mut bench = Bench::default();
    let setup = |byte| Setup { server_setup: vec![byte], cluster_key: vec![byte] };
    bench.ok("t", Command::Initialize(setup(1)));
    bench.ok("t", Command::Initialize(setup(2)));
    assert_eq!(bench.state.setup(), Some(&setup(1)));
    assert!(!format!("{:?}", setup(77)).contains("77"), "secrets are not shown");
}

#[test]
fn a_snapshot_of_another_version_or_cut_short_is_refused() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    bench.ok("alice", create("g", Approval));
    bench.ok("alice", publish("g", "f", 1));
    bench.ok("bob", join("g"));
    let bytes = bench.state.encode();
    assert_eq!(State::decode(&bytes), Ok(bench.state));
    assert_eq!(State::decode(&[]), Err(SnapshotError::Empty));
    assert_eq!(State::decode(&[3, 0]), Err(SnapshotError::Version(3)));
    for end in 1..bytes.len() {
        assert!(State::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
}

/// The state whose snapshots are recorded, since the first version.
fn recorded() -> State {
    let mut bench = Bench::with_users(&["ann", "bob"]);
    bench.ok("ann", create("Photos", Approval));
    bench.ok("ann", publish("photos", "beach.jpg", 7));
    bench.ok("bob", join("photos"));
    bench.ok("cat", Command::CreateUser { user: name("cat"), record: vec![1] });
    bench.ok("n2", enrol("Ann"));
    bench.state
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).expect("hexadecimal") as u8;
    hex.trim().as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

#[test]
fn a_snapshot_of_the_first_version_is_read_still() {
    let old = State::decode(&bytes_of(include_str!("snapshots/1.hex"))).expect("reads");
    old.invariant();
    let nodes = old.nodes(node("ann")).expect("logged in");
    assert_eq!(
        nodes.iter().map(|enrolled| (enrolled.node, enrolled.since)).collect::<Vec<_>>(),
        [(node("ann"), None), (node("n2"), None)]
    );
    let mut expected = recorded();
    expected.users.nodes.values_mut().for_each(|enrolment| enrolment.since = None);
    // Then a new group began an epoch too.
    expected.epoch = 1;
    assert_eq!(old, expected, "nothing else is missing");
    assert_eq!(State::decode(&old.encode()), Ok(old), "and it is written as the version now");
}

#[test]
fn the_encoding_of_a_snapshot_stays() {
    let hex: String = recorded().encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("snapshots/2.hex").trim());
}

#[test]
fn a_folder_is_one_listing_with_the_number_of_its_files() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("g", Open));
    let born = born(&bench, "g");
    let publish_folder = |name: &str, files| Command::PublishFolder {
        group: self::name("G"),
        born,
        name: self::name(name),
        content: content(1),
        length: 10,
        files,
        replace: false,
    };
    bench.ok("alice", publish("g", "file", 1));
    bench.ok("alice", publish_folder("album", 300));
    bench.ok("alice", publish_folder("album", 300));
    assert_eq!(bench.refused("alice", publish_folder("album", 301)), ErrorCode::FILE_EXISTS);
    let listed = bench.state.files_page(node("alice"), &name("g"), None).expect("may read");
    assert_eq!(listed.iter().map(|file| file.files).collect::<Vec<_>>(), [Some(300), None]);
    let bytes = bench.state.encode();
    // The last section: its number, one row of a group, a name, an owner and 300.
    assert!(bytes.ends_with(b"\x04\x01\x01g\x05album\x05alice\xac\x02"), "{bytes:?}");
    assert_eq!(State::decode(&bytes), Ok(bench.state));
}

#[test]
fn a_snapshot_that_dates_a_node_of_nobody_is_refused() {
    let mut bytes = recorded().encode();
    // The last row: a node's id and the time, which has two bytes here.
    let id = bytes.len() - 2 - NodeId::BYTES;
    bytes[id] ^= 1;
    assert!(matches!(State::decode(&bytes), Err(SnapshotError::UnknownNode(_))));
}

#[test]
fn log_out_everywhere_reaches_every_group_of_the_user() {
    let mut bench = Bench::with_users(&["alice", "bob"]);
    for group in ["g", "h"] {
        bench.ok("alice", create(group, Open));
        bench.ok("bob", join(group));
    }
    for other in ["b2", "b3"] {
        bench.ok(other, enrol("bob"));
    }
    let changes = bench.apply("bob", change_password(1, 2, true)).changes;
    for group in ["g", "h"] {
        let lost = |change: &Change| match change {
            Change::AccessLost { group: of, nodes, .. } => *of == name(group) && *nodes == [node("b2"), node("b3")],
            _ => false,
        };
        assert!(changes.iter().any(lost), "{group}");
    }
    assert_eq!(bench.state.nodes_of_user(&name("bob")).collect::<Vec<_>>(), [node("bob")]);
}

#[test]
fn a_long_record_is_no_password() {
    let mut bench = Bench::with_users(&["alice"]);
    let record = vec![1; RECORD_BYTES_MAX + 1];
    let change = Command::ChangePassword { proved: vec![1], record, log_out_everywhere: true };
    assert_eq!(bench.refused("alice", change), ErrorCode::NOT_ALLOWED);
}

#[test]
fn a_snapshot_of_the_first_version_is_read() {
    let recorded = include_str!("recorded/snapshot.v1.hex").trim();
    let digit = |at: usize| u8::from_str_radix(&recorded[at..at + 2], 16).expect("hexadecimal");
    let bytes: Vec<u8> = (0..recorded.len()).step_by(2).map(digit).collect();
    let mut bench = Bench { state: State::decode(&bytes).expect("reads"), step: 100 };
    bench.state.invariant();
    assert!(bench.state.may_read(node("alice"), &name("g")).is_ok() && bench.state.setup().is_some());
    assert!(bench.state.may_read(node("bob"), &name("g")).is_err());
    assert_eq!(bench.state.requests_page(node("alice"), &name("g"), None).expect("the owner").len(), 1);
    // What it granted before is told from what is granted now.
    let before = granted(&bench, "bob", "H");
    bench.ok("alice", Command::DeleteGroup { group: name("H") });
    assert!(void(&bench, "bob", "H", before));
    assert_eq!(State::decode(&bench.state.encode()), Ok(bench.state));
}

/// When the group was born that has a name now, as its readers, its listings and everybody else are told.
fn born(bench: &Bench, group: &str) -> UnixMillis {
    let (state, alice) = (&bench.state, node("alice"));
    let born = state.may_read(alice, &name(group)).expect("may read").born;
    assert_eq!(state.group_info(alice, &name(group)).expect("logged in").born, born);
    assert!(state.files_page(alice, &name(group), None).expect("may read").iter().all(|file| file.born == born));
    born
}

#[test]
fn what_was_meant_for_a_group_that_has_ended_is_not_listed_in_another_of_its_name() {
    let mut bench = Bench::with_users(&["alice"]);
    bench.ok("alice", create("g", Open));
    let before = born(&bench, "g");
    let publish_in = |born, replace| Command::PublishIn {
        group: name("G"),
        born,
        name: name("f"),
        content: content(1 + u8::from(replace)),
        length: 10,
        replace,
    };
    bench.ok("alice", publish_in(before, false));
    bench.ok("alice", publish_in(before, true));
    assert_eq!(bench.refused("alice", publish_in(before, false)), ErrorCode::FILE_EXISTS);
    bench.ok("alice", Command::DeleteGroup { group: name("g") });
    assert_eq!(bench.refused("alice", publish_in(before, false)), ErrorCode::GROUP_NOT_FOUND);
    bench.ok("alice", create("g", Open));
    for replace in [false, true] {
        assert_eq!(bench.refused("alice", publish_in(before, replace)), ErrorCode::GROUP_NOT_FOUND);
    }
    let now = born(&bench, "g");
    bench.ok("alice", publish_in(now, false));
}

#[test]
fn a_group_is_told_from_those_that_had_its_name_before() {
    let mut bench = Bench::with_users(&["alice"]);
    let mut births = vec![UnixMillis(0)];
    // The clock stands still, goes on, and goes back.
    for at in [5, 5, 9, 3, 0] {
        let entry = Entry { at: UnixMillis(at), ..bench.entry("alice", create("g", Open)) };
        bench.state.apply(&entry).reply.expect("made");
        bench.ok("alice", publish("g", "f", 1));
        births.push(born(&bench, "g"));
        bench.ok("alice", set_policy("g", Approval));
        assert_eq!(births.last(), Some(&born(&bench, "g")), "and keeps it");
        bench.ok("alice", Command::DeleteGroup { group: name("G") });
        // Also for a tracker that knows of the old one by a snapshot alone.
        let decoded = State::decode(&bench.state.encode()).expect("reads back");
        assert_eq!(decoded, bench.state);
        bench.state = decoded;
    }
    assert!(births.is_sorted_by(|earlier, later| earlier < later), "{births:?}");
    assert_eq!(births[1..], [5, 6, 9, 10, 11].map(UnixMillis));
}
