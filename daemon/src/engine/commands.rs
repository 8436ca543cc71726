//! Commands: the first step of each verb, and those that follow a download.

use p2p_proto::control::{
    Answer, GroupChange, GroupPolicy, MemberChange, PasswordChanged, Request, Shares, ShuttingDown, UserCreated,
};
use p2p_proto::control::{Downloads, Frame};
use p2p_proto::id::DownloadId;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker;

use super::copies::check_wanted;
use super::downloads::{Download, downloaded};
use super::input::CommandId;
use super::output::{Folders, PasswordChange};
use super::pages::Pages;
use super::pick;
use super::record::DownloadPhase;
use super::report::PROGRESS_MS;
use super::steps::{Step, Upload, Wanted};
use super::trackers::Call;
use super::{Engine, Output, Timer};

impl Engine {
    /// Begins what a command asks for; it is answered when that is done.
    pub(super) fn begin_command(&mut self, command: CommandId, request: Request) {
        self.connected_commands.insert(command);
        if let Err(reject) = self.begin(command, request) {
            self.fail(command, reject);
        }
    }

    /// A command hung up: nobody is told any more.
    pub(super) fn command_gone(&mut self, command: CommandId) {
        self.connected_commands.remove(&command);
        self.followers.remove(&command);
        self.end_stream_to(command);
        self.copy_waits.remove(command);
        self.stop_listening(command);
    }

    /// The first step of a verb, or why there is none.
    fn begin(&mut self, command: CommandId, request: Request) -> Result<(), Reject> {
        match request {
            Request::CreateUser { user, password } => {
                let answer = Answer::UserCreated(UserCreated { user: user.clone() });
                self.ask(Step::Changed(command, Box::new(answer)), Call::Register(user, password));
            }
            Request::Login { user, password } => {
                if let Ok(other) = self.user()
                    && *other != user
                {
                    let message = format!("{other} is logged in here");
                    return Err(
                        Reject::new(ErrorCode::ALREADY_LOGGED_IN, message).hint("log out first with `p2pctl logout`")
                    );
                }
                self.ask(Step::Login(command, user.clone()), Call::Login(user, password));
            }
            Request::Logout => self.log_out(command)?,
            Request::Status => {
                self.ask_devices();
                let ask = self.expect(Step::Measured(command));
                self.outputs.push_back(Output::MeasureDisk(ask));
                // For the next one: this one does not wait for a tracker.
                self.ask_join_requests();
            }
            Request::CreateGroup { group, policy } => {
                let answer = Answer::GroupCreated(GroupPolicy { group: group.clone(), policy });
                self.change(command, answer, tracker::Request::CreateGroup { group, policy })?;
            }
            Request::JoinGroup { group } => {
                self.user()?;
                let join = tracker::Request::JoinGroup { group: group.clone() };
                self.ask(Step::Join(command, group), Call::Request(join));
            }
            Request::LeaveGroup { group, force } => {
                let answer = Answer::GroupLeft(GroupChange { group: group.clone() });
                self.change(command, answer, tracker::Request::LeaveGroup { group, force })?;
            }
            Request::DeleteGroup { group } => {
                let answer = Answer::GroupDeleted(GroupChange { group: group.clone() });
                self.change(command, answer, tracker::Request::DeleteGroup { group })?;
            }
            Request::AcceptRequest { group, user } => {
                let answer = Answer::RequestAccepted(MemberChange { group: group.clone(), user: user.clone() });
                self.change(command, answer, tracker::Request::AcceptRequest { group, user })?;
            }
            Request::RejectRequest { group, user } => {
                let answer = Answer::RequestRejected(MemberChange { group: group.clone(), user: user.clone() });
                self.change(command, answer, tracker::Request::RejectRequest { group, user })?;
            }
            Request::RemoveMember { group, user } => {
                let answer = Answer::MemberRemoved(MemberChange { group: group.clone(), user: user.clone() });
                self.change(command, answer, tracker::Request::RemoveMember { group, user })?;
            }
            Request::TransferGroup { group, user } => {
                let answer = Answer::GroupTransferred(MemberChange { group: group.clone(), user: user.clone() });
                self.change(command, answer, tracker::Request::TransferGroup { group, user })?;
            }
            Request::SetPolicy { group, policy } => {
                let answer = Answer::PolicySet(GroupPolicy { group: group.clone(), policy });
                self.change(command, answer, tracker::Request::SetPolicy { group, policy })?;
            }
            Request::ListGroups { mine } => self.list(command, Pages::Groups(mine, Vec::new()))?,
            Request::ListMembers { group } => self.list(command, Pages::Members(group, Vec::new()))?,
            Request::ListRequests { group } => self.list(command, Pages::Requests(group, Vec::new()))?,
            Request::ListFiles { group } => self.list(command, Pages::Files(group, Vec::new()))?,
            Request::FileInfo { group, file } => {
                self.user()?;
                let (name, owner) = (file.name.clone(), file.owner.clone());
                let find = tracker::Request::FindFile { group: group.clone(), name, owner };
                self.ask(Step::InfoFound(command, group, file), Call::Request(find));
            }
            Request::UploadFile { path, group, name, hash, whole_digest, force, wait_copies, follow_links } => {
                self.user()?;
                let find = tracker::Request::GroupInfo { group: group.clone() };
                check_wanted(wait_copies)?;
                let (path, mtorrent, born, folders) = (path.0, None, None, Folders::Taken { follow_links });
                let request = self.request_id();
                let upload = Upload {
                    path,
                    group,
                    name,
                    hash,
                    whole_digest,
                    folders,
                    force,
                    mtorrent,
                    wait_copies,
                    born,
                    request,
                };
                self.ask(Step::UploadGroup(command, Box::new(upload)), Call::Request(find));
            }
            Request::DownloadFile { group, file, destination, force, detach, only } => {
                pick::check(&only)?;
                self.user()?;
                let (name, owner) = (file.name.clone(), file.owner.clone());
                let find = tracker::Request::FindFile { group: group.clone(), name, owner };
                let only = (!only.is_empty()).then_some(only);
                let wanted = Wanted { group, file, destination: destination.0, force, detach, only };
                self.ask(Step::DownloadFound(command, Box::new(wanted)), Call::Request(find));
            }
            Request::ShowDownloads => {
                let user = self.user()?;
                let is_there = |download: &&Download| download.record.user == *user && !self.is_ended_stream(download);
                let of_user = self.downloads.values().filter(is_there);
                let mut rows: Vec<_> = of_user.map(|download| self.download_row(download)).collect();
                rows.sort_by_key(|row| (row.added, row.id));
                self.tell(command, Answer::Downloads(Downloads { downloads: rows }));
            }
            Request::Wait { id } => {
                let id = self.find_download(&id)?;
                if let Some(download) = self.downloads.get(id).filter(|it| it.record.phase == DownloadPhase::Active) {
                    let row = self.download_row(download);
                    self.outputs.push_back(Output::Tell(command, Frame::Started(row)));
                }
                self.follow(command, id);
            }
            Request::Pause { id } => {
                let id = self.find_download(&id)?;
                self.pause_download(command, id);
            }
            Request::Resume { id } => {
                let id = self.find_download(&id)?;
                self.resume_download(command, id);
            }
            Request::Cancel { id, delete_data } => {
                let id = self.find_download(&id)?;
                self.cancel_download(command, id, delete_data);
            }
            Request::StopShare { group, name, until_requested } => {
                self.stop_share(command, group, name, until_requested)?;
            }
            Request::RemoveFile { group, file } => self.remove_file(command, group, file)?,
            Request::Events => self.listen(command)?,
            Request::Share { path, given, mtorrent } => self.begin_share(command, path.0, given, mtorrent.0)?,
            Request::Get { mtorrent, destination, force, detach } => {
                self.begin_get(command, mtorrent.0, destination.0, force, detach)?;
            }
            Request::Remove { mtorrent } => self.begin_remove(command, mtorrent.0)?,
            Request::ListShares => {
                self.user()?;
                let shares = self.shares.of_user().map(|share| self.share_row(share));
                let shares = shares.chain(self.publication_rows()).collect();
                self.tell(command, Answer::Shares(Shares { shares }));
            }
            Request::Shutdown => {
                self.tell(command, Answer::ShuttingDown(ShuttingDown { process_id: self.config.process_id }));
                self.end();
            }
            Request::ChangePassword { old, new, log_out_everywhere } => {
                let user = self.user()?.clone();
                let logged_out_everywhere = log_out_everywhere;
                let answer = Answer::PasswordChanged(PasswordChanged { user: user.clone(), logged_out_everywhere });
                let change = PasswordChange { user, old, new, log_out_everywhere };
                self.ask(Step::Changed(command, Box::new(answer)), Call::ChangePassword(Box::new(change)));
            }
            Request::Verify { id } => {
                let id = self.find_download(&id)?;
                self.verify_download(command, id)?;
            }
            Request::Why { id } => {
                let why = self.begin_why(self.find_download(&id)?)?;
                self.tell(command, Answer::Why(Box::new(why)));
            }
            Request::Limit { up, down } => self.begin_limit(command, up, down)?,
            Request::Stream { group, file } => {
                self.user()?;
                let (name, owner) = (file.name.clone(), file.owner.clone());
                let find = tracker::Request::FindFile { group: group.clone(), name, owner };
                self.ask(Step::StreamFound(command, group, file), Call::Request(find));
            }
            Request::LogoutNode { node } => {
                self.user()?;
                self.ask(Step::NodesFound(command, node), Call::Request(tracker::Request::ListNodes));
            }
        }
        Ok(())
    }

    /// Asks the tracker for a change that is answered by nothing but its being made.
    fn change(&mut self, command: CommandId, answer: Answer, request: tracker::Request) -> Result<(), Reject> {
        self.user()?;
        self.ask(Step::Changed(command, Box::new(answer)), Call::Request(request));
        Ok(())
    }

    /// Asks the tracker for a list, page by page.
    fn list(&mut self, command: CommandId, pages: Pages) -> Result<(), Reject> {
        self.user()?;
        self.ask_page(command, pages, 0);
        Ok(())
    }

    /// Tells a command how a download goes, until it ends.
    pub(super) fn follow(&mut self, command: CommandId, id: DownloadId) {
        let Some(download) = self.downloads.get(id) else { return };
        if let Err(reject) = download.not_cancelled() {
            return self.fail(command, reject);
        }
        match &download.record.phase {
            DownloadPhase::Complete(_) => {
                if let Some(answer) = downloaded(download) {
                    self.tell(command, Answer::Downloaded(answer));
                }
            }
            DownloadPhase::Failed(reject) => self.fail(command, reject.clone()),
            DownloadPhase::Paused => {
                let message = format!("the download of {} is paused", download.record.name);
                let hint = format!("go on with `p2pctl resume {id}`");
                self.fail(command, Reject::new(ErrorCode::WRONG_STATE, message).hint(hint));
            }
            // It hung up before there was anything to follow.
            DownloadPhase::Active if !self.connected_commands.contains(&command) => (),
            DownloadPhase::Active if self.followers.len() >= self.config.limits.followers_max => {
                let reject = Reject::new(ErrorCode::BUSY, "too many commands follow downloads")
                    .hint("the download goes on; `p2pctl show_downloads` shows it");
                self.fail(command, reject);
            }
            DownloadPhase::Active => {
                self.followers.insert(command, id);
                let at = self.after(std::time::Duration::from_millis(PROGRESS_MS));
                self.timers.set_if_unset(Timer::Progress, at);
            }
        }
    }

    /// Tells all that follow a download how it ended; they follow no longer.
    pub(super) fn tell_followers(&mut self, id: DownloadId, frame: &Frame) {
        for command in self.take_followers(id) {
            self.outputs.push_back(Output::Tell(command, frame.clone()));
        }
        self.end_stream(id);
    }

    /// The commands that follow a download, which they do no longer.
    pub(super) fn take_followers(&mut self, id: DownloadId) -> Vec<CommandId> {
        self.followers.extract_if(.., |_, followed| *followed == id).map(|(command, _)| command).collect()
    }

    /// Tells all that follow a download how far it is.
    pub(super) fn tell_progress(&mut self) {
        for (command, id) in &self.followers {
            if let Some(download) = self.downloads.get(*id) {
                let row = self.download_row(download);
                self.outputs.push_back(Output::Tell(*command, Frame::Progress(row)));
            }
        }
        if !self.followers.is_empty() {
            let at = self.after(std::time::Duration::from_millis(PROGRESS_MS));
            self.timers.set(Timer::Progress, at);
        }
    }
}
