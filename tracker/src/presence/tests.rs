//! One rule a test; the invariant is checked after every step.

use super::*;

const NOW: UnixMillis = UnixMillis(1_000);

fn group(text: &str) -> GroupName {
    text.parse().expect("an allowed name")
}

fn node(number: u16) -> NodeId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    id[2] = 1;
    NodeId(id)
}

const CONTENT: ContentId = ContentId([7; 32]);

/// A presence whose nodes are at `192.0.2.<number>:4000`, each of the user `u<number>`.
#[derive(Default)]
struct Bench(Presence);

impl Bench {
    fn at(&mut self, number: u16, observed: &str, local: &[&str]) {
        let local: Vec<SocketAddr> = local.iter().map(|text| text.parse().expect("an address")).collect();
        let user = format!("u{number}").parse().expect("an allowed name");
        self.0.connect(node(number), Some(user), observed.parse().expect("an address"), &local, NOW);
        self.0.invariant();
    }

    fn online(&mut self, number: u16) {
        let [high, low] = number.to_be_bytes();
        self.at(number, &format!("192.0.{high}.{low}:4000"), &[]);
    }

    fn announce(&mut self, number: u16, complete: bool) -> Vec<NodeId> {
        let notices = self
            .0
            .announce(node(number), &group("g"), CONTENT, Found::Listed, Have::announced(complete), NOW)
            .expect("within the bounds");
        self.0.invariant();
        let newcomer = |event: &Event| match event {
            Event::Provider { provider, .. } => (provider.node, provider.complete),
            other => panic!("not a provider: {other:?}"),
        };
        assert!(notices.iter().all(|(_, event)| newcomer(event) == (node(number), complete)));
        notices.into_iter().map(|(to, _)| to).collect()
    }

    fn lookup(&mut self, asker: u16) -> Vec<NodeId> {
        self.0.lookup(node(asker), &group("g"), CONTENT).providers.into_iter().map(|provider| provider.node).collect()
    }

    fn addresses(&mut self, asker: u16) -> Vec<String> {
        let found = self.0.lookup(node(asker), &group("g"), CONTENT).providers;
        found.iter().flat_map(|provider| &provider.addresses).map(ToString::to_string).collect()
    }
}

#[test]
fn seeders_come_first_and_the_asker_never() {
    let mut bench = Bench::default();
    for number in 1..=3 {
        bench.online(number);
    }
    bench.announce(1, false);
    bench.announce(2, true);
    bench.announce(3, false);
    assert_eq!(bench.lookup(3), [node(2), node(1)]);
    assert_eq!(bench.lookup(2), [node(3), node(1)], "in turn: the one given out last comes last");
    assert_eq!(bench.0.counts(&group("G"), CONTENT), (1, 2));
}

#[test]
fn many_seeders_are_given_out_in_turn() {
    let mut bench = Bench::default();
    let count = 3 * LOOKUP_PROVIDERS_MAX as u16;
    for number in 0..=count {
        bench.online(number);
    }
    for number in 1..=count {
        bench.announce(number, true);
    }
    let mut given = BTreeSet::new();
    for _ in 0..3 {
        let found = bench.lookup(0);
        assert_eq!(found.len(), LOOKUP_PROVIDERS_MAX);
        given.extend(found);
    }
    assert_eq!(given.len(), usize::from(count), "nobody twice before all once");
}

#[test]
fn a_seeder_that_comes_back_is_told_to_all_who_wait() {
    let mut bench = Bench::default();
    for number in 1..=200 {
        bench.online(number);
        bench.announce(number, false);
    }
    bench.online(0);
    assert_eq!(bench.announce(0, true).len(), 200);
    assert_eq!(bench.announce(0, true), [], "said already");
    assert_eq!(bench.announce(1, true).len(), NOTIFIED_MAX, "who waits has a seeder already");
}

#[test]
fn who_is_complete_is_told_of_nobody() {
    let mut bench = Bench::default();
    bench.online(1);
    bench.online(2);
    bench.announce(1, true);
    assert_eq!(bench.announce(2, false), []);
    assert_eq!(bench.announce(2, true), []);
}

#[test]
fn the_last_seeder_is_remembered_when_it_is_gone() {
    let mut bench = Bench::default();
    bench.online(1);
    bench.online(2);
    bench.announce(1, true);
    assert_eq!(bench.0.lookup(node(2), &group("g"), CONTENT).last_seeder, None, "it is online");
    bench.0.disconnect(node(1), UnixMillis(5));
    bench.0.invariant();
    let found = bench.0.lookup(node(2), &group("g"), CONTENT);
    assert!(found.providers.is_empty());
    assert_eq!(found.last_seeder, Some(("u1".parse().expect("allowed"), UnixMillis(5))));
}

#[test]
fn a_connection_that_replaces_another_starts_with_nothing() {
    let mut bench = Bench::default();
    bench.online(1);
    bench.online(2);
    bench.announce(1, true);
    bench.online(1);
    assert_eq!(bench.lookup(2), []);
}

#[test]
fn a_revoked_node_is_gone_from_that_group_only() {
    let mut bench = Bench::default();
    bench.online(1);
    bench.announce(1, true);
    bench.0.announce(node(1), &group("h"), CONTENT, Found::Listed, Have::Complete, NOW).expect("within the bounds");
    assert_eq!(bench.0.nodes_that_listen(|group| group.as_str() == "h"), [node(1)].into());
    bench.0.revoke(node(1), &group("g"), NOW);
    bench.0.invariant();
    assert_eq!(bench.0.counts(&group("g"), CONTENT), (0, 0));
    assert_eq!(bench.0.counts(&group("h"), CONTENT), (1, 0));
    assert_eq!(bench.0.listeners(&group("g")), []);
    bench.0.set_user(node(1), None, NOW);
    assert_eq!(bench.0.counts(&group("h"), CONTENT), (0, 0));
}

fn content(number: usize) -> ContentId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    ContentId(id)
}

#[test]
fn what_is_announced_is_bounded() {
    let mut bench = Bench::default();
    bench.online(1);
    for number in 0..ITEMS_PER_NODE_MAX {
        bench
            .0
            .announce(node(1), &group("g"), content(number), Found::Listed, Have::Complete, NOW)
            .expect("within the bounds");
    }
    assert_eq!(bench.0.announce(node(1), &group("g"), CONTENT, Found::Listed, Have::Complete, NOW), Err(Full::OfNode));
    bench.0.keep_only(node(1), &[(group("G"), content(5))], Have::Complete, NOW);
    bench.0.invariant();
    assert_eq!(bench.0.items, 1);
    bench.0.withdraw(node(1), &group("g"), content(5), Have::Complete, NOW);
    bench.0.invariant();
}

#[test]
fn local_addresses_are_told_only_to_those_at_the_same_address() {
    let mut bench = Bench::default();
    bench.at(1, "192.0.2.1:4000", &["10.0.0.1:4000", "127.0.0.1:4000"]);
    bench.announce(1, true);
    bench.at(2, "192.0.2.1:5000", &[]);
    bench.at(3, "192.0.2.3:5000", &[]);
    assert_eq!(bench.addresses(2), ["192.0.2.1:4000", "10.0.0.1:4000"]);
    assert_eq!(bench.addresses(3), ["192.0.2.1:4000"]);
}

#[test]
fn a_node_on_the_trackers_machine_is_told_by_its_own_addresses() {
    let mut bench = Bench::default();
    bench.at(1, "127.0.0.1:4000", &["127.0.0.1:4000", "192.0.2.9:4000"]);
    bench.announce(1, true);
    bench.at(2, "127.0.0.1:5000", &[]);
    bench.at(3, "192.0.2.3:5000", &[]);
    assert_eq!(bench.addresses(2), ["127.0.0.1:4000", "192.0.2.9:4000"]);
    assert_eq!(bench.addresses(3), ["192.0.2.9:4000"]);
}

#[test]
fn no_dial_is_aimed_at_many_machines_or_at_a_service() {
    let mut bench = Bench::default();
    let bad = ["224.0.0.1:4000", "255.255.255.255:4000", "0.0.0.0:4000", "[ff02::1]:4000", "[::]:4000", "10.0.0.1:53"];
    bench.at(1, "192.0.2.1:4000", &bad);
    bench.announce(1, true);
    bench.at(2, "192.0.2.1:5000", &[]);
    assert_eq!(bench.addresses(2), ["192.0.2.1:4000"]);
    bench.at(1, "192.0.2.1:53", &[]);
    bench.announce(1, true);
    assert_eq!(bench.addresses(2), [""; 0]);
}

/// Puts a node on standby; who is woken by that.
fn stand_by(bench: &mut Bench, number: u16) -> Vec<NodeId> {
    let notices = bench
        .0
        .announce(node(number), &group("g"), CONTENT, Found::Listed, Have::Standby, NOW)
        .expect("within the bounds");
    bench.0.invariant();
    woken(notices)
}

/// Those who are told that the content is wanted; nothing else may be among the notices.
fn woken(notices: Vec<Notice>) -> Vec<NodeId> {
    let wanted = Event::Wanted { group: group("g"), content: CONTENT };
    assert!(notices.iter().all(|(_, event)| *event == wanted), "{notices:?}");
    notices.into_iter().map(|(to, _)| to).collect()
}

/// A node begins to download; who is woken by that.
fn download(bench: &mut Bench, number: u16) -> Vec<NodeId> {
    let notices = bench
        .0
        .announce(node(number), &group("g"), CONTENT, Found::Listed, Have::Partial, NOW)
        .expect("within the bounds");
    bench.0.invariant();
    woken(notices.into_iter().filter(|(_, event)| matches!(event, Event::Wanted { .. })).collect())
}

fn bench_of(count: u16) -> Bench {
    let mut bench = Bench::default();
    (1..=count).for_each(|number| bench.online(number));
    bench
}

#[test]
fn who_is_on_standby_is_no_provider_and_not_counted() {
    let mut bench = bench_of(2);
    assert_eq!(stand_by(&mut bench, 1), [], "nobody asks");
    assert_eq!(bench.lookup(2), []);
    assert_eq!(bench.0.counts(&group("g"), CONTENT), (0, 0));
}

#[test]
fn who_is_on_standby_is_woken_when_nobody_else_has_it() {
    let mut bench = bench_of(3);
    stand_by(&mut bench, 1);
    assert_eq!(download(&mut bench, 2), [node(1)], "by the first who downloads");
    assert_eq!(woken(bench.0.ask(node(2), &group("G"), CONTENT)), [node(1)], "and again, while nobody has come");
    assert_eq!(woken(bench.0.ask(node(3), &group("g"), CONTENT)), [], "not by one who only looks");
    assert_eq!(bench.announce(1, true), [node(2)], "the woken node is told like any first seeder");
    assert_eq!(woken(bench.0.ask(node(2), &group("g"), CONTENT)), []);
}

#[test]
fn who_is_on_standby_rests_while_a_seeder_is_online() {
    let mut bench = bench_of(3);
    stand_by(&mut bench, 1);
    bench.announce(2, true);
    assert_eq!(download(&mut bench, 3), []);
    assert_eq!(woken(bench.0.ask(node(3), &group("g"), CONTENT)), []);
    bench.0.disconnect(node(2), NOW);
    assert_eq!(woken(bench.0.ask(node(3), &group("g"), CONTENT)), [node(1)]);
}

#[test]
fn who_comes_online_on_standby_is_woken_by_those_who_wait() {
    let mut bench = bench_of(2);
    download(&mut bench, 2);
    assert_eq!(stand_by(&mut bench, 1), [node(1)]);
}

#[test]
fn a_few_at_a_time_are_woken_in_turn() {
    let mut bench = bench_of(8);
    (1..=7).for_each(|number| drop(stand_by(&mut bench, number)));
    let mut first = download(&mut bench, 8);
    let second = woken(bench.0.ask(node(8), &group("g"), CONTENT));
    assert_eq!((first.len(), second.len()), (WOKEN_MAX, WOKEN_MAX));
    first.extend(&second);
    assert_eq!(BTreeSet::from_iter(first).len(), 2 * WOKEN_MAX, "others each time");
}

#[test]
fn what_is_announced_and_what_is_on_standby_are_withdrawn_and_replaced_apart() {
    let mut bench = bench_of(1);
    let held = |bench: &Bench| bench.0.nodes[&node(1)].items.values().map(|held| held.have).collect::<Vec<_>>();
    stand_by(&mut bench, 1);
    bench.0.withdraw(node(1), &group("g"), CONTENT, Have::Complete, NOW);
    bench.0.keep_only(node(1), &[], Have::Complete, NOW);
    assert_eq!(held(&bench), [Have::Standby]);
    bench.announce(1, true);
    bench.0.withdraw(node(1), &group("g"), CONTENT, Have::Standby, NOW);
    bench.0.keep_only(node(1), &[], Have::Standby, NOW);
    assert_eq!(held(&bench), [Have::Complete]);
    stand_by(&mut bench, 1);
    assert_eq!(held(&bench), [Have::Standby], "no seeder any more");
    bench.0.keep_only(node(1), &[], Have::Standby, NOW);
    bench.0.invariant();
    assert_eq!(held(&bench), []);
}

#[test]
fn who_may_no_longer_read_is_not_woken() {
    let mut bench = bench_of(2);
    stand_by(&mut bench, 1);
    assert_eq!(bench.0.listeners(&group("g")), [node(1)], "so that it hears of revocations");
    bench.0.revoke(node(1), &group("g"), NOW);
    assert_eq!(download(&mut bench, 2), []);
}

#[test]
fn who_has_announced_in_a_group_listens_there_until_it_is_gone_or_may_not_read_it() {
    let mut bench = bench_of(2);
    assert_eq!(bench.0.listen(node(1), &group("g")), Ok(true));
    assert_eq!(bench.0.listen(node(1), &group("G")), Ok(false), "already");
    bench.announce(2, true);
    bench.0.withdraw(node(2), &group("g"), CONTENT, Have::Complete, NOW);
    bench.0.keep_only(node(2), &[], Have::Complete, NOW);
    bench.0.invariant();
    let listeners = |bench: &Bench| BTreeSet::from_iter(bench.0.listeners(&group("g")));
    assert_eq!(listeners(&bench), BTreeSet::from([node(1), node(2)]), "it may serve something that nobody finds");
    bench.0.revoke(node(1), &group("G"), NOW);
    bench.0.invariant();
    assert_eq!(listeners(&bench), BTreeSet::from([node(2)]));
    bench.0.disconnect(node(2), NOW);
    bench.0.invariant();
    assert_eq!(listeners(&bench), BTreeSet::new());
}

#[test]
fn a_node_listens_in_so_many_groups_and_no_more() {
    let mut bench = bench_of(2);
    for number in 0..GROUPS_PER_NODE_MAX {
        assert_eq!(bench.0.listen(node(1), &group(&format!("g{number}"))), Ok(true));
    }
    bench.0.invariant();
    assert_eq!(bench.0.listen(node(1), &group("g")), Err(Full::Groups));
    assert_eq!(bench.0.announce(node(1), &group("g"), CONTENT, Found::Listed, Have::Complete, NOW), Err(Full::Groups));
    assert_eq!(bench.0.listen(node(1), &group("g7")), Ok(false));
    assert_eq!(bench.0.listen(node(2), &group("g")), Ok(true), "which is nothing to others");
    bench.0.invariant();
}

#[test]
fn a_user_with_many_nodes_leaves_room_for_others() {
    let mut bench = Bench::default();
    let nodes = u16::try_from(ITEMS_PER_USER_MAX / ITEMS_PER_NODE_MAX).expect("few");
    let user: UserName = "fleet".parse().expect("an allowed name");
    for number in 0..=nodes {
        bench.online(number);
        bench.0.set_user(node(number), Some(user.clone()), NOW);
    }
    let announce = |bench: &mut Bench, number: u16, item: usize, found| {
        bench.0.announce(node(number), &group("g"), content(item), found, Have::Complete, NOW).map(drop)
    };
    for item in 0..UNLISTED_PER_USER_MAX {
        assert_eq!(announce(&mut bench, 0, item, Found::ById), Ok(()));
    }
    assert_eq!(announce(&mut bench, 1, 0, Found::ById), Err(Full::Unlisted));
    for item in UNLISTED_PER_USER_MAX..ITEMS_PER_USER_MAX {
        let number = u16::try_from(item / ITEMS_PER_NODE_MAX).expect("few");
        assert_eq!(announce(&mut bench, number, item, Found::Listed), Ok(()));
    }
    assert_eq!(announce(&mut bench, nodes, 0, Found::Listed), Err(Full::OfUser));
    assert_eq!(announce(&mut bench, 0, 0, Found::Listed), Ok(()), "said already");
    assert!(bench.0.listeners(&group("g")).contains(&node(nodes)), "it hears of revocations nevertheless");
    bench.online(nodes + 1);
    assert_eq!(announce(&mut bench, nodes + 1, 0, Found::ById), Ok(()), "another user");
    bench.0.invariant();
    bench.0.set_user(node(0), None, NOW);
    assert_eq!(announce(&mut bench, nodes, 0, Found::ById), Ok(()), "given back");
    bench.0.invariant();
}
