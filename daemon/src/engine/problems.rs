//! What is wrong, as `status` tells it: for as long as it is, and no longer.
//!
//! Most of it is read off the state itself: trackers that do not answer, downloads that wait or have stopped, shares that
//! are not served. What the state does not show is noted here with its cause, and goes when that is over.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_proto::id::{DownloadId, NodeId};

use super::input::TrackerId;
use super::{Engine, Output};

/// Problems kept: the newest few are what a person reads.
pub(super) const PROBLEMS_MAX: usize = 8;

/// A peer that lied is told of for so long: no longer asked is it only by the download that it lied to.
const LIAR_SHOWN: Duration = Duration::from_secs(3600);

/// What has to end for a problem to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A tracker takes nothing of what this node announces.
    Announcement(TrackerId),
    /// It has no room for a part of it.
    PartOfAnnouncement(TrackerId),
    /// The journal takes no changes.
    Journal,
    /// Pieces of a download that were here are bad.
    Pieces(DownloadId),
    /// A peer sends what it should not.
    Liar(NodeId),
    /// Something in a watched folder cannot be uploaded.
    Watched(usize),
}

/// What is noted, and since when.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<Cause, (String, Duration)>);

impl Problems {
    /// What is wrong now, the oldest first.
    pub fn texts(&self, now: Duration) -> Vec<String> {
        let is_over =
            |cause: &Cause, since: Duration| matches!(cause, Cause::Liar(_)) && now.saturating_sub(since) >= LIAR_SHOWN;
        let mut current: Vec<_> = self.0.iter().filter(|(cause, (_, since))| !is_over(cause, *since)).collect();
        current.sort_by_key(|(cause, (_, since))| (*since, **cause));
        current.into_iter().map(|(_, (text, _))| text.clone()).collect()
    }

    fn note(&mut self, cause: Cause, text: String, now: Duration) {
        let is_liar = |cause: &Cause| matches!(cause, Cause::Liar(_));
        // A lie is over when it is told, what lasts began when it was noted first.
        let since = self.0.get(&cause).filter(|_| !is_liar(&cause)).map_or(now, |(_, since)| *since);
        self.0.insert(cause, (text, since));
        let goes = self.0.iter().min_by_key(|(cause, (_, since))| (!is_liar(cause), *since)).map(|(cause, _)| *cause);
        if let Some(goes) = goes.filter(|_| self.0.len() > PROBLEMS_MAX) {
            self.0.remove(&goes);
        }
    }
}

impl Engine {
    /// Remembers a problem for `status`, until [`Engine::problem_over`].
    pub(super) fn note_problem(&mut self, cause: Cause, problem: String) {
        self.outputs.push_back(Output::Note(problem.clone()));
        self.problems.note(cause, problem, self.now.monotonic);
    }

    /// What caused a problem is over.
    pub(super) fn problem_over(&mut self, cause: Cause) {
        self.problems.0.remove(&cause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_problems_stay_and_a_cause_has_one() {
        let at = Duration::from_secs;
        let mut problems = Problems::default();
        for second in 0..20 {
            problems.note(Cause::Announcement(TrackerId(second)), format!("{second}"), at(second));
        }
        problems.note(Cause::Announcement(TrackerId(19)), "again".to_owned(), at(30));
        let texts = problems.texts(at(30));
        assert_eq!(texts.len(), PROBLEMS_MAX);
        assert_eq!((texts[0].as_str(), texts[PROBLEMS_MAX - 1].as_str()), ("12", "again"));
    }

    #[test]
    fn a_liar_is_told_of_for_an_hour() {
        let mut problems = Problems::default();
        problems.note(Cause::Liar(NodeId([1; 32])), "lies".to_owned(), Duration::ZERO);
        assert_eq!(problems.texts(LIAR_SHOWN - Duration::from_secs(1)), ["lies"]);
        assert!(problems.texts(LIAR_SHOWN).is_empty());
        problems.note(Cause::Liar(NodeId([1; 32])), "lies again".to_owned(), 2 * LIAR_SHOWN);
        assert_eq!(problems.texts(2 * LIAR_SHOWN), ["lies again"]);
    }

    #[test]
    fn liars_do_not_push_out_what_lasts() {
        let mut problems = Problems::default();
        problems.note(Cause::Journal, "no room".to_owned(), Duration::ZERO);
        for number in 0..20 {
            problems.note(Cause::Liar(NodeId([number; 32])), "lies".to_owned(), Duration::from_secs(number.into()));
        }
        assert_eq!(problems.texts(Duration::from_secs(20))[0], "no room");
    }
}
