//! The answers behind COMMANDS.md's examples, for the tests of all renderers.

use p2p_proto::control::*;
use p2p_proto::id::{ContentId, DownloadId, NodeId};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Group, JoinPolicy, Standing};

/// 2026-11-20T23:23:20Z.
pub const NOW: UnixMillis = UnixMillis(1_795_217_000_000);
pub const HOUR_MS: u64 = 3_600_000;

/// 41.2 GiB in 84,379 pieces.
pub const GENOME_BYTES: u64 = 44_238_012_416;

/// A name, which is allowed.
pub fn name<T: std::str::FromStr<Err = p2p_proto::name::NameError>>(text: &str) -> T {
    text.parse().expect("a good name")
}

pub fn hours_ago(hours: u64) -> UnixMillis {
    UnixMillis(NOW.0 - hours * HOUR_MS)
}

pub fn status() -> Status {
    let tracker = |last: u8, state, round_trip_us, leader| TrackerStatus {
        address: format!("192.0.2.{last}:9000"),
        node: Some(NodeId([last; 32])),
        state,
        since: UnixMillis(NOW.0 - 2 * 60_000 - 5_000),
        round_trip_us,
        leader,
        stale: false,
        reason: None,
    };
    Status {
        software: "p2pd 0.1.0".to_owned(),
        started: hours_ago(3 * 24 + 4),
        now: NOW,
        node: NodeId([7; 32]),
        user: Some(name("alice")),
        key_exchange: Some("X25519MLKEM768".to_owned()),
        trackers: vec![
            tracker(10, TrackerState::Ok, Some(3_120), true),
            tracker(11, TrackerState::Ok, Some(4_040), false),
            tracker(12, TrackerState::Unreachable, None, false),
        ],
        peers: 12,
        down_rate: 842 << 20,
        up_rate: 120 << 20,
        shares_seeding: 8,
        shares_stopped: 0,
        downloads_active: 1,
        downloads_waiting: 1,
        downloads_paused: 0,
        downloads_failed: 0,
        disk_free_bytes: Some(1_319_413_953_331),
        problems: vec!["maps.iso has waited 4m: no seeder online (last: bob, 2h ago)".to_owned()],
        devices: Vec::new(),
        join_requests: Vec::new(),
        limits: RateLimits::default(),
    }
}

pub fn groups() -> Groups {
    let group = |group, owner, members, files, standing| Group {
        group: name(group),
        owner: name(owner),
        policy: JoinPolicy::Approval,
        members,
        files,
        standing,
        born: UnixMillis(1_795_000_000_000),
    };
    Groups {
        groups: vec![
            group("genomics", "bob", 14, 37, Standing::Member),
            group("fleet", "ops", 212, 5, Standing::Requested),
        ],
    }
}

pub fn files() -> Files {
    let genome = File {
        name: name("genome.tar"),
        length: GENOME_BYTES,
        seeders: 3,
        partial: 2,
        here_bytes: Some(GENOME_BYTES / 100 * 62 + 99),
        files: None,
        owner: name("bob"),
        added: hours_ago(2),
        content: ContentId([0xab; 32]),
    };
    Files { group: name("genomics"), files: vec![genome] }
}

pub fn downloads() -> Downloads {
    let genome = Download {
        id: DownloadId([0xa9, 0x1f, 1, 2, 3, 4, 5, 0xff]),
        group: name("genomics"),
        name: name("genome.tar"),
        owner: name("bob"),
        content: ContentId([0xab; 32]),
        destination: LocalPath("/home/alice/data/genome.tar".into()),
        state: DownloadState::Downloading,
        reason: None,
        error: None,
        length: GENOME_BYTES,
        have_bytes: GENOME_BYTES / 1000 * 620 + 999,
        fetched_bytes: GENOME_BYTES / 1000 * 621,
        down_rate: 842 << 20,
        eta_seconds: Some(19),
        peers_active: 5,
        peers_known: 12,
        added: hours_ago(1),
    };
    let maps = Download {
        id: DownloadId([0x77, 0xc0, 9, 9, 9, 9, 9, 9]),
        name: name("maps.iso"),
        state: DownloadState::Waiting,
        reason: Some("no seeder online".to_owned()),
        length: 4 << 30,
        have_bytes: 0,
        fetched_bytes: 0,
        down_rate: 0,
        eta_seconds: None,
        peers_active: 0,
        peers_known: 0,
        ..genome.clone()
    };
    Downloads { downloads: vec![genome, maps] }
}

pub fn downloaded() -> Downloaded {
    Downloaded {
        id: DownloadId([0xa9, 0x1f, 1, 2, 3, 4, 5, 0xff]),
        group: name("genomics"),
        name: name("genome.tar"),
        content: ContentId([0xab; 32]),
        destination: LocalPath("/home/alice/data/genome.tar".into()),
        length: GENOME_BYTES,
        pieces: 84_379,
        fetched_bytes: GENOME_BYTES,
        elapsed_ms: 52_300,
        rate: 811 << 20,
    }
}
