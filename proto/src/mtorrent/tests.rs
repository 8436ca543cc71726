//! Tables of good and bad texts, a recorded one, and round trips by chance.

use super::*;
use crate::limit::PIECE_BYTES_MIN;
use proptest::prelude::*;

/// Written by this program, and checked by hand with `sha1sum`: nothing may read or write it otherwise.
const EXAMPLE: &str = include_str!("../golden/example.mtorrent");

const ID: &str = "5d41402abc4b2a76b9719d911017c5925d41402abc4b2a76b9719d911017c592";

fn address(text: &str) -> TrackerAddress {
    text.parse().expect("an address")
}

fn manifest_of(content: &[u8]) -> Manifest {
    let geometry = Manifest::geometry_for(content.len() as u64, HashAlgorithm::Sha1).expect("small");
    let mut digests = Vec::new();
    for piece in content.chunks(PIECE_BYTES_MIN as usize) {
        digests.extend_from_slice(&sha1::Sha1::digest(piece));
    }
    Manifest::new(geometry, HashAlgorithm::Sha1, digests, None).expect("fits")
}

fn example() -> Mtorrent {
    let trackers = [address(&format!("192.0.2.10:9000#{ID}")), address("[2001:db8::1]:9000")];
    let content = vec![b'a'; 2 * PIECE_BYTES_MIN as usize + 1];
    Mtorrent::new(trackers, "films/holiday 2026 ü.mkv".to_owned(), manifest_of(&content)).expect("allowed")
}

/// The example with one line replaced.
fn with_line(line: usize, text: &str) -> Vec<u8> {
    let mut lines: Vec<&str> = EXAMPLE.lines().collect();
    lines[line - 1] = text;
    (lines.join("\n") + "\n").into_bytes()
}

fn code(error: MtorrentError) -> ErrorCode {
    Reject::from(error).code
}

#[test]
fn the_recorded_example_is_written_and_read_to_the_byte() {
    assert_eq!(example().to_text(), EXAMPLE);
    let read = Mtorrent::parse(EXAMPLE.as_bytes()).expect("good");
    assert_eq!(read, example());
    assert_eq!(read.name().as_str(), "holiday 2026 ü.mkv");
    assert_eq!(read.path(), "films/holiday 2026 ü.mkv");
    assert_eq!(
        read.manifest().content_id().to_string(),
        "86c11544fa6aab0b6d488a89d54eab60186678a80241208c1b2e3533734214fd",
        "the content id of a .mtorrent never changes"
    );
}

#[test]
fn an_empty_file_has_no_digests_and_the_sha1_of_nothing() {
    let empty = Mtorrent::new([address("t:1"), address("t:1")], "nothing".to_owned(), manifest_of(b"")).expect("good");
    let text = "t:1\nt:1\nnothing\n0\nda39a3ee5e6b4b0d3255bfef95601890afd80709\n";
    assert_eq!(empty.to_text(), text);
    assert_eq!(Mtorrent::parse(text.as_bytes()), Ok(empty));
}

#[test]
fn other_spellings_of_the_same_are_read() {
    let digests = example().manifest().digests().to_vec();
    let of_bytes = hex::encode(sha1::Sha1::digest(&digests));
    let upper = EXAMPLE.lines().enumerate().map(|(place, line)| match place {
        4.. => line.to_ascii_uppercase() + "\n",
        _ => line.to_owned() + "\n",
    });
    let spellings = [
        EXAMPLE.replace('\n', "\r\n").into_bytes(),
        EXAMPLE.trim_end().as_bytes().to_vec(),
        EXAMPLE.replace('\n', "\r\n").trim_end().as_bytes().to_vec(),
        upper.collect::<String>().into_bytes(),
        with_line(1, &format!("192.0.2.10 9000#{ID}")),
        with_line(1, &format!("192.0.2.10 9000 {ID}")),
        with_line(2, "2001:db8::1 9000"),
        with_line(4, "0001048577"),
        with_line(8, &of_bytes),
    ];
    for text in spellings {
        assert_eq!(Mtorrent::parse(&text), Ok(example()), "{}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_text_that_is_none_is_refused_with_its_line_and_a_code() {
    let digest = "ff".repeat(20);
    let long = "x".repeat(PATH_BYTES_MAX + 1);
    let cases: &[(Vec<u8>, ErrorCode, &str)] = &[
        (Vec::new(), ErrorCode::MALFORMED, "line 1 is missing"),
        (b"\n".to_vec(), ErrorCode::MALFORMED, "line 1 is not a tracker's address"),
        (b"t:1\nt:2\n".to_vec(), ErrorCode::MALFORMED, "line 3 is missing"),
        (b"t:1\nt:2\nname".to_vec(), ErrorCode::MALFORMED, "line 4 is missing"),
        (vec![0; 100_000], ErrorCode::MALFORMED, "line 1"),
        (b"\xff\xfe".to_vec(), ErrorCode::MALFORMED, "line 1"),
        (with_line(1, "nowhere"), ErrorCode::MALFORMED, "line 1"),
        (with_line(1, "t:0"), ErrorCode::MALFORMED, "line 1"),
        (with_line(1, "t:1#12"), ErrorCode::MALFORMED, "line 1"),
        (with_line(2, ""), ErrorCode::MALFORMED, "line 2"),
        (with_line(2, &format!("{}:1", "x".repeat(500))), ErrorCode::MALFORMED, "line 2"),
        (with_line(3, ""), ErrorCode::BAD_NAME, "not be empty"),
        (with_line(3, "films/"), ErrorCode::BAD_NAME, "not be empty"),
        (with_line(3, "films/.."), ErrorCode::BAD_NAME, "names a folder"),
        (with_line(3, "a\\b"), ErrorCode::BAD_NAME, "not allowed in a name"),
        (with_line(3, "a\u{1b}[31m/b"), ErrorCode::BAD_NAME, "a control character"),
        (with_line(3, "a\0b"), ErrorCode::BAD_NAME, "a control character"),
        (with_line(3, &"x".repeat(256)), ErrorCode::BAD_NAME, "longer than 255"),
        (with_line(3, &long), ErrorCode::MALFORMED, "line 3"),
        (with_line(4, ""), ErrorCode::MALFORMED, "line 4"),
        (with_line(4, "-1"), ErrorCode::MALFORMED, "line 4"),
        (with_line(4, "+1048577"), ErrorCode::MALFORMED, "line 4"),
        (with_line(4, "1048577 "), ErrorCode::MALFORMED, "line 4"),
        (with_line(4, "0x100001"), ErrorCode::MALFORMED, "line 4"),
        (with_line(4, "18446744073709551616"), ErrorCode::MALFORMED, "line 4"),
        (with_line(4, "18446744073709551615"), ErrorCode::MALFORMED, "more than can be divided"),
        (with_line(4, &(1u64 << 44).to_string()), ErrorCode::MALFORMED, "digests and their own"),
        (with_line(4, "0"), ErrorCode::MALFORMED, "means 0 digests"),
        (with_line(4, "524288"), ErrorCode::MALFORMED, "means 1 digests"),
        (with_line(4, "1048576"), ErrorCode::MALFORMED, "means 2 digests"),
        (with_line(4, "1572865"), ErrorCode::MALFORMED, "means 4 digests"),
        (with_line(5, &digest), ErrorCode::INTEGRITY, "changed or is damaged"),
        (with_line(8, &digest), ErrorCode::INTEGRITY, "changed or is damaged"),
        (with_line(6, &digest[1..]), ErrorCode::MALFORMED, "line 6 is not a SHA-1"),
        (with_line(6, &format!("{digest}f")), ErrorCode::MALFORMED, "line 6 is not a SHA-1"),
        (with_line(6, &"g".repeat(40)), ErrorCode::MALFORMED, "line 6 is not a SHA-1"),
        (format!("{EXAMPLE}\n").into_bytes(), ErrorCode::MALFORMED, "digests and their own"),
        (format!("{EXAMPLE}{digest}\n").into_bytes(), ErrorCode::MALFORMED, "digests and their own"),
    ];
    for (text, expected, words) in cases {
        let shown = String::from_utf8_lossy(&text[..text.len().min(600)]);
        let error = Mtorrent::parse(text).expect_err(&shown);
        assert!(error.to_string().contains(words), "{error}: {shown}");
        assert_eq!(code(error), *expected, "{shown}");
    }
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for count in 0..lines.len() {
        assert!(Mtorrent::parse((lines[..count].join("\n") + "\n").as_bytes()).is_err(), "{count} lines");
    }
}

#[test]
fn a_claim_of_a_huge_file_in_few_bytes_is_refused_before_anything_is_made() {
    for length in [1u64 << 40, (1 << 44) - (1 << 30), 1 << 60, u64::MAX] {
        let text = format!("t:1\nt:1\nx\n{length}\n");
        assert_eq!(Mtorrent::parse(text.as_bytes()).map_err(code), Err(ErrorCode::MALFORMED), "{length}");
    }
    // What may be read of a file follows from what it says of itself.
    let max = |length: u64| Mtorrent::text_bytes_max(format!("t:1\nt:1\nx\n{length}\n").as_bytes());
    assert_eq!(max(0), Ok(HEAD_BYTES_MAX as u64 + 42));
    assert_eq!(max(10), Ok(HEAD_BYTES_MAX as u64 + 2 * 42));
    assert!(max(1 << 43).expect("8 TiB") <= 36 * 1024 * 1024, "a manifest of 16 MiB as text");
    assert!(max(1 << 60).is_err());
    assert!(Mtorrent::text_bytes_max(&vec![b'x'; HEAD_BYTES_MAX]).is_err());
    let bytes = EXAMPLE.len() as u64;
    assert!(Mtorrent::text_bytes_max(EXAMPLE.as_bytes()).expect("good") >= bytes);
}

#[test]
fn the_longest_head_is_within_its_bound() {
    let host = ["x".repeat(63), "x".repeat(63), "x".repeat(63), "x".repeat(61)].join(".");
    let tracker = format!("{host}:65535#{ID}");
    let name = "n".repeat(255);
    let path = format!("{}{name}", "d/".repeat((PATH_BYTES_MAX - 255) / 2));
    let text = format!("{tracker}\r\n{tracker}\r\n{path}\r\n{}\r\n", "0".repeat(SIZE_DIGITS_MAX));
    assert!(text.len() <= HEAD_BYTES_MAX);
    let text = format!("{text}{}\r\n", hex::encode(checksum(&[])));
    let read = Mtorrent::parse(text.as_bytes()).expect("good");
    assert_eq!((read.path(), read.name().as_str()), (path.as_str(), name.as_str()));
    assert!(Mtorrent::text_bytes_max(&text.as_bytes()[..HEAD_BYTES_MAX.min(text.len())]).is_ok());
}

#[test]
fn a_path_that_cannot_stand_in_a_line_is_refused() {
    for (path, words) in [
        ("a\nb", "a line's end"),
        ("dir\n/b", "a line's end"),
        ("a\r", "a line's end"),
        ("a\u{1b}/b", "a control character"),
        ("..", "names a folder"),
        ("", "must not be empty"),
    ] {
        let error = file_name(path).expect_err(path);
        assert!(error.to_string().contains(words), "{path:?}: {error}");
        assert_eq!(code(error), ErrorCode::BAD_NAME);
    }
    assert_eq!(file_name("../a b/c").expect("shown only").as_str(), "c");
}

#[test]
fn a_manifest_of_another_kind_has_no_text() {
    let trackers = || [address("t:1"), address("t:1")];
    let geometry = Manifest::geometry_for(1, HashAlgorithm::Sha1).expect("small");
    let wide = crate::geometry::Geometry::new(1, 2 * PIECE_BYTES_MIN).expect("allowed");
    for manifest in [
        Manifest::new(geometry, HashAlgorithm::Blake3, vec![7; 32], None),
        Manifest::new(geometry, HashAlgorithm::Sha1, vec![7; 20], Some([7; 32])),
        Manifest::new(wide, HashAlgorithm::Sha1, vec![7; 20], None),
    ] {
        let manifest = manifest.expect("fits");
        assert_eq!(Mtorrent::new(trackers(), "x".to_owned(), manifest), Err(MtorrentError::Manifest));
    }
}

/// A `.mtorrent` of a file of up to nine pieces, by chance.
fn any_mtorrent() -> impl Strategy<Value = Mtorrent> {
    let length = 0..9 * PIECE_BYTES_MIN;
    let path = "([a-zA-Z0-9 ._ü写-]{0,20}/){0,3}[a-zA-Z0-9 _ü写#:-]{1,20}";
    (length, path, any::<u8>(), any::<bool>(), 1..u16::MAX).prop_map(|(length, path, byte, pinned, port)| {
        let geometry = Manifest::geometry_for(length, HashAlgorithm::Sha1).expect("small");
        let digests = (0..geometry.piece_count() * 20).map(|place| byte.wrapping_mul(place as u8).wrapping_add(byte));
        let manifest = Manifest::new(geometry, HashAlgorithm::Sha1, digests.collect(), None).expect("fits");
        let first = if pinned { format!("t.example:{port}#{ID}") } else { format!("192.0.2.1:{port}") };
        Mtorrent::new([address(&first), address("[::1]:9")], path, manifest).expect("allowed")
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_with_either_line_end(mtorrent in any_mtorrent()) {
        let text = mtorrent.to_text();
        prop_assert!(text.len() as u64 <= Mtorrent::text_bytes_max(text.as_bytes()).expect("good"));
        let spellings = [text.clone(), text.replace('\n', "\r\n"), text.trim_end_matches('\n').to_owned()];
        for spelling in spellings {
            prop_assert_eq!(Mtorrent::parse(spelling.as_bytes()), Ok(mtorrent.clone()));
        }
    }

    #[test]
    fn one_changed_byte_is_another_content_or_none(
        mtorrent in any_mtorrent(), place: prop::sample::Index, byte: u8
    ) {
        let mut text = mtorrent.to_text().into_bytes();
        let place = place.index(text.len());
        text[place] = byte;
        let _ = Mtorrent::text_bytes_max(&text);
        if let Ok(read) = Mtorrent::parse(&text) {
            // The trackers and the path are free to be anything; digests are not.
            prop_assert_eq!(read.manifest().digests(), mtorrent.manifest().digests());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, cut: prop::sample::Index) {
        let _ = Mtorrent::parse(&bytes);
        let _ = Mtorrent::text_bytes_max(&bytes);
        let text = [&EXAMPLE.as_bytes()[..cut.index(EXAMPLE.len())], &bytes].concat();
        let _ = Mtorrent::parse(&text);
        let _ = Mtorrent::text_bytes_max(&text);
    }
}
