//! Folders that belong to one user alone: made so, and refused where somebody else could have put or could change what lies there.

use std::ffi::OsString;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use crate::reject::{ErrorCode, Reject};

/// Symbolic links on the way to a folder; as many as Linux follows (path_resolution(7)).
const LINKS_MAX: u32 = 40;

/// Who may write a folder beside its owner.
const OTHERS_WRITE: u32 = 0o022;

/// Anybody may.
const ALL_WRITE: u32 = 0o002;

/// … but only the owner of a file may move it (`/tmp`).
const STICKY: u32 = 0o1000;

/// Set to `1` where nobody else reaches the file system, as in a container, whose folders are often root's or everybody's:
/// folders are taken as they are.
pub const TRUST_VARIABLE: &str = "P2P_TRUST_FOLDERS";

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A symbolic link that neither this user nor root has made.
    #[error("{} is a symbolic link that user {owner} has made", path.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// Who made it.
        owner: u32,
    },
    /// It, or a folder that it lies in and that anybody could have made, belongs to somebody else.
    #[error("the folder {} belongs to user {owner}, not to this user", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Others may write in it.
    #[error("others may change what is in the folder {} (mode {:04o})", path.display(), mode & 0o7777)]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The system refuses.
    #[error("the folder {} cannot be {what}: {cause}", path.display())]
    Refused {
        /// The folder.
        path: PathBuf,
        /// What was to be done with it.
        what: &'static str,
        /// Why not.
        cause: io::Error,
    },
}

impl From<FolderError> for Reject {
    fn from(error: FolderError) -> Reject {
        let (code, first) = match &error {
            FolderError::Link { path, .. } => (ErrorCode::UNSAFE_FOLDER, format!("remove {}", path.display())),
            FolderError::Owner { .. } => (ErrorCode::UNSAFE_FOLDER, "run as that user".to_owned()),
            FolderError::Open { path, .. } => (ErrorCode::UNSAFE_FOLDER, format!("`chmod go-w {}`", path.display())),
            FolderError::Refused { .. } => {
                return Reject::new(ErrorCode::NOT_WRITABLE, error.to_string()).hint("choose another with --home DIR");
            }
        };
        let others =
            format!("choose another folder with --home DIR, or set {TRUST_VARIABLE}=1 where nobody else can get at it");
        Reject::new(code, error.to_string()).hint(format!("{first}, {others}"))
    }
}

/// Makes a folder, and those that it lies in, for this user only, or takes it as it is: this user's, and written by nobody else.
pub fn make(folder: &Path) -> Result<(), FolderError> {
    create(folder)?;
    match check(folder)? {
        Some(metadata) if metadata.mode() & OTHERS_WRITE != 0 && !all_are_trusted() => {
            Err(FolderError::Open { path: folder.to_owned(), mode: metadata.mode() })
        }
        _ => Ok(()),
    }
}

/// Makes a folder of this user's, and closes it to everybody else.
pub fn make_closed(folder: &Path) -> Result<(), FolderError> {
    create(folder)?;
    check(folder)?;
    match std::fs::set_permissions(folder, Permissions::from_mode(0o700)) {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied && all_are_trusted() => Ok(()),
        closed => closed.map_err(refused(folder, "closed to others")),
    }
}

/// How a folder looks that is this user's, by a way that is: through no link of somebody else's and no folder where
/// anybody could put another in its place. `None` where it is missing. Root may have made any of it.
pub fn check(folder: &Path) -> Result<Option<Metadata>, FolderError> {
    let mut way = Way { at: PathBuf::from("/"), rest: Vec::new(), links: 0, found: None, is_below_all: false };
    way.prepend(&std::path::absolute(folder).map_err(refused(folder, "found"))?);
    while let Some(step) = way.rest.pop() {
        if !way.go(&step, folder)? {
            return Ok(None);
        }
    }
    match way.found {
        Some(metadata) if !is_trusted(metadata.uid()) => {
            Err(FolderError::Owner { path: folder.to_owned(), owner: metadata.uid() })
        }
        found => Ok(found),
    }
}

/// Looked at before it is made too: what is made lies where it should.
fn create(folder: &Path) -> Result<(), FolderError> {
    check(folder)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refused(folder, "made"))
}

/// A way through the file system, link by link.
struct Way {
    at: PathBuf,
    /// What is still to go, the next step last.
    rest: Vec<OsString>,
    links: u32,
    /// What lies at `at`.
    found: Option<Metadata>,
    /// Whether it has come through a folder in which anybody may make files.
    is_below_all: bool,
}

impl Way {
    fn prepend(&mut self, path: &Path) {
        self.rest.extend(path.components().rev().map(|component| component.as_os_str().to_owned()));
    }

    /// One step; false where there is nothing.
    fn go(&mut self, step: &OsString, folder: &Path) -> Result<bool, FolderError> {
        let next = match Path::new(step).components().next() {
            Some(Component::Normal(name)) => self.at.join(name),
            Some(Component::ParentDir) => self.at.parent().unwrap_or(Path::new("/")).to_owned(),
            Some(Component::RootDir) => PathBuf::from("/"),
            _ => return Ok(true),
        };
        let metadata = match std::fs::symlink_metadata(&next) {
            Ok(metadata) => metadata,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(cause) => return Err(refused(&next, "looked at")(cause)),
        };
        if metadata.is_symlink() {
            if !is_trusted(metadata.uid()) {
                return Err(FolderError::Link { path: next, owner: metadata.uid() });
            }
            self.links += 1;
            if self.links > LINKS_MAX {
                return Err(refused(folder, "found")(io::Error::other("too many symbolic links lead to each other")));
            }
            let target = std::fs::read_link(&next).map_err(refused(&next, "looked at"))?;
            self.prepend(&target);
            return Ok(true);
        }
        if self.is_below_all && !is_trusted(metadata.uid()) {
            return Err(FolderError::Owner { path: next, owner: metadata.uid() });
        }
        if !self.rest.is_empty() && metadata.mode() & ALL_WRITE != 0 && !all_are_trusted() {
            if metadata.mode() & STICKY == 0 {
                return Err(FolderError::Open { path: next, mode: metadata.mode() });
            }
            self.is_below_all = true;
        }
        self.at = next;
        self.found = Some(metadata);
        Ok(true)
    }
}

/// Whether a file's owner may decide where this user's things lie.
pub fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == rustix::process::geteuid().as_raw() || all_are_trusted()
}

/// Whether nobody else reaches the file system, as [`TRUST_VARIABLE`] says.
pub fn all_are_trusted() -> bool {
    std::env::var_os(TRUST_VARIABLE).is_some_and(|value| value == "1")
}

fn refused(path: &Path, what: &'static str) -> impl Fn(io::Error) -> FolderError {
    let path = path.to_owned();
    move |cause| FolderError::Refused { path: path.clone(), what, cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{chown, lchown, symlink};

    const SOMEBODY: u32 = 65_534;

    /// A folder whose path has no links.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().canonicalize().expect("exists");
        (place, path)
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own");
    }

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            eprintln!("skipped: only root can give files to somebody else");
        }
        is_root
    }

    #[test]
    fn it_is_made_for_this_user_alone() {
        let (_place, path) = place();
        make(&path.join("a/b")).expect("made");
        for made in ["a", "a/b"] {
            assert_eq!(fs::metadata(path.join(made)).expect("made").mode() & 0o777, 0o700);
        }
        make(&path.join("a/b")).expect("there already");
        assert!(check(&path.join("missing/too")).expect("no harm").is_none());
    }

    #[test]
    fn one_that_others_may_write_in_is_refused_with_what_to_do() {
        let (_place, path) = place();
        let folder = path.join("home");
        for mode in [0o770, 0o702, 0o777, 0o1777] {
            fs::create_dir_all(&folder).expect("made");
            set_mode(&folder, mode);
            let reject = Reject::from(make(&folder).expect_err("open to others"));
            assert_eq!(reject.code, ErrorCode::UNSAFE_FOLDER, "{mode:o}");
            assert!(reject.hint.contains(&format!("chmod go-w {}", folder.display())), "{reject:?}");
        }
        set_mode(&folder, 0o755);
        make(&folder).expect("others may read");
        set_mode(&folder, 0o777);
        make_closed(&folder).expect("closed");
        assert_eq!(fs::metadata(&folder).expect("there").mode() & 0o777, 0o700);
    }

    #[test]
    fn one_below_a_folder_of_all_is_refused_unless_only_owners_move_what_is_there() {
        let (_place, path) = place();
        let all = path.join("all");
        fs::create_dir(&all).expect("made");
        set_mode(&all, 0o777);
        assert!(matches!(make(&all.join("home")), Err(FolderError::Open { .. })));
        assert!(!all.join("home").exists(), "nothing is made there");
        set_mode(&all, 0o1777);
        make(&all.join("home")).expect("as in /tmp");
    }

    #[test]
    fn links_of_this_user_lead_on_and_links_in_a_circle_nowhere() {
        let (_place, path) = place();
        fs::create_dir(path.join("disk")).expect("made");
        symlink(path.join("disk"), path.join("absolute")).expect("a link");
        symlink("absolute/../disk", path.join("relative")).expect("a link");
        make(&path.join("relative/home")).expect("made");
        assert!(path.join("disk/home").is_dir());
        symlink("circle", path.join("circle")).expect("a link");
        assert!(matches!(make(&path.join("circle/home")), Err(FolderError::Refused { .. })));
    }

    #[test]
    fn somebody_elses_links_and_folders_are_refused() {
        let (_place, path) = place();
        if !is_root() {
            return;
        }
        let (mine, link, theirs) = (path.join("mine"), path.join("link"), path.join("theirs"));
        fs::create_dir(&mine).expect("made");
        symlink(&mine, &link).expect("a link");
        make_closed(&link).expect("root's own link");
        set_mode(&mine, 0o755);
        lchown(&link, Some(SOMEBODY), None).expect("root may");
        assert!(matches!(make_closed(&link), Err(FolderError::Link { owner: SOMEBODY, .. })));
        assert_eq!(fs::metadata(&mine).expect("there").mode() & 0o777, 0o755, "left as it was");
        assert!(matches!(make(&link.join("home")), Err(FolderError::Link { .. })));
        fs::create_dir(&theirs).expect("made");
        chown(&theirs, Some(SOMEBODY), None).expect("root may");
        assert!(matches!(make(&theirs), Err(FolderError::Owner { owner: SOMEBODY, .. })));
        // In a folder of all, whoever made what this lies in may put another in its place.
        let all = path.join("all");
        fs::create_dir(&all).expect("made");
        set_mode(&all, 0o1777);
        fs::create_dir(all.join("theirs")).expect("made");
        chown(all.join("theirs"), Some(SOMEBODY), None).expect("root may");
        assert!(matches!(make(&all.join("theirs/home")), Err(FolderError::Owner { .. })));
    }
}
