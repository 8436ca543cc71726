//! Answers kept for retries: a request that comes again after a lost answer is not applied again.

use std::collections::{BTreeMap, VecDeque};

use p2p_proto::id::{NodeId, RequestId};
use serde::{Deserialize, Serialize};

use super::bound::REMEMBERED_MAX;
use super::command::Outcome;

/// What tells one request from all others: a request id means nothing without the key that chose it.
type Asked = (NodeId, RequestId);

/// The most recent answers. Refusals are not kept: they changed nothing, so that a retry is decided anew, and nobody can
/// push out others' answers with requests that are refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Remembered {
    answers: BTreeMap<Asked, Outcome>,
    /// Oldest first.
    order: VecDeque<Asked>,
}

/// An answer in a snapshot.
#[derive(Serialize, Deserialize)]
pub(super) struct RememberedRow {
    actor: NodeId,
    request: RequestId,
    outcome: Outcome,
}

impl Remembered {
    pub fn find(&self, actor: NodeId, request: RequestId) -> Option<&Outcome> {
        self.answers.get(&(actor, request))
    }

    pub fn insert(&mut self, actor: NodeId, request: RequestId, outcome: Outcome) {
        if self.answers.insert((actor, request), outcome).is_none() {
            self.order.push_back((actor, request));
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    /// Every answer, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = RememberedRow> {
        self.order.iter().filter_map(|&(actor, request)| {
            let outcome = self.find(actor, request)?.clone();
            Some(RememberedRow { actor, request, outcome })
        })
    }

    pub fn from_rows(rows: Vec<RememberedRow>) -> Remembered {
        let mut remembered = Remembered::default();
        for row in rows {
            remembered.insert(row.actor, row.request, row.outcome);
        }
        remembered
    }

    pub fn invariant(&self) {
        assert!(self.order.len() <= REMEMBERED_MAX, "more answers than allowed are remembered");
        assert_eq!(self.order.len(), self.answers.len(), "an answer is in the map or in the order alone");
        assert!(self.order.iter().all(|asked| self.answers.contains_key(asked)), "an answer has no place in the order");
    }
}
