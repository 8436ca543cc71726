//! Folders: the table of the files that a content is, checked so that it can be laid out beneath any folder and nowhere else.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;
use crate::limit::{FOLDER_DEPTH_MAX, FOLDER_FILES_MAX, FOLDER_PATH_BYTES_MAX, FOLDER_TABLE_BYTES_MAX};
use crate::name::{NameError, check_component, folded};

/// Why a text is not the path of a file within a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// One of its components is no name.
    #[error("`{}` is not a path of a file: {cause}", .path.escape_debug())]
    Name {
        /// The text.
        path: String,
        /// What is wrong with the component.
        cause: NameError,
    },
    /// Longer than [`FOLDER_PATH_BYTES_MAX`].
    #[error("a path of {0} bytes where at most {FOLDER_PATH_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Deeper than [`FOLDER_DEPTH_MAX`].
    #[error("a path of {0} components where at most {FOLDER_DEPTH_MAX} are allowed")]
    TooDeep(usize),
}

/// Where a file lies within its folder: names joined by `/`, none of which leads up, out or nowhere. Ordered name by name, so
/// that what lies in one folder stands together.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

impl RelativePath {
    /// As text, with `/` between the names.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder it lies in, empty where that is the outermost, and its own name.
    pub fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }

    /// Every folder that it lies in, from the outermost inwards, as paths; without the outermost of all.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }
}

impl TryFrom<String> for RelativePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        if text.len() > FOLDER_PATH_BYTES_MAX {
            return Err(PathError::TooLong(text.len()));
        }
        let mut depth = 0;
        for name in text.split('/') {
            check_component(name).map_err(|cause| PathError::Name { path: text.clone(), cause })?;
            depth += 1;
        }
        if depth > FOLDER_DEPTH_MAX {
            return Err(PathError::TooDeep(depth));
        }
        Ok(RelativePath(text))
    }
}

impl FromStr for RelativePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::try_from(text.to_owned())
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> String {
        path.0
    }
}

impl Ord for RelativePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.split('/').cmp(other.0.split('/'))
    }
}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// One file of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderFile {
    /// Where it lies.
    pub path: RelativePath,
    /// Bytes.
    pub length: u64,
    /// Whether it can be run; nothing else is kept of its permissions.
    pub executable: bool,
}

/// Why files are not a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No file at all.
    #[error("a folder without a file")]
    Empty,
    /// More than [`FOLDER_FILES_MAX`].
    #[error("more than {FOLDER_FILES_MAX} files in one folder")]
    TooMany,
    /// More than [`FOLDER_FILES_MAX`], too.
    #[error("more than {FOLDER_FILES_MAX} folders in one folder")]
    TooManyFolders,
    /// Names that together are longer than [`FOLDER_TABLE_BYTES_MAX`].
    #[error("a table of files of {0} bytes where at most {FOLDER_TABLE_BYTES_MAX} are allowed")]
    TooLong(u64),
    /// More bytes than a number can count.
    #[error("the files are longer than can be counted")]
    Overflow,
    /// Two paths of which some file systems hold only one.
    #[error("`{}` and `{}` differ in case or composition alone, or one is a file and a folder", .0.escape_debug(), .1.escape_debug())]
    Clash(String, String),
}

/// The files that a content is, one behind the other in the order of their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTable {
    files: Vec<FolderFile>,
    /// Where each begins in the content.
    starts: Vec<u64>,
    length: u64,
    encoded_bytes: u64,
}

/// A range of bytes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Number of the file.
    pub file: usize,
    /// Where in the file, in bytes.
    pub range: Range<u64>,
}

impl FileTable {
    /// The table of these files, which are put in order.
    ///
    /// # Errors
    /// Where there are none, or too many, or two of them could not lie in one folder on every file system.
    pub fn new(mut files: Vec<FolderFile>) -> Result<FileTable, TableError> {
        if files.is_empty() {
            return Err(TableError::Empty);
        }
        if files.len() > FOLDER_FILES_MAX {
            return Err(TableError::TooMany);
        }
        files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let encoded_bytes = codec::encode(&files).len() as u64;
        if encoded_bytes > FOLDER_TABLE_BYTES_MAX {
            return Err(TableError::TooLong(encoded_bytes));
        }
        check_clashes(&files)?;
        let (mut starts, mut length) = (Vec::with_capacity(files.len()), 0u64);
        for file in &files {
            starts.push(length);
            length = length.checked_add(file.length).ok_or(TableError::Overflow)?;
        }
        Ok(FileTable { files, starts, length, encoded_bytes })
    }

    /// The files in order.
    pub fn files(&self) -> &[FolderFile] {
        &self.files
    }

    /// Bytes of all files.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the table in a manifest.
    pub fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }

    /// Where a file lies in the content, in bytes; empty for one that does not exist.
    pub fn byte_range(&self, file: usize) -> Range<u64> {
        match (self.starts.get(file), self.files.get(file)) {
            (Some(start), Some(file)) => *start..start + file.length,
            _ => 0..0,
        }
    }

    /// The parts of files that a range of the content lies in, in order; none of them is empty.
    pub fn segments(&self, range: Range<u64>) -> impl Iterator<Item = Segment> + '_ {
        // The last file that begins at or before the range; empty ones before it begin there too, and are passed over.
        let first = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let end = range.end;
        let files = (first..self.files.len()).take_while(move |file| self.starts[*file] < end);
        files.filter_map(move |file| {
            let lies = self.byte_range(file);
            let (start, end) = (range.start.max(lies.start), range.end.min(lies.end));
            (start < end).then(|| Segment { file, range: start - lies.start..end - lies.start })
        })
    }
}

/// Refuses paths that fall together where case or composition do not count, or of which one would be a file and a folder.
fn check_clashes(files: &[FolderFile]) -> Result<(), TableError> {
    let mut folders: BTreeMap<String, &str> = BTreeMap::new();
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    let mut last = "";
    for file in files {
        let (folder, _) = file.path.split();
        let seen = std::mem::replace(&mut last, folder) == folder;
        for folder in file.path.folders().filter(|_| !seen) {
            if let Some(known) = folders.insert(folded(folder), folder).filter(|known| *known != folder) {
                return Err(TableError::Clash(known.to_owned(), folder.to_owned()));
            }
            if folders.len() > FOLDER_FILES_MAX {
                return Err(TableError::TooManyFolders);
            }
        }
        let path = file.path.as_str();
        if let Some(known) = names.insert(folded(path), path) {
            return Err(TableError::Clash(known.to_owned(), path.to_owned()));
        }
    }
    let both = names.iter().find_map(|(key, file)| folders.get(key).map(|folder| (*file, *folder)));
    both.map_or(Ok(()), |(file, folder)| Err(TableError::Clash(file.to_owned(), folder.to_owned())))
}

impl Serialize for FileTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.files.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FileTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FileTable, D::Error> {
        deserializer.deserialize_seq(TableVisitor)
    }
}

/// Reads a table file by file, so that one of too many takes no memory.
struct TableVisitor;

impl<'de> Visitor<'de> for TableVisitor {
    type Value = FileTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the files of a folder")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<FileTable, A::Error> {
        let mut files: Vec<FolderFile> = Vec::new();
        while let Some(file) = sequence.next_element::<FolderFile>()? {
            if files.len() >= FOLDER_FILES_MAX {
                return Err(de::Error::custom(TableError::TooMany));
            }
            files.push(file);
        }
        // In another order it is another encoding, which a manifest refuses as such.
        FileTable::new(files).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, length: u64) -> FolderFile {
        FolderFile { path: path.parse().expect("an allowed path"), length, executable: false }
    }

    #[test]
    fn a_path_leads_neither_up_nor_out_nor_nowhere() {
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/..", "../a", "a/../b", "a\\b", "a\0", "a/b\n"] {
            assert!(bad.parse::<RelativePath>().is_err(), "{bad:?}");
        }
        let deep = |depth: usize| vec!["a"; depth].join("/").parse::<RelativePath>();
        assert!(deep(FOLDER_DEPTH_MAX).is_ok());
        assert_eq!(deep(FOLDER_DEPTH_MAX + 1), Err(PathError::TooDeep(FOLDER_DEPTH_MAX + 1)));
        let long = |names: usize| vec!["x".repeat(255); names].join("/").parse::<RelativePath>();
        assert!(long(8).is_ok());
        assert_eq!(long(9), Err(PathError::TooLong(9 * 256 - 1)));
        assert!("x".repeat(256).parse::<RelativePath>().is_err());
    }

    #[test]
    fn a_path_knows_its_folders() {
        let path: RelativePath = "a/b/c.txt".parse().expect("allowed");
        assert_eq!(path.split(), ("a/b", "c.txt"));
        assert_eq!(path.folders().collect::<Vec<_>>(), ["a", "a/b"]);
        let path: RelativePath = "c.txt".parse().expect("allowed");
        assert_eq!((path.split(), path.folders().count()), (("", "c.txt"), 0));
    }

    #[test]
    fn what_lies_in_one_folder_stands_together() {
        let table = FileTable::new(vec![file("a.b", 1), file("a/z", 2), file("a-b/c", 4), file("a/b/c", 8)]);
        let table = table.expect("allowed");
        let order: Vec<_> = table.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(order, ["a/b/c", "a/z", "a-b/c", "a.b"]);
        assert_eq!((table.length(), table.byte_range(1), table.byte_range(4)), (15, 8..10, 0..0));
    }

    #[test]
    fn paths_that_fall_together_somewhere_are_refused() {
        for (one, other) in
            [("A.txt", "a.TXT"), ("e\u{301}", "\u{e9}"), ("Docs/a", "docs/b"), ("x/Docs/a", "x/docs/b"), ("a", "a/b")]
        {
            let table = FileTable::new(vec![file(one, 1), file(other, 1)]);
            assert!(matches!(table, Err(TableError::Clash(..))), "{one} {other}: {table:?}");
        }
        assert!(matches!(FileTable::new(vec![file("a", 1), file("a", 1)]), Err(TableError::Clash(..))));
        assert!(matches!(FileTable::new(vec![file("A", 1), file("a/b", 1)]), Err(TableError::Clash(..))));
        assert!(FileTable::new(vec![file("x/a", 1), file("y/A", 1), file("x/b/c", 1), file("z/b", 1)]).is_ok());
    }

    #[test]
    fn a_table_is_bounded_and_its_length_counted() {
        assert_eq!(FileTable::new(Vec::new()), Err(TableError::Empty));
        assert_eq!(FileTable::new(vec![file("a", u64::MAX), file("b", 1)]), Err(TableError::Overflow));
        let many: Vec<_> = (0..=FOLDER_FILES_MAX).map(|nth| file(&nth.to_string(), 0)).collect();
        assert_eq!(FileTable::new(many.clone()), Err(TableError::TooMany));
        assert!(codec::decode::<FileTable>(&codec::encode(&many)).is_err());
        assert!(FileTable::new(many[1..].to_vec()).is_ok());
        let long = |nth| file(&format!("{}/{nth}", vec!["x".repeat(255); 7].join("/")), 0);
        let long: Vec<_> = (0..FOLDER_TABLE_BYTES_MAX / 1792).map(long).collect();
        assert!(matches!(FileTable::new(long), Err(TableError::TooLong(_))));
    }

    #[test]
    fn every_range_is_covered_by_segments_once() {
        let lengths = [0, 3, 0, 0, 1, 5, 0, 2, 0];
        let files = lengths.iter().enumerate().map(|(nth, length)| file(&nth.to_string(), *length)).collect();
        let table = FileTable::new(files).expect("allowed");
        for start in 0..=table.length() {
            for end in start..=table.length() {
                let mut at = start;
                for Segment { file, range } in table.segments(start..end) {
                    let lies = table.byte_range(file);
                    assert_eq!(lies.start + range.start, at, "{start}..{end}");
                    assert!(range.start < range.end && lies.start + range.end <= lies.end);
                    at = lies.start + range.end;
                }
                assert_eq!(at, end, "{start}..{end}");
            }
        }
    }
}
