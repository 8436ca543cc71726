//! The command line: global options and one subcommand a verb, as COMMANDS.md names them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Parser, Subcommand};

use crate::command::*;
use crate::error::Failure;

/// Shares files privately with groups of people and machines.
///
/// Each command is one request to the daemon `p2pd`, which does the work and goes on when the command has ended.
#[derive(Debug, Parser)]
#[command(
    name = "p2pctl",
    version,
    arg_required_else_help = true,
    propagate_version = false,
    after_help = "Example:\n  p2pctl login alice\n  p2pctl download_file photos beach.jpg ~/pictures"
)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every verb takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Talk to the daemon whose state, settings and socket are under DIR
    #[arg(long, env = "P2P_HOME", value_name = "DIR", global = true)]
    pub home: Option<PathBuf>,
    /// Print JSON documents for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but answers and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Wait no longer than that, as `90s` or `10m` (exit code 11); what has begun goes on in the daemon
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, global = true)]
    pub timeout: Option<Duration>,
    /// Do not start the daemon if none answers
    #[arg(long, env = "P2PCTL_NO_START", value_parser = FalseyValueParser::new(), global = true, hide_env_values = true)]
    pub no_start: bool,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub enum Verb {
    #[command(alias = "create-user")]
    CreateUser(CreateUser),
    Login(Login),
    Logout(Logout),
    #[command(alias = "change-password", visible_alias = "passwd")]
    ChangePassword(ChangePassword),
    Status(Status),
    #[command(alias = "create-group")]
    CreateGroup(CreateGroup),
    #[command(alias = "join-group")]
    JoinGroup(JoinGroup),
    #[command(alias = "leave-group")]
    LeaveGroup(LeaveGroup),
    #[command(alias = "list-groups")]
    ListGroups(ListGroups),
    #[command(alias = "list-my-groups")]
    ListMyGroups(ListMyGroups),
    #[command(alias = "list-members")]
    ListMembers(ListMembers),
    #[command(alias = "list-requests")]
    ListRequests(ListRequests),
    #[command(alias = "accept-request")]
    AcceptRequest(AcceptRequest),
    #[command(alias = "reject-request")]
    RejectRequest(RejectRequest),
    #[command(alias = "remove-member")]
    RemoveMember(RemoveMember),
    #[command(alias = "transfer-group")]
    TransferGroup(TransferGroup),
    #[command(alias = "set-policy")]
    SetPolicy(SetPolicy),
    #[command(alias = "delete-group")]
    DeleteGroup(DeleteGroup),
    #[command(alias = "upload-file")]
    UploadFile(UploadFile),
    #[command(alias = "list-files")]
    ListFiles(ListFiles),
    #[command(alias = "file-info")]
    FileInfo(FileInfo),
    #[command(alias = "remove-file")]
    RemoveFile(RemoveFile),
    #[command(alias = "download-file")]
    DownloadFile(DownloadFile),
    #[command(alias = "show-downloads")]
    ShowDownloads(ShowDownloads),
    Wait(Wait),
    Pause(Pause),
    Resume(Resume),
    Cancel(Cancel),
    Verify(Verify),
    Why(Why),
    #[command(alias = "stop-share", visible_alias = "stop_sharing", alias = "stop-sharing")]
    StopShare(StopShare),
    Share(Share),
    Get(Get),
    Remove(Remove),
    Download(Download),
    List(List),
    Limit(Limit),
    Events(Events),
    Completions(Completions),
    Man(Man),
    Schema(Schema),
    #[command(visible_aliases = ["exit", "quit"])]
    Shutdown(Shutdown),
}

/// The command that `words` spell, the program's name first.
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Cli, Failure> {
    Cli::try_parse_from(words).map_err(Failure::from)
}

/// Whether `words` ask for JSON: known before they are parsed, since a parsing error is told as JSON too.
pub fn ask_for_json(words: impl Iterator<Item = OsString>) -> bool {
    words.take_while(|word| word != "--").any(|word| word == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    /// Every verb with arguments that do for it.
    const LINES: &[&str] = &[
        "create_user alice",
        "create_user alice secret",
        "login alice --password-file -",
        "logout",
        "logout --node 77c0",
        "change_password",
        "change_password --old-password-file old --password-file - --log-out-everywhere",
        "passwd",
        "status",
        "status --watch",
        "create_group photos --policy public",
        "join_group photos",
        "leave_group photos --force",
        "list_groups",
        "list_my_groups",
        "list_members photos",
        "list_requests photos",
        "accept_request photos bob",
        "reject_request photos bob",
        "remove_member photos bob",
        "transfer_group photos bob",
        "set_policy photos open",
        "delete_group photos",
        "upload_file - photos --name dump.tar",
        "upload_file beach.jpg photos --name b.jpg --hash sha256 --whole-digest --force --wait-copies 2",
        "list_files photos",
        "file_info photos bob:beach.jpg --digests",
        "remove_file photos bob:beach.jpg",
        "download_file photos beach.jpg . --force --detach",
        "download_file photos a:b.jpg . --owner bob",
        "download_file photos beach.jpg -",
        "show_downloads",
        "show_downloads --watch",
        "wait a91f 77C0 --timeout 1h30m",
        "pause a91f",
        "resume a91f",
        "cancel a91f --delete-data",
        "stop_share photos beach.jpg",
        "stop_share photos beach.jpg --until-requested",
        "stop_sharing photos beach.jpg",
        "share beach.jpg",
        "share beach.jpg holiday.mtorrent",
        "get beach.jpg.mtorrent . --force --detach",
        "remove beach.jpg.mtorrent",
        "download beach.jpg .",
        "download bob:beach.jpg . --force --detach",
        "list",
        "verify a91f",
        "why a91f",
        "limit",
        "limit --up 2MB --down 0",
        "events",
        "completions bash",
        "completions zsh",
        "completions fish",
        "man",
        "man pages",
        "schema",
        "schema status",
        "shutdown",
        "exit",
        "quit",
    ];

    fn parse_line(line: &str) -> Result<Cli, Failure> {
        parse(std::iter::once("p2pctl").chain(line.split(' ')).map(Into::into))
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_is_understood_in_both_spellings() {
        for line in LINES {
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            let kebab = format!("{} {rest}", verb.replace('_', "-"));
            let spellings = [line.to_string(), kebab.trim_end().to_owned()];
            for spelling in spellings {
                assert!(parse_line(&spelling).is_ok(), "{spelling}: {:?}", parse_line(&spelling));
            }
        }
        let offered = Cli::command().get_subcommands().filter(|verb| verb.get_name() != "help").count();
        let tried: std::collections::BTreeSet<_> = LINES.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(tried.len(), offered + 4, "four aliases");
    }

    #[test]
    fn every_verb_says_what_it_does_and_shows_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| verb.get_name() != "help") {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            let example = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains(&format!("p2pctl {}", verb.get_name())), "{}", verb.get_name());
        }
    }

    #[test]
    fn global_options_stand_before_or_after_the_verb() {
        for line in ["--json -q --no-start --home /h status", "status --json -q --no-start --home /h"] {
            let globals = parse_line(line).expect("parses").globals;
            assert!(globals.json && globals.quiet && globals.no_start, "{line}");
            assert_eq!(globals.home, Some(PathBuf::from("/h")));
        }
    }

    #[test]
    fn json_is_known_before_parsing() {
        let ask = |line: &str| ask_for_json(line.split(' ').map(Into::into));
        assert!(ask("p2pctl --json") && ask("p2pctl nonsense --json"));
        assert!(!ask("p2pctl upload_file -- --json photos"));
    }

    #[test]
    fn what_is_not_built_yet_is_not_offered() {
        assert!(matches!(parse_line("audit"), Err(Failure::Usage(_))));
    }
}
