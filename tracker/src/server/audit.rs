//! The operator's record: one line for each change of users, groups and enrolment, with who made it.
//!
//! Names are logged in their escaped form (`?name`): they are chosen by others.

use p2p_proto::id::NodeId;
use tracing::{debug, info};

use crate::state::{Change, Entry, State};

/// Writes the lines of one applied entry.
pub fn record(state: &State, entry: &Entry, changes: &[Change]) {
    for change in changes {
        line(entry.actor, state, change);
    }
}

fn line(actor: NodeId, state: &State, change: &Change) {
    let by = state.user_of_node(actor);
    match change {
        Change::UserCreated { user } => info!(target: "audit", node = %actor, ?user, "user created"),
        Change::Enrolled { node, user } => info!(target: "audit", %node, ?user, "node logged in"),
        Change::Withdrawn { node, user } => info!(target: "audit", %node, ?user, "node logged out"),
        Change::GroupCreated { group, owner, policy } => {
            info!(target: "audit", node = %actor, ?group, ?owner, ?policy, "group created");
        }
        Change::GroupEnded { group } => info!(target: "audit", node = %actor, ?by, ?group, "group ended"),
        Change::Membership { group, user, standing } => {
            info!(target: "audit", node = %actor, ?by, ?group, ?user, ?standing, "membership changed");
        }
        Change::AccessLost { group, nodes, epoch } => {
            info!(target: "audit", node = %actor, ?by, ?group, nodes = nodes.len(), epoch, "access lost");
        }
        Change::GrantsVoided { group, epoch } => {
            info!(target: "audit", node = %actor, ?by, ?group, epoch, "all grants voided");
        }
        // Told by the change of membership beside it.
        Change::JoinRequested { .. } => {}
        Change::Published { group, name, owner, content } => {
            debug!(target: "audit", node = %actor, ?group, ?name, ?owner, %content, "file listed");
        }
        Change::Unpublished { group, name, owner } => {
            debug!(target: "audit", node = %actor, ?group, ?name, ?owner, "file taken out");
        }
    }
}
