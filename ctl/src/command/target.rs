//! Where a download goes on the command line, and whether it is followed: what every verb that downloads takes.

use std::ffi::OsString;

use p2p_proto::control::{LocalPath, Request};
use p2p_proto::name::{FileSelector, GroupName};

use crate::error::Failure;
use crate::session::Session;

/// DEST and the options beside it.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Where to: a folder, or a file that does not exist; `-` is standard output, of `download_file` and `download`
    #[arg(value_name = "DEST")]
    destination: OsString,
    /// Replace a destination that exists
    #[arg(long)]
    pub force: bool,
    /// Print the download's id and do not follow it
    #[arg(long)]
    pub detach: bool,
}

impl Target {
    /// DEST as an absolute path; a `/` at its end is kept, since it says that a folder is meant.
    pub fn destination(&self) -> Result<LocalPath, Failure> {
        if self.destination == "-" {
            return Err(Failure::usage("what a .mtorrent describes cannot go to standard output (`-`)")
                .hint("`p2pctl download NAME -` can, by its name; a file called `-` is `./-`"));
        }
        let absolute = std::path::absolute(&self.destination);
        absolute.map(LocalPath).map_err(|error| Failure::usage(format!("DEST: {}", crate::error::cause(&error))))
    }

    /// Downloads a file of a group, as is wanted.
    pub fn download_file(
        &self,
        session: &Session,
        group: GroupName,
        file: FileSelector,
        only: Vec<String>,
    ) -> Result<(), Failure> {
        let Target { force, detach, .. } = *self;
        if self.destination != "-" {
            let destination = self.destination()?;
            return self.download(session, Request::DownloadFile { group, file, destination, force, detach, only });
        }
        if force || detach || !only.is_empty() {
            return Err(Failure::usage("standard output (`-`) goes with none of --force, --detach and --only"));
        }
        session.stream(Request::Stream { group, file })
    }

    /// Asks for the download and follows it, unless that is not wanted.
    pub fn download(&self, session: &Session, request: Request) -> Result<(), Failure> {
        if self.detach { session.show(request) } else { session.follow(request).map(drop) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_becomes_absolute() {
        let here = std::env::current_dir().expect("a folder");
        let target = |text: &str| Target { destination: text.into(), force: false, detach: false };
        let path = |text: &str| target(text).destination().expect("a path").0;
        assert_eq!(path("data/a"), here.join("data/a"));
        assert_eq!(path("./-"), here.join("-"));
        assert!(path("data/").to_string_lossy().ends_with('/'));
        assert!(target("-").destination().is_err() && target("").destination().is_err());
    }
}
