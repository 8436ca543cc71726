//! `upload_file`: publishes a file or a folder in a group, from where it lies.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use p2p_proto::control::{LocalPath, Request};
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::name::{FileName, GroupName};
use p2p_proto::reject::{ErrorCode, Reject};

use crate::error::Failure;
use crate::session::Session;
use crate::spool::Spooled;

/// Hash a file or folder, publish it in a group, and seed it from where it lies
///
/// A folder is one listing, whatever number of files it has: their names, what they hold and whether they can be run are kept,
/// folders without a file in them are not. `upload_file GROUP FILE` is understood too, where only the second names a file that
/// exists. Where no tracker can publish it, it is kept and published as soon as one can; the exit code is 8 then.
///
/// What comes from standard input (`-`, with --name) is kept in the state folder for as long as it is shared: `remove_file`
/// and `stop_share` delete it. Interrupted before its end, it is not published.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  p2pctl upload_file beach.jpg photos\n  p2pctl upload_file holiday/ photos --follow-symlinks\n  tar c album | p2pctl upload_file - photos --name album.tar"
)]
pub struct UploadFile {
    /// The file or folder; it stays where it is and must stay as it is. `-` is standard input
    file: OsString,
    /// The group
    group: OsString,
    /// The file's name in the group; without it, its own
    #[arg(long)]
    name: Option<FileName>,
    /// Digest of the pieces
    #[arg(long, value_enum, default_value = "blake3")]
    hash: Hash,
    /// Also record what `sha256sum` prints
    #[arg(long)]
    whole_digest: bool,
    /// Replace what you list under that name in the group
    #[arg(long)]
    force: bool,
    /// End only when so many other nodes hold all of it, and it is safe to leave
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    wait_copies: u32,
    /// Take what symbolic links in a folder lead to; without it they are refused
    #[arg(long)]
    follow_symlinks: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Hash {
    Blake3,
    Sha256,
    Sha1,
}

impl UploadFile {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let (file, group) = in_order(self.file, self.group);
        let group = group_name(group)?;
        let hash = match self.hash {
            Hash::Blake3 => HashAlgorithm::Blake3,
            Hash::Sha256 => HashAlgorithm::Sha256,
            Hash::Sha1 => HashAlgorithm::Sha1,
        };
        let UploadFile { whole_digest, force, wait_copies, follow_symlinks: follow_links, .. } = self;
        let upload = |path, name| {
            let path = LocalPath(path);
            let upload =
                Request::UploadFile { path, group, name, hash, whole_digest, force, wait_copies, follow_links };
            session.follow(upload).map(drop)
        };
        if file != "-" {
            let path = existing_file_or_folder(&file)?;
            let name = self.name.map_or_else(|| own_name(&path), Ok)?;
            return upload(path, name);
        }
        let name = self.name.ok_or_else(|| {
            Failure::usage("what comes from standard input has no name")
                .hint("give it one in the group with --name NAME")
        })?;
        let spooled = Spooled::read(session, name.as_str())?;
        let uploaded = upload(spooled.path.clone(), name);
        // Refused, it is nobody's; in any other end the daemon may have it, and deletes it if it does not.
        if !matches!(&uploaded, Err(Failure::Refused(reject)) if is_final(reject.code)) {
            spooled.keep();
        }
        uploaded
    }
}

/// Whether the daemon has said that it does not share the file: not merely that nobody waits for it any more, nor that it keeps
/// it to be published later.
fn is_final(code: ErrorCode) -> bool {
    let kept = [ErrorCode::NO_TRACKER, ErrorCode::NO_MAJORITY];
    let unknown = [ErrorCode::INTERRUPTED, ErrorCode::TIMED_OUT, ErrorCode::NO_DAEMON];
    !kept.contains(&code) && !unknown.contains(&code)
}

/// FILE and GROUP, turned round where only the second is a file, or, with no file, a folder.
fn in_order(first: OsString, second: OsString) -> (OsString, OsString) {
    let is_file = |word: &OsString| word == "-" || Path::new(word).is_file();
    let is_folder = |word: &OsString| Path::new(word).is_dir();
    let turned = !is_file(&first) && (is_file(&second) || (!is_folder(&first) && is_folder(&second)));
    if turned { (second, first) } else { (first, second) }
}

fn group_name(word: OsString) -> Result<GroupName, Failure> {
    let bad =
        |cause: &str| Failure::new(ErrorCode::BAD_NAME, format!("`{}` does not do for GROUP: {cause}", word.display()));
    let text = word.to_str().ok_or_else(|| bad("it is not UTF-8 text"))?;
    text.parse().map_err(|cause: p2p_proto::name::NameError| bad(&cause.to_string()))
}

/// The absolute path of a file that is one. Links are kept as they were given; whether it can be read, the daemon sees.
pub fn existing_file(file: &OsString) -> Result<PathBuf, Failure> {
    let path = existing_file_or_folder(file)?;
    if path.is_dir() {
        let message = format!("`{}` is a folder, not a file", file.display());
        return Err(Failure::new(ErrorCode::NOT_A_FILE, message).hint(
            "a .mtorrent is of a single file: share the folder with `p2pctl upload_file DIR GROUP`, or pack it first",
        ));
    }
    Ok(path)
}

/// The same of a file or a folder.
fn existing_file_or_folder(file: &OsString) -> Result<PathBuf, Failure> {
    let what = format!("`{}`", file.display());
    let metadata = std::fs::metadata(file).map_err(|error| Failure::file(&what, &error))?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(Failure::new(ErrorCode::NOT_A_FILE, format!("{what} is not a regular file")));
    }
    // Without a `/` at its end, which names the folder once more.
    let absolute = std::path::absolute(file).map_err(|error| Failure::file(&what, &error))?;
    Ok(absolute.components().collect())
}

/// The last component of a path, if it does for a name.
fn own_name(path: &Path) -> Result<FileName, Failure> {
    let hint = "give it another name in the group with --name NAME";
    let own = path.file_name().unwrap_or_default();
    let text = own.to_str().ok_or_else(|| {
        Failure::new(ErrorCode::BAD_NAME, format!("the file's name `{}` is not UTF-8 text", own.display())).hint(hint)
    })?;
    text.parse().map_err(|cause: p2p_proto::name::NameError| Reject::from(cause).hint(hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn code<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> ErrorCode {
        match outcome {
            Err(Failure::Refused(reject)) => reject.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_words_are_turned_round_where_only_the_second_is_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.txt").into_os_string();
        let other = folder.path().join("b.txt").into_os_string();
        let group = OsString::from("photos");
        std::fs::write(&file, "a").expect("written");
        std::fs::write(&other, "b").expect("written");
        assert_eq!(in_order(file.clone(), group.clone()), (file.clone(), group.clone()));
        assert_eq!(in_order(group.clone(), file.clone()), (file.clone(), group.clone()));
        assert_eq!(in_order(file.clone(), other.clone()), (file.clone(), other.clone()), "both are files");
        let (missing, folder) = (OsString::from("/missing"), folder.path().as_os_str().to_owned());
        assert_eq!(in_order(missing.clone(), group.clone()), (missing, group.clone()), "neither is");
        assert_eq!(in_order(folder.clone(), group.clone()), (folder.clone(), group.clone()), "a folder");
        assert_eq!(in_order(group.clone(), folder.clone()), (folder.clone(), group));
        assert_eq!(in_order(folder.clone(), file.clone()), (file, folder), "a file before a folder");
    }

    #[test]
    fn only_a_regular_file_that_exists_is_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(code(existing_file(&folder.path().join("none").into())), ErrorCode::FILE_MISSING);
        assert_eq!(code(existing_file(&folder.path().into())), ErrorCode::NOT_A_FILE);
        assert_eq!(code(existing_file(&"/dev/null".into())), ErrorCode::NOT_A_FILE);
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert_eq!(existing_file(&link.clone().into()).expect("a file"), link, "links are not followed");
    }

    #[test]
    fn a_file_whose_name_is_not_allowed_needs_another() {
        assert_eq!(own_name(Path::new("/a/naïve café.txt")).expect("allowed").as_str(), "naïve café.txt");
        for name in [b"a\xffb".to_vec(), b"a\nb".to_vec(), b"a\\b".to_vec()] {
            let path = Path::new("/a").join(OsString::from_vec(name));
            let Err(Failure::Refused(reject)) = own_name(&path) else { panic!("{path:?}") };
            assert_eq!(reject.code, ErrorCode::BAD_NAME);
            assert!(reject.hint.contains("--name"));
        }
        assert_eq!(code(group_name("a/b".into())), ErrorCode::BAD_NAME);
        assert_eq!(code(group_name(OsString::from_vec(vec![0xff]))), ErrorCode::BAD_NAME);
    }
}
