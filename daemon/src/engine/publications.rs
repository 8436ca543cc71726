//! Publications that wait: what `upload_file` has hashed and no tracker could list is kept, and listed as soon as one can.
//!
//! The command is told that it waits, with the refusal's exit code. Each is asked for with the id of the first attempt, so that one
//! whose answer was lost is not made twice. One that is refused for good is not asked for again until the next start, and stays
//! in sight with the reason until it is given up or uploaded anew.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::control::{self, LocalPath};
use p2p_proto::escape::shell_word;
use p2p_proto::id::RequestId;
use p2p_proto::name::{FileName, GroupName, UserName};
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::tracker::{self, Reply, Request};

use super::file_info::command_line;
use super::input::CommandId;
use super::problems::PROBLEMS_MAX;
use super::record::{Change, PublicationRecord};
use super::steps::Step;
use super::{Engine, Output, Timer};

/// Publications kept, over all users: a thousand commands that nobody could serve. More are refused as before.
const PUBLICATIONS_MAX: usize = 1_000;

/// Pause between two attempts while trackers answer and cannot.
const RETRY_MS: u64 = 3_000;

/// What names one: as it will name the share.
pub(super) type Key = (UserName, GroupName, FileName);

/// One that waits.
#[derive(Debug)]
struct Publication {
    record: PublicationRecord,
    /// Why it is not tried again.
    refused: Option<Reject>,
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct Publications {
    waiting: BTreeMap<Key, Publication>,
    /// Which one a tracker is asked for now, and by the id of which attempt.
    asking: Option<(Key, RequestId)>,
}

impl Publications {
    /// As they were remembered.
    pub fn new(records: Vec<PublicationRecord>) -> Publications {
        let waiting = records.into_iter().map(|record| (record.key(), Publication { record, refused: None }));
        Publications { waiting: waiting.collect(), asking: None }
    }
}

/// Whether a refusal is none of the group's: a tracker may take it another time.
pub(super) fn may_be_taken_later(reject: &Reject) -> bool {
    matches!(reject.code, ErrorCode::NO_TRACKER | ErrorCode::NO_MAJORITY)
}

impl Engine {
    /// Keeps a publication that no tracker takes now, and tells the command so once that is on disk; just the refusal where there
    /// is no room.
    pub(super) fn publish_later(&mut self, command: CommandId, record: PublicationRecord, refusal: Reject) {
        let key = record.key();
        if self.publications.waiting.len() >= PUBLICATIONS_MAX && !self.publications.waiting.contains_key(&key) {
            return self.fail(command, refusal);
        }
        let change = Change::PutPublication(record.clone());
        let step = Step::PublicationKept(command, Box::new(record), refusal);
        self.remember(step, vec![change]);
    }

    /// It is on disk.
    pub(super) fn publication_kept(&mut self, command: CommandId, record: PublicationRecord, refusal: Reject) {
        let (group, name) = (record.share.group.clone(), record.share.name.clone());
        let give_up = command_line("stop_share", &group, name.as_str(), "");
        let message = format!("{name} waits to be published in {group}: {}", refusal.message);
        let hint = format!(
            "it is published by itself as soon as trackers can; see `p2pctl list`, or give it up with `{give_up}`"
        );
        self.publications.waiting.insert(record.key(), Publication { record, refused: None });
        self.publish_soon();
        self.fail(command, Reject::new(refusal.code, message).hint(hint));
    }

    /// What waits is tried again in a while.
    fn publish_soon(&mut self) {
        self.timers.set_if_unset(Timer::Publish, self.after(Duration::from_millis(RETRY_MS)));
    }

    /// A tracker answers, or another user is logged in: what waits is tried now.
    pub(super) fn publish_now(&mut self) {
        self.timers.set(Timer::Publish, self.now.monotonic);
    }

    /// Asks for the next one of the user who is logged in: first for its group where that is not known, then for the listing.
    pub(super) fn publish_next(&mut self) {
        let Ok(user) = self.user().cloned() else { return };
        if self.publications.asking.is_some() {
            return;
        }
        let mut waiting = self.publications.waiting.values();
        let next = waiting.find(|it| it.refused.is_none() && it.record.share.user == user);
        let Some(record) = next.map(|it| it.record.clone()) else { return };
        let share = &record.share;
        let (key, group) = (record.key(), share.group.clone());
        let request = match share.born {
            None => Request::GroupInfo { group },
            Some(born) => {
                let (name, content, length) = (share.name.clone(), share.content, share.shape.length);
                let replace = record.replace;
                match record.files {
                    Some(files) => Request::PublishFolder { group, born, name, content, length, files, replace },
                    None => Request::Publish { group, name, content, length, replace, born: Some(born) },
                }
            }
        };
        self.publications.asking = Some((key.clone(), record.request));
        if !self.ask_now_as(Step::Publication(key), record.request, request) {
            // Whichever tracker connects is asked.
            self.publications.asking = None;
        }
    }

    /// A tracker has answered for one, or could not.
    pub(super) fn publication_told(&mut self, key: &Key, reply: Reply) {
        let asked = self.publications.asking.take().map(|(_, request)| request);
        let waiting = self.publications.waiting.get_mut(key);
        // Another upload of that name may have taken its place meanwhile.
        let Some(waiting) = waiting.filter(|waiting| Some(waiting.record.request) == asked) else {
            return self.publish_now();
        };
        match reply {
            Ok(tracker::Answer::Groups(page)) => match page.first().filter(|group| group.is_published_in()) {
                Some(group) => waiting.record.share.born = Some(group.born),
                None => waiting.refused = Some(Reject::new(ErrorCode::NOT_MEMBER, "only members may upload to it")),
            },
            Ok(tracker::Answer::Done) => {
                let share = waiting.record.share.clone();
                self.publications.waiting.remove(key);
                let note = format!("{} is published in {}, as it could not be before", share.name, share.group);
                self.outputs.push_back(Output::Note(note));
                let (user, group, name) = key.clone();
                let kept = vec![Change::PutShare(share.clone()), Change::DeletePublication(user, group, name)];
                if self.user().is_ok_and(|user| *user == share.user) {
                    self.put_share(share);
                } else {
                    self.shares.put(share);
                }
                self.remember(Step::Kept, kept);
            }
            Ok(_) => waiting.refused = Some(Reject::new(ErrorCode::MALFORMED, "that is no answer to what was asked")),
            Err(reject) if may_be_taken_later(&reject) || reject.code == ErrorCode::BUSY => return self.publish_soon(),
            // Nobody is logged in as far as that tracker knows; a login tries again.
            Err(reject) if reject.code == ErrorCode::LOGIN_NEEDED => return self.publish_soon(),
            Err(reject) => {
                self.outputs.push_back(Output::Note(format!("{} is not published in {}: {reject}", key.2, key.1)));
                waiting.refused = Some(reject);
            }
        }
        self.publish_now();
    }

    /// Gives up what waits under a name for the user who is logged in; the change to keep, if there was any.
    pub(super) fn give_up_publication(&mut self, group: &GroupName, name: &FileName) -> Option<Change> {
        let user = self.user().ok()?.clone();
        let given_up = self.publications.waiting.remove(&(user.clone(), group.clone(), name.clone()))?;
        let path = given_up.record.share.path;
        if self.is_from_pipe(&path) {
            self.outputs.push_back(Output::DeleteUpload(path));
        }
        Some(Change::DeletePublication(user, group.clone(), name.clone()))
    }

    /// What waits for the user who is logged in.
    fn publications_of_user(&self) -> impl Iterator<Item = &Publication> {
        let user = self.user().ok();
        self.publications.waiting.values().filter(move |it| Some(&it.record.share.user) == user)
    }

    /// What waits, among the shares.
    pub(super) fn publication_rows(&self) -> impl Iterator<Item = control::Share> {
        self.publications_of_user().map(|Publication { record, refused }| control::Share {
            group: record.share.group.clone(),
            name: record.share.name.clone(),
            path: LocalPath(record.share.path.clone()),
            length: record.share.shape.length,
            content: record.share.content,
            seeding: false,
            reason: Some(match refused {
                None => "waits for trackers that can publish it".to_owned(),
                Some(reject) => format!("not published: {reject}"),
            }),
            until_requested: false,
        })
    }

    /// What waits, for the status: a line each, and one for the rest.
    pub(super) fn publications_waiting(&self) -> Vec<String> {
        let more = self.publications_of_user().count().saturating_sub(PROBLEMS_MAX);
        let told = self.publications_of_user().take(PROBLEMS_MAX).map(|Publication { record, refused }| {
            let (group, name) = (&record.share.group, &record.share.name);
            match refused {
                None => format!("{name} waits to be published in {group}"),
                Some(reject) => {
                    let path = shell_word(&record.share.path.to_string_lossy());
                    let again = format!("p2pctl upload_file {path} {}", shell_word(group.as_str()));
                    format!("{name} was not published in {group}: {reject}; `{again}` tries again")
                }
            }
        });
        let more = (more > 0).then(|| format!("{more} other files wait to be published: `p2pctl list` shows them"));
        told.chain(more).collect()
    }
}

#[cfg(test)]
mod tests;
