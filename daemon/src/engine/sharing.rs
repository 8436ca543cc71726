//! What begins and ends the sharing of a file: an upload or a finished download, and on the other side stopping it for
//! good, until somebody asks for it, or together with its listing.

use p2p_proto::control::{Answer, FileRemoved, Happening, LocalPath, ShareStopped};
use p2p_proto::id::ContentId;
use p2p_proto::name::{FileName, FileSelector, GroupName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use p2p_proto::tracker::{Listing, Reply, Request};

use super::Engine;
use super::file_info::{choose_listing, command_line, keep_meant};
use super::input::CommandId;
use super::output::Output;
use super::record::{Change, DownloadPhase, DownloadRecord, Shape, ShareRecord, SourceStamp};
use super::share_groups::GroupNow;
use super::steps::Step;
use super::trackers::Call;

impl Engine {
    /// Takes a file out of sharing, for good or until it is wanted; its readers are told, the listing stays for those who
    /// have it too.
    pub(super) fn stop_share(
        &mut self,
        command: CommandId,
        group: GroupName,
        name: FileName,
        until_requested: bool,
    ) -> Result<(), Reject> {
        self.user()?;
        let waited = self.give_up_publication(&group, &name);
        let Some(share) = self.shares.find(&group, &name).cloned() else {
            if let Some(change) = waited {
                let answer = Answer::ShareStopped(ShareStopped { group, name, until_requested: false });
                self.remember(Step::Told(command, Box::new(answer)), vec![change]);
                return Ok(());
            }
            let message = format!("{name} is not shared from here in {group}");
            return Err(Reject::new(ErrorCode::FILE_NOT_FOUND, message).hint("`p2pctl list` lists what is"));
        };
        let change = if until_requested {
            if let Some(broken) = self.shares.broken(&share) {
                return Err(broken.clone());
            }
            let resting = ShareRecord { resting: true, ..share.clone() };
            self.shares.put(resting.clone());
            Change::PutShare(resting)
        } else {
            self.shares.take(&group, &name);
            Change::DeleteShare(share.user.clone(), share.group.clone(), share.name.clone())
        };
        self.share_stopped(&share, None);
        let answer = Answer::ShareStopped(ShareStopped { group, name, until_requested });
        self.remember(Step::Told(command, Box::new(answer)), waited.into_iter().chain([change]).collect());
        Ok(())
    }

    /// Takes a share of this user's out of the table for good; the change to keep.
    pub(super) fn end_share(&mut self, group: &GroupName, name: &FileName) -> Option<Change> {
        let share = self.shares.take(group, name)?;
        self.share_stopped(&share, None);
        Some(Change::DeleteShare(share.user, share.group, share.name))
    }

    /// Somebody asks for a content that nobody online has: what rests of it here is shared again, and stays so.
    pub(super) fn wake_shares(&mut self, group: &GroupName, content: ContentId) {
        if self.left_groups.contains(group) {
            return;
        }
        let resting = self.shares.resting().filter(|share| share.content == content && share.group == *group);
        let woken: Vec<_> = resting.map(|share| ShareRecord { resting: false, ..share.clone() }).collect();
        for share in &woken {
            self.outputs.push_back(Output::Note(format!("{} is shared with {group} again: it is wanted", share.name)));
            self.put_share(share.clone());
        }
        if !woken.is_empty() {
            self.announce_now();
            self.remember(Step::Kept, woken.into_iter().map(Change::PutShare).collect());
        }
    }

    /// A tracker says when the group was born that has a name now, since this node does not say so of what it shares there.
    /// What was kept without it is of that group if it can be; what is of an earlier one is shared with nobody any more.
    pub(super) fn group_born(&mut self, group: &GroupName, born: UnixMillis) {
        let adopted = self.shares.adopt(group, born);
        self.shares_group_is(group, GroupNow::Born(born));
        if !adopted.is_empty() {
            self.announce_soon();
            self.remember(Step::Kept, adopted.into_iter().map(Change::PutShare).collect());
        }
    }

    /// Whether this user shares a download's content with the same group already. Only then is a copy that was made here
    /// shared with it too: that a group lists a content does not mean that it has it, and who has it in another group only
    /// would hand it over to whoever has listed its id.
    pub(super) fn is_shared_with_group_of(&self, record: &DownloadRecord) -> bool {
        record.born.is_some_and(|born| self.shares.in_group(record.content, &record.group, born).is_some())
    }

    /// Whether a finished download is shared. One share a name: a second copy of a file that is shared already is not a
    /// second share, and what this user uploaded is not replaced by another's file of the same name. What was downloaded
    /// before is: the name stands for something newer now.
    pub(super) fn becomes_share(&self, record: &DownloadRecord) -> bool {
        // Files picked from a folder are not what the listing means.
        if record.only.is_some() {
            return false;
        }
        let Some(share) = self.shares.find(&record.group, &record.name) else { return true };
        let finished = |record: &DownloadRecord| matches!(record.phase, DownloadPhase::Complete(_));
        let downloaded = |share: &ShareRecord| {
            let records = self.downloads.values().map(|download| &download.record);
            records.filter(|record| finished(record)).any(|record| record.destination == share.path)
        };
        self.shares.broken(share).is_some()
            || share.born != record.born
            || share.path == record.destination
            || (share.content != record.content && downloaded(share))
    }

    /// Shares a file, in the place of what was shared under its name.
    pub(super) fn put_share(&mut self, share: ShareRecord) {
        let replaced = self.shares.find(&share.group, &share.name).cloned();
        let started = Happening::ShareStarted {
            group: share.group.clone(),
            name: share.name.clone(),
            content: share.content,
            path: LocalPath(share.path.clone()),
        };
        let content = share.content;
        self.shares.put(share.clone());
        self.is_shared_now(&share);
        if let Some(replaced) = replaced.filter(|replaced| replaced.content != content) {
            self.share_stopped(&replaced, None);
        }
        self.happened(started);
        self.announce_content(content);
    }

    /// A share is out of the table, or rests: its readers are told, and the trackers in a moment.
    pub(super) fn share_stopped(&mut self, share: &ShareRecord, reason: Option<String>) {
        self.refuse_readers(share.content);
        self.announce_content(share.content);
        if !share.resting {
            let (group, name) = (share.group.clone(), share.name.clone());
            self.happened(Happening::ShareStopped { group, name, content: share.content, reason });
        }
    }

    /// Begins to take a listing out of a group: which one is meant?
    pub(super) fn remove_file(
        &mut self,
        command: CommandId,
        group: GroupName,
        file: FileSelector,
    ) -> Result<(), Reject> {
        self.user()?;
        let find = Request::FindFile { group: group.clone(), name: file.name.clone(), owner: file.owner.clone() };
        self.ask(Step::RemoveFound(command, group, file), Call::Request(find));
        Ok(())
    }

    /// The listings of that name: one's own is meant, or the only one.
    pub(super) fn remove_found(
        &mut self,
        command: CommandId,
        group: GroupName,
        file: &FileSelector,
        mut listings: Vec<Listing>,
    ) {
        keep_meant(&mut listings, file);
        let own = |listing: &&Listing| self.user().is_ok_and(|user| listing.owner == *user);
        let chosen = match (listings.iter().find(own), listings.as_slice()) {
            (Some(own), _) => Ok(own.clone()),
            (None, [first, _, ..]) if file.owner.is_none() => Err(several(&listings, &first.name, &group)),
            (None, _) => {
                choose_listing(listings, &group, file, |chosen| command_line("remove_file", &group, chosen, ""))
            }
        };
        match chosen {
            Ok(Listing { name, owner, content, .. }) => {
                let remove =
                    Request::Unpublish { group: group.clone(), name: name.clone(), owner: Some(owner.clone()) };
                let removed = FileRemoved { group, name, owner, unshared: false };
                self.ask(Step::Removed(command, Box::new(removed), content), Call::Request(remove));
            }
            Err(reject) => self.fail(command, reject),
        }
    }

    /// Nothing is listed under that name. What waits to be is given up.
    pub(super) fn remove_not_found(
        &mut self,
        command: CommandId,
        group: GroupName,
        file: &FileSelector,
        reject: Reject,
    ) {
        let is_own = self.user().is_ok_and(|user| file.owner.as_ref().is_none_or(|owner| owner == user));
        let waited = if is_own { self.give_up_publication(&group, &file.name) } else { None };
        match (waited, self.user().cloned()) {
            (Some(change), Ok(owner)) => {
                let removed = FileRemoved { group, name: file.name.clone(), owner, unshared: false };
                self.remember(Step::Told(command, Box::new(Answer::FileRemoved(removed))), vec![change]);
            }
            _ => self.fail(command, reject),
        }
    }

    /// The listing is gone: is the content listed under another name, or by another member?
    pub(super) fn removed(&mut self, command: CommandId, removed: Box<FileRemoved>, content: ContentId) {
        let look = Request::Lookup { group: removed.group.clone(), content };
        self.ask(Step::RemovedContent(command, removed, content), Call::Request(look));
    }

    /// What nobody lists any more is not shared from here any more.
    pub(super) fn removed_content(
        &mut self,
        command: CommandId,
        mut removed: FileRemoved,
        content: ContentId,
        listed: &Reply,
    ) {
        let FileRemoved { group, name, .. } = &removed;
        let of_content = self.shares.of_user().filter(|share| share.content == content && share.group == *group);
        let mut gone: Vec<ShareRecord> = of_content.cloned().collect();
        if listed.is_ok() {
            // Those who find it by another listing are served as before.
            let other_stays = gone.iter().any(|share| share.name != *name);
            gone.retain(|share| other_stays && share.name == *name);
        }
        removed.unshared = listed.is_err() && gone.iter().any(|share| !share.resting);
        for share in &gone {
            self.shares.take(&share.group, &share.name);
            self.share_stopped(share, None);
        }
        let is_own = self.user().is_ok_and(|user| removed.owner == *user);
        let waited = if is_own { self.give_up_publication(&removed.group, &removed.name) } else { None };
        let delete = |share: ShareRecord| Change::DeleteShare(share.user, share.group, share.name);
        let step = Step::Told(command, Box::new(Answer::FileRemoved(removed)));
        self.remember(step, gone.into_iter().map(delete).chain(waited).collect());
    }
}

/// The share that a finished download becomes.
pub(super) fn share_of(record: &DownloadRecord, shape: Shape, stamp: SourceStamp) -> ShareRecord {
    ShareRecord {
        user: record.user.clone(),
        group: record.group.clone(),
        name: record.name.clone(),
        content: record.content,
        shape,
        path: record.destination.clone(),
        stamp,
        added: match record.phase {
            DownloadPhase::Complete(at) => at,
            _ => record.added,
        },
        resting: false,
        born: record.born,
    }
}

/// Several members list a file of that name, and none of the listings is one's own.
fn several(listings: &[Listing], name: &FileName, group: &GroupName) -> Reject {
    let choices: Vec<String> = listings.iter().map(|listing| format!("{}:{name}", listing.owner)).collect();
    Reject::new(ErrorCode::AMBIGUOUS_NAME, format!("several members list a file as {name} in {group}")).hint(format!(
        "say whose: {}, as in `{}`",
        choices.join(" or "),
        command_line("remove_file", group, &choices[0], "")
    ))
}
