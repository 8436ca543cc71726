//! The tables and sentences of COMMANDS.md, to the letter.

use p2p_proto::control::*;
use p2p_proto::id::NodeId;
use p2p_proto::tracker::{JoinRequest, Member};

use super::*;
use crate::render::examples::{self, name};

fn shown(of: Answer) -> Text {
    answer(&of, View { now: examples::NOW, width: None })
}

fn table(of: Answer) -> String {
    shown(of).lines.join("\n")
}

#[test]
fn list_groups_reads_as_the_contract_shows_it() {
    let expected = "\
GROUP     OWNER  POLICY    MEMBERS  FILES  YOU
genomics  bob    approval       14     37  member
fleet     ops    approval      212      5  request sent";
    assert_eq!(table(Answer::Groups(examples::groups())), expected);
}

#[test]
fn list_files_reads_as_the_contract_shows_it() {
    let expected = "\
NAME        SIZE      SEEDERS  PARTIAL  HERE  OWNER  ADDED
genome.tar  41.2 GiB        3        2   62%  bob    2h ago";
    assert_eq!(table(Answer::Files(examples::files())), expected);
}

#[test]
fn show_downloads_reads_as_the_contract_shows_it() {
    let expected = "\
ID    GROUP     NAME        DONE   HAVE      DOWN       ETA   PEERS  STATE
a91f  genomics  genome.tar  62.0%  25.5 GiB  842 MiB/s  0:19  5/12   downloading
77c0  genomics  maps.iso     0.0%  0 B       -          -     0/0    waiting: no seeder online";
    assert_eq!(table(Answer::Downloads(examples::downloads())), expected);
}

#[test]
fn a_finished_download_reads_as_the_contract_shows_it() {
    let text = shown(Answer::Downloaded(examples::downloaded()));
    let expected = "84,379 pieces, 41.2 GiB verified in 0:52 (811 MiB/s) → /home/alice/data/genome.tar";
    assert_eq!((text.message.as_deref(), text.lines.len()), (Some(expected), 0));
}

#[test]
fn an_id_is_as_short_as_it_can_be_but_not_shorter_than_four_digits() {
    let ids = |texts: &[&str]| id_digits(texts.iter().map(|text| text.parse().expect("an id")));
    assert_eq!(ids(&[]), 4);
    assert_eq!(ids(&["a91f000000000000"]), 4);
    assert_eq!(ids(&["a91f000000000000", "77c0000000000000"]), 4);
    assert_eq!(ids(&["a91f000000000000", "77c0000000000000", "a91f010000000000"]), 6);
    assert_eq!(ids(&["a91f000000000000", "a91f000000000001"]), 16);
    assert_eq!(ids(&["a91f000000000000", "a91f000000000000"]), 16);
}

#[test]
fn a_detached_download_prints_its_whole_id() {
    let text = shown(Answer::DownloadStarted(examples::downloads().downloads[0].clone()));
    assert_eq!(text.lines, ["a91f0102030405ff"]);
    assert_eq!(text.next.as_deref(), Some("p2pctl wait a91f0102"));
}

#[test]
fn a_change_says_what_changed_and_what_comes_next() {
    let group = name("my photos");
    let created = shown(Answer::GroupCreated(GroupPolicy { group, policy: JoinPolicy::Public }));
    assert_eq!(created, Text::change("group my photos created (public)").next("p2pctl upload_file FILE 'my photos'"));
    let created = shown(Answer::UserCreated(UserCreated { user: name("alice") }));
    assert_eq!(created, Text::change("user alice created").next("p2pctl login alice"));
    let login = |shares, downloads| LoggedIn { user: name("alice"), node: NodeId([1; 32]), shares, downloads };
    assert_eq!(shown(Answer::LoggedIn(login(0, 0))).message.as_deref(), Some("logged in as alice"));
    let resumed = shown(Answer::LoggedIn(login(8, 1)));
    assert_eq!(resumed, Text::change("logged in as alice; 8 shares and 1 unfinished download resumed"));
    let joined = |member, waiting_for| GroupJoined { group: name("fleet"), member, waiting_for };
    assert_eq!(shown(Answer::GroupJoined(joined(true, None))).message.as_deref(), Some("joined fleet"));
    let waiting = shown(Answer::GroupJoined(joined(false, Some(name("ops")))));
    assert_eq!(waiting.message.as_deref(), Some("asked to join fleet; ops decides"));
    let mut download = examples::downloads().downloads[0].clone();
    assert_eq!(
        cancelled(&download, true).message.as_deref(),
        Some("a91f0102 genome.tar is cancelled; what had arrived of it is deleted")
    );
    download.state = DownloadState::Paused;
    assert_eq!(
        shown(Answer::DownloadChanged(download)),
        Text::change("a91f0102 genome.tar is paused").next("p2pctl resume a91f0102")
    );
}

#[test]
fn an_upload_says_how_others_get_it() {
    let uploaded = Uploaded {
        group: name("genomics"),
        name: name("genome.tar"),
        content: p2p_proto::id::ContentId([1; 32]),
        length: examples::GENOME_BYTES,
        pieces: 84_379,
        hash: HashAlgorithm::Blake3,
        whole_sha256: Some("ab12".to_owned()),
        elapsed_ms: 52_000,
        folder: None,
    };
    let text = shown(Answer::Uploaded(uploaded.clone()));
    assert_eq!(text.lines, ["ab12  genome.tar"]);
    assert_eq!(
        text.message.as_deref(),
        Some("genome.tar is shared with genomics: 84,379 pieces, 41.2 GiB hashed in 0:52 (811 MiB/s)")
    );
    assert_eq!(text.next.as_deref(), Some("for the others: p2pctl download_file genomics genome.tar DEST"));
    let followed = vec!["bin/sh -> /bin/dash".to_owned()];
    let folder = UploadedFolder { files: 3, empty_folders: 1, links: 2, followed };
    let text = shown(Answer::Uploaded(Uploaded { folder: Some(folder), ..uploaded }));
    assert_eq!(
        text.message.as_deref(),
        Some(
            "genome.tar/ is shared with genomics: 3 files, 84,379 pieces, 41.2 GiB hashed in 0:52 (811 MiB/s); \
             2 symbolic links followed: bin/sh -> /bin/dash …; left out: 1 empty folder"
        )
    );
}

#[test]
fn members_requests_and_shares_are_tables() {
    let since = examples::hours_ago(50);
    let members = vec![
        Member { user: name("bob"), owner: true, since, nodes_online: 2 },
        Member { user: name("alice"), owner: false, since, nodes_online: 0 },
    ];
    assert_eq!(
        table(Answer::Members(Members { group: name("genomics"), members })),
        "USER   ROLE    NODES ONLINE  SINCE\nbob    owner              2  2d ago\nalice  member             0  2d ago"
    );
    let requests = vec![JoinRequest { user: name("carol"), since }];
    let text = shown(Answer::Requests(Requests { group: name("genomics"), requests }));
    assert_eq!(text.lines, ["USER   SINCE", "carol  2d ago"]);
    assert_eq!(text.next.as_deref(), Some("p2pctl accept_request genomics carol"));
    let share = Share {
        group: name("genomics"),
        name: name("genome.tar"),
        path: LocalPath("/data/genome.tar".into()),
        length: 0,
        content: p2p_proto::id::ContentId([1; 32]),
        seeding: false,
        reason: Some("the file has changed".to_owned()),
        until_requested: false,
    };
    assert_eq!(
        table(Answer::Shares(Shares { shares: vec![share] })),
        "GROUP     NAME        SIZE  PATH              STATE\n\
         genomics  genome.tar  0 B   /data/genome.tar  stopped: the file has changed"
    );
}

#[test]
fn an_empty_list_says_so_beside_the_data() {
    let text = shown(Answer::Downloads(Downloads { downloads: Vec::new() }));
    assert_eq!(text, Text::change("no downloads"));
    let text = shown(Answer::Requests(Requests { group: name("photos"), requests: Vec::new() }));
    assert_eq!(text, Text::change("nobody waits to join photos"));
}

#[test]
fn file_info_shows_digests_only_where_asked_for() {
    let file = examples::files().files[0].clone();
    let provider = |complete, pieces| FileProvider { node: NodeId([0xa1; 32]), user: name("bob"), complete, pieces };
    let mut info = FileInfo {
        group: name("genomics"),
        file,
        piece_length: Some(512 << 10),
        pieces: Some(2),
        hash: Some(HashAlgorithm::Sha1),
        digests: vec!["aa".repeat(20), "bb".repeat(20)],
        whole_sha256: None,
        providers: vec![provider(true, None), provider(false, Some(7))],
    };
    let view = View { now: examples::NOW, width: None };
    let content = "ab".repeat(32);
    let expected = format!(
        "\
Name      genome.tar
Group     genomics
Owner     bob
Added     2026-11-20T21:23:20.000Z (2h ago)
Size      41.2 GiB (44,238,012,416 bytes)
Content   {content}
Pieces    2 of 512 KiB, sha1
Here      62% (25.5 GiB)
Online    3 seeders, 2 partial

NODE      USER  PIECES
a1a1a1a1  bob   all
a1a1a1a1  bob   7"
    );
    assert_eq!(file_info(&info, false, view).lines.join("\n"), expected);
    let digests = format!("{expected}\n\nPIECE  DIGEST\n    0  {}\n    1  {}", "aa".repeat(20), "bb".repeat(20));
    assert_eq!(file_info(&info, true, view).lines.join("\n"), digests);
    (info.pieces, info.digests) = (None, Vec::new());
    assert!(file_info(&info, true, view).message.is_some());
}
