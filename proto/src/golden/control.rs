//! Samples of what `p2pctl` and `p2pd` say to each other.

use super::{BORN, TIME, Table, content, name, node, variants};
use crate::control::*;
use crate::id::DownloadId;
use crate::manifest::HashAlgorithm;
use crate::name::FileSelector;
use crate::reject::{ErrorCode, Reject};
use crate::tracker::{EnrolledNode, Group, JoinPolicy, JoinRequest, Member, OwnedRequest, Standing};
use crate::version::CONTROL_PROTOCOL as VERSION;

variants!(Request:
    CreateUser Login Logout Status CreateGroup JoinGroup LeaveGroup ListGroups ListMembers ListRequests AcceptRequest
    RejectRequest RemoveMember TransferGroup DeleteGroup UploadFile ListFiles FileInfo DownloadFile ShowDownloads Wait
    Pause Resume Cancel StopShare ListShares Shutdown ChangePassword LogoutNode SetPolicy RemoveFile Events Share Get
    Remove Limit Why Verify Stream);
variants!(Answer:
    UserCreated LoggedIn LoggedOut Status GroupCreated GroupJoined GroupLeft GroupDeleted Groups Members Requests
    RequestAccepted RequestRejected MemberRemoved GroupTransferred Uploaded Files FileInfo DownloadStarted Downloaded
    DownloadChanged Downloads ShareStopped Shares ShuttingDown PasswordChanged NodeLoggedOut PolicySet FileRemoved Shared
    Limits Why Verified Copied);
variants!(Frame: Started Progress Hashing Result Event Following Shared Copies Stale Bytes);
variants!(Happening:
    Account Tracker JoinRequested Membership Download DownloadGone ShareStarted ShareStopped);
variants!(DownloadState: Queued Waiting Downloading Verifying Complete Seeding Paused Error);
variants!(TrackerState: Connecting Ok Unreachable KeyChanged Refused);
variants!(Bottleneck:
    None Paused DiskFull Fault Queue SameContent Checking NoTracker NoGrant NotListed NoSeeder MissingPieces Unreachable
    Connecting BadPeers OwnLimit PeerLimit PeerQueue PeerSpeed
    Reader);

pub(super) fn tables() -> Vec<Table> {
    let software = || "p2p 0.1.0".to_owned();
    vec![
        Table::of("control_hello", VERSION, vec![("hello", Hello { version: 1, software: software() })]),
        Table::of("control_hello_ack", VERSION, vec![("ack", HelloAck { version: 1, software: software() })]),
        Table::of_enum("control_request", VERSION, requests()),
        Table::of_enum("control_answer", VERSION, answers()),
        Table::of_enum("control_frame", VERSION, frames()),
        Table::of_enum("control_happening", VERSION, happenings()),
        Table::of_enum(
            "control_download_state",
            VERSION,
            vec![
                ("", DownloadState::Queued),
                ("", DownloadState::Waiting),
                ("", DownloadState::Downloading),
                ("", DownloadState::Verifying),
                ("", DownloadState::Complete),
                ("", DownloadState::Seeding),
                ("", DownloadState::Paused),
                ("", DownloadState::Error),
            ],
        ),
        Table::of_enum(
            "control_tracker_state",
            VERSION,
            vec![
                ("", TrackerState::Connecting),
                ("", TrackerState::Ok),
                ("", TrackerState::Unreachable),
                ("", TrackerState::KeyChanged),
                ("", TrackerState::Refused),
            ],
        ),
        Table::of_enum("control_bottleneck", VERSION, {
            use Bottleneck::*;
            let all = [
                None,
                Paused,
                DiskFull,
                Fault,
                Queue,
                SameContent,
                Checking,
                NoTracker,
                NoGrant,
                NotListed,
                NoSeeder,
                MissingPieces,
                Unreachable,
                Connecting,
                BadPeers,
                OwnLimit,
                PeerLimit,
                PeerQueue,
                PeerSpeed,
                Reader,
            ];
            all.map(|bottleneck| ("", bottleneck)).to_vec()
        }),
    ]
}

fn path(text: &str) -> LocalPath {
    LocalPath(text.into())
}

/// A path that is not UTF-8, as a file system may hold.
fn odd_path() -> LocalPath {
    use std::os::unix::ffi::OsStringExt as _;
    LocalPath(std::ffi::OsString::from_vec(b"/data/\xff.bin".to_vec()).into())
}

fn prefix() -> DownloadPrefix {
    name("a91f")
}

fn requests() -> Vec<(&'static str, Request)> {
    let password = || Password::new("correct horse".into());
    let selector = |owner: Option<&str>| FileSelector { owner: owner.map(name), name: name("beach.jpg") };
    vec![
        ("", Request::CreateUser { user: name("alice"), password: password() }),
        ("", Request::Login { user: name("alice"), password: password() }),
        ("", Request::Logout),
        ("", Request::Status),
        ("", Request::CreateGroup { group: name("photos"), policy: JoinPolicy::Open }),
        ("", Request::JoinGroup { group: name("photos") }),
        ("", Request::LeaveGroup { group: name("photos"), force: false }),
        ("", Request::ListGroups { mine: true }),
        ("", Request::ListMembers { group: name("photos") }),
        ("", Request::ListRequests { group: name("photos") }),
        ("", Request::AcceptRequest { group: name("photos"), user: name("bob") }),
        ("", Request::RejectRequest { group: name("photos"), user: name("bob") }),
        ("", Request::RemoveMember { group: name("photos"), user: name("bob") }),
        ("", Request::TransferGroup { group: name("photos"), user: name("bob") }),
        ("", Request::DeleteGroup { group: name("photos") }),
        (
            "",
            Request::UploadFile {
                path: odd_path(),
                group: name("photos"),
                name: name("naïve café.txt"),
                hash: HashAlgorithm::Sha256,
                whole_digest: true,
                force: false,
                wait_copies: 2,
                follow_links: true,
            },
        ),
        ("", Request::ListFiles { group: name("photos") }),
        ("", Request::FileInfo { group: name("photos"), file: selector(Some("bob")) }),
        (
            "",
            Request::DownloadFile {
                group: name("photos"),
                file: selector(None),
                destination: path("/home/bob/pictures"),
                force: false,
                detach: true,
                only: vec!["*.jpg".to_owned()],
            },
        ),
        ("", Request::ShowDownloads),
        ("", Request::Wait { id: prefix() }),
        ("", Request::Pause { id: prefix() }),
        ("", Request::Resume { id: prefix() }),
        ("", Request::Cancel { id: prefix(), delete_data: true }),
        ("", Request::StopShare { group: name("photos"), name: name("beach.jpg"), until_requested: true }),
        ("", Request::ListShares),
        ("", Request::Shutdown),
        ("", Request::ChangePassword { old: password(), new: password(), log_out_everywhere: true }),
        ("", Request::LogoutNode { node: "ab12".parse().expect("digits") }),
        ("", Request::SetPolicy { group: name("photos"), policy: JoinPolicy::Open }),
        ("", Request::RemoveFile { group: name("photos"), file: selector(Some("bob")) }),
        ("", Request::Events),
        (
            "",
            Request::Share {
                path: odd_path(),
                given: "pictures/beach.jpg".into(),
                mtorrent: path("/home/alice/beach.jpg.mtorrent"),
            },
        ),
        (
            "",
            Request::Get {
                mtorrent: path("/home/bob/beach.jpg.mtorrent"),
                destination: path("/home/bob"),
                force: true,
                detach: false,
            },
        ),
        ("", Request::Remove { mtorrent: path("/home/alice/beach.jpg.mtorrent") }),
        ("", Request::Limit { up: Some(10_000_000), down: None }),
        ("", Request::Why { id: prefix() }),
        ("", Request::Verify { id: prefix() }),
        ("", Request::Stream { group: name("photos"), file: selector(Some("bob")) }),
    ]
}

fn download() -> Download {
    Download {
        id: DownloadId([0xa9, 0x1f, 0, 1, 2, 3, 4, 0xff]),
        group: name("photos"),
        name: name("beach.jpg"),
        owner: name("alice"),
        content: content(1),
        destination: path("/home/bob/beach.jpg"),
        state: DownloadState::Error,
        reason: Some("no room".into()),
        error: Some(ErrorCode::DISK_FULL),
        length: 1 << 30,
        have_bytes: 1 << 29,
        fetched_bytes: (1 << 29) + 7,
        down_rate: 842 << 20,
        eta_seconds: Some(19),
        peers_active: 5,
        peers_known: 12,
        added: TIME,
    }
}

fn frames() -> Vec<(&'static str, Frame)> {
    vec![
        ("", Frame::Started(download())),
        ("", Frame::Progress(download())),
        ("", Frame::Hashing(Hashing { path: odd_path(), done_bytes: 1 << 20, length: 1 << 30 })),
        ("", Frame::Event(Event { at: TIME, what: Happening::Account { user: None } })),
        ("", Frame::Following),
        ("", Frame::Shared(uploaded())),
        (
            "",
            Frame::Copies(Copies {
                group: name("photos"),
                name: name("beach.jpg"),
                content: content(1),
                copies: 1,
                wanted: 2,
            }),
        ),
        ("", Frame::Stale),
        ("", Frame::Bytes(FileBytes(vec![1, 2, 3, 255]))),
        ("answer", Frame::Result(Ok(Answer::ShuttingDown(ShuttingDown { process_id: 4711 })))),
        ("reject", Frame::Result(Err(Reject::new(ErrorCode::NO_SEEDER, "nobody has it")))),
    ]
}

fn happenings() -> Vec<(&'static str, Happening)> {
    let tracker = |state, reason| Happening::Tracker { address: "192.0.2.10:9000".into(), state, reason };
    vec![
        ("", Happening::Account { user: Some(name("alice")) }),
        ("ok", tracker(TrackerState::Ok, None)),
        ("lost", tracker(TrackerState::Unreachable, Some("no answer".into()))),
        ("", Happening::JoinRequested { group: name("photos"), user: name("bob") }),
        ("", Happening::Membership { group: name("photos"), standing: Standing::Member }),
        ("", Happening::Download(download())),
        ("", Happening::DownloadGone(download())),
        (
            "",
            Happening::ShareStarted {
                group: name("photos"),
                name: name("beach.jpg"),
                content: content(1),
                path: odd_path(),
            },
        ),
        (
            "",
            Happening::ShareStopped {
                group: name("photos"),
                name: name("beach.jpg"),
                content: content(1),
                reason: Some("the file has changed".into()),
            },
        ),
    ]
}

fn file() -> File {
    File {
        name: name("beach.jpg"),
        length: 300,
        seeders: 3,
        partial: 2,
        here_bytes: Some(200),
        owner: name("alice"),
        added: TIME,
        content: content(1),
        files: Some(3),
    }
}

fn file_info() -> FileInfo {
    FileInfo {
        group: name("photos"),
        file: file(),
        piece_length: Some(512 * 1024),
        pieces: Some(1),
        hash: Some(HashAlgorithm::Blake3),
        digests: vec!["ab".repeat(32)],
        whole_sha256: Some("cd".repeat(32)),
        providers: vec![FileProvider { node: node(7), user: name("bob"), complete: false, pieces: Some(0) }],
    }
}

fn uploaded() -> Uploaded {
    Uploaded {
        group: name("photos"),
        name: name("beach.jpg"),
        content: content(1),
        length: 300,
        pieces: 1,
        hash: HashAlgorithm::Sha1,
        whole_sha256: None,
        elapsed_ms: 2,
        folder: Some(UploadedFolder { files: 3, empty_folders: 1, links: 1, followed: vec!["a -> /b".to_owned()] }),
    }
}

fn why() -> Why {
    let peer = PeerOfDownload {
        node: node(7),
        user: Some(name("bob")),
        connected: true,
        pieces: Some(300),
        requests: 4,
        rate: 1 << 20,
        waiting: 3,
        ahead: 20,
        up_limit: 2 << 20,
    };
    Why {
        download: download(),
        bottleneck: Bottleneck::PeerSpeed,
        reason: Some("nobody has it".into()),
        hint: Some("wait".into()),
        waiting_since: Some(TIME),
        retry_at: Some(TIME),
        limit: Some(3 << 20),
        active: Some(8),
        ahead: Some(2),
        last_seeder: Some(name("bob")),
        last_seen: Some(TIME),
        peers: vec![peer],
    }
}

fn status() -> Status {
    let tracker = TrackerStatus {
        address: "192.0.2.10:9000".into(),
        node: Some(node(9)),
        state: TrackerState::KeyChanged,
        since: TIME,
        round_trip_us: Some(3000),
        leader: true,
        stale: true,
        reason: Some("another key".into()),
    };
    Status {
        software: "p2p 0.1.0".into(),
        started: TIME,
        now: TIME,
        node: node(7),
        user: Some(name("alice")),
        key_exchange: Some("X25519MLKEM768".into()),
        trackers: vec![tracker],
        peers: 12,
        down_rate: 1,
        up_rate: 2,
        shares_seeding: 3,
        shares_stopped: 4,
        downloads_active: 5,
        downloads_waiting: 6,
        downloads_paused: 7,
        downloads_failed: 8,
        disk_free_bytes: Some(1 << 40),
        problems: vec!["beach.jpg has waited 4m".into()],
        devices: vec![EnrolledNode { node: node(7), since: Some(TIME), online: true }],
        join_requests: vec![OwnedRequest { group: name("photos"), user: name("bob"), since: TIME }],
        limits: RateLimits { up_limit: 1 << 20, down_limit: 0 },
    }
}

fn answers() -> Vec<(&'static str, Answer)> {
    let group = Group {
        group: name("photos"),
        owner: name("alice"),
        policy: JoinPolicy::Public,
        members: 2,
        files: 1,
        standing: Standing::Owner,
        born: BORN,
    };
    let member = Member { user: name("alice"), owner: true, since: TIME, nodes_online: 1 };
    let group_change = || GroupChange { group: name("photos") };
    let member_change = || MemberChange { group: name("photos"), user: name("bob") };
    let downloaded = Downloaded {
        id: DownloadId([0xa9, 0x1f, 0, 1, 2, 3, 4, 0xff]),
        group: name("photos"),
        name: name("beach.jpg"),
        content: content(1),
        destination: odd_path(),
        length: 300,
        pieces: 1,
        fetched_bytes: 300,
        elapsed_ms: 5,
        rate: 60_000,
    };
    let share = Share {
        group: name("photos"),
        name: name("beach.jpg"),
        path: path("/home/alice/beach.jpg"),
        length: 300,
        content: content(1),
        seeding: false,
        reason: Some("the file has changed".into()),
        until_requested: false,
    };
    let joined = GroupJoined { group: name("photos"), member: false, waiting_for: Some(name("alice")) };
    vec![
        ("", Answer::UserCreated(UserCreated { user: name("alice") })),
        ("", Answer::LoggedIn(LoggedIn { user: name("alice"), node: node(7), shares: 1, downloads: 2 })),
        ("", Answer::LoggedOut(LoggedOut { user: name("alice"), shares: 1, downloads: 2 })),
        ("", Answer::Status(Box::new(status()))),
        ("", Answer::GroupCreated(GroupPolicy { group: name("photos"), policy: JoinPolicy::Approval })),
        ("", Answer::GroupJoined(joined)),
        ("", Answer::GroupLeft(group_change())),
        ("", Answer::GroupDeleted(group_change())),
        ("", Answer::Groups(Groups { groups: vec![group] })),
        ("", Answer::Members(Members { group: name("photos"), members: vec![member] })),
        (
            "",
            Answer::Requests(Requests {
                group: name("photos"),
                requests: vec![JoinRequest { user: name("bob"), since: TIME }],
            }),
        ),
        ("", Answer::RequestAccepted(member_change())),
        ("", Answer::RequestRejected(member_change())),
        ("", Answer::MemberRemoved(member_change())),
        ("", Answer::GroupTransferred(member_change())),
        ("", Answer::Uploaded(uploaded())),
        ("", Answer::Files(Files { group: name("photos"), files: vec![file()] })),
        ("", Answer::FileInfo(Box::new(file_info()))),
        ("", Answer::DownloadStarted(download())),
        ("", Answer::Downloaded(downloaded)),
        ("", Answer::DownloadChanged(download())),
        ("", Answer::Downloads(Downloads { downloads: vec![download()] })),
        (
            "",
            Answer::ShareStopped(ShareStopped {
                group: name("photos"),
                name: name("beach.jpg"),
                until_requested: false,
            }),
        ),
        ("", Answer::Shares(Shares { shares: vec![share] })),
        ("", Answer::ShuttingDown(ShuttingDown { process_id: 4711 })),
        ("", Answer::PasswordChanged(PasswordChanged { user: name("alice"), logged_out_everywhere: true })),
        ("", Answer::NodeLoggedOut(NodeLoggedOut { user: name("alice"), node: node(7) })),
        ("", Answer::PolicySet(GroupPolicy { group: name("photos"), policy: JoinPolicy::Open })),
        (
            "",
            Answer::FileRemoved(FileRemoved {
                group: name("photos"),
                name: name("beach.jpg"),
                owner: name("bob"),
                unshared: true,
            }),
        ),
        ("", Answer::Shared(Shared { uploaded: uploaded(), mtorrent: path("/home/alice/beach.jpg.mtorrent") })),
        ("", Answer::Limits(RateLimits { up_limit: 10_000_000, down_limit: 0 })),
        ("", Answer::Why(Box::new(why()))),
        (
            "",
            Answer::Verified(Verified {
                download: download(),
                pieces: 300,
                checked_pieces: 200,
                bad_pieces: vec![0, 299],
            }),
        ),
        ("", Answer::Copied(Copied { uploaded: uploaded(), copies: 2 })),
    ]
}
