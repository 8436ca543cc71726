//! The manifest: what a content is, without its name, and the content id made from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha1_checked::CollisionResult;
use sha2::Digest as _;

use crate::codec::{self, CodecError};
use crate::folder::{FileTable, TableError};
use crate::geometry::{Geometry, GeometryError, PieceIndex};
use crate::id::ContentId;
use crate::limit::MANIFEST_BYTES_MAX;

/// Which digest each piece has. Numbers are part of the disk and wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// BLAKE3, 32 bytes; the default, since hashing is a downloader's largest cost.
    Blake3,
    /// SHA-256 (FIPS 180-4), 32 bytes.
    Sha256,
    /// SHA-1 (FIPS 180-4), 20 bytes, as the ancestors and `.mtorrent` have it. Collisions can be made on purpose, so a
    /// piece that bears the marks of one has no digest here and matches none ([`CollisionAttack`]).
    Sha1,
}

/// A piece holds a block that was made to collide under SHA-1: another piece with the same digest can exist, and a
/// content id made from that digest would name both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a block in it was made to collide with another under SHA-1")]
pub struct CollisionAttack;

impl HashAlgorithm {
    /// Bytes of one digest.
    pub fn digest_bytes(self) -> usize {
        match self {
            HashAlgorithm::Blake3 | HashAlgorithm::Sha256 => 32,
            HashAlgorithm::Sha1 => 20,
        }
    }

    /// Whether `digest` is this algorithm's digest of `piece`.
    pub fn verify(self, piece: &[u8], digest: &[u8]) -> bool {
        let mut computed = Vec::with_capacity(self.digest_bytes());
        self.digest_into(piece, &mut computed).is_ok() && computed == digest
    }

    /// Appends the digest of `piece` to `digests`.
    ///
    /// # Errors
    /// [`CollisionAttack`], under [`HashAlgorithm::Sha1`] alone; nothing is appended then.
    pub fn digest_into(self, piece: &[u8], digests: &mut Vec<u8>) -> Result<(), CollisionAttack> {
        match self {
            HashAlgorithm::Blake3 => digests.extend_from_slice(blake3::hash(piece).as_bytes()),
            HashAlgorithm::Sha256 => digests.extend_from_slice(&sha2::Sha256::digest(piece)),
            HashAlgorithm::Sha1 => match sha1_checked::Sha1::try_digest(piece) {
                CollisionResult::Ok(digest) => digests.extend_from_slice(&digest),
                CollisionResult::Mitigated(_) | CollisionResult::Collision(_) => return Err(CollisionAttack),
            },
        }
        Ok(())
    }

    /// How many digests fit a manifest, beside a table of files of so many bytes.
    fn digests_max(self, table_bytes: u64) -> u64 {
        (MANIFEST_BYTES_MAX - HEADER_BYTES_MAX).saturating_sub(table_bytes) / self.digest_bytes() as u64
    }
}

/// Room for a manifest's fields beside its digests, in bytes.
const HEADER_BYTES_MAX: u64 = 128;

/// Why bytes are not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More than a manifest may have; nothing was decoded.
    #[error("a manifest of {0} bytes where at most {MANIFEST_BYTES_MAX} are allowed")]
    TooLong(u64),
    /// Not an encoding of one.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A second spelling of a manifest that has one already.
    #[error("the manifest is not in its one allowed encoding")]
    NotCanonical,
    /// The content cannot be divided so.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The digests are too few or too many for the length.
    #[error("{digests_bytes} bytes of digests do not fit {pieces} pieces")]
    Digests {
        /// Bytes there are.
        digests_bytes: usize,
        /// Pieces there should be digests for.
        pieces: u32,
    },
    /// Files that cannot be laid out.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The files are not as long as the content.
    #[error("files of {files} bytes in a content of {length}")]
    FilesLength {
        /// Of all files.
        files: u64,
        /// Of the content.
        length: u64,
    },
    /// Not the manifest that was asked for.
    #[error("the manifest has content id {0} and is not the one that was asked for")]
    WrongContent(ContentId),
}

/// What a content is: equal manifests are equal bytes, wherever and under whatever name they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    geometry: Geometry,
    hash: HashAlgorithm,
    digests: Vec<u8>,
    whole_sha256: Option<[u8; 32]>,
    /// The files that the content is, one behind the other; `None`: it is one file.
    files: Option<Arc<FileTable>>,
}

/// The manifest of a file as it is encoded (postcard). Version 1.
#[derive(Serialize, Deserialize)]
struct WireManifest {
    version: u8,
    length: u64,
    piece_length: u64,
    hash: HashAlgorithm,
    whole_sha256: Option<[u8; 32]>,
    /// All digests, one behind the other.
    digests: Vec<u8>,
}

/// The manifest of a folder. Version 2.
#[derive(Serialize, Deserialize)]
struct WireFolderManifest {
    version: u8,
    piece_length: u64,
    hash: HashAlgorithm,
    digests: Vec<u8>,
    files: FileTable,
}

/// The version of a file's manifest, which is its first byte.
const FILE_VERSION: u8 = 1;

/// That of a folder's.
const FOLDER_VERSION: u8 = 2;

impl Manifest {
    /// The division that a new content of `length` bytes gets, so that its manifest stays within its limit.
    pub fn geometry_for(length: u64, hash: HashAlgorithm) -> Result<Geometry, GeometryError> {
        Geometry::for_length(length, hash.digests_max(0))
    }

    /// The same for a new content that is these files.
    pub fn geometry_of(files: &FileTable, hash: HashAlgorithm) -> Result<Geometry, GeometryError> {
        Geometry::for_length(files.length(), hash.digests_max(files.encoded_bytes()))
    }

    /// A manifest from its parts; `digests` holds one digest a piece, one behind the other.
    pub fn new(
        geometry: Geometry,
        hash: HashAlgorithm,
        digests: Vec<u8>,
        whole_sha256: Option<[u8; 32]>,
    ) -> Result<Manifest, ManifestError> {
        if digests.len() as u64 != u64::from(geometry.piece_count()) * hash.digest_bytes() as u64 {
            return Err(ManifestError::Digests { digests_bytes: digests.len(), pieces: geometry.piece_count() });
        }
        if u64::from(geometry.piece_count()) > hash.digests_max(0) {
            return Err(ManifestError::TooLong(digests.len() as u64));
        }
        Ok(Manifest { geometry, hash, digests, whole_sha256, files: None })
    }

    /// The manifest of a folder: its pieces go over all files, one behind the other.
    pub fn of_folder(
        geometry: Geometry,
        hash: HashAlgorithm,
        digests: Vec<u8>,
        files: FileTable,
    ) -> Result<Manifest, ManifestError> {
        if files.length() != geometry.length() {
            return Err(ManifestError::FilesLength { files: files.length(), length: geometry.length() });
        }
        if u64::from(geometry.piece_count()) > hash.digests_max(files.encoded_bytes()) {
            return Err(ManifestError::TooLong(digests.len() as u64));
        }
        let manifest = Manifest::new(geometry, hash, digests, None)?;
        Ok(Manifest { files: Some(Arc::new(files)), ..manifest })
    }

    /// The manifest in `bytes`, whose content id must be `expected`: nothing else is believed.
    pub fn decode(bytes: &[u8], expected: ContentId) -> Result<Manifest, ManifestError> {
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong(bytes.len() as u64));
        }
        let id = content_id(bytes);
        if id != expected {
            return Err(ManifestError::WrongContent(id));
        }
        let manifest = match bytes.first() {
            Some(&FILE_VERSION) => {
                let wire: WireManifest = codec::decode(bytes)?;
                let geometry = Geometry::new(wire.length, wire.piece_length)?;
                Manifest::new(geometry, wire.hash, wire.digests, wire.whole_sha256)?
            }
            Some(&FOLDER_VERSION) => {
                let wire: WireFolderManifest = codec::decode(bytes)?;
                let geometry = Geometry::new(wire.files.length(), wire.piece_length)?;
                Manifest::of_folder(geometry, wire.hash, wire.digests, wire.files)?
            }
            _ => return Err(ManifestError::NotCanonical),
        };
        if manifest.encode() != bytes { Err(ManifestError::NotCanonical) } else { Ok(manifest) }
    }

    /// The bytes that travel and that the content id is made from.
    pub fn encode(&self) -> Vec<u8> {
        if let Some(files) = &self.files {
            return codec::encode(&WireFolderManifest {
                version: FOLDER_VERSION,
                piece_length: self.geometry.piece_length(),
                hash: self.hash,
                digests: self.digests.clone(),
                files: FileTable::clone(files),
            });
        }
        codec::encode(&WireManifest {
            version: FILE_VERSION,
            length: self.geometry.length(),
            piece_length: self.geometry.piece_length(),
            hash: self.hash,
            whole_sha256: self.whole_sha256,
            digests: self.digests.clone(),
        })
    }

    /// The name of this content: SHA-256 of [`Manifest::encode`].
    pub fn content_id(&self) -> ContentId {
        content_id(&self.encode())
    }

    /// How the content divides into pieces.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Which digest the pieces have.
    pub fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// SHA-256 of the whole content, where it was recorded.
    pub fn whole_sha256(&self) -> Option<&[u8; 32]> {
        self.whole_sha256.as_ref()
    }

    /// The files that the content is, where it is a folder.
    pub fn files(&self) -> Option<&Arc<FileTable>> {
        self.files.as_ref()
    }

    /// The digest of a piece; empty for one that does not exist, which no bytes have.
    pub fn digest(&self, piece: PieceIndex) -> &[u8] {
        let bytes = self.hash.digest_bytes();
        let start = piece.as_usize().saturating_mul(bytes);
        self.digests.get(start..start.saturating_add(bytes)).unwrap_or_default()
    }

    /// The digests of all pieces, one behind the other.
    pub fn digests(&self) -> &[u8] {
        &self.digests
    }

    /// Whether `bytes` are that piece, to the last one.
    pub fn verify(&self, piece: PieceIndex, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.geometry.piece_bytes(piece) && self.hash.verify(bytes, self.digest(piece))
    }
}

/// The content id of an encoded manifest.
fn content_id(bytes: &[u8]) -> ContentId {
    ContentId(sha2::Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::PIECE_BYTES_MIN;

    fn manifest_of(content: &[u8], hash: HashAlgorithm) -> Manifest {
        let geometry = Manifest::geometry_for(content.len() as u64, hash).expect("small");
        let mut digests = Vec::new();
        for piece in geometry.pieces() {
            let range = geometry.byte_range(piece);
            hash.digest_into(&content[range.start as usize..range.end as usize], &mut digests).expect("no attack");
        }
        Manifest::new(geometry, hash, digests, None).expect("fits")
    }

    #[test]
    fn a_manifest_reads_back_and_knows_its_pieces() {
        let content = vec![7; PIECE_BYTES_MIN as usize + 3];
        for hash in [HashAlgorithm::Blake3, HashAlgorithm::Sha256, HashAlgorithm::Sha1] {
            let manifest = manifest_of(&content, hash);
            let id = manifest.content_id();
            assert_eq!(Manifest::decode(&manifest.encode(), id), Ok(manifest.clone()));
            assert!(manifest.verify(PieceIndex(1), &[7; 3]));
            assert!(!manifest.verify(PieceIndex(1), &[7; 4]));
            assert!(!manifest.verify(PieceIndex(1), &[7, 7, 8]));
            assert!(!manifest.verify(PieceIndex(2), &[]));
        }
    }

    #[test]
    fn the_published_digests_of_abc_are_computed() {
        let digest = |hash: HashAlgorithm| {
            let mut digest = Vec::new();
            hash.digest_into(b"abc", &mut digest).expect("no attack");
            hex::encode(digest)
        };
        assert_eq!(digest(HashAlgorithm::Blake3), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(digest(HashAlgorithm::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest(HashAlgorithm::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }

    /// The published collision (Stevens and others, 2017, shattered.io): the first 320 bytes of both files, a line each.
    /// Behind them the state of SHA-1 is the same again.
    const COLLISION: &str = include_str!("golden/sha1_collision.txt");

    #[test]
    fn the_published_pair_of_one_sha1_is_refused_and_is_two_contents_otherwise() {
        let pair: Vec<Vec<u8>> = COLLISION.lines().map(|line| hex::decode(line).expect("digits")).collect();
        let plain: Vec<_> = pair.iter().map(sha1::Sha1::digest).collect();
        assert_ne!(pair[0], pair[1]);
        assert_eq!(plain[0], plain[1], "that is what makes them dangerous");
        for bytes in &pair {
            let mut digests = Vec::new();
            assert_eq!(HashAlgorithm::Sha1.digest_into(bytes, &mut digests), Err(CollisionAttack));
            assert!(digests.is_empty());
            assert!(!HashAlgorithm::Sha1.verify(bytes, &plain[0]), "a manifest of that digest takes neither");
            let longer = [bytes.as_slice(), &[7; 1000]].concat();
            assert_eq!(HashAlgorithm::Sha1.digest_into(&longer, &mut digests), Err(CollisionAttack));
        }
        for hash in [HashAlgorithm::Blake3, HashAlgorithm::Sha256] {
            assert_ne!(manifest_of(&pair[0], hash).content_id(), manifest_of(&pair[1], hash).content_id());
        }
    }

    #[test]
    fn another_manifest_than_the_one_asked_for_is_refused() {
        let bytes = manifest_of(b"a", HashAlgorithm::Blake3).encode();
        let other = manifest_of(b"b", HashAlgorithm::Blake3).content_id();
        assert!(matches!(Manifest::decode(&bytes, other), Err(ManifestError::WrongContent(_))));
    }

    #[test]
    fn a_claim_of_four_billion_pieces_in_few_bytes_is_refused() {
        let bytes = codec::encode(&WireManifest {
            version: 1,
            length: (1 << 32) * PIECE_BYTES_MIN - PIECE_BYTES_MIN,
            piece_length: PIECE_BYTES_MIN,
            hash: HashAlgorithm::Blake3,
            whole_sha256: None,
            digests: Vec::new(),
        });
        let expected = ManifestError::Digests { digests_bytes: 0, pieces: u32::MAX };
        assert_eq!(Manifest::decode(&bytes, content_id(&bytes)), Err(expected));
    }

    #[test]
    fn the_files_of_a_folder_are_part_of_what_its_content_id_covers() {
        let file = |path: &str, length, executable| crate::folder::FolderFile {
            path: path.parse().expect("allowed"),
            length,
            executable,
        };
        let folder = |files: Vec<_>| {
            let table = FileTable::new(files).expect("allowed");
            let geometry = Manifest::geometry_of(&table, HashAlgorithm::Blake3).expect("small");
            Manifest::of_folder(geometry, HashAlgorithm::Blake3, vec![7; 32], table)
        };
        let manifest = folder(vec![file("b", 1, false), file("a/c", 2, true)]).expect("fits");
        assert_eq!(Manifest::decode(&manifest.encode(), manifest.content_id()), Ok(manifest.clone()));
        for other in [
            vec![file("b", 2, false), file("a/c", 1, true)],
            vec![file("b", 1, true), file("a/c", 2, true)],
            vec![file("B", 1, false), file("a/c", 2, true)],
            vec![file("b", 1, false), file("a/c", 2, true), file("d", 0, false)],
        ] {
            assert_ne!(folder(other).expect("fits").content_id(), manifest.content_id());
        }
        let geometry = Geometry::new(4, PIECE_BYTES_MIN).expect("divides");
        let table = FileTable::new(vec![file("b", 1, false)]).expect("allowed");
        let longer = Manifest::of_folder(geometry, HashAlgorithm::Blake3, vec![7; 32], table);
        assert_eq!(longer, Err(ManifestError::FilesLength { files: 1, length: 4 }));
    }

    #[test]
    fn files_in_another_order_are_no_manifest() {
        #[derive(Serialize)]
        struct Wire<'a> {
            version: u8,
            piece_length: u64,
            hash: HashAlgorithm,
            digests: &'a [u8],
            files: Vec<(&'a str, u64, bool)>,
        }
        let encoded = |files: [(&str, u64, bool); 2]| {
            let (piece_length, hash, files) = (PIECE_BYTES_MIN, HashAlgorithm::Blake3, files.to_vec());
            codec::encode(&Wire { version: 2, piece_length, hash, digests: &[7; 32], files })
        };
        let decoded = |bytes: &[u8]| Manifest::decode(bytes, content_id(bytes));
        assert!(decoded(&encoded([("a", 1, false), ("b", 2, false)])).is_ok());
        assert_eq!(decoded(&encoded([("b", 2, false), ("a", 1, false)])), Err(ManifestError::NotCanonical));
        for bad in ["../a", "/a", "", "a/./b", "a\0b"] {
            assert!(
                matches!(decoded(&encoded([(bad, 1, false), ("b", 2, false)])), Err(ManifestError::Codec(_))),
                "{bad}"
            );
        }
    }

    #[test]
    fn every_content_has_one_encoding() {
        let manifest = manifest_of(b"a", HashAlgorithm::Blake3);
        let mut bytes = manifest.encode();
        bytes.push(0);
        assert!(matches!(Manifest::decode(&bytes, content_id(&bytes)), Err(ManifestError::Codec(_))));
        // The version, 1, spelled as a two-byte number is refused by postcard for a u8; the length can be spelled longer.
        let mut longer = manifest.encode();
        assert_eq!(longer[1], 1, "the length of one byte");
        longer.splice(1..2, [0x81, 0x00]);
        assert!(Manifest::decode(&longer, content_id(&longer)).is_err());
    }
}
