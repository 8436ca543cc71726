//! The public side: `share`, `get` and `remove`, which go by `.mtorrent` files and the built-in group `public`.
//!
//! Whoever has the `.mtorrent` has the content's id, and in the group `public` that is enough to find who has the file:
//! its publisher may be offline, or have taken the listing out.

use std::path::PathBuf;

use p2p_proto::control::{Answer, FileRemoved, LocalPath, Shared, TrackerState, Uploaded};
use p2p_proto::escape::shell_word;
use p2p_proto::manifest::HashAlgorithm;
use p2p_proto::mtorrent;
use p2p_proto::name::{FileName, FileSelector, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{self, BUILT_IN_BORN, Listing, Reply, Request};
use p2p_proto::tracker_info::TrackerAddress;

use super::file_info::command_line;
use super::input::{AskId, CommandId, MtorrentRead, TrackerId};
use super::output::{Folders, MtorrentToWrite};
use super::record::ShareRecord;
use super::steps::{Step, Upload, Wanted};
use super::trackers::Call;
use super::{Engine, Output};

/// Where one of the commands stands, and what it has gathered.
#[derive(Debug)]
pub(super) enum Stage {
    /// `share`: is there room for the `.mtorrent`?
    Place(Upload),
    /// Is the group there?
    Group(Upload),
    /// The share is being remembered; the `.mtorrent` is written next.
    Shared(Box<ShareRecord>, Uploaded, Planned),
    Written(Shared),

    /// `get`: what does the `.mtorrent` say?
    Read(Target),
    /// Does a listing have this content?
    Listed(Sought),
    /// Is somebody online with it?
    Found(Sought),

    /// `remove`: what does the `.mtorrent` say?
    ReadToRemove,
    /// Is it this user's listing?
    Mine(MtorrentRead),
    Removed(MtorrentRead),
}

/// The `.mtorrent` that `share` writes.
#[derive(Debug)]
pub(super) struct Planned {
    place: PathBuf,
    given: String,
}

/// Where `get` puts the file, and how.
#[derive(Debug)]
pub(super) struct Target {
    destination: PathBuf,
    force: bool,
    detach: bool,
}

/// What `get` looks for, and at which trackers.
#[derive(Debug)]
pub(super) struct Sought {
    mtorrent: MtorrentRead,
    target: Target,
    /// Who is asked now; `None` for any, after a wait for one.
    asked: Option<TrackerId>,
    /// Who is asked after that, the next one last: those that the `.mtorrent` names come before the others.
    left: Vec<TrackerId>,
    /// Whether one said that nobody has it.
    nobody: bool,
}

impl Engine {
    /// `share`: nothing is hashed before it is clear that the `.mtorrent` can be written.
    pub(super) fn begin_share(
        &mut self,
        command: CommandId,
        path: PathBuf,
        given: String,
        place: PathBuf,
    ) -> Result<(), Reject> {
        self.user()?;
        let name = mtorrent::file_name(&given)?;
        let (destination, group) = (place.clone(), GroupName::public());
        // What a folder as `place` means. A name that leaves no room for the suffix is then taken as it is.
        let in_folder = format!("{name}{}", mtorrent::SUFFIX).parse().unwrap_or_else(|_| name.clone());
        let mtorrent = Some(Planned { place, given });
        let upload = Upload {
            path,
            group,
            name,
            hash: HashAlgorithm::Sha1,
            whole_digest: false,
            folders: Folders::Refused,
            force: false,
            mtorrent,
            wait_copies: 0,
            born: None,
            request: self.request_id(),
        };
        let ask = self.expect(Step::Public(command, Box::new(Stage::Place(upload))));
        let resolve = Output::ResolveDestination { ask, destination, name: in_folder, length: 0, force: false };
        self.outputs.push_back(resolve);
        Ok(())
    }

    /// `get`.
    pub(super) fn begin_get(
        &mut self,
        command: CommandId,
        mtorrent: PathBuf,
        destination: PathBuf,
        force: bool,
        detach: bool,
    ) -> Result<(), Reject> {
        self.user()?;
        let stage = Stage::Read(Target { destination, force, detach });
        let ask = self.expect(Step::Public(command, Box::new(stage)));
        self.outputs.push_back(Output::ReadMtorrent(ask, mtorrent));
        Ok(())
    }

    /// `remove`.
    pub(super) fn begin_remove(&mut self, command: CommandId, mtorrent: PathBuf) -> Result<(), Reject> {
        self.user()?;
        let ask = self.expect(Step::Public(command, Box::new(Stage::ReadToRemove)));
        self.outputs.push_back(Output::ReadMtorrent(ask, mtorrent));
        Ok(())
    }

    /// The store has looked at where a `.mtorrent` is to go.
    pub(super) fn mtorrent_placed(&mut self, command: CommandId, stage: Stage, result: Result<PathBuf, Reject>) {
        let Stage::Place(mut upload) = stage else { return };
        match result {
            Ok(place) => {
                if let Some(planned) = &mut upload.mtorrent {
                    planned.place = place;
                }
                let info = Request::GroupInfo { group: GroupName::public() };
                self.ask(Step::Public(command, Box::new(Stage::Group(upload))), Call::Request(info));
            }
            Err(reject) => self.fail(command, elsewhere(reject)),
        }
    }

    /// The store has read a `.mtorrent`, or could not.
    pub(super) fn mtorrent_read(&mut self, ask: AskId, result: Result<MtorrentRead, Reject>) {
        let Some(Step::Public(command, stage)) = self.steps.remove(&ask) else { return };
        match (*stage, result) {
            (Stage::Read(target), Ok(mtorrent)) => self.seek(command, mtorrent, target),
            (Stage::ReadToRemove, Ok(mtorrent)) => self.find_mine(command, mtorrent),
            (_, Err(reject)) => self.fail(command, reject),
            (_, Ok(_)) => (),
        }
    }

    /// The `.mtorrent` is written, or what stands without it is told.
    pub(super) fn mtorrent_written(&mut self, ask: AskId, result: Result<(), Reject>) {
        let Some(Step::Public(command, stage)) = self.steps.remove(&ask) else { return };
        let Stage::Written(shared) = *stage else { return };
        match result {
            Ok(()) => self.tell_when_announced(command, Answer::Shared(shared)),
            Err(reject) => {
                let name = &shared.uploaded.name;
                let message = format!("{name} is in the group `public` now, but without its .mtorrent: {reject}");
                let file = self.shares.find(&GroupName::public(), name).map(|share| share.path.to_string_lossy());
                let file = file.map_or("FILE".to_owned(), |path| shell_word(&path));
                let stop = command_line("stop_share", &GroupName::public(), name.as_str(), "");
                let hint = format!("`p2pctl share {file} MTORRENT` writes it elsewhere; `{stop}` ends the sharing");
                self.fail(command, Reject::new(reject.code, message).hint(hint));
            }
        }
    }

    /// The share is on disk: the `.mtorrent` is written.
    pub(super) fn public_remembered(&mut self, command: CommandId, stage: Stage) {
        let Stage::Shared(share, uploaded, Planned { place, given }) = stage else { return };
        let content = share.content;
        self.shares.put(*share);
        self.announce_content(content);
        let Some(trackers) = self.trackers_to_write() else {
            return self.fail(command, Reject::new(ErrorCode::INTERNAL, "this daemon has no tracker to write down"));
        };
        let mtorrent = LocalPath(place.clone());
        let stage = Stage::Written(Shared { uploaded, mtorrent });
        let ask = self.expect(Step::Public(command, Box::new(stage)));
        self.outputs.push_back(Output::WriteMtorrent(ask, MtorrentToWrite { place, content, given, trackers }));
    }

    /// A tracker answered.
    pub(super) fn public_answered(&mut self, command: CommandId, stage: Stage, reply: Reply) {
        match (stage, reply) {
            (Stage::Group(mut upload), Ok(tracker::Answer::Groups(page))) => match page.first() {
                Some(group) if group.is_built_in() => {
                    upload.born = Some(group.born);
                    self.import(command, Box::new(upload));
                }
                Some(group) => self.fail(command, not_built_in(&group.owner)),
                None => self.fail(command, out_of_place()),
            },
            (Stage::Listed(sought), reply) => self.listings_told(command, sought, reply),
            (Stage::Found(sought), reply) => self.found(command, sought, reply),
            (Stage::Mine(mtorrent), Ok(tracker::Answer::Files(listings))) => {
                if listings.iter().any(|listing| listing.content == mtorrent.content) {
                    let (group, name) = (GroupName::public(), mtorrent.name.clone());
                    let step = Step::Public(command, Box::new(Stage::Removed(mtorrent)));
                    self.ask(step, Call::Request(Request::Unpublish { group, name, owner: None }));
                } else {
                    self.fail(command, self.not_mine(&mtorrent));
                }
            }
            (Stage::Mine(mtorrent), Err(reject)) if reject.code == ErrorCode::FILE_NOT_FOUND => {
                self.fail(command, self.not_mine(&mtorrent));
            }
            (Stage::Removed(mtorrent), Ok(tracker::Answer::Done)) => self.taken_out(command, mtorrent),
            (_, Err(reject)) => self.fail(command, reject),
            (_, Ok(_)) => self.fail(command, out_of_place()),
        }
    }

    /// Looks for a content: here, then at one tracker after the other, those first that the `.mtorrent` names.
    fn seek(&mut self, command: CommandId, mtorrent: MtorrentRead, target: Target) {
        let here = self.shares.with_content(mtorrent.content).is_some();
        if here || self.transfers.contains_key(&mtorrent.content) {
            return self.fetch(command, mtorrent, target, None);
        }
        let mut left: Vec<TrackerId> = (0..self.trackers.len() as u64).map(TrackerId).collect();
        // The place among those named; behind them those that are not. The order is otherwise this daemon's own.
        left.sort_by_key(|tracker| {
            let named = mtorrent.trackers.iter().position(|named| self.is_tracker(*tracker, named));
            named.unwrap_or(mtorrent.trackers.len())
        });
        left.reverse();
        self.seek_on(command, Sought { mtorrent, target, asked: None, left, nobody: false });
    }

    /// Asks the next tracker that answers. Where none did, waits for any, as every command does.
    fn seek_on(&mut self, command: CommandId, mut sought: Sought) {
        let (group, name) = (GroupName::public(), sought.mtorrent.name.clone());
        let find = Request::FindFile { group, name, owner: None };
        while let Some(next) = sought.left.pop() {
            if self.tracker_mut(next).is_some_and(|tracker| tracker.state == TrackerState::Ok) {
                sought.asked = Some(next);
                return self.ask_tracker(next, Step::Public(command, Box::new(Stage::Listed(sought))), find);
            }
        }
        if sought.nobody {
            return self.fail(command, self.nobody_has(&sought.mtorrent));
        }
        sought.asked = None;
        self.ask(Step::Public(command, Box::new(Stage::Listed(sought))), Call::Request(find));
    }

    /// A tracker tells what it lists under the file's name: if that is the content, it may be waited for.
    fn listings_told(&mut self, command: CommandId, sought: Sought, reply: Reply) {
        match reply {
            Ok(tracker::Answer::Files(listings)) => {
                match listings.into_iter().find(|listing| listing.content == sought.mtorrent.content) {
                    Some(listing) => self.fetch(command, sought.mtorrent, sought.target, Some(listing)),
                    None => self.look_for(command, sought),
                }
            }
            Err(reject) if reject.code == ErrorCode::FILE_NOT_FOUND => self.look_for(command, sought),
            other => self.not_found_there(command, sought, other),
        }
    }

    /// No listing has the content: is somebody online with it all the same?
    fn look_for(&mut self, command: CommandId, sought: Sought) {
        let (group, content, asked) = (GroupName::public(), sought.mtorrent.content, sought.asked);
        let step = Step::Public(command, Box::new(Stage::Found(sought)));
        let look_up = Request::Lookup { group, content };
        match asked {
            Some(tracker) => self.ask_tracker(tracker, step, look_up),
            None => self.ask(step, Call::Request(look_up)),
        }
    }

    /// A tracker tells who is online with the content, or was.
    fn found(&mut self, command: CommandId, mut sought: Sought, reply: Reply) {
        match reply {
            Ok(tracker::Answer::Providers(found)) if !found.providers.is_empty() || found.last_seeder.is_some() => {
                self.fetch(command, sought.mtorrent, sought.target, None);
            }
            Ok(tracker::Answer::Providers(_)) => {
                sought.nobody = true;
                match sought.asked {
                    Some(_) => self.seek_on(command, sought),
                    None => self.fail(command, self.nobody_has(&sought.mtorrent)),
                }
            }
            other => self.not_found_there(command, sought, other),
        }
    }

    /// A tracker was of no help: the next one is asked, or the command has waited for this one.
    fn not_found_there(&mut self, command: CommandId, sought: Sought, reply: Reply) {
        let lost = matches!(&reply, Err(reject) if reject.code == ErrorCode::NO_TRACKER);
        let last = sought.left.is_empty() && !sought.nobody && !lost;
        match sought.asked {
            Some(_) if !last => self.seek_on(command, sought),
            _ => self.fail(command, reply.err().unwrap_or_else(out_of_place)),
        }
    }

    /// The content can be had, or waited for: from here on it is a download as any other.
    fn fetch(&mut self, command: CommandId, mtorrent: MtorrentRead, target: Target, listed: Option<Listing>) {
        let MtorrentRead { name, content, length, .. } = mtorrent;
        let Target { destination, force, detach } = target;
        let file = FileSelector { owner: None, name: name.clone() };
        let wanted = Wanted { group: GroupName::public(), file, destination, force, detach, only: None };
        // Whose it is, only a listing tells. What is found without one is found in the built-in group alone.
        let (owner, born) = listed.map_or((UserName::public(), BUILT_IN_BORN), |listing| (listing.owner, listing.born));
        let listing =
            Listing { name, owner, content, length, added: self.now.wall, seeders: 0, partial: 0, born, files: None };
        self.resolve(command, Box::new(wanted), listing);
    }

    /// Asks for this user's own listing. Its name is the share's, if the content is shared from here.
    fn find_mine(&mut self, command: CommandId, mut mtorrent: MtorrentRead) {
        let user = match self.user() {
            Ok(user) => user.clone(),
            Err(reject) => return self.fail(command, reject),
        };
        if let Some(name) = self.shared_publicly(&mtorrent) {
            mtorrent.name = name;
        }
        let (group, name) = (GroupName::public(), mtorrent.name.clone());
        let step = Step::Public(command, Box::new(Stage::Mine(mtorrent)));
        self.ask(step, Call::Request(Request::FindFile { group, name, owner: Some(user) }));
    }

    /// The listing is gone: the sharing from here ends too.
    fn taken_out(&mut self, command: CommandId, mtorrent: MtorrentRead) {
        let owner = match self.user() {
            Ok(user) => user.clone(),
            Err(reject) => return self.fail(command, reject),
        };
        let group = GroupName::public();
        let shared = self.shared_publicly(&mtorrent).and_then(|name| self.end_share(&group, &name));
        let unshared = shared.is_some();
        let answer = Answer::FileRemoved(FileRemoved { group, name: mtorrent.name, owner, unshared });
        match shared {
            Some(ended) => self.remember(Step::Told(command, Box::new(answer)), vec![ended]),
            None => self.tell(command, answer),
        }
    }

    /// Under which name this user shares a content in the group `public` from here.
    fn shared_publicly(&self, mtorrent: &MtorrentRead) -> Option<FileName> {
        let public = GroupName::public();
        let mut shares = self.shares.of_user();
        let share = shares.find(|share| share.group == public && share.content == mtorrent.content)?;
        Some(share.name.clone())
    }

    /// The first two trackers of this daemon, or its one twice, with their keys' names as far as they are known.
    fn trackers_to_write(&self) -> Option<[TrackerAddress; 2]> {
        let mut addresses = self.trackers.iter().filter_map(|tracker| {
            let address: TrackerAddress = tracker.address.parse().ok()?;
            Some(TrackerAddress { pin: address.pin.or(tracker.node), ..address })
        });
        let first = addresses.next()?;
        let second = addresses.next().unwrap_or_else(|| first.clone());
        Some([first, second])
    }

    /// Whether one of this daemon's trackers is the one that a `.mtorrent` names.
    fn is_tracker(&self, tracker: TrackerId, named: &TrackerAddress) -> bool {
        let known = usize::try_from(tracker.0).ok().and_then(|place| self.trackers.get(place));
        known.is_some_and(|known| {
            let same_key = known.node.is_some() && known.node == named.pin;
            let address: Option<TrackerAddress> = known.address.parse().ok();
            same_key || address.is_some_and(|address| address.host_port == named.host_port)
        })
    }

    fn nobody_has(&self, mtorrent: &MtorrentRead) -> Reject {
        let [first, second] = &mtorrent.trackers;
        let same = first == second;
        let named = if same { first.to_string() } else { format!("{first} and {second}") };
        let message = format!(
            "nobody online has {}, and it is not listed in the group `public`; its .mtorrent names the tracker {named}",
            mtorrent.name
        );
        let all = (0..self.trackers.len() as u64).map(TrackerId);
        let known =
            all.into_iter().any(|tracker| mtorrent.trackers.iter().any(|named| self.is_tracker(tracker, named)));
        let flags = if same { format!("--tracker {first}") } else { format!("--tracker {first} --tracker {second}") };
        Reject::new(ErrorCode::NO_SEEDER, message).hint(if known {
            "try again when somebody who has it is online".to_owned()
        } else {
            format!("this daemon asks none of those trackers: p2pd {flags}")
        })
    }

    fn not_mine(&self, mtorrent: &MtorrentRead) -> Reject {
        let message = format!("you list no file with the content of {} in the group `public`", mtorrent.name);
        Reject::new(ErrorCode::FILE_NOT_FOUND, message).hint(match self.shared_publicly(mtorrent) {
            Some(_) => "it is shared from here all the same; end that with: p2pctl stop_share public NAME",
            None => "see what is listed, and by whom, with: p2pctl list_files public",
        })
    }
}

/// Where `public` is a group of somebody's.
fn not_built_in(owner: &UserName) -> Reject {
    let message = format!("at this tracker `public` is a group of `{owner}` from before there was a built-in one");
    Reject::new(ErrorCode::NOT_ALLOWED, message)
        .hint("the built-in one takes its place when its owner ends it with: p2pctl delete_group public")
}

/// A `.mtorrent` cannot be put where it was to go.
fn elsewhere(reject: Reject) -> Reject {
    match reject.code {
        ErrorCode::DESTINATION_EXISTS => reject.hint("name another one: p2pctl share FILE MTORRENT"),
        _ => reject,
    }
}

fn out_of_place() -> Reject {
    Reject::new(ErrorCode::MALFORMED, "the tracker's answer is not one to what was asked")
}

#[cfg(test)]
mod tests;
