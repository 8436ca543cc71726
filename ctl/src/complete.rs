//! Completion on the command line: the words of the definition, and what the daemon knows: groups, files, members, downloads.
//!
//! The shell calls `p2pctl` itself at each Tab (the script that `completions` prints arranges it). A daemon that does not
//! run is not started for it, and one that does not answer soon is not waited for.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Command, CommandFactory as _};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use p2p_proto::control::{Answer, Request};
use p2p_proto::name::GroupName;

use crate::args::{Cli, Globals};
use crate::session::Session;

/// The variable by which the shell's script asks for completions.
pub const VARIABLE: &str = "P2PCTL_COMPLETE";

/// How long a person who pressed Tab is kept waiting for the daemon.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// How many words are offered at most: more than anybody reads, and little enough for every shell.
const CANDIDATES_MAX: usize = 1000;

/// Answers the shell and ends the process, if it is the shell that asks.
pub fn answer_shell() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// The command line's definition, with what the daemon can be asked for beside the arguments that name it.
fn command() -> Command {
    Cli::command().mut_subcommands(|verb| {
        let is_new = verb.get_name().starts_with("create_");
        verb.mut_args(|argument| {
            let values: fn(&OsStr) -> Vec<CompletionCandidate> = match argument.get_id().as_str() {
                "group" if !is_new => groups,
                "file" if argument.get_value_names().is_some_and(|names| names[0] == "NAME") => files,
                "user" if !is_new => members,
                "id" | "ids" => downloads,
                _ => return argument,
            };
            argument.add(ArgValueCompleter::new(values))
        })
    })
}

fn groups(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(Answer::Groups(groups)) = ask(Request::ListGroups { mine: false }) else { return Vec::new() };
    offer(typed, groups.groups.iter().map(|group| group.group.to_string()))
}

fn files(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(group) = typed_group() else { return Vec::new() };
    let Some(Answer::Files(files)) = ask(Request::ListFiles { group }) else { return Vec::new() };
    offer(typed, files.files.iter().map(|file| file.name.to_string()))
}

fn members(typed: &OsStr) -> Vec<CompletionCandidate> {
    let words = typed_words();
    let waits = words.iter().any(|word| {
        let word = word.to_string_lossy().replace('-', "_");
        word == "accept_request" || word == "reject_request"
    });
    let Some(group) = typed_group() else { return Vec::new() };
    let request = if waits { Request::ListRequests { group } } else { Request::ListMembers { group } };
    match ask(request) {
        Some(Answer::Members(members)) => offer(typed, members.members.iter().map(|member| member.user.to_string())),
        Some(Answer::Requests(requests)) => {
            offer(typed, requests.requests.iter().map(|request| request.user.to_string()))
        }
        _ => Vec::new(),
    }
}

fn downloads(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(Answer::Downloads(downloads)) = ask(Request::ShowDownloads) else { return Vec::new() };
    let downloads = downloads.downloads.iter().filter(|download| download.id.to_string().starts_with(&*shown(typed)));
    let named = downloads.map(|download| {
        CompletionCandidate::new(download.id.to_string())
            .help(Some(download.name.to_string().escape_debug().to_string().into()))
    });
    named.take(CANDIDATES_MAX).collect()
}

/// Those of the names that begin with what is typed. A name from somebody else that a shell would not take as one plain
/// word is left out: it must not become a command because somebody pressed Tab.
fn offer(typed: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = shown(typed);
    let fitting = names.filter(|name| name.starts_with(&*typed) && is_plain_word(name));
    fitting.take(CANDIDATES_MAX).map(CompletionCandidate::new).collect()
}

fn is_plain_word(name: &str) -> bool {
    let plain = |character: char| character.is_alphanumeric() || "._+,@%/-".contains(character);
    !name.starts_with('-') && name.chars().all(plain)
}

fn shown(typed: &OsStr) -> std::borrow::Cow<'_, str> {
    typed.to_string_lossy()
}

/// The words typed so far, as the shell passes them on: behind `--`, the program's name first.
fn typed_words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(2).collect()
}

/// The daemon that is meant, from the words typed so far.
fn globals() -> Globals {
    Globals {
        home: home(&typed_words()).or_else(|| std::env::var_os("P2P_HOME").map(PathBuf::from)),
        no_start: true,
        ..Globals::default()
    }
}

fn home(words: &[OsString]) -> Option<PathBuf> {
    let behind = words.iter().position(|word| word == "--home").and_then(|at| words.get(at + 1)).cloned();
    let joined = || words.iter().find_map(|word| word.to_str()?.strip_prefix("--home=").map(OsString::from));
    behind.or_else(joined).map(PathBuf::from)
}

fn typed_group() -> Option<GroupName> {
    group(&typed_words())
}

/// The first word behind the verb that is no option.
fn group(words: &[OsString]) -> Option<GroupName> {
    let mut plain = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.to_str()? {
            "--home" => drop(words.next()),
            option if option.starts_with('-') => {}
            word => plain.push(word),
        }
    }
    plain.get(1)?.parse().ok()
}

fn ask(request: Request) -> Option<Answer> {
    Session::new(globals()).ok()?.ask_soon(request, ANSWER_DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_group_is_the_first_word_behind_the_verb() {
        let found = |line: &str| group(&words(line)).map(|group| group.to_string());
        assert_eq!(found("download_file photos be"), Some("photos".into()));
        assert_eq!(found("--home /h --json download_file --force photos be"), Some("photos".into()));
        assert_eq!(found("download_file"), None);
    }

    #[test]
    fn the_daemon_is_the_one_that_is_typed() {
        for line in ["--home /h status", "status --home=/h"] {
            assert_eq!(home(&words(line)), Some("/h".into()), "{line}");
        }
        assert_eq!(home(&words("status --home")), None);
    }

    #[test]
    fn only_plain_words_are_offered() {
        let names = ["beach.jpg", "bear", "be$(reboot)", "be;ls", "be a", "be\nx", "sea.jpg", "be*"];
        let offered = offer(OsStr::new("be"), names.iter().map(|name| (*name).to_owned()));
        let offered: Vec<_> = offered.iter().map(CompletionCandidate::get_value).collect();
        assert_eq!(offered, ["beach.jpg", "bear"]);
        assert!(offer(OsStr::new(""), std::iter::once("-rf".to_owned())).is_empty());
    }

    #[test]
    fn every_name_of_a_group_can_be_completed() {
        for verb in command().get_subcommands().filter(|verb| !verb.get_name().starts_with("create_")) {
            for argument in verb.get_arguments().filter(|argument| argument.get_id() == "group") {
                assert!(argument.get::<ArgValueCompleter>().is_some(), "{}", verb.get_name());
            }
        }
    }
}
