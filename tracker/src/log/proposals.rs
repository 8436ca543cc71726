//! Changes on their way into the log: those that wait share one place in it, and one write to the disk.
//!
//! Where another tracker leads, a batch is sent to it once as it is. Whoever leads is asked again, with the same request
//! ids, as long as it is not known whether a batch was taken: the state applies each of them once.

use std::sync::Arc;
use std::time::Duration;

use openraft::Raft;
use openraft::error::{ClientWriteError, RaftError};
use p2p_proto::reject::{ErrorCode, Reject};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::failure::Failure;
use super::machine::Shared;
use super::network::{Forwarded, Links};
use super::types::{Batch, Replies, Types};
use super::{handover, quorum};
use crate::state::{Entry, Outcome};

/// Entries that share a place. Enough that the disk's delay is divided among all who wait; few enough that one write and
/// one message to a follower stay within a few megabytes.
pub(super) const BATCH_ENTRIES_MAX: usize = 1_024;

/// How long a change may wait for a leader and a majority, with an election in between: so that a daemon can ask another tracker
/// then, within ten seconds in all.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long an attempt may take at least, whatever was waited before it: a slow disk, twice.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Pause before a batch is tried again: an election takes seconds, the word of its end comes by itself.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the answer to a forwarded change may wait until the change is seen here too.
const CATCH_UP: Duration = Duration::from_secs(2);

/// What the queue holds.
#[expect(clippy::large_enum_variant, reason = "nearly all are proposals")]
pub(super) enum Message {
    /// Agree on an entry, apply it, answer.
    Propose(Proposal),
    /// Have another tracker lead before the next one of these, if this one does; answer.
    HandOver(oneshot::Sender<()>),
    /// Finish what waits, write a snapshot, answer, end.
    Stop(oneshot::Sender<()>),
}

/// An entry and who waits for its answer.
pub(super) struct Proposal {
    pub entry: Entry,
    /// Comes from another tracker, and goes to no third one.
    pub forwarded: bool,
    /// Since when it waits.
    pub since: Instant,
    pub reply: oneshot::Sender<Answered>,
}

/// What a proposal is answered with.
#[derive(Debug)]
pub(super) enum Answered {
    /// What came of it, and the place behind it in the log.
    Applied(Result<Outcome, Reject>, u64),
    /// It was not taken, or nobody knows.
    Refused(Reject),
    /// It was forwarded to a tracker that does not lead.
    NotLeader,
}

/// What the queue's other end works with.
pub(super) struct Proposer {
    pub raft: Raft<Types>,
    pub shared: Arc<Shared>,
    pub links: Arc<Links>,
    pub failure: Failure,
}

impl Proposer {
    /// Runs until it is stopped, nobody can propose any more, or the log has failed.
    pub async fn run(self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.recv().await {
            let (batch, last) = collect(&mut queue, first);
            if !batch.is_empty() {
                tokio::select! {
                    biased;
                    _ = self.failure.wait() => return,
                    () = self.submit(batch) => {}
                }
            }
            // Who asked for either may have stopped waiting.
            match last {
                Some(Last::HandOver(done)) => {
                    handover::hand_over(&self.raft, &self.links).await;
                    let _ = done.send(());
                }
                Some(Last::Stop(done)) => {
                    self.stop().await;
                    let _ = done.send(());
                    return;
                }
                None => {}
            }
        }
    }

    /// Agrees on a batch and answers it. One that has waited too long already, behind others that found no leader, is tried
    /// once.
    async fn submit(&self, mut proposals: Vec<Proposal>) {
        let now = Instant::now();
        let deadline = proposals.iter().map(|proposal| proposal.since).min().unwrap_or(now) + DEADLINE;
        let deadline = deadline.max(now + ATTEMPT);
        let mut leader = self.raft.metrics();
        loop {
            let leads = leader.borrow_and_update().current_leader;
            if leads != Some(self.links.me()) {
                let (forwarded, own): (Vec<_>, _) = proposals.into_iter().partition(|proposal| proposal.forwarded);
                proposals = own;
                answer(forwarded, |_| Answered::NotLeader);
                if proposals.is_empty() {
                    return;
                }
            }
            let batch = Batch(proposals.iter().map(|proposal| proposal.entry.clone()).collect());
            let attempt = async {
                match leads {
                    Some(leads) if leads == self.links.me() => tokio::select! {
                        biased;
                        () = quorum::lost(&self.raft) => Taken::Alone,
                        taken = self.write(batch, deadline) => taken,
                    },
                    Some(leads) => self.forward(leads, batch, deadline).await,
                    None => Taken::NotYet,
                }
            };
            let taken = tokio::select! {
                biased;
                taken = attempt => taken,
                // Whoever was asked may be dead, and would be waited for in vain.
                _ = leader.wait_for(|metrics| metrics.current_leader != leads) => Taken::NotYet,
            };
            match taken {
                Taken::Applied(Replies(replies), place) if replies.len() == proposals.len() => {
                    let mut replies = replies.into_iter();
                    return answer(proposals, |_| match replies.next() {
                        Some(reply) => Answered::Applied(reply, place),
                        None => Answered::Refused(refusal_unknown()),
                    });
                }
                Taken::Applied(..) | Taken::Never => {
                    return answer(proposals, |_| Answered::Refused(refusal_unknown()));
                }
                Taken::Alone => return answer(proposals, |_| Answered::Refused(no_majority())),
                Taken::NotYet if Instant::now() >= deadline => {
                    return answer(proposals, |_| Answered::Refused(no_majority()));
                }
                Taken::NotYet => {
                    // Whoever leads now is known at once; a leader that was lost is found out in time.
                    tokio::select! { _ = leader.changed() => {}, () = sleep(PAUSE) => {} }
                }
            }
        }
    }

    /// Agrees on a batch as the leader.
    async fn write(&self, batch: Batch, deadline: Instant) -> Taken {
        match timeout_at(deadline, self.raft.client_write(batch)).await {
            Ok(Ok(written)) => Taken::Applied(written.data, written.log_id.index + 1),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) | Err(_) => Taken::NotYet,
            Ok(Err(error)) => {
                debug!(%error, "a batch was not taken");
                Taken::Never
            }
        }
    }

    /// Has the leader agree on a batch, and waits until it is seen here.
    async fn forward(&self, leads: u64, batch: Batch, deadline: Instant) -> Taken {
        match timeout_at(deadline, self.links.propose(leads, batch)).await {
            Ok(Ok(Forwarded::Applied(replies, place))) => {
                // Whoever asked may read here what it has changed.
                let _ = timeout_at(Instant::now() + CATCH_UP, self.shared.wait_for(place)).await;
                Taken::Applied(replies, place)
            }
            Ok(Ok(Forwarded::NotLeader | Forwarded::Refused)) | Err(_) => Taken::NotYet,
            Ok(Err(error)) => {
                debug!(%error, tracker = leads, "the leader was not reached");
                Taken::NotYet
            }
        }
    }

    /// Writes a snapshot, so that the next start has nothing to apply, and leaves the cluster's conversation.
    async fn stop(&self) {
        if self.raft.metrics().borrow().snapshot != self.raft.metrics().borrow().last_applied {
            let place = self.raft.metrics().borrow().last_applied;
            let written = async {
                if self.raft.trigger().snapshot().await.is_ok() {
                    let wait = self.raft.wait(None);
                    let _ = wait.metrics(|metrics| metrics.snapshot >= place, "snapshot").await;
                }
            };
            tokio::select! { _ = self.failure.wait() => {}, () = written => {} }
        }
        // An error is a part of it that has ended already.
        let _ = self.raft.shutdown().await;
    }
}

/// What became of a batch.
enum Taken {
    /// It is applied: the answers, and the place behind it.
    Applied(Replies, u64),
    /// Perhaps, perhaps not: it is tried again.
    NotYet,
    /// No majority follows this tracker, which leads. Perhaps another one has been elected.
    Alone,
    /// The log has ended.
    Never,
}

/// What is to be done behind a batch.
enum Last {
    HandOver(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// `first` and what waits behind it. A request to stop closes the queue, and all that came before is in the batch.
fn collect(queue: &mut mpsc::Receiver<Message>, first: Message) -> (Vec<Proposal>, Option<Last>) {
    let mut batch = Vec::new();
    let mut stop = None;
    let mut next = Some(first);
    while let Some(message) = next {
        match message {
            Message::Propose(proposal) => batch.push(proposal),
            Message::HandOver(done) => return (batch, Some(Last::HandOver(done))),
            Message::Stop(done) => {
                queue.close();
                stop = Some(Last::Stop(done));
            }
        }
        next = if batch.len() < BATCH_ENTRIES_MAX || stop.is_some() { queue.try_recv().ok() } else { None };
    }
    (batch, stop)
}

/// Answers each proposal. Who asked may be gone; the change stays.
fn answer(proposals: Vec<Proposal>, mut with: impl FnMut(&Entry) -> Answered) {
    for Proposal { entry, reply, .. } in proposals {
        let _ = reply.send(with(&entry));
    }
}

/// The answer where nobody knows whether the entry is on disk.
pub(super) fn refusal_unknown() -> Reject {
    Reject::new(ErrorCode::INTERNAL, "the tracker could not write its log, and the change may or may not be made")
        .hint("look at what there is before trying again")
}

/// The answer where too few trackers are there to agree.
pub fn no_majority() -> Reject {
    Reject::new(ErrorCode::NO_MAJORITY, "too few trackers of the cluster answer to agree on a change")
        .hint("start the others; asking again is safe, whether the change was made or not")
}
