//! The log's bytes, of this version and of those before, and the takeover of an older log.

use proptest::prelude::*;

use super::super::takeover::record_alone;
use super::*;

#[test]
fn the_encoding_of_an_entry_stays() {
    let mut short = entry(1);
    short.command = Command::Publish {
        group: "g".parse().expect("an allowed name"),
        name: "f".parse().expect("an allowed name"),
        content: p2p_proto::id::ContentId([5; 32]),
        length: 300,
    };
    let mut expected = vec![1u8];
    expected.extend_from_slice(&short.request.0);
    expected.extend_from_slice(&[7; 32]);
    expected.extend_from_slice(&[1, 12, 1, b'g', 1, b'f']);
    expected.extend_from_slice(&[5; 32]);
    expected.extend_from_slice(&[0xac, 0x02]);
    assert_eq!(record_alone(&short), expected);
    assert_eq!(record::decode_alone(&expected), Ok(short));
}

#[test]
fn the_encoding_of_what_owners_change_stays() {
    let group: p2p_proto::name::GroupName = "g".parse().expect("an allowed name");
    let name: p2p_proto::name::FileName = "f".parse().expect("an allowed name");
    let owner = "o".parse().expect("an allowed name");
    let content = p2p_proto::id::ContentId([5; 32]);
    let replaced = [&[16, 1, b'g', 1, b'f'][..], &[5; 32], &[0xac, 0x02]].concat();
    let policy = p2p_proto::tracker::JoinPolicy::Open;
    for (command, expected) in [
        (Command::SetPolicy { group: group.clone(), policy }, vec![14, 1, b'g', 1]),
        (Command::RemoveFile { group: group.clone(), name: name.clone(), owner }, vec![15, 1, b'g', 1, b'f', 1, b'o']),
        (Command::Replace { group, name, content, length: 300 }, replaced),
    ] {
        assert_eq!(p2p_proto::codec::encode(&command), expected);
        assert_eq!(p2p_proto::codec::decode(&expected), Ok(command));
    }
}

#[test]
fn the_encoding_of_what_came_later_stays() {
    let user = || "u".parse().expect("an allowed name");
    let (proved, record) = (vec![8], vec![9]);
    for (command, expected) in [
        (Command::Login { user: user(), proved: proved.clone() }, vec![17, 1, b'u', 1, 8]),
        (Command::ChangePassword { proved, record, log_out_everywhere: true }, vec![18, 1, 8, 1, 9, 1]),
        (Command::WithdrawNodeOfUser { node: NodeId([5; 32]) }, [vec![19], vec![5; 32]].concat()),
        (Command::MakePublicGroup, vec![20]),
        (
            Command::PublishIn {
                group: "g".parse().expect("an allowed name"),
                born: UnixMillis(300),
                name: "f".parse().expect("an allowed name"),
                content: p2p_proto::id::ContentId([5; 32]),
                length: 300,
                replace: true,
            },
            [&[21, 1, b'g', 0xac, 0x02, 1, b'f'][..], &[5; 32], &[0xac, 0x02, 1]].concat(),
        ),
        (
            Command::PublishFolder {
                group: "g".parse().expect("an allowed name"),
                born: UnixMillis(300),
                name: "f".parse().expect("an allowed name"),
                content: p2p_proto::id::ContentId([5; 32]),
                length: 300,
                files: 7,
                replace: true,
            },
            [&[22, 1, b'g', 0xac, 0x02, 1, b'f'][..], &[5; 32], &[0xac, 0x02, 7, 1]].concat(),
        ),
    ] {
        let entry = Entry { command, ..entry(1) };
        let bytes = record_alone(&entry);
        assert!(bytes.ends_with(&[&[1], &expected[..]].concat()), "{entry:?}");
        assert_eq!(record::decode_alone(&bytes), Ok(entry));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = record::decode(7, &bytes);
        let _ = record::decode_alone(&bytes);
        let _ = State::decode(&bytes);
    }
}

#[test]
fn the_encoding_of_a_place_stays() {
    use openraft::{CommittedLeaderId, EntryPayload, Membership};
    use types::{Batch, LogEntry, LogId};
    let log_id = LogId::new(CommittedLeaderId::new(3, 2), 300);
    let members = BTreeMap::from([(1, Member { key: Some(NodeId([5; 32])) }), (2, Member { key: None })]);
    let members = Membership::new(vec![BTreeSet::from([1])], members);
    let mut short = entry(1);
    short.command = Command::WithdrawNode;
    let changes = [&[1][..], &short.request.0, &[7; 32], &[1, 3]].concat();
    let cluster = [&[1, 1, 1, 2, 1, 1][..], &[5; 32], &[2, 0]].concat();
    for (payload, expected) in [
        (EntryPayload::Blank, vec![0]),
        (EntryPayload::Normal(Batch(vec![short].into())), [vec![1], changes].concat()),
        (EntryPayload::Membership(members), [vec![2], cluster].concat()),
    ] {
        let entry = LogEntry { log_id, payload };
        let expected = [&[2, 3, 2, 0xac, 0x02][..], &expected].concat();
        assert_eq!(record::encode(&entry), expected);
        assert_eq!(record::decode(300, &expected).expect("whole").log_id, log_id);
        assert!(record::decode(301, &expected).is_err(), "in another's place");
    }
}

#[tokio::test]
async fn a_log_of_an_earlier_version_is_taken_over_with_all_that_it_holds() {
    for (snapshot_at, entries) in [(0, 0), (0, 5), (3, 5), (5, 5)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let entries: Vec<_> = (0..entries).map(entry).collect();
        let mut expected = State::default();
        entries.iter().for_each(|entry| drop(expected.apply(entry)));
        write_log_of_format_1(folder.path(), &entries, snapshot_at);
        for _ in 0..2 {
            let store = Store::open(folder.path()).expect("opens");
            let log = Consensus::start(store, Peers::none(KEY), heard(|_| panic!("nothing is told again")));
            let log = log.await.expect("is taken over");
            assert_eq!(log.query(State::clone), expected);
        }
        let log = Consensus::start(Store::open(folder.path()).expect("opens"), Peers::none(KEY), heard(|_| {}));
        assert_eq!(log.await.expect("starts").propose(entry(9)).await, Ok(Outcome::Done), "and it goes on");
    }
}

#[tokio::test]
async fn a_log_of_an_earlier_version_that_is_not_whole_is_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_log_of_format_1(folder.path(), &[entry(1), entry(2), entry(3)], 0);
    Store::open(folder.path()).expect("opens").tamper(2, None);
    for _ in 0..2 {
        let log = Consensus::start(Store::open(folder.path()).expect("opens"), Peers::none(KEY), heard(|_| {}));
        assert!(matches!(log.await.expect_err("an entry is missing"), LogError::Missing(2)));
    }
}
