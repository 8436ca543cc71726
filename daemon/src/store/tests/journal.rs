//! The journal: everything remembered comes back, and what is not a journal is refused and left alone.

use p2p_proto::control::RateLimits;
use p2p_proto::grant::ClusterKey;
use p2p_proto::id::RequestId;

use super::*;
use crate::engine::record::{Account, PublicationRecord, Shape, SourceStamp};

fn account() -> Account {
    Account { user: "alice".parse().expect("a name"), cluster: ClusterKey([7; 32]) }
}

fn share(number: u32) -> ShareRecord {
    ShareRecord {
        user: "alice".parse().expect("a name"),
        group: "photos".parse().expect("a name"),
        name: format!("{number:05}").parse().expect("a name"),
        content: ContentId([number as u8; 32]),
        shape: Shape { length: 1, piece_length: PIECE_BYTES_MIN, hash: HashAlgorithm::Blake3 },
        path: format!("/srv/photos/{number}").into(),
        stamp: SourceStamp { length: 1, modified_ns: -1, device: 2, inode: 3 },
        added: UnixMillis(4),
        resting: false,
        born: Some(UnixMillis(2)),
    }
}

fn publication(number: u32) -> PublicationRecord {
    PublicationRecord { share: share(number), replace: true, request: RequestId([9; 16]), files: Some(7) }
}

fn open_error(state: &Path) -> StoreError {
    let (told, _events) = mpsc::unbounded_channel();
    match Store::open(state, told) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_was_remembered_is_restored() {
    let mut world = World::new();
    assert_eq!(world.restored, Restored::default());
    let download = record_of(&manifest_of(b"x", None), "/srv/x".into());
    let failed = DownloadRecord {
        phase: DownloadPhase::Failed(Reject::new(ErrorCode::DISK_FULL, "no room").hint("make room")),
        ..record_of(&manifest_of(b"y", None), "/srv/y".into())
    };
    let changes = vec![
        Change::Account(Some(account())),
        Change::PutShare(share(1)),
        Change::PutShare(share(2)),
        Change::PutShare(ShareRecord { resting: true, ..share(3) }),
        Change::DeleteShare(share(1).user, share(1).group, share(1).name),
        Change::PutDownload(download.clone()),
        Change::PutDownload(failed.clone()),
        Change::PutDownload(record_of(&manifest_of(b"z", None), "/srv/z".into())),
        Change::DeleteDownload(record_of(&manifest_of(b"z", None), "/srv/z".into()).id),
        Change::PutLimits(RateLimits { up_limit: 1, down_limit: 2 }),
        Change::PutLimits(RateLimits { up_limit: 3, down_limit: 4 }),
        Change::PutPublication(publication(4)),
        Change::PutPublication(publication(5)),
        Change::DeletePublication(share(4).user, share(4).group, share(4).name),
    ];
    world.store().remember(changes).await.expect("remembers");
    world.kill_and_restart();
    assert_eq!(world.restored.account, Some(account()));
    assert_eq!(world.restored.limits, RateLimits { up_limit: 3, down_limit: 4 });
    assert_eq!(world.restored.publications, [publication(5)]);
    assert_eq!(world.restored.shares, [share(2), ShareRecord { resting: true, ..share(3) }]);
    let mut downloads = [download, failed];
    downloads.sort_by_key(|download| download.id);
    assert_eq!(world.restored.downloads, downloads);
}

#[tokio::test]
async fn the_order_of_calls_is_the_order_on_disk() {
    let mut world = World::new();
    let answers: Vec<_> = (0..200)
        .map(|number| {
            let changed = ShareRecord { added: UnixMillis(number), ..share(1) };
            world.store().remember(vec![Change::PutShare(changed)])
        })
        .collect();
    for answer in answers.into_iter().rev() {
        answer.await.expect("remembers");
    }
    world.kill_and_restart();
    assert_eq!(world.restored.shares, [ShareRecord { added: UnixMillis(199), ..share(1) }]);
}

#[tokio::test]
async fn ten_thousand_shares_are_there_at_once_without_reading_a_file() {
    let mut world = World::new();
    // None of these files exists.
    let shares: Vec<_> = (0..10_000).map(share).collect();
    world.store().remember(shares.iter().cloned().map(Change::PutShare).collect()).await.expect("remembers");
    world.kill_and_restart();
    assert_eq!(world.restored.shares, shares);
    assert_eq!(code(world.read(share(1).content, 0).await), ErrorCode::FILE_MISSING);
}

#[tokio::test]
async fn what_is_not_a_journal_is_refused_and_left_alone() {
    let root = TempDir::new().expect("a folder");
    for garbage in [content(100_000), b"not a journal".to_vec()] {
        let path = root.path().join("journal.redb");
        fs::write(&path, &garbage).expect("writes");
        let error = open_error(root.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("move it away"), "{error}");
        assert_eq!(fs::read(&path).expect("there"), garbage);
    }
    fs::write(root.path().join("journal.redb"), b"").expect("writes");
    assert!(matches!(open_error(root.path()), StoreError::Damaged { .. }));
}

#[tokio::test]
async fn a_journal_of_a_later_version_is_refused() {
    let mut world = World::new();
    world.store = None;
    let database = redb::Database::open(world.state().join("journal.redb")).expect("opens");
    let transaction = database.begin_write().expect("begins");
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    transaction.open_table(meta).expect("opens").insert("format", 2).expect("inserts");
    transaction.commit().expect("commits");
    drop(database);
    let error = open_error(&world.state());
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_journal_has_one_user() {
    let world = World::new();
    assert!(matches!(open_error(&world.state()), StoreError::InUse { .. }));
}

#[tokio::test]
async fn a_journal_half_made_is_made_again() {
    let root = TempDir::new().expect("a folder");
    fs::write(root.path().join("journal.redb.new"), content(5000)).expect("writes");
    let (_store, _events, restored) = open(root.path());
    assert_eq!(restored, Restored::default());
}

#[tokio::test]
async fn manifests_that_nothing_refers_to_go_at_the_next_start() {
    let mut world = World::new();
    let path = world.file("a", b"a");
    let (kept, content) = world.share(&path, "a").await;
    let unused = manifest_of(b"unused", None);
    world.store().keep_manifest(unused.content_id(), unused.encode()).await.expect("keeps");
    world.kill_and_restart();
    assert_eq!(code(world.store().manifest_bytes(unused.content_id()).await), ErrorCode::CONTENT_NOT_FOUND);
    world.store().manifest_bytes(content).await.expect("kept");
    let (user, group, name) = (kept.user.clone(), kept.group.clone(), kept.name.clone());
    let waits = PublicationRecord { share: kept, ..publication(1) };
    let changes = vec![Change::PutPublication(waits), Change::DeleteShare(user.clone(), group.clone(), name.clone())];
    world.store().remember(changes).await.expect("remembers");
    world.kill_and_restart();
    world.store().manifest_bytes(content).await.expect("kept for what waits to be published");
    world.store().remember(vec![Change::DeletePublication(user, group, name)]).await.expect("forgets");
    world.kill_and_restart();
    assert_eq!(code(world.store().manifest_bytes(content).await), ErrorCode::CONTENT_NOT_FOUND);
}

/// The bytes of each record, as FORMAT.md draws them. A change here is a change of the format: give it a new version,
/// and go on reading this one.
#[test]
fn records_have_the_bytes_that_they_had() {
    let stamp = SourceStamp { length: 1, modified_ns: -1, device: 2, inode: 3 };
    let part = record::PartRecord {
        content: ContentId([1; 32]),
        shape: share(1).shape,
        file: Some(record::FileMark { inode: 3, born_ns: Some(5) }),
        in_place: Some(stamp),
    };
    let limits = RateLimits { up_limit: 300, down_limit: 0 };
    let manifest = manifest_of(b"x", None);
    let download = DownloadRecord { id: DownloadId([9; 8]), ..record_of(&manifest, "/srv/x".into()) };
    let only = Some(vec!["*.jpg".to_owned()]);
    let of_some = DownloadRecord { only, wanted_bytes: Some(300), wanted_pieces: Some(7), ..download.clone() };
    let golden = [
        (record::encode_account(&account()), include_str!("golden/account_1.hex")),
        (record::encode_share(&ShareRecord { resting: true, ..share(1) }), include_str!("golden/share_3.hex")),
        (record::encode_download(&download), include_str!("golden/download_2.hex")),
        (record::encode_download(&of_some), include_str!("golden/download_3.hex")),
        (record::encode_part(&part), include_str!("golden/part_1.hex")),
        (record::encode_limits(limits), include_str!("golden/limits_1.hex")),
        (record::encode_publication(&publication(1)), include_str!("golden/publication_1.hex")),
    ];
    for (bytes, expected) in golden {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected.trim());
    }
    assert_eq!(record::decode_share(&record::encode_share(&share(1))).expect("decodes"), share(1));
    assert_eq!(record::decode_download(&record::encode_download(&download)).expect("decodes"), download);
    assert_eq!(record::decode_download(&record::encode_download(&of_some)).expect("decodes"), of_some);
    assert_eq!(record::decode_part(&record::encode_part(&part)).expect("decodes"), part);
    assert_eq!(record::decode_limits(&record::encode_limits(limits)).expect("decodes"), limits);
    let decoded = record::decode_publication(&record::encode_publication(&publication(1))).expect("decodes");
    assert_eq!(decoded, publication(1));
    let bytes_of = |hex: &str| -> Vec<u8> {
        let digits = |place| u8::from_str_radix(&hex[place..place + 2], 16).expect("hexadecimal");
        (0..hex.trim().len()).step_by(2).map(digits).collect()
    };
    // Older versions are read: they do not say when the group was born.
    let older = ShareRecord { born: None, ..share(1) };
    for (hex, resting) in [(include_str!("golden/share_1.hex"), false), (include_str!("golden/share_2.hex"), true)] {
        let decoded = record::decode_share(&bytes_of(hex)).expect("decodes");
        assert_eq!(decoded, ShareRecord { resting, ..older.clone() });
    }
    let decoded = record::decode_download(&bytes_of(include_str!("golden/download_1.hex"))).expect("decodes");
    assert_eq!(decoded, DownloadRecord { born: None, ..download });
    for bad in [&b""[..], b"\x02", b"\x01\xff"] {
        assert!(record::decode_part(bad).is_err(), "{bad:?}");
    }
}
