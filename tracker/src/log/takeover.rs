//! Logs that begin with a state from elsewhere: one of format 1, of a tracker that was always alone, which is taken over at
//! the first start; and one that is put back from a copy. Each in one transaction. Format 1:
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format` | 1 |
//! | | `snapshot` | index of the last entry that the snapshot holds, 0 for none |
//! | | `last` | index of the last entry written, 0 for none |
//! | `entries` | index, from 1 | a state entry, [`super::record`] version 1 |
//! | `snapshot` | number of the part, from 0 | up to 1 MiB of the encoded state |
//!
//! What it comes to becomes the first snapshot of a cluster of one, as if its first leader had agreed on it.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{CommittedLeaderId, Membership};
use p2p_proto::id::NodeId;
use redb::ReadableTable as _;

use super::error::{LogError, disk};
use super::record;
use super::storage::{ENTRIES, Store};
use super::types::{LogId, Member, SnapshotMeta, StoredMembership, TrackerId};
use crate::state::State;

/// The term in which such a log was written, as far as openraft is concerned.
const TERM: u64 = 1;

/// Takes the log over where it is of format 1; `me` is the cluster then.
pub(super) fn take_over(store: &Store, id: TrackerId, me: Member) -> Result<(), LogError> {
    if store.number("format")? != Some(1) {
        return Ok(());
    }
    let (state, last) = recover(store)?;
    store.begin_with(&alone_at(last, id, me), &state)?;
    tracing::info!(entries = last, "the log of an earlier version was taken over");
    Ok(())
}

/// Makes a new store that of a tracker which is alone and has come to `state` before `place`.
///
/// # Errors
/// That it cannot be written.
pub fn begin_alone(store: &Store, id: TrackerId, key: NodeId, place: u64, state: &State) -> Result<(), LogError> {
    store.become_tracker(Some(id))?;
    store.begin_with(&alone_at(place.saturating_sub(1), id, Member { key: Some(key) }), state)
}

/// A snapshot of a cluster of one that holds everything up to `last`.
fn alone_at(last: u64, id: TrackerId, me: Member) -> SnapshotMeta {
    let last_log_id = LogId::new(CommittedLeaderId::new(TERM, id), last);
    let members = Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, me)]));
    SnapshotMeta {
        last_log_id: Some(last_log_id),
        last_membership: StoredMembership::new(Some(last_log_id), members),
        snapshot_id: "begun-with".to_owned(),
    }
}

/// The state after the last entry, and its index.
fn recover(store: &Store) -> Result<(State, u64), LogError> {
    let number = |key| Ok::<_, LogError>(store.number(key)?.unwrap_or(0));
    let (snapshot, last) = (number("snapshot")?, number("last")?);
    let mut state = if snapshot == 0 { State::default() } else { State::decode(&store.snapshot_bytes()?)? };
    let mut next = snapshot + 1;
    for row in store.view()?.open_table(ENTRIES).map_err(disk)?.iter().map_err(disk)? {
        let (index, bytes) = row.map_err(disk)?;
        let index = index.value();
        if index < next || index > last {
            return Err(LogError::Unexpected(index));
        }
        if index > next {
            return Err(LogError::Missing(next));
        }
        let entry = record::decode_alone(bytes.value()).map_err(|source| LogError::Entry { index, source })?;
        state.apply(&entry);
        next += 1;
    }
    if next <= last { Err(LogError::Missing(next)) } else { Ok((state, last)) }
}

/// The bytes of a state entry as version 1 had them.
#[cfg(test)]
pub(super) fn record_alone(entry: &crate::state::Entry) -> Vec<u8> {
    [vec![1], p2p_proto::codec::encode(entry)].concat()
}

/// Writes a log of format 1 that holds these entries, the first `snapshot_at` of them in its snapshot.
#[cfg(test)]
pub(crate) fn write_log_of_format_1(folder: &std::path::Path, entries: &[crate::state::Entry], snapshot_at: u64) {
    use super::storage::{FILE_NAME, META, SNAPSHOT};
    let database = redb::Database::create(folder.join(FILE_NAME)).expect("a new log");
    let transaction = database.begin_write().expect("the test's disk works");
    let mut state = State::default();
    {
        let mut meta = transaction.open_table(META).expect("opens");
        for (key, value) in [("format", 1), ("snapshot", snapshot_at), ("last", entries.len() as u64)] {
            meta.insert(key, value).expect("written");
        }
        let mut table = transaction.open_table(ENTRIES).expect("opens");
        let mut snapshot = transaction.open_table(SNAPSHOT).expect("opens");
        for (index, entry) in (1..).zip(entries) {
            if index <= snapshot_at {
                state.apply(entry);
            } else {
                table.insert(index, record_alone(entry).as_slice()).expect("written");
            }
        }
        snapshot.insert(0, state.encode().as_slice()).expect("written");
    }
    transaction.commit().expect("the test's disk works");
}
