//! Kills of both ends at random moments, until the file is there: nothing that was written is fetched again.

use std::time::{Duration, Instant};

use p2p_tests::Daemon;
use p2p_tests::file::assert_equal;
use p2p_tests::wait::TRANSFER_DEADLINE;

use crate::{MIB, NAME, Shared, number, text};

/// Kills in all; `P2P_KILLS` asks for more, where there is time.
const KILLS: u32 = 36;

/// Long enough for a dozen kills.
const LENGTH: u64 = 96 * MIB;

/// Most that is written between two kills, in bytes; at least nothing: then the kill meets a daemon that just began.
const STEP_MAX: u64 = 16 * MIB;

/// Kills of which one is of the seeder alone. Few: a peer that is gone without a word is waited for until its connection
/// has been silent for half a minute.
const SEEDER_ALONE_EVERY: u32 = 30;

/// Who is killed next, downloader and seeder.
fn victims(kills: u32, random: &mut fastrand::Rng) -> (bool, bool) {
    if kills % SEEDER_ALONE_EVERY == SEEDER_ALONE_EVERY / 2 { (false, true) } else { (true, random.u8(..3) == 0) }
}

/// What a kill may make the downloader write twice: the pieces that its two threads were just writing.
const TORN: u64 = MIB;

/// What a life of the downloader writes beside pieces: its journal, its log.
const BOOKKEEPING: u64 = 2 * MIB;

/// What happened.
#[derive(Debug, Default)]
struct Toll {
    downloader_kills: u32,
    seeder_kills: u32,
    downloads: u64,
    written_bytes: u64,
}

/// Kills bob, alice or both again and again while bob downloads, until it was done so often.
fn kill_both_ends(kills: u32, seed: u64) -> Toll {
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut shared = Shared::new(LENGTH);
    let mut toll = Toll::default();
    while toll.downloader_kills + toll.seeder_kills < kills {
        let copy = shared.copy();
        let started = shared.bob.json(&["download_file", "photos", NAME, text(&copy), "--detach"]);
        let id = started["id"].as_str().expect("an id").to_owned();
        let mut life = Life::begin(&mut shared.bob);
        while toll.downloader_kills + toll.seeder_kills < kills {
            let at = life.written(&mut shared.bob) + random.u64(..STEP_MAX);
            let whole = watch(|| {
                let whole = copy.exists();
                (whole || life.written(&mut shared.bob) >= at).then_some(whole)
            });
            if whole {
                break;
            }
            let (downloader, seeder) = victims(toll.downloader_kills + toll.seeder_kills, &mut random);
            if downloader {
                toll.written_bytes += life.written(&mut shared.bob);
                toll.downloader_kills += 1;
                shared.bob.kill();
                assert!(!copy.exists() || p2p_tests::file::equal(&shared.file, &copy).expect("reads"), "half a file");
            }
            if seeder {
                toll.seeder_kills += 1;
                shared.alice.kill();
                shared.alice.restart();
            }
            if downloader {
                shared.bob.restart();
                life = Life::begin(&mut shared.bob);
            }
        }
        shared.bob.json(&["wait", &id]);
        assert_equal(&shared.file, &copy);
        toll.written_bytes += life.written(&mut shared.bob);
        toll.downloads += 1;
        // Else the next download would be a copy of this one.
        shared.bob.run(&["cancel", &id, "--delete-data"]);
    }
    toll
}

/// One run of the downloader, and what it had written before what is counted.
struct Life(u64);

impl Life {
    fn begin(daemon: &mut Daemon) -> Life {
        let mut life = Life(0);
        life.0 = life.written(daemon);
        life
    }

    fn written(&self, daemon: &mut Daemon) -> u64 {
        daemon.process().file_bytes().map_or(0, |bytes| bytes.written) - self.0
    }
}

/// Asks without a pause that a transfer would outrun, until there is an answer.
fn watch<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < TRANSFER_DEADLINE, "the download stands still");
        // Not a synchronisation: whatever the length, the answer decides.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn both_ends_are_killed_at_random_and_nothing_written_is_fetched_again() {
    let kills = std::env::var("P2P_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let start = Instant::now();
    let toll = kill_both_ends(kills, 7);
    let wanted = toll.downloads * LENGTH;
    let again = toll.written_bytes.saturating_sub(wanted);
    println!(
        "{} kills of the downloader, {} of the seeder, {} downloads, {wanted} bytes, {again} of them and of journals \
         and logs written again or beside, {} s",
        toll.downloader_kills,
        toll.seeder_kills,
        toll.downloads,
        start.elapsed().as_secs()
    );
    let lives = u64::from(toll.downloader_kills) + toll.downloads;
    let allowed = u64::from(toll.downloader_kills) * TORN + lives * BOOKKEEPING;
    assert!(again <= allowed, "{again} bytes beyond the file, and {allowed} explained: {toll:?}");
}

/// What was received and is not there after a kill is no more than what the product lets be under way.
#[test]
fn a_kill_costs_no_more_than_what_was_under_way() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut shared = Shared::new(4 * LENGTH);
    let copy = shared.copy();
    let started = shared.bob.json(&["download_file", "photos", NAME, text(&copy), "--detach"]);
    let id = started["id"].as_str().expect("an id").to_owned();
    loop {
        let life = Life::begin(&mut shared.bob);
        let at = random.u64(STEP_MAX..4 * STEP_MAX);
        watch(|| (copy.exists() || life.written(&mut shared.bob) >= at).then_some(()));
        let before = shared.bob.json(&["show_downloads"])["downloads"][0].clone();
        if before["state"] == "seeding" {
            break;
        }
        shared.bob.kill();
        shared.bob.restart();
        let opened = p2p_tests::wait::eventually("the part file is open", || {
            let download = shared.bob.json(&["show_downloads"])["downloads"][0].clone();
            (number(&download, "have_bytes") > 0).then_some(download)
        });
        let lost = number(&before, "fetched_bytes").saturating_sub(number(&opened, "have_bytes"));
        let under_way = p2pd::piece_buffer::POOL_BYTES as u64;
        assert!(lost <= under_way, "{lost} bytes were fetched and are gone, {under_way} can be under way: {before}");
    }
    shared.bob.json(&["wait", &id]);
    assert_equal(&shared.file, &copy);
}
