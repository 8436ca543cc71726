//! `download_file`: fetches a file of a group and follows it until it is there.

use std::ffi::OsString;

use p2p_proto::control::{LocalPath, Request};
use p2p_proto::name::GroupName;

use super::file_argument::FileArgument;
use crate::error::Failure;
use crate::session::Session;

/// Download a file of a group
///
/// Follows the download until it is done; when interrupted, it goes on in the daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  p2pctl download_file genomics genome.tar ~/data")]
pub struct DownloadFile {
    /// Name of the group
    group: GroupName,
    #[command(flatten)]
    file: FileArgument,
    /// Where to: a folder, or a file that does not exist
    #[arg(value_name = "DEST")]
    destination: OsString,
    /// Replace a destination that exists
    #[arg(long)]
    force: bool,
    /// Print the download's id and do not follow it
    #[arg(long)]
    detach: bool,
}

impl DownloadFile {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let destination = local_path(&self.destination)?;
        let file = self.file.selector()?;
        let (group, force, detach) = (self.group, self.force, self.detach);
        let request = Request::DownloadFile { group, file, destination, force, detach };
        if detach { session.show(request) } else { session.follow(request) }
    }
}

/// DEST as an absolute path; a `/` at its end is kept, since it says that a folder is meant.
fn local_path(destination: &OsString) -> Result<LocalPath, Failure> {
    if destination == "-" {
        return Err(Failure::usage("a download to standard output (`-`) is not possible yet")
            .hint("name a file or a folder; a file called `-` is `./-`"));
    }
    let absolute = std::path::absolute(destination);
    absolute.map(LocalPath).map_err(|error| Failure::usage(format!("DEST: {}", crate::error::cause(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_becomes_absolute() {
        let here = std::env::current_dir().expect("a folder");
        let path = |text: &str| local_path(&text.into()).expect("a path").0;
        assert_eq!(path("data/a"), here.join("data/a"));
        assert_eq!(path("./-"), here.join("-"));
        assert!(path("data/").to_string_lossy().ends_with('/'));
        assert!(local_path(&"-".into()).is_err() && local_path(&"".into()).is_err());
    }
}
