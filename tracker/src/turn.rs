//! What a tracker does at its start that has decided to become something else: take over from the other of two, or give way to
//! it, after what it alone had is in two files of its state folder.
//!
//! | file | what |
//! |---|---|
//! | `alone-epoch-E-from-P.jsonl` | the changes that the other tracker has not, a document a line: place, time, node, user, what was asked for, whether it was made |
//! | `alone-epoch-E.copy` | everything as it was, as `tracker backup` writes it |

use std::fs;
use std::path::Path;

use p2p_proto::id::NodeId;
use p2p_proto::identity::{Identity, KEY_FILE};
use p2p_proto::name::UserName;
use p2p_proto::reject::{ErrorCode, Reject};
use p2p_proto::time::UnixMillis;
use serde::Serialize;
use serde_json::Value;
use tracing::warn;

use crate::backup::{self, Contents};
use crate::clock;
use crate::log::{self, Alone, Epoch, Leaving, LogError, Store, Turn};

/// Parts of commands that prove passwords or sign: they stay in the copy.
const SECRETS: [&str; 4] = ["record", "proved", "server_setup", "cluster_key"];

/// Does what was decided before this start, if anything.
///
/// # Errors
/// Why it cannot be done; it is tried again at the next start.
pub fn take(store: &Store, folder: &Path, identity: &Identity) -> Result<(), Reject> {
    let disk = |error: LogError| Reject::new(ErrorCode::DISK_ERROR, error.to_string()).hint(error.hint());
    match log::decided(store).map_err(disk)? {
        None => {}
        Some(Turn::TakeOver) => {
            let epoch = log::take_over(store, identity.node_id()).map_err(disk)?;
            warn!(%epoch, "this tracker has taken over: it decides alone, and the other one follows when it is back");
        }
        Some(Turn::GiveWay { from }) => {
            let leaving = log::leaving(store, from).map_err(disk)?;
            keep(folder, from, &leaving).map_err(|error| {
                let message = format!("what this tracker alone has cannot be kept in {}: {error}", folder.display());
                Reject::new(ErrorCode::DISK_ERROR, message).hint("make room there, then start the tracker again")
            })?;
            log::give_way(store).map_err(disk)?;
        }
    }
    Ok(())
}

/// Writes what this tracker alone had, if it had anything.
fn keep(folder: &Path, from: u64, leaving: &Leaving) -> std::io::Result<()> {
    let Leaving { tracker, place, state, alone, incomplete } = leaving;
    if alone.is_empty() && !incomplete {
        warn!("this tracker gives way to the other one, which has all that was here");
        return Ok(());
    }
    let epoch = Epoch::of(*place);
    let shown = epoch.to_string().replace(' ', "-");
    let changes = folder.join(format!("alone-epoch-{shown}-from-{}.jsonl", from.saturating_sub(epoch.first_place())));
    let copy = folder.join(format!("alone-epoch-{shown}.copy"));
    let mut lines = Vec::new();
    for change in alone {
        let Alone { place, entry, made } = change;
        let mut command = serde_json::to_value(&entry.command)?;
        leave_out_secrets(&mut command);
        let by = state.user_of_node(entry.actor);
        let line =
            Line { place: place - epoch.first_place(), at: entry.at, node: entry.actor, by, command, made: *made };
        serde_json::to_writer(&mut lines, &line)?;
        lines.push(b'\n');
    }
    let key = fs::read(folder.join(KEY_FILE))?;
    let contents = Contents { taken: clock::now(), tracker: *tracker, place: *place, key, state: state.encode() };
    backup::replace(&copy, &contents.encode())?;
    backup::replace(&changes, &lines)?;
    warn!(
        changes = alone.len(), file = %changes.display(), copy = %copy.display(), complete = !incomplete,
        "this tracker gives way to the other one; what it alone had is in these files"
    );
    Ok(())
}

/// A change, as a person or a script reads it.
#[derive(Serialize)]
struct Line<'a> {
    /// Its place within the epoch.
    place: u64,
    at: UnixMillis,
    node: NodeId,
    /// The node's user, where it has one at the end.
    by: Option<&'a UserName>,
    command: Value,
    /// `null` where it is not known whether it was made or refused.
    made: Option<bool>,
}

fn leave_out_secrets(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|name, _| !SECRETS.contains(&name.as_str()));
        fields.values_mut().for_each(leave_out_secrets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_out_proves_no_password() {
        let mut command = serde_json::json!({"create_user": {"user": "alice", "record": [1, 2]}});
        leave_out_secrets(&mut command);
        assert_eq!(command, serde_json::json!({"create_user": {"user": "alice"}}));
    }
}
