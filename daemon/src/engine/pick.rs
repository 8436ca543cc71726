//! Which files of a folder a download brings, and which pieces that takes.

use glob::Pattern;
use p2p_proto::folder::{FileTable, RelativePath};
use p2p_proto::geometry::Geometry;
use p2p_proto::have_map::HaveMap;
use p2p_proto::reject::{ErrorCode, Reject};

/// Patterns of one download: each is tried on every file.
pub const PATTERNS_MAX: usize = 64;

/// Files picked from a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Whether each file is wanted.
    pub picked: Vec<bool>,
    /// Whether each file is laid out while pieces come: those that share a piece with a wanted one are, and go at the end.
    pub laid: Vec<bool>,
    /// The pieces that hold any of the wanted files.
    pub wanted: HaveMap,
    /// Bytes of the files that are laid out.
    pub laid_bytes: u64,
}

impl Pick {
    /// The files that any of `patterns` means, in a folder that divides so.
    ///
    /// # Errors
    /// Where none does, or a pattern is none.
    pub fn new(table: &FileTable, geometry: &Geometry, patterns: &[String]) -> Result<Pick, Reject> {
        let parsed = parse(patterns)?;
        let picked: Vec<bool> =
            table.files().iter().map(|file| parsed.iter().any(|pattern| means(pattern, &file.path))).collect();
        if !picked.contains(&true) {
            let message = format!("no file of the folder matches {}", patterns.join(" or "));
            return Err(Reject::new(ErrorCode::FILE_NOT_FOUND, message)
                .hint("`*` matches any characters, `/` too: --only '*.jpg', or --only FOLDER for all beneath it"));
        }
        let mut wanted = HaveMap::empty(geometry.piece_count());
        for (file, _) in picked.iter().enumerate().filter(|(_, picked)| **picked) {
            geometry.pieces_in(table.byte_range(file)).for_each(|piece| _ = wanted.insert(piece));
        }
        let shares = |file: usize| geometry.pieces_in(table.byte_range(file)).any(|piece| wanted.contains(piece));
        let laid: Vec<bool> = (0..picked.len()).map(|file| picked[file] || shares(file)).collect();
        let laid_bytes = table.files().iter().zip(&laid).filter(|(_, laid)| **laid).map(|(file, _)| file.length).sum();
        Ok(Pick { picked, laid, wanted, laid_bytes })
    }
}

/// Refuses what is no pattern, before anything is asked for.
pub fn check(patterns: &[String]) -> Result<(), Reject> {
    if patterns.len() > PATTERNS_MAX {
        return Err(Reject::new(ErrorCode::USAGE, format!("more than {PATTERNS_MAX} patterns")));
    }
    parse(patterns).map(drop)
}

fn parse(patterns: &[String]) -> Result<Vec<Pattern>, Reject> {
    let pattern = |text: &String| {
        Pattern::new(text.trim_end_matches('/')).map_err(|error| {
            Reject::new(ErrorCode::USAGE, format!("`{text}` is no pattern: {error}"))
                .hint("`*` and `?` match any characters, `[abc]` one of those")
        })
    };
    patterns.iter().map(pattern).collect()
}

/// Whether a pattern means a file, or a folder that it lies in.
fn means(pattern: &Pattern, path: &RelativePath) -> bool {
    pattern.matches(path.as_str()) || path.folders().any(|folder| pattern.matches(folder))
}

#[cfg(test)]
mod tests {
    use p2p_proto::folder::FolderFile;
    use p2p_proto::limit::PIECE_BYTES_MIN;

    use super::*;

    fn table() -> (FileTable, Geometry) {
        let files = [("a/one.jpg", PIECE_BYTES_MIN), ("a/two.txt", 10), ("b/c/three.jpg", 10), ("d", PIECE_BYTES_MIN)];
        let file = |(path, length): (&str, u64)| FolderFile {
            path: path.parse().expect("an allowed path"),
            length,
            executable: false,
        };
        let table = FileTable::new(files.into_iter().map(file).collect()).expect("allowed");
        let geometry = Geometry::new(table.length(), PIECE_BYTES_MIN).expect("divides");
        (table, geometry)
    }

    /// Files as a string: `#` is picked, `.` is laid out beside one.
    fn picked(patterns: &[&str]) -> Result<(String, Vec<u32>), ErrorCode> {
        let (table, geometry) = table();
        let patterns: Vec<_> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let pick = Pick::new(&table, &geometry, &patterns).map_err(|reject| reject.code)?;
        let drawn = pick.picked.iter().zip(&pick.laid).map(|(picked, laid)| match (picked, laid) {
            (true, true) => '#',
            (false, true) => '.',
            _ => ' ',
        });
        Ok((drawn.collect(), pick.wanted.iter().map(|piece| piece.0).collect()))
    }

    #[test]
    fn a_pattern_means_files_and_folders() {
        assert_eq!(picked(&["*.jpg"]), Ok(("#.#.".to_owned(), vec![0, 1])));
        assert_eq!(picked(&["a/one.jpg"]), Ok(("#   ".to_owned(), vec![0])));
        assert_eq!(picked(&["a"]), Ok(("##..".to_owned(), vec![0, 1])));
        assert_eq!(picked(&["b/"]), Ok((" .#.".to_owned(), vec![1])));
        assert_eq!(picked(&["d"]), Ok((" ..#".to_owned(), vec![1, 2])));
        assert_eq!(picked(&["two.txt"]), Err(ErrorCode::FILE_NOT_FOUND));
        assert_eq!(picked(&["["]), Err(ErrorCode::USAGE));
        assert_eq!(picked(&["*"]), Ok(("####".to_owned(), vec![0, 1, 2])));
    }
}
