//! Begins again as something else, on disk: takes over from the other of two trackers, or gives way to it. Decided while the
//! tracker ran ([`super::duty`]), done at the next start, before anything is served.
//!
//! Who takes over begins a new epoch, alone, from the state after everything in its log: what was there of it and not yet known
//! to be agreed on had been written by the first, which alone decided. Who gives way keeps nothing but its number and the keys of
//! those it knew, and is taken in like a new one; what its log alone had is given out first.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{CommittedLeaderId, EntryPayload, Membership};
use p2p_proto::id::NodeId;
use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use super::error::LogError;
use super::storage::Store;
use super::types::{Batch, LogId, Member, SnapshotMeta, StoredMembership, TrackerId};
use crate::state::{Entry, State};

/// Epochs that were left and are remembered: who comes back has been away for fewer takeovers, or keeps all of its log.
const LEFT_MAX: usize = 64;

/// What a tracker becomes at its next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Turn {
    /// The one that decides, in a new epoch.
    TakeOver,
    /// One that follows.
    GiveWay {
        /// The place from which on the other one has not what is here; 0 where that is not known.
        from: u64,
    },
}

/// A change that one tracker alone had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// Its place in the log.
    pub place: u64,
    /// What was asked for.
    pub entry: Entry,
    /// Whether it was made or refused; `None` where that cannot be told any more.
    pub made: Option<bool>,
}

/// All that a tracker had which gives way.
#[derive(Debug)]
pub struct Leaving {
    /// Which tracker.
    pub tracker: TrackerId,
    /// The place behind its last change.
    pub place: u64,
    /// Its state.
    pub state: State,
    /// What it alone had, as far as its log goes back.
    pub alone: Vec<Alone>,
    /// Whether it had more alone than its log goes back: that is in the state only.
    pub incomplete: bool,
}

/// What has come of the whole log.
struct Replayed {
    state: State,
    last: Option<LogId>,
    members: StoredMembership,
}

/// What was decided before this start, if anything.
///
/// # Errors
/// That it cannot be read.
pub fn decided(store: &Store) -> Result<Option<Turn>, LogError> {
    store.turn()
}

/// Has the tracker of `store`, whose key is `key`, decide alone from now on, in a new epoch.
///
/// # Errors
/// That its log is not whole or cannot be written; nothing was changed then.
pub fn take_over(store: &Store, key: NodeId) -> Result<Epoch, LogError> {
    store.check()?;
    let id = store.become_tracker(None)?;
    let Replayed { mut state, last, members } = replay(store, |_, _, _| {})?;
    let place = last.map_or(0, |last| last.index + 1);
    let epoch = Epoch::of(place).next(id);
    state.void_earlier_counts(epoch.first_place());
    let term = last.map_or(1, |last| last.leader_id.term);
    let begins = LogId::new(CommittedLeaderId::new(term, id), epoch.first_place());
    let alone = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, Member { key: Some(key) })]));
    let meta = SnapshotMeta {
        last_log_id: Some(begins),
        last_membership: StoredMembership::new(Some(begins), alone),
        snapshot_id: "taken-over".to_owned(),
    };
    let mut left = store.left()?;
    left.push(place);
    left.drain(..left.len().saturating_sub(LEFT_MAX));
    store.begin_epoch(&meta, &state, &left, &keys(&members, id))?;
    Ok(epoch)
}

/// All that the tracker of `store` had, beginning at `from` what it alone had.
///
/// # Errors
/// That its log is not whole.
pub fn leaving(store: &Store, from: u64) -> Result<Leaving, LogError> {
    store.check()?;
    let mut alone = Vec::new();
    let Replayed { state, last, .. } = replay(store, |place, entry, made| {
        if place >= from {
            alone.push(Alone { place, entry: entry.clone(), made });
        }
    })?;
    let first_kept = store.purged()?.map_or(0, |purged| purged.index + 1);
    let place = last.map_or(0, |last| last.index + 1);
    // The takeover that began an epoch is no change.
    let incomplete = first_kept > from.max(Epoch::of(place).first_place() + 1);
    Ok(Leaving { tracker: store.become_tracker(None)?, place, state, alone, incomplete })
}

/// Empties the store of all but its number and the keys of those that it knew.
///
/// # Errors
/// That it cannot be written; nothing was changed then.
pub fn give_way(store: &Store) -> Result<(), LogError> {
    let id = store.become_tracker(None)?;
    let members = replay(store, |_, _, _| {})?.members;
    store.forget(&keys(&members, id))
}

/// Keys of the members but `me`.
fn keys(members: &StoredMembership, me: TrackerId) -> Vec<(TrackerId, NodeId)> {
    let members = members.membership().nodes().filter(|(id, _)| **id != me);
    members.filter_map(|(id, member)| Some((*id, member.key?))).collect()
}

/// Applies the whole log to the snapshot. `each` hears every change that the log still has, with its place, and whether it was
/// made where the snapshot does not hold it already.
fn replay(store: &Store, mut each: impl FnMut(u64, &Entry, Option<bool>)) -> Result<Replayed, LogError> {
    let mut replayed = match store.snapshot_meta()? {
        None => Replayed { state: State::default(), last: None, members: StoredMembership::default() },
        Some(meta) => Replayed {
            state: State::decode(&store.snapshot_bytes()?)?,
            last: meta.last_log_id,
            members: meta.last_membership,
        },
    };
    let held = replayed.last.map_or(0, |last| last.index + 1);
    store.each_entry(|place| {
        let index = place.log_id.index;
        match place.payload {
            EntryPayload::Normal(Batch(entries)) => {
                for entry in entries.iter() {
                    let made = (index >= held).then(|| replayed.state.apply(entry).reply.is_ok());
                    each(index, entry, made);
                }
            }
            EntryPayload::Membership(members) if index >= held => {
                replayed.members = StoredMembership::new(Some(place.log_id), members);
            }
            EntryPayload::Membership(_) | EntryPayload::Blank => {}
        }
        replayed.last = replayed.last.max(Some(place.log_id));
    })?;
    Ok(replayed)
}
