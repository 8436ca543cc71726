//! Files to share: made, compared and looked at without holding one in memory.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes written or compared at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// Makes a file of `length` bytes that no compression or de-duplication shortens; the same for the same seed.
///
/// # Errors
/// Of the disk.
pub fn write_random(path: &Path, length: u64, seed: u64) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut file = BufWriter::new(File::create(path)?);
    let mut block = vec![0; BLOCK_BYTES];
    let mut left = length;
    while left > 0 {
        random.fill(&mut block);
        let bytes = left.min(BLOCK_BYTES as u64);
        file.write_all(&block[..bytes as usize])?;
        left -= bytes;
    }
    file.flush()
}

/// A random file in `folder`, and its path.
///
/// # Panics
/// If the disk refuses.
pub fn random_file(folder: &Path, name: &str, length: u64) -> PathBuf {
    let path = folder.join(name);
    write_random(&path, length, length).expect("the disk takes a file");
    path
}

/// Whether two files hold the same bytes.
///
/// # Errors
/// Of the disk.
pub fn equal(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    loop {
        let bytes = read_full(&mut one, &mut left)?;
        if read_full(&mut other, &mut right)? != bytes || left[..bytes] != right[..bytes] {
            return Ok(false);
        }
        if bytes == 0 {
            return Ok(true);
        }
    }
}

/// Fails the test unless two files hold the same bytes.
///
/// # Panics
/// If they differ or one cannot be read.
pub fn assert_equal(one: &Path, other: &Path) {
    let same = equal(one, other).unwrap_or_else(|error| panic!("{} or {}: {error}", one.display(), other.display()));
    assert!(same, "{} and {} differ", one.display(), other.display());
}

/// Permission bits.
///
/// # Panics
/// If there is no such file.
pub fn mode(path: &Path) -> u32 {
    let metadata = path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    metadata.permissions().mode() & 0o7777
}

/// Every file under `folder`, whatever the depth.
///
/// # Panics
/// If a folder cannot be read.
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.expect("reads");
            match entry.file_type().expect("reads") {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

fn read_full(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read(&mut block[filled..])? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_or_missing_byte_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let one = random_file(folder.path(), "one", 3 * BLOCK_BYTES as u64 + 7);
        let mut bytes = std::fs::read(&one).expect("reads");
        let other = folder.path().join("other");
        std::fs::write(&other, &bytes).expect("writes");
        assert_equal(&one, &other);
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::write(&other, &bytes).expect("writes");
        assert!(!equal(&one, &other).expect("reads"));
        std::fs::write(&other, &bytes[..bytes.len() - 1]).expect("writes");
        assert!(!equal(&one, &other).expect("reads"));
    }
}
