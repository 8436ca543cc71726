//! Steps: what an answer from a tracker or the store is for, and what comes after it.

use std::path::{Path, PathBuf};

use p2p_proto::control::{
    Answer, FileInfo, FileRemoved, Frame, GroupJoined, Hashing, LocalPath, NodePrefix, RateLimits, Uploaded,
    UploadedFolder,
};
use p2p_proto::escape::shell_word;
use p2p_proto::id::{ContentId, DownloadId, RequestId};
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::name::{FileName, FileSelector, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{self, Joined, Listing, Reply, Request};

use super::file_info::{choose_listing, command_line, hex};
use super::input::{AskId, CommandId, Imported, ImportedFolder, TrackerId};
use super::output::Folders;
use super::pages::Pages;
use super::problems::Cause;
use super::public::{Planned, Stage};
use super::publications::{self, may_be_taken_later};
use super::record::{Change, DownloadPhase, DownloadRecord, PublicationRecord, ShareRecord};
use super::trackers::Call;
use super::{Engine, Output};

/// Why something was asked. Those of a command carry its number and what has been gathered for its answer.
#[derive(Debug)]
pub(super) enum Step {
    // A tracker answers.
    /// The change is made: tell this.
    Changed(CommandId, Box<Answer>),
    Login(CommandId, UserName),
    Logout(CommandId, UserName),
    Join(CommandId, GroupName),
    /// … behind pages of so many bytes.
    Page(CommandId, Box<Pages>, usize),
    NodesFound(CommandId, NodePrefix),
    Devices(UserName),
    InfoFound(CommandId, GroupName, FileSelector),
    InfoProviders(CommandId, GroupName, Box<Listing>),
    UploadGroup(CommandId, Box<Upload>),
    Published(CommandId, Box<Upload>, Box<Imported>),
    DownloadFound(CommandId, Box<Wanted>),
    StreamFound(CommandId, GroupName, FileSelector),
    /// Of `share`, `get` or `remove`; some of these the store answers.
    Public(CommandId, Box<Stage>),
    ResumeGranted(CommandId, DownloadId),
    /// How much a tracker knows, which every answer says.
    Asked,
    LookedUp(ContentId),
    Granted(GroupName),
    Announced(TrackerId),
    RemoveFound(CommandId, GroupName, FileSelector),
    Removed(CommandId, Box<FileRemoved>, ContentId),
    RemovedContent(CommandId, Box<FileRemoved>, ContentId),
    JoinRequests(UserName),
    /// Of something shared: is it there, and may this user read it?
    ShareGroup(GroupName),
    /// How many copies there are; the command waits for more than this answer.
    Copies(CommandId),
    /// Of what waits to be published.
    Publication(publications::Key),

    // The store answers.
    Hashed(CommandId, Box<Upload>),
    Resolved(CommandId, Box<Wanted>, Box<Listing>),
    Described(CommandId, Box<FileInfo>),
    Measured(CommandId),
    /// On disk now: tell this.
    Told(CommandId, Box<Answer>),
    /// On disk now: tell this, or, where copies are wanted, how many there are.
    Shared(CommandId, Box<ShareRecord>, Box<Uploaded>, u32),
    DownloadKept(CommandId, Box<DownloadRecord>, bool),
    DownloadChanged(CommandId, DownloadId),
    Downloaded(DownloadId),
    Limited(CommandId, RateLimits),
    /// On disk now: it waits to be published, for this reason.
    PublicationKept(CommandId, Box<PublicationRecord>, Reject),
    Verified(CommandId, DownloadId),
    /// On disk now, and nobody waits for it.
    Kept,
}

/// What `upload_file` asks for.
#[derive(Debug)]
pub(super) struct Upload {
    pub path: PathBuf,
    pub group: GroupName,
    pub name: FileName,
    pub hash: HashAlgorithm,
    pub whole_digest: bool,
    pub folders: Folders,
    /// Replaces this user's listing of that name.
    pub force: bool,
    /// The `.mtorrent` to write, for `share`.
    pub mtorrent: Option<Planned>,
    /// Answered when so many other nodes hold all of it.
    pub wait_copies: u32,
    /// When the group was born, once a tracker has said so.
    pub born: Option<UnixMillis>,
    /// The id under which it is published, however often that is asked for.
    pub request: RequestId,
}

/// What `download_file` asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    pub group: GroupName,
    pub file: FileSelector,
    pub destination: PathBuf,
    pub force: bool,
    pub detach: bool,
    /// The files that are wanted of a folder; `None`: all of it.
    pub only: Option<Vec<String>>,
}

impl Engine {
    /// Notes what the answer to a question is for; the question's number.
    pub(super) fn expect(&mut self, step: Step) -> AskId {
        let ask = AskId(self.number());
        self.steps.insert(ask, step);
        ask
    }

    /// The last frame for a command: its answer.
    pub(super) fn tell(&mut self, command: CommandId, answer: Answer) {
        self.outputs.push_back(Output::Tell(command, Frame::Result(Ok(answer))));
    }

    /// The last frame for a command: its refusal.
    pub(super) fn fail(&mut self, command: CommandId, reject: Reject) {
        self.outputs.push_back(Output::Tell(command, Frame::Result(Err(reject))));
    }

    /// A tracker answered: the step's next one, or the end of its command.
    pub(super) fn go_on(&mut self, step: Step, reply: Reply) {
        match (step, reply) {
            (Step::LookedUp(content), Ok(tracker::Answer::Providers(found))) => self.looked_up(content, Ok(found)),
            (Step::LookedUp(content), Err(reject)) => self.looked_up(content, Err(reject)),
            (Step::Granted(group), Ok(tracker::Answer::Grant(grant))) => self.granted(group, Ok(grant)),
            (Step::Granted(group), Err(reject)) => self.granted(group, Err(reject)),
            (Step::ResumeGranted(command, id), Ok(tracker::Answer::Grant(grant))) => {
                self.resume_granted(command, id, Ok(grant));
            }
            (Step::ResumeGranted(command, id), Err(reject)) => self.resume_granted(command, id, Err(reject)),
            (Step::Publication(key), reply) => self.publication_told(&key, reply),
            (Step::Announced(tracker), reply) => self.announced(tracker, reply.map(drop)),

            (Step::Copies(command), Ok(tracker::Answer::Providers(found))) => self.copies_told(command, &found),

            (Step::JoinRequests(user), reply) => self.join_requests_told(&user, reply),
            (Step::ShareGroup(group), reply) => self.share_group_told(&group, reply),
            (Step::RemovedContent(command, removed, content), reply) => {
                self.removed_content(command, *removed, content, &reply);
            }

            (Step::Changed(command, answer), Ok(tracker::Answer::Done)) => {
                self.join_requests_changed(&answer);
                self.tell(command, *answer);
            }
            (Step::Login(command, user), Ok(tracker::Answer::Done)) => self.logged_in(command, user),
            (Step::Logout(command, user), Ok(tracker::Answer::Done)) => self.logged_out(command, user),
            (Step::Join(command, group), Ok(tracker::Answer::Joined(joined))) => {
                let waiting_for = match joined {
                    Joined::Member => None,
                    Joined::Waiting { owner } => Some(owner),
                };
                let member = waiting_for.is_none();
                self.tell(command, Answer::GroupJoined(GroupJoined { group, member, waiting_for }));
            }
            (Step::Page(command, pages, bytes), Ok(page)) => self.take_page(command, *pages, bytes, page),
            (Step::NodesFound(command, prefix), Ok(tracker::Answer::Nodes(nodes))) => {
                if let Err(reject) = self.log_out_node(command, &prefix, &nodes) {
                    self.fail(command, reject);
                }
            }
            (Step::Devices(user), reply) => self.devices_told(&user, reply),
            (Step::InfoFound(command, group, file), Ok(tracker::Answer::Files(listings))) => {
                self.info_found(command, group, &file, listings);
            }
            (Step::InfoProviders(command, group, listing), Ok(tracker::Answer::Providers(found))) => {
                self.info_providers(command, group, *listing, found);
            }
            (Step::RemoveFound(command, group, file), Ok(tracker::Answer::Files(listings))) => {
                self.remove_found(command, group, &file, listings);
            }
            (Step::RemoveFound(command, group, file), Err(reject)) if reject.code == ErrorCode::FILE_NOT_FOUND => {
                self.remove_not_found(command, group, &file, reject);
            }
            (Step::Removed(command, removed, content), Ok(tracker::Answer::Done)) => {
                self.removed(command, removed, content);
            }
            (Step::Public(command, stage), reply) => self.public_answered(command, *stage, reply),
            (Step::UploadGroup(command, mut upload), Ok(tracker::Answer::Groups(page))) => {
                if let Some(group) = page.first().filter(|group| group.is_published_in()) {
                    upload.born = Some(group.born);
                    self.import(command, upload);
                } else {
                    let reject = Reject::new(
                        ErrorCode::NOT_MEMBER,
                        format!("only members of {} may upload to it", upload.group),
                    )
                    .hint(format!("ask to join with `p2pctl join_group {}`", shell_word(upload.group.as_str())));
                    self.fail(command, reject);
                }
            }
            // Which group that is, is asked when one answers.
            (Step::UploadGroup(command, upload), Err(reject)) if reject.code == ErrorCode::NO_TRACKER => {
                self.import(command, upload);
            }
            (Step::Published(command, upload, imported), Ok(tracker::Answer::Done)) => {
                self.published(command, *upload, *imported);
            }
            (Step::Published(command, upload, imported), Err(reject))
                if may_be_taken_later(&reject) && upload.mtorrent.is_none() =>
            {
                match self.share_to_be(&upload, &imported) {
                    Ok(share) => {
                        let record = PublicationRecord {
                            share,
                            replace: upload.force,
                            request: upload.request,
                            files: imported.folder.as_ref().map(|folder| folder.files),
                        };
                        self.publish_later(command, record, reject);
                    }
                    Err(reject) => self.fail(command, reject),
                }
            }
            (Step::DownloadFound(command, wanted), Ok(tracker::Answer::Files(listings))) => {
                let group = &wanted.group;
                let example = |chosen: &str| command_line("download_file", group, chosen, " DEST");
                match choose_listing(listings, group, &wanted.file, example) {
                    Ok(listing) => self.resolve(command, wanted, listing),
                    Err(reject) => self.fail(command, reject),
                }
            }
            (Step::StreamFound(command, group, file), Ok(tracker::Answer::Files(listings))) => {
                let example = |chosen: &str| command_line("download_file", &group, chosen, " -");
                let found = choose_listing(listings, &group, &file, example);
                if let Err(reject) = found.and_then(|listing| self.begin_stream(command, group, listing)) {
                    self.fail(command, reject);
                }
            }
            (step, Err(reject)) => {
                if let Some(command) = step.command() {
                    self.fail(command, reject);
                }
            }
            (step, Ok(_)) => {
                if let Some(command) = step.command() {
                    self.fail_misanswered(command);
                }
            }
        }
    }

    /// The last frame for a command whose question a tracker has answered with something else.
    pub(super) fn fail_misanswered(&mut self, command: CommandId) {
        self.fail(command, Reject::new(ErrorCode::MALFORMED, "the tracker's answer is not one to what was asked"));
    }

    pub(super) fn import_progress(&mut self, ask: AskId, done_bytes: u64, length: u64) {
        let (command, path) = match self.steps.get(&ask) {
            Some(Step::Hashed(command, upload)) => (*command, upload.path.clone()),
            Some(Step::Verified(command, id)) => match self.downloads.get(*id) {
                Some(download) => (*command, download.record.destination.clone()),
                None => return,
            },
            _ => return,
        };
        let hashing = Hashing { path: LocalPath(path), done_bytes, length };
        self.outputs.push_back(Output::Tell(command, Frame::Hashing(hashing)));
    }

    /// Whether a file came from a command's standard input, and is this daemon's to delete.
    pub(super) fn is_from_pipe(&self, path: &Path) -> bool {
        path.parent() == Some(&self.config.uploads_folder)
    }

    /// The file is hashed: it is listed next, so that nobody is told of a file that cannot be found.
    pub(super) fn imported(&mut self, ask: AskId, result: Result<Imported, Reject>) {
        let Some(Step::Hashed(command, upload)) = self.steps.remove(&ask) else { return };
        // What came from standard input and was interrupted may be cut short where it came from, too.
        if self.is_from_pipe(&upload.path) && !self.connected_commands.contains(&command) {
            return self.outputs.push_back(Output::DeleteUpload(upload.path));
        }
        match result {
            // No tracker has said which group it is.
            Ok(imported) if upload.born.is_none() => {
                let reject = self.no_tracker();
                self.go_on(Step::Published(command, upload, Box::new(imported)), Err(reject));
            }
            Ok(imported) => {
                let (group, name) = (upload.group.clone(), upload.name.clone());
                let (content, length, replace) = (imported.content, imported.shape.length, upload.force);
                let publish = match (&imported.folder, upload.born) {
                    (Some(ImportedFolder { files, .. }), Some(born)) => {
                        Request::PublishFolder { group, born, name, content, length, files: *files, replace }
                    }
                    (_, born) => Request::Publish { group, name, content, length, replace, born },
                };
                let id = upload.request;
                self.ask_as(Step::Published(command, upload, Box::new(imported)), id, Call::Request(publish));
            }
            Err(reject) => self.fail(command, reject),
        }
    }

    pub(super) fn destination_resolved(&mut self, ask: AskId, result: Result<PathBuf, Reject>) {
        let (command, wanted, listing) = match self.steps.remove(&ask) {
            Some(Step::Resolved(command, wanted, listing)) => (command, wanted, listing),
            Some(Step::Public(command, stage)) => return self.mtorrent_placed(command, *stage, result),
            _ => return,
        };
        let result = result.map_err(|reject| match reject.code {
            ErrorCode::DESTINATION_EXISTS if listing.files.is_some() => {
                reject.hint("a folder replaces nothing: move it away, or choose another destination")
            }
            _ => reject,
        });
        let checked = result.and_then(|destination| match self.download_into(&destination) {
            Some(record) => Err(Reject::new(
                ErrorCode::DESTINATION_EXISTS,
                format!("another download is making {} already", destination.display()),
            )
            .hint(format!("follow it with `p2pctl wait {}`", record.id))),
            None => Ok((destination, self.user()?.clone())),
        });
        match checked {
            Ok((destination, user)) => {
                let record = DownloadRecord {
                    id: DownloadId(self.random.u64(..).to_be_bytes()),
                    user,
                    group: wanted.group,
                    name: listing.name,
                    owner: listing.owner,
                    content: listing.content,
                    length: listing.length,
                    destination,
                    force: wanted.force,
                    added: self.now.wall,
                    fetched_bytes: 0,
                    shape: None,
                    phase: DownloadPhase::Active,
                    born: Some(listing.born),
                    only: wanted.only,
                    wanted_bytes: None,
                    wanted_pieces: None,
                };
                let step = Step::DownloadKept(command, Box::new(record.clone()), wanted.detach);
                self.remember(step, vec![Change::PutDownload(record)]);
            }
            Err(reject) => self.fail(command, reject),
        }
    }

    pub(super) fn disk_measured(&mut self, ask: AskId, free_bytes: Option<u64>) {
        if let Some(Step::Measured(command)) = self.steps.remove(&ask) {
            self.tell_status(command, free_bytes);
        }
    }

    pub(super) fn remembered(&mut self, ask: AskId, result: Result<(), Reject>) {
        let Some(step) = self.steps.remove(&ask) else { return };
        if let Err(reject) = result {
            if let Step::Limited(..) = step {
                self.not_limited();
            }
            match step.command() {
                Some(command) => self.fail(command, reject),
                None => {
                    let problem = format!("this daemon's state cannot be kept on disk: {reject}");
                    self.note_problem(Cause::Journal, problem);
                    if let Step::Downloaded(id) = step {
                        self.tell_followers(id, &Frame::Result(Err(reject)));
                    }
                }
            }
            return;
        }
        self.problem_over(Cause::Journal);
        match step {
            // Others are to see it when the command has ended.
            Step::Told(command, answer) if matches!(*answer, Answer::ShareStopped(_) | Answer::FileRemoved(_)) => {
                self.tell_when_announced(command, *answer);
            }
            Step::Told(command, answer) => self.tell(command, *answer),
            Step::Shared(command, share, uploaded, wanted) => {
                self.put_share(*share);
                match wanted {
                    0 => self.tell_when_announced(command, Answer::Uploaded(*uploaded)),
                    _ => self.wait_for_copies(command, *uploaded, wanted),
                }
            }
            Step::Public(command, stage) => self.public_remembered(command, *stage),
            Step::DownloadKept(command, record, detach) => self.download_kept(command, *record, detach),
            Step::DownloadChanged(command, id) => {
                match self.downloads.get(id).map(|download| self.download_row(download)) {
                    Some(row) => self.tell(command, Answer::DownloadChanged(row)),
                    None => {
                        self.fail(command, Reject::new(ErrorCode::CANCELLED, "the download was cancelled meanwhile"))
                    }
                }
            }
            Step::Downloaded(id) => self.downloaded(id),
            Step::Limited(command, limits) => self.limited(command, limits),
            Step::PublicationKept(command, record, refusal) => self.publication_kept(command, *record, refusal),
            _ => (),
        }
    }

    /// Hashes the file.
    pub(super) fn import(&mut self, command: CommandId, upload: Box<Upload>) {
        let (path, hash, whole_digest, folders) =
            (upload.path.clone(), upload.hash, upload.whole_digest, upload.folders);
        let ask = self.expect(Step::Hashed(command, upload));
        self.outputs.push_back(Output::Import { ask, path, hash, whole_digest, folders });
    }

    /// The file is listed: it is shared as soon as that is remembered.
    fn published(&mut self, command: CommandId, upload: Upload, imported: Imported) {
        let share = match self.share_to_be(&upload, &imported) {
            Ok(share) => share,
            Err(reject) => return self.fail(command, reject),
        };
        let pieces = imported.shape.geometry().map_or(0, |geometry| geometry.piece_count());
        let waited = self.give_up_publication(&share.group, &share.name);
        let uploaded = Uploaded {
            group: upload.group,
            name: upload.name,
            content: imported.content,
            length: imported.shape.length,
            pieces,
            hash: imported.shape.hash,
            whole_sha256: imported.whole_sha256.map(|digest| hex(&digest)),
            elapsed_ms: u64::try_from(imported.elapsed.as_millis()).unwrap_or(u64::MAX),
            folder: imported.folder.map(|folder| UploadedFolder {
                files: folder.files,
                empty_folders: folder.empty_folders,
                links: folder.links,
                followed: folder.followed,
            }),
        };
        let step = match upload.mtorrent {
            None => Step::Shared(command, Box::new(share.clone()), Box::new(uploaded), upload.wait_copies),
            Some(planned) => Step::Public(command, Box::new(Stage::Shared(Box::new(share.clone()), uploaded, planned))),
        };
        self.remember(step, waited.into_iter().chain([Change::PutShare(share)]).collect());
    }

    /// The share that an upload becomes.
    fn share_to_be(&self, upload: &Upload, imported: &Imported) -> Result<ShareRecord, Reject> {
        Ok(ShareRecord {
            user: self.user()?.clone(),
            group: upload.group.clone(),
            name: upload.name.clone(),
            content: imported.content,
            shape: imported.shape,
            path: upload.path.clone(),
            stamp: imported.stamp,
            added: self.now.wall,
            resting: false,
            born: upload.born,
        })
    }

    /// The file is found: where does it go?
    pub(super) fn resolve(&mut self, command: CommandId, wanted: Box<Wanted>, listing: Listing) {
        // A folder replaces nothing.
        let (destination, force) = (wanted.destination.clone(), wanted.force && listing.files.is_none());
        // How much of a folder is wanted is known with its manifest; the disk is looked at then.
        let length = if wanted.only.is_some() { 0 } else { listing.length };
        let name = listing.name.clone();
        if wanted.only.is_some() && listing.files.is_none() {
            let message = format!("{name} is a file, and --only picks files of a folder");
            return self.fail(command, Reject::new(ErrorCode::USAGE, message).hint("leave out --only"));
        }
        let ask = self.expect(Step::Resolved(command, wanted, Box::new(listing)));
        self.outputs.push_back(Output::ResolveDestination { ask, destination, name, length, force });
    }

    /// The download is remembered: it begins.
    fn download_kept(&mut self, command: CommandId, record: DownloadRecord, detach: bool) {
        let id = record.id;
        self.add_download(record);
        self.tell_state(id);
        let Some(row) = self.downloads.get(id).map(|download| self.download_row(download)) else { return };
        if detach {
            self.tell(command, Answer::DownloadStarted(row));
        } else {
            self.outputs.push_back(Output::Tell(command, Frame::Started(row)));
            self.follow(command, id);
        }
    }
}

impl Engine {
    /// The daemon ends: every command that waits is told so.
    pub(super) fn dismiss_commands(&mut self) {
        self.tell_waiting_statuses();
        for (command, answer) in std::mem::take(&mut self.told_when_announced) {
            self.tell(command, answer);
        }
        let mut waiting: Vec<CommandId> = self.steps.values().filter_map(Step::command).collect();
        for id in self.downloads.open_ids() {
            waiting.extend(self.downloads.get_mut(id).and_then(|download| download.cancelled_by.take()));
        }
        waiting.extend(std::mem::take(&mut self.followers).into_keys());
        waiting.extend(self.copy_waits.take());
        waiting.extend(self.take_listeners());
        for command in waiting {
            let reject = Reject::new(ErrorCode::NO_DAEMON, "the daemon was stopped")
                .hint("downloads go on when it is started again, as any command does by itself");
            self.fail(command, reject);
        }
    }
}

impl Step {
    /// The command that waits for this.
    pub(super) fn command(&self) -> Option<CommandId> {
        match self {
            Step::Changed(command, ..)
            | Step::Login(command, ..)
            | Step::Logout(command, ..)
            | Step::Join(command, ..)
            | Step::Page(command, ..)
            | Step::NodesFound(command, ..)
            | Step::InfoFound(command, ..)
            | Step::InfoProviders(command, ..)
            | Step::UploadGroup(command, ..)
            | Step::Published(command, ..)
            | Step::DownloadFound(command, ..)
            | Step::StreamFound(command, ..)
            | Step::ResumeGranted(command, _)
            | Step::RemoveFound(command, ..)
            | Step::Removed(command, ..)
            | Step::RemovedContent(command, ..)
            | Step::Public(command, ..)
            | Step::Hashed(command, ..)
            | Step::Resolved(command, ..)
            | Step::Described(command, ..)
            | Step::Measured(command)
            | Step::Told(command, ..)
            | Step::PublicationKept(command, ..)
            | Step::Shared(command, ..)
            | Step::DownloadKept(command, ..)
            | Step::Limited(command, ..)
            | Step::Verified(command, ..)
            | Step::DownloadChanged(command, ..) => Some(*command),
            Step::Asked
            | Step::LookedUp(_)
            | Step::Granted(_)
            | Step::Announced(_)
            | Step::JoinRequests(_)
            | Step::ShareGroup(_)
            | Step::Devices(_)
            | Step::Copies(_)
            | Step::Publication(_)
            | Step::Downloaded(_)
            | Step::Kept => None,
        }
    }
}
