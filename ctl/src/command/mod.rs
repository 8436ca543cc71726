//! The verbs, one a file: its arguments, its one request, and what is shown of the answer.

mod accept_request;
mod cancel;
mod change_password;
mod completions;
mod create_group;
mod create_user;
mod delete_group;
mod download;
mod download_file;
mod events;
mod file_argument;
mod file_info;
mod get;
mod join_group;
mod leave_group;
mod limit;
mod list;
mod list_files;
mod list_groups;
mod list_members;
mod list_my_groups;
mod list_requests;
mod login;
mod logout;
mod man;
mod password;
mod pause;
mod reject_request;
mod remove;
mod remove_file;
mod remove_member;
mod resume;
mod schema;
mod set_policy;
mod share;
mod show_downloads;
mod shutdown;
mod status;
mod stop_share;
mod target;
mod transfer_group;
mod upload_file;
mod verify;
mod wait;
mod why;

pub use accept_request::AcceptRequest;
pub use cancel::Cancel;
pub use change_password::ChangePassword;
pub use completions::Completions;
pub use create_group::CreateGroup;
pub use create_user::CreateUser;
pub use delete_group::DeleteGroup;
pub use download::Download;
pub use download_file::DownloadFile;
pub use events::Events;
pub use file_info::FileInfo;
pub use get::Get;
pub use join_group::JoinGroup;
pub use leave_group::LeaveGroup;
pub use limit::Limit;
pub use list::List;
pub use list_files::ListFiles;
pub use list_groups::ListGroups;
pub use list_members::ListMembers;
pub use list_my_groups::ListMyGroups;
pub use list_requests::ListRequests;
pub use login::Login;
pub use logout::Logout;
pub use man::Man;
pub use pause::Pause;
pub use reject_request::RejectRequest;
pub use remove::Remove;
pub use remove_file::RemoveFile;
pub use remove_member::RemoveMember;
pub use resume::Resume;
pub use schema::Schema;
pub use set_policy::SetPolicy;
pub use share::Share;
pub use show_downloads::ShowDownloads;
pub use shutdown::Shutdown;
pub use status::Status;
pub use stop_share::StopShare;
pub use transfer_group::TransferGroup;
pub use upload_file::UploadFile;
pub use verify::Verify;
pub use wait::Wait;
pub use why::Why;

use crate::args::{Cli, Verb};
use crate::error::Failure;
use crate::session::Session;

/// Carries a command out.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let session = Session::new(cli.globals)?;
    match cli.verb {
        Verb::CreateUser(verb) => verb.run(&session),
        Verb::Login(verb) => verb.run(&session),
        Verb::Logout(verb) => verb.run(&session),
        Verb::ChangePassword(verb) => verb.run(&session),
        Verb::Status(verb) => verb.run(&session),
        Verb::CreateGroup(verb) => verb.run(&session),
        Verb::JoinGroup(verb) => verb.run(&session),
        Verb::LeaveGroup(verb) => verb.run(&session),
        Verb::ListGroups(verb) => verb.run(&session),
        Verb::ListMyGroups(verb) => verb.run(&session),
        Verb::ListMembers(verb) => verb.run(&session),
        Verb::ListRequests(verb) => verb.run(&session),
        Verb::AcceptRequest(verb) => verb.run(&session),
        Verb::RejectRequest(verb) => verb.run(&session),
        Verb::RemoveMember(verb) => verb.run(&session),
        Verb::TransferGroup(verb) => verb.run(&session),
        Verb::SetPolicy(verb) => verb.run(&session),
        Verb::DeleteGroup(verb) => verb.run(&session),
        Verb::UploadFile(verb) => verb.run(&session),
        Verb::ListFiles(verb) => verb.run(&session),
        Verb::FileInfo(verb) => verb.run(&session),
        Verb::RemoveFile(verb) => verb.run(&session),
        Verb::DownloadFile(verb) => verb.run(&session),
        Verb::ShowDownloads(verb) => verb.run(&session),
        Verb::Wait(verb) => verb.run(&session),
        Verb::Pause(verb) => verb.run(&session),
        Verb::Resume(verb) => verb.run(&session),
        Verb::Cancel(verb) => verb.run(&session),
        Verb::StopShare(verb) => verb.run(&session),
        Verb::Share(verb) => verb.run(&session),
        Verb::Get(verb) => verb.run(&session),
        Verb::Remove(verb) => verb.run(&session),
        Verb::Download(verb) => verb.run(&session),
        Verb::List(verb) => verb.run(&session),
        Verb::Verify(verb) => verb.run(&session),
        Verb::Why(verb) => verb.run(&session),
        Verb::Limit(verb) => verb.run(&session),
        Verb::Events(verb) => verb.run(&session),
        Verb::Completions(verb) => verb.run(&session),
        Verb::Man(verb) => verb.run(&session),
        Verb::Schema(verb) => verb.run(&session),
        Verb::Shutdown(verb) => verb.run(&session),
    }
}
