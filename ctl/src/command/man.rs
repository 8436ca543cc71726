//! `man`: the manual pages, made from the same definition as `--help`.

use std::path::PathBuf;
use std::process::Command;

use clap::CommandFactory as _;
use clap_mangen::Man as Page;

use crate::args::Cli;
use crate::error::Failure;
use crate::session::Session;

/// The daemons beside this program, which print their own page.
const DAEMONS: [&str; 2] = ["p2pd", "tracker"];

/// Print the manual page of p2pctl, or write those of p2pctl, its verbs, p2pd and tracker into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  p2pctl man | man -l -\n  p2pctl man ~/.local/share/man/man1")]
pub struct Man {
    /// The folder for them all, made if it is not there
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let Some(folder) = self.folder else {
            let mut page = Vec::new();
            // Into memory, where nothing fails.
            let _ = Page::new(Cli::command()).render(&mut page);
            return session.screen.raw(&page);
        };
        let refused = |error| Failure::file(&format!("DIR `{}`", folder.display()), &error);
        std::fs::create_dir_all(&folder).map_err(refused)?;
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &folder).map_err(refused)?;
        for daemon in DAEMONS {
            if let Some(page) = page_of(daemon) {
                std::fs::write(folder.join(format!("{daemon}.1")), page).map_err(refused)?;
            } else {
                session
                    .screen
                    .warning(&format!("no page of {daemon}: beside p2pctl is no such program that prints one"));
            }
        }
        session.screen.message(&format!("manual pages written to {}", folder.display()));
        Ok(())
    }
}

/// What a program beside this one prints as its page.
fn page_of(daemon: &str) -> Option<Vec<u8>> {
    let program = std::env::current_exe().ok()?.with_file_name(daemon);
    let output = Command::new(program).arg("--man").output().ok()?;
    output.status.success().then_some(output.stdout)
}
