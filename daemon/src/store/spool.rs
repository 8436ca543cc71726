//! Folders of the daemon's own: what commands read as a stream lies in one while they do, and what came from their standard
//! input in another for as long as it is shared.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use p2p_proto::private_folder::{self, FolderError};

/// What is not shared so long after it was put there was left by a command that was killed: publishing takes less.
const UNSHARED_KEPT: Duration = Duration::from_secs(3_600);

/// Makes a folder, closed to others, or takes out the files that are in it.
///
/// # Errors
/// Where it cannot be made, or is somebody else's. A file that cannot be deleted is logged.
pub fn empty(folder: &Path) -> Result<(), FolderError> {
    private_folder::make_closed(folder)?;
    files(folder).for_each(|entry| delete(&entry.path()));
    Ok(())
}

/// Deletes what was left in a folder of uploads that none of these shares is of. Shares may know the folder by another way
/// through links: files go by their names there, no two of which are alike.
pub fn sweep<'a>(folder: &Path, shared: impl Iterator<Item = &'a Path>) {
    let shared: HashSet<&OsStr> = shared.filter_map(Path::file_name).collect();
    for entry in files(folder).filter(|entry| !shared.contains(entry.file_name().as_os_str())) {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|at| at.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age >= UNSHARED_KEPT) {
            delete(&entry.path());
        }
    }
}

/// Deletes a file or folder in such a folder; one that cannot be deleted is logged.
pub fn delete(path: &Path) {
    let is_folder = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    match if is_folder { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) } {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot delete a file that nobody needs any more");
        }
        _ => {}
    }
}

/// What lies in a folder; nothing where there is none.
fn files(folder: &Path) -> impl Iterator<Item = std::fs::DirEntry> {
    std::fs::read_dir(folder).into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_has_left_goes_and_what_is_shared_or_new_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["left", "shared", "new"].map(|name| folder.path().join(name));
        for path in &paths {
            let file = std::fs::File::create(path).expect("made");
            let age = if path.ends_with("new") { Duration::ZERO } else { 2 * UNSHARED_KEPT };
            file.set_modified(std::time::SystemTime::now() - age).expect("set");
        }
        sweep(folder.path(), [Path::new("/by/another/way/shared")].into_iter());
        assert_eq!(paths.each_ref().map(|path| path.exists()), [false, true, true]);
        empty(folder.path()).expect("emptied");
        assert_eq!(paths.map(|path| path.exists()), [false; 3]);
        sweep(Path::new("/nowhere"), std::iter::empty());
    }
}
