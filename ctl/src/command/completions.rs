//! `completions`: the script by which a shell asks `p2pctl` for completions.

use clap_complete::env::Shells;

use crate::complete::VARIABLE;
use crate::error::Failure;
use crate::session::Session;

/// The shells that can be served.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Print the script that completes verbs, groups, files, members and downloads in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  p2pctl completions bash > ~/.local/share/bash-completion/completions/p2pctl
  p2pctl completions zsh > ~/.zfunc/_p2pctl        (with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc)
  p2pctl completions fish > ~/.config/fish/completions/p2pctl.fish")]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let name = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let mut script = Vec::new();
        let shells = Shells::builtins();
        let shell = shells.completer(name).expect("one of the three that come with the library");
        // Into memory, where nothing fails; found by its name, so that the script outlives where p2pctl lies today.
        let _ = shell.write_registration(VARIABLE, "p2pctl", "p2pctl", "p2pctl", &mut script);
        session.screen.raw(&script)
    }
}
