//! Providers that lie to a daemon that downloads from them: it ends with the right file from an honest one, or not at all.

use std::process::Stdio;

use p2p_proto::id::ContentId;
use p2p_proto::manifest::Manifest;
use p2p_proto::tracker::Provider as Named;
use p2p_tests::file::assert_equal;
use p2p_tests::hostile::client::named;
use p2p_tests::hostile::provider::Content;
use p2p_tests::hostile::tracker::listing;
use p2p_tests::hostile::{Lie, Provider};
use p2p_tests::wait::eventually;
use sha2::{Digest as _, Sha256};

use super::{Memory, Staged, provider, stranger};
use crate::{MIB, NAME, only_download, text};

/// Pieces are 512 KiB: some more than a peer of unknown speed is asked for at once.
const LENGTH: u64 = 8 * MIB;

impl Staged {
    /// Somebody who says to have alice's file.
    fn liar(&self, lie: Lie) -> Provider {
        let content = Content::new(std::fs::read(&self.file).expect("reads"));
        assert_eq!(content.id, self.content);
        self.runtime.block_on(async { Provider::start(stranger(), content, lie) })
    }

    /// Lets the tracker name these and nobody else.
    fn name(&self, providers: Vec<Named>) {
        self.tracker.books().providers = providers;
    }

    /// What bob's daemon knows to be wrong.
    fn bobs_problems(&self) -> Vec<String> {
        let status = self.bob.json(&["status"]);
        let problems = status["problems"].as_array().expect("a list").iter();
        problems.map(|problem| problem.as_str().expect("a text").to_owned()).collect()
    }

    fn is_banned(&self, liar: &Provider) -> bool {
        let banned = format!("node {} sent pieces that are not", liar.node.short());
        self.bobs_problems().iter().any(|problem| problem.starts_with(&banned))
    }
}

/// What a lie leads to, besides the right file in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Consequence {
    /// The liar is not asked again.
    Banned,
    /// Nothing of it is believed, and others are asked; it may have been an accident.
    Overtaken,
}

#[test]
fn every_lie_is_seen_through() {
    use Consequence::{Banned, Overtaken};
    let table = [
        (Lie::WrongBytes, Banned),
        (Lie::LongPiece, Banned),
        (Lie::WrongLength, Banned),
        (Lie::GiantPiece, Banned),
        (Lie::Garbage, Banned),
        (Lie::ShortPiece, Overtaken),
        (Lie::RefusedAfterBytes, Overtaken),
        (Lie::Resets, Overtaken),
        (Lie::NeverAnswers, Overtaken),
        (Lie::OneByteASecond, Overtaken),
        (Lie::Mute, Overtaken),
        (Lie::LongHaveMap, Overtaken),
        (Lie::HaveMapBeyondTheEnd, Overtaken),
        (Lie::TwoHaveMaps, Overtaken),
        (Lie::HaveBeyondTheEnd, Overtaken),
        (Lie::HaveTooLong, Overtaken),
    ];
    let mut staged = Staged::new(LENGTH);
    let honest = provider(&staged.alice);
    let memory = Memory::of(staged.bob.process());
    for (lie, consequence) in table {
        let liar = staged.liar(lie);
        staged.name(vec![liar.as_named()]);
        let copy = staged.path(&format!("{lie:?}"));
        let started = staged.bob.json(&["download_file", "photos", NAME, text(&copy), "--detach"]);
        let id = started["id"].as_str().expect("an id");
        eventually(&format!("{lie:?}: it is met"), || (liar.connections() > 0).then_some(()));
        if consequence == Banned {
            eventually(&format!("{lie:?}: the liar is banned"), || staged.is_banned(&liar).then_some(()));
        }
        // Whoever served before is still connected, and may have brought it all already.
        if copy.exists() {
            assert_equal(&staged.file, &copy);
        }
        staged.name(vec![liar.as_named(), honest.clone()]);
        staged.bob.run(&["wait", id]);
        assert_equal(&staged.file, &copy);
        assert_eq!(staged.is_banned(&liar), consequence == Banned, "{lie:?}: {:?}", staged.bobs_problems());
        let banned = staged.bobs_problems().iter().any(|problem| problem.contains(&honest.node.short()));
        assert!(!banned, "{lie:?}: the honest one is blamed");
        // The next one begins with nothing.
        staged.bob.run(&["cancel", id, "--delete-data"]);
    }
    memory.is_flat(staged.bob.process());
}

#[test]
fn a_stream_writes_nothing_that_a_liar_has_sent() {
    let staged = Staged::new(LENGTH);
    let (liar, honest) = (staged.liar(Lie::WrongBytes), provider(&staged.alice));
    staged.name(vec![liar.as_named()]);
    let mut command = staged.bob.command_in_its_home();
    command.args(["download_file", "photos", NAME, "-"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let streaming = command.spawn().expect("p2pctl starts");
    eventually("the liar is banned", || staged.is_banned(&liar).then_some(()));
    staged.name(vec![liar.as_named(), honest]);
    let output = streaming.wait_with_output().expect("ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == std::fs::read(&staged.file).expect("reads"));
}

#[test]
fn one_liar_of_three_is_banned_and_the_honest_never_are() {
    let mut staged = Staged::new(64 * MIB);
    let (liar, second) = (staged.liar(Lie::WrongBytes), staged.liar(Lie::None));
    let honest = [provider(&staged.alice), second.as_named()];
    staged.name([vec![liar.as_named()], honest.to_vec()].concat());
    let download = staged.download();
    download.finish(&staged.file);
    assert!(second.pieces_asked() > 0, "the second honest one was asked too");
    assert!(staged.is_banned(&liar), "{:?}", staged.bobs_problems());
    for provider in &honest {
        let blamed = staged.bobs_problems().iter().any(|problem| problem.contains(&provider.node.short()));
        assert!(!blamed, "{:?}", staged.bobs_problems());
    }
    assert!(staged.bob.process().is_running());
}

#[test]
fn floods_of_news_keep_nothing_from_its_end() {
    let mut staged = Staged::new(64 * MIB);
    let floods = [staged.liar(Lie::HaveFlood), staged.liar(Lie::LoadFlood), staged.liar(Lie::LoadFlood)];
    let memory = Memory::of(staged.bob.process());
    staged.name(floods.iter().map(Provider::as_named).collect());
    let copy = staged.path("bob's copy");
    let started = staged.bob.json(&["download_file", "photos", NAME, text(&copy), "--detach"]);
    eventually("all of them talk", || floods.iter().all(|flood| flood.connections() > 0).then_some(()));
    // While they do, commands are answered and the file comes.
    staged.bob.json(&["list_files", "photos"]);
    staged.bob.run(&["wait", started["id"].as_str().expect("an id")]);
    assert_equal(&staged.file, &copy);
    memory.is_flat(staged.bob.process());
}

/// Bytes that postcard takes for a manifest's beginning: version, length and so on, as told.
fn forged_manifest(length: u64, piece_length: u64, digests: &[u8]) -> Vec<u8> {
    let varint = |mut value: u64| {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    // Version 1, BLAKE3, no whole digest.
    [&[1][..], &varint(length), &varint(piece_length), &[0, 0], digests].concat()
}

#[test]
fn a_manifest_bomb_is_refused_and_costs_no_memory() {
    let piece = 512 * 1024;
    let honest = Content::new(vec![1; 1000]).manifest;
    let mut reencoded = honest.clone();
    // The same length with a byte too many: a second spelling of the same manifest.
    reencoded.splice(1..2, [honest[1] | 0x80, 0]);
    let table: Vec<(&str, u64, Vec<u8>)> = vec![
        ("2^32 pieces and no digests", piece << 32, forged_manifest(piece << 32, piece, &[0])),
        ("2^32 - 1 pieces and no digests", (piece << 32) - piece, forged_manifest((piece << 32) - piece, piece, &[0])),
        ("4 GiB of digests that do not come", piece, forged_manifest(piece, piece, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("2^64 - 1 bytes", 1000, forged_manifest(u64::MAX, piece, &[0])),
        ("pieces of one byte", 1000, forged_manifest(1000, 1, &[0])),
        ("pieces of no bytes", 1000, forged_manifest(1000, 0, &[0])),
        ("pieces of 2^63 bytes", 1000, forged_manifest(1000, 1 << 63, &[0])),
        ("a digest too few", 2 * piece, forged_manifest(2 * piece, piece, &[&[32][..], &[7; 32]].concat())),
        ("bytes behind it", 1000, [honest.as_slice(), &[0]].concat()),
        ("a length with spare bytes", 1000, reencoded),
        ("nothing", 1000, Vec::new()),
        ("another length than the listing's", 1001, honest),
    ];
    let lies = [
        ("4 GiB that do not come", 1000, Content::new(vec![2; 1000]), Lie::GiantManifest),
        ("the manifest of something else", 1000, Content::new(vec![3; 1000]), Lie::OtherManifest),
    ];
    refuse_all(table.into_iter().map(bomb).chain(lies).collect());
}

/// A manifest in the place of an honest one, which everybody serves as it is.
fn bomb((what, length, manifest): (&'static str, u64, Vec<u8>)) -> (&'static str, u64, Content, Lie) {
    let id = ContentId(Sha256::digest(&manifest).into());
    (what, length, Content { id, manifest, ..Content::new(vec![1; 1000]) }, Lie::None)
}

/// Has bob download each of these contents from who serves them so: no piece is asked for, no file is made, and memory
/// stays what it was.
fn refuse_all(contents: Vec<(&str, u64, Content, Lie)>) {
    let mut staged = Staged::new(MIB);
    let memory = Memory::of(staged.bob.process());
    for (number, (what, length, content, lie)) in contents.into_iter().enumerate() {
        let id = content.id;
        let bomber = staged.runtime.block_on(async { Provider::start(stranger(), content, lie) });
        let name = format!("bomb {number}");
        staged.tracker.books().listings.push(listing(named(&name), named("mallory"), id, length.min(1 << 30)));
        staged.name(vec![bomber.as_named()]);
        let copy = staged.path(&name);
        let started = staged.bob.json(&["download_file", "photos", &name, text(&copy), "--detach"]);
        let id = started["id"].as_str().expect("an id");
        eventually(what, || {
            let download = only_download(&staged.bob);
            (staged.is_banned(&bomber) || download["error"] == "integrity").then_some(())
        });
        assert_eq!(bomber.pieces_asked(), 0, "{what}");
        let part = staged.path(&format!("{name}.part"));
        assert!(!copy.exists() && !part.exists(), "{what}: a file was made");
        staged.bob.run(&["cancel", id]);
    }
    memory.is_flat(staged.bob.process());
    staged.name(vec![provider(&staged.alice)]);
    let download = staged.download();
    download.finish(&staged.file);
}

/// The manifest of a folder with these files, of zeros; nothing about them is checked.
fn forged_folder(files: &[(&str, u64, u8)]) -> Vec<u8> {
    let length: u64 = files.iter().fold(0, |sum: u64, (_, length, _)| sum.saturating_add(*length));
    let mut digests = Vec::new();
    if (1..=1000).contains(&length) {
        let zeros = vec![0; length as usize];
        p2p_proto::manifest::HashAlgorithm::Blake3.digest_into(&zeros, &mut digests).expect("no collision");
    }
    // Version 2, pieces of 512 KiB, BLAKE3.
    p2p_proto::codec::encode(&(2u8, 512u64 * 1024, 0u8, digests, files))
}

#[test]
fn a_folder_that_leads_out_or_cannot_be_is_refused() {
    let long = vec!["x".repeat(255); 9].join("/");
    let deep = vec!["x"; 65].join("/");
    let many: Vec<String> = (0..=100_000).map(|number| format!("{number:06}")).collect();
    let many: Vec<_> = many.iter().map(|path| (path.as_str(), 0, 0)).collect();
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("a path that leads up", forged_folder(&[("../evil", 1000, 0)])),
        ("a path that leads up on the way", forged_folder(&[("a/../../evil", 1000, 0)])),
        ("an absolute path", forged_folder(&[("/tmp/evil", 1000, 0)])),
        ("a path that stays", forged_folder(&[("./evil", 1000, 0)])),
        ("a path of nothing", forged_folder(&[("", 1000, 0)])),
        ("a folder of no name", forged_folder(&[("a//evil", 1000, 0)])),
        ("a path that ends with a separator", forged_folder(&[("evil/", 1000, 0)])),
        ("another system's separator", forged_folder(&[("a\\evil", 1000, 0)])),
        ("a path with an end within", forged_folder(&[("evil\0.txt", 1000, 0)])),
        ("a path of two lines", forged_folder(&[("evil\n", 1000, 0)])),
        ("a path that is too long", forged_folder(&[(long.as_str(), 1000, 0)])),
        ("a path that is too deep", forged_folder(&[(deep.as_str(), 1000, 0)])),
        ("one path twice", forged_folder(&[("a", 500, 0), ("a", 500, 0)])),
        ("a file that is a folder", forged_folder(&[("a", 500, 0), ("a/b", 500, 0)])),
        ("twins by case", forged_folder(&[("A", 500, 0), ("a", 500, 0)])),
        ("folders that are twins", forged_folder(&[("A/x", 500, 0), ("a/y", 500, 0)])),
        ("twins by composition", forged_folder(&[("e\u{301}", 500, 0), ("\u{e9}", 500, 0)])),
        ("another order", forged_folder(&[("b", 500, 0), ("a", 500, 0)])),
        ("neither true nor false", forged_folder(&[("a", 1000, 2)])),
        ("lengths beyond counting", forged_folder(&[("a", u64::MAX, 0), ("b", 1001, 0)])),
        ("no files", forged_folder(&[])),
        ("too many files", forged_folder(&many)),
    ];
    refuse_all(table.into_iter().map(|(what, manifest)| bomb((what, 1000, manifest))).collect());
    assert!(!std::path::Path::new("/tmp/evil").exists());
}

#[test]
fn a_manifest_of_our_own_making_is_what_forgers_begin_with() {
    let content = Content::new(vec![1; 1000]);
    let mut digest = Vec::new();
    p2p_proto::manifest::HashAlgorithm::Blake3.digest_into(&content.bytes, &mut digest).expect("no collision");
    let forged = forged_manifest(1000, 512 * 1024, &[&[32][..], &digest].concat());
    assert_eq!(forged, content.manifest);
    assert!(Manifest::decode(&forged, content.id).is_ok());
    let folder = forged_folder(&[("a/b", 500, 1), ("c", 500, 0)]);
    assert!(Manifest::decode(&folder, ContentId(Sha256::digest(&folder).into())).is_ok());
}
