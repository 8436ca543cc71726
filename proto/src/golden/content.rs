//! Samples of what more than one wire carries: manifests, grants, have-maps, refusals, frames.

use sha2::Digest as _;

use super::{BORN, TIME, Table, content, file_name, grant, name, node, variants};
use crate::folder::{FileTable, FolderFile};
use crate::frame;
use crate::geometry::Geometry;
use crate::grant::{ClusterKey, GrantBody, GrantSigner};
use crate::have_map::WireHaveMap;
use crate::id::{ContentId, DownloadId, RequestId};
use crate::limit::PIECE_BYTES_MIN;
use crate::manifest::{HashAlgorithm, Manifest};
use crate::reject::{ErrorCode, Reject};

variants!(HashAlgorithm: Blake3 Sha256 Sha1);
variants!(WireHaveMap: All Bits);

pub(super) fn tables() -> Vec<Table> {
    let words: Vec<String> = ErrorCode::ALL.iter().map(|code| code.word()).collect();
    vec![
        Table::of(
            "error_code",
            1,
            words.iter().map(String::as_str).zip(ErrorCode::ALL.iter().copied()).collect::<Vec<_>>(),
        ),
        Table::of("content_id", 1, manifests().iter().map(|(name, manifest)| (*name, manifest.content_id())).collect()),
        Table {
            file: file_name("frame", 1),
            lines: vec![("u16_300".to_owned(), frame::encode(&300u16))],
            decode: decode_frame,
        },
        Table::of("grant", 1, vec![("opaque", grant()), ("signed", signer().sign(&grant_body(signer().public_key())))]),
        Table::of("grant_body", 1, vec![("alice", grant_body(ClusterKey([5; 32])))]),
        Table::of_enum(
            "hash_algorithm",
            1,
            vec![("", HashAlgorithm::Blake3), ("", HashAlgorithm::Sha256), ("", HashAlgorithm::Sha1)],
        ),
        Table::of_enum("have_map", 1, vec![("", WireHaveMap::All), ("", WireHaveMap::Bits(vec![0x80, 0x40]))]),
        Table::of(
            "id",
            1,
            vec![("all", (node(1), content(2), RequestId([3; 16]), DownloadId([0xa9, 0x1f, 0, 1, 2, 3, 4, 0xff])))],
        ),
        Table {
            file: file_name("manifest", 1),
            lines: manifests().iter().map(|(name, manifest)| ((*name).to_owned(), manifest.encode())).collect(),
            decode: decode_manifest,
        },
        Table {
            file: file_name("manifest", 2),
            lines: folders().iter().map(|(name, manifest)| ((*name).to_owned(), manifest.encode())).collect(),
            decode: decode_manifest,
        },
        Table::of(
            "reject",
            1,
            vec![
                ("plain", Reject::new(ErrorCode::GROUP_NOT_FOUND, "no group `photos`")),
                ("hint", Reject::new(ErrorCode(999), "later").hint("upgrade")),
            ],
        ),
    ]
}

fn decode_frame(bytes: &[u8]) -> Option<Vec<u8>> {
    let (prefix, body) = bytes.split_first_chunk()?;
    let length = frame::length(*prefix, 1024).ok()?;
    let number: u16 = frame::decode(body.get(..length)?).ok()?;
    Some(frame::encode(&number))
}

/// A manifest is only ever read as the one that was asked for.
fn decode_manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    let asked_for = ContentId(sha2::Sha256::digest(bytes).into());
    Manifest::decode(bytes, asked_for).ok().map(|manifest| manifest.encode())
}

fn grant_body(cluster: ClusterKey) -> GrantBody {
    GrantBody::new(cluster, node(7), name("alice"), name("photos"), BORN, 3, TIME)
}

/// A signer whose key is the seed 1, 1, 1 … (PKCS#8 version 1, RFC 8410 §7): Ed25519 signs the same bytes alike.
fn signer() -> GrantSigner {
    let prefix = hex::decode("302e020100300506032b657004220420").expect("digits");
    GrantSigner::from_document(&[prefix, vec![1; 32]].concat()).expect("a key")
}

/// Folders, whose manifests are version 2: a file beneath another, one that is empty, one that can be run.
fn folders() -> Vec<(&'static str, Manifest)> {
    let file = |path: &str, length, executable| FolderFile {
        path: path.parse().expect("an allowed path"),
        length,
        executable,
    };
    let files =
        vec![file("run.sh", PIECE_BYTES_MIN, true), file("a b/\u{e9}.txt", 1, false), file("a b/empty", 0, false)];
    let geometry = Geometry::new(PIECE_BYTES_MIN + 1, PIECE_BYTES_MIN).expect("divides");
    let table = FileTable::new(files).expect("allowed");
    vec![("three", Manifest::of_folder(geometry, HashAlgorithm::Blake3, vec![0xd1; 64], table).expect("fits"))]
}

/// The manifests whose bytes are recorded: empty, two pieces of each algorithm, with a whole digest.
fn manifests() -> Vec<(&'static str, Manifest)> {
    let made = |length, hash: HashAlgorithm, whole| {
        let geometry = Geometry::new(length, PIECE_BYTES_MIN).expect("divides");
        let digests = vec![0xd1; geometry.piece_count() as usize * hash.digest_bytes()];
        Manifest::new(geometry, hash, digests, whole).expect("fits")
    };
    vec![
        ("empty", made(0, HashAlgorithm::Blake3, None)),
        ("blake3", made(PIECE_BYTES_MIN + 1, HashAlgorithm::Blake3, None)),
        ("sha256_whole", made(PIECE_BYTES_MIN + 1, HashAlgorithm::Sha256, Some([0xee; 32]))),
        ("sha1", made(PIECE_BYTES_MIN + 1, HashAlgorithm::Sha1, None)),
    ]
}
